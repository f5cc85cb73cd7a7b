"""Graphs: a cut of a network into two that share layers and variables; the digest of a network.

Keras records on every symbolic tensor its producing call; a cut needs no more. So it works where
several tensors cross (Inception, NASNet) and where operations are not layers (ConvNeXt adds with
one).
"""

from __future__ import annotations

import collections
import hashlib
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from tlkeras.frameworks import keras

# Weights that a digest copies at a time.
_PIECE = 1 << 22


def cut(model: keras.Model, layers: Collection[keras.Layer]) -> tuple[keras.Model, keras.Model]:
    """Returns ``(prefix, suffix)``: the model up to the end of these layers, and the rest.

    ``suffix(prefix(x))`` is the model. One tensor crosses the cut, or a list of several. `layers`
    must include every layer that one of them depends on, except the inputs.
    """
    crossing = boundary(model, layers)
    return segment(model, model.input, crossing), segment(model, crossing, model.output)


def boundary(model: keras.Model, layers: Collection[keras.Layer]) -> Any:
    """Returns the tensors that cross from these layers to the rest: one, or a list in fixed order.

    An operation that is no layer lies before the boundary if one of `layers` depends on it, or if
    no more tensors cross with it than without. A model output from before the boundary crosses it.
    """
    calls = nodes(model)
    uses = collections.Counter(id(tensor) for tensor in model.outputs)
    uses.update(id(tensor) for node in calls for tensor in _distinct(node.input_tensors))
    before = _before(calls, layers)
    for node in calls:
        if id(node) in before:
            uses.subtract(id(tensor) for tensor in _distinct(node.input_tensors))
    for node in calls:
        if id(node) in before:
            continue
        if not isinstance(node.operation, keras.Layer) and before.issuperset(_parents(node)):
            inputs = list(_distinct(node.input_tensors))
            ended = [tensor for tensor in inputs if uses[id(tensor)] == 1]
            if len(ended) >= len(node.output_tensors):
                before.add(id(node))
                uses.subtract(map(id, inputs))
    outputs = [tensor for node in calls if id(node) in before for tensor in node.output_tensors]
    crossing = [tensor for tensor in outputs if uses[id(tensor)]]
    return crossing[0] if len(crossing) == 1 else crossing


def behind_weights(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Returns ``(prefix, suffix)``: the model up to its last layers with weights, and the rest.

    What crosses are the outputs of these layers, a list in fixed order. A scale in the unit of the
    data, of the layer `Normalization`, is no weight: it belongs to the rest.
    """
    calls = nodes(model)
    before: set[int] = set()
    for node in reversed(calls):
        if id(node) in before or _has_weights(node.operation) or node.is_input:
            before.add(id(node))
            before.update(_parents(node))
    used = {id(tensor) for tensor in model.outputs}
    for node in calls:
        if id(node) not in before:
            used.update(id(tensor) for tensor in node.input_tensors)
    ends = [t for node in calls if id(node) in before for t in node.output_tensors]
    crossing = [tensor for tensor in ends if id(tensor) in used]
    return segment(model, model.input, crossing), segment(model, crossing, model.output)


def inputs_beside(model: keras.Model, layer: keras.Layer) -> list[int]:
    """Returns the places of the inputs that a model's outputs need otherwise than for a layer."""
    needed = {id(tensor) for tensor in model.outputs}
    for node in reversed(nodes(model)):
        if node.operation is not layer and needed.intersection(map(id, node.output_tensors)):
            needed.update(id(tensor) for tensor in node.input_tensors)
    return [place for place, tensor in enumerate(model.inputs) if id(tensor) in needed]


def segment(model: keras.Model, inputs: Any, outputs: Any) -> keras.Model:
    """Returns the part of a model between symbolic tensors of it; the layers are shared.

    An input that is also an output passes through.
    """
    passed = {id(t) for t in keras.tree.flatten(inputs)} - {id(t) for t in model.inputs}
    # Keras loses an input among the outputs, unless an operation uses it.
    ends = keras.tree.map_structure(
        lambda t: keras.layers.Identity(autocast=False)(t) if id(t) in passed else t, outputs
    )
    origins = [(tensor, tensor._keras_history) for tensor in keras.tree.flatten(inputs)]
    made = keras.Model(inputs, ends)
    # Keras gives an input of the model that stands beside other tensors a second origin, which the
    # model itself does not know: it could no longer be written.
    for tensor, origin in origins:
        tensor._keras_history = origin
    return made


def nodes(model: keras.Model) -> list[Any]:
    """Returns the calls of layers and operations in a model, inputs first."""
    depths = model._nodes_by_depth
    return [node for depth in sorted(depths, reverse=True) for node in depths[depth]]


def _has_weights(operation: Any) -> bool:
    is_scale = isinstance(operation, keras.layers.Normalization)
    return isinstance(operation, keras.Layer) and bool(operation.weights) and not is_scale


def _parents(node: Any) -> Iterator[int]:
    return (id(parent) for parent in node.parent_nodes)


def _distinct(tensors: Sequence[Any]) -> Collection[Any]:
    return {id(tensor): tensor for tensor in tensors}.values()


def _before(nodes: Sequence[Any], layers: Collection[keras.Layer]) -> set[int]:
    """Returns the ids of the nodes of these layers and of their dependencies."""
    chosen = {id(layer) for layer in layers}
    before: set[int] = set()
    for node in reversed(nodes):
        operation = node.operation
        if id(operation) in chosen or node.is_input:
            before.add(id(node))
        elif id(node) in before and isinstance(operation, keras.Layer):
            raise ValueError(
                f"A model cannot be cut after these {len(chosen)} layers: one of them depends on "
                f"{operation.name!r}, which is not among them."
            )
        if id(node) in before:
            before.update(_parents(node))
    return before


def digest(network: keras.Model) -> str:
    """Returns the digest of the layers, their connections and their weights.

    It ignores the state of dropout's generators, Keras's numbers in layer names, ``trainable`` and
    the momentum of norms: a frozen prefix always runs in inference mode.
    """
    names = {each.name: f"layer {place}" for place, each in enumerate(network.operations)}

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            left_out = ("shared_object_id", "trainable", "momentum")
            return {key: plain(item) for key, item in value.items() if key not in left_out}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return names.get(value, value) if isinstance(value, str) else value

    config = {key: value for key, value in network.get_config().items() if key != "name"}
    sha256 = hashlib.sha256(json.dumps(plain(config), default=str).encode())
    for variable in network.variables:
        if variable.name != "seed_generator_state":
            for piece in _pieces(variable):
                sha256.update(piece.tobytes())
    return sha256.hexdigest()


def _pieces(variable: Any) -> Iterator[Any]:
    """Yields the values of a variable in order; a copy of a whole table would take much memory."""
    if math.prod(variable.shape) <= _PIECE:
        yield keras.ops.convert_to_numpy(variable.value)
        return
    values: Any = keras.ops.reshape(variable.value, [-1])
    for start in range(0, values.shape[0], _PIECE):
        yield keras.ops.convert_to_numpy(values[start : start + _PIECE])
