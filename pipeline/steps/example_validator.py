"""ExampleValidator: what is odd about the examples, as TFMD anomalies, a list and a page."""

from __future__ import annotations

import collections
import functools
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.step import Place, Runtime, Step
from pipeline.steps import schema_gen, statistics_gen, trainer
from tlkeras import hardware, terminal
from tlkeras.backbone import Backbone
from tlkeras.data import records, splits
from tlkeras.data.batches import Data
from tlkeras.data.records import Info
from tlkeras.doctor import (
    classes,
    copies,
    defects,
    duplicates,
    examined,
    folds,
    judgement,
    shortcuts,
    suspects,
    traits,
    vectors,
)
from tlkeras.doctor.defects import Defect
from tlkeras.doctor.duplicates import Group
from tlkeras.doctor.examined import Examined
from tlkeras.doctor.gaussians import Chunks
from tlkeras.model.transfer_model import Precision, TransferModel, computing_in
from tlkeras.recipe import Recipe
from tlkeras.report import findings
from tlkeras.report import statistics as page
from tlkeras.task import Task
from tlkeras.training.features import Cache

FILE = "anomalies.pbtxt"
DEFECTS = defects.ALL
PAGE = "statistics.html"

# Beyond these limits a person should look at the data; an anomaly never stops the run.
_IMBALANCE = 10.0  # Times more examples of the largest class than of the smallest.
_SKEW = 0.1  # Largest difference of a class's share between a split and train (L-infinity).
_FEW = 20  # Examples of a class in train.

# The kinds of which each part has a label of its own.
_LABELLED = ("boxes", "words")

# Findings on the labels; the others are on what the network reads.
_OF_LABELS = {suspects.DEFECT, copies.MIXED, *classes.DEFECTS}


@Step
def anomalies(
    out: Path,
    *,
    examples: Path,
    statistics: Path,
    schema: Path,
    backbone: Backbone,
    task: Task,
    batch_size: int,
    seed: int,
    precision: Precision,
    recipe: Runtime[Recipe],
    feature_cache_gb: float,
    features: Place,
) -> None:
    """Examines classes, copies, traits, labels and features; nothing that it finds stops the run.

    Labels and features are examined where the task gives each example one class. The features go
    into the cache of the training, with all others that the recipe starts from; a cache that has no
    room for them leaves labels and features unexamined. ``defects.json`` lists every finding.
    ``statistics.html`` shows them with examples, so no pushed version has it.
    """
    info, groups = records.info(examples), duplicates.read(examples)
    found = examined.read(traits.read(examples))
    known = splits.labelled(info.class_counts)
    rows = zip(found.ids, found.splits, found.labels, strict=True)
    labels = {identity: own for identity, split, own in rows if split in known}
    whole = [*_odd_classes(info), *_compared(statistics, schema, info, task)]
    single = [*copies.mixed(groups, labels, info.classes)]
    remarks: Sequence[str] = ()
    if judgement.has_one_class(task):
        data = Data(examples, backbone, task, batch_size, seed, exact=False)
        cache = trainer.cache(features, feature_cache_gb, data)
        told, judged, remarks = _of_one_class(found, groups, data, precision, cache, recipe.parts())
        whole, single = [*whole, *told], [*single, *judged]
    for line in [*_lines(whole), *_lines(single), *remarks]:
        print(terminal.printable(f"  {line}"))
    left_out = defects.read(examples)
    # Ingest has told of these.
    before = [*defects.notes(examples), *copies.across(groups)]
    defects.write(out / DEFECTS, [*left_out, *before, *whole, *single])
    _write_proto(out / FILE, schema, info, whole, [*left_out, *before, *single])
    contents = findings.collected(
        examples, found, groups, left_out, whole, [*single, *before], remarks
    )
    page.write(out / PAGE, contents)
    place = out.with_name(out.name.removesuffix(".partial")) / PAGE
    print(terminal.printable(f"  samples and all findings: {place}"))


def _odd_classes(info: Info) -> Iterator[Defect]:
    # Of the split "target" no labels count.
    counts = {split: row for split, row in info.class_counts.items() if split != "target"}
    return classes.odd(info.classes, counts) if counts else iter(())


def _compared(statistics: Path, schema: Path, info: Info, task: Task) -> Iterator[Defect]:
    datasets = {dataset.name: dataset for dataset in statistics_gen.read(statistics).datasets}
    kinds = {kind.name for kind in info.features.values()}
    counted = next((each for each in _LABELLED if each in kinds), "examples")
    is_weighted = type(task).weighted is not Task.weighted
    advice = "; consider class_weight='balanced'" if is_weighted else ""
    for name, short, text in _odd(datasets, schema_gen.read(schema), counted, advice):
        yield Defect(name, "", short.lower(), text)


def _of_one_class(
    found: Examined,
    groups: Sequence[Group],
    data: Data,
    precision: Precision,
    cache: Cache,
    parts: Sequence[Any],
) -> tuple[list[Defect], list[Defect], Sequence[str]]:
    """Returns shortcuts, then suspects and outliers, and what was not examined.

    They are of the splits whose features the training caches; others would need their own pass.
    """
    names = [name for name in (splits.TRAIN, splits.VALIDATION) if data.count(name)]
    numbers = np.concatenate([found.of(name) for name in names])
    of_copies: dict[str, Hashable] = {
        name: place for place, group in enumerate(groups) for name in group.ids
    }
    order: list[int] = numbers.tolist()
    twins = [of_copies.get(found.ids[number], found.ids[number]) for number in order]
    labels = np.array([found.labels[number][0] for number in order], np.int64)

    def features(chosen: np.ndarray) -> Chunks:
        with hardware.alone(), computing_in(precision):
            model = TransferModel(data.backbone, data.task, data.classes, data.seed)
            rows = vectors.of(model, data, names, cache, parts)
        return functools.partial(vectors.selected, rows, chosen)

    dealt = folds.dealt(twins, labels, data.seed)
    columns = {name: column[numbers] for name, column in found.traits.items()}
    told = shortcuts.found(columns, labels, dealt)
    judged = judgement.judged(labels, twins, data.classes, data.seed, features)
    where = [(found.ids[number], found.splits[number]) for number in order]
    single = [each.defect(*where[each.number], data.classes) for each in judged.suspects]
    single += [each.defect(*where[each.number]) for each in judged.outliers]
    return [each.defect(data.classes) for each in told], single, judged.remarks


