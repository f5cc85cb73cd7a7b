"""Measures of tagged words and of the entities that the tags name.

NumPy alone. A word that the network did not see, as the text was cut, is predicted as O and counts
like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tlkeras.measures.checks import FINITE, SHARES, Check, require
from tlkeras.measures.entities import NEVER, OUTSIDE, Scheme, Span, overlapping
from tlkeras.measures.estimates import Ratio
from tlkeras.measures.measures import (
    Example,
    Gallery,
    Mark,
    Matrix,
    Measures,
    Table,
    bounds,
    listed,
)

MISTAKES = 12
"""The sentences with the most wrong entities, so many, are shown."""

_FEW = 10  # Of fewer entities of a type there is a remark.
_WIDE = 0.1  # From this width of its interval on, F1 is imprecise.

_ADD_UP: Check = (
    lambda found: ((np.abs(found.sum(axis=-1) - 1) > 0.05) & (found.sum(axis=-1) > 0.05)).any(-1),
    "add up to neither 1 nor 0",
)


LEAST = 1e-30
"""A probability below it is as one of it."""


def most_probable(probabilities: np.ndarray) -> np.ndarray:
    """Returns the most probable class of each word, int [b, words]; -1 where there is none."""
    seen = probabilities.sum(axis=-1) > 0.5
    return np.where(seen, probabilities.argmax(axis=-1), -1)


def tags_of(probabilities: np.ndarray, scheme: Scheme) -> np.ndarray:
    """Returns the tags of each sentence, int [b, words]; -1 where there is no word.

    They are those that the scheme allows, of which the product of the probabilities is the largest
    (Viterbi 1967, https://doi.org/10.1109/TIT.1967.1054010): no I of an entity that has not begun,
    and in BIOES none that does not end.
    """
    best = most_probable(probabilities)
    if not any(scheme.goes_on):
        return best
    logs = np.log(np.maximum(probabilities, LEAST, dtype=np.float64))
    count, words, classes = logs.shape
    # One more, the last: no word.
    goes_on = np.array([*scheme.goes_on, False])
    firsts, inners = np.array([*scheme.before, (classes, classes)]).T
    unrest = np.where([*scheme.rests, True], 0, NEVER)
    logs = np.where(best[..., None] >= 0, logs, NEVER)
    logs = np.concatenate([logs, np.where(best >= 0, NEVER, 0)[..., None]], axis=-1)
    rows = np.arange(count)
    scores = np.full([count, classes + 1], NEVER)
    scores[:, classes] = 0
    backs = np.empty([words, count, classes + 1], int)
    for word in range(words):
        free, first, inner = scores + unrest, scores[:, firsts], scores[:, inners]
        within = np.where(first >= inner, firsts, inners)
        backs[word] = np.where(goes_on, within, free.argmax(axis=1)[:, None])
        scores = np.where(goes_on, np.maximum(first, inner), free.max(axis=1)[:, None])
        scores += logs[:, word]
    tag, tags = (scores + unrest).argmax(axis=1), np.empty([words, count], int)
    for word in reversed(range(words)):
        tags[word] = tag
        tag = backs[word][rows, tag]
    return np.where(best >= 0, tags.T, -1)


ABSENT = -1e4
"""What a row without a word has in place of logarithms of probabilities.

It is far below any of them, so that its probabilities are 0, and the loss knows it.
"""


class TaggingTally:
    """Counts of words and entities; the measures are functions of them.

    ``entity_f1``, ``entity_precision`` and ``entity_recall`` are strict: an entity is one that the
    scheme allows (`Scheme.strict`), and right if type, first and last word are. ``lenient_f1``:
    both are read as conlleval does (`Scheme.lenient`), and have to be equal, too. ``overlap_f1``:
    read so, and right with the type and a common word; each entity is in one pair at most.
    ``token_accuracy``, the share of the words with the right tag. ``log_loss`` in nats, the mean
    over the words that the network saw, where it saw one; a temperature makes it least.

    Intervals take each sentence as one unit, see `Ratio`.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        """Begins with no sentence."""
        self._scheme, self._classes = Scheme(classes), len(classes)
        types = len(self._scheme.types)
        self._count = self._words = self._cut = self._unread = 0
        self._accuracy, self._precision, self._recall = Ratio(), Ratio(), Ratio()
        self._log_loss = Ratio()
        self._f1 = {name: Ratio() for name in ("entity_f1", "lenient_f1", "overlap_f1")}
        self._of_types = [Ratio() for _ in range(types)]
        # By type: entities that are right, predicted and true; those read as conlleval does that
        # overlap, and those of both sides.
        self._entities = np.zeros([5, types], np.int64)
        self._confusions = np.zeros([types + 1, types + 1], np.int64)
        # How many entities are wrong, number, true and predicted entities.
        self._mistakes: list[tuple[int, int, list[Span], list[Span]]] = []

    def add(self, target: np.ndarray, served: Mapping[str, Any], first: int) -> None:
        """Adds a batch of sentences.

        Args:
            target: Int [b, rows + classes]: the class of each word, -1 where there is none; and how
                many words further on have each class.
            served: The probabilities of words, [b, words, classes], all 0 where none was seen.
            first: The number of the first sentence.
        """
        target, found = np.asarray(target), np.asarray(served["probabilities"], np.float64)
        words = found.shape[1] if found.ndim == 3 else 0
        shape = len(target), words, self._classes
        require("probabilities", found, shape, first, [FINITE, SHARES, _ADD_UP])
        true, beyond = target[:, : -self._classes], target[:, -self._classes :]
        predicted = tags_of(found, self._scheme)
        self._require_words(true, predicted, first)
        rows = true.shape[1]
        width = ((0, 0), (0, max(rows - words, 0)))
        seen = np.pad(predicted, width, constant_values=-1)[:, :rows]
        predicted = np.where(seen < 0, self._scheme.outside, seen)

        self._count += len(true)
        self._cut += int(((true >= 0) & (seen < 0)).sum() + beyond.sum())
        self._add_words(true, predicted, beyond)
        self._add_losses(true[:, :words], seen[:, :words], found[:, :rows])
        self._add_entities(true, predicted, beyond, first)

    def _require_words(self, true: np.ndarray, predicted: np.ndarray, first: int) -> None:
        """Raises ValueError if a sentence has not one tag for each word, or an unknown one."""
        tags, words = (true >= 0).sum(axis=-1), (predicted >= 0).cumsum(axis=-1).argmax(axis=-1)
        for place, row in enumerate(true):
            last = int(words[place]) if (predicted[place] >= 0).any() else -1
            if last >= tags[place]:
                raise ValueError(
                    f"Example {first + place} has {tags[place]} tags and at least {last + 1} "
                    "words, expected a tag for each word."
                )
            if row.max(initial=-1) >= self._classes or (row[: tags[place]] < 0).any():
                raise ValueError(
                    f"The tags of example {first + place} are {row.tolist()}, expected numbers "
                    f"from 0 to {self._classes - 1}, and -1 only behind them."
                )

    def _add_words(self, true: np.ndarray, predicted: np.ndarray, beyond: np.ndarray) -> None:
        outside, types = self._scheme.outside, np.array([*self._scheme.type_of, -1])
        is_word = true >= 0
        right = ((true == predicted) & is_word).sum(axis=-1)
        if outside >= 0:
            right = right + beyond[:, outside]
        words = is_word.sum(axis=-1) + beyond.sum(axis=-1)
        self._words += int(words.sum())
        self._accuracy.add(right, words)
        np.add.at(self._confusions, (types[true[is_word]], types[predicted[is_word]]), 1)
        np.add.at(self._confusions[:, -1], types[:-1], beyond.sum(axis=0))

    def _add_losses(self, true: np.ndarray, seen: np.ndarray, found: np.ndarray) -> None:
        is_rated = (true >= 0) & (seen >= 0)
        right = np.take_along_axis(found, np.maximum(true, 0)[..., None], axis=-1)[..., 0]
        losses = np.where(is_rated, -np.log(np.clip(right, LEAST, 1.0)), 0.0)
        self._log_loss.add(losses.sum(axis=-1), is_rated.sum(axis=-1))

    def _add_entities(
        self, true: np.ndarray, predicted: np.ndarray, beyond: np.ndarray, first: int
    ) -> None:
        scheme, places = self._scheme, {kind: i for i, kind in enumerate(self._scheme.types)}
        # By sentence and type: right, predicted and true ones; of strict, lenient and overlapping.
        counts = np.zeros([3, 3, len(true), len(places)], np.int64)
        for number, (tags, answer) in enumerate(
            zip(true.tolist(), predicted.tolist(), strict=True)
        ):
            if {*tags, *answer} <= {-1, scheme.outside}:
                continue
            strict, answered = scheme.strict(tags), scheme.strict(answer)
            lenient, loose = scheme.lenient(tags), scheme.lenient(answer)
            self._unread += len(lenient) - len(strict)
            for row, (right, found, wanted) in zip(
                counts[:, :, number],
                [
                    (_types({*strict} & {*answered}), answered, strict),
                    (_types({*lenient} & {*loose}), loose, lenient),
                    (overlapping(lenient, loose), loose, lenient),
                ],
                strict=True,
            ):
                for cells, kinds in zip(row, (right, _types(found), _types(wanted)), strict=True):
                    for kind in kinds:
                        cells[places[kind]] += 1
            self._note(first + number, strict, answered)
        begun = np.zeros_like(counts[0, 0])
        for tag in np.flatnonzero(scheme.begins):
            begun[:, scheme.type_of[tag]] += beyond[:, tag]
        counts[:, 2] += begun

        for ratio, (right, found, wanted) in zip(self._f1.values(), counts.sum(-1), strict=True):
            ratio.add(right, (found + wanted) / 2)
        right, found, wanted = counts[0]
        self._precision.add(right.sum(axis=-1), found.sum(axis=-1))
        self._recall.add(right.sum(axis=-1), wanted.sum(axis=-1))
        for place, ratio in enumerate(self._of_types):
            ratio.add(right[:, place], (found + wanted)[:, place] / 2)
        overlap, *both = counts[2].sum(axis=1)
        self._entities += [*counts[0].sum(axis=1), overlap, np.sum(both, axis=0)]

    def _note(self, number: int, true: list[Span], found: list[Span]) -> None:
        """Keeps a sentence with wrong entities, if it is one of those that have the most."""
        missed = [span for span in true if span not in found]
        wrong = [span for span in found if span not in true]
        if missed or wrong:
            self._mistakes.append((len(missed) + len(wrong), number, true, found))
            self._mistakes.sort(key=lambda mistake: (-mistake[0], mistake[1]))
            del self._mistakes[MISTAKES:]

    def measures(self) -> Measures:
        """Returns the measures of all sentences added."""
        if not self._count:
            raise ValueError("There is no example to measure.")
        return Measures(
            primary="entity_f1",
            count=self._count,
            scalars={
                **{name: ratio.scalar for name, ratio in self._f1.items()},
                "entity_precision": self._precision.scalar,
                "entity_recall": self._recall.scalar,
                "token_accuracy": self._accuracy.scalar,
                **({"log_loss": self._log_loss.rate} if self._log_loss.whole else {}),
            },
            views=[self._types(), self._matrix(), self._gallery()],
            remarks=[*self._remarks()],
        )

    def _types(self) -> Table:
        """Returns a row of every type; a share of nothing is an empty cell."""
        columns = ["type", "precision", "recall", "f1", "95 % interval of f1", "overlap f1"]
        rows = []
        for place, (right, found, wanted, overlap, both) in enumerate(self._entities.T.tolist()):
            f1 = self._of_types[place].scalar
            rows.append(
                [
                    self._scheme.types[place],
                    right / found if found else None,
                    right / wanted if wanted else None,
                    f1.value if f1.is_defined else None,
                    bounds(f1),
                    2 * overlap / both if both else None,
                    wanted,
                ]
            )
        note = (
            "An entity is right if its type, its first and its last word are; strict F1 reads tags "
            "as seqeval does with mode='strict'. Lenient F1 reads them as conlleval: a run of "
            "words of one type is an entity, whatever its first tag. For overlap, the type and one "
            "common word are enough."
        )
        return Table("Types of entities", [*columns, "support"], rows, note, weakest="f1")

    def _matrix(self) -> Matrix:
        return Matrix(
            "Confusions of types",
            [*self._scheme.types, OUTSIDE],
            self._confusions.tolist(),
            "Words: rows are true types, columns predicted ones; the shade is the share of the "
            "row.",
        )

    def _gallery(self) -> Gallery:
        examples = []
        for _, number, true, found in self._mistakes:
            missed = [span for span in true if span not in found]
            wrong = [span for span in found if span not in true]
            parts = (("true", missed), ("predicted", wrong))
            caption = "; ".join(
                f"{word} {listed([*map(_shown, spans)])}" for word, spans in parts if spans
            )
            examples.append(Example(number, caption, marks=self._marks(true, found)))
        note = "The sentences with the most wrong entities; words are counted from 1."
        return Gallery("Mistakes", examples, note)

    def _marks(self, true: list[Span], found: list[Span]) -> dict[str, list[Mark]]:
        kinds = self._scheme.types
        return {
            name: [Mark(start, stop, kind, 1.0, kinds.index(kind)) for kind, start, stop in spans]
            for name, spans in (("true", true), ("predicted", found))
        }

    def _remarks(self) -> Iterator[str]:
        """Yields what the counts say against the model, the gravest first."""
        right, found, wanted, *_ = self._entities
        types, f1 = self._scheme.types, self._f1["entity_f1"].scalar
        if not right.any():
            yield "The model finds no entity."
        if f1.interval and f1.interval[1] - f1.interval[0] > _WIDE:
            low, high = f1.interval
            yield (
                f"The entity F1 is imprecise: of only {wanted.sum()} entities, its 95 % interval "
                f"is {low:.2f} to {high:.2f}."
            )
        if self._cut:
            yield (
                f"{self._cut} of {self._words} words were cut off or have no piece, and count as "
                f"{OUTSIDE}; a larger length of the backbone sees more."
            )
        if self._unread:
            yield (
                f"{self._unread} of the true entities are not as the scheme has them, such as "
                "those that begin with I-; only lenient_f1 and overlap_f1 count them."
            )
        for problem, which in (
            ("have no example, so nothing is known of them", wanted == 0),
            (
                f"have fewer than {_FEW} examples, so little is known of them",
                (wanted > 0) & (wanted < _FEW),
            ),
            ("are never predicted", (wanted > 0) & (found == 0)),
        ):
            if names := [name for name, is_one in zip(types, which, strict=True) if is_one]:
                yield f"These types {problem}: {listed(names)}."


def _types(spans: Iterable[Span]) -> list[str]:
    return [kind for kind, _, _ in spans]


def _shown(span: Span) -> str:
    kind, start, stop = span
    return f"{kind} {start + 1}" + (f"-{stop}" if stop > start + 1 else "")
