"""What servers and other runtimes find in the exports."""

import errno
import importlib
import io
import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from conftest import SUMMANDS, Tiny, Wordy, assert_near
from PIL import Image

from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.backbones.starter_text import StarterText
from tlkeras.exporter import Details, Exporter, Origin
from tlkeras.exporters.keras import Keras
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.frameworks import counted_afresh, keras, tf, writing
from tlkeras.images import decoding
from tlkeras.kinds.image import Image as ImageKind
from tlkeras.model.transfer_model import TransferModel
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.language_modeling import LanguageModeling
from tlkeras.tasks.regression import Regression
from tlkeras.tasks.segmentation import Segmentation

CLASSES = ("blue", "green", "red")
ORIGIN = Origin("colours", "ab" * 32, Details(authors="Ada", licence="CC0-1.0"))


@pytest.fixture(scope="module")
def model():
    return TransferModel(Tiny(), Classification(), CLASSES, seed=0)


@pytest.fixture(scope="module")
def samples():
    inputs = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    return tf.data.Dataset.from_tensor_slices(inputs)


@pytest.fixture(scope="module")
def saved(model, samples, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    SavedModel().write(model, samples, out, ORIGIN)
    return out


@pytest.fixture(scope="module")
def loaded(saved):
    return tf.saved_model.load(saved / "saved_model")


def encoded(pixels, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def serialized(picture):
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[picture]))
    example = tf.train.Example(features=tf.train.Features(feature={"image": feature}))
    return example.SerializeToString()


@pytest.mark.equality
def test_every_signature_answers_as_the_model_does(model, loaded):
    pixels = np.random.default_rng(1).integers(0, 256, (2, 50, 40, 3)).astype(np.uint8)
    files = [encoded(one) for one in pixels]
    serial = tf.constant([serialized(file) for file in files])
    signatures = loaded.signatures
    answers = [
        signatures["serving_default"](image=tf.constant(pixels)),
        signatures["float"](image=tf.constant(pixels.astype("float32"))),
        signatures["encoded"](image=tf.constant(files)),
        signatures["examples"](examples=serial),
    ]
    expected = model.predict(list(pixels))
    for served in answers:
        for i, one in enumerate(expected):
            np.testing.assert_allclose(served["probabilities"][i], one["probabilities"], atol=1e-5)
            assert served["label"][i].numpy().decode() == one["label"]
            assert [name.decode() for name in served["classes"][i].numpy()] == one["classes"]
    rated = signatures["classify"](inputs=serial)
    assert rated.keys() == {"classes", "scores"}
    np.testing.assert_array_equal(rated["classes"], answers[3]["classes"])
    np.testing.assert_array_equal(rated["scores"], answers[3]["scores"])


def test_the_ways_in_which_clients_call_give_what_the_model_predicts(model, saved):
    pixels = np.random.default_rng(5).integers(0, 256, (50, 40, 3)).astype(np.uint8)
    (expected,) = model.predict([pixels])
    calls = SavedModel().endpoints(saved, model.backbone.raw())
    assert [*calls] == ["serving_default", "float", "encoded", "examples"]
    for call in calls.values():
        found = call({"image": encoded(pixels)})
        assert found is not None
        np.testing.assert_allclose(found["probabilities"][0], expected["probabilities"], atol=1e-5)


def test_written_again_an_export_takes_the_place_of_the_first(model, samples, tmp_path):
    for _ in range(2):
        SavedModel().write(model, samples, tmp_path, ORIGIN)
    inputs = next(iter(samples.batch(2)))
    served = SavedModel().load(tmp_path)(inputs)["probabilities"]
    np.testing.assert_allclose(served, model.served(inputs)["probabilities"], atol=1e-5)


@pytest.mark.equality
def test_classes_and_their_scores_come_best_first(model, loaded):
    pixels = np.random.default_rng(2).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    served = loaded.signatures["serving_default"](image=tf.constant(pixels))
    by_hand = model.served(model.backbone.preprocess({"image": pixels}))["probabilities"].numpy()
    order = np.argsort(-by_hand, axis=-1)
    np.testing.assert_array_equal(served["classes"], np.array(CLASSES, dtype="S")[order])
    expected = np.take_along_axis(by_hand, order, axis=-1)
    assert_near(served["scores"], expected, SUMMANDS["logits"])


@pytest.mark.equality
@pytest.mark.parametrize(("kind", "mode"), [("PNG", "RGB"), ("PNG", "L"), ("JPEG", "RGB")])
def test_files_are_decoded_in_the_graph_as_they_are_for_training(model, loaded, kind, mode):
    pixels = np.random.default_rng(3).integers(0, 256, (37, 53, 3)).astype(np.uint8)
    file = encoded(np.asarray(Image.fromarray(pixels).convert(mode)), kind)
    (expected,) = model.predict([file])  # Through ingest's normalization and preprocess.
    served = loaded.signatures["encoded"](image=tf.constant([file]))
    assert_near(served["probabilities"][0], expected["probabilities"], SUMMANDS["logits"])


