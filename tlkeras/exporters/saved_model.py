"""SavedModel: for TensorFlow Serving, and for anything that runs TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np

from tlkeras import examples
from tlkeras.exporter import UNSTATED, Exporter
from tlkeras.frameworks import keras, tf


class SavedModel(Exporter, name="saved_model"):
    """A folder ``saved_model`` whose signatures resize, scale and name the classes themselves.

    ``serving_default`` takes ``image`` uint8 [b, h, w, 3] of any size, ``float`` the same as
    float32 in [0, 255], ``encoded`` takes ``image`` as the bytes of picture files, strings [b],
    which are decoded as they lie: a client turns photos upright and fills what is transparent.
    """

    def files(self):
        return ("saved_model",)

    def write(self, model, samples, out, origin=UNSTATED):
        def serve(image):
            inputs = model.backbone.preprocess({"image": image})
            return model.task.named(model.served(inputs), model.classes)

        def serve_encoded(image):
            inputs = tf.map_fn(
                lambda encoded: model.backbone.preprocess({"image": examples.picture(encoded)}),
                image,
                fn_output_signature=tf.float32,
            )
            return model.task.named(model.served(inputs), model.classes)

        archive: Any = keras.export.ExportArchive()
        archive.track(model.full)
        pixels = [None, None, None, 3]
        for name, run, shape, dtype in [
            ("serving_default", serve, pixels, tf.uint8),
            ("float", serve, pixels, tf.float32),
            ("encoded", serve_encoded, [None], tf.string),
        ]:
            signature = [tf.TensorSpec(shape, dtype, name="image")]
            archive.add_endpoint(name, run, input_signature=signature)
        archive.write_out(out / "saved_model", verbose=False)

    def load(self, out):
        loaded = tf.saved_model.load(out / "saved_model")
        run = loaded.signatures["float"]

        def predict(inputs):
            # The signature keeps the loaded variables only as long as `loaded` lives.
            served = run(image=tf.constant(inputs)) if loaded else {}
            return {name: np.asarray(tensor) for name, tensor in served.items()}

        return predict

    def endpoints(self, out):
        loaded = tf.saved_model.load(out / "saved_model")

        def call(name, image):
            served = loaded.signatures[name](image=image)
            return {name: tensor.numpy() for name, tensor in served.items()}

        return {
            "serving_default": lambda image, encoded: call(
                "serving_default", tf.constant(image[None])
            ),
            "encoded": lambda image, encoded: call("encoded", tf.constant([encoded])),
        }
