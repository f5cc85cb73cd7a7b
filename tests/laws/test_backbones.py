"""Laws of every backbone: a new file in `tlkeras.backbones` is tested without touching this one."""

from __future__ import annotations

import atexit
import dataclasses
import functools
import gc
import itertools
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pairs
import pytest
from conftest import members

from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.backbones.aligned import Aligned
from tlkeras.backbones.applications import Application
from tlkeras.backbones.efficientnet_lite import EfficientNetLite
from tlkeras.backbones.hub_pair import HubPair
from tlkeras.backbones.hub_text import HubText
from tlkeras.backbones.starter import Starter
from tlkeras.backbones.starter_text import StarterText
from tlkeras.backbones.towers import Towers
from tlkeras.frameworks import keras, tf
from tlkeras.model import graph
from tlkeras.model.pyramid import STRIDES
from tlkeras.model.transfer_model import TransferModel
from tlkeras.tasks.retrieval import Retrieval

# Small networks that are quick to build; the others of a table are built in the slow tests alone.
QUICK = (
    "convnext_tiny",
    "efficientnet_lite0",
    "efficientnet_v2_b0",
    "mobilenet",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "resnet50v2",
    "vgg16",
)

BLOCKS = {
    "convnext_tiny": 5,
    "densenet121": 9,
    "efficientnet_b0": 9,
    "efficientnet_lite0": 9,
    "efficientnet_v2_b0": 8,
    "inception_resnet_v2": 44,
    "inception_v3": 11,
    "mobilenet": 14,
    "mobilenet_v2": 18,
    "mobilenet_v3_small": 13,
    "nasnet_mobile": 17,
    "resnet50": 6,
    "resnet50v2": 6,
    "vgg16": 6,
    "xception": 15,
}


def small(member: type[Backbone]) -> Backbone:
    """Returns a member with random weights and its least size, where it has such fields."""
    if issubclass(member, Application):
        return member(size=member.family.smallest, weights=None)
    if issubclass(member, HubText):
        return member(weights=None, configuration=configuration(member.name), length=8)
    if issubclass(member, Towers):
        return TOWERS
    if issubclass(member, Aligned):
        return member(pair())
    if issubclass(member, HubPair):
        return member(weights=None, configuration=configuration(member.name))
    return member(size=32) if issubclass(member, EfficientNetLite) else member()


TOWERS = Towers(Starter(size=32), StarterText(length=8))


@functools.cache
def pair() -> Path:
    """Returns the folder of two towers."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    TransferModel(TOWERS, Retrieval(channels=8), ()).save(folder)
    return folder


@functools.cache
def configuration(name: str) -> Path:
    """Returns the folder of a small text network, or of a pair with one."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    describe = checkpoints.describe if name in checkpoints.FAMILIES else pairs.describe
    describe(name, folder)
    return folder


MEMBERS = {name: spec.names(Backbone)[name] for name in [*members(Backbone), "tiny"]}

# The pair of an aligned one would be built for it, each time that tests are collected.
PICTURES = [
    name
    for name, member in MEMBERS.items()
    if member is Aligned or small(member).reads == ("image",)
]

TEXTS = [name for name, member in MEMBERS.items() if issubclass(member, (StarterText, HubText))]


def parameters(names: Iterable[str]) -> list[Any]:
    """Returns the names, slow ones marked."""
    quick = [name for name in MEMBERS if name in QUICK or not is_of_a_table(name)]
    return [pytest.param(name, marks=[] if name in quick else pytest.mark.slow) for name in names]


def is_of_a_table(name: str) -> bool:
    return issubclass(MEMBERS[name], (Application, EfficientNetLite))


of_every_family = pytest.mark.parametrize(
    "built",
    parameters(name for name in MEMBERS if name in BLOCKS or not is_of_a_table(name)),
    indirect=True,
    scope="module",
)
"""Marks a law that takes long: the others of a family differ in depth and width alone."""


@dataclasses.dataclass
class Built:
    """A backbone with its network, a batch for it, and what the network makes of it."""

    backbone: Backbone
    network: keras.Model
    inputs: Any
    outputs: Any

    @property
    def blocks(self) -> dict[str, list[keras.Layer]]:
        return self.backbone.blocks(self.network)