@pytest.mark.equality
def test_the_graph_takes_a_photo_as_it_lies_and_ingest_turns_it_upright(model, loaded):
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:, :16] = 255, 0, 0
    exif = Image.Exif()
    exif[0x0112] = 6
    file = encoded(pixels, "JPEG", exif=exif, quality=95)
    served = loaded.signatures["encoded"](image=tf.constant([file]))["probabilities"][0]
    (upright,) = model.predict([file])
    (lying,) = model.predict([decoding.picture(tf.constant(file)).numpy()])
    assert_near(served, lying["probabilities"], SUMMANDS["logits"])
    assert np.abs(served - upright["probabilities"]).max() > 1e-4


def test_the_classify_signature_is_marked_for_the_classify_call(saved):
    file = (saved / "saved_model" / "saved_model.pb").read_bytes()
    from tensorflow.core.protobuf import saved_model_pb2

    signatures = saved_model_pb2.SavedModel.FromString(file).meta_graphs[0].signature_def
    methods = {name: signature.method_name for name, signature in signatures.items()}
    methods.pop("__saved_model_init_op")
    assert methods.pop("classify") == "tensorflow/serving/classify"
    assert methods.keys() == {"serving_default", "float", "encoded", "examples"}
    assert set(methods.values()) == {"tensorflow/serving/predict"}


def test_the_warm_up_requests_are_ones_that_the_signatures_answer(saved, loaded):
    protos: Any = importlib.import_module("tensorflow_serving.apis.prediction_log_pb2")
    path = saved / "saved_model" / "assets.extra" / "tf_serving_warmup_requests"
    records = [*tf.data.TFRecordDataset(str(path)).as_numpy_iterator()]
    logs = [protos.PredictionLog.FromString(record) for record in records]
    *predicted, classified = logs
    picture = tf.make_ndarray(predicted[0].predict_log.request.inputs["image"])
    assert np.unique(picture).size == 1  # It is nobody's.
    names = []
    for log in predicted:
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert request.model_spec.name == "colours"
        given = {key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}
        served = loaded.signatures[request.model_spec.signature_name](**given)
        assert served["label"].shape == (1,)
        names.append(request.model_spec.signature_name)
    assert names == ["serving_default", "float", "encoded", "examples"]
    request = classified.classify_log.request
    assert request.model_spec.signature_name == "classify"
    (example,) = request.input.example_list.examples
    served = loaded.signatures["classify"](inputs=tf.constant([example.SerializeToString()]))
    assert served["scores"].shape == (1, 3)


ALONE = """
import json, sys
sys.modules["tlkeras"] = sys.modules["pipeline"] = None  # As if they were not installed.
try:
    import tlkeras
except ImportError:
    pass
else:
    sys.exit("tlkeras can be imported")
import numpy as np
pixels = np.load("pixels.npy")
{run}
print(json.dumps(np.asarray(served["probabilities"]).tolist()))
"""

RUNS = {
    "saved_model": """
import tensorflow as tf
loaded = tf.saved_model.load("saved_model")
served = loaded.signatures["serving_default"](image=tf.constant(pixels))
""",
    "keras": """
import keras
served = keras.saving.load_model("model.keras")(pixels.astype("float32"))
""",
    "tflite": """
from ai_edge_litert.interpreter import Interpreter
run = Interpreter("model.tflite").get_signature_runner("serving_default")
served = run(image=pixels.astype("float32"))
""",
    "onnx": """
import onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
served = {"probabilities": session.run(["probabilities"], {"image": pixels.astype("float32")})[0]}
""",
}


