"""A store whose steps after the examples are toys: each holds bytes and ids of what it read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import store
from pipeline.config import Config
from pipeline.step import Place, Step
from pipeline.steps import example_gen, pusher, schema_gen, statistics_gen
from tlkeras import files
from tlkeras.data import records
from tlkeras.data.records import Records
from tlkeras.data.splits import Split
from tlkeras.doctor import samples
from tlkeras.exporter import Details
from tlkeras.measures import measures
from tlkeras.measures.measures import Example, Gallery, Measures, Scalar
from tlkeras.sources.folder import Folder
from tlkeras.training import features as cached

SPLIT = Split(validation=20, test=20)


def rows(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yields the split, the id and the record of every example."""
    for split in records.info(folder).counts:
        for record in Records(folder, split).between(0, 10_000):
            yield split, records.values(record, {})[0], record


def held(folder: Path, *splits: str) -> bytes:
    """Returns all records of some splits."""
    return b"".join(record for split, _, record in rows(folder) if split in splits)


@Step
def model(out: Path, *, examples: Path, seed: int, features: Place) -> None:
    """Learns the training and the validation split by heart, and caches them as features."""
    (out / "weights").write_bytes(held(examples, "train", "validation"))
    for split in ("train", "validation", "test"):
        shard = features / cache_name(examples, split) / "00000"
        shard.mkdir(parents=True, exist_ok=True)
        np.save(shard / "0.npy", np.frombuffer(held(examples, split), np.uint8))


@Step
def exports(out: Path, *, model: Path) -> None:
    """Ships the weights."""
    (out / "saved_model").mkdir()
    (out / "saved_model" / "variables").write_bytes((model / "weights").read_bytes()[:8])
    (out / "labels.txt").write_text("blue\ngreen\nred\n")


@Step
def evaluation(out: Path, *, model: Path, examples: Path, baseline: str) -> None:
    """Measures the test split, shows its first example, and keeps rows of all."""
    found = {"baseline": None, "baseline_is_last": baseline == "last"}
    files.write_json(out / "blessing.json", found)
    gallery = Gallery("Mistakes", [Example(0, "red")])
    scalars = {"accuracy": Scalar(1.0)}
    measures.write(Measures("accuracy", 14, scalars, [gallery], split="test"), out)
    (out / "served").mkdir()
    for place in ("served/all.npy", samples.COLUMNS, samples.FEATURES):
        (out / place).write_bytes(held(examples, "test"))


@Step
def infra_blessing(out: Path, *, exports: Path, examples: Path) -> None:
    """Finds every export fit."""
    files.write_json(out / "infra.json", [])


@Step
def card(out: Path, *, examples: Path, evaluation: Path, name: str, details: Details) -> None:
    """Shows the test split."""
    shown = [f"{identity} {record!r}" for split, identity, record in rows(examples)]
    (out / "report.html").write_text(f"{name} {details} {shown}")


STEPS = (
    example_gen.examples,
    statistics_gen.statistics,
    schema_gen.schema,
    model,
    exports,
    evaluation,
    infra_blessing,
    card,
    pusher.pushed,
)


def cache_name(examples: Path, split: str) -> str:
    """Returns the name that the features of a split have in the cache."""
    from tlkeras.data.batches import Data

    digest = Data.digest(_Folder(examples), split)  # pyright: ignore[reportArgumentType]
    return cached.entry(split, "head", digest, "0" * 64)


class _Folder:
    """What `Data.digest` reads of its `Data`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder


def config(pictures: Path, place: Path, **changes: Any) -> Config:
    """Returns the options of a run in a place of its own."""
    return Config(
        source=Folder(pictures),
        split=SPLIT,
        name="colours",
        baseline="none",
        root=place / "runs",
        saved_models=place / "saved_models",
    ).replace(**changes)


def run(options: Config) -> dict[str, Path]:
    """Makes all products, and pushes."""
    return store.run(STEPS, options, store.Store(options.root), say=lambda _: None)