def _lines(found: Sequence[Defect]) -> Iterator[str]:
    """Yields a line for each kind of finding, with the first of them."""
    kinds: dict[str, list[Defect]] = {}
    for each in found:
        kinds.setdefault(each.defect, []).append(each)
    for defect, (first, *others) in kinds.items():
        more = f"; {len(others):,} more in {DEFECTS}" if others else ""
        yield f"{defect}: {first.identity} {first.reason}{more}"


def _write_proto(
    file: Path, schema: Path, info: Info, whole: Sequence[Defect], single: Sequence[Defect]
) -> None:
    """Writes the findings by feature; those on examples are counted."""
    from google.protobuf import text_format

    anomalies_pb2 = statistics_gen.protos("anomalies")
    proto = anomalies_pb2.Anomalies()
    proto.baseline.CopyFrom(schema_gen.read(schema))
    read = next(iter(info.features))
    label = next((key for key, kind in info.features.items() if kind.least_classes), read)
    told = [
        (label, each.defect, f"{each.identity} {each.reason}.")
        if each.defect in _OF_LABELS
        else (each.identity, each.defect, each.reason)
        for each in whole
    ]
    for defect, count in collections.Counter(each.defect for each in single).items():
        feature = label if defect in _OF_LABELS else read
        told.append((feature, defect, f"{count:,} examples, see {DEFECTS}: {defect}."))
    for feature, defect, description in told:
        entry = proto.anomaly_info[feature]
        entry.severity = anomalies_pb2.AnomalyInfo.WARNING
        entry.short_description = defect[:1].upper() + defect[1:]
        entry.description = f"{entry.description} {description}".strip()
    file.write_text(text_format.MessageToString(proto), encoding="utf-8")


def _odd(
    datasets: dict[str, Any], schema: Any, counted: str, advice: str
) -> Iterator[tuple[str, str, str]]:
    """Yields ``(feature, short description, description)``; labels are those of what is counted."""
    # Formats and modes, whose columns have a point in their names, need no balance.
    labels = (feature for feature in schema.feature if "." not in feature.name)
    for domain in (feature for feature in labels if feature.string_domain.value):
        counts = {
            split: _counts(dataset, domain.name, list(domain.string_domain.value))
            for split, dataset in datasets.items()
        }
        train = counts["train"]
        smallest, largest = min(train, key=train.__getitem__), max(train, key=train.__getitem__)
        if train[smallest] < _FEW:
            few = [f"{word!r} ({n})" for word, n in train.items() if 0 < n < _FEW]
            if few:
                yield (
                    domain.name,
                    "Few examples",
                    f"fewer than {_FEW} training {counted} of {_listed(few)}.",
                )
        if train[smallest] and train[largest] > _IMBALANCE * train[smallest]:
            yield (
                domain.name,
                "Imbalance",
                f"{train[largest]:,} training {counted} of {largest!r} against "
                f"{train[smallest]:,} of {smallest!r}{advice}.",
            )
        # Of the split "target" no labels count, and it may have none.
        for split in (split for split in counts if split not in ("train", "target")):
            yield from _against_train(domain.name, split, counts[split], train)
    for split, dataset in datasets.items():
        yield from _small_pictures(split, dataset)


def _counts(dataset: Any, name: str, words: list[str]) -> dict[str, int]:
    """Returns the count of every word; words of the schema come first, also with count 0."""
    summary = next((feature for feature in dataset.features if feature.name == name), None)
    values = summary.string_stats.top_values if summary else []
    return {**dict.fromkeys(words, 0), **{top.value: round(top.frequency) for top in values}}


def _against_train(
    name: str, split: str, counts: dict[str, int], train: dict[str, int]
) -> Iterator[tuple[str, str, str]]:
    if unseen := sorted(word for word in counts if not train.get(word)):
        yield name, "New value", f"{_listed(unseen)} in {split}, never in train."
    if missing := sorted(word for word in train if train[word] and not counts.get(word)):
        yield name, "Missing value", f"no {split} example of {_listed(missing)}."
    if not (any(counts.values()) and any(train.values())):  # No example of a split has a label.
        return
    share = {
        word: counts[word] / sum(counts.values()) - train.get(word, 0) / sum(train.values())
        for word in counts
    }
    word = max(share, key=lambda word: abs(share[word]))
    if abs(share[word]) > _SKEW:
        yield (
            name,
            "Skew",
            f"{word!r} has a share of {counts[word] / sum(counts.values()):.0%} in {split} and of "
            f"{train.get(word, 0) / sum(train.values()):.0%} in train.",
        )


def _small_pictures(split: str, dataset: Any) -> Iterator[tuple[str, str, str]]:
    for feature in dataset.features:
        if feature.name.endswith((".height", ".width")) and feature.num_stats.min < 8:
            yield (
                feature.name,
                "Tiny pictures",
                f"the smallest of {split} is {feature.num_stats.min:.0f} pixels.",
            )


def _listed(words: list[str], most: int = 5) -> str:
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more
