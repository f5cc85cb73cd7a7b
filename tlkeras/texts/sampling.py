"""Sampling: how a language model continues a text, piece by piece."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tlkeras.frameworks import tf
from tlkeras.model import folding

if TYPE_CHECKING:
    from tlkeras.model.transfer_model import TransferModel

ENDS = ("</s>", "<eos>", "<|endoftext|>", "<|end_of_text|>", "<|im_end|>")
"""Pieces that end a text, of the families that there are."""


class Sampler:
    """The continuations of one language model, whose graph is traced once for all of them."""

    def __init__(self, model: TransferModel) -> None:
        """Takes a model of `LanguageModeling`."""
        self._backbone, self._logits = model.backbone, _logits(model)
        self._tokenizer: Any = model.backbone.tokenizer
        ends = {*ENDS, self._tokenizer.start} - {""}
        pieces = enumerate(self._tokenizer.vocabulary)
        self._ends = {i for i, piece in pieces if piece in ends}

    def beginning(self, text: str) -> str:
        """Returns a text, halved until the network can add to it."""
        ids, length = self._read(text)
        return text if len(ids) < length else self.beginning(text[: len(text) // 2].rstrip())

    def continued(
        self,
        text: str,
        most: int,
        nucleus: float = 0.0,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> str:
        """Returns what the model writes behind a text, `most` pieces or fewer.

        It stops at a piece that ends texts, and at the network's length.

        Args:
            text: The beginning.
            most: How many pieces are written.
            nucleus: A piece is drawn from the most probable ones that together have this share of
                the probability (Holtzman et al. 2020, https://arxiv.org/abs/1904.09751); 0 takes
                the most probable.
            temperature: Divides the logits.
            seed: Decides what is drawn.
        """
        ids, length = self._read(text)
        random, begun = np.random.default_rng(seed), len(ids)
        while 0 < len(ids) < min(length, begun + most):
            logits = self._logits(tf.constant([ids], tf.int32)).numpy()
            piece = chosen(logits.astype(np.float64) / temperature, nucleus, random)
            if piece in self._ends:
                break
            ids.append(piece)
        return self._tokenizer.text(ids[begun:])

    def _read(self, text: str) -> tuple[list[int], int]:
        """Returns the pieces of a text without its end, and how many the network could read."""
        row = np.asarray(self._backbone.preprocess({"text": tf.constant(text)}))
        *_, end = self._tokenizer.frame(1)
        ids, behind = row.tolist(), {self._tokenizer.padding_id, *end}
        while ids and ids[-1] in behind:
            ids.pop()
        return ids, len(row) - len(end)


def chosen(logits: np.ndarray, nucleus: float, random: np.random.Generator) -> int:
    """Returns a piece drawn from the nucleus of logits, [pieces]; the most probable if it is 0."""
    order = np.argsort(-logits, kind="stable")
    chances = np.exp(logits[order] - logits[order[0]])
    chances /= chances.sum()
    before = np.cumsum(chances) - chances
    kept = chances[before < nucleus] if nucleus else chances[:1]
    return int(order[random.choice(len(kept), p=kept / kept.sum())])


def _logits(model: TransferModel) -> Any:
    """Returns the function from ids, int32 [1, n], to the logits of the piece behind, [pieces].

    Rows of the network behind the last piece of the vocabulary are spare, and no text has them.
    """
    kernel, tokenizer = model.head.get_layer("logits").kernel, model.backbone.tokenizer
    pieces = len(tokenizer.vocabulary)

    @tf.function(input_signature=[tf.TensorSpec([1, None], tf.int32)], autograph=False)
    def run(ids: Any) -> Any:
        tokens = folding.run(model.body, ids)["tokens"]
        last = tf.cast(tokens[0, -1], kernel.dtype)
        return tf.linalg.matvec(kernel[:, :pieces], last, transpose_a=True)

    return run
