"""Judging: whether a batch is like the examples on which the model of a version was measured.

A pushed version holds the schema and the statistics of the training examples, and the reference;
see `samples`. The tests of one batch are corrected for their number, so that all of them together
raise a false alarm in at most one of twenty batches.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import terminal
from tlkeras.doctor import answers, drift, samples, schemas, statistics
from tlkeras.doctor.drift import LEAST_SIZE, LEVEL, Shift
from tlkeras.doctor.samples import Gathering, Sample
from tlkeras.doctor.statistics import protos

UNREADABLE = 0.01
"""The share of examples that cannot be read from which on something is wrong."""

FEATURES = "features"
"""The name of the features of the network in findings, beside the columns."""

FILE = "anomalies.pbtxt"

# Of so many words a sentence tells.
_TOLD = 3

# With fewer rows no permutation test can be significant after the correction.
_LEAST_ROWS = 8


@dataclasses.dataclass(frozen=True)
class Finding:
    """The outcome of one comparison.

    Attributes:
        column: What is compared, such as ``image.brightness``.
        test: The name of the test, see `drift`; empty for a rule.
        expected: What the reference has, in words.
        found: What the batch has.
        size: See `Shift.size`.
        p: The p-value of the test alone; None for a rule.
        corrected: The p-value after the correction of Holm.
        is_wrong: Whether the difference is significant and matters, or breaks the rule.
        anomaly: The type of TFMD's `AnomalyInfo` if it is wrong.
        sentence: The finding in words.
    """

    column: str
    test: str
    expected: str
    found: str
    size: float | None
    p: float | None
    corrected: float | None
    is_wrong: bool
    anomaly: str
    sentence: str


@dataclasses.dataclass(frozen=True)
class _Test:
    column: str
    shift: Shift
    expected: str
    found: str
    anomaly: str


def judged(
    version: Path,
    new: Gathering,
    problems: Sequence[str],
    classes: Sequence[str],
    is_coarse: bool = False,
) -> list[Finding]:
    """Returns all findings on a batch, those that are wrong first.

    Args:
        version: The folder of the pushed version.
        new: What has been seen of the batch.
        problems: Why others could not be read.
        classes: The names of the classes of the model.
        is_coarse: Whether the answers are, see `Exporter.is_coarse`: the reference holds those of
            Keras, so no numbers of them are compared.

    Raises:
        ValueError: The version has no reference, or it is damaged.
    """
    reference, schema = samples.read(version), schemas.read(version)
    trained = statistics.trained(statistics.read(version))
    sample = new.sample()
    if is_coarse:
        numbers = {
            name: values
            for name, values in reference.numbers.items()
            if not name.startswith(f"{answers.NAME}.")
        }
        reference = dataclasses.replace(reference, numbers=numbers)
    tests = [*_shifts(reference, sample), *_beyond(schema, trained, new, sample.words)]
    corrected = drift.holm([test.shift.p for test in tests])
    found = [
        *_unreadable(new.count, problems),
        *_unknown(new, reference, classes),
        *(_finding(test, p) for test, p in zip(tests, corrected, strict=True)),
    ]
    return sorted(found, key=lambda each: not each.is_wrong)


def write(version: Path, found: Sequence[Finding], out: Path) -> None:
    """Writes what is wrong as a TFMD anomalies proto in text form, its baseline the schema.

    ``anomaly_info`` has ``severity``, ``short_description``, ``description`` and a ``reason`` for
    every finding of a column; what is wrong with no column is in ``dataset_anomaly_info``.
    """
    from google.protobuf import text_format

    anomalies_pb2 = protos("anomalies")
    proto = anomalies_pb2.Anomalies()
    proto.baseline.CopyFrom(schemas.read(version))
    for each in (each for each in found if each.is_wrong):
        info = proto.anomaly_info[each.column] if each.column else proto.dataset_anomaly_info
        info.severity = anomalies_pb2.AnomalyInfo.ERROR
        short = each.test or "Unexpected data"
        kind = anomalies_pb2.AnomalyInfo.Type.Value(each.anomaly)
        info.reason.add(type=kind, short_description=short, description=each.sentence)
        info.short_description = short if len(info.reason) == 1 else "Multiple errors"
        info.description = f"{info.description} {each.sentence}".strip()
        info.path.step.extend([] if info.path.step or not each.column else [each.column])
    (out / FILE).write_text(text_format.MessageToString(proto), encoding="utf-8")


def _shifts(reference: Sample, new: Sample) -> Iterator[_Test]:
    """Yields the tests of all columns that both have, and of the features."""
    for name, known in reference.numbers.items():
        if len(known) and len(values := new.numbers.get(name, ())):
            shift = drift.of_numbers(known, np.asarray(values))
            yield _Test(name, shift, _middle(known), _middle(values), "CUSTOM_VALIDATION")
    for name, counts in reference.words.items():
        if sum(counts.values()) and sum((others := new.words.get(name, {})).values()):
            shift = drift.of_words(counts, others)
            word = _most_shifted(counts, others)
            expected, found = _share(counts, word), _share(others, word)
            yield _Test(name, shift, expected, found, "COMPARATOR_L_INFTY_HIGH")
    if min(len(reference.features), len(new.features)) >= _LEAST_ROWS:
        shift = drift.of_rows(reference.features, new.features)
        expected, found = (f"{len(each.features):,} rows" for each in (reference, new))
        yield _Test(FEATURES, shift, expected, found, "CUSTOM_VALIDATION")


def _beyond(
    schema: Any, trained: Any, new: Gathering, drawn: Mapping[str, Mapping[str, int]]
) -> Iterator[_Test]:
    """Yields the tests of numbers outside the range of training, and of words it never had.

    Of an example with several words one is `drawn`.
    """
    known = {each.name: each for each in trained.features}
    for feature in schema.feature:
        if feature.name not in known:
            continue
        if feature.HasField("float_domain"):
            values = new.numbers.get(feature.name, np.zeros(0))
            count = known[feature.name].num_stats.common_stats.num_non_missing
            if len(values) and count:
                yield _outside(feature, values, count)
        else:
            # The empty word of an example without any is no word of the column.
            every = new.words.get(feature.name, {})
            words = {w: n for w, n in drawn.get(feature.name, {}).items() if w in every}
            if words:
                counts = _one_each(known[feature.name], trained.num_examples)
                yield _unseen(feature, words, counts)


def _outside(feature: Any, values: np.ndarray, known: int) -> _Test:
    """Returns the test of the numbers of a column outside the range of `known` of training."""
    domain = feature.float_domain
    # The proto holds float32.
    low = int((values < np.nextafter(np.float32(domain.min), -np.inf)).sum())
    high = int((values > np.nextafter(np.float32(domain.max), np.inf)).sum())
    shift = drift.of_exceedances((low, high), len(values), known)
    anomaly = "FLOAT_TYPE_SMALL_FLOAT" if low > high else "FLOAT_TYPE_BIG_FLOAT"
    expected = f"{domain.min:.4g} to {domain.max:.4g}"
    return _Test(feature.name, shift, expected, f"{low:,} below, {high:,} above", anomaly)


def _unseen(feature: Any, words: Mapping[str, int], known: Mapping[str, int]) -> _Test:
    """Returns the test of the examples with a word that training never had."""
    shift = drift.of_unseen(known, words)
    expected = _listed([*feature.string_domain.value])
    others = [f"{n:,} {word}" for word, n in words.items() if word not in known]
    found = _listed(others) or "no other"
    return _Test(feature.name, shift, expected, found, "ENUM_TYPE_UNEXPECTED_STRING_VALUES")


def _one_each(known: Any, examples: int) -> dict[str, int]:
    """Returns how many examples have each word, where of several words of an example one counts.

    Words of one example depend on each other, so all of them together would tell too much.
    """
    counts = {top.value: top.frequency for top in known.string_stats.top_values}
    part = min(1.0, examples / max(sum(counts.values()), 1))
    return {word: math.ceil(part * count) for word, count in counts.items()}


def _unreadable(count: int, problems: Sequence[str]) -> Iterator[Finding]:
    total = count + len(problems)
    share = len(problems) / max(total, 1)
    found = f"{len(problems):,} of {total:,}"
    named = _listed([*map(terminal.printable, problems)]) or "none"  # Ids may hold any bytes.
    sentence = f"{found} examples cannot be read: {named}."
    is_wrong = share > UNREADABLE
    anomaly = "LOW_SUPPORTED_IMAGE_FRACTION"
    expected = f"at most {UNREADABLE:.0%}"
    yield Finding("", "", expected, found, share, None, None, is_wrong, anomaly, sentence)


def _unknown(new: Gathering, reference: Sample, classes: Sequence[str]) -> Iterator[Finding]:
    """Yields, of every column of labels, the classes that the model does not know."""
    for name in reference.words:
        # Traits have a point in their name, and the model predicts only what it knows.
        counts = {} if "." in name or name == answers.NAME else new.words.get(name, {})
        if not counts:
            continue
        unknown = {word: n for word, n in counts.items() if word not in classes}
        found = _listed([f"{word} ({n:,})" for word, n in unknown.items()]) or "none other"
        share = sum(unknown.values()) / sum(counts.values())
        sentence = f"{name}: classes that the model does not know: {found}."
        anomaly = "ENUM_TYPE_UNEXPECTED_STRING_VALUES"
        expected = f"{len(classes):,} classes"
        yield Finding(
            name, "", expected, found, share, None, None, bool(unknown), anomaly, sentence
        )


def _finding(test: _Test, corrected: float) -> Finding:
    shift = test.shift
    is_large = shift.size is None or shift.test == drift.EXCEEDANCES or shift.size >= LEAST_SIZE
    size = "" if shift.size is None else f", size {shift.size:.3f}"
    return Finding(
        test.column,
        shift.test,
        test.expected,
        test.found,
        shift.size,
        shift.p,
        corrected,
        corrected < LEVEL and is_large,
        test.anomaly,
        f"{test.column}: {shift.test} finds {test.found}, expected {test.expected}{size}, "
        f"corrected p {corrected:.2g}.",
    )


def _middle(values: Any) -> str:
    return f"median {np.median(values):.4g}"


def _most_shifted(one: Mapping[str, int], other: Mapping[str, int]) -> str:
    totals = sum(one.values()), sum(other.values())
    return max(
        sorted({*one, *other}),
        key=lambda word: abs(one.get(word, 0) / totals[0] - other.get(word, 0) / totals[1]),
    )


def _share(counts: Mapping[str, int], word: str) -> str:
    return f"{counts.get(word, 0) / sum(counts.values()):.1%} {word or 'without'}"


def _listed(words: Sequence[str]) -> str:
    more = f" and {len(words) - _TOLD} more" if len(words) > _TOLD else ""
    return ", ".join(words[:_TOLD]) + more
