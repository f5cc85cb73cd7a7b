"""TFLite: for phones, browsers and small computers."""

from __future__ import annotations

import contextlib
import math
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tlkeras.exporter import UNSTATED, Exporter, existing, require_fits_one_file
from tlkeras.formats import (
    bert_inputs,
    bias_correction,
    litert,
    litert_metadata,
    signature,
    usage,
)
from tlkeras.formats.joined import joined
from tlkeras.frameworks import tf

if TYPE_CHECKING:
    from tlkeras.model.transfer_model import TransferModel
    from tlkeras.task import Task

CALIBRATION = 128
"""Training examples by which the ranges of int8 are set; one at a time is in memory."""

_LARGEST = 255 / 256  # The score of 8 bits: LiteRT gives probabilities this scale.

_TEXTS = "in which texts lose: accuracy fell from 0.850 to 0.675 on SST-2 with MiniLM"
_LOSES = {"text": _TEXTS, "words": _TEXTS}
"""Why a network does not compute in integers alone, by `Kind.meaning` of what it reads."""


class TFLite(Exporter, name="tflite"):
    """One file of built-in operations for one example at a time, ``model.tflite`` or with the kind.

    It takes what `Backbone.preprocess` gives, by the names of the inputs, and gives the served
    outputs. Pictures are float32 [1, size, size, 3] in [0, 255], scaling inside. ``dynamic``
    stores the weights in 8 bits, and where LiteRT can, the inputs of a layer are rounded to 8 bits
    as they come; ``float16`` stores them in 16 and computes in float. ``int8`` computes in
    integers alone: weights are scaled by channel, those of dense layers by layer, and training
    examples set the ranges. Its inputs and outputs are uint8; the file holds their scales, which
    leave pixels unscaled. What integers are too coarse for, such as making boxes of the outputs of
    a network, computes in float behind it, and the outputs are float32.

    Classes of one text, cut by WordPiece, have the three inputs of `bert_inputs` and the vocabulary
    in the file, so that MediaPipe's `TextClassifier` takes strings.
    """

    quantize: Literal["none", "dynamic", "float16", "int8"] = "none"

    @property
    def tolerance(self):
        return _KINDS[self.quantize].tolerance

    @property
    def max_drop(self):
        return _KINDS[self.quantize].max_drop

    @property
    def is_coarse(self):
        return self.quantize == "int8"

    def files(self):
        return ("model.tflite" if self.quantize == "none" else f"model_{self.quantize}.tflite",)

    def fits(self, model):
        require_fits_one_file(self, model)
        litert_metadata.require(model)
        if self.quantize == "int8":
            for kind in model.backbone.raw().values():
                if reason := _LOSES.get(kind.meaning):
                    raise ValueError(
                        f"tflite(quantize='int8') computes in integers alone, {reason}; for "
                        f"{model.backbone.name} take quantize='dynamic' or 'float16'."
                    )
            _spans(model)
            _require_integers(litert.float_only(model))
            _require_answers(model.task)

    def write(self, model, samples, out, origin=UNSTATED):
        out = existing(out)
        self.fits(model)
        (name,) = self.files()
        with _beside(out / name) as folder:
            file = _KINDS[self.quantize].file(model, samples)
            file = litert.written(litert.parsed(file))
            (folder / name).write_bytes(litert_metadata.described(file, model, origin))
            (folder / name).replace(out / name)

    def load(self, out):
        return litert.load(_whole(out / self.files()[0]))

    def load_on(self, out, threads):
        return litert.load(_whole(out / self.files()[0]), threads)

    def facts(self, out):
        """Returns the operations and the oldest release of TensorFlow Lite that runs the file."""
        file = (out / self.files()[0]).read_bytes()
        counts, inexact = litert.operations(file)
        return {
            "operations": counts,
            "float_operations": inexact,
            "least_runtime": litert.runtime(file),
        }

    def usage(self, backbone, task):
        (name,) = self.files()
        if bert_inputs.vocabulary(backbone, task):
            used = usage.of_values(backbone.raw(), name, _USE_OF_TEXT)
        else:
            used = usage.of_prepared(backbone, name, _USE, _USE_OF_OTHERS)
            used = usage.labelled(used, task)
        return usage.abstaining(used, task)


