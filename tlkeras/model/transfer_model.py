"""TransferModel: body, head and full, three Keras models that share their variables."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import random
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tlkeras import files, frameworks, hardware, spec
from tlkeras.backbone import Backbone
from tlkeras.frameworks import keras, tf
from tlkeras.model import block_flags, folding, graph, lengths, network_file
from tlkeras.model.network_file import read_network
from tlkeras.task import Task

if TYPE_CHECKING:
    from tlkeras.data.batches import Data

HEAD = "head"

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]
"""The type of computation; weights are float32 in every case."""


@contextlib.contextmanager
def computing_in(precision: Precision) -> Iterator[None]:
    """Sets the precision of all Keras models that are built and compiled in this context."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class TransferModel:
    """A backbone with a task's head on it.

    Attributes:
        body: Inputs to summary: the backbone's network and the task's `summarize`, one flat graph;
            of pictures and `Classification`, [b, size, size, 3] in [0, 255] to [b, channels].
        head: Summary to outputs; of `Classification` these are logits [b, classes].
        full: Inputs to outputs.
        blocks: The layers of `body` by block, in order.
        inputs: The symbolic inputs by name; of pictures ``{"image": [b, size, size, 3]}``.
        trainable: Block name to bool, readable and settable. Compile after a change.
        seed: The seed of the head's initial weights.
        traced: What fits have traced of these networks, by all that it depends on but the values
            of variables. The next fit finds it there.
    """

    def __init__(
        self, backbone: Backbone, task: Task, classes: Sequence[str], seed: int = 0
    ) -> None:
        """Builds the network, with pretrained weights and a random head from `seed`."""
        task.require_classes(classes)
        frameworks.require_channels_last()
        with _seeded(seed), hardware.scope():
            network = backbone.build()
            features: Any = network.output
            body = keras.Model(network.input, task.summarize(features), name="body")
            inputs = _inputs_like(body.output)
            readout = _readout(backbone, network) if task.rates_pieces else None
            count = len(classes) if readout is None else readout.shape[1]
            head = keras.Model(inputs, task.head(inputs, count), name=HEAD)
            if readout is not None:
                head.get_layer("logits").set_weights([readout])
            full = keras.Model(body.input, head(body.output), name=backbone.name)
        self._hold(backbone, task, classes, body, head, full)
        self.seed: int = seed

    def _hold(self, backbone, task, classes, body, head, full) -> None:
        self.backbone: Backbone = backbone
        self.task: Task = task
        self.classes: tuple[str, ...] = tuple(classes)
        self.body: keras.Model = body
        self.head: keras.Model = head
        self.full: keras.Model = full
        self.blocks: dict[str, list[keras.Layer]] = backbone.blocks(body)
        self.traced: dict[Any, Any] = {}

    @property
    def inputs(self) -> dict[str, Any]:
        """The symbolic inputs by name; a single input has the name of the client's input."""
        inputs: Any = self.full.input
        if isinstance(inputs, Mapping):
            return dict(inputs)
        return {"_".join(self.backbone.reads): inputs}

    def require(self, data: Data) -> None:
        """Raises ValueError unless the data have this backbone, this task and these classes."""
        for name in ("backbone", "task", "classes"):
            own, theirs = getattr(self, name), getattr(data, name)
            if own != theirs:
                raise ValueError(f"The model is of the {name} {own}, not {theirs} as the data.")

    @property
    def trainable(self) -> MutableMapping[str, bool]:
        """The trainable flag of every block; an assignment leaves batch norms frozen."""
        return block_flags.live(self.blocks)

    def chosen(self, unfreeze: str | float | Sequence[str]) -> list[str]:
        """Returns the blocks of a phase's `unfreeze`, in order.

        ``'block_13'``: from this block to the end. ``('conv4', 'conv5')``: only these. ``'all'``:
        every block. ``0.3``: the last 30 % of the blocks, rounded up. ``()``: none.
        """
        if unfreeze == "all":
            return list(self.blocks)
        if isinstance(unfreeze, str):
            return self.blocks_from(unfreeze)
        if isinstance(unfreeze, (int, float)):
            first = len(self.blocks) - math.ceil(unfreeze * len(self.blocks))
            return list(self.blocks)[first:]
        for name in unfreeze:
            self._known(name)
        return [name for name in self.blocks if name in unfreeze]

    def blocks_from(self, name: str) -> list[str]:
        """Returns the names of a block and of all after it."""
        self._known(name)
        names = list(self.blocks)
        return names[names.index(name) :]

    def train_only(self, blocks: Sequence[str], *, batch_norm: bool = False) -> None:
        """Makes only these blocks and the head trainable; compile afterwards.

        Without `batch_norm`, batch norms stay frozen, also their statistics and those inside of
        other layers: with ``trainable=False`` they use the moving statistics in every call of the
        model. With it, their momentum is at most 0.9.
        """
        for name in blocks:
            self._known(name)
        for name, layers in self.blocks.items():
            block_flags.set_trainable(layers, name in blocks, batch_norm=batch_norm)
        self.head.trainable = True

    def split_at(self, block: str) -> tuple[keras.Model, keras.Model]:
        """Returns ``(prefix, suffix)``: all before a block (or ``'head'``), and the rest.

        Both share the variables of `full`; ``suffix(prefix(x))`` is `full`.
        """
        if block == HEAD:
            return self.body, self.head
        self._known(block)
        names = list(self.blocks)
        before = [layer for name in names[: names.index(block)] for layer in self.blocks[name]]
        return graph.cut(self.full, before)

    def initialize(self, targets: Iterable[Any]) -> None:
        """Sets what the head knows of the training targets before a fit; see `Task.initialize`.

        Keras's `Normalization` is in a graph with the numbers that it has when that is traced. So
        other numbers mean that all graphs are forgotten.
        """
        before = self._scales()
        self.task.initialize(self.head, targets)
        if self._scales() != before:
            self.traced.clear()
            vars(self).pop("_short", None)

    def _scales(self) -> list[bytes]:
        layers = self.head.layers
        scales: list[Any] = [each for each in layers if type(each) is keras.layers.Normalization]
        numbers = [number for each in scales for number in (each.mean, each.variance)]
        return [np.asarray(number).tobytes() for number in numbers]

    def served(self, inputs: Any) -> dict[str, Any]:
        """Returns the task's served outputs of a batch of preprocessed inputs."""
        return self.task.served(self.full(inputs, training=False))

    def predicted(self, inputs: Any) -> dict[str, Any]:
        """Returns the same, up to rounding; a batch of texts runs at the length that it needs."""
        if not lengths.vary(self.backbone, self.full):
            return self.served(inputs)
        return self._short(inputs)

    @functools.cached_property
    def _short(self) -> Any:
        signature = keras.tree.map_structure(
            lambda x: tf.TensorSpec(x.shape, x.dtype), self.full.input
        )

        def run(inputs: Any) -> dict[str, Any]:
            outputs = folding.run(self.full, lengths.shortened(self.backbone, inputs))
            return self.task.served(lengths.restored(outputs, self.full.output))

        return tf.function(run, input_signature=[signature], autograph=False)

    def predict(self, values: Sequence[Any], batch_size: int = 32) -> list[dict[str, Any]]:
        """Returns the served outputs of raw examples with class names, one dict per example.

        What has places is in those of the own picture; see `Task.placed`. Those of
        `Classification` are ``label``, ``classes`` and their ``scores``, best first, and
        ``probabilities``, float32 [classes] in the order of the model's classes.

        Args:
            values: Inputs of the backbone. A picture is a path, the bytes of a file, or an array
                [h, w, 3], RGB in [0, 255] and of any size; a text is a str. A backbone of several
                keys takes dicts.
            batch_size: Examples in memory and in the network at a time.

        Raises:
            ValueError: `values` is one example and no list, or one is not of the backbone's kind.
        """
        if isinstance(values, (str, bytes, os.PathLike, Mapping)):
            raise ValueError(f"{repr(values)[:60]} is one example; pass a list of examples.")
        predictions: list[dict[str, Any]] = []
        for start in range(0, len(values), batch_size):
            batch = values[start : start + batch_size]
            examples = [self._example(value) for value in batch]
            inputs = [self.backbone.preprocess(example) for example in examples]
            stacked = tf.nest.map_structure(lambda *parts: tf.stack(parts), *inputs)
            served = self.predicted(stacked)
            sizes = [self.backbone.sides(example) for example in examples]
            predictions += [
                {name: _readable(array) for name, array in answer.items()}
                for answer in self.task.answers(served, self.classes, sizes)
            ]
        return predictions

    def _example(self, value: Any) -> dict[str, Any]:
        """Returns the decoded example of a raw one."""
        kinds = self.backbone.raw()
        features = value if isinstance(value, Mapping) else {next(iter(kinds)): value}
        if missing := [key for key in kinds if key not in features]:
            raise ValueError(
                f"An example has no {missing[0]!r}; pass a dict of {', '.join(kinds)}."
            )
        return {key: kind.given(features[key]) for key, kind in kinds.items()}

    def summary(self) -> str:
        """Returns one line per block: its trainable flag, layers and parameters."""
        rows = [("block", "trainable", "layers", "parameters")]
        for name, layers in {**self.blocks, HEAD: [self.head]}.items():
            flag = "yes" if any(layer.trainable_variables for layer in layers) else "no"
            count = sum(layer.count_params() for layer in layers)
            rows.append((name, flag, str(len(layers)), f"{count:,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  "
            f"{row[2]:>{widths[2]}}  {row[3]:>{widths[3]}}"
            for row in rows
        )

    def save(self, folder: Path | str) -> None:
        """Writes ``model.keras``, the full network, and ``model.json``, its description.

        The folder is created if there is none. A model that is there stays until the new network
        is on the disk; without a description there is none.
        """
        folder = spec.path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        written = network_file.written_beside(self.full, folder / "model.keras")
        (folder / "model.json").unlink(missing_ok=True)
        written.replace(folder / "model.keras")
        description = {
            "backbone": self.backbone.full(),
            "task": self.task.full(),
            "classes": self.classes,
            "seed": self.seed,
        }
        files.write_json(folder / "model.json", description)

    @classmethod
    def load(cls, folder: Path | str) -> TransferModel:
        """Returns the model of a folder from `save`, which holds the weights.

        What `Backbone.preprocess` reads besides has to be where it was: the tokenizer in the folder
        of a text backbone, the description of pictures in that of a pair.

        Raises:
            ValueError: The folder holds no model, or there is no tokenizer.
        """
        folder = spec.path(folder)
        if not (folder / "model.json").is_file():
            raise ValueError(f"{folder} holds no model: there is no model.json in it.")
        description = files.read_json(folder / "model.json")
        full = read_network(folder / "model.keras")
        for layer in full.layers:
            if not layer.trainable:
                block_flags.assign(layer, False)
        head = full.get_layer(HEAD)
        body = keras.Model(full.input, called_with(head), name="body")
        backbone = spec.parse(description["backbone"], Backbone)
        backbone.tokenizer  # noqa: B018 - Without its files no text could be predicted.
        task = spec.parse(description["task"], Task)
        loaded = cls.of(backbone, task, description["classes"], body, head, full)
        loaded.seed = description["seed"]
        return loaded

    @classmethod
    def of(
        cls, backbone: Backbone, task: Task, classes: Sequence[str], *networks: keras.Model
    ) -> TransferModel:
        """Returns the model of networks that there are: body, head and full."""
        made = cls.__new__(cls)
        made._hold(backbone, task, classes, *networks)
        made.seed = 0
        return made

    def _known(self, name: str) -> None:
        if name not in self.blocks:
            raise ValueError(
                f"No block {name!r} in {self.backbone.name}; {spec.nearest(name, [*self.blocks])}"
            )


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds the generators that Keras draws its seeds from, and restores them afterwards.

    TensorFlow's is not among them. `tf.random.set_seed`, which `keras.utils.set_random_seed` calls,
    also destroys every SentencePiece tokenizer of tensorflow-text that there is. Layers without a
    name are counted from the beginning.
    """
    before, arrays_before = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        with frameworks.counted_afresh():
            yield
    finally:
        random.setstate(before)
        np.random.set_state(arrays_before)


def _readout(backbone: Backbone, network: keras.Model) -> Any:
    """Returns `Backbone.readout`; raises ValueError if there is none."""
    if (found := backbone.readout(network)) is None:
        raise ValueError(
            f"{backbone.name} cannot tell the next piece of a text, which the task needs; use a "
            "network that was trained to, such as --backbone=\"gpt2(weights='FOLDER')\", or "
            "another --task."
        )
    return found


def _inputs_like(outputs: Any) -> Any:
    """Returns symbolic inputs for one tensor or a dict; Keras wants those of a dict named so."""
    if isinstance(outputs, Mapping):
        return {
            name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=name)
            for name, tensor in outputs.items()
        }
    return keras.Input(outputs.shape[1:], dtype=outputs.dtype)


def called_with(layer: keras.Layer) -> Any:
    """Returns the symbolic inputs of a layer's last call, in their nested structure."""
    return layer._inbound_nodes[-1].arguments.args[0]


def _readable(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [_readable(one) for one in value]
    return value.decode() if isinstance(value, bytes) else value
