"""Texts in TFLite files, as MediaPipe's `TextClassifier` cuts and classifies them."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_text import VOCABULARY, ToyText

from tlkeras.backbone import Backbone
from tlkeras.backbones.starter_text import StarterText
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.exporters.tflite import TFLite
from tlkeras.formats import bert_inputs, litert
from tlkeras.frameworks import tf
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipes.fine_tune import FineTune
from tlkeras.sources.csv import CSV
from tlkeras.task import Task
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.multilabel import Multilabel
from tlkeras.tasks.regression import Regression
from tlkeras.tasks.tagging import Tagging
from tlkeras.texts.wordpiece import WordPiece
from tlkeras.training.schedule import Phase

SLOW = pytest.mark.slow

CLASSES = ("bad", "good", "so so")

# In a process of its own: wrong metadata can end it, or keep it waiting.
SEEN = """
import json, sys
from mediapipe.tasks.python import BaseOptions, text
options = text.TextClassifierOptions(BaseOptions(model_asset_path=sys.argv[1]))
with text.TextClassifier.create_from_options(options) as task:
    rows = [task.classify(line).classifications[0] for line in json.load(open(sys.argv[2]))]
found = [{each.category_name: each.score for each in row.categories} for row in rows]
json.dump(found, open(sys.argv[3], "w"))
"""


def seen(file: Path, texts: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Returns the scores that MediaPipe gives to texts, [texts, classes]."""
    pytest.importorskip("mediapipe")
    asked, answered = file.parent / "texts.json", file.parent / "scores.json"
    asked.write_text(json.dumps(texts))
    ended = subprocess.run(
        [sys.executable, "-c", SEEN, file, asked, answered],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    return np.array([[row[name] for name in classes] for row in json.loads(answered.read_text())])


def written(model: TransferModel, quantize: Any, folder: Path) -> Path:
    exporter = TFLite(quantize=quantize)
    exporter.write(model, None, folder)
    return folder / exporter.files()[0]


@pytest.mark.slow
def test_mediapipe_gives_the_scores_of_keras_to_the_names_of_the_classes(tmp_path):
    model = TransferModel(ToyText(), Classification(), CLASSES, seed=0)
    file = written(model, "none", tmp_path)
    texts = ["the soup was good", "The Soup was BAD", "so unknown", "good " * 50]
    expected = model.served(model.backbone.preprocess({"text": tf.constant(texts)}))
    found = seen(file, texts, CLASSES)
    np.testing.assert_allclose(found, expected["probabilities"], atol=1e-5)
    assert np.ptp(found, axis=0).min() > 1e-3  # The texts are told apart.


@pytest.mark.slow
def test_the_code_of_the_card_prints_the_names_and_their_scores(tmp_path):
    pytest.importorskip("mediapipe")
    model = TransferModel(ToyText(), Classification(), CLASSES, seed=0)
    written(model, "none", tmp_path)
    (use,) = TFLite().usage(model.backbone, model.task)
    ended = subprocess.run(
        [sys.executable, "-c", use.code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    found = dict(line.rsplit(" ", 1) for line in ended.stdout.splitlines())
    (seen,) = model.predict(["a text"])
    expected = dict(zip(CLASSES, seen["probabilities"], strict=True))
    assert {name: float(score) for name, score in found.items()} == pytest.approx(
        expected, abs=1e-5
    )


@pytest.mark.parametrize(
    "quantize", ["none", *(pytest.param(name, marks=SLOW) for name in ("float16", "dynamic"))]
)
def test_the_file_takes_three_inputs_and_reads_one(quantize, tmp_path):
    model = TransferModel(ToyText(length=16), Classification(), CLASSES, seed=0)
    file = written(model, quantize, tmp_path)
    assert set(litert.inputs(file.read_bytes())) == {"ids", "mask", "segment_ids"}
    ids = np.asarray(model.backbone.preprocess({"text": tf.constant(["so good", "the soup"])}))
    load = TFLite(quantize=quantize).load(tmp_path)
    found = load(ids)["probabilities"]
    tolerance = {"none": 1e-6, "float16": 1e-2, "dynamic": 0.1}[quantize]
    np.testing.assert_allclose(found, model.served(ids)["probabilities"], atol=tolerance)
    odd = {"ids": ids, "mask": np.zeros_like(ids), "segment_ids": np.ones_like(ids)}
    np.testing.assert_array_equal(load(odd)["probabilities"], found)
    np.testing.assert_array_equal(load({"text": ids})["probabilities"], found)
    with zipfile.ZipFile(file) as packed:
        assert packed.read("vocab.txt").decode().splitlines() == [*VOCABULARY]
        assert packed.read("labels.txt").decode().splitlines() == [*CLASSES]


@pytest.mark.parametrize(
    ("backbone", "task", "can"),
    [
        (ToyText(), Classification(), True),
        (ToyText(), Multilabel(), True),
        (StarterText(length=8), Classification(), True),
        (ToyText(), Regression(), False),
        (ToyText(input="pair"), Classification(), False),
        (ToyText(input="words"), Tagging(), False),
    ],
)
def test_only_classes_of_one_text_in_small_letters_are_for_mediapipe(
    backbone: Backbone, task: Task, can: bool
):
    assert bool(bert_inputs.vocabulary(backbone, task)) == can


@pytest.mark.parametrize(
    "tokenizer",
    [
        WordPiece(VOCABULARY, lowercase=False),
        WordPiece((*VOCABULARY[1:], VOCABULARY[0])),
        WordPiece(VOCABULARY, start="so"),
    ],
)
def test_other_tokenizers_are_not_for_mediapipe(tokenizer):
    backbone = ToyText()
    assert bert_inputs.vocabulary(backbone, Classification()) == VOCABULARY
    vars(backbone)["_tokenizer"] = tokenizer
    assert not bert_inputs.vocabulary(backbone, Classification())


def test_other_texts_keep_their_input_which_says_whose_pieces_it_holds(tmp_path):
    schema = pytest.importorskip("mediapipe.tasks.metadata.metadata_schema_py_generated")
    model = TransferModel(ToyText(), Regression(), (), seed=0)
    file = written(model, "none", tmp_path).read_bytes()
    assert set(litert.inputs(file)) == {"text"}
    parsed = litert.parsed(file)
    (entry,) = (entry for entry in parsed.metadata if entry.name == b"TFLITE_METADATA")
    metadata = schema.ModelMetadata.GetRootAs(bytes(parsed.buffers[entry.buffer].data))
    graph = schema.ModelMetadataT.InitFromObj(metadata).subgraphMetadata[0]
    (tensor,) = graph.inputTensorMetadata
    assert tensor.description.decode() == (
        "Made of a text by the tokenizer of toy_text, which is not in the file."
    )
    assert not graph.inputProcessUnits


@pytest.mark.parametrize("reads", ["text", "words"])
def test_integers_alone_are_refused_for_texts_with_the_reason(reads):
    task = Tagging() if reads == "words" else Classification()
    model = TransferModel(ToyText(input=reads), task, CLASSES, seed=0)
    with pytest.raises(ValueError, match=r"int8'\).*0\.850 to 0\.675 on SST-2.*'dynamic'"):
        TFLite(quantize="int8").fits(model)


SETS = {"sst2": "utf-8", "trec": "latin-1"}
"""The encoding of each set of texts."""

LEAST = 0.75
"""The least accuracy of Keras on a test set after a short fit."""

FIT = FineTune(phases=(Phase(epochs=40, learning_rate=5e-3),))

AGREE = 0.99
"""The share of texts that both give the same class."""

AGREE_BEYOND_ASCII = 0.9
"""The same of texts that are not ASCII: MediaPipe leaves accents, which Keras strips."""


@pytest.fixture(scope="module", params=SETS)
def fitted(request, real_data, tmp_path_factory):
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    source = CSV(real_data / "text" / name, columns=("label", "text"), encoding=SETS[name])
    ingest.write_examples(source, Split(validation=10), folder / "examples")
    data = Data(folder / "examples", StarterText(length=48), Classification(), seed=0)
    model = TransferModel(data.backbone, data.task, data.classes, seed=0)
    (folder / "fit").mkdir()
    FIT.fit(model, data, folder / "fit")
    rows = [row for each, row in source.examples() if source.split(each) == "test"]
    accented = [row for _, row in source.examples() if not row["text"].isascii()]
    texts, others = ([row["text"] for row in each] for each in (rows, accented))
    inputs = model.backbone.preprocess({"text": tf.constant([*texts, *others])})
    ours = np.concatenate(
        [model.served(inputs[i : i + 100])["probabilities"] for i in range(0, len(inputs), 100)]
    )
    return name, model, texts, others, np.array([row["label"] for row in rows]), ours


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("quantize", ["none", "float16", "dynamic"])
def test_mediapipe_agrees_with_keras_on_real_texts(quantize, fitted, tmp_path):
    name, model, texts, others, labels, ours = fitted
    found = seen(written(model, quantize, tmp_path), [*texts, *others], model.classes)
    same = found.argmax(axis=1) == ours.argmax(axis=1)
    apart, right = (
        np.abs(found - ours).max(axis=1),
        [np.mean(each[: len(texts)].argmax(axis=1) == labels) for each in (ours, found)],
    )
    is_ascii = np.array([text.isascii() for text in [*texts, *others]])
    print(
        f"{name}, {quantize}: {len(texts)} texts, Keras {right[0]:.4f}, MediaPipe {right[1]:.4f}, "
        f"agree {same[: len(texts)].mean():.4f}, of ASCII differ by {apart[is_ascii].max():.1e}; "
        f"of {len(others)} others in all splits {same[len(texts) :].sum()} agree"
    )
    assert right[0] > LEAST
    assert same[: len(texts)].mean() > AGREE
    assert same[len(texts) :].mean() > AGREE_BEYOND_ASCII
    if quantize == "none":
        np.testing.assert_allclose(found[is_ascii], ours[is_ascii], atol=1e-4)
