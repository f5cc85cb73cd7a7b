"""LiteRT: a fitted model as one .tflite file of built-in operations, and what runs such a file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.exporter import Predict
from tlkeras.frameworks import keras, tf
from tlkeras.model import TransferModel

INPUT = "image"
"""The name of the one input, float32 [1, size, size, 3] in [0, 255]; scaling is inside."""


def converted(model: TransferModel) -> bytes:
    """Returns the file's contents; its signature gives the served outputs of one picture."""
    shape = [1, *model.full.inputs[0].shape[1:]]
    archive: Any = keras.export.ExportArchive()
    archive.track(model.full)
    signature = [tf.TensorSpec(shape, tf.float32, name=INPUT)]
    archive.add_endpoint("serving_default", model.served, input_signature=signature)
    with tempfile.TemporaryDirectory() as saved:
        archive.write_out(saved, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(saved)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        return converter.convert()


def load(path: Path) -> Predict:
    """Returns a function that runs a file that `converted` gave, one picture after another."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    run = interpreter.get_signature_runner("serving_default")

    def predict(inputs):
        rows = [run(**{INPUT: row[None]}) for row in inputs]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    return predict
