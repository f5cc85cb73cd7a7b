"""False alarms and power of ``tlkeras validate``: which tests notice which change, at which size.

    python benchmarks/drift.py --model=saved_models/flowers/1 --data=FOLDER --other=FOLDER
    python benchmarks/drift.py --model=saved_models/books/1 --data=FILE.tsv --other=FILE.tsv

`--data` has labels and the distribution of the training data, `--other` another one; no example of
either may have been in training. Every example runs through the model once. For each seed, a random
half of `--data` is the reference, at most 1,000 examples; the batch is drawn from the other half,
or from examples that are changed. Pictures are made brighter by a fifth, and written as JPEG of
quality 10; of the mix the largest class has only a fifth of its examples. A quarter of the seeds is
for changed data.

Prints two Markdown tables. The first has the share of the draws that are found wrong, and the
columns that are found wrong in at least half of them. The second compares tests of features alone
at a level of 5 %: the maximum mean discrepancy, a classifier (logistic regression on one half, the
ranks of its scores on the other), and the smallest p-value of Kolmogorov and Smirnov over all
channels, corrected by Bonferroni.
"""

from __future__ import annotations

import argparse
import collections
import io
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline import batch, bulk_inferrer
from pipeline.batch import Example
from tlkeras import spec, terminal
from tlkeras.doctor import drift, judging, samples, schemas, statistics
from tlkeras.doctor.samples import Gathering, Seen
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.images import decoding
from tlkeras.source import Source

Row = tuple[str, Seen, np.ndarray]
"""The id of an example, what is seen of it, and its features, [channels]."""

_FEWER = 5  # A class of the mix has so many times fewer examples.


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--other", nargs="*", default=[])
    parser.add_argument("--sizes", type=int, nargs="*", default=[50, 200, 1000])
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    job = bulk_inferrer.prepared(options.model, SavedModel(), 32)
    with tempfile.TemporaryDirectory() as folder, decoding.quiet():
        pools = dict(_pools(job, options, Path(folder)))
        version = Path(folder) / "version"
        version.mkdir()
        for name in (schemas.FILE, statistics.FILE):
            shutil.copy(options.model / name, version)
        _judge(job, options, pools, version)
    _compare(options, pools)


def _pools(
    job: bulk_inferrer.Predicting, options: Any, folder: Path
) -> Iterator[tuple[str, list[Row]]]:
    source = spec.parse(options.data, Source)
    same = [*_rows(job, source)]
    yield "the same", same
    yield "another mix", _mixed(same)
    if "image" in job.backbone.raw():
        for name, change in _CHANGES.items():
            for identity, values in source.examples():
                (folder / name / identity).parent.mkdir(parents=True, exist_ok=True)
                (folder / name / identity).write_bytes(change(values["image"]))
            yield name, [*_rows(job, spec.parse(f"folder(path={str(folder / name)!r})", Source))]
    for other in options.other:
        yield Path(other).stem, [*_rows(job, spec.parse(other, Source))]


def _rows(job: bulk_inferrer.Predicting, source: Source) -> Iterator[Row]:
    new = batch.of_source(source, job.backbone)
    (count,) = new.counts().values()
    some: list[Example] = []
    for each in terminal.shown(new.between(job.backbone, "", 0, count), count, "predicting"):
        if not each.problem:
            some.append(each)
        if len(some) == job.batch_size:
            yield from _answered(job, some)
            some.clear()
    if some:
        yield from _answered(job, some)


def _answered(job: bulk_inferrer.Predicting, some: list[Example]) -> Iterator[Row]:
    taken = _Taken()
    job.answers(some, taken)
    yield from taken.rows


class _Taken(Gathering):
    """Takes examples one by one."""

    def add(self, ids, seen, features=None):
        self.rows = [*zip(ids, seen, features if features is not None else [], strict=True)]


def _mixed(rows: list[Row]) -> list[Row]:
    """Returns the rows without four fifths of the largest class."""
    (column,) = (name for name in rows[0][1][1] if name == "label")
    words = [row[1][1][column][0] for row in rows]
    ((largest, _),) = collections.Counter(words).most_common(1)
    place = [i for i, word in enumerate(words) if word == largest]
    gone = {i for rank, i in enumerate(place) if rank % _FEWER}
    return [row for i, row in enumerate(rows) if i not in gone]