@pytest.mark.parametrize("name", RUNS)
def test_an_export_runs_in_a_fresh_process_without_tlkeras(name, model, samples, tmp_path):
    if name == "onnx":
        pytest.importorskip("tf2onnx", reason="the extra [onnx] is not installed")
    spec.parse(name, Exporter).write(model, samples, tmp_path)
    pixels = np.random.default_rng(4).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    ended = subprocess.run(
        [sys.executable, "-c", ALONE.format(run=RUNS[name])],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr
    served = json.loads(ended.stdout.splitlines()[-1])
    expected = model.served(pixels.astype("float32"))["probabilities"]
    np.testing.assert_allclose(served, expected, atol=1e-5)


def test_equal_networks_are_equal_keras_files(model, samples, tmp_path):
    for place in ("one", "other"):
        (tmp_path / place).mkdir()
        Keras().write(model, samples, tmp_path / place)
    one, other = (tmp_path / place / "model.keras" for place in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("task", "backbone", "classes"),
    [
        (Regression(), StarterText(), ()),
        (LanguageModeling(), Wordy(input="text"), tuple("abcdefgh")),
    ],
    ids=lambda value: getattr(value, "member", ""),
)
def test_a_keras_file_is_written_of_a_model_that_a_new_process_has_read(
    task, backbone, classes, tmp_path
):
    TransferModel(backbone, task, classes).save(tmp_path / "model")
    with counted_afresh():  # As Keras counts in a new process.
        Keras().write(TransferModel.load(tmp_path / "model"), None, tmp_path)
    read: Any = keras.saving.load_model(tmp_path / "model.keras")
    assert read.operations


def test_an_onnx_file_tells_its_labels_and_origin(model, samples, tmp_path):
    pytest.importorskip("tf2onnx", reason="the extra [onnx] is not installed")
    import onnxruntime

    spec.parse("onnx", Exporter).write(model, samples, tmp_path, ORIGIN)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (given,), (served,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == (
        "image",
        "tensor(float)",
        ["batch", 32, 32, 3],
    )
    assert (served.name, served.shape) == ("probabilities", ["batch", 3])
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["labels"]) == list(CLASSES)
    assert (told["author"], told["license"], told["version"]) == ("Ada", "CC0-1.0", ORIGIN.digest)


def test_an_onnx_file_of_a_number_names_no_class(samples, tmp_path):
    pytest.importorskip("tf2onnx", reason="the extra [onnx] is not installed")
    import onnxruntime

    number = TransferModel(Tiny(), Regression(), CLASSES, seed=0)
    spec.parse("onnx", Exporter).write(number, samples, tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert json.loads(session.get_modelmeta().custom_metadata_map["labels"]) == []


def test_an_onnx_file_names_each_of_the_values_of_a_mask(samples, tmp_path):
    pytest.importorskip("tf2onnx", reason="the extra [onnx] is not installed")
    import onnxruntime

    masks = TransferModel(Tiny(), Segmentation(width=8), CLASSES, seed=0)
    spec.parse("onnx", Exporter).write(masks, samples, tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
    assert labels == ["background", *CLASSES]
    assert session.get_outputs()[0].shape[-1] == len(labels)


class Normalized(Backbone, name="normalized"):
    """What tf2onnx needs help with: constants of a layer, grouped convolutions, the exact GELU."""

    block_pattern = r"^(conv)"

    def build(self):
        inputs = keras.Input([32, 32, 3])
        x = keras.layers.Normalization(mean=[100, 110, 120], variance=[9, 16, 25])(inputs)
        x = keras.layers.Conv2D(8, 3, strides=4, name="conv")(x)
        x = keras.layers.Conv2D(8, 3, groups=4, padding="same", activation="gelu", name="groups")(x)
        return keras.Model(inputs, {"pooled": keras.ops.mean(x, axis=(1, 2))}, name=self.name)

    def raw(self):
        return {"image": ImageKind()}

    def preprocess(self, example):
        return tf.image.resize(example["image"], [32, 32])


def test_onnx_takes_constants_of_layers_grouped_convolutions_and_gelu(
    samples, tmp_path, monkeypatch
):
    pytest.importorskip("tf2onnx", reason="the extra [onnx] is not installed")
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    monkeypatch.delitem(sys.modules, "tf2onnx.convert", raising=False)
    model = TransferModel(Normalized(), Classification(), CLASSES, seed=0)
    exporter = spec.parse("onnx", Exporter)
    exporter.write(model, samples, tmp_path)
    inputs = np.stack([*samples.as_numpy_iterator()])
    served = exporter.load(tmp_path)(inputs)["probabilities"]
    np.testing.assert_allclose(served, model.served(inputs)["probabilities"], atol=1e-5)
    assert "TF_CPP_MIN_LOG_LEVEL" not in os.environ  # As its import leaves it.


def test_a_network_that_is_no_onnx_is_one_clear_message(samples, tmp_path, monkeypatch):
    pytest.importorskip("tf2onnx", reason="the extra [onnx] is not installed")
    exporter = spec.parse("onnx", Exporter)
    monkeypatch.setattr("tlkeras.exporters.onnx._erfc", lambda *arguments: None)
    model = TransferModel(Normalized(), Classification(), CLASSES, seed=0)
    with pytest.raises(
        ValueError, match=r"normalized cannot be written as ONNX, .* for Erfc .* use"
    ):
        exporter.write(model, samples, tmp_path)
    assert not any(tmp_path.iterdir())


def test_without_the_extra_onnx_is_one_clear_message(monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    message = r"onnx needs tf2onnx, which cannot be imported: pip install 'tlkeras\[onnx\]'"
    with pytest.raises(ValueError, match=message):
        spec.parse("onnx", Exporter)


@pytest.mark.parametrize(
    "said", ["/a/b.pb; {why}", "{{{{function_node __SaveV2_1}}}} /a/b.pb; {why} [Op:SaveV2]"]
)
def test_a_disk_that_is_full_for_tensorflow_is_the_error_that_python_raises(said):
    why = os.strerror(errno.ENOSPC)
    with pytest.raises(OSError, match=why) as raised, writing():
        raise tf.errors.ResourceExhaustedError(None, None, said.format(why=why))
    assert raised.value.errno == errno.ENOSPC and raised.value.filename == "/a/b.pb"


def test_another_lack_stays_what_tensorflow_calls_it():
    with pytest.raises(tf.errors.ResourceExhaustedError, match="memory"), writing():
        raise tf.errors.ResourceExhaustedError(None, None, "OOM: no memory for a tensor")
