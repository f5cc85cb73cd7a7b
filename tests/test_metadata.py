"""What TFLite files say of themselves, as readers that are not ours understand it."""

import io
import shutil
import typing
import zipfile

import numpy as np
import pytest
from conftest import Tiny, Wordy, cropped

from tlkeras import spec
from tlkeras.backbones.applications import MobileNetV2
from tlkeras.backbones.towers import Towers
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.exporter import Details, Origin
from tlkeras.exporters.tflite import TFLite
from tlkeras.formats import litert_metadata
from tlkeras.frameworks import tf
from tlkeras.kinds.image import Image
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipes.fine_tune import FineTune, Phase
from tlkeras.sources.embedded import Embedded
from tlkeras.sources.folder import Folder
from tlkeras.task import Meaning, Output
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.regression import Regression
from tlkeras.tasks.retrieval import Retrieval
from tlkeras.tasks.segmentation import Segmentation

CLASSES = ("blue", "green", "sea red")
ORIGIN = Origin("colours", "ab" * 32, Details(authors="Ada", licence="CC0-1.0"))

KINDS = [
    TFLite(**{field: choice})
    for field, annotation in spec.fields(TFLite).items()
    for choice in typing.get_args(annotation)
] or [TFLite()]
"""Every choice of every field."""


@pytest.fixture(scope="module")
def model():
    return TransferModel(Tiny(), Classification(), CLASSES, seed=0)


@pytest.fixture(scope="module")
def plain(model, tmp_path_factory):
    """The bytes of a model as a converter gives them."""
    shape = [1, *model.full.inputs[0].shape[1:]]
    signature = [tf.TensorSpec(shape, tf.float32, name="image")]
    module = tf.Module()
    module.full = model.full
    module.serve = tf.function(model.served, input_signature=signature)
    folder = str(tmp_path_factory.mktemp("saved"))
    tf.saved_model.save(module, folder, signatures=module.serve)
    return tf.lite.TFLiteConverter.from_saved_model(folder).convert()


@pytest.fixture(scope="module")
def described(model, plain):
    return litert_metadata.described(plain, model, ORIGIN)


def embedded(file):
    """Returns the buffer of the metadata, as the schema of models tells where it is."""
    from ai_edge_litert import schema_py_generated as schema

    model: typing.Any = schema.Model.GetRootAs(file)
    entries = [model.Metadata(i) for i in range(model.MetadataLength())]
    (entry,) = [entry for entry in entries if entry.Name() == b"TFLITE_METADATA"]
    return model.Buffers(entry.Buffer()).DataAsNumpy()


def test_the_metadata_reads_back_by_the_published_schema(described):
    schema = pytest.importorskip("mediapipe.tasks.metadata.metadata_schema_py_generated")
    buffer = embedded(described).tobytes()
    assert schema.ModelMetadata.ModelMetadataBufferHasIdentifier(buffer, 0)
    read = schema.ModelMetadataT.InitFromObj(schema.ModelMetadata.GetRootAs(buffer))
    assert (read.name, read.author, read.license) == (b"colours", b"Ada", b"CC0-1.0")
    assert read.version.decode() == ORIGIN.digest
    assert read.description == b"classification of 3 classes on tiny"
    assert read.minParserVersion == b"1.0.0"
    (graph,) = read.subgraphMetadata
    (picture,), (scores,) = graph.inputTensorMetadata, graph.outputTensorMetadata
    assert isinstance(picture.content.contentProperties, schema.ImagePropertiesT)
    assert picture.content.contentProperties.colorSpace == schema.ColorSpaceType.RGB
    (unit,) = picture.processUnits
    assert isinstance(unit.options, schema.NormalizationOptionsT)
    assert (list(unit.options.mean), list(unit.options.std)) == ([0], [1])
    assert (list(picture.stats.min), list(picture.stats.max)) == ([0], [255])
    assert scores.name == b"probabilities"
    assert isinstance(scores.content.contentProperties, schema.FeaturePropertiesT)
    (file,) = scores.associatedFiles
    assert file.name == b"labels.txt"
    assert file.type == schema.AssociatedFileType.TENSOR_AXIS_LABELS


def test_what_was_not_stated_is_not_written(model, plain):
    schema = pytest.importorskip("mediapipe.tasks.metadata.metadata_schema_py_generated")
    buffer = embedded(litert_metadata.described(plain, model, Origin())).tobytes()
    read = schema.ModelMetadataT.InitFromObj(schema.ModelMetadata.GetRootAs(buffer))
    assert (read.author, read.license, read.version) == (None, None, None)


