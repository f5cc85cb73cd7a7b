"""Charts as SVG elements: ``charts.css`` colours them, a description is for reading aloud."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from tlkeras.measures.measures import Bars, Curve
from tlkeras.report import lettering
from tlkeras.report.page import Markup, element

_WIDTH, _HEIGHT = 480, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 44, 36
_EDGE, _ROW = 2, 16  # Pixels beside a text, and of a line of the title or a row of the legend.
_BOLD = 1.16  # How much wider a title is than other texts.
_DOTTED = 40  # Up to so many points, each has a dot.

# Styles, in order.
_FILLS = ("share", "count", "other")
_STROKES = ("first", "second", "third", "fourth")

Point = tuple[float, float]


def curves(
    title: str, series: Mapping[str, Sequence[Sequence[Point]]], boundaries: Mapping[float, str]
) -> Markup:
    """Returns lines over epochs.

    Args:
        title: Of the chart.
        series: ``train`` and ``validation``, or one of them: the points of every phase, (epoch,
            value), all finite.
        boundaries: Where a phase begins, between two epochs, and what to call it.
    """
    points = [point for phases in series.values() for phase in phases for point in phase]
    axes = _axes([x for x, _ in points], [y for _, y in points], x_step=1, margin=0.5)
    own = 96 * len(series)
    top = _title(title, _WIDTH - _RIGHT - own)
    drawn = [*top.drawn, *_frame(axes, "epoch")]
    for x, name in boundaries.items():
        drawn += [
            _line("boundary", axes.x(x), _TOP, axes.x(x), _HEIGHT - _BOTTOM),
            _text(axes.x(x) + 4, _TOP - 5, name),
        ]
    for place, (name, phases) in enumerate(series.items()):
        start = _WIDTH - _RIGHT - own + 96 * place
        drawn += [
            _line(f"curve {name}", start, 16, start + 24, 16),
            _text(start + 30, 20, name),
        ]
        for phase in phases:
            placed = [(axes.x(x), axes.y(y)) for x, y in phase]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
            drawn.append(element("polyline", points=path, class_=f"curve {name}"))
            if len(points) <= _DOTTED * len(series):
                drawn += [
                    element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=2.5, class_=name)
                    for x, y in placed
                ]
    described = {
        name: [point for phase in phases for point in phase] for name, phases in series.items()
    }
    return _svg(title, _described(described, "epoch"), drawn, top.height)


def lines(view: Curve) -> Markup:
    """Returns a line for each series; the first four have a colour and a place in the legend."""
    series = {
        name: [(float(x), float(y)) for x, y in points]
        for name, points in view.series.items()
        if points
    }
    points = [point for line in series.values() for point in line]
    axes = _axes([x for x, _ in points], [y for _, y in points], x_step=0, margin=0)
    styles = dict(zip(series, _STROKES, strict=False))
    top = _title(f"{view.y} by {view.x}", _WIDTH, _legend(styles, _stroke, 30))
    drawn = [*top.drawn, *_frame(axes, view.x)]
    # The coloured ones last, so that no other line hides them.
    for name, line in reversed(series.items()):
        path = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in line)
        drawn.append(element("polyline", points=path, class_=f"curve {styles.get(name, 'rest')}"))
    return _svg(view.title, _described(series, view.x), drawn, top.height)


def ranges(view: Bars) -> Markup:
    """Returns a bar over each range, the mark at which it should end, and its share of examples."""
    axes = _axes([0, 1], [0, 1], x_step=0.2, margin=0)
    legend = _legend({view.y: "share", "share of examples": "count"}, _patch, 15)
    top = _title(f"{view.y} by {view.x}", _WIDTH, legend)
    drawn = [*top.drawn, *_frame(axes, view.x)]
    for bar in view.bars:
        left, right = axes.x(bar.low) + 1, axes.x(bar.high) - 1
        end = left + (right - left) * 2 / 3
        drawn += [
            _bar("share", left, axes.y(bar.height), end - left, axes.y(0)),
            _bar("count", end, axes.y(bar.share), right - end, axes.y(0)),
            _line("mark", left, axes.y(bar.mark), end, axes.y(bar.mark)),
        ]
    drawn.append(_line("ideal", axes.x(0), axes.y(0), axes.x(1), axes.y(1)))
    described = ", ".join(
        f"{bar.low:.2f} to {bar.high:.2f}: {bar.height:.2f} of {bar.share:.1%}" for bar in view.bars
    )
    return _svg(view.title, f"{view.y} by {view.x}, {described}.", drawn, top.height)


def bars(title: str, groups: Mapping[str, Mapping[str, float]]) -> Markup:
    """Returns lying bars, the longest as wide as the chart, each with its number.

    Args:
        title: Of the chart.
        groups: By group, the value of each series, at least 0; up to three series in all.
    """
    names = [*dict.fromkeys(name for values in groups.values() for name in values)]
    fills = dict(zip(names, _FILLS[: len(names)], strict=True))
    longest = max(value for values in groups.values() for value in values.values()) or 1.0
    head = _title(title, _WIDTH, _legend(fills, _patch, 15))
    drawn = [*head.drawn]
    top = _TOP
    for group, values in groups.items():
        drawn.append(_text(_EDGE, top + 12, group))
        top += 18
        for name, value in values.items():
            width = value / longest * (_WIDTH - _LEFT - _RIGHT)
            drawn.append(_bar(fills[name], 2, top, width, top + 12))
            drawn.append(_text(width + 8, top + 10, f"{value:.3g}"))
            top += 15
        top += 10
    described = "; ".join(
        f"{group}: " + ", ".join(f"{name} {value:.3g}" for name, value in values.items())
        for group, values in groups.items()
    )
    return _svg(title, f"{described}.", drawn, head.height, top)


@dataclasses.dataclass(frozen=True)
class _Axes:
    """The ranges drawn and their ticks."""

    low: Point
    high: Point
    ticks: tuple[list[float], list[float]]

    def x(self, value: float) -> float:
        share = (value - self.low[0]) / (self.high[0] - self.low[0])
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.low[1]) / (self.high[1] - self.low[1])
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _axes(xs: Sequence[float], ys: Sequence[float], x_step: float, margin: float) -> _Axes:
    """Returns axes of all values with a margin left and right; x ticks at least a step apart."""
    if not margin and min(xs) == max(xs):
        margin = abs(xs[0]) / 2 or 0.5  # A line of one place, too, has a width.
    x_ticks = [x for x in _ticks(min(xs), max(xs), x_step) if min(xs) <= x <= max(xs)]
    y_ticks = _ticks(min(ys), max(ys))
    low = (min(xs) - margin, y_ticks[0])
    return _Axes(low, (max(xs) + margin, y_ticks[-1]), (x_ticks, y_ticks))


def _ticks(low: float, high: float, least: float = 0.0) -> list[float]:
    """Returns round numbers that enclose a range, about six or `least` apart, two at least."""
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        reach = abs(low) / 2 or 0.5
        low, high = low - reach, high + reach
    rough = max((high - low) / 7, least)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]


@dataclasses.dataclass(frozen=True)
class _Top:
    """What stands above the plot, and how much higher than usual it is."""

    drawn: Sequence[Markup]
    height: int


def _legend(
    styles: Mapping[str, str], sample: Callable[[str, float, float], Markup], space: int
) -> _Top:
    """Returns a sample of each style by its name, in as many rows as it takes, the last one at 36.

    A name begins `space` behind its sample.
    """
    longest = _WIDTH - 2 * _EDGE - space
    names = {name: lettering.shortened(name, longest) for name in styles}
    widths = [space + lettering.width(name) + 14 for name in names.values()]
    rows = [*lettering.rows(widths, _WIDTH)]
    drawn = []
    for place, row in enumerate(rows):
        x, y = float(_EDGE), 36 - _ROW * (len(rows) - 1 - place)
        for each in row:
            name, shown = [*names.items()][each]
            drawn += [sample(styles[name], x, y), _text(x + space, y, shown)]
            x += widths[each]
    return _Top(drawn, _ROW * max(len(rows) - 1, 0))


def _title(title: str, end: float, legend: _Top | None = None) -> _Top:
    """Returns the title in as many lines as it takes up to an x, above the legend."""
    drawn, height = (legend.drawn, legend.height) if legend else ((), 0)
    lines = lettering.wrapped(title, (end - 2 * _EDGE) / _BOLD)
    height += _ROW * (len(lines) - 1)
    titles = [
        element(
            "text", line, x=f"{_EDGE:.1f}", y=f"{20 - height + _ROW * place:.1f}", class_="title"
        )
        for place, line in enumerate(lines)
    ]
    return _Top([*titles, *drawn], height)


def _stroke(style: str, x: float, y: float) -> Markup:
    return _line(f"curve {style}", x, y - 4, x + 24, y - 4)


def _patch(style: str, x: float, y: float) -> Markup:
    return _bar(style, x, y - 9, 10, y + 1)


def _frame(axes: _Axes, below: str) -> list[Markup]:
    x_ticks, y_ticks = axes.ticks
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    drawn = []
    for y in y_ticks:
        drawn.append(_line("grid", _LEFT, axes.y(y), right, axes.y(y)))
        drawn.append(_text(_LEFT - 8, axes.y(y) + 4, f"{y:g}", text_anchor="end"))
    for x in x_ticks:
        drawn.append(_text(axes.x(x), bottom + 16, f"{x:g}", text_anchor="middle"))
    drawn.append(_text((_LEFT + right) / 2, _HEIGHT - 4, below, text_anchor="middle"))
    return drawn


def _described(series: Mapping[str, Sequence[Point]], x: str) -> str:
    """Returns the curves in words."""
    words = []
    for name, points in series.items():
        least, most = (best(points, key=lambda point: point[1]) for best in (min, max))
        words.append(
            f"{name}: {points[0][1]:.4f} at first, {points[-1][1]:.4f} at last, "
            f"least {least[1]:.4f} at {x} {least[0]:g}, most {most[1]:.4f} at {x} {most[0]:g}"
        )
    return "; ".join(words) + "."


def _bar(style: str, x: float, top: float, width: float, bottom: float) -> Markup:
    places = {"x": x, "y": top, "width": width, "height": bottom - top}
    return element("rect", **{key: f"{at:.1f}" for key, at in places.items()}, class_=style)


def _line(name: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    places = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return element("line", **{key: f"{at:.1f}" for key, at in places.items()}, class_=name)


def _text(x: float, y: float, text: str, **attributes: str) -> Markup:
    return lettering.placed(x, y, text, (_EDGE, _WIDTH - _EDGE), **attributes)


def _svg(
    title: str, description: str, drawn: Sequence[Markup], above: int, height: int = _HEIGHT
) -> Markup:
    """Returns the chart; what is `above` has a y below 0."""
    return element(
        "svg",
        element("title", title),
        element("desc", description),
        *drawn,
        viewBox=f"0 {-above} {_WIDTH} {height + above}",
        role="img",
        aria_label=f"{title}. {description}",
    )
