"""The networks of keras.applications, each a row of one table.

Every row becomes a final spec, ``from tlkeras.backbones.applications import MobileNetV2``. Its
network takes pixels in [0, 255] and includes `keras.applications.….preprocess_input`.
"""

from __future__ import annotations

import collections
import contextlib
import io
import types
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from tlkeras import files
from tlkeras.backbone import Backbone
from tlkeras.frameworks import keras
from tlkeras.images.pixels import squash
from tlkeras.kinds.image import Image
from tlkeras.model.pyramid import features

IMAGENET = "imagenet"
SUFFIXES = (".weights.h5", ".h5", ".keras")

Shapes = collections.Counter[tuple[int, ...]]

# Mean and deviation of ImageNet's pixels in [0, 1], red first.
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


def _symmetric(x: Any) -> Any:
    """[0, 255] to [-1, 1]."""
    return keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(x)


def _caffe(x: Any) -> Any:
    """Blue first, minus the mean of each channel."""
    mean = (103.939, 116.779, 123.68)
    blue_first = keras.ops.flip(x, axis=-1)
    return keras.layers.Normalization(mean=mean, variance=(1, 1, 1), name="scale")(blue_first)


def _standard(x: Any) -> Any:
    """Mean 0 and deviation 1 over ImageNet."""
    mean = [255 * m for m in MEAN]
    variance = [(255 * d) ** 2 for d in DEVIATION]
    return keras.layers.Normalization(mean=mean, variance=variance, name="scale")(x)


def _inside(x: Any) -> Any:
    """The constructor scales."""
    return x


class Family(NamedTuple):
    """The common properties of networks of one kind.

    Attributes:
        block_pattern: As `Backbone.block_pattern`.
        scale: Maps symbolic pixels in [0, 255] to the scale of the published weights.
        smallest: The least input height of the constructor.
        alphas: The width multipliers with published weights, if the constructor has any.
    """

    block_pattern: str
    scale: Callable[[Any], Any]
    smallest: int = 32
    alphas: tuple[float, ...] = ()


CONVNEXT = Family(r"_(stage_\d)_", _inside)
DENSENET = Family(r"^(conv\d|pool\d)_", _standard)
EFFICIENTNET = Family(r"^(block\d)[a-z]_|^(top)_", _inside)
# Their modules have names only where branches meet.
INCEPTION_RESNET = Family(r"^(?P<last>mixed_\d[ab]|block\d+_\d+|conv_7b)", _symmetric, smallest=75)
INCEPTION = Family(r"^(?P<last>mixed\d+)$", _symmetric, smallest=75)
MOBILENET = Family(r"^(conv_dw_\d+)$", _symmetric, alphas=(0.25, 0.5, 0.75, 1.0))
MOBILENET_V2 = Family(r"^(block_\d+|Conv_1)", _symmetric, alphas=(0.35, 0.5, 0.75, 1.0, 1.3, 1.4))
MOBILENET_V3 = Family(r"^(expanded_conv(?:_\d+)?)_|^(conv_1)", _inside, alphas=(0.75, 1.0))
NASNET = Family(r"^((?:normal|reduction)_conv_1_\w+)$", _symmetric)
RESNET = Family(r"^(conv\d+)_", _caffe)
RESNET_V2 = Family(r"^(conv\d+)_", _symmetric)
VGG = Family(r"^(block\d)_", _caffe)
XCEPTION = Family(r"^(block\d+)_", _symmetric, smallest=71)

