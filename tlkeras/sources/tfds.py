"""TFDS: data sets that TensorFlow Datasets has prepared on this disk."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import spec
from tlkeras.data import splits
from tlkeras.kind import Kind
from tlkeras.kinds.image import Image
from tlkeras.kinds.label import Label
from tlkeras.kinds.text import Text
from tlkeras.source import Source

_KINDS: dict[str, Kind] = {"image": Image(), "text": Text(), "pair": Text()}


def _decoded(value: bytes) -> str:
    """Returns a text; bytes that are not UTF-8 stay in it, for its kind to tell."""
    return value.decode("utf-8", "surrogateescape")


_READ: dict[str, Callable[[bytes], Any]] = {"image": bytes, "text": _decoded, "pair": _decoded}


_NONE = -1  # The label of an example without one, by the habit of TensorFlow Datasets.


class TFDS(Source, name="tfds"):
    """A prepared TensorFlow Datasets data set of labelled pictures or texts, in its own splits.

    Ids are split and number, the same for a version of the data set. Examples whose label is -1,
    which is none, are left out, as all of a contest's test split are. It downloads nothing.
    """

    name: str  # pyright: ignore[reportIncompatibleVariableOverride]
    """The argument of ``tfds.builder``: a name, or one with configuration and version."""
    data_dir: Path | None = None
    """The folder of the prepared data; the default of TensorFlow Datasets if None."""
    image: str = ""
    """The feature with the pictures; ``image`` if neither it nor `text` is named and it exists."""
    text: str = ""
    """The feature with the texts; ``text`` if it is empty."""
    pair: str = ""
    """The feature with the second texts, where two make an example."""
    label: str = "label"

    def validate(self):
        is_one = not (self.image and (self.text or self.pair))
        self.require(is_one, "image", "no feature beside that of texts")

    def title(self):
        return self.name.partition("/")[0].partition(":")[0]

    def features(self):
        kinds = {key: _KINDS[key] for key in self._inputs(self._builder())}
        return {**kinds, "label": Label()}

    def classes(self):
        return tuple(self._builder().info.features[self.label].names)

    def examples(self):
        return self.between(0, sys.maxsize)

    def between(self, start, stop):
        builder, before = self._builder(), 0
        inputs = self._inputs(builder)
        for split, labels in _labels(self, self.fingerprint()).items():
            labelled = _labelled(labels)
            numbers = labelled[max(start - before, 0) : max(stop - before, 0)]
            before += len(labelled)
            first, last = (int(numbers[0]), int(numbers[-1]) + 1) if len(numbers) else (0, 0)
            for number, row in self._rows(builder, split, first, last, *inputs.values()):
                if labels[number] != _NONE:
                    values = {key: _READ[key](row[name]) for key, name in inputs.items()}
                    yield _identity(split, number), {**values, "label": int(labels[number])}

    def labels(self):
        for split, labels in _labels(self, self.fingerprint()).items():
            for number in _labelled(labels):
                yield _identity(split, number), [int(labels[number])]

    def fingerprint(self):
        builder = self._builder()
        digest = hashlib.sha256(builder.info.full_name.encode())
        for file in sorted(builder.data_path.iterdir()):
            status = file.stat()
            digest.update(f"{file.name}\0{status.length}\0{status.mtime}\n".encode())
        return digest.hexdigest()

    def split(self, identity):
        return splits.named(identity.split("/")[0])

    def remarks(self):
        own = [name for name in self._builder().info.splits if not splits.named(name)]
        told = [f"The splits {spec.listed(own)} of {self.name} are left out."] if own else []
        for split, labels in _labels(self, self.fingerprint()).items():
            if count := np.count_nonzero(labels == _NONE):
                told.append(
                    f"{count:,} of {len(labels):,} examples of the split {split} of {self.name} "
                    "have the label -1, which is none, and are left out."
                )
        return told

    def _rows(
        self, builder: Any, split: str, first: int, last: int, *keys: str
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields the number and the features of all examples of a split between two numbers."""
        import tensorflow_datasets as tfds

        if first == last:
            return
        image = self._inputs(builder).get("image")
        encoded: Any = {image: tfds.decode.SkipDecoding()} if image in keys else None
        rows = builder.as_dataset(
            split=tfds.core.ReadInstruction(split, from_=first, to=last, unit="abs"),
            decoders=tfds.decode.PartialDecoding(dict.fromkeys(keys, True), decoders=encoded),
            # One shard after the other: the order of the files.
            read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
            shuffle_files=False,
        )
        yield from enumerate(tfds.as_numpy(rows), start=first)

    def _inputs(self, builder: Any) -> dict[str, str]:
        """Returns the feature of every input by key: those named, or those that exist."""
        there = builder.info.features
        is_named = bool(self.text or self.pair)
        is_found = not self.image and "image" not in there and "text" in there
        if not (is_named or is_found):
            return {"image": self.image or "image"}
        return {"text": self.text or "text", **({"pair": self.pair} if self.pair else {})}

    def _builder(self) -> Any:
        """Returns the builder.

        Raises:
            ValueError: Its data are not prepared, or have other features or splits.
        """
        import tensorflow_datasets as tfds

        try:
            builder = tfds.builder(self.name, data_dir=self.data_dir)
        except tfds.core.DatasetNotFoundError:
            known = spec.nearest(self.name, tfds.list_builders())
            raise ValueError(f"TensorFlow Datasets has no {self.name!r}; {known}") from None
        if not builder.is_prepared():
            option = f" --data_dir={self.data_dir}" if self.data_dir else ""
            raise ValueError(
                f"{self.name} is not prepared in {builder.data_path}; "
                f"prepare it by: tfds build {self.name}{option}"
            )
        connectors: Any = builder.info.features
        features = dict(connectors.items())
        forms = {"image": tfds.features.Image, "text": tfds.features.Text}
        forms["pair"] = forms["text"]
        wanted = {name: forms[key] for key, name in self._inputs(builder).items()}
        wanted[self.label] = tfds.features.ClassLabel
        for key, kind in wanted.items():
            if not isinstance(features.get(key), kind):
                there = ", ".join(f"{key} ({type(x).__name__})" for key, x in features.items())
                raise ValueError(
                    f"{self.name} has no {kind.__name__} called {key!r}; there are {there}."
                )
        if not any(map(splits.named, builder.info.splits)):
            raise ValueError(
                f"{self.name} has no split called train, validation or test; "
                f"there are {spec.listed([*builder.info.splits])}."
            )
        return builder


@functools.lru_cache(maxsize=2)
def _labels(source: TFDS, stamped: str) -> dict[str, np.ndarray]:
    """Returns the labels of all examples of every known split, found again only after a change."""
    builder = source._builder()
    counts = {each: builder.info.splits[each].num_examples for each in builder.info.splits}
    rows = {
        split: source._rows(builder, split, 0, counts[split], source.label)
        for split in filter(splits.named, counts)
    }
    return {
        split: np.fromiter((row[source.label] for _, row in found), np.int64)
        for split, found in rows.items()
    }


def _labelled(labels: np.ndarray) -> np.ndarray:
    """Returns the numbers of the examples that have a label."""
    return np.flatnonzero(labels != _NONE)


def _identity(split: str, number: int) -> str:
    return f"{split}/{number:07d}"
