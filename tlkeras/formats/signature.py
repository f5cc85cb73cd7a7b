"""Signature: the inputs of an exported network by name, and batches that are put in by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkeras.frameworks import tf
from tlkeras.images.pixels import squash

if TYPE_CHECKING:
    from tlkeras.backbone import Backbone
    from tlkeras.model.transfer_model import TransferModel


def specs(model: TransferModel, batch: int | None = None) -> dict[str, Any]:
    """Returns the `tf.TensorSpec` of every input by name; numbers with a fraction are float32."""
    return {
        name: tf.TensorSpec([batch, *tensor.shape[1:]], _dtype(tensor.dtype), name=name)
        for name, tensor in model.inputs.items()
    }


def row(model: TransferModel) -> Any:
    """Returns the `tf.TensorSpec`, or a dict of them, of what `preprocess` gives of one example."""
    found = {name: tf.TensorSpec(each.shape[1:], each.dtype) for name, each in specs(model).items()}
    return unnamed(found, model.full)


def named(inputs: Any, names: Iterable[str]) -> dict[str, Any]:
    """Returns a batch of inputs by name; an array, or one tensor, belongs to the only name.

    Raises:
        ValueError: The batch lacks an input or has another one.
    """
    expected = list(names)
    if not isinstance(inputs, Mapping):
        if len(expected) > 1:
            raise ValueError(f"A batch is one array, expected a dict of {', '.join(expected)}.")
        return {expected[0]: inputs}
    if set(inputs) != set(expected):
        raise ValueError(
            f"A batch has the inputs {', '.join(inputs)}, expected {', '.join(expected)}."
        )
    return {name: inputs[name] for name in expected}


def unnamed(inputs: Mapping[str, Any], network: Any) -> Any:
    """Returns named inputs as a network takes them: a dict, or the only one."""
    if isinstance(network.input, Mapping):
        return dict(inputs)
    (only,) = inputs.values()
    return only


def squashes(backbone: Backbone) -> bool:
    """Returns whether a backbone prepares all pictures that it reads as `pixels.squash` does.

    A probe tells so. Of one that reads more than a picture and has no towers it cannot tell.
    """
    if towers := backbone.towers():
        return all(map(squashes, towers.values()))
    meanings = [kind.meaning for kind in backbone.raw().values()]
    if meanings != ["image"]:
        return "image" not in meanings
    size = len(_probed(backbone, 1, 1)[1])
    # Larger one way and smaller the other, so that every other way of resizing differs.
    probe, prepared = _probed(backbone, 3 * size, size // 2 + 1)
    expected = squash(probe, size)
    return prepared.shape == expected.shape and np.allclose(prepared, expected, atol=1e-2)


def _probed(backbone: Backbone, height: int, width: int) -> tuple[Any, Any]:
    """Returns a picture of noise and what a backbone that reads pictures alone makes of it."""
    (key,) = backbone.raw()
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    probe = tf.constant(noise)
    return probe, tf.nest.flatten(backbone.preprocess({key: probe}))[0]


def _dtype(dtype: str) -> Any:
    found = tf.as_dtype(dtype)
    return tf.float32 if found.is_floating else found
