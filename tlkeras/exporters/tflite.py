"""TFLite: for phones, browsers and small computers."""

from __future__ import annotations

import contextlib
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tlkeras.exporter import UNSTATED, Exporter
from tlkeras.formats import bias_correction, litert, litert_metadata
from tlkeras.frameworks import tf

CALIBRATION = 128
"""Training examples by which the ranges of int8 are set; one at a time is in memory."""


class TFLite(Exporter, name="tflite"):
    """One file of built-in operations, one picture at a time: ``model.tflite``, or with the kind.

    It takes float32 [1, size, size, 3] in [0, 255], scaling inside, and gives the served outputs.
    ``dynamic`` keeps the weights in 8 bits, and where LiteRT can, the inputs of a layer are rounded
    to 8 bits as they come; ``float16`` keeps them in 16 and computes in float. ``int8`` computes in
    integers alone, weights scaled by channel, ranges set by training examples; it takes the pixels
    as uint8 and gives uint8, to be scaled as the file says.
    """

    quantize: Literal["none", "dynamic", "float16", "int8"] = "none"

    @property
    def tolerance(self):
        return _KINDS[self.quantize].tolerance

    @property
    def max_drop(self):
        return _KINDS[self.quantize].max_drop

    def files(self):
        return ("model.tflite" if self.quantize == "none" else f"model_{self.quantize}.tflite",)

    def write(self, model, samples, out, origin=UNSTATED):
        (name,) = self.files()
        with _beside(out / name) as folder:
            file = _KINDS[self.quantize].file(litert.saved(model, folder / "saved"), samples)
            file = litert.written(litert.parsed(file))
            (folder / name).write_bytes(litert_metadata.described(file, model, origin))
            (folder / name).replace(out / name)

    def load(self, out):
        return litert.load(_whole(out / self.files()[0]))

    def load_on(self, out, threads):
        return litert.load(_whole(out / self.files()[0]), threads)

    def facts(self, out):
        counts, inexact = litert.operations((out / self.files()[0]).read_bytes())
        return {"operations": counts, "float_operations": inexact}


def _whole(path: Path) -> Path:
    """Returns the path of a file that ends in its labels; LiteRT would not miss them."""
    if path.is_file() and not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} cannot be loaded: its {path.stat().st_size:,} bytes are damaged or cut off, "
            "the labels at the end are not there. Export it again."
        )
    return path


class _Kind(NamedTuple):
    """What makes a file of a SavedModel and training inputs, and how near to Keras it is."""

    file: Callable[[Path, Any], bytes]
    tolerance: float
    max_drop: float = 1.0


def _none(saved: Path, samples: Any) -> bytes:
    return litert.converted(litert.converter(saved))


def _dynamic(saved: Path, samples: Any) -> bytes:
    converter = litert.converter(saved)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return litert.converted(converter)


def _float16(saved: Path, samples: Any) -> bytes:
    converter = litert.converter(saved)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return litert.converted(converter)


def _int8(saved: Path, samples: Any) -> bytes:
    if samples is None or not any(True for _ in samples.take(1)):
        raise ValueError(
            "tflite(quantize='int8') sets its ranges by training examples, and there are none; "
            "give it some, or take quantize='dynamic' or 'float16', which need none."
        )
    converter = litert.converter(saved)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    converter.representative_dataset = lambda: ([batch] for batch in _calibration(samples))
    file = litert.converted(converter)
    _, inexact = litert.operations(file)
    if inexact:
        # These two stand only where integers end and begin.
        named = [name for name in inexact if name not in ("QUANTIZE", "DEQUANTIZE")]
        raise ValueError(
            "tflite(quantize='int8'): this network cannot compute in integers alone, because "
            f"LiteRT has its {', '.join(named)} in float only; take quantize='dynamic' or "
            "'float16', or another backbone."
        )
    return bias_correction.corrected(file, _none(saved, samples), _calibration(samples))


# 1 where the numbers are rounded too much to be promised: of these the accuracy judges.
_KINDS = {
    "none": _Kind(_none, 1e-4),
    "dynamic": _Kind(_dynamic, 1.0),
    "float16": _Kind(_float16, 1.0),
    "int8": _Kind(_int8, 1.0, max_drop=2.0),
}


def _calibration(samples: Any) -> Iterator[Any]:
    """Yields batches of one training input.

    The first has a black and a white pixel, whatever it showed: so the input's scale is exactly 1
    and its zero 0, and a client hands over pixels as they are.
    """
    for place, pixels in enumerate(samples.take(CALIBRATION).as_numpy_iterator()):
        batch = pixels[None].copy()
        if place == 0:
            batch[0, 0, 0], batch[0, -1, -1] = 0, 255
        yield batch


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yields a folder beside a file to be, which is gone afterwards; tells if it cannot be made."""
    try:
        folder = tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise ValueError(
            f"{path} cannot be written: {path.parent}: {error.strerror}. Choose a folder that is "
            "there and that you may write to."
        ) from None
    with folder as made:
        yield Path(made)
