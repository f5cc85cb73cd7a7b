"""ModelCard: report, model card, datasheet and their machine-readable forms, from all before."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline import product
from pipeline.step import Step
from tlkeras import files
from tlkeras.backbone import Backbone
from tlkeras.data import records, splits
from tlkeras.data.records import Records
from tlkeras.doctor import defects, samples
from tlkeras.doctor import statistics as summaries
from tlkeras.exporter import Details, Exporter
from tlkeras.measures import measures
from tlkeras.measures.measures import Gallery, Measures
from tlkeras.report import bom, croissant, datasheet, novelty, report
from tlkeras.report import card as cards
from tlkeras.report.evidence import DataDetails, Evidence, written
from tlkeras.report.views import Shown
from tlkeras.task import Task


@Step
def card(
    out: Path,
    *,
    examples: Path,
    statistics: Path,
    anomalies: Path,
    model: Path,
    evaluation: Path,
    infra_blessing: Path,
    backbone: Backbone,
    task: Task,
    exporters: tuple[Exporter, ...],
    name: str,
    details: Details,
    data_details: DataDetails,
) -> None:
    """Writes ``report.html``, everything to look at, ``card.md`` and ``datasheet.md``.

    Beside them lie ``bom.cdx.json``, the bill of materials, and ``croissant.json``, the metadata of
    the data.
    """
    found, blessing = measures.read(evaluation), files.read_json(evaluation / "blessing.json")
    # What a recipe says of its fit is no weakness that was measured.
    weak = found.remarks
    if (remarks := model / "remarks.json").exists():
        found = dataclasses.replace(found, remarks=[*files.read_json(remarks), *found.remarks])
    if (shown := model / "views.json").exists():
        views = [*map(measures.parsed_view, files.read_json(shown))]
        found = dataclasses.replace(found, views=[*views, *found.views])
    reference = samples.read(evaluation)
    strange = novelty.views(reference.features, found.split or "test")
    found = dataclasses.replace(found, views=[*found.views, *strange])
    about = records.info(examples)
    info = about.plain()
    exported = files.read_json(infra_blessing / "infra.json")
    lineage = _lineage(anomalies, infra_blessing)
    # The same examples may have been read elsewhere before, and what follows was found again.
    options = product.options([*lineage, product.manifest(examples)])
    options |= {"baseline": blessing["baseline"] or "none"}
    # Where the baseline lay is of this machine, and what it changes is the blessing alone.
    again = options | {"baseline": "none"}
    command = product.command(again)
    left_out, noted = _findings(examples, anomalies)
    kinds = about.features.values()
    evidence = Evidence(
        name=name,
        details=details,
        data_details=data_details,
        configuration=options,
        data=info,
        left_out=left_out,
        noted=noted,
        beside=[*dict.fromkeys(kind.leaves_out for kind in kinds if kind.leaves_out)],
        columns=[*_columns(statistics)],
        measures=dataclasses.replace(found, remarks=weak),
        blessing=blessing,
        exports=exported,
        lineage=lineage,
        answers_classes=task.answers_classes,
    )
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
        evidence=evidence,
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
        reference=reference,
        answers_classes=task.answers_classes,
    )
    (out / "card.md").write_text(text, encoding="utf-8")
    (out / "datasheet.md").write_text(datasheet.datasheet(evidence), encoding="utf-8")
    files.write_json(out / bom.FILE, written(bom.bom(evidence)))
    files.write_json(out / croissant.FILE, written(croissant.croissant(evidence)))


def _findings(examples: Path, anomalies: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Returns how many examples were left out, and how many findings else there are, by defect."""
    left_out = collections.Counter(each.defect for each in defects.read(examples))
    every = collections.Counter(each.defect for each in defects.listed(anomalies))
    return dict(left_out), dict(every - left_out)


def _columns(statistics: Path) -> Iterator[tuple[Any, ...]]:
    """Yields the least, the median and the largest number, or word, of each training column."""
    for dataset in summaries.read(statistics).datasets:
        if dataset.name != splits.TRAIN:
            continue
        for feature in dataset.features:
            if feature.WhichOneof("stats") == "num_stats":
                found = feature.num_stats
                yield feature.name, found.min, found.median, found.max
            else:
                count = feature.string_stats.unique
                yield feature.name, "", f"{count} word{'' if count == 1 else 's'}", ""


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
