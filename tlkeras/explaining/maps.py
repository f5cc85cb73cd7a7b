"""Maps: the places of a picture that an output rests on.

A place of a map counts by gradient times activation, summed over the channels (HiResCAM, Draelos
and Carin 2020, https://arxiv.org/abs/2011.08891). Where the head is linear on the mean of the map,
this is the class activation map (Zhou et al. 2016, https://arxiv.org/abs/1512.04150) and, but for
what is below 0, Grad-CAM (Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391): the places add
up to the logit without its bias. Grad-CAM's mean of the gradients over all places would lose the
place of an output that has one, such as a box. ``benchmarks/explain.py`` compares them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tlkeras.explaining import chosen
from tlkeras.explaining.chosen import Chosen
from tlkeras.frameworks import keras, tf
from tlkeras.model import graph, pyramid
from tlkeras.model.transfer_model import TransferModel

LEAST = 7
"""Rows and columns of a map that shows places: on the last, 4 x 4, of 128 pixels, heat misses."""


class Places:
    """The way from the inputs of a model to its maps, and on to what is explained."""

    def __init__(self, model: TransferModel) -> None:
        """Cuts a model that `fit` says yes to."""
        ends = _ends(model)
        self._model = model
        self._before = keras.Model(model.body.input, ends)
        self._rest = graph.segment(model.body, ends, model.body.output)

    @staticmethod
    def fit(model: TransferModel) -> bool:
        """Returns whether a model's network makes a map of its input."""
        return bool(_ends(model))

    def __call__(self, inputs: Any, most: int = 1) -> tuple[np.ndarray, Chosen]:
        """Returns heat, float32 [b, k, rows, columns], and what it is of, `most` numbers at most.

        Heat has the size of the finest map; that of a coarser one is enlarged, its sum the same.
        """
        model = self._model
        maps = keras.tree.flatten(self._before(inputs, training=False))
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(maps)
            outputs = model.head(self._rest(maps, training=False), training=False)
            found = chosen.of(model, outputs, most)
            each = tf.unstack(found.values, axis=1)
        heats = [_joined(maps, tape.gradient(one, maps)) for one in each]
        return np.stack(heats, axis=1), found


def _ends(model: TransferModel) -> list[Any]:
    """Returns the maps that the head reads, or else one of the body, if there is any.

    It is the last of at least `LEAST` rows and columns, or the largest.
    """
    read = keras.tree.flatten(model.body.output)
    if all(len(tensor.shape) == 4 for tensor in read):
        return read
    by_rows = sorted(pyramid.pyramid(model.body).values(), key=lambda x: min(x.shape[1:3]))
    fine = [tensor for tensor in by_rows if min(tensor.shape[1:3]) >= LEAST]
    return (fine or by_rows[::-1])[:1]


def _joined(maps: list[Any], gradients: list[Any]) -> np.ndarray:
    """Returns the heat [b, rows, columns] of maps of one or several sizes."""
    rows, columns = max(tuple(each.shape[1:3]) for each in maps)
    total = np.zeros([len(maps[0]), rows, columns], np.float32)
    for each, gradient in zip(maps, gradients, strict=True):
        if gradient is None:
            continue  # The number does not depend on this map.
        heat = tf.reduce_sum(each * gradient, axis=-1, keepdims=True)
        share = heat.shape[1] * heat.shape[2] / (rows * columns)
        total += share * tf.image.resize(heat, [rows, columns])[..., 0].numpy()
    return total
