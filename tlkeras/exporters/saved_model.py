"""SavedModel: for TensorFlow Serving, and for anything that runs TensorFlow."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.exporter import UNSTATED, Exporter
from tlkeras.frameworks import tf
from tlkeras.images import decoding

# https://github.com/tensorflow/serving/blob/master/tensorflow_serving/g3doc/saved_model_warmup.md
_WARM_UP = "assets.extra/tf_serving_warmup_requests"

# What TensorFlow Serving's Classify call asks of the signature that it is told.
_CLASSIFY = "classify"
_RATED = ("classes", "scores")


class SavedModel(Exporter, name="saved_model"):
    """A folder ``saved_model`` whose signatures resize, scale and name the classes themselves.

    | signature | takes, and as what |
    |---|---|
    | ``serving_default`` | ``image``: uint8 [b, h, w, 3] of any size |
    | ``float`` | ``image``: the same as float32 in [0, 255] |
    | ``encoded`` | ``image``: the bytes of picture files, strings [b] |
    | ``examples`` | ``examples``: serialized tf.Example, strings [b], ``image`` a file's bytes |
    | ``classify`` | ``inputs``: the same; for TensorFlow Serving's Classify call |

    All but the last answer with the served outputs and the class names, ``classify`` with
    ``classes`` and ``scores`` alone, and only for tasks that rate classes. Files are decoded as
    they lie: a client turns photos upright and fills what is transparent, as ingest does. Requests
    with a grey picture, nobody's, are kept for TensorFlow Serving to warm the model up.
    """

    def files(self):
        return ("saved_model",)

    def write(self, model, samples, out, origin=UNSTATED):
        inputs = tf.TensorSpec([None, *model.full.inputs[0].shape[1:]], tf.float32)

        # One function in the file, called by all the signatures.
        @tf.function(input_signature=[inputs])
        def answer(prepared):
            return model.task.named(model.served(prepared), model.classes)

        def serve(image):
            return answer(model.backbone.preprocess({"image": image}))

        def serve_encoded(image):
            prepared = tf.map_fn(
                lambda encoded: model.backbone.preprocess({"image": decoding.picture(encoded)}),
                image,
                fn_output_signature=tf.float32,
            )
            return answer(prepared)

        def serve_examples(serialized):
            features = {"image": tf.io.FixedLenFeature([], tf.string)}
            return serve_encoded(tf.io.parse_example(serialized, features)["image"])

        def classify(serialized):
            served = serve_examples(serialized)
            return {name: served[name] for name in _RATED}

        pixels = [None, None, None, 3]
        endpoints = [
            ("serving_default", serve, "image", pixels, tf.uint8),
            ("float", serve, "image", pixels, tf.float32),
            ("encoded", serve_encoded, "image", [None], tf.string),
            ("examples", serve_examples, "examples", [None], tf.string),
        ]
        rates = set(_RATED) <= answer.get_concrete_function().structured_outputs.keys()
        if rates:
            endpoints.append((_CLASSIFY, classify, "inputs", [None], tf.string))
        # Saved with Keras's own ExportArchive, every weight would be in the file twice.
        module: Any = tf.Module()
        module.weights = [variable.value for variable in model.full.variables]
        signatures = {
            name: tf.function(run, input_signature=[tf.TensorSpec(shape, dtype, name=argument)])
            for name, run, argument, shape, dtype in endpoints
        }
        folder = out / "saved_model"
        tf.saved_model.save(module, str(folder), signatures)
        if rates:
            _answers_classify(folder)
        (folder / _WARM_UP).parent.mkdir(exist_ok=True)
        with tf.io.TFRecordWriter(str(folder / _WARM_UP)) as file:
            for request in _requests(origin.name, inputs.shape[1:], rates):
                file.write(request.SerializeToString())

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

        def call(name, **given):
            served = loaded.signatures[name](**given)
            return {name: tensor.numpy() for name, tensor in served.items()}

        return {
            "serving_default": lambda image, encoded: call(
                "serving_default", image=tf.constant(image[None])
            ),
            "encoded": lambda image, encoded: call("encoded", image=tf.constant([encoded])),
            "examples": lambda image, encoded: call(
                "examples", examples=tf.constant([_example(encoded).SerializeToString()])
            ),
        }


def _answers_classify(folder: Path) -> None:
    """Marks the signature for the Classify call; TensorFlow 2 marks all for Predict."""
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
    method = tf.compat.v1.saved_model.CLASSIFY_METHOD_NAME
    updater.replace_method_name(_CLASSIFY, method, tags=[tf.saved_model.SERVING])
    updater.save()


def _example(encoded: bytes) -> Any:
    """Returns the tf.Example of a picture file's bytes."""
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))
    return tf.train.Example(features=tf.train.Features(feature={"image": feature}))


def _requests(model: str, shape: Any, rates: bool) -> Iterator[Any]:
    """Yields one PredictionLog per signature, each of one grey picture."""
    logs: Any = importlib.import_module("tensorflow_serving.apis.prediction_log_pb2")
    picture = tf.fill(shape, tf.constant(128, tf.uint8))
    encoded = tf.io.encode_jpeg(picture).numpy()
    serialized = _example(encoded).SerializeToString()
    for signature, argument, value in [
        ("serving_default", "image", picture[None]),
        ("float", "image", tf.cast(picture[None], tf.float32)),
        ("encoded", "image", [encoded]),
        ("examples", "examples", [serialized]),
    ]:
        log = logs.PredictionLog()
        request = log.predict_log.request
        request.model_spec.name, request.model_spec.signature_name = model, signature
        request.inputs[argument].CopyFrom(tf.make_tensor_proto(value))
        yield log
    if rates:
        log = logs.PredictionLog()
        request = log.classify_log.request
        request.model_spec.name, request.model_spec.signature_name = model, _CLASSIFY
        request.input.example_list.examples.append(_example(encoded))
        yield log
