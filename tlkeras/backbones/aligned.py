"""Aligned: the tower of pictures of a fitted pair, which knows the words of the other tower."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import files
from tlkeras.backbone import Backbone, grouped
from tlkeras.frameworks import keras
from tlkeras.kinds.image import Image
from tlkeras.model import one_tower
from tlkeras.model.towers import PICTURE, TEXT, name_calls, named
from tlkeras.model.transfer_model import TransferModel
from tlkeras.texts import inputs


class Aligned(Backbone, name="aligned"):
    """The tower of pictures of a pair that `align` has fitted, with its projection.

    ``pooled`` features are rows of length 1, and `words` gives texts in their space. `model` is the
    folder of the fitted model, or of a version that was pushed with ``keras`` among its exports.
    Blocks are those of the tower in the pair, ``picture_stem`` first.
    """

    block_pattern = r"^(picture_stem)"

    model: Path

    def build(self):
        tower = one_tower.one_tower(one_tower.pair(self.model), PICTURE)
        body: Any = tower.body
        head: Any = tower.head
        # Called anew: a network cut out of another one cannot be written to a file.
        given = keras.Input(body.input.shape[1:], name="image")
        row = head.call(body.call(given))
        made: Any = keras.Model(given, {"pooled": row}, name=self.name)
        name_calls(made)
        return made

    def raw(self):
        return {"image": Image()}

    def preprocess(self, example):
        return self._towers[PICTURE].preprocess(example)

    def words(self, texts: Sequence[str]) -> np.ndarray:
        tower = self._reader
        return inputs.in_parts(
            texts, lambda batch: tower.served(tower.backbone.preprocess({"text": batch}))[TEXT]
        )

    def blocks(self, network):
        pattern = self._towers[PICTURE].block_pattern
        return grouped(pattern, network.layers, named(PICTURE, ""))

    def fingerprint(self):
        described = one_tower.described(self.model)  # It says what a folder without a pair lacks.
        weights = files.known_sha256(self.model / one_tower.WEIGHTS)
        return " ".join([weights, *(part.full() for part in described), self.preparation()])

    def specs(self):
        yield self
        yield from one_tower.described(self.model)[0].specs()

    def preparation(self):
        return one_tower.described(self.model)[0].preparation()

    @functools.cached_property
    def _towers(self) -> Any:
        return one_tower.described(self.model)[0].towers()

    @property
    def _reader(self) -> TransferModel:
        """The tower of texts, read once while its file is the same."""
        weights = files.known_sha256(self.model / one_tower.WEIGHTS)
        if weights not in self._readers:
            self._readers.clear()
            self._readers[weights] = one_tower.one_tower(one_tower.pair(self.model), TEXT)
        return self._readers[weights]

    @functools.cached_property
    def _readers(self) -> dict[str, TransferModel]:
        return {}
