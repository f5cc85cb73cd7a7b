"""Explanation: what an example's prediction rests on, as pages and files show it."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tlkeras.explaining import chosen, pieces
from tlkeras.explaining.maps import Places
from tlkeras.explaining.pieces import Pieces, Weighed
from tlkeras.frameworks import tf
from tlkeras.images import heat
from tlkeras.measures.measures import Gallery, Mark, Measures, View
from tlkeras.model.transfer_model import TransferModel
from tlkeras.task import Task

MARKED = 6
"""So many words of a text are marked, those of the largest weights."""

_LEAST = 0.1  # Words below this share of the largest weight are not marked.

LEGEND = "speaks for the answer"
"""What the highest colour of heat says."""

Values = Mapping[str, Any]
"""The standard values of an example, by key."""


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What one number of a prediction rests on.

    Attributes:
        of: The class, or what the number is of.
        value: The number, a logit where it is of a class.
        name: What a page says of it.
        heat: Of a picture, by how much each place speaks for it, float32 [rows, columns].
        words: Of texts, their words one after the other, and by how much each speaks for it.
        marks: Words of the first text to be seen.
    """

    of: str
    value: float
    name: str
    heat: np.ndarray | None = None
    words: Sequence[tuple[str, float]] = ()
    marks: Sequence[Mark] = ()


Explain = Callable[[Sequence[Values]], list[list[Explanation]]]
"""From examples to what each of the numbers that matter most in their predictions rests on."""


def reason(model: TransferModel) -> str:
    """Returns why the predictions of a model cannot be explained; an empty text if they can."""
    if why := unexplained(model.task):
        return why
    if model.backbone.tokenizer is None and not Places.fit(model):
        return f"{model.backbone.name} makes no map of its input and reads no text"
    return ""


def unexplained(task: Task) -> str:
    """Returns why no prediction of a task can be explained, whatever the model."""
    return "" if task.explains else f"{task.name} rates no whole example and no part of one"


def explainer(model: TransferModel, most: int = 1) -> Explain:
    """Returns the function that explains `most` numbers of every example at most.

    Raises:
        ValueError: The model cannot be explained.
    """
    if why := reason(model):
        raise ValueError(f"Its predictions cannot be explained: {why}.")
    if model.backbone.tokenizer is None:
        return _of_pictures(model, most)
    return _of_texts(model, most)


def shown(
    found: Measures,
    model: TransferModel,
    read: Callable[[Sequence[int]], Sequence[Values]],
) -> Measures:
    """Returns measures with an explanation at each example of a gallery that has no marks.

    Args:
        found: The measures of the model.
        model: One that cannot be explained leaves them as they are.
        read: From the numbers of examples to their standard values.
    """
    galleries = [view for view in found.views if isinstance(view, Gallery)]
    bare = [each.number for view in galleries for each in view.examples if not each.marks]
    numbers = [*dict.fromkeys(bare)]
    if not numbers or reason(model):
        return found
    known = dict(zip(numbers, explainer(model)(read(numbers)), strict=True))

    def drawn(view: View) -> View:
        if not isinstance(view, Gallery):
            return view
        return gallery(view, known)

    return dataclasses.replace(found, views=[*map(drawn, found.views)])


def signed(value: float) -> str:
    """Returns the text of a number with its sign: two decimals, or two digits of a small one."""
    return f"{value:+.2f}" if abs(value) >= _LEAST else f"{value:+.2g}"


def gallery(view: Gallery, known: Mapping[int, Sequence[Explanation]]) -> Gallery:
    """Returns a gallery with the explanations of its examples, by their numbers."""
    examples = []
    for each in view.examples:
        told = known.get(each.number, ())
        overlays = {x.name: _encoded(x.heat) for x in told if x.heat is not None}
        marks = {x.name: x.marks for x in told if x.marks}
        examples.append(
            dataclasses.replace(
                each, overlays={**each.overlays, **overlays}, marks=each.marks or marks
            )
        )
    has_heat = any(x.heat is not None for told in known.values() for x in told)
    return dataclasses.replace(view, examples=examples, legend=LEGEND if has_heat else "")


def _encoded(places: np.ndarray) -> str:
    return base64.b64encode(heat.overlay(places)).decode()


def _of_pictures(model: TransferModel, most: int) -> Explain:
    places = Places(model)

    def explain(examples: Sequence[Values]) -> list[list[Explanation]]:
        kinds = model.backbone.raw()
        inputs = [
            model.backbone.preprocess({key: kinds[key].given(values[key]) for key in kinds})
            for values in examples
        ]
        if not inputs:
            return []
        heats, found = places(tf.nest.map_structure(lambda *rows: tf.stack(rows), *inputs), most)
        return [
            [
                _of_places(chosen.name(model, int(label)), float(value), each)
                for each, value, label in zip(*row, strict=True)
                if label >= 0
            ]
            for row in zip(heats, np.asarray(found.values), np.asarray(found.labels), strict=True)
        ]

    return explain


def _of_places(of: str, value: float, places: np.ndarray) -> Explanation:
    where = heat.place(places)
    name = f"what speaks for {of}, most {where}" if where else f"nothing speaks for {of}"
    return Explanation(of, value, name, heat=places)


def _of_texts(model: TransferModel, most: int) -> Explain:
    weigh = Pieces(model, most)

    def explain(examples: Sequence[Values]) -> list[list[Explanation]]:
        if not examples:
            return []
        kinds = model.backbone.raw()
        texts = [[values[key] for key in kinds] for values in examples]
        inputs = model.backbone.preprocess(_stacked(model, examples))
        return [
            _of_words(model, each, len(pieces.words(own[0])))
            for own, each in zip(texts, weigh(texts, inputs), strict=True)
        ]

    return explain


def _stacked(model: TransferModel, examples: Sequence[Values]) -> dict[str, Any]:
    """Returns decoded examples, a batch of them.

    All at once: run eagerly, a tokenizer takes about as long for one text as for hundreds.
    """
    found: dict[str, Any] = {}
    for key, kind in model.backbone.raw().items():
        rows = [kind.given(values[key]) for values in examples]
        ragged = tf.ragged.stack(rows) if rows[0].shape.rank else tf.stack(rows)
        found[key] = ragged.to_tensor("") if rows[0].shape.rank else ragged
    return found


def _of_words(model: TransferModel, found: Weighed, first: int) -> list[Explanation]:
    """Returns the explanations of a text; `first` counts the words of the first of several."""
    made = []
    labels, values = np.asarray(found.chosen.labels)[0], np.asarray(found.chosen.values)[0]
    for label, value, weights in zip(labels, values, found.weights, strict=True):
        if label < 0:
            continue
        of = chosen.name(model, int(label))
        words = [*zip(found.words, map(float, weights), strict=True)]
        name = f"by how much each word speaks for {of}"
        made.append(Explanation(of, float(value), name, words=words, marks=_marks(weights[:first])))
    return made


def _marks(weights: np.ndarray) -> list[Mark]:
    largest = np.abs(weights).max(initial=0)
    order = np.argsort(-np.abs(weights), kind="stable")[:MARKED]
    kept = sorted(int(i) for i in order if weights[i] and abs(weights[i]) >= _LEAST * largest)
    return [Mark(i, i + 1, signed(weights[i]), float(weights[i] / largest)) for i in kept]
