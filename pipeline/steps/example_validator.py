"""ExampleValidator: anomalies of the examples, as a TFMD anomalies proto in text form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.step import Step
from pipeline.steps import schema_gen, statistics_gen

FILE = "anomalies.pbtxt"

# Beyond these limits a person should look at the data; an anomaly never stops the run.
_IMBALANCE = 10.0  # Times more examples of the largest class than of the smallest.
_SKEW = 0.1  # Largest difference of a class's share between a split and train (L-infinity).
_FEW = 20  # Examples of a class in train.


@Step
def anomalies(out: Path, *, statistics: Path, schema: Path) -> None:
    """Compares the classes of every split with those of train and reports anomalies."""
    from google.protobuf import text_format

    anomalies_pb2 = statistics_gen.protos("anomalies")
    proto = anomalies_pb2.Anomalies()
    expected = schema_gen.read(schema)
    proto.baseline.CopyFrom(expected)
    datasets = {dataset.name: dataset for dataset in statistics_gen.read(statistics).datasets}
    for name, short, description in _anomalies(datasets, expected):
        info = proto.anomaly_info[name]
        info.severity = anomalies_pb2.AnomalyInfo.WARNING
        info.short_description = short
        info.description = f"{info.description} {description}".strip()
        print(f"  {name}: {description}")
    text = text_format.MessageToString(proto)
    (out / FILE).write_text(text, encoding="utf-8")


def _anomalies(datasets: dict[str, Any], schema: Any) -> Iterator[tuple[str, str, str]]:
    """Yields ``(feature, short description, description)``."""
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
                    f"fewer than {_FEW} training examples of {_listed(few)}.",
                )
        if train[smallest] and train[largest] > _IMBALANCE * train[smallest]:
            yield (
                domain.name,
                "Imbalance",
                f"{train[largest]} training examples of {largest!r} against {train[smallest]} of "
                f"{smallest!r}; consider class_weight='balanced'.",
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
