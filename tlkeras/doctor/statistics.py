"""Statistics of columns as TFMD protos, which TensorFlow Data Validation and Facets read.

A column of numbers fills ``num_stats`` of a `FeatureNameStatistics`, with a histogram of ten equal
buckets; a column of words fills ``string_stats``, with the count of every word.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FILE = "statistics.pb"
_BUCKETS = 10


def protos(name: str) -> Any:
    """Returns a module of TFMD's protos; its import creates their classes."""
    return importlib.import_module(f"tensorflow_metadata.proto.v0.{name}_pb2")


def add(
    summaries: Any,
    name: str,
    count: int,
    numbers: Mapping[str, np.ndarray],
    words: Mapping[str, Mapping[str, int]],
) -> None:
    """Adds the statistics of examples to a `DatasetFeatureStatisticsList`.

    Args:
        summaries: The proto.
        name: Of the examples, such as their split.
        count: How many there are.
        numbers: By column, its numbers; there may be fewer than examples.
        words: By column, how often each word occurs.
    """
    dataset = summaries.datasets.add(name=name, num_examples=count)
    for column, values in sorted(numbers.items()):
        if len(values):
            _add_numbers(dataset, column, values)
    for column, counts in sorted(words.items()):
        if counts:
            _add_words(dataset, column, counts)


def write(summaries: Any, folder: Path) -> None:
    """Writes the proto into a folder; equal ones give equal bytes."""
    (folder / FILE).write_bytes(summaries.SerializeToString(deterministic=True))


def read(folder: Path) -> Any:
    """Returns the proto that a folder holds.

    Raises:
        ValueError: There is none, or it is damaged.
    """
    from google.protobuf.message import DecodeError

    lists = protos("statistics").DatasetFeatureStatisticsList
    try:
        return lists.FromString((folder / FILE).read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{folder} has no {FILE}; write it again.") from None
    except DecodeError as error:
        raise ValueError(f"{folder / FILE} is damaged: {error}. Write it again.") from None


def trained(summaries: Any) -> Any:
    """Returns the `DatasetFeatureStatistics` of the examples that a model is fitted to.

    They are those of ``train`` and, of two domains, of ``target``, for which the model is. Of
    ``target`` count the columns with a point in their names, which most labels do not have: no
    recipe reads its labels, and it may have stand-ins for them. Joined are the counts, the ranges
    and the words; all else is of ``train`` alone.
    """
    datasets = {each.name: each for each in summaries.datasets}
    joined = protos("statistics").DatasetFeatureStatistics()
    joined.CopyFrom(datasets["train"])
    if "target" in datasets:
        joined.num_examples += datasets["target"].num_examples
        own = {each.name: each for each in joined.features}
        for feature in datasets["target"].features:
            if "." in feature.name:
                _join(own.get(feature.name) or joined.features.add(), feature)
    return joined


def _join(feature: Any, other: Any) -> None:
    """Adds to the statistics of a column those of other examples; an empty one becomes a copy."""
    if not feature.name:
        feature.CopyFrom(other)
    elif other.WhichOneof("stats") == "num_stats":
        numbers, others = feature.num_stats, other.num_stats
        numbers.min, numbers.max = min(numbers.min, others.min), max(numbers.max, others.max)
        numbers.common_stats.num_non_missing += others.common_stats.num_non_missing
    else:
        words, others = feature.string_stats, other.string_stats
        places = {top.value: top for top in words.top_values}
        for top in others.top_values:
            if top.value in places:
                places[top.value].frequency += top.frequency
            else:
                words.top_values.add(value=top.value, frequency=top.frequency)
        words.common_stats.num_non_missing += others.common_stats.num_non_missing


def _add_numbers(dataset: Any, name: str, values: np.ndarray) -> None:
    kinds = protos("statistics").FeatureNameStatistics
    feature = dataset.features.add(name=name, type=kinds.FLOAT)
    summary = feature.num_stats
    _set_common(summary.common_stats, len(values))
    summary.mean, summary.std_dev = float(values.mean()), float(values.std())
    summary.min, summary.max = float(values.min()), float(values.max())
    summary.median = float(np.median(values))
    summary.num_zeros = int((values == 0).sum())
    histogram = summary.histograms.add(type=protos("statistics").Histogram.STANDARD)
    try:
        counts, edges = np.histogram(values, bins=_BUCKETS)
    except ValueError:  # The numbers are too near each other for so many buckets.
        counts, edges = [len(values)], [values.min(), values.max()]
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        histogram.buckets.add(low_value=low, high_value=high, sample_count=count)


def _add_words(dataset: Any, name: str, counts: Mapping[str, int]) -> None:
    kinds = protos("statistics").FeatureNameStatistics
    feature = dataset.features.add(name=name, type=kinds.STRING)
    summary, total = feature.string_stats, sum(counts.values())
    _set_common(summary.common_stats, total)
    summary.unique = len(counts)
    summary.avg_length = sum(len(word) * n for word, n in counts.items()) / total
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    for rank, (word, count) in enumerate(ranked):
        summary.top_values.add(value=word, frequency=count)
        summary.rank_histogram.buckets.add(
            low_rank=rank, high_rank=rank, label=word, sample_count=count
        )


def _set_common(common: Any, count: int) -> None:
    common.num_non_missing = count
    common.min_num_values = common.max_num_values = 1
    common.avg_num_values = 1.0
    common.tot_num_values = count
