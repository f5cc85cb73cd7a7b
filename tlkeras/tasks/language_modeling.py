"""Language modeling: how probable a text is, piece by piece, and how it may go on."""

from __future__ import annotations

from typing import Any

import numpy as np

from tlkeras.frameworks import keras, tf
from tlkeras.measures.language_modeling import LanguageTally
from tlkeras.measures.measures import Example, Gallery
from tlkeras.task import Output, Task
from tlkeras.texts import sampling

# What the head gives of each piece: the logarithm of the probability of the next one, whether there
# is one, the most probable one, and whether that is it.
_COLUMNS = ("log_probabilities", "counted", "likely", "right")

_PROMPT, _MORE, _TEXTS = 8, 40, 4  # Words of a prompt, pieces behind it, and prompts in a report.


class LanguageModeling(Task, name="language_modeling"):
    """The next piece of a text, by the readout that a causal network was trained with.

    It needs no labels: a table with texts alone is enough. The loss is that of a text, summed over
    its pieces, so that it does not depend on the other texts of a batch. Where a network reads no
    special piece before a text, its first piece is not predicted. The head learns as well; at
    first it is the network's own readout. The report shows how the model continues some texts:
    with the most probable pieces, and with pieces drawn from the nucleus of `nucleus` of the
    probability (Holtzman et al. 2020, https://arxiv.org/abs/1904.09751).
    """

    reads = ("text",)
    primary = "perplexity"
    more_is_better = False
    rates_pieces = True

    nucleus: float = 0.9
    """From how much of the probability the report draws pieces; the least probable are left out."""
    temperature: float = 1.0
    """By what the report divides logits before it draws."""

    def validate(self):
        self.require(0 < self.nucleus <= 1, "nucleus", "a share above 0")
        self.require(self.temperature > 0, "temperature", "a number above 0")

    def target(self, example, inputs, classes):
        """Returns float32 [1]: the bytes of the text."""
        return tf.cast(tf.strings.length(example["text"]), tf.float32)[None]

    def summarize(self, features):
        """Returns ``tokens`` [b, n, channels], 0 at padding, and ``next``, int32 [b, n].

        So their mean does not depend on how far behind the text the network has run.
        """
        if "next" not in features:
            raise ValueError(
                f"language_modeling needs 'next' of the backbone, which has {', '.join(features)}; "
                "use gpt2, llama, qwen or gemma, of input='text'."
            )
        tokens = features["tokens"]
        kept: Any = keras.ops.cast(features["mask"], tokens.dtype)
        return {"tokens": tokens * kept[..., None], "next": features["next"]}

    def head(self, summary, classes):
        """Returns [b, n, 4], see `served`; `classes` counts the pieces of the vocabulary."""
        following: Any = summary["next"]
        logits: Any = keras.layers.Dense(classes, use_bias=False, dtype="float32", name="logits")(
            summary["tokens"]
        )
        place: Any = keras.ops.maximum(following, 0)
        logs: Any = keras.ops.log_softmax(logits)
        chosen: Any = keras.ops.take_along_axis(logs, place[..., None], axis=-1)
        counted: Any = keras.ops.cast(keras.ops.greater_equal(following, 0), "float32")
        best: Any = keras.ops.top_k(logits, 1)
        likely: Any = keras.ops.cast(best[1][..., 0], "int32")
        right: Any = keras.ops.cast(keras.ops.equal(likely, following), "float32")
        columns = chosen[..., 0] * counted, counted, keras.ops.cast(likely, "float32"), right
        return keras.ops.stack(columns, axis=-1)

    def loss(self):
        from tlkeras.losses import language_modeling

        return language_modeling.TextLoss()

    def metrics(self, classes):
        from tlkeras.losses import language_modeling

        return [
            language_modeling.Likelihood(name="log_likelihood"),
            language_modeling.Perplexity(name="perplexity"),
        ]

    def served(self, outputs):
        """Returns [b, n] of each piece, of the next one; all 0 where there is none but ``likely``.

        ``log_probabilities`` are natural, ``counted`` is 1 where there is a next piece, ``likely``
        is the id of the most probable one, and ``right`` is 1 where it is it.
        """
        return {name: outputs[..., place] for place, name in enumerate(_COLUMNS)}

    def outputs(self):
        return tuple(Output(name, "vector") for name in _COLUMNS)

    def views(self, model, examples):
        """Returns a gallery of continuations; the sampled ones are those of seed 0.

        It is no table: `tlkeras forget` removes what a version holds of examples by its galleries.
        """
        sampler = sampling.Sampler(model)
        words = (each["text"].split()[:_PROMPT] for each in examples[:_TEXTS])
        # Without white space a word may be a whole text.
        texts = [sampler.beginning(" ".join(each)) for each in words]
        shown = [
            Example(
                number,
                f"beginning: “{prompt}”; most probable: “{sampler.continued(prompt, _MORE)}”; "
                f"drawn: “{sampler.continued(prompt, _MORE, self.nucleus, self.temperature)}”",
            )
            for number, prompt in enumerate(texts)
            if prompt
        ]
        note = (
            "The beginnings of texts that were not in the training, and how the model goes on: "
            f"with the most probable pieces, and with pieces drawn from the most probable "
            f"{self.nucleus:.0%}, at temperature {self.temperature:g}."
        )
        return [Gallery("Continuations", shown, note)] if shown else []

    def tally(self, classes):
        return LanguageTally()

    def kept(self, served):
        """Returns the logarithm of the probability of each text, [b]."""
        return {"log_probabilities": np.asarray(served["log_probabilities"]).sum(axis=1)}

    def agree(self, one, other):
        """Returns whether the texts' logarithms differ by at most one percent."""
        pair = (each["log_probabilities"] for each in (one, other))
        return np.isclose(*pair, rtol=0.01, atol=1e-3)
