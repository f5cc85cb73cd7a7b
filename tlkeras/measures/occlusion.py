"""Occlusion: the words of a text that a prediction rests on.

Each word is left out in turn; by how much the score of the prediction falls is its weight. So it
works for every network of texts, whatever is frozen, and the weights are in the unit of the score.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkeras.frameworks import tf
from tlkeras.measures.measures import Gallery, Mark, Measures, View

if TYPE_CHECKING:
    from tlkeras.model.transfer_model import TransferModel

WORDS = 60
"""So many words of a text are left out; a page shows no more of a long one."""

MARKED = 6
"""So many words are marked, those of the largest weights."""

LEAST = 0.02
"""Words of a smaller weight are not marked."""

_BATCH = 32


def marked(
    found: Measures,
    model: TransferModel,
    read: Callable[[Sequence[int]], Sequence[Mapping[str, Any]]],
) -> Measures:
    """Returns measures with the words marked in the texts of galleries that have no marks.

    Args:
        found: The measures of the model.
        model: As for `marks`.
        read: From the numbers of examples to their standard values.
    """
    galleries = [view for view in found.views if isinstance(view, Gallery)]
    bare = [each.number for view in galleries for each in view.examples if not each.marks]
    numbers = [*dict.fromkeys(bare)] if _scores_of_text(model) else []
    known = dict(zip(numbers, marks(model, read(numbers)), strict=True)) if numbers else {}

    def drawn(view: View) -> View:
        if not isinstance(view, Gallery):
            return view
        return dataclasses.replace(
            view,
            examples=[
                dataclasses.replace(each, marks=each.marks or known.get(each.number, {}))
                for each in view.examples
            ],
        )

    return dataclasses.replace(found, views=[*map(drawn, found.views)])


def marks(
    model: TransferModel, examples: Sequence[Mapping[str, Any]]
) -> list[dict[str, list[Mark]]]:
    """Returns the words of each example that mattered, by what they speak for.

    Args:
        model: One of the task's outputs is the scores of classes, else nothing is marked.
        examples: Their standard values; the words are those of the first text.
    """
    name, key = _scores_of_text(model), next(iter(model.backbone.raw()))
    if not name or not examples:
        return [{} for _ in examples]
    changed = [{**values, key: text} for values in examples for text in _changed(values[key])]
    scores = _scores(model, changed, name)
    counts = [1 + len(_words(values[key])) for values in examples]
    rows = np.split(scores, np.cumsum(counts)[:-1])
    return [_marks(model.classes, found) for found in rows]


def _scores_of_text(model: TransferModel) -> str:
    """Returns the name of the output with scores of classes; empty if none are of texts."""
    kind = next(iter(model.backbone.raw().values()))
    names = [output.name for output in model.task.outputs() if output.meaning == "scores"]
    return names[0] if kind.meaning == "text" and names else ""


def _words(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"\S+", text)][:WORDS]


def _changed(text: str) -> list[str]:
    """Returns a text, and the same without each word."""
    return [text, *(f"{text[:start]}{text[stop:]}" for start, stop in _words(text))]


def _marks(classes: Sequence[str], found: np.ndarray) -> dict[str, list[Mark]]:
    """Returns the marks of a text, from its scores and those without each word."""
    best = int(found[0].argmax())
    weights = found[0, best] - found[1:, best]
    order = np.argsort(-np.abs(weights), kind="stable")[:MARKED]
    chosen = sorted(int(i) for i in order if abs(weights[i]) >= LEAST)
    marked = [Mark(i, i + 1, f"{weights[i]:+.2f}", float(weights[i])) for i in chosen]
    return {f"by how much each word speaks for {classes[best]}": marked} if marked else {}


def _scores(model: TransferModel, examples: Sequence[Mapping[str, Any]], output: str) -> np.ndarray:
    """Returns the scores of examples, [examples, classes]."""
    # All at once: run eagerly, a tokenizer takes about as long for one text as for hundreds.
    texts = {
        key: tf.constant([kind.given(values[key]).numpy() for values in examples], tf.string)
        for key, kind in model.backbone.raw().items()
    }
    inputs = model.backbone.preprocess(texts)
    found = []
    for start in range(0, len(examples), _BATCH):
        batch = tf.nest.map_structure(lambda rows: rows[start : start + _BATCH], inputs)  # noqa: B023
        found.append(np.asarray(model.predicted(batch)[output]))
    return np.concatenate(found)