@pytest.fixture(scope="module", params=parameters(MEMBERS))
def built(request: pytest.FixtureRequest) -> Iterator[Built]:
    """Every backbone in turn; one network is in memory at a time."""
    keras.utils.set_random_seed(0)
    backbone = small(MEMBERS[request.param])
    network = backbone.build()
    inputs = keras.tree.map_structure(_batch, network.input)
    one = Built(backbone, network, inputs, network(inputs))
    yield one
    one.network = None
    del network
    gc.collect()


def _batch(tensor: Any) -> Any:
    random = np.random.default_rng(0)
    shape = (2, *tensor.shape[1:])
    if keras.backend.standardize_dtype(tensor.dtype).startswith("int"):
        return tf.constant(random.integers(0, 2, shape), tensor.dtype)
    return tf.constant(random.uniform(0, 255, shape), tensor.dtype)


def _assert_equal(found: Any, expected: Any) -> None:
    keras.tree.assert_same_structure(found, expected)
    pairs = zip(keras.tree.flatten(found), keras.tree.flatten(expected), strict=True)
    for left, right in pairs:
        largest = float(np.abs(right).max())
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5 * largest)


def test_the_output_is_a_dict_of_features_pooled_among_them(built: Built):
    assert isinstance(built.network.output, dict)
    assert len(built.network.output["pooled"].shape) == 2
    assert all(tensor.shape[-1] for tensor in built.network.output.values())


def test_blocks_cover_every_layer_once_in_order(built: Built):
    found = [layer for block in built.blocks.values() for layer in block]
    if built.backbone.towers():  # One after the other; the network has them side by side.
        order = {id(layer): place for place, layer in enumerate(built.network.layers)}
        assert sorted(order[id(layer)] for layer in found) == list(range(len(order)))
        for tower in built.backbone.towers():
            places = [order[id(each)] for each in found if each.name.startswith(f"{tower}_")]
            assert places and places == sorted(places)
    else:
        assert found == built.network.layers
    assert len(built.blocks) > 3


def test_the_blocks_are_those_that_the_family_is_known_to_have(built: Built):
    if built.backbone.name in BLOCKS:
        assert len(built.blocks) == BLOCKS[built.backbone.name]


@of_every_family
def test_a_network_read_back_from_its_configuration_is_the_same(built: Built):
    read = keras.Model.from_config(built.network.get_config())
    read.set_weights(built.network.get_weights())
    for layer in read.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # Reading a file does so, `set_weights` does not.
    _assert_equal(read(built.inputs), built.outputs)


def test_segments_between_all_blocks_compose_to_the_whole(built: Built):
    layers, ends = [], [built.network.input]
    for block in list(built.blocks.values())[:-1]:
        layers += block
        ends.append(graph.boundary(built.network, layers))
    ends.append(built.network.output)
    flowing = built.inputs
    for start, end in itertools.pairwise(ends):
        flowing = graph.segment(built.network, start, end)(flowing)
    _assert_equal(flowing, built.outputs)


@of_every_family
def test_the_last_block_has_weights_to_train(built: Built):
    *_, last = built.blocks.values()
    assert any(layer.weights for layer in last)


