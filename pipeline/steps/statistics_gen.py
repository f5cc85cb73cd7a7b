"""StatisticsGen: statistics of every feature by split, as a TFMD statistics proto.

TensorFlow Data Validation and Facets read the file. Memory: 8 bytes per number of an example.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.step import Runtime, Step
from tlkeras import files
from tlkeras.data import records
from tlkeras.data.parts import Runner
from tlkeras.data.records import Info, Records

FILE = "statistics.pb"
_PART = 4096  # Records of a part.
_RESULT = "found.json"  # The result of a part.
_BUCKETS = 10


_Numbers = dict[str, list[np.ndarray]]
_Words = dict[str, Counter[str]]


@Step
def statistics(
    out: Path,
    *,
    examples: Path,
    beam_runner: Runtime[str] = Runner.name,
    beam_options: Runtime[str] = Runner.options,
) -> None:
    """Counts and summarizes every feature; of pictures, height, width and bytes."""
    info = records.info(examples)
    numbers: dict[str, _Numbers] = {split: defaultdict(list) for split in info.counts}
    words: dict[str, _Words] = {split: defaultdict(Counter) for split in info.counts}
    reading = _Reading(examples.absolute(), info)
    runner = Runner(beam_runner, beam_options)
    for part in runner.run(reading, len(reading.parts), out / "_scratch", "statistics"):
        split, columns, counts = files.read_json(part / _RESULT)
        for name, values in columns.items():
            numbers[split][name].append(np.array(values, np.float64))
        for name, times in counts.items():
            words[split][name].update(times)
    summaries = protos("statistics").DatasetFeatureStatisticsList()
    for split in info.counts:
        dataset = summaries.datasets.add(name=split, num_examples=info.counts[split])
        for name, columns in sorted(numbers[split].items()):
            _add_numbers(dataset, name, np.concatenate(columns))
        for name, counts in sorted(words[split].items()):
            _add_words(dataset, name, counts)
    (out / FILE).write_bytes(summaries.SerializeToString(deterministic=True))


def read(statistics: Path) -> Any:
    """Returns the proto that the step wrote."""
    return protos("statistics").DatasetFeatureStatisticsList.FromString(
        (statistics / FILE).read_bytes()
    )


def protos(name: str) -> Any:
    """Returns a module of TFMD's protos; its import creates their classes."""
    return importlib.import_module(f"tensorflow_metadata.proto.v0.{name}_pb2")


@dataclasses.dataclass(frozen=True)
class _Reading:
    """The values of a part of a split: every numeric column, and counts of words; see `Part`."""

    examples: Path
    info: Info

    @property
    def parts(self) -> list[tuple[str, int]]:
        """The split and the number of the first record of every part, in order."""
        return [(s, start) for s, n in self.info.counts.items() for start in range(0, n, _PART)]

    def __call__(self, number: int, out: Path) -> None:
        split, start = self.parts[number]
        numbers: dict[str, list[float]] = defaultdict(list)
        words: _Words = defaultdict(Counter)
        for record in Records(self.examples, split).between(start, start + _PART):
            _, values = records.values(record, self.info.features)
            for name, kind in self.info.features.items():
                columns, counts = kind.summary(values[name], self.info.classes)
                for column, value in columns.items():
                    numbers[f"{name}{column}"].append(value)
                if counts:
                    words[name].update(counts)
        files.write_json(out / _RESULT, [split, numbers, words])


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
    counts, edges = np.histogram(values, bins=_BUCKETS)
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        histogram.buckets.add(low_value=low, high_value=high, sample_count=count)


def _add_words(dataset: Any, name: str, counts: Counter[str]) -> None:
    kinds = protos("statistics").FeatureNameStatistics
    feature = dataset.features.add(name=name, type=kinds.STRING)
    summary = feature.string_stats
    _set_common(summary.common_stats, counts.total())
    summary.unique = len(counts)
    summary.avg_length = sum(len(word) * n for word, n in counts.items()) / counts.total()
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
