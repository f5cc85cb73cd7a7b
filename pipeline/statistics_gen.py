"""StatisticsGen: what every feature holds, split by split, as a TFMD statistics proto.

TensorFlow Data Validation and Facets read the file. Memory: 8 bytes an example and number.
"""

from __future__ import annotations

import importlib
import io
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline import flags
from pipeline.core import Step
from tlkeras import examples as records
from tlkeras import progress

FILE = "statistics.pb"
_CHUNK = 256  # Records in memory at a time.
_BUCKETS = 10


@Step
def statistics(out: Path, *, examples: Path) -> None:
    """Counts and summarizes every feature, pictures by their height, width and bytes."""
    info = records.info(examples)
    found = protos("statistics").DatasetFeatureStatisticsList()
    for split in info.counts:
        dataset = found.datasets.add(name=split, num_examples=info.counts[split])
        numbers, words = _columns(examples, split, info)
        for name, values in sorted(numbers.items()):
            _add_numbers(dataset, name, np.asarray(values))
        for name, counts in sorted(words.items()):
            _add_words(dataset, name, counts)
    (out / FILE).write_bytes(found.SerializeToString(deterministic=True))


def read(statistics: Path) -> Any:
    """Returns the proto that the step wrote."""
    return protos("statistics").DatasetFeatureStatisticsList.FromString(
        (statistics / FILE).read_bytes()
    )


def protos(name: str) -> Any:
    """Returns a module of TFMD's protos; their classes are made when it is imported."""
    return importlib.import_module(f"tensorflow_metadata.proto.v0.{name}_pb2")


def _columns(
    examples: Path, split: str, info: records.Info
) -> tuple[dict[str, list[float]], dict[str, Counter[str]]]:
    """Returns the numbers of every numeric column and the counts of every column of words."""
    numbers: dict[str, list[float]] = defaultdict(list)
    words: dict[str, Counter[str]] = defaultdict(Counter)
    kept = records.Records(examples, split)
    starts = range(0, len(kept), _CHUNK)
    for start in progress.shown(starts, len(starts), f"statistics of {split}"):
        chosen = np.arange(start, min(start + _CHUNK, len(kept)))
        for record in kept.read(chosen):
            found = records.values(record)
            for name, kind in info.features.items():
                _SUMMARIES[kind](name, found[name], info, numbers, words)
    return numbers, words


def _picture(name: str, values: Any, info: Any, numbers: Any, words: Any) -> None:
    # Opening reads the header only.
    with Image.open(io.BytesIO(values[0])) as picture:
        width, height = picture.size
    numbers[f"{name}.height"].append(height)
    numbers[f"{name}.width"].append(width)
    numbers[f"{name}.bytes"].append(len(values[0]))


def _integer(name: str, values: Any, info: Any, numbers: Any, words: Any) -> None:
    if name == "label":
        words[name][info.classes[values[0]]] += 1
    else:
        numbers[name].append(values[0])


def _text(name: str, values: Any, info: Any, numbers: Any, words: Any) -> None:
    text = values[0].decode(errors="replace")
    numbers[f"{name}.characters"].append(len(text))
    numbers[f"{name}.words"].append(len(text.split()))


def _integers(name: str, values: Any, info: Any, numbers: Any, words: Any) -> None:
    numbers[f"{name}.count"].append(len(values))


def _boxes(name: str, values: Any, info: Any, numbers: Any, words: Any) -> None:
    numbers[f"{name}.count"].append(len(values) // 4)


def _number(name: str, values: Any, info: Any, numbers: Any, words: Any) -> None:
    numbers[name].append(values[0])


_SUMMARIES = {
    "image": _picture,
    "mask": _picture,
    "integer": _integer,
    "text": _text,
    "integers": _integers,
    "boxes": _boxes,
    "number": _number,
}


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


if __name__ == "__main__":
    flags.run_alone(statistics)
