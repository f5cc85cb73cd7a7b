"""Tail: what comes behind the last layers with weights; integers may be too coarse for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from tlkeras.frameworks import keras, tf
from tlkeras.model import graph, precision

if TYPE_CHECKING:
    from tlkeras.model.transfer_model import TransferModel


class Halves(NamedTuple):
    """A model in float32, cut in two.

    Attributes:
        network: From a batch of inputs to what crosses the cut, by name.
        tail: From that to the served outputs.
        crossing: The `tf.TensorSpec` of what crosses, for one example, by name.
        models: The Keras models that hold the weights of both.
    """

    network: Callable[[Any], dict[str, Any]]
    tail: Callable[[Mapping[str, Any]], dict[str, Any]]
    crossing: dict[str, Any]
    models: tuple[keras.Model, ...]


def halves(model: TransferModel) -> Halves:
    """Returns a model cut behind the last layers with weights of its head."""
    body, head = precision.float32(model.body), precision.float32(model.head)
    before, after = graph.behind_weights(head)
    ends = {f"crossing_{place}": tensor for place, tensor in enumerate(before.outputs)}
    crossing = {
        name: tf.TensorSpec([1, *tensor.shape[1:]], tensor.dtype, name=name)
        for name, tensor in ends.items()
    }

    def network(inputs: Any) -> dict[str, Any]:
        ends = before(body(inputs, training=False), training=False)
        return dict(zip(crossing, keras.tree.flatten(ends), strict=True))

    def tail(ends: Mapping[str, Any]) -> dict[str, Any]:
        return model.task.served(after([ends[name] for name in crossing], training=False))

    return Halves(network, tail, crossing, (body, before, after))