def _brighter(encoded: bytes) -> bytes:
    pixels = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"), np.float32)
    return _jpeg(Image.fromarray(np.clip(1.2 * pixels, 0, 255).astype(np.uint8)), 95)


def _coarse(encoded: bytes) -> bytes:
    return _jpeg(Image.open(io.BytesIO(encoded)).convert("RGB"), 10)


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


_CHANGES: Mapping[str, Callable[[bytes], bytes]] = {
    "brighter by 20 %": _brighter,
    "JPEG quality 10": _coarse,
}


def _draws(
    options: Any, pools: Mapping[str, list[Row]]
) -> Iterator[tuple[str, int, Iterator[tuple[list[Row], list[Row]]]]]:
    """Yields the name of a pool, a size, and pairs of a reference and a batch of that size."""
    same = pools["the same"]
    half = min(len(same) // 2, samples.ROWS)

    def pairs(rows: list[Row], size: int, seeds: int) -> Iterator[tuple[list[Row], list[Row]]]:
        for seed in range(seeds):
            random = np.random.default_rng(seed)
            reference = [same[i] for i in random.permutation(len(same))[:half]]
            known = {identity for identity, *_ in reference}
            others = [row for row in rows if row[0] not in known]
            yield reference, [others[i] for i in random.permutation(len(others))[:size]]

    for name, rows in pools.items():
        seeds = options.seeds if rows is same else -(-options.seeds // 4)
        for size in options.sizes:
            if size <= len(same) - half and size <= len(rows) // 2:
                yield name, size, pairs(rows, size, seeds)


def _gathered(rows: list[Row]) -> Gathering:
    made = Gathering()
    ids, seen, features = zip(*rows, strict=True)
    made.add(ids, seen, np.stack(features))
    return made


def _judge(
    job: bulk_inferrer.Predicting, options: Any, pools: Mapping[str, list[Row]], version: Path
) -> None:
    print("\n| data | n | found wrong | columns |\n|---|---|---|---|")
    for name, size, pairs in _draws(options, pools):
        columns, wrong, count = collections.Counter(), 0, 0
        for reference, drawn in pairs:
            _gathered(reference).sample().write(version)
            found = judging.judged(version, _gathered(drawn), [], job.classes)
            bad = {each.column for each in found if each.is_wrong}
            columns.update(bad)
            wrong, count = wrong + bool(bad), count + 1
        told = ", ".join(sorted(key for key, times in columns.items() if 2 * times >= count))
        print(f"| {name} | {size} | {wrong} of {count} | {told} |", flush=True)


def _compare(options: Any, pools: Mapping[str, list[Row]]) -> None:
    print(f"\n| data | n | {' | '.join(_TESTS)} |\n|---|---|{'---|' * len(_TESTS)}")
    for name, size, pairs in _draws(options, pools):
        alarms, count = dict.fromkeys(_TESTS, 0), 0
        for both in pairs:
            known, new = (samples.projected(np.stack([row[2] for row in each])) for each in both)
            for test, run in _TESTS.items():
                alarms[test] += run(known, new) < drift.LEVEL
            count += 1
        shares = " | ".join(f"{times} of {count}" for times in alarms.values())
        print(f"| {name} | {size} | {shares} |", flush=True)


def _by_classifier(known: np.ndarray, new: np.ndarray) -> float:
    """Returns the p-value of the ranks of held-out scores; both samples are equally large."""
    count, random = min(len(known), len(new)), np.random.default_rng(0)
    rows = np.concatenate([random.permutation(each)[:count] for each in (known, new)])
    labels = np.repeat([0, 1], count)
    order = random.permutation(2 * count)
    fitted, held = order[:count], order[count:]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    with warnings.catch_warnings(action="ignore"):
        model.fit(rows[fitted].astype(np.float32), labels[fitted])
    scores = model.decision_function(rows[held].astype(np.float32))
    sides = (scores[labels[held] == side] for side in (1, 0))
    return float(stats.mannwhitneyu(*sides, alternative="greater").pvalue)


def _by_channels(known: np.ndarray, new: np.ndarray) -> float:
    one, other = known.astype(np.float64), new.astype(np.float64)
    test: Any = stats.ks_2samp  # Its stubs know no axis.
    return float(test(one, other, axis=0, method="asymp").pvalue.min() * known.shape[1])


_TESTS: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "discrepancy": lambda known, new: drift.of_rows(known, new).p,
    "classifier": _by_classifier,
    "channels": _by_channels,
}

if __name__ == "__main__":
    main()
