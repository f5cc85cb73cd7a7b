"""StatisticsGen: statistics of every feature by split, as a TFMD statistics proto.

TensorFlow Data Validation and Facets read the file. What it counts was found when the examples were
read; no record is read again. Memory: 8 bytes per number of an example.
"""

from __future__ import annotations

import array
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from pipeline.step import Step
from tlkeras.data import records
from tlkeras.doctor import samples, traits
from tlkeras.doctor import statistics as summaries
from tlkeras.doctor.statistics import FILE, protos, read

__all__ = ["FILE", "protos", "read", "statistics"]


@Step
def statistics(out: Path, *, examples: Path) -> None:
    """Counts and summarizes every feature, and its traits, such as the brightness of pictures.

    The columns of traits are those of the values as the source gave them; see `Kind.traits`.
    """
    counts = records.info(examples).counts
    numbers = {split: defaultdict(lambda: array.array("d")) for split in counts}
    words: dict[str, dict[str, Counter[str]]] = {split: defaultdict(Counter) for split in counts}
    for row in traits.read(examples):
        own = [samples.of_traits(feature, each) for feature, each in row.traits.items()]
        columns, told = samples.merged((row.numbers, row.words), *own)
        for name, value in columns.items():
            numbers[row.split][name].append(value)
        for name, values in told.items():
            words[row.split][name].update(values)
    proto = protos("statistics").DatasetFeatureStatisticsList()
    for split, count in counts.items():
        columns = {name: np.frombuffer(values) for name, values in numbers[split].items()}
        summaries.add(proto, split, count, columns, words[split])
    summaries.write(proto, out)