def test_the_labels_are_an_uncompressed_archive_at_the_end(described):
    with zipfile.ZipFile(io.BytesIO(described)) as archive:
        assert archive.testzip() is None
        (entry,) = archive.infolist()
        assert (entry.filename, entry.compress_type) == ("labels.txt", zipfile.ZIP_STORED)
        assert archive.read(entry).decode().splitlines() == list(CLASSES)


def test_the_model_is_kept_byte_for_byte_and_its_weights_as_aligned(plain, described):
    from ai_edge_litert import schema_py_generated as schema

    assert described.count(plain) == 1
    begin = described.index(plain)
    assert begin % 16 == 0

    def weights(file):
        model: typing.Any = schema.Model.GetRootAs(file)
        first = np.frombuffer(file, np.uint8).__array_interface__["data"][0]
        found = [model.Buffers(i).DataAsNumpy() for i in range(model.BuffersLength())]
        kept = [array for array in found if isinstance(array, np.ndarray)]
        return [array.__array_interface__["data"][0] - first for array in kept]

    *moved, own = weights(described)
    assert moved == [begin + start for start in weights(plain)]
    assert len(moved) > 5
    assert own % 16 == 0


def test_nothing_of_the_old_model_is_lost(plain, described):
    from ai_edge_litert import schema_py_generated as schema

    old: typing.Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(plain))
    new: typing.Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(described))
    assert old.version == new.version == 3
    assert old.description == new.description
    for field in ("operatorCodes", "subgraphs", "signatureDefs"):
        count = len(getattr(old, field))
        assert count == len(getattr(new, field)) > 0
    assert [entry.name for entry in new.metadata[:-1]] == [entry.name for entry in old.metadata]
    for before, after in zip(old.buffers, new.buffers[:-1], strict=True):
        np.testing.assert_array_equal(before.data, after.data)


def test_equal_models_are_equal_files(model, plain, described):
    assert litert_metadata.described(plain, model, ORIGIN) == described


@pytest.mark.parametrize(
    ("file", "message"),
    [(b"", "wrote no TFLite model"), (b"\0" * 64, "wrote no TFLite model")],
)
def test_what_is_no_model_is_refused(model, file, message):
    with pytest.raises(ValueError, match=message):
        litert_metadata.described(file, model, ORIGIN)


def test_class_names_that_do_not_fit_the_output_are_refused(plain):
    other = TransferModel(Tiny(), Classification(), ("one", "two", "three", "four"), seed=0)
    with pytest.raises(ValueError, match=r"has 4 classes, but .* 'probabilities' ends in 3 values"):
        litert_metadata.described(plain, other, ORIGIN)


@pytest.mark.parametrize(
    ("owner", "outputs", "message"),
    [
        (
            Classification,
            (Output("probabilities", typing.cast(typing.Any, "sound")),),
            "the output 'probabilities' of classification: 'sound', expected one of scores, ",
        ),
        (Classification, (Output("other", "scores"),), "serves 'probabilities' and its outputs"),
    ],
)
def test_outputs_of_an_unknown_meaning_are_refused(
    owner, outputs, message, model, plain, monkeypatch
):
    monkeypatch.setattr(owner, "outputs", lambda self: outputs)
    with pytest.raises(ValueError, match=message):
        litert_metadata.described(plain, model, ORIGIN)


@pytest.mark.parametrize(
    ("task", "classes", "said"),
    [
        (Regression(), (), "regression on tiny"),
        (Segmentation(), ("sky",), "segmentation of 1 class on tiny"),
        (Segmentation(), ("sky", "sea"), "segmentation of 2 classes on tiny"),
    ],
)
def test_a_model_of_which_nothing_is_stated_is_described_by_its_task(task, classes, said):
    texts = Origin().texts(TransferModel(Tiny(), task, classes))
    assert texts == {"name": "model", "description": said}


def test_the_labels_of_a_number_are_empty_whatever_classes_the_examples_have(tmp_path):
    TFLite().write(TransferModel(Tiny(), Regression(), CLASSES), None, tmp_path)
    with zipfile.ZipFile(tmp_path / "model.tflite") as archive:
        assert archive.read("labels.txt") == b""


