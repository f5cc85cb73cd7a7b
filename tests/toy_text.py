"""What the tests of texts share: a small transformer with random weights, and drawn sentences."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.backbone import Backbone
from tlkeras.data import ingest
from tlkeras.data.splits import Split
from tlkeras.frameworks import keras
from tlkeras.kinds.label import Label
from tlkeras.kinds.labels import Labels
from tlkeras.kinds.text import Text
from tlkeras.kinds.words import Words
from tlkeras.source import Source
from tlkeras.texts import inputs
from tlkeras.texts.inputs import Input
from tlkeras.texts.wordpiece import WordPiece

GOOD, BAD, OTHER = ("good", "fine", "sweet"), ("bad", "poor", "sour"), ("the", "soup", "was", "so")
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *GOOD, *BAD, *OTHER)
WIDTH = 8


class ToyText(Backbone, name="toy_text"):
    """Two layers of attention and dense layers on embeddings of pieces and places."""

    block_pattern = r"^(layer_\d)_"

    length: int = 32
    input: Input = "text"
    dropout: float = 0.0

    def build(self):
        given, ids = inputs.entrance(self.input, self.length)
        mask: Any = keras.ops.not_equal(ids, 0)
        counted: Any = keras.ops.cumsum(keras.ops.ones_like(ids), axis=1)
        places = counted - 1
        x = keras.layers.Embedding(len(VOCABULARY), WIDTH, name="pieces")(ids)
        x = x + keras.layers.Embedding(self.length, WIDTH, name="places")(places)
        for number in (1, 2):
            y = keras.layers.MultiHeadAttention(2, WIDTH // 2, name=f"layer_{number}_attention")(
                x, x, attention_mask=mask[:, None, :]
            )
            y = keras.layers.Dropout(self.dropout, name=f"layer_{number}_dropout")(y)
            x = keras.layers.LayerNormalization(name=f"layer_{number}_norm")(x + y)
            y = keras.layers.Dense(2 * WIDTH, "gelu", name=f"layer_{number}_inner")(x)
            x = x + keras.layers.Dense(WIDTH, name=f"layer_{number}_outer")(y)
        return keras.Model(given, inputs.features(given, x, mask, inputs.mean(x, mask)))

    def raw(self):
        return inputs.raw(self.input)

    def preprocess(self, example):
        return inputs.preprocess(self.tokenizer, example, self.input, self.length)

    def lengths(self, batch):
        return inputs.lengths(batch, 0)

    @property
    def most_pieces(self):
        return inputs.most_pieces(self.input, self.length)

    def exceeds(self, examples):
        return inputs.exceeds(self.tokenizer, examples, self.input, self.length)

    @property
    def tokenizer(self):
        return self._tokenizer

    @functools.cached_property
    def _tokenizer(self) -> WordPiece:
        return WordPiece(VOCABULARY)


class Sentences(Source, name="toy_sentences"):
    """Sentences of one to 24 words, good or bad."""

    count: int = 160

    def features(self):
        return {"text": Text(), "label": Label()}

    def classes(self):
        return ("bad", "good")

    def examples(self):
        random = np.random.default_rng(0)
        for i in range(self.count):
            words = random.choice(OTHER, random.integers(0, 24) if i % 5 else 2).tolist()
            words.insert(random.integers(len(words) + 1), str(random.choice((BAD, GOOD)[i % 2])))
            yield f"{i}", {"text": " ".join(words), "label": i % 2}

    def fingerprint(self):
        return str(self.count)


class TaggedSentences(Source, name="toy_tagged_sentences"):
    """The same, a tag for every word."""

    def features(self):
        return {"words": Words(), "tags": Labels()}

    def classes(self):
        return ("O", "B-GOOD", "B-BAD")

    def examples(self):
        for name, example in Sentences().examples():
            words = example["text"].split()
            tags = [1 if word in GOOD else 2 if word in BAD else 0 for word in words]
            yield name, {"words": words, "tags": tags}

    def fingerprint(self):
        return ""


def written(folder: Path, source: Source | None = None) -> Path:
    """Returns the folder with the sentences as examples."""
    ingest.write_examples(source or Sentences(), Split(validation=20, test=20), folder)
    return folder
