"""StatisticsGen: statistics of every feature by split, as a TFMD statistics proto.

TensorFlow Data Validation and Facets read the file. Memory: 8 bytes per number of an example.
"""

from __future__ import annotations

import array
import dataclasses
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from pipeline.step import Runtime, Step
from tlkeras import files
from tlkeras.data import records
from tlkeras.data.parts import Runner
from tlkeras.data.records import Info, Records
from tlkeras.doctor import samples, traits
from tlkeras.doctor import statistics as summaries
from tlkeras.doctor.statistics import FILE, protos, read

__all__ = ["FILE", "protos", "read", "statistics"]

_PART = 4096  # Records of a part.
_RESULT = "found.json"  # The result of a part.

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
    """Counts and summarizes every feature, and its traits, such as the brightness of pictures.

    The columns of traits are those of the values as the source gave them; see `Kind.traits`.
    """
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
    for split, (columns, counts) in _traits(examples).items():
        numbers[split] |= {name: [np.frombuffer(values)] for name, values in columns.items()}
        words[split] |= counts
    proto = protos("statistics").DatasetFeatureStatisticsList()
    for split, count in info.counts.items():
        columns = {name: np.concatenate(values) for name, values in numbers[split].items()}
        summaries.add(proto, split, count, columns, words[split])
    summaries.write(proto, out)


def _traits(examples: Path) -> dict[str, tuple[dict[str, array.array[float]], _Words]]:
    """Returns the numbers and the counts of words of all traits by split."""
    found: dict[str, tuple[dict[str, array.array[float]], _Words]] = {}
    for row in traits.read(examples):
        numbers, words = found.setdefault(row.split, ({}, defaultdict(Counter)))
        for feature, each in row.traits.items():
            columns, sorts = samples.of_traits(feature, each)
            for name, value in columns.items():
                numbers.setdefault(name, array.array("d")).append(value)
            for name, values in sorts.items():
                words[name].update(values)
    return found


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
