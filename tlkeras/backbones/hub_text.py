"""The text networks of KerasHub, each a row of one table.

Every row becomes a final spec, ``from tlkeras.backbones.hub_text import Bert``. Its network takes
ids of pieces alone; it makes the mask of padding and the segments of a pair itself.
"""

from __future__ import annotations

import functools
import re
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np

from tlkeras.backbone import Backbone
from tlkeras.frameworks import keras, keras_hub, without_values
from tlkeras.model import graph
from tlkeras.texts import checkpoints, decoders, encoders, folders, hub_files, hub_pieces, inputs
from tlkeras.texts.bytepairs import BytePairs
from tlkeras.texts.hub_pieces import HubPieces
from tlkeras.texts.inputs import Input
from tlkeras.texts.layout import Layout, Settings
from tlkeras.texts.wordpiece import WordPiece

Pooling = Literal["mean", "cls", "pooler", "last"]
Tokenizer = WordPiece | BytePairs | HubPieces

WEIGHTS = ".weights.h5"

_LAYER = (
    r"^(transformer_layer_\d+|disentangled_attention_encoder_layer_\d+|group_\d+_inner_layer_\d+|"
    r"decoder_block_\d+|pooled_dense)$"
)


class Family(NamedTuple):
    """The common properties of networks of one kind.

    Attributes:
        layout: How a folder of Hugging Face's describes them.
        of_folder: Reads the tokenizer in such a folder.
        of_hub: Makes the tokenizer from that of a preset of KerasHub.
        poolings: What `HubText.pooling` may be.
    """

    layout: Layout
    of_folder: Callable[[Path], Tokenizer]
    of_hub: Callable[[Any], Tokenizer]
    poolings: tuple[Pooling, ...] = ("mean", "cls")


_ROBERTA_FRAME: dict[str, Any] = {"start": "<s>", "end": "</s>", "padding": "<pad>"}
_XLM_FRAME: dict[str, Any] = {**_ROBERTA_FRAME, "between": 2}
_DEBERTA_FRAME: dict[str, Any] = {"start": "[CLS]", "end": "[SEP]", "padding": "[PAD]"}

BERT = Family(encoders.BERT, folders.wordpiece, hub_pieces.word_pieces, ("mean", "cls", "pooler"))
DISTIL_BERT = Family(encoders.DISTIL_BERT, folders.wordpiece, hub_pieces.word_pieces)
ELECTRA = Family(encoders.ELECTRA, folders.wordpiece, hub_pieces.word_pieces)
ROBERTA = Family(
    encoders.ROBERTA,
    functools.partial(folders.byte_pairs, framed=True),
    hub_pieces.byte_pairs(**_ROBERTA_FRAME),
)
XLM_ROBERTA = Family(
    encoders.XLM_ROBERTA,
    hub_pieces.of_file("sentencepiece.bpe.model", "XLMRobertaTokenizer", {}, **_XLM_FRAME),
    functools.partial(HubPieces, **_XLM_FRAME),
)
ALBERT = Family(
    encoders.ALBERT,
    hub_pieces.albert,
    functools.partial(HubPieces, **hub_pieces.ALBERT, lowercase=True),
    ("mean", "cls", "pooler"),
)
DEBERTA_V3 = Family(
    encoders.DEBERTA_V3,
    hub_pieces.of_file(
        "spm.model",
        "DebertaV3Tokenizer",
        {"do_lower_case": [False], "split_by_punct": [False]},
        **_DEBERTA_FRAME,
    ),
    functools.partial(HubPieces, **_DEBERTA_FRAME),
)
GPT2 = Family(decoders.GPT2, folders.byte_pairs, hub_pieces.byte_pairs(), ("last", "mean"))
LLAMA = Family(decoders.LLAMA, hub_pieces.llama, hub_pieces.of_llama, ("last", "mean"))
QWEN = Family(decoders.QWEN, folders.byte_pairs, HubPieces, ("last", "mean"))
GEMMA = Family(
    decoders.GEMMA,
    hub_pieces.causal("GemmaTokenizer", "<bos>", "<eos>", padding="<pad>"),
    functools.partial(HubPieces, start="<bos>", padding="<pad>"),
    ("last", "mean"),
)

