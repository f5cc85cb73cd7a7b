"""Pieces: the words of a text that an output rests on.

The path runs from a text without its words to the text, on a straight line between the embeddings
of their pieces. A word has the integral of the gradient along it, times what it changes (integrated
gradients, Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365). So the weights of all words
add up to what they change in the output, but for the error of the quadrature. A text without its
words has the same length: the piece of padding stands for each of theirs, and is not masked.
"""

from __future__ import annotations

import difflib
import functools
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tlkeras.explaining import chosen
from tlkeras.explaining.chosen import Chosen
from tlkeras.frameworks import keras, tf
from tlkeras.model import folding, graph, lengths
from tlkeras.model.transfer_model import TransferModel

STEPS = 24
"""Points of the quadrature of Gauss and Legendre."""

Text = str | Sequence[str]
"""A text, or its words."""


class Weighed(NamedTuple):
    """The words of an example.

    Attributes:
        words: All words of its texts, one text after the other.
        weights: By how much each speaks for a number, float32 [k, words]; 0 behind the last
            word that the network reads.
        without: The numbers of the text without its words, float32 [k].
        chosen: What the weights are of.
    """

    words: Sequence[str]
    weights: np.ndarray
    without: np.ndarray
    chosen: Chosen


class Pieces:
    """The way from the ids of a model's pieces to their embeddings, and on to what is explained."""

    def __init__(self, model: TransferModel, most: int = 1) -> None:
        """Cuts a model that reads texts, to explain `most` numbers of each at most."""
        self._model, self._most, body = model, most, model.body
        embedded = _embedded(body)
        self._before = keras.Model(body.input, embedded)
        self._rest = graph.segment(body, [*body.inputs, *embedded], body.output)

    def __call__(self, texts: Sequence[Sequence[Text]], inputs: Any) -> list[Weighed]:
        """Returns the weights of the words of examples.

        Args:
            texts: The texts of every example.
            inputs: What the backbone makes of the examples, a batch.
        """
        ids = np.asarray(_ids(inputs))
        owners = _owners(self._model.backbone.tokenizer, texts, ids)
        return [
            self._weighed(
                [*itertools.chain(*map(words, each))],
                owners[i],
                keras.tree.map_structure(lambda x: x[i : i + 1], inputs),  # noqa: B023
            )
            for i, each in enumerate(texts)
        ]

    def _weighed(self, words: Sequence[str], owners: np.ndarray, inputs: Any) -> Weighed:
        """Returns the weights of the words of one example."""
        backbone = self._model.backbone
        inputs = lengths.shortened(backbone, inputs)
        ids = _ids(inputs)
        owners = owners[: ids.shape[1]]
        empty = tf.where(owners[None] >= 0, max(backbone.tokenizer.padding_id, 0), ids)
        bare = {**inputs, "token_ids": empty} if isinstance(inputs, Mapping) else empty
        pieces, without, found = self._integrated(inputs, bare)
        weights = np.zeros([len(pieces), len(words)], np.float32)
        owned = owners >= 0
        for row, piece in zip(weights, np.asarray(pieces), strict=True):
            np.add.at(row, owners[owned], piece[owned])
        return Weighed(words, weights, np.asarray(without), found)

    @functools.cached_property
    def _integrated(self) -> Any:
        """From inputs and those without words to the weights of pieces [k, length]; see `Weighed`.

        In a function of any length, see `model.lengths`.
        """
        model = self._model
        points, shares = np.polynomial.legendre.leggauss(STEPS)
        # Both ends of the path are in its batch.
        at = np.concatenate([[0.0, 1.0], (points + 1) / 2]).astype(np.float32)
        average = np.concatenate([[0.0, 0.0], shares / 2]).astype(np.float32)
        specs = keras.tree.map_structure(
            lambda x: tf.TensorSpec([1, None], x.dtype), model.body.input
        )

        def run(inputs: Any, bare: Any) -> Any:
            full, start = (keras.tree.flatten(folding.run(self._before, x)) for x in (inputs, bare))
            changes = [b - a for a, b in zip(start, full, strict=True)]
            path = [a + at[:, None, None] * by for a, by in zip(start, changes, strict=True)]
            given = [tf.repeat(each, len(at), axis=0) for each in keras.tree.flatten(inputs)]
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(path)
                summary = folding.run(self._rest, [*given, *path])
                outputs = model.head(lengths.restored(summary, model.body.output), training=False)
                values, _ = model.task.explained(outputs)
                found = chosen.of(model, outputs[1:2], self._most)
                each = tf.unstack(tf.gather(values, found.places[0], axis=1), axis=1)
            weights = [
                sum(
                    tf.reduce_sum(tf.tensordot(average, gradient, axes=1) * by[0], axis=-1)
                    for gradient, by in zip(tape.gradient(one, path), changes, strict=True)
                    if gradient is not None  # Positions do not differ on the path.
                )
                for one in each
            ]
            return tf.stack(weights), tf.stack([one[0] for one in each]), found

        return tf.function(run, input_signature=[specs, specs], autograph=False)


