"""Charts as SVG elements of a page: coloured by its style, read aloud by their description."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tlkeras.report.page import Markup, element

_WIDTH, _HEIGHT = 480, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 44, 36
_DOTTED = 40
"""Up to so many points, each is marked."""

_FILLS = ("share", "count", "other")
"""The styles of the bars, in order."""

Point = tuple[float, float]


def curves(
    title: str, series: Mapping[str, Sequence[Sequence[Point]]], boundaries: Mapping[float, str]
) -> Markup:
    """Returns lines over epochs.

    Args:
        title: What is drawn.
        series: ``train`` and ``validation``, or one of them: the points of every phase, (epoch,
            value), all finite.
        boundaries: Where a phase begins, between two epochs, and what to call it.
    """
    points = [point for phases in series.values() for phase in phases for point in phase]
    axes = _axes([x for x, _ in points], [y for _, y in points], x_step=1, margin=0.5)
    drawn = [*_frame(axes, title, "epoch")]
    for x, name in boundaries.items():
        drawn += [
            _line("boundary", axes.x(x), _TOP, axes.x(x), _HEIGHT - _BOTTOM),
            _text(axes.x(x) + 4, _TOP + 11, name),
        ]
    for place, (name, phases) in enumerate(series.items()):
        start = _WIDTH - _RIGHT - 96 * (len(series) - place)
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
    return _svg(title, _told(series), drawn)


def reliability(bins: Sequence[Mapping[str, Any]]) -> Markup:
    """Returns accuracy by confidence, marks where it should end, and where examples lie."""
    axes = _axes([0, 1], [0, 1], x_step=0.2, margin=0)
    filled = [row for row in bins if row["count"]]
    total = sum(row["count"] for row in filled)
    drawn = [*_frame(axes, "accuracy by confidence", "confidence of the prediction")]
    for row in filled:
        left, right = axes.x(row["low"]) + 1, axes.x(row["high"]) - 1
        thirds = (right - left) / 3
        for name, height, start, width in [
            ("share", row["accuracy"], left, 2 * thirds),
            ("count", row["count"] / total, left + 2 * thirds, thirds),
        ]:
            top = axes.y(height)
            bottom = axes.y(0)
            drawn.append(
                element(
                    "rect",
                    x=f"{start:.1f}",
                    y=f"{top:.1f}",
                    width=f"{width:.1f}",
                    height=f"{bottom - top:.1f}",
                    class_=name,
                )
            )
        mark = axes.y(row["confidence"])
        drawn.append(_line("mark", left, mark, left + 2 * thirds, mark))
    drawn.append(_line("ideal", axes.x(0), axes.y(0), axes.x(1), axes.y(1)))
    for place, (name, label) in enumerate([("share", "accuracy"), ("count", "share of examples")]):
        start = _WIDTH - _RIGHT - 215 + 85 * place
        drawn.append(element("rect", x=start, y=11, width=10, height=10, class_=name))
        drawn.append(_text(start + 15, 20, label))
    told = ", ".join(
        f"{row['low']:.2f} to {row['high']:.2f}: {row['accuracy']:.2f} of {row['count']}"
        for row in filled
    )
    return _svg("accuracy by confidence", f"Accuracy by confidence, {told}.", drawn)


def bars(title: str, groups: Mapping[str, Mapping[str, float]]) -> Markup:
    """Returns lying bars, the longest as wide as the chart, each with its number.

    Args:
        title: What is drawn.
        groups: By group, the value of each series, at least 0; up to three series in all.
    """
    names = [*dict.fromkeys(name for values in groups.values() for name in values)]
    fills = dict(zip(names, _FILLS[: len(names)], strict=True))
    longest = max(value for values in groups.values() for value in values.values()) or 1.0
    drawn = [_text(2, 20, title, class_="title")]
    start = 2
    for name, fill in fills.items():
        drawn.append(element("rect", x=start, y=29, width=10, height=10, class_=fill))
        drawn.append(_text(start + 15, 38, name))
        start += 31 + 7 * len(name)
    top = _TOP
    for group, values in groups.items():
        drawn.append(_text(2, top + 12, group))
        top += 18
        for name, value in values.items():
            width = value / longest * (_WIDTH - _LEFT - _RIGHT)
            drawn.append(
                element("rect", x=2, y=top, width=f"{width:.1f}", height=12, class_=fills[name])
            )
            drawn.append(_text(width + 8, top + 10, f"{value:.3g}"))
            top += 15
        top += 10
    told = "; ".join(
        f"{group}: " + ", ".join(f"{name} {value:.3g}" for name, value in values.items())
        for group, values in groups.items()
    )
    return _svg(title, f"{told}.", drawn, top)


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


def _frame(axes: _Axes, title: str, below: str) -> list[Markup]:
    x_ticks, y_ticks = axes.ticks
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    drawn = [_text(2, 20, title, class_="title")]
    for y in y_ticks:
        drawn.append(_line("grid", _LEFT, axes.y(y), right, axes.y(y)))
        drawn.append(_text(_LEFT - 8, axes.y(y) + 4, f"{y:g}", text_anchor="end"))
    for x in x_ticks:
        drawn.append(_text(axes.x(x), bottom + 16, f"{x:g}", text_anchor="middle"))
    drawn.append(_text((_LEFT + right) / 2, _HEIGHT - 4, below, text_anchor="middle"))
    return drawn


def _told(series: Mapping[str, Sequence[Sequence[Point]]]) -> str:
    """Returns the curves in words."""
    told = []
    for name, phases in series.items():
        points = [point for phase in phases for point in phase]
        least, most = (best(points, key=lambda point: point[1]) for best in (min, max))
        told.append(
            f"{name}: {points[0][1]:.4f} at first, {points[-1][1]:.4f} at last, "
            f"least {least[1]:.4f} in epoch {least[0]:g}, most {most[1]:.4f} in epoch {most[0]:g}"
        )
    return "; ".join(told) + "."


def _line(name: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    places = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return element("line", **{key: f"{at:.1f}" for key, at in places.items()}, class_=name)


def _text(x: float, y: float, text: str, **attributes: str) -> Markup:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", **attributes)


def _svg(title: str, told: str, drawn: Sequence[Markup], height: int = _HEIGHT) -> Markup:
    return element(
        "svg",
        element("title", title),
        element("desc", told),
        *drawn,
        viewBox=f"0 0 {_WIDTH} {height}",
        role="img",
        aria_label=f"{title}. {told}",
    )