@of_every_family
def test_a_network_cut_in_the_middle_is_suffix_after_prefix(built: Built):
    blocks = list(built.blocks.values())
    before = [layer for block in blocks[: len(blocks) // 2] for layer in block]
    prefix, suffix = graph.cut(built.network, before)
    _assert_equal(suffix(prefix(built.inputs)), built.outputs)
    held = {id(variable) for variable in (*prefix.variables, *suffix.variables)}
    assert held == {id(variable) for variable in built.network.variables}


@of_every_family
def test_a_step_moves_the_last_block_and_nothing_that_is_frozen(built: Built):
    *frozen, last = [block for block in built.blocks.values() if any(x.weights for x in block)]
    frozen = [layer for block in frozen for layer in block]
    for layer in frozen:
        layer.trainable = False
    before = [[np.array(weight) for weight in layer.weights] for layer in frozen]
    moving = [np.array(weight) for layer in last for weight in layer.trainable_weights]
    prefix, suffix = graph.cut(
        built.network, built.network.layers[: built.network.layers.index(last[0])]
    )
    crossing = prefix(built.inputs, training=True)
    with tf.GradientTape() as tape:
        outputs = keras.tree.flatten(suffix(crossing, training=True))
        loss = tf.add_n([tf.reduce_mean(x) for x in outputs if x.dtype.is_floating])
    variables = built.network.trainable_variables
    gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
    for variable, gradient in zip(variables, gradients, strict=True):
        variable.assign_sub(0.1 * gradient)
    for layer, values in zip(frozen, before, strict=True):
        for weight, value in zip(layer.weights, values, strict=True):
            np.testing.assert_array_equal(weight, value, err_msg=weight.path)
    moved = [weight for layer in last for weight in layer.trainable_weights]
    assert any(np.any(value != np.array(w)) for value, w in zip(moving, moved, strict=True))
    for layer in frozen:
        layer.trainable = True


def _maps(network: keras.Model) -> dict[str, Any]:
    output: Any = network.output
    return {name: map_ for name, map_ in output.items() if name != "pooled"}


def test_there_is_a_map_of_every_stride_and_of_the_size_it_tells(built: Built):
    if built.backbone.name not in PICTURES:
        pytest.skip("not a picture network")
    size, maps = built.network.input.shape[1], _maps(built.network)
    for name, map_ in maps.items():
        # Valid paddings take up to four rows off a map.
        assert -4 <= map_.shape[1] - size / int(name.removeprefix("stride")) <= 1
    if is_of_a_table(built.backbone.name):
        assert sorted(maps) == sorted(f"stride{stride}" for stride in STRIDES)


def test_words_are_rows_of_unit_length_in_the_space_of_the_pooled_features(built: Built):
    found = built.backbone.words(["a dog", "a red boat"])
    if found is None:
        pytest.skip("knows no words")
    assert found.shape == (2, built.network.output["pooled"].shape[-1])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@of_every_family
def test_maps_grow_with_the_picture_by_exactly_their_stride(built: Built):
    if built.backbone.name not in PICTURES or not _maps(built.network):
        pytest.skip("no network with maps of a picture")
    if "size" not in spec.fields(type(built.backbone)):
        pytest.skip("its weights are for pictures of one size")
    size = built.network.input.shape[1]
    larger: Any = built.backbone.replace(size=size + 64).build().output
    maps = _maps(built.network)
    grown = {name: larger[name].shape[1] - map_.shape[1] for name, map_ in maps.items()}
    assert grown == {name: 64 // int(name.removeprefix("stride")) for name in grown}


@pytest.mark.parametrize("name", MEMBERS)
def test_the_text_of_a_backbone_is_read_back_as_the_same(name: str):
    backbone = small(MEMBERS[name])
    assert spec.parse(str(backbone), Backbone) == backbone
    assert spec.parse(backbone.full(), Backbone) == backbone


@pytest.mark.parametrize("name", PICTURES)
def test_preprocess_gives_the_network_s_input_for_one_picture_and_for_a_batch(name: str):
    backbone = small(MEMBERS[name])
    pictures = np.random.default_rng(0).integers(0, 256, (2, 41, 57, 3)).astype(np.uint8)
    batch = backbone.preprocess({"image": tf.constant(pictures)})
    assert batch.dtype == tf.float32
    assert batch.shape[1] == batch.shape[2] and batch.shape[3] == 3
    assert np.min(batch) >= 0 and np.max(batch) <= 255
    one = backbone.preprocess({"image": tf.constant(pictures[1])})
    np.testing.assert_allclose(one, batch[1], atol=1e-3)


@pytest.mark.parametrize("name", TEXTS)
def test_texts_exceed_a_network_where_a_longer_one_reads_more_pieces(name: str):
    first = tf.constant(["a " * count for count in range(12)])
    second = tf.constant(["a " * (count % 4) for count in range(12)])
    for longer in small(MEMBERS[name]).replace(length=64).forms():
        if longer.most_pieces is None:
            assert "words" in longer.reads
            continue
        example = dict(zip(longer.reads, (first, second), strict=False))
        pieces = np.asarray(longer.lengths(longer.preprocess(example))) - 1  # One is padding.
        backbone = longer.replace(length=int(pieces[7]))
        assert backbone.most_pieces == pieces[7] < pieces.max()
        np.testing.assert_array_equal(backbone.exceeds(example), pieces > pieces[7])
