"""Pieces: the words of a text that an output rests on.

The path runs from a text without its words to the text, on a straight line between the embeddings
of their pieces. A word has the integral of the gradient along it, times what it changes (integrated
gradients, Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365). So the weights of all words
add up to what they change in the output, but for the error of the quadrature. A text without its
words has the same length: the piece of padding stands for each of theirs, and is not masked; of a
network without one, a piece that ends texts, which no text spells out.
"""

from __future__ import annotations

import difflib
import functools
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tlkeras.explaining import chosen
from tlkeras.explaining.chosen import Chosen
from tlkeras.frameworks import keras, tf
from tlkeras.model import folding, graph, lengths
from tlkeras.model.transfer_model import TransferModel
from tlkeras.texts import sampling

STEPS = 24
"""Points of the quadrature of Gauss and Legendre."""

Text = str | Sequence[str]
"""A text, or its words."""

_WORD = re.compile(r"\S+")


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
        self._none = _none(model.backbone.tokenizer)
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
        empty = tf.where(owners[None] >= 0, self._none, ids)
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


def _none(tokenizer: Any) -> int:
    """Returns the piece that stands for those of words that are not there."""
    if tokenizer.padding_id >= 0:
        return tokenizer.padding_id
    return next((i for i, piece in enumerate(tokenizer.vocabulary) if piece in sampling.ENDS), 0)


def words(text: Text) -> Sequence[str]:
    """Returns the words of a text, which white space parts."""
    return _WORD.findall(text) if isinstance(text, str) else text


def _owners(tokenizer: Any, texts: Sequence[Sequence[Text]], ids: np.ndarray) -> np.ndarray:
    """Returns the word of every piece, int32 [b, length]; -1 of special pieces and of padding.

    The pieces of the texts alone are found again, in order, among those of the example.
    """
    owners, length = np.full(ids.shape, -1, np.int32), ids.shape[1]
    parts = [[_parts(text, length) for text in each] for each in texts]
    found = _pieces(tokenizer, [*itertools.chain(*parts)], length)
    for row, whole, each in zip(owners, ids, texts, strict=True):
        alone, known, first = [], [], 0
        for text in each:
            own, numbers = next(found)
            alone += own.tolist()
            known += np.where(numbers >= 0, numbers + first, -1).tolist()
            first += len(words(text))
        matcher = difflib.SequenceMatcher(None, alone, whole.tolist(), autojunk=False)
        for here, there, size in matcher.get_matching_blocks():
            row[there : there + size] = known[here : here + size]
    return owners


class _Part(NamedTuple):
    """What stands in a text between two words with one space alone between them.

    Attributes:
        text: Without these two spaces.
        words: Where each word begins, a space directly before it included, and where it ends.
    """

    text: str
    words: Sequence[tuple[int, int]]

    def cuts(self) -> list[int]:
        """Returns the places inside where a word begins or ends."""
        return sorted({*itertools.chain(*self.words)} - {0, len(self.text)})


def _parts(text: Text, most: int) -> list[_Part]:
    """Returns the parts of a text.

    There are no more words than have a piece each, so that a long text takes no longer.
    """
    if not isinstance(text, str):
        return [_Part(word, [(0, len(word))]) for word in text[:most]]
    parts: list[_Part] = []
    begin, end, found = 0, 0, []
    for match in itertools.islice(_WORD.finditer(text), most):
        if found and text[end : match.start()] == " ":
            parts.append(_Part(text[begin:end], found))
            begin, found = match.start(), []
        start, end = match.span()
        is_spaced = start > begin and text[start - 1] == " "
        found.append((start - is_spaced - begin, end - begin))
    return [*parts, _Part(text[begin:end], found)] if found else []


def _pieces(
    tokenizer: Any, texts: Sequence[Sequence[_Part]], most: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the first pieces of every text and the number of the word of each, -1 if none.

    A word in the middle of a part has the pieces by which there are more up to its end than up to
    its beginning: alone it may have others, as some tokenizers put a space before a text. A piece
    of several words is the first one's.
    """
    rows: list[list[str]] = []
    for parts in texts:
        rows.append([part.text for part in parts])
        for number, part in enumerate(parts):
            # Behind an empty word there is a space before a part as in its text.
            rows += [[""] * (number > 0) + [part.text[:cut]] for cut in part.cuts()]
    begin, *_, end = tokenizer.frame(1)
    given = tf.ragged.constant(rows, dtype=tf.string, ragged_rank=1)
    ids, begun = map(np.asarray, tokenizer.words(given, most + len(begin) + len(end)))
    counts = (ids != tokenizer.padding_id).sum(axis=1) - len(begin) - len(end)
    found = zip(ids[:, len(begin) :], begun[:, len(begin) :], counts.tolist(), strict=True)
    for parts in texts:
        own, starts, count = next(found)
        part_of, known, first = np.maximum.accumulate(starts[:count]), np.full(count, -1), 0
        for number, part in enumerate(parts):
            here = np.flatnonzero(part_of == number)
            at = {0: 0, len(part.text): len(here)}
            at |= {cut: next(found)[2] for cut in part.cuts()}
            for word, (start, stop) in reversed([*enumerate(part.words, start=first)]):
                known[here[at[start] : at[stop]]] = word
            first += len(part.words)
        yield own[:count], known
