"""TFLite: for phones, browsers and small computers."""

from __future__ import annotations

from tlkeras import litert, metadata
from tlkeras.exporter import UNSTATED, Exporter


class TFLite(Exporter, name="tflite"):
    """One file ``model.tflite`` of built-in operations, one picture at a time.

    It takes float32 [1, size, size, 3] in [0, 255], scaling inside, and gives the served outputs.
    """

    def files(self):
        return ("model.tflite",)

    def write(self, model, samples, out, origin=UNSTATED):
        file = metadata.described(litert.converted(model), model, origin)
        (out / "model.tflite").write_bytes(file)

    def load(self, out):
        return litert.load(out / "model.tflite")
