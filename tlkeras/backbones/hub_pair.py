"""The networks of KerasHub that know pictures and texts, each a row of one table.

Every row becomes a final spec, ``from tlkeras.backbones.hub_pair import CLIP``. Its picture tower
is the network; its text tower rates class names for ``zero_shot``, and is never exported.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tlkeras.backbone import Backbone
from tlkeras.frameworks import keras, tf
from tlkeras.images.framing import Framing
from tlkeras.kinds.image import Image
from tlkeras.model.pyramid import STRIDES
from tlkeras.texts import checkpoints, hub_files, inputs, towers
from tlkeras.texts.layout import Settings
from tlkeras.texts.towers import Towers, Values


def _clip(pair: Any) -> tuple[Any, Any]:
    """Returns the symbolic tokens of the patches and the projected token of the class."""
    found = pair.vision_encoder.output
    patches = keras.layers.Cropping1D((1, 0), name="patches")(found)
    return patches, pair.vision_projection(pair.vision_pooler(found))


def _siglip(pair: Any) -> tuple[Any, Any]:
    """Returns the symbolic tokens of the patches and what attention makes of them."""
    vision = pair.vision_encoder
    vision.head.name = "pooling"  # There is a head of the task, too.
    return vision.post_layer_norm.output, vision.output


Ends = Callable[[Any], tuple[Any, Any]]

# Class, name, how a folder describes it, what comes out of the picture tower, and the smallest
# published preset of KerasHub.
TABLE: tuple[tuple[str, str, Towers, Ends, str], ...] = (
    ("CLIP", "clip", towers.CLIP, _clip, "clip_vit_base_patch32"),
    ("SigLIP", "siglip", towers.SIGLIP, _siglip, "siglip_base_patch16_224"),
)


class HubPair(Backbone):
    """A picture tower of KerasHub whose ``pooled`` features texts can be compared with.

    `weights` is a folder of Hugging Face's libraries with ``model.safetensors``; the folder of a
    Keras preset; the name of one, a download by KerasHub; or None for random weights of the sizes
    in the folder `configuration`. ``pooled`` is behind the projection, not of unit length. The
    tokens of the patches are a map where their size is one of the strides of `pyramid` and the
    network sees all of a picture: the places of a mask or a box are not those of a cropped one.

    Pictures are resized, cropped and scaled as the weights say: a folder in
    ``preprocessor_config.json``, a preset in its image converter. CLIP of OpenAI takes the square
    in the middle, SigLIP scales the sides independently. The network has one size of picture.
    """

    folders: ClassVar[Towers]
    ends: ClassVar[Ends]
    block_pattern = r"(encoder_block_\d+|vision_pooler|pooling)$"

    weights: str | None
    configuration: Path | None = None

    def validate(self):
        if self.weights is None:
            expected = "a folder with config.json, as weights=None says no sizes"
            self.require(self.configuration is not None, "configuration", expected)
        else:
            expected = f"None, as weights={self.weights!r} has its own"
            self.require(self.configuration is None, "configuration", expected)

    def build(self):
        pair = self._pair()
        vision = pair.vision_encoder
        framing, scale, offset = self._pictures
        size = framing.size
        if tuple(vision.image_shape) != (size, size, 3):
            raise ValueError(
                f"{self}: the network takes pictures of {list(vision.image_shape)}, but its "
                f"preprocessor makes squares of {size}."
            )
        given = keras.Input([size, size, 3])
        pixels = keras.layers.Rescaling(scale, offset, name="scale")(given)  # pyright: ignore[reportArgumentType]
        tokens, pooled = type(self).ends(pair)
        inner = keras.Model(vision.input, {"tokens": tokens, "pooled": pooled})
        hub = keras.Model(given, inner.call({"images": pixels}))
        network = checkpoints.rebuilt(hub, {})  # With the layers that are mended.
        network.set_weights(hub.get_weights())
        features: Any = network.output
        found = {"pooled": features["pooled"]}
        if (stride := vision.patch_size) in STRIDES and not framing.crop:
            side = size // stride
            shape = [side, side, features["tokens"].shape[-1]]
            found[f"stride{stride}"] = keras.layers.Reshape(shape, name="map")(features["tokens"])
        return keras.Model(network.input, found, name=self.name)

    def raw(self):
        return {"image": Image()}

    def preprocess(self, example):
        return self._pictures[0](example["image"])

    def words(self, texts):
        def rows(batch: Any) -> Any:
            blank = tf.zeros([len(batch), 1, 1, 3])  # SigLIP's has to have pictures.
            ids = self._preprocessor({"prompts": batch, "images": blank})["token_ids"]
            return self._reader.get_text_embeddings(ids)

        found = inputs.in_parts(texts, rows).astype(np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def fingerprint(self):
        return hub_files.fingerprint(each for each in (self.configuration, self._path) if each)

    def preparation(self):
        return hub_files.preparation(self.configuration or self._path)

    @functools.cached_property
    def _path(self) -> Path | None:
        """The folder of the weights; None if they are random or a preset's name."""
        return hub_files.existing(self.name, self.weights)

    @functools.cached_property
    def _folder(self) -> Path | None:
        """The folder of Hugging Face's that describes the pair; None if it is a preset."""
        folder = self.configuration or self._path
        if folder is None:
            return None
        file = folder / "config.json"
        found = hub_files.settings(file, "what the network is")
        if (kind := found.get("model_type", "")) == self.folders.model_type:
            return folder
        if "registered_name" in found and self.configuration is None:
            return None
        names = ", ".join(row[1] for row in TABLE)
        raise ValueError(
            f"{file}: model_type is {kind!r}, which {self.name} does not read; there are {names}."
        )

    @functools.cached_property
    def _settings(self) -> Settings:
        """``config.json`` of the folder."""
        assert self._folder is not None
        return towers.settings(self._folder, self.folders)

    @functools.cached_property
    def _reader(self) -> Any:
        """The pair whose text tower `words` runs, read once."""
        return self._pair()

    def _pair(self) -> Any:
        """Returns both towers with their weights."""
        if self._folder is None:
            return self._preset("Backbone")
        pair = towers.random(self._settings, self.folders)
        if self._path is not None:
            towers.load(pair, self._folder, self.folders)
        return pair

    @functools.cached_property
    def _preprocessor(self) -> Any:
        """KerasHub's, from texts to ids; that of a preset also knows its pictures."""
        if self._folder is None:
            return self._preset("Preprocessor")
        length = self._settings["text_config"]["max_position_embeddings"]
        try:
            tokenizer = self.folders.tokenizer(self._folder)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{self._folder} has no tokenizer: {error}.") from None
        return self.folders.kind("Preprocessor")(tokenizer, sequence_length=length)

    @functools.cached_property
    def _pictures(self) -> tuple[Framing, Values, Values]:
        """How pictures become squares, and the scale and the offset of pixels in [0, 255]."""
        if self._folder is not None:
            return towers.pictures(self._folder, self._settings["vision_config"]["image_size"])
        converter = self._preprocessor.image_converter
        if converter is None or not converter.image_size or converter.pad_to_aspect_ratio:
            raise ValueError(
                f"{self.name}.weights is {self.weights!r}, whose preprocessor resizes no pictures "
                "or pads them; expected one with an image converter that resizes or crops."
            )
        framing = Framing(
            converter.image_size[0],
            converter.interpolation,
            converter.antialias,
            converter.crop_to_aspect_ratio,
        )
        scale = 1.0 if converter.scale is None else converter.scale
        offset = 0.0 if converter.offset is None else converter.offset
        return framing, _three(scale), _three(offset)

    def _preset(self, part: str) -> Any:
        """Returns the pair or the preprocessor of a preset."""
        kind = self.folders.kind(part)
        made = hub_files.preset(self.name, str(self._path or self.weights), kind)
        if not isinstance(made, kind):
            raise ValueError(
                f"{self.name}.weights is {self.weights!r}, which holds a {type(made).__name__}, "
                f"expected a {kind.__name__}."
            )
        return made


def _three(given: Any) -> Values:
    """Returns a number for each colour."""
    red, green, blue = np.broadcast_to(np.asarray(given, float), [3])
    return float(red), float(green), float(blue)


def _member(
    constructor: str, name: str, described: Towers, ends: Ends, preset: str
) -> type[HubPair]:
    def fill(namespace: dict[str, Any]) -> None:
        namespace.update(
            __module__=__name__,
            __doc__=f"`keras_hub.models.{constructor}Backbone`; see `HubPair`.",
            __annotations__={"weights": "str | None"},
            weights=preset,
            folders=described,
            ends=staticmethod(ends),
        )

    return types.new_class(constructor, (HubPair,), {"name": name}, fill)


globals().update({row[0]: _member(*row) for row in TABLE})

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
