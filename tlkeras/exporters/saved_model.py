"""SavedModel: for TensorFlow Serving, and for anything that runs TensorFlow."""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkeras import wire
from tlkeras.exporter import UNSTATED, Exporter, Predict, existing
from tlkeras.formats import signature, usage
from tlkeras.frameworks import tf
from tlkeras.kind import SERVING, Entrance, Kind
from tlkeras.model import constants, vector

if TYPE_CHECKING:
    from tlkeras.backbone import Backbone
    from tlkeras.model.transfer_model import TransferModel

# https://github.com/tensorflow/serving/blob/master/tensorflow_serving/g3doc/saved_model_warmup.md
_WARM_UP = "assets.extra/tf_serving_warmup_requests"

# The signature for TensorFlow Serving's Classify call, and the outputs that the call reads.
_CLASSIFY = "classify"
_RATED = ("classes", "scores")

_EXAMPLES = "examples"

# Arrays of at most so many weights are constants: 256 of the 263 of MobileNetV2 0.35, 226 of the
# 272 of ResNet50V2. Larger ones stay variables: of these there is one copy in memory.
_FEW = 16_384


class SavedModel(Exporter, name="saved_model"):
    """A folder ``saved_model`` whose signatures prepare raw examples and name the classes.

    There is a signature for every name in `Kind.entrances` of what the backbone reads,
    ``examples``, and ``classify`` if the task rates classes. Those of pictures:

    | signature | takes, and as what |
    |---|---|
    | ``serving_default`` | ``image``: uint8 [b, h, w, 3] of any size |
    | ``float`` | ``image``: the same as float32 in [0, 255] |
    | ``encoded`` | ``image``: the bytes of picture files, strings [b] |
    | ``examples`` | ``examples``: serialized tf.Example, strings [b], ``image`` a file's bytes |
    | ``classify`` | ``inputs``: the same; for TensorFlow Serving's Classify call |

    Texts have ``serving_default``, strings [b], in the place of the first three. So have sentences
    as words, strings [b, words] with empty ones behind the last, and ``text``, whole sentences,
    strings [b], whose words white space parts; what is found there is told in characters, too. All
    but the last answer with the served outputs and the class names, ``classify`` with ``classes``
    and ``scores`` alone. What has places is in those of the picture that was sent; see
    `Task.placed`. Picture files are decoded as they lie: a client turns photos upright and fills
    transparent pixels, as ingest does. TensorFlow Serving warms the model up by requests with
    `Kind.sample`, which is nobody's.
    """

    def files(self):
        return ("saved_model",)

    def write(self, model, samples, out, origin=UNSTATED):
        out = existing(out)
        self.fits(model)
        kinds, specs = model.backbone.raw(), signature.specs(model)
        run, weights = vector.served(model), constants.read([model.full], _FEW)

        @tf.function(input_signature=[specs], autograph=False)
        def observe(inputs):
            with constants.scope(weights):
                return run(signature.unnamed(inputs, model.full))

        # One function in the file, called by all the signatures, and by `load`.
        @tf.function(input_signature=[specs], autograph=False)
        def answer(inputs):
            served = dict(observe(inputs))
            del served[vector.FEATURES]
            return model.task.named(served, model.classes)

        def placed(inputs, sizes):
            served = answer(signature.named(inputs, specs))
            return {**served, **model.task.placed(served, sizes)}

        def answer_examples(serialized):
            return placed(*_from_examples(model, serialized))

        def classify(serialized):
            served = answer_examples(serialized)
            return {name: served[name] for name in _RATED}

        signatures = {
            name: _signature(model, placed, entrances) for name, entrances in _ways(kinds).items()
        }
        signatures[_EXAMPLES] = _of_strings(answer_examples, "examples")
        rates = set(_RATED) <= _answered(model)
        if rates:
            signatures[_CLASSIFY] = _of_strings(classify, "inputs")
        # Saved with Keras's own ExportArchive, every weight would be in the file twice.
        module: Any = tf.Module()
        held = {id(variable) for variable, _ in weights}
        module.weights = [each.value for each in model.full.variables if id(each) not in held]
        module.answer, module.observe = answer, observe
        module.tokenizer = _tracked(model.backbone)
        folder = out / "saved_model"
        tf.saved_model.save(module, str(folder), signatures)
        if rates:
            _answers_classify(folder)
        (folder / _WARM_UP).parent.mkdir(exist_ok=True)
        with tf.io.TFRecordWriter(str(folder / _WARM_UP)) as file:
            for request in _requests(origin.name, kinds, rates):
                file.write(request.SerializeToString())

    def load(self, out):
        return _predicting(_loaded(out / "saved_model"), "answer")

    def observed(self, out):
        return _predicting(_loaded(out / "saved_model"), "observe")

    def endpoints(self, out, kinds):
        """Returns all signatures but ``classify``, which has no served outputs."""
        loaded = _loaded(out / "saved_model")

        def call(name, **sent):
            # The signature has the variables only as long as `loaded` lives.
            served = loaded.signatures[name](**sent)
            return {output: tensor.numpy() for output, tensor in served.items()}

        def entrance(name, entrances):
            def called(values):
                if not all(_carries(entrances[key], values[key]) for key in kinds):
                    return None
                return call(name, **{key: _sent(entrances[key], values[key]) for key in kinds})

            return called

        found = {name: entrance(name, entrances) for name, entrances in _ways(kinds).items()}
        found[_EXAMPLES] = lambda values: call(
            _EXAMPLES, examples=tf.constant([_example(kinds, values).SerializeToString()])
        )
        return found

    def usage(self, backbone, task):
        code = _USE if _tracked(backbone) is None else _REGISTERS + _USE
        return usage.of_values(backbone.raw(), "saved_model", code)