# Class, name, family, and the smallest published preset of KerasHub.
TABLE: tuple[tuple[str, str, Family, str], ...] = (
    ("Albert", "albert", ALBERT, "albert_base_en_uncased"),
    ("Bert", "bert", BERT, "bert_tiny_en_uncased"),
    ("DebertaV3", "deberta_v3", DEBERTA_V3, "deberta_v3_extra_small_en"),
    ("DistilBert", "distil_bert", DISTIL_BERT, "distil_bert_base_en_uncased"),
    ("Electra", "electra", ELECTRA, "electra_small_discriminator_uncased_en"),
    ("Gemma", "gemma", GEMMA, "gemma_2b_en"),
    ("GPT2", "gpt2", GPT2, "gpt2_base_en"),
    ("Llama", "llama", LLAMA, "llama3.2_1b"),
    ("Qwen", "qwen", QWEN, "qwen2.5_0.5b_en"),
    ("Roberta", "roberta", ROBERTA, "roberta_base_en"),
    ("XLMRoberta", "xlm_roberta", XLM_ROBERTA, "xlm_roberta_base_multi"),
)


class HubText(Backbone):
    """A network of KerasHub without its classifier.

    `weights` is a folder of Hugging Face's libraries with ``model.safetensors``; the folder of a
    Keras preset; the name of one, a download by KerasHub; a file that `save_weights` of such a
    network wrote; or None for random weights. For the last two, `configuration` is a folder of
    Hugging Face's with the sizes and the tokenizer.

    `length` counts the pieces of an example, special ones included. `layer` is whose tokens come
    out: 0 the embeddings, 1 the first layer, -1 the last. `pooling` makes the summary: the ``mean``
    of the tokens, the first (``cls``), the first behind the trained layer that BERT has for it
    (``pooler``), or the ``last``. Dropout is that of the hidden layers everywhere.
    """

    family: ClassVar[Family]
    block_pattern = _LAYER

    weights: str | None
    configuration: Path | None = None
    length: int = 128
    input: Input = "text"
    layer: int = -1
    pooling: Pooling = "mean"

    def validate(self):
        self.require(self.length >= 8, "length", "at least 8")
        poolings = self.family.poolings
        self.require(self.pooling in poolings, "pooling", f"one of {', '.join(poolings)}")
        outer = self.pooling != "pooler" or self.layer == -1
        self.require(outer, "layer", "-1 where pooling='pooler', which reads the last")
        if self._described_elsewhere:
            expected = f"a folder with config.json, as weights={self.weights!r} says no sizes"
            self.require(self.configuration is not None, "configuration", expected)
        else:
            expected = f"None, as weights={self.weights!r} has its own"
            self.require(self.configuration is None, "configuration", expected)

    def build(self):
        if self._folder is None:
            given = self._on_own_inputs(self._preset(keras_hub.models.Backbone))
            network = checkpoints.rebuilt(given, {})
            network.set_weights(given.get_weights())
        else:
            layout = self.family.layout
            settings = checkpoints.settings(self._folder, layout)
            self._require_padding(settings)
            with without_values():  # `rebuilt` draws others.
                made = self._constructor(**checkpoints.sizes(settings, layout))
                network = self._on_own_inputs(made)
            network = checkpoints.rebuilt(network, checkpoints.changes(settings, layout))
            self._load(network)
        network.name = self.name
        return network

    def forms(self):
        return inputs.forms(self)

    def raw(self):
        return inputs.raw(self.input)

    def preprocess(self, example):
        """Tokenizes inside any graph; see `inputs.preprocess`.

        The tokenizers of ALBERT, DeBERTa, Gemma, Llama 2, XLM-RoBERTa and of the presets of Llama
        and Qwen are KerasHub's, with operations of tensorflow-text. A SavedModel with one loads
        only after ``import tensorflow_text``.
        """
        return inputs.preprocess(self.tokenizer, example, self.input, self.length)

    def readout(self, network):
        """Returns the table of the pieces, or the matrix that the weights have beside it.

        Raises:
            ValueError: The network bends its logits, which no matrix does.
        """
        if not self._is_causal:
            return None
        layer = network.get_layer("token_embedding")
        if (cap := layer.logit_soft_cap) is not None:
            raise ValueError(
                f"{self.name}.weights is {self.weights!r}, whose final_logit_soft_cap is {cap}, as "
                "in Gemma 2; expected None, since language_modeling would rate pieces without it. "
                "Use weights of the first Gemma, or another task."
            )
        if self._folder is not None and self._path is not None:
            settings = checkpoints.settings(self._folder, self.family.layout)
            if not settings.get("tie_word_embeddings", True):
                return checkpoints.readout(self._path)
        if layer.tie_weights:
            return np.transpose(layer.embeddings.numpy())
        return layer.reverse_embeddings.numpy()

    def lengths(self, batch):
        return inputs.lengths(batch, self.tokenizer.padding_id)

    @property
    def most_pieces(self):
        return inputs.most_pieces(self.input, self.length)

    def exceeds(self, examples):
        return inputs.exceeds(self.tokenizer, examples, self.input, self.length)

    def fingerprint(self):
        return hub_files.fingerprint(each for each in (self.configuration, self._path) if each)

    def preparation(self):
        return hub_files.preparation(self.configuration or self._path)

    @property
    def _described_elsewhere(self) -> bool:
        return self.weights is None or self.weights.endswith(WEIGHTS)

    @property
    def _is_causal(self) -> bool:
        """Whether a piece sees only those before it, so that the network tells the next one."""
        return "last" in self.family.poolings

    @property
    def _constructor(self) -> Any:
        return getattr(keras_hub.models, f"{type(self).__name__}Backbone")

    @functools.cached_property
    def _path(self) -> Path | None:
        """The file or folder of the weights; None if they are random or a preset's name."""
        return hub_files.existing(self.name, self.weights, is_path=self._described_elsewhere)

    @functools.cached_property
    def _folder(self) -> Path | None:
        """The folder of Hugging Face's that describes the network; None if it is a preset."""
        folder = self.configuration or self._path
        if folder is None:
            return None
        file = folder / "config.json"
        settings = hub_files.settings(file, "what the network is")
        if (found := settings.get("model_type", "")) in self.family.layout.model_types:
            return folder
        if "registered_name" in settings and self.configuration is None:
            return None
        readers = {kind: row[1] for row in TABLE for kind in row[2].layout.model_types}
        advice = f"use {readers[found]}." if found in readers else f"known: {', '.join(readers)}."
        raise ValueError(
            f"{file}: model_type is {found!r}, which {self.name} does not read; {advice}"
        )

    @property
    def tokenizer(self):
        return self._tokenizer

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer:
        if self._folder is None:
            return self.family.of_hub(self._preset(keras_hub.tokenizers.Tokenizer))
        try:
            return self.family.of_folder(self._folder)
        except OSError as error:
            raise ValueError(f"{self._folder} has no tokenizer: {error}.") from None

    def _id(self, piece: str) -> int:
        return self.tokenizer.vocabulary.index(piece) if piece else -1

    def _preset(self, kind: Any) -> Any:
        """Returns the network or the tokenizer of a preset."""
        made = hub_files.preset(self.name, str(self._path or self.weights), kind)
        if kind is keras_hub.models.Backbone and not isinstance(made, self._constructor):
            raise ValueError(
                f"{self.name}.weights is {self.weights!r}, which holds a {type(made).__name__}, "
                f"expected a {self._constructor.__name__}."
            )
        return made

    def _on_own_inputs(self, network: Any) -> keras.Model:
        """Returns the features of a network of KerasHub, as one flat graph on our own inputs.

        A cut of KerasHub's own graph cannot be saved.
        """
        self._require_fit(network)
        tokenizer = self.tokenizer
        given, ids = inputs.entrance(self.input, self.length)
        padding = tokenizer.padding_id
        mask = keras.ops.not_equal(ids, padding)
        known = {
            "token_ids": ids if padding >= 0 else keras.ops.maximum(ids, 0),
            "padding_mask": keras.ops.cast(mask, "int32"),
        }
        if "segment_ids" in network.input:
            two = self.input == "pair"
            end = self._id(tokenizer.end)
            known["segment_ids"] = (
                inputs.segments(ids, mask, end) if two else keras.ops.zeros_like(ids)
            )
        ends = {"tokens": self._tokens(network)}
        if self.pooling == "pooler":
            ends["pooled"] = network.output["pooled_output"]
        found: Any = keras.Model(network.input, ends).call(known)
        pooled = found.get("pooled")
        if pooled is None:
            pooled = _POOLED[self.pooling](found["tokens"], mask)
        features = inputs.features(given, found["tokens"], mask, pooled)
        if self._is_causal and self.input == "text":
            features["next"] = inputs.following(ids, mask)
        return keras.Model(given, features)

    def _tokens(self, network: Any) -> Any:
        """Returns the symbolic tokens of `layer`."""
        whole = network.output
        last = whole["sequence_output"] if isinstance(whole, dict) else whole
        calls = [
            node
            for node in graph.nodes(network)
            if (match := _matched(node.operation.name)) and match != "pooled_dense"
        ]
        outputs = [calls[0].input_tensors[0], *(node.output_tensors[0] for node in calls)]
        outputs[-1] = last  # Some networks have a norm behind the last layer.
        most = len(calls)
        if not -most - 1 <= self.layer <= most:
            self.require(False, "layer", f"-{most + 1} … {most}, as there are {most} layers")
        return outputs[self.layer]

    def _require_fit(self, network: Any) -> None:
        """Raises ValueError if there are more pieces than rows, or the texts are too long."""
        pieces, rows = len(self.tokenizer.vocabulary), network.token_embedding.input_dim
        if pieces > rows:
            raise ValueError(
                f"{self.name}: the vocabulary has {pieces:,} pieces, but the network has rows for "
                f"{rows:,}: the tokenizer's files are of another network."
            )
        config = network.get_config()
        most = config.get("max_sequence_length", self.length)
        self.require(self.length <= most, "length", f"at most {most}, the network's positions")

    def _require_padding(self, settings: Settings) -> None:
        expected = settings.get("pad_token_id")
        found = self.tokenizer.padding_id
        if expected is not None and found >= 0 and expected != found:
            raise ValueError(
                f"{self._folder}: pad_token_id is {expected} in config.json, but the tokenizer's "
                f"{self.tokenizer.padding!r} is {found}."
            )

    def _load(self, network: keras.Model) -> None:
        """Loads a file or a folder, if there is one."""
        if self._path is None:
            return
        if self._path.is_dir():
            checkpoints.load(network, self._path, self.family.layout)
            return
        try:
            with warnings.catch_warnings():
                # Keras warns where it leaves weights random.
                warnings.simplefilter("error", UserWarning)
                network.load_weights(self._path)
        except (KeyError, OSError, ValueError, UserWarning) as error:
            raise ValueError(f"{self._path} does not hold the weights of {self}: {error}") from None


def _matched(name: str) -> str:
    match = re.search(_LAYER, name)
    return match[1] if match else ""


_POOLED: dict[str, Callable[[Any, Any], Any]] = {
    "mean": inputs.mean,
    "cls": lambda tokens, mask: tokens[:, 0],
    "last": inputs.last,
}


def _member(constructor: str, name: str, family: Family, preset: str) -> type[HubText]:
    def fill(namespace: dict[str, Any]) -> None:
        namespace.update(
            __module__=__name__,
            __doc__=f"`keras_hub.models.{constructor}Backbone`.",
            __annotations__={"weights": "str | None", "pooling": "Pooling"},
            weights=preset,
            pooling=family.poolings[0],
            family=family,
        )

    return types.new_class(constructor, (HubText,), {"name": name}, fill)


globals().update({row[0]: _member(*row) for row in TABLE})

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
