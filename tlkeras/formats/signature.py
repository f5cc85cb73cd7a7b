"""Signature: the inputs of an exported network by name, and batches that are put in by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tlkeras.frameworks import tf

if TYPE_CHECKING:
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


def _dtype(dtype: str) -> Any:
    found = tf.as_dtype(dtype)
    return tf.float32 if found.is_floating else found