def _embedded(body: keras.Model) -> list[Any]:
    """Returns the outputs of the layers that make numbers of ids."""
    found = []
    for node in graph.nodes(body):
        reads = [keras.backend.standardize_dtype(tensor.dtype) for tensor in node.input_tensors]
        is_layer = isinstance(node.operation, keras.Layer) and node.operation.weights
        if is_layer and reads and all("int" in dtype for dtype in reads):
            found += node.output_tensors
    return found


def _ids(inputs: Any) -> Any:
    return inputs["token_ids"] if isinstance(inputs, Mapping) else inputs


def words(text: Text) -> Sequence[str]:
    """Returns the words of a text, which white space parts."""
    return re.findall(r"\S+", text) if isinstance(text, str) else text


def _owners(tokenizer: Any, texts: Sequence[Sequence[Text]], ids: np.ndarray) -> np.ndarray:
    """Returns the word of every piece, int32 [b, length]; -1 of special pieces and of padding.

    The pieces of the words alone are found again, in order, among those of the text.
    """
    owners, length = np.full(ids.shape, -1, np.int32), ids.shape[1]
    begin, *_, end = tokenizer.frame(1)
    runs = [_runs(each, length) for each in texts]
    if not (every := [run.words for run in itertools.chain(*runs)]):
        return owners
    room = length + len(begin) + len(end)
    found = tokenizer.words(tf.ragged.constant(every, dtype=tf.string), room)
    rows = zip(*map(np.asarray, found), strict=True)
    for row, whole, each in zip(owners, ids, runs, strict=True):
        alone, known = [], []
        for run, (own, begun) in zip(each, rows, strict=False):
            own, begun = own[len(begin) :], begun[len(begin) :]
            count = int((own != tokenizer.padding_id).sum()) - len(end)
            places = np.maximum.accumulate(np.where(begun >= 0, np.arange(len(begun)), 0))[:count]
            alone += own[:count].tolist()
            known += np.asarray(run.numbers)[begun[places]].tolist()
        matcher = difflib.SequenceMatcher(None, alone, whole.tolist(), autojunk=False)
        for here, there, size in matcher.get_matching_blocks():
            row[there : there + size] = known[here : here + size]
    return owners


class _Run(NamedTuple):
    """Words of a text with one space between them, and the number of each in the example.

    An empty word without a number stands for a space before the first one.
    """

    words: list[str]
    numbers: list[int]


def _runs(texts: Sequence[Text], most: int) -> list[_Run]:
    """Returns the first words of the texts of an example.

    Some tokenizers read another piece behind a space than behind a line break. There are no more
    words of a text than have a piece each, so that a long text takes no longer.
    """
    runs: list[_Run] = []
    first = 0
    for text in texts:
        for number, (word, is_spaced) in enumerate(_spaced(text, most), start=first):
            if number == first or not is_spaced:
                runs.append(_Run([""] * is_spaced, [-1] * is_spaced))
            runs[-1].words.append(word)
            runs[-1].numbers.append(number)
        first += len(words(text))
    return runs


def _spaced(text: Text, most: int) -> list[tuple[str, bool]]:
    """Returns the first words of a text, and whether a space stands directly before each."""
    if not isinstance(text, str):
        return [(word, place > 0) for place, word in enumerate(text[:most])]
    found = itertools.islice(re.finditer(r"\S+", text), most)
    return [(each[0], text[max(each.start() - 1, 0) : each.start()] == " ") for each in found]
