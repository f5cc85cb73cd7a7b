"""Answers: what is seen of a model's answers, columns that drift compares as those of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tlkeras.doctor.samples import Seen, merged
from tlkeras.task import Output

NAME = "prediction"
"""The column of the names that a model answers with."""


def columns(
    outputs: Sequence[Output], served: Mapping[str, Any], classes: Sequence[str]
) -> list[Seen]:
    """Returns what is seen of each answer of a batch.

    Its words are the names of the classes in it, its numbers how sure it is, what it counts and
    single numbers.

    Args:
        outputs: What `served` holds, see `Task.outputs`; what is not served is left out.
        served: The arrays of a batch, [b, ...].
        classes: The names of the classes.
    """
    arrays = {name: np.asarray(values) for name, values in served.items()}
    found = [
        _SEEN[output.meaning](output, arrays, classes)
        for output in outputs
        if output.name in arrays and output.meaning in _SEEN
    ]
    count = len(next(iter(arrays.values())))
    return [merged(*(each[place] for each in found)) for place in range(count)]


def _scores(output: Output, arrays: Mapping[str, np.ndarray], classes: Sequence[str]) -> list[Seen]:
    rows = arrays[output.name]
    numbers = [{f"{NAME}.score": float(row.max(initial=0.0))} for row in rows]
    if not output.labelled:
        return [(each, {}) for each in numbers]
    if output.threshold is None:
        chosen = [[int(row.argmax())] for row in rows]
    else:
        chosen = [np.flatnonzero(row >= output.threshold).tolist() for row in rows]
    return [
        (each, {NAME: _named(places, classes)})
        for each, places in zip(numbers, chosen, strict=True)
    ]


def _category(
    output: Output, arrays: Mapping[str, np.ndarray], classes: Sequence[str]
) -> list[Seen]:
    """Returns the classes of the boxes, each once; behind the last box the scores are 0."""
    rows = zip(arrays[output.name].astype(int), arrays["scores"], strict=True)
    return [({}, {NAME: _named(np.unique(row[scores > 0]), classes)}) for row, scores in rows]


def _count(output: Output, arrays: Mapping[str, np.ndarray], classes: Sequence[str]) -> list[Seen]:
    return [({f"{NAME}.{output.name}": float(count)}, {}) for count in arrays[output.name].ravel()]


def _mask(output: Output, arrays: Mapping[str, np.ndarray], classes: Sequence[str]) -> list[Seen]:
    """Returns the classes of the pixels, each once, and the share of pixels that have one."""
    others = len(output.others)
    found = []
    for row in arrays[output.name]:
        best = row.argmax(axis=-1)
        numbers = {f"{NAME}.covered": float((best >= others).mean())}
        found.append((numbers, {NAME: _named(np.unique(best[best >= others]) - others, classes)}))
    return found


def _tokens(output: Output, arrays: Mapping[str, np.ndarray], classes: Sequence[str]) -> list[Seen]:
    """Returns the most probable classes of the words, each once, whatever a scheme allows.

    Where there is no word, the scores are 0.
    """
    rows = arrays[output.name]
    places = [np.unique(row.argmax(axis=-1)[row.sum(axis=-1) > 0.5]) for row in rows]
    return [({}, {NAME: _named(each, classes)}) for each in places]


def _vector(output: Output, arrays: Mapping[str, np.ndarray], classes: Sequence[str]) -> list[Seen]:
    """Returns a number alone; what a vector holds is seen in the features."""
    rows = arrays[output.name]
    if rows[0].size != 1:
        return [({}, {}) for _ in rows]
    return [({f"{NAME}.{output.name}": float(row.item())}, {}) for row in rows]


def _named(places: Iterable[int], classes: Sequence[str]) -> list[str]:
    return [classes[int(place)] for place in places]


_SEEN: Mapping[str, Callable[[Output, Mapping[str, np.ndarray], Sequence[str]], list[Seen]]] = {
    "scores": _scores,
    "category": _category,
    "count": _count,
    "mask": _mask,
    "tokens": _tokens,
    "vector": _vector,
}
"""What is seen of an output, by its meaning; of others, such as boxes, nothing is."""
