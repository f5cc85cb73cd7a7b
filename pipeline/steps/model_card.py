"""ModelCard: the report and the model card, written from the products before it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from pipeline import product
from pipeline.step import Step
from tlkeras import files, terminal
from tlkeras.backbone import Backbone
from tlkeras.data import records
from tlkeras.data.records import Records
from tlkeras.doctor import samples
from tlkeras.exporter import Details, Exporter
from tlkeras.measures import measures
from tlkeras.measures.measures import Gallery, Measures
from tlkeras.report import card as cards
from tlkeras.report import report
from tlkeras.report.views import Shown
from tlkeras.task import Task


@Step
def card(
    out: Path,
    *,
    examples: Path,
    anomalies: Path,
    model: Path,
    evaluation: Path,
    infra_blessing: Path,
    backbone: Backbone,
    task: Task,
    exporters: tuple[Exporter, ...],
    name: str,
    details: Details,
) -> None:
    """Writes ``report.html``, everything to look at, and ``card.md``, the model card."""
    found, blessing = measures.read(evaluation), files.read_json(evaluation / "blessing.json")
    if (remarks := model / "remarks.json").exists():
        found = dataclasses.replace(found, remarks=[*files.read_json(remarks), *found.remarks])
    if (shown := model / "views.json").exists():
        views = [*map(measures.parsed_view, files.read_json(shown))]
        found = dataclasses.replace(found, views=[*views, *found.views])
    info = records.info(examples).plain()
    exported = files.read_json(infra_blessing / "infra.json")
    lineage = _lineage(anomalies, infra_blessing)
    options = product.options(lineage) | {"baseline": blessing["baseline"] or "none"}
    # Where the baseline lay is of this machine, and what it changes is the blessing alone.
    again = options | {"baseline": "none"}
    command = terminal.quoted(["tlkeras", *(f"--{key}={text}" for key, text in again.items())])
    contents = report.Report(
        title=name,
        measures=found,
        blessing=blessing,
        logs=files.read_json(model / "logs.json"),
        exports=exported,
        examples=_shown(examples, found, backbone),
        data=info,
        command=command,
        lineage=lineage,
    )
    report.write(out / "report.html", contents)
    text = cards.card(
        name,
        details={key: getattr(details, key) for key in cards.DETAILS},
        configuration=options,
        command=command,
        data=info,
        measures=found,
        blessing=blessing,
        exports=exported,
        usages=[usage for exporter in exporters for usage in exporter.usage(backbone, task)],
        lineage=lineage,
        reference=samples.read(evaluation).count,
    )
    (out / "card.md").write_text(text, encoding="utf-8")


def _shown(examples: Path, found: Measures, backbone: Backbone) -> dict[int, Shown]:
    """Returns the first feature of every example in a gallery, small enough for a page.

    What else the backbone reads of it is said with it, where that is a text.
    """
    galleries = [view for view in found.views if isinstance(view, Gallery)]
    numbers = [*dict.fromkeys(each.number for view in galleries for each in view.examples)]
    first, kind = next(iter(records.info(examples).features.items()))
    kinds = {first: kind, **backbone.raw()}
    shown: dict[int, Shown] = {}
    if numbers:
        rows = Records(examples, found.split).read(numbers)
        for number, row in zip(numbers, rows, strict=True):
            identity, values = records.values(row, kinds)
            content, *others = (kinds[key].shown(values[key]) for key in kinds)
            said = [other for other in others if isinstance(other, str)]
            shown[number] = Shown(identity, content, "; ".join(said))
    return shown


def _lineage(*products: Path) -> list[dict[str, Any]]:
    """Returns the manifests of products and of their ancestors, each once, oldest first.

    A product that the store no longer has, has none.
    """
    made = [entry for entry in product.lineage(*products) if "asked" in entry]
    return sorted(made, key=lambda entry: entry["started"])
