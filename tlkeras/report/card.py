"""Card: a model card (Mitchell et al. 2019, https://arxiv.org/abs/1810.03993) in Markdown.

It holds the measures and the user's statements, and names what is missing of either. It knows no
task: it writes the scalars, tables and remarks of `Measures`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tlkeras import spec
from tlkeras.doctor.samples import COLUMNS, FEATURES, Sample
from tlkeras.exporter import Usage
from tlkeras.measures.measures import Measures, Table
from tlkeras.report import figures, libraries, limits
from tlkeras.report.evidence import duration, manifest, verdict
from tlkeras.report.page import number

DETAILS = {
    "description": "The model has not been described.",
    "authors": "The authors have not been stated.",
    "contact": "No contact has been stated.",
    "licence": "No licence has been stated.",
    "citation": "No citation has been stated.",
    "intended_use": "The intended use has not been stated.",
    "out_of_scope": "It has not been stated what the model must not be used for.",
    "ethics": "Ethical considerations have not been stated.",
}
"""What only the user knows, and the sentence in its place if the user has not stated it."""


def card(
    name: str,
    *,
    details: Mapping[str, str] | None = None,
    configuration: Mapping[str, str] | None = None,
    command: str = "",
    data: Mapping[str, Any] | None = None,
    measures: Measures | None = None,
    blessing: Mapping[str, Any] | None = None,
    exports: Sequence[Mapping[str, Any]] = (),
    usages: Sequence[Usage] = (),
    lineage: Sequence[Mapping[str, Any]] = (),
    reference: Sample | None = None,
    answers_classes: bool = True,
) -> str:
    """Returns the card; the products of the pipeline hold its parts as JSON.

    Args:
        name: The model's.
        details: Some of `DETAILS`, as the user has stated them; an empty text is no statement.
        configuration: The text of each option, ``{"backbone": "mobilenet_v2", …}``.
        command: The command line that makes the model again.
        data: `Info.plain` of the examples.
        measures: Of the model, on one split.
        blessing: Whether the model was ``blessed``, and the ``reasons`` if not.
        exports: Rows with ``export``, ``files``, ``bytes`` and the measures of each.
        usages: How the exports are used.
        lineage: The manifests of the products, in the order of their making.
        reference: The examples that new data are compared with.
        answers_classes: Whether the model names classes, see `Task`.

    Raises:
        ValueError: A detail that a card does not have.
    """
    details, data = details or {}, data or {}
    for key in details:
        if key not in DETAILS:
            raise ValueError(f"A card has no detail {key!r}; {spec.nearest(key, [*DETAILS])}")
    stated = {key: plain(details[key]) if details.get(key) else DETAILS[key] for key in DETAILS}
    sections = {
        "Model details": _model(stated, configuration or {}, lineage),
        "Intended use": [stated["intended_use"], stated["out_of_scope"]],
        "Data": _data(data, configuration or {}),
        "Evaluation": _evaluation(measures, blessing or {}),
        "Limitations": _limitations(
            limits.found(measures, blessing or {}, data, exports, answers_classes),
            measures,
            blessing or {},
        ),
        "Ethical considerations": [stated["ethics"]],
        "New data": _reference(reference),
        "Exports": [*_exports(exports), *_usages(usages)],
        "Reproduction": _reproduction(command),
        "Lineage": _lineage(lineage),
    }
    blocks = [f"# Model card: {plain(name)}"]
    for heading, lines in sections.items():
        if written := [line for line in lines if line]:
            blocks += [f"## {heading}", *written]
    return "\n\n".join(blocks) + "\n"


def plain(text: str) -> str:
    """Returns a text that Markdown shows as it is, on one line."""
    words = " ".join(text.split())
    words = words.encode("utf-8", "replace").decode()  # File names can be any bytes.
    return re.sub(r"([\\`*_\[\]<>#~&])", r"\\\1", words)


def code(text: str) -> str:
    """Returns a text as code within a line."""
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if "`" in text else ""
    return f"{ticks}{pad}{' '.join(text.split())}{pad}{ticks}"


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Returns a table in Markdown; an empty text if it has no rows."""
    names, *cells = ([number(cell).replace("|", "\\|") for cell in row] for row in (columns, *rows))
    lines = [names, ["---"] * len(columns), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if rows else ""


def _model(
    stated: Mapping[str, str],
    configuration: Mapping[str, str],
    lineage: Sequence[Mapping[str, Any]],
) -> Iterator[str]:
    yield stated["description"]
    if missing := [key for key, text in stated.items() if text == DETAILS[key]]:
        fields = ", ".join(f"{key}='…'" for key in missing)
        yield f'Not stated yet; give `--details="details({fields})"`.'
    keys = ("authors", "contact", "licence", "citation")
    yield "\n".join(f"- {key.capitalize()}: {stated[key]}" for key in keys)
    if fitted := manifest(lineage, "model"):
        yield f"Fitted {fitted['finished']} in {duration(fitted)}."
    rows = [(plain(option), code(text)) for option, text in configuration.items()]
    yield table(("option", "value"), rows)


def _data(data: Mapping[str, Any], configuration: Mapping[str, str]) -> Iterator[str]:
    if "source" in configuration:
        yield f"From {code(configuration['source'])}."
    if not data:
        yield "The data was not described."
        return
    words, split = figures.cut(data)
    if words:
        yield f"The examples are {words}{code(split) if split else ''}."
    yield counted(data, "class")


def counted(data: Mapping[str, Any], heading: str) -> str:
    """Returns the table of examples by class and split."""
    rows = [(plain(name), *row) for name, *row in figures.of_classes(data)]
    return table((heading, *data["counts"]), [("all", *data["counts"].values()), *rows])


def _evaluation(measures: Measures | None, blessing: Mapping[str, Any]) -> Iterator[str]:
    if not measures:
        yield "The model was not evaluated."
        return
    split = f" of the split `{measures.split}`" if measures.split else ""
    yield f"Measured on {measures.count:,} examples{split}."
    rows = []
    for name, scalar in measures.scalars.items():
        interval = " to ".join(map(number, scalar.interval)) if scalar.interval else ""
        better = "more" if scalar.more_is_better else "less"
        # The names of measures of one class have its name.
        rows.append((plain(name.replace("_", " ")), figures.value(scalar), interval, better))
    yield table(("measure", "value", "95 % interval", "better is"), rows)
    if blessing:
        reasons = plain("; ".join(blessing.get("reasons", ())))
        said = verdict(blessing)
        yield f"{said.removesuffix('.')}: {reasons}." if reasons else said
    for view in measures.views:
        if isinstance(view, Table) and (view.rows or view.note):
            yield from _view(view)


def _view(view: Table) -> Iterator[str]:
    """Yields the heading, the rows and the note of a table."""
    yield f"### {plain(view.title)}"
    rows = [(plain(str(name)), *map(_plain_cell, cells)) for name, *cells in view.rows]
    yield table([plain(column) for column in view.columns], rows)
    yield plain(view.note)


def _plain_cell(cell: Any) -> Any:
    return plain(cell) if isinstance(cell, str) else cell


def _limitations(
    sentences: Iterable[str], measures: Measures | None, blessing: Mapping[str, Any]
) -> Iterator[str]:
    if measures:
        yield "\n".join(f"- {plain(sentence)}" for sentence in sentences)
    elsewhere = "Not measured: data from elsewhere than the source above"
    if groups := blessing.get("groups"):
        most, asked = blessing["max_gap"], "no bound was set on how far groups may be apart"
        if most is not None:
            asked = f"the worst group may lose {number(most)} to the best"
        yield f"Measured by groups: {', '.join(map(plain, groups))}; {asked}."
        yield f"{elsewhere}; other groups of people, devices or places on their own."
    else:
        yield f"{elsewhere}; groups of people, devices or places on their own."


def _reference(sample: Sample | None) -> Iterator[str]:
    if sample and sample.count:
        columns = ", ".join(code(name) for name in sorted({*sample.numbers, *sample.words}))
        held = [f"{columns} in `{COLUMNS}`"] if columns else []
        held += [f"features of the network in `{FEATURES}`"] if len(sample.features) else []
        yield (
            f"`tlkeras validate` compares new data with what this folder holds of {sample.count:,} "
            f"of the examples on which the model was measured: {', '.join(held) or 'nothing'}. It "
            "holds no id, no text and no picture."
        )
    if sample and len(sample.features):
        yield (
            "Whoever has an example and this model can tell from the features whether it is likely "
            "one of these."
        )


def _exports(exports: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    rows = [
        (
            code(row["export"]),
            code(", ".join(row["files"])),
            row.get("bytes"),
            row.get("value"),
            f"{row['difference']:.1e}" if "difference" in row else "",
            row.get("agreement"),
            f"{row['p50_ms']:.2f}" if "p50_ms" in row else "",
        )
        for row in exports
    ]
    primary = next((row["primary"] for row in exports if "primary" in row), "value")
    columns = ["export", "files", "bytes", primary.replace("_", " ")]
    columns += ["largest difference from Keras", "same answer as Keras", "median ms"]
    yield table(columns, rows)


def _usages(usages: Sequence[Usage]) -> Iterator[str]:
    for usage in usages:
        yield f"### Use of {plain(usage.file)}"
        yield _fenced(usage.code, usage.language)


def _reproduction(command: str) -> Iterator[str]:
    yield _fenced(command, "sh") if command else "The command was not recorded."


def _fenced(text: str, language: str) -> str:
    """Returns a block of code that ends where its text ends, whatever the text holds."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _lineage(lineage: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    rows = [
        (made["step"], code(made.get("key", "")[:12] or "-"), f"{made['seconds']:.1f}")
        if "seconds" in made
        else (made["step"], "-", "")
        for made in lineage
    ]
    yield table(("product", "key", "seconds"), rows)
    if commits := dict.fromkeys(made["git"] for made in lineage if made.get("git")):
        yield f"Code: {', '.join(map(code, commits))}."
    versions = libraries.versions(lineage)
    declared = libraries.licences(versions)
    rows = [(name, version, plain(declared[name])) for name, version in versions.items()]
    yield table(("library", "version", "licence"), rows)