def _whole(path: Path) -> Path:
    """Returns the path of a file that ends in its labels; LiteRT loads one without its end."""
    if path.is_file() and not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} cannot be loaded: its {path.stat().st_size:,} bytes are damaged or cut off, "
            "the labels at the end are not there. Export it again."
        )
    return path


class _Kind(NamedTuple):
    """The function that writes a file, and the bounds of its difference from Keras.

    The function takes the model and the samples for calibration.
    """

    file: Callable[[TransferModel, Any], bytes]
    tolerance: float
    max_drop: float = 0.01


def _saved(model: TransferModel) -> Path:
    is_bert = bert_inputs.vocabulary(model.backbone, model.task)
    return litert.saved(model, bert_inputs.NAMES if is_bert else ())


def _none(model: TransferModel, samples: Any) -> bytes:
    return litert.exact(_saved(model))


def _dynamic(model: TransferModel, samples: Any) -> bytes:
    return litert.converted(_eight_bits(_saved(model)))


def _float16(model: TransferModel, samples: Any) -> bytes:
    converter = litert.converter(_saved(model))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return litert.converted(converter)


def _int8(model: TransferModel, samples: Any) -> bytes:
    if samples is None or not any(True for _ in samples.take(1)):
        raise ValueError(
            "tflite(quantize='int8') sets its ranges by training examples, and there are none; "
            "give it some, or take quantize='dynamic' or 'float16', which need none."
        )
    if not model.task.needs_float:
        return _integers(litert.saved(model), samples, _spans(model), tf.uint8)
    network, tail = litert.saved_halves(model)
    file = _integers(network, samples, _spans(model), tf.float32)
    return joined(file, litert.exact(tail))


def _integers(saved: Path, samples: Any, spans: Mapping[str, Any], outputs: Any) -> bytes:
    """Returns a network in integers alone, but for the type of its outputs."""
    exact = litert.exact(saved)
    names = litert.inputs(exact)
    converter = _eight_bits(saved)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type, converter.inference_output_type = tf.uint8, outputs
    # For batches by name TensorFlow 2.21 opens an interpreter that warns of its own removal.
    converter.representative_dataset = lambda: (
        [batch[name] for name in names] for batch in _calibration(samples, spans)
    )
    file = litert.converted(converter)
    _, inexact = litert.operations(file)
    _require_integers(inexact)
    return bias_correction.corrected(file, exact, _calibration(samples, spans))


def _require_answers(task: Task) -> None:
    """Raises ValueError if no score is large enough for an answer: the largest is `_LARGEST`."""
    for output in task.outputs():
        if (output.abstains_below or 0) > _LARGEST:
            raise ValueError(
                f"tflite(quantize='int8') serves scores of at most {_LARGEST:.4f}, which is below "
                f"the {output.abstains_below:g} of {task}, so there would never be an answer; "
                "lower it, or take quantize='dynamic' or 'float16'."
            )


def _require_integers(inexact: Sequence[str]) -> None:
    """Raises ValueError if there are operations in float."""
    # These two only lie where the float operations begin and end.
    named = [name for name in inexact if name not in ("QUANTIZE", "DEQUANTIZE")]
    if named:
        raise ValueError(
            "tflite(quantize='int8'): this network cannot compute in integers alone, because "
            f"LiteRT has its {', '.join(named)} in float only; take quantize='dynamic' or "
            "'float16', or another backbone."
        )


def _eight_bits(saved: Path) -> Any:
    """Returns a converter of weights to 8 bits, those of a dense layer with one scale.

    Dense weights scaled by channel need TensorFlow Lite 2.17 as ``dynamic``. As ``int8``, older
    runtimes may take the first scale for all, without an error
    (https://github.com/tensorflow/tflite-micro/pull/2602).
    """
    converter = litert.converter(saved)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    return converter


