"""TFDS: data sets that TensorFlow Datasets has prepared on this disk."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tlkeras import spec
from tlkeras.data import splits
from tlkeras.kinds.image import Image
from tlkeras.kinds.label import Label
from tlkeras.source import Source


class TFDS(Source, name="tfds"):
    """A prepared TensorFlow Datasets data set of labelled pictures, in its own splits.

    Ids are split and number, the same for a version of the data set. It downloads nothing.
    """

    name: str  # pyright: ignore[reportIncompatibleVariableOverride]
    """The argument of ``tfds.builder``: a name, or one with configuration and version."""
    data_dir: Path | None = None
    """The folder of the prepared data; the default of TensorFlow Datasets if None."""
    image: str = "image"
    label: str = "label"

    def title(self):
        return self.name.partition("/")[0].partition(":")[0]

    def features(self):
        return {"image": Image(), "label": Label()}

    def classes(self):
        return tuple(self._builder().info.features[self.label].names)

    def examples(self):
        return self.between(0, sys.maxsize)

    def between(self, start, stop):
        for identity, row in self._rows(start, stop, self.image, self.label):
            yield identity, {"image": row[self.image], "label": int(row[self.label])}

    def labels(self):
        for identity, row in self._rows(0, sys.maxsize, self.label):
            yield identity, [int(row[self.label])]

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
        return [f"The splits {spec.listed(own)} of {self.name} are left out."] if own else []

    def _rows(self, start: int, stop: int, *keys: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields id and the features of `keys` of examples by number, pictures as encoded bytes."""
        import tensorflow_datasets as tfds

        encoded: Any = {self.image: tfds.decode.SkipDecoding()} if self.image in keys else None
        builder = self._builder()
        before = 0
        for split in filter(splits.named, builder.info.splits):
            count = builder.info.splits[split].num_examples
            first, last = (min(max(number - before, 0), count) for number in (start, stop))
            before += count
            if first == last:
                continue
            rows = builder.as_dataset(
                split=tfds.core.ReadInstruction(split, from_=first, to=last, unit="abs"),
                decoders=tfds.decode.PartialDecoding(dict.fromkeys(keys, True), decoders=encoded),
                # One shard after the other: the order of the files.
                read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
                shuffle_files=False,
            )
            for number, row in enumerate(tfds.as_numpy(rows), start=first):
                yield f"{split}/{number:07d}", row

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
        wanted = {self.image: tfds.features.Image, self.label: tfds.features.ClassLabel}
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