def _predicting(loaded: Any, name: str) -> Predict:
    (specs,) = getattr(loaded, name).input_signature

    def predict(batch: Any) -> dict[str, Any]:
        arrays = signature.named(batch, specs)
        # The function has the variables only as long as `loaded` lives.
        served = getattr(loaded, name)(
            {key: tf.constant(arrays[key], each.dtype) for key, each in specs.items()}
        )
        return {key: np.asarray(tensor) for key, tensor in served.items()}

    return predict


def _tracked(backbone: Backbone) -> Any:
    """Returns what holds the resources of the tokenizer; None if it has none."""
    return backbone.tokenizer.tracked if backbone.tokenizer else None


_LOADED: weakref.WeakValueDictionary[tuple[Path, int], Any] = weakref.WeakValueDictionary()


def _loaded(folder: Path) -> Any:
    """Returns a SavedModel; the same one as long as another caller holds it."""
    key = folder.resolve(), (folder / "saved_model.pb").stat().st_mtime_ns
    if (held := _LOADED.get(key)) is None:
        held = _LOADED[key] = _read(folder)
    return held


def _read(folder: Path) -> Any:
    """Returns a SavedModel, also one with a tokenizer of KerasHub."""
    try:
        return tf.saved_model.load(folder)
    except RuntimeError as error:
        if "Op type not registered" not in str(error):
            raise
    importlib.import_module("tensorflow_text")  # It registers the tokenizer's operations.
    return tf.saved_model.load(folder)


def _ways(kinds: Mapping[str, Kind]) -> dict[str, dict[str, Entrance]]:
    """Returns, for every name of an entrance, the entrance of each key.

    A key without an entrance of that name is sent as at `SERVING`.
    """
    offered = {key: kind.entrances() for key, kind in kinds.items()}
    names = dict.fromkeys([SERVING, *(name for each in offered.values() for name in each)])
    return {
        name: {key: each.get(name, each[SERVING]) for key, each in offered.items()}
        for name in names
    }


def _answered(model: TransferModel) -> set[str]:
    """Returns the names of what clients get, without a trace of the network.

    What is traced before `tf.saved_model.save` would be traced once more in it.
    """
    outputs = tf.nest.map_structure(
        lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype), model.full.output
    )

    @tf.function(input_signature=[outputs], autograph=False)
    def answer(outputs):
        return model.task.named(model.task.served(outputs), model.classes)

    return {*answer.get_concrete_function().structured_outputs}