# Rounded weights have no bound on the difference of an output; there the primary measure decides.
_KINDS = {
    "none": _Kind(_none, 1e-4),
    "dynamic": _Kind(_dynamic, math.inf),
    "float16": _Kind(_float16, math.inf),
    "int8": _Kind(_int8, math.inf, max_drop=0.02),
}


def _spans(model: TransferModel) -> dict[str, tuple[float, float]]:
    """Returns the least and the largest number in each input, by name.

    Raises:
        ValueError: An input has no such bounds, or holds no float numbers.
    """
    kinds = model.backbone.raw()
    found: dict[str, tuple[float, float]] = {}
    for name, spec in signature.specs(model).items():
        span = kinds[name].span if name in kinds else None
        if span is None or not spec.dtype.is_floating:
            raise ValueError(
                f"tflite(quantize='int8') takes inputs of float numbers within bounds, such as "
                f"pixels, and the input {name!r} of {model.backbone.name} is {spec.dtype.name} "
                "without bounds; take quantize='dynamic' or 'float16', or another backbone."
            )
        found[name] = span
    return found


def _calibration(
    samples: Any, spans: Mapping[str, tuple[float, float]]
) -> Iterator[dict[str, Any]]:
    """Yields batches of one training example by the names of the inputs.

    The first and last numbers of the first example are the ends of the span. So the scale of
    pixels is exactly 1 and their zero 0, and a client sends them unscaled.
    """
    for place, inputs in enumerate(samples.take(CALIBRATION).as_numpy_iterator()):
        batch = {name: array[None] for name, array in signature.named(inputs, spans).items()}
        if place == 0:
            for name, span in spans.items():
                batch[name] = batch[name].copy()
                batch[name].flat[[0, -1]] = span
        yield batch


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yields a folder beside a file to be, which is gone afterwards.

    Raises:
        ValueError: The folder of the file cannot be written to.
    """
    try:
        folder = tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise ValueError(
            f"{path} cannot be written: {path.parent}: {error.strerror}. Choose a folder that is "
            "there and that you may write to."
        ) from None
    with folder as path_beside:
        yield Path(path_beside)


_USE = """\
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

run = Interpreter(FILE).get_signature_runner("serving_default")
[(name, details)] = run.get_input_details().items()
height, width = details["shape"][1:3]
picture = Image.fromarray(value).resize((width, height), Image.Resampling.BILINEAR)
served = run(**{name: np.asarray(picture, details["dtype"])[None]})
for name, value in served.items():
    scale, zero = run.get_output_details()[name]["quantization"]
    if scale:  # The numbers that the integers stand for.
        value = scale * (value.astype("float32") - zero)
    print(name, value)
"""

_USE_OF_OTHERS = """\
from ai_edge_litert.interpreter import Interpreter

run = Interpreter(FILE).get_signature_runner("serving_default")
details = run.get_input_details()
named = inputs if isinstance(inputs, dict) else {[*details][0]: inputs}
sent = {name: tensor.numpy() for name, tensor in named.items()}
for name, array in sent.items():
    if details[name]["quantization"][0]:  # Pixels of integers, which stand for themselves.
        sent[name] = array.round().astype(details[name]["dtype"])
for name, value in run(**sent).items():
    scale, zero = run.get_output_details()[name]["quantization"]
    if scale:  # The numbers that the integers stand for.
        value = scale * (value.astype("float32") - zero)
    print(name, value)
"""

_USE_OF_TEXT = """\
from mediapipe.tasks.python import BaseOptions
from mediapipe.tasks.python.text import TextClassifier, TextClassifierOptions

options = TextClassifierOptions(BaseOptions(model_asset_path=FILE))
with TextClassifier.create_from_options(options) as classifier:
    for each in classifier.classify(value).classifications[0].categories:
        print(each.category_name, each.score)
"""