# Constructor, name, family, and the input height of the published weights.
TABLE: tuple[tuple[str, str, Family, int], ...] = (
    ("ConvNeXtBase", "convnext_base", CONVNEXT, 224),
    ("ConvNeXtLarge", "convnext_large", CONVNEXT, 224),
    ("ConvNeXtSmall", "convnext_small", CONVNEXT, 224),
    ("ConvNeXtTiny", "convnext_tiny", CONVNEXT, 224),
    ("ConvNeXtXLarge", "convnext_xlarge", CONVNEXT, 224),
    ("DenseNet121", "densenet121", DENSENET, 224),
    ("DenseNet169", "densenet169", DENSENET, 224),
    ("DenseNet201", "densenet201", DENSENET, 224),
    ("EfficientNetB0", "efficientnet_b0", EFFICIENTNET, 224),
    ("EfficientNetB1", "efficientnet_b1", EFFICIENTNET, 240),
    ("EfficientNetB2", "efficientnet_b2", EFFICIENTNET, 260),
    ("EfficientNetB3", "efficientnet_b3", EFFICIENTNET, 300),
    ("EfficientNetB4", "efficientnet_b4", EFFICIENTNET, 380),
    ("EfficientNetB5", "efficientnet_b5", EFFICIENTNET, 456),
    ("EfficientNetB6", "efficientnet_b6", EFFICIENTNET, 528),
    ("EfficientNetB7", "efficientnet_b7", EFFICIENTNET, 600),
    ("EfficientNetV2B0", "efficientnet_v2_b0", EFFICIENTNET, 224),
    ("EfficientNetV2B1", "efficientnet_v2_b1", EFFICIENTNET, 240),
    ("EfficientNetV2B2", "efficientnet_v2_b2", EFFICIENTNET, 260),
    ("EfficientNetV2B3", "efficientnet_v2_b3", EFFICIENTNET, 300),
    ("EfficientNetV2L", "efficientnet_v2_l", EFFICIENTNET, 480),
    ("EfficientNetV2M", "efficientnet_v2_m", EFFICIENTNET, 480),
    ("EfficientNetV2S", "efficientnet_v2_s", EFFICIENTNET, 384),
    ("InceptionResNetV2", "inception_resnet_v2", INCEPTION_RESNET, 299),
    ("InceptionV3", "inception_v3", INCEPTION, 299),
    ("MobileNet", "mobilenet", MOBILENET, 224),
    ("MobileNetV2", "mobilenet_v2", MOBILENET_V2, 224),
    ("MobileNetV3Large", "mobilenet_v3_large", MOBILENET_V3, 224),
    ("MobileNetV3Small", "mobilenet_v3_small", MOBILENET_V3, 224),
    ("NASNetLarge", "nasnet_large", NASNET, 331),
    ("NASNetMobile", "nasnet_mobile", NASNET, 224),
    ("ResNet50", "resnet50", RESNET, 224),
    ("ResNet50V2", "resnet50v2", RESNET_V2, 224),
    ("ResNet101", "resnet101", RESNET, 224),
    ("ResNet101V2", "resnet101v2", RESNET_V2, 224),
    ("ResNet152", "resnet152", RESNET, 224),
    ("ResNet152V2", "resnet152v2", RESNET_V2, 224),
    ("VGG16", "vgg16", VGG, 224),
    ("VGG19", "vgg19", VGG, 224),
    ("Xception", "xception", XCEPTION, 299),
)


class Application(Backbone):
    """A network of keras.applications without its classifier.

    `weights` is ``'imagenet'``, a download by Keras; the path of a weights file, with or without
    the classifier; or None for random weights. `size` is the input's height and width.
    """

    family: ClassVar[Family]
    published_size: ClassVar[int]

    size: int
    weights: str | None = IMAGENET

    def validate(self):
        smallest, alphas = self.family.smallest, self.family.alphas
        self.require(self.size >= smallest, "size", f"at least {smallest}")
        known = self.weights in (None, IMAGENET) or str(self.weights).endswith(SUFFIXES)
        endings = ", ".join(SUFFIXES)
        self.require(known, "weights", f"'imagenet', None or the path of a file {endings}")
        for alpha in self._options().values():
            self.require(alpha > 0, "alpha", "more than 0")
            published = self.weights != IMAGENET or alpha in alphas
            choices = ", ".join(map(str, alphas))
            self.require(published, "alpha", f"one of {choices} where weights='imagenet'")

    def build(self):
        if self.weights == IMAGENET:
            network = self._application(self.size, IMAGENET)
        else:
            network = self._application(self.size, None)
            with _published_scaling(network):
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
        return files.known_sha256(_existing(self._path, self))

    @property
    def _path(self) -> Path | None:
        return None if self.weights in (None, IMAGENET) else Path(self.weights).expanduser()

    def _options(self) -> Mapping[str, float]:
        """Returns the arguments that only this constructor takes."""
        return {}

    def _application(self, size: int, weights: str | None, *, top: bool = False) -> keras.Model:
        """Returns a new network with its scaling, as one flat graph."""
        constructor = getattr(keras.applications, type(self).__name__)
        inputs = keras.Input([size, size, 3])
        with warnings.catch_warnings():
            # Sizes without weights of their own take those of 224 pixels.
            warnings.filterwarnings("ignore", "`input_shape` is undefined")
            try:
                network = constructor(
                    input_tensor=self.family.scale(inputs),
                    input_shape=(size, size, 3),
                    include_top=top,
                    weights=weights,
                    **self._options(),
                )
            except Exception as error:  # Keras raises no narrower one.
                if "URL fetch failure" not in str(error):
                    raise
                raise ValueError(
                    f"The ImageNet weights of {self.name} cannot be downloaded ({error}). Set "
                    f"the path of a file, {self.name}(weights='FILE.h5')."
                ) from None
        return keras.Model(inputs, network.output)

    def _load(self, network: keras.Model, path: Path) -> None:
        """Loads a file with or without the classifier of 1000 classes."""
        shapes = _shapes_in(_existing(path, self), self)
        whole = network
        if _shapes(network) < shapes:
            whole = self._application(self.published_size, None, top=True)
        if _shapes(whole) != shapes:
            raise ValueError(self._misfit(path, shapes, network))
        try:
            whole.load_weights(path)
        except (KeyError, OSError, ValueError) as error:
            raise ValueError(
                f"{path} cannot be loaded into {self.name}, though the shapes fit: {error}"
            ) from None
        if whole is not network:  # The classifier comes last.
            network.set_weights([w.numpy() for w in whole.weights[: len(network.weights)]])

    def _misfit(self, path: Path, shapes: Shapes, network: keras.Model) -> str:
        missing, extra = _shapes(network) - shapes, shapes - _shapes(network)
        message = (
            f"{path} does not hold the weights of {self.name}: of its {len(network.weights)} "
            f"arrays {_summary(missing)} are missing, and {_summary(extra)} are extra. "
        )
        for alpha in self.family.alphas:
            other = self.replace(alpha=alpha)
            if other != self and _shapes(other._application(self.size, None)) <= shapes:
                return message + f"They fit alpha={alpha}: write {other}."
        return message + (
            f"Use a file of keras.applications.{type(self).__name__}, without its classifier or "
            "with that of 1000 classes."
        )