def test_inputs_of_an_unknown_meaning_are_refused_before_the_training(model, monkeypatch):
    monkeypatch.setattr(Image, "meaning", "sound")
    with pytest.raises(ValueError, match=r"the input 'image' of tiny: 'sound', expected one of"):
        TFLite().fits(model)


# What the published schema reads of an output by its meaning: the properties, their range, and how
# the class names belong to it.
MEANINGS = {
    "scores": ("FeaturePropertiesT", None, 2),
    "vector": ("FeaturePropertiesT", None, 2),
    "mask": ("ImagePropertiesT", (1, 2), 2),
    "boxes": ("BoundingBoxPropertiesT", (2, 2), 2),
    "category": ("FeaturePropertiesT", (2, 2), 3),
    "count": ("FeaturePropertiesT", None, 2),
    "tokens": ("FeaturePropertiesT", None, 2),
}


@pytest.mark.parametrize("meaning", typing.get_args(Meaning))
def test_every_meaning_of_an_output_is_written_as_the_schema_has_it(
    meaning, model, plain, monkeypatch
):
    schema = pytest.importorskip("mediapipe.tasks.metadata.metadata_schema_py_generated")
    output = Output("probabilities", meaning, labelled=True)
    monkeypatch.setattr(Classification, "outputs", lambda self: (output,))
    buffer = embedded(litert_metadata.described(plain, model, ORIGIN)).tobytes()
    read = schema.ModelMetadataT.InitFromObj(schema.ModelMetadata.GetRootAs(buffer))
    (graph,) = read.subgraphMetadata
    (tensor,) = graph.outputTensorMetadata
    properties, limits, labels = MEANINGS[meaning]
    assert type(tensor.content.contentProperties).__name__ == properties
    found = tensor.content.range
    assert (found and (found.min, found.max)) == limits
    (file,) = tensor.associatedFiles
    assert (file.name, file.type) == (b"labels.txt", labels)
    if meaning == "boxes":  # (left, top, right, bottom) are at these places.
        assert list(tensor.content.contentProperties.index) == [1, 0, 3, 2]
        assert tensor.content.contentProperties.type == schema.BoundingBoxType.BOUNDARIES
        (group,) = graph.outputTensorGroups
        assert (group.name, group.tensorNames) == (b"detection_result", [b"location"])
    else:
        assert graph.outputTensorGroups is None
    if meaning == "mask":
        assert tensor.content.contentProperties.colorSpace == schema.ColorSpaceType.GRAYSCALE


def test_a_picture_that_is_no_more_than_scaled_is_said_to_be_so_and_no_other(
    model, plain, monkeypatch
):
    assert b"its sides scaled to those of the tensor" in litert_metadata.described(
        plain, model, ORIGIN
    )
    monkeypatch.setattr(Tiny, "preprocess", cropped)
    written = litert_metadata.described(plain, model, ORIGIN)
    assert b"its sides scaled" not in written and b"made a square as tiny does" in written


def test_of_a_picture_and_a_text_each_input_is_described_as_what_it_is(tmp_path):
    schema = pytest.importorskip("mediapipe.tasks.metadata.metadata_schema_py_generated")
    pair = TransferModel(Towers(Tiny(), Wordy(input="text")), Retrieval(), ())
    TFLite().write(pair, None, tmp_path)
    read = schema.ModelMetadataT.InitFromObj(
        schema.ModelMetadata.GetRootAs(embedded((tmp_path / "model.tflite").read_bytes()).tobytes())
    )
    told = {one.name: one.description for one in read.subgraphMetadata[0].inputTensorMetadata}
    assert told[b"image"].startswith(b"RGB picture, its sides scaled")
    assert told[b"caption"].startswith(b"Made of a text by the tokenizer of towers")


def test_names_before_the_classes_are_in_a_file_of_their_own(model, plain, monkeypatch):
    schema = pytest.importorskip("mediapipe.tasks.metadata.metadata_schema_py_generated")
    output = Output("probabilities", "mask", labelled=True, others=("background",))
    monkeypatch.setattr(Classification, "outputs", lambda self: (output,))
    few = TransferModel(Tiny(), Classification(), model.classes[1:], seed=0)
    written = litert_metadata.described(plain, few, ORIGIN)
    read = schema.ModelMetadataT.InitFromObj(
        schema.ModelMetadata.GetRootAs(embedded(written).tobytes())
    )
    (file,) = read.subgraphMetadata[0].outputTensorMetadata[0].associatedFiles
    with zipfile.ZipFile(io.BytesIO(written)) as archive:
        found = {name: archive.read(name).decode().splitlines() for name in archive.namelist()}
    assert file.name == b"probabilities_labels.txt"
    assert found == {
        "labels.txt": [*few.classes],
        "probabilities_labels.txt": ["background", *few.classes],
    }


