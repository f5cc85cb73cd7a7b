"""TFLite: for phones, browsers and small computers."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np

from tlkeras import metadata
from tlkeras.exporter import UNSTATED, Exporter
from tlkeras.frameworks import keras, tf


class TFLite(Exporter, name="tflite"):
    """One file ``model.tflite`` of built-in operations, one picture at a time.

    It takes float32 [1, size, size, 3] in [0, 255], scaling inside, and gives the served outputs.
    """

    def files(self):
        return ("model.tflite",)

    def write(self, model, samples, out, origin=UNSTATED):
        shape = [1, *model.full.inputs[0].shape[1:]]
        archive: Any = keras.export.ExportArchive()
        archive.track(model.full)
        signature = [tf.TensorSpec(shape, tf.float32, name="image")]
        archive.add_endpoint("serving_default", model.served, input_signature=signature)
        with tempfile.TemporaryDirectory() as saved:
            archive.write_out(saved, verbose=False)
            converter = tf.lite.TFLiteConverter.from_saved_model(saved)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
            (out / "model.tflite").write_bytes(
                metadata.described(converter.convert(), model, origin)
            )

    def load(self, out):
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_path=str(out / "model.tflite"))
        run = interpreter.get_signature_runner("serving_default")

        def predict(inputs):
            rows = [run(image=row[None]) for row in inputs]
            return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

        return predict
