"""Joined: two LiteRT files as one, the second working on what the first gives.

So a network computes in integers and what needs float comes after it in the same file.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np

from tlkeras.formats import litert


def joined(first: bytes, second: bytes) -> bytes:
    """Returns a file with the inputs of the first and the outputs of the second.

    The second takes all outputs of the first, by name and of the same types and shapes.

    Raises:
        ValueError: It takes something else, or a file has several graphs.
    """
    model, added = litert.parsed(first), litert.parsed(second)
    for each in (model, added):
        if len(each.subgraphs) != 1:
            raise ValueError(f"A file has {len(each.subgraphs)} graphs, expected 1 to join it.")
    graph, rest = model.subgraphs[0], added.subgraphs[0]
    given, taken = (
        {entry.name: entry.tensorIndex for entry in entries}
        for entries in (model.signatureDefs[0].outputs, added.signatureDefs[0].inputs)
    )
    forms = [
        {name: _form(tensors[place]) for name, place in places.items()}
        for tensors, places in ((graph.tensors, given), (rest.tensors, taken))
    ]
    if forms[0] != forms[1]:
        raise ValueError(f"A file gives {forms[0]} and the other takes {forms[1]}.")

    # Where the tensors, buffers and codes of the second come to lie. Buffer 0 is empty in all.
    places = {-1: -1, **{taken[name]: given[name] for name in taken}}
    for place, tensor in enumerate(rest.tensors):
        if place not in places:
            places[place] = len(graph.tensors)
            graph.tensors.append(tensor)
            if tensor.buffer:
                tensor.buffer += len(model.buffers) - 1
    model.buffers += added.buffers[1:]
    for operation in rest.operators:
        operation.opcodeIndex += len(model.operatorCodes)
        operation.inputs = _moved(operation.inputs, places)
        operation.outputs = _moved(operation.outputs, places)
    model.operatorCodes += added.operatorCodes
    graph.operators += rest.operators
    graph.outputs = _moved(rest.outputs, places)
    ends = copy.copy(added.signatureDefs[0].outputs)
    for entry in ends:
        entry.tensorIndex = places[entry.tensorIndex]
    model.signatureDefs[0].outputs = ends
    litert.state_runtime(model, [litert.runtime(first), litert.runtime(second)])
    return litert.written(model)


def _form(tensor: Any) -> tuple[int, tuple[int, ...]]:
    return tensor.type, tuple(map(int, tensor.shape))


def _moved(tensors: Iterable[int], places: dict[int, int]) -> Any:
    return np.array([places[int(place)] for place in tensors], np.int32)