def _signature(
    model: TransferModel, answer: Callable[[Any, Any], Any], entrances: Mapping[str, Entrance]
) -> Any:
    """Returns the function that answers a batch which comes through these entrances."""

    def prepared(sent: Mapping[str, Any]) -> Any:
        example = dict(sent)
        for key, entrance in entrances.items():
            if entrance.decoded:
                example[key] = entrance.decoded(sent[key])
        return _prepared(model, example)

    def serve(sent: Mapping[str, Any]) -> Any:
        if any(entrance.decoded for entrance in entrances.values()):
            answered = answer(*tf.map_fn(prepared, sent, fn_output_signature=_row(model)))
        else:
            inputs, size = prepared(sent)
            count = tf.shape(next(iter(sent.values())))[:1]
            answered = answer(inputs, tf.tile(size[None], tf.concat([count, [1]], axis=0)))
        for key, entrance in entrances.items():
            if entrance.places:
                answered = model.task.located(answered, entrance.places(sent[key]))
        return answered

    specs = {
        key: tf.TensorSpec([None, *entrance.shape], entrance.dtype, name=key)
        for key, entrance in entrances.items()
    }
    return tf.function(serve, input_signature=[specs], autograph=False)


def _from_examples(model: TransferModel, serialized: Any) -> Any:
    """Returns the inputs of a batch of serialized tf.Example, and the sizes of the pictures."""
    kinds = model.backbone.raw()
    features = {key: kind.parsing() for key, kind in kinds.items()}

    def prepared(one: Any) -> Any:
        stored = tf.io.parse_single_example(one, features)
        example = {key: kind.decoded(stored[key]) for key, kind in kinds.items()}
        return _prepared(model, example)

    return tf.map_fn(prepared, serialized, fn_output_signature=_row(model))


def _prepared(model: TransferModel, example: Mapping[str, Any]) -> tuple[Any, Any]:
    """Returns the inputs for a decoded example or for a batch, and the size of its picture."""
    return model.backbone.preprocess(example), model.backbone.sides(example)


def _row(model: TransferModel) -> tuple[Any, Any]:
    """Returns the form of what `_prepared` gives of one example."""
    return signature.row(model), tf.TensorSpec([2], tf.int32)


def _of_strings(run: Callable[[Any], Any], argument: str) -> Any:
    specs = [tf.TensorSpec([None], tf.string, name=argument)]
    return tf.function(run, input_signature=specs, autograph=False)


def _answers_classify(folder: Path) -> None:
    """Marks the signature for the Classify call; TensorFlow 2 marks all for Predict."""
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
    method = tf.compat.v1.saved_model.CLASSIFY_METHOD_NAME
    updater.replace_method_name(_CLASSIFY, method, tags=[tf.saved_model.SERVING])
    updater.save()


def _carries(entrance: Entrance, value: Any) -> bool:
    return entrance.carries is None or entrance.carries(value)


def _sent(entrance: Entrance, value: Any) -> Any:
    """Returns the batch of one standard value that a client sends."""
    return tf.constant([entrance.request(value)], entrance.dtype)


def _example(kinds: Mapping[str, Kind], values: Mapping[str, Any]) -> Any:
    """Returns the tf.Example of standard values."""
    put = wire.example({key: kind.put(values[key]) for key, kind in kinds.items()})
    return tf.train.Example.FromString(put)


def _requests(model: str, kinds: Mapping[str, Kind], rates: bool) -> Iterator[Any]:
    """Yields one PredictionLog per signature, each of one sample."""
    logs: Any = importlib.import_module("tensorflow_serving.apis.prediction_log_pb2")
    values = {key: kind.sample() for key, kind in kinds.items()}
    example = _example(kinds, values)
    sent = {
        name: {key: _sent(entrances[key], values[key]) for key in kinds}
        for name, entrances in _ways(kinds).items()
    }
    for name, inputs in {**sent, _EXAMPLES: {"examples": [example.SerializeToString()]}}.items():
        log = logs.PredictionLog()
        request = log.predict_log.request
        request.model_spec.name, request.model_spec.signature_name = model, name
        for key, batch in inputs.items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(batch))
        yield log
    if rates:
        log = logs.PredictionLog()
        request = log.classify_log.request
        request.model_spec.name, request.model_spec.signature_name = model, _CLASSIFY
        request.input.example_list.examples.append(example)
        yield log


_REGISTERS = "import tensorflow_text  # It registers the operations of the tokenizer.\n"

_USE = """\
import tensorflow as tf

loaded = tf.saved_model.load(FILE)  # The signature needs its variables: it must live on.
served = loaded.signatures["serving_default"](INPUTS)
for name, value in served.items():
    print(name, value.numpy())
"""