class ScalableApplication(Application):
    """An application with a width multiplier, `alpha`."""

    alpha: float = 1.0

    def _options(self):
        return {"alpha": self.alpha}


def _member(constructor: str, name: str, family: Family, size: int) -> type[Application]:
    def fill(namespace: dict[str, Any]) -> None:
        namespace.update(
            __module__=__name__,
            __doc__=f"`keras.applications.{constructor}`.",
            __annotations__={"size": int},
            size=size,
            published_size=size,
            family=family,
            block_pattern=family.block_pattern,
        )

    base = ScalableApplication if family.alphas else Application
    return types.new_class(constructor, (base,), {"name": name}, fill)


globals().update({row[0]: _member(*row) for row in TABLE})

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...


@contextlib.contextmanager
def _published_scaling(network: keras.Model) -> Iterator[None]:
    """Makes the EfficientNets' first layers divide by the deviation, also after a load.

    The published files hold the deviation, but Keras's layer expects the variance.
    keras.applications corrects it only after its own download
    (https://github.com/tensorflow/tensorflow/issues/49930).
    """
    norms = [
        layer
        for layer in network.layers
        if isinstance(layer, keras.layers.Normalization) and layer.weights
    ]
    for layer in norms:
        layer.set_weights([np.array(MEAN), np.array(DEVIATION), np.array(0)])
    yield
    for layer in norms:
        mean, variance, count = layer.get_weights()
        if np.allclose(variance, DEVIATION, atol=1e-3):
            layer.set_weights([mean, np.square(variance), count])
        layer.finalize_state()


def _existing(path: Path, backbone: Application) -> Path:
    if not path.is_file():
        raise ValueError(f"{backbone.name}.weights is {str(path)!r}, but there is no such file.")
    return path


def _shapes(network: keras.Model) -> Shapes:
    return collections.Counter(tuple(weight.shape) for weight in network.weights)


def _shapes_in(path: Path, backbone: Application) -> Shapes:
    """Returns the shapes of the arrays in a weights file, without those of an optimizer."""
    import h5py

    shapes: Shapes = collections.Counter()

    def count(place: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not place.startswith("optimizer"):
            shapes[item.shape] += 1

    try:
        file = _unzipped(path) if path.suffix == ".keras" else path
        with h5py.File(file, "r") as read:
            read.visititems(count)
            layers: Any = read.get("model_weights", read)
            by_keras_2 = "layer_names" in layers.attrs
    except (KeyError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{backbone.name}.weights is {str(path)!r}, which is damaged or no weights file "
            f"({error}). Download it again."
        ) from None
    if path.suffix == ".h5" and by_keras_2 == path.name.endswith(".weights.h5"):
        ending = ".h5" if by_keras_2 else ".weights.h5"
        raise ValueError(
            f"{path} has the layout of a file that ends in {ending}, and Keras reads it only under "
            "such a name. Rename it."
        )
    return shapes


def _unzipped(path: Path) -> io.BytesIO:
    with zipfile.ZipFile(path) as archive:
        return io.BytesIO(archive.read("model.weights.h5"))


def _summary(shapes: Shapes) -> str:
    example = next(iter(shapes), None)
    return "0" if example is None else f"{shapes.total()} (such as {list(example)})"