def told(path, pictures):
    """Returns the best class of each picture, uint8 [h, w, 3], as MediaPipe tells it."""
    mediapipe = pytest.importorskip("mediapipe")
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ImageClassifierOptions(BaseOptions(model_asset_path=str(path)), max_results=1)
    with vision.ImageClassifier.create_from_options(options) as classifier:
        results = [
            classifier.classify(mediapipe.Image(mediapipe.ImageFormat.SRGB, np.array(picture)))
            for picture in pictures
        ]
    return [result.classifications[0].categories[0].category_name for result in results]


def sure(probabilities, margin):
    """Returns which rows have a first class this far ahead of the second."""
    ordered = np.sort(probabilities, axis=-1)
    return ordered[:, -1] - ordered[:, -2] > margin


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A model that tells the embedded digits apart, and their examples."""
    folder = tmp_path_factory.mktemp("digits")
    ingest.write_examples(Embedded(count=400), Split(), folder / "examples")
    data = Data(folder / "examples", Tiny(), Classification())
    model = TransferModel(data.backbone, data.task, data.classes, seed=0)
    FineTune(phases=(Phase(epochs=15, learning_rate=3e-3, unfreeze="all"),)).fit(
        model, data, folder / "fit"
    )
    return model, data


@pytest.mark.parametrize("exporter", KINDS, ids=str)
def test_mediapipe_tells_the_class_that_keras_tells(digits, tmp_path, exporter):
    model, data = digits
    exporter.write(model, data.singles("train"), tmp_path, ORIGIN)
    inputs = np.rint(np.stack([*data.singles("test").as_numpy_iterator()])).astype(np.uint8)
    served = np.asarray(model.served(inputs.astype("float32"))["probabilities"])
    chosen = sure(served, 0.2)
    expected = [model.classes[i] for i in served[chosen].argmax(axis=-1)]
    assert len(set(expected)) > 5
    assert told(tmp_path / exporter.files()[0], inputs[chosen]) == expected


@pytest.mark.data
@pytest.mark.parametrize("exporter", KINDS, ids=str)
def test_mediapipe_names_real_flowers_as_keras_does(flowers, tmp_path, exporter):
    model, data, photos = flowers
    exporter.write(model, data.singles("train"), tmp_path, ORIGIN)
    served = model.predict(photos)
    chosen = sure(np.stack([one["probabilities"] for one in served]), 0.2)
    pictures = [Image().given(photo).numpy() for photo in photos]
    named = told(tmp_path / exporter.files()[0], pictures)
    equal = np.array([one["label"] == name for one, name in zip(served, named, strict=True)])
    # MediaPipe scales photos of other sizes down in its own way, so a few may fall otherwise.
    assert equal[chosen].mean() >= 0.95
    truth = np.array([photo.parent.name for photo in photos])
    assert (np.array(named) == truth).mean() > 0.6


@pytest.fixture(scope="module")
def flowers(real_data, tmp_path_factory):
    """A model that tells five flowers apart, fitted to a few, their data, and other photos."""
    folder, images = tmp_path_factory.mktemp("flowers"), real_data / "images/flower_photos"
    for place in images.glob("train/*"):
        (folder / "photos" / place.name).mkdir(parents=True)
        for photo in sorted(place.iterdir())[:40]:
            shutil.copy(photo, folder / "photos" / place.name)
    weights = real_data / "weights/imagenet/MobileNetV2_0.35_224_notop.weights.h5"
    backbone = MobileNetV2(size=160, alpha=0.35, weights=str(weights))
    ingest.write_examples(Folder(folder / "photos"), Split(test=0), folder / "examples")
    data = Data(folder / "examples", backbone, Classification())
    model = TransferModel(backbone, data.task, data.classes, seed=0)
    FineTune(phases=(Phase(epochs=8),)).fit(model, data, folder / "fit")
    places = sorted(images.glob("val/*"))
    return model, data, [photo for place in places for photo in sorted(place.iterdir())[:12]]
