"""Heads from the names of classes, against NumPy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from conftest import Tiny, draw, weights_of
from PIL import Image
from test_evaluator import evaluated

from pipeline.steps import trainer
from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.kinds.image import Image as ImageKind
from tlkeras.measures import measures
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipe import Recipe
from tlkeras.recipes import zero_shot
from tlkeras.recipes.zero_shot import ZeroShot, descriptions_of, hidden_classes, words_of
from tlkeras.sources.folder import Folder
from tlkeras.task import Task
from tlkeras.tasks.classification import Classification
from tlkeras.training import descriptions, features

CHANNELS = 24  # Those of `Tiny`.


class Seer(Backbone, name="seer"):
    """`Tiny` with rows for words: those of a text are a function of its letters."""

    block_pattern = Tiny.block_pattern
    asked: ClassVar[list[str]] = []

    def build(self):
        return Tiny().build()

    def raw(self):
        return {"image": ImageKind()}

    def preprocess(self, example):
        return Tiny().preprocess(example)

    def words(self, texts):
        self.asked[:] = texts
        rows = np.stack([row_of(text) for text in texts])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def row_of(text: str) -> np.ndarray:
    return np.random.default_rng([*text.encode()]).normal(0, 1, CHANNELS)


@pytest.fixture(scope="module")
def coloured(tmp_path_factory) -> Data:
    """Examples of six classes."""
    folder = draw(tmp_path_factory.mktemp("six"), 8)
    for name, turn in (("grün", "green"), ("sea_blue", "blue"), ("Rose", "red")):
        (folder / name).mkdir()
        for i, file in enumerate(sorted((folder / turn).iterdir())):
            pixels = np.asarray(Image.open(file))[..., ::-1] // 2
            Image.fromarray(np.ascontiguousarray(pixels)).save(folder / name / f"{i}.png")
    out = tmp_path_factory.mktemp("examples")
    ingest.write_examples(Folder(folder), Split(validation=20, test=20), out)
    return Data(out, Tiny(), Classification(), batch_size=8, seed=0)


def test_the_map_solves_the_normal_equations_of_its_objective():
    random = np.random.default_rng(0)
    x, y, s = (random.normal(0, 1, size) for size in ((30, 6), (30, 5), (5, 4)))
    found = descriptions.Bilinear(x.T @ x, x.T @ y, s).at(0.7, 0.2)
    # (X'X + p) V (S'S + q) = X'Y S, for the numbers of V in a column.
    left, right = x.T @ x + 0.7 * np.eye(6), s.T @ s + 0.2 * np.eye(4)
    expected = np.linalg.solve(np.kron(left, right), (x.T @ y @ s).ravel())
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-9)

    def objective(v: Any) -> float:
        terms = (x @ v @ s.T - y, 0.7**0.5 * v @ s.T, 0.2**0.5 * x @ v, (0.7 * 0.2) ** 0.5 * v)
        return sum(float(np.square(each).sum()) for each in terms)

    for _ in range(5):
        assert objective(found) < objective(found + random.normal(0, 1e-3, found.shape))


def world(noise: float = 1.0, classes: int = 20) -> tuple[Any, Any, Any]:
    """Returns features and labels of classes, whose means are a function of their descriptions."""
    random = np.random.default_rng(0)
    described = random.normal(0, 1, (classes, 8))
    described /= np.linalg.norm(described, axis=1, keepdims=True)
    means = 4 * described @ random.normal(0, 1, (8, 30))
    labels = np.repeat(np.arange(classes), 12)
    return 5 + means[labels] + random.normal(0, noise, (len(labels), 30)), labels, described


def test_classes_without_an_example_are_known_by_their_descriptions():
    x, labels, described = world(noise=2.0)
    seen = labels < 14
    (kernel, bias), choice = descriptions.fitted(x[seen], labels[seen], described, 0)
    new = x[~seen] @ kernel[:, 14:] + bias[14:]
    assert np.mean(new.argmax(1) + 14 == labels[~seen]) > 0.9 and choice.accuracy > 0.8

    def mean(constant: float) -> float:
        taken = bias + constant * (np.arange(20) < 14)
        right = (x @ kernel + taken).argmax(1) == labels
        return descriptions.harmonic(np.mean(right[seen]), np.mean(right[~seen]))

    # The constant lets them win against the others, which lose less.
    assert mean(0) > mean(choice.constant) + 0.05


def test_the_head_is_of_the_chosen_penalties_on_classes_of_equal_weight():
    x, labels, described = world()
    kept = np.flatnonzero((labels < 14) & ((labels > 0) | (np.arange(len(labels)) % 3 == 0)))
    x, labels = x[kept], labels[kept]
    (kernel, bias), choice = descriptions.fitted(x, labels, described, 0)
    weights = 1 / np.bincount(labels)[labels] / 14
    mean = weights @ x
    scale = np.sqrt(np.mean(weights @ (x - mean) ** 2))
    centred = described - described[:14].mean(axis=0)
    size = np.sqrt(8 / np.square(centred[:14]).sum())
    z, s = (x - mean) / scale, centred[:14] * size
    y = (2 * np.eye(14)[labels] - 1) / size
    left = z.T @ (weights[:, None] * z) + choice.penalty * np.eye(30)
    right = s.T @ s + choice.description_penalty * np.eye(8)
    v = np.linalg.solve(left, z.T @ (weights[:, None] * y) @ s) @ np.linalg.inv(right)
    np.testing.assert_allclose(kernel, v @ centred.T / scale, atol=1e-9)
    offsets = -mean @ kernel - choice.constant * (np.arange(20) < 14)
    np.testing.assert_allclose(bias, offsets, atol=1e-9)


def test_a_seed_decides_what_is_left_out_and_a_class_of_one_example_is_learnt_from():
    labels = np.array([0, 1, 2, 3, 3, 3, 3, 3, 3, 3])
    seen = np.arange(4)
    parts = list(descriptions._parts(labels, seen, 5, 0))
    again = list(descriptions._parts(labels, seen, 5, 0))
    for (learnt, known, new), (other, *_) in zip(parts, again, strict=True):
        np.testing.assert_array_equal(learnt, other)
        assert sorted([*known, *new]) == [0, 1, 2, 3]
        assert {*labels[learnt]} == {*known}
    assert sorted(label for *_, new in parts for label in new) == [0, 1, 2, 3]


def test_without_an_example_to_measure_seen_classes_by_no_constant_is_chosen():
    x, labels, described = world()
    _, first = np.unique(labels, return_index=True)
    kept = first[:14]
    _, choice = descriptions.fitted(x[kept], labels[kept], described, 0)
    assert (choice.constant, choice.harmonic) == (0, 0)


@pytest.mark.parametrize(("classes", "count"), [(20, 5), (24, 5), (30, 3), (40, 2), (400, 2)])
def test_as_large_a_share_of_the_classes_is_left_out_as_has_no_example(classes, count):
    seen = np.arange(20)
    parts = list(descriptions._parts(np.repeat(seen, 12), seen, classes, 0))
    assert [len(new) for *_, new in parts] == pytest.approx([20 / count] * count, abs=1)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("water_lilly", "water lilly"),
        ("n01440764_tench", "tench"),
        ("great-white__shark", "great white shark"),
        ("grün", "grün"),
        ("n95", "n95"),
    ],
)
def test_the_name_of_a_class_is_read_as_words(name, words):
    assert words_of(name) == words


def test_the_descriptions_are_means_over_prompts_at_unit_length():
    prompts = ("a {}.", "the {}, {drawn}")
    classes = ["sea_blue", "red"]
    found = descriptions_of(classes, prompts, lambda texts: np.stack([*map(row_of, texts)]))
    for row, name in zip(found, ("sea blue", "red"), strict=True):
        rows = [row_of(prompt.replace("{}", name)) for prompt in prompts]
        mean = sum(each / np.linalg.norm(each) for each in rows)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean))


def test_the_largest_logit_is_that_of_the_largest_cosine(coloured, tmp_path):
    model = TransferModel(Seer(), Classification(), coloured.classes)
    data = Data(coloured.folder, Seer(), Classification(), 8)
    prompts = ("a {}.", "the {}")
    (log,) = ZeroShot(prompts).fit(model, data, tmp_path)
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= {*log}
    names = [words_of(name) for name in data.classes]
    assert "sea blue" in names and "grün" in names
    assert Seer.asked == [prompt.format(name) for name in names for prompt in prompts]
    described = descriptions_of(data.classes, prompts, Seer().words)
    for inputs, _ in data.batches("test"):
        rows = np.asarray(model.body(inputs))
        cosines = rows @ described.T / np.linalg.norm(rows, axis=1, keepdims=True)
        logits = np.asarray(model.full(inputs))
        np.testing.assert_array_equal(logits.argmax(1), cosines.argmax(1))


def test_no_example_changes_a_head_of_words_beyond_one_factor(coloured, tmp_path):
    kernels = []
    for seed in (0, 1):
        model = TransferModel(Seer(), Classification(), coloured.classes, seed=seed)
        data = Data(coloured.folder, Seer(), Classification(), 8, seed=seed)
        ZeroShot().fit(model, data, tmp_path / f"{seed}")
        kernel, bias = model.head.get_layer("logits").get_weights()
        assert not bias.any()
        kernels.append(kernel / np.linalg.norm(kernel))
    np.testing.assert_allclose(*kernels, atol=1e-6)


def test_examples_of_unseen_classes_are_hidden_from_the_map(coloured, tmp_path, monkeypatch):
    taken = []
    fitted = descriptions.fitted

    def spied(x, labels, described, seed):
        taken.append((x, labels))
        return fitted(x, labels, described, seed)

    monkeypatch.setattr(descriptions, "fitted", spied)
    model = TransferModel(Tiny(), Classification(), coloured.classes)
    recipe = spec.parse("zero_shot(text=starter_text(length=16), unseen=('red', 'Rose'))", Recipe)
    recipe.fit(model, coloured, tmp_path)
    ((x, labels),) = taken
    names = {coloured.classes[label] for label in labels}
    assert names == {*coloured.classes} - {"red", "Rose"}
    counts = dict(zip(coloured.classes, coloured.info.class_counts["train"], strict=True))
    assert len(x) == sum(counts[name] for name in names) and x.shape[1] == CHANNELS


def test_a_share_of_the_classes_is_drawn_by_the_seed():
    classes = [f"c{number}" for number in range(9)]
    drawn = [hidden_classes(0.5, classes, seed) for seed in (0, 0, 1)]
    assert [each.sum() for each in drawn] == [4, 4, 4]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


@pytest.mark.parametrize(
    ("recipe", "reasons"),
    [
        ("zero_shot", []),
        ("probe", ["the test split has classes without a training example: sunflower"]),
    ],
)
def test_a_class_without_an_example_is_blessed_where_its_name_suffices(
    recipe, reasons, pictures, tmp_path
):
    for old, new in (("blue", "daisy"), ("green", "rose"), ("red", "sunflower")):
        for number, file in enumerate(sorted((pictures / old).iterdir())):
            split = "test" if number > 15 or new == "sunflower" else "train"
            (tmp_path / "pictures" / split / new).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, tmp_path / "pictures" / split / new)
    examples, model = tmp_path / "examples", tmp_path / "model"
    examples.mkdir()
    ingest.write_examples(Folder(tmp_path / "pictures"), Split(), examples)
    model.mkdir()
    trainer.model.run(
        model,
        examples=examples,
        backbone=Seer(),
        task=Classification(),
        recipe=spec.parse(recipe, Recipe),
        batch_size=8,
        seed=0,
        precision="float32",
        exporters=(),
        feature_cache_gb=1.0,
        features=tmp_path / "features",
    )
    blessing = evaluated(tmp_path / "out", examples, model, backbone=Seer())
    assert (blessing["blessed"], blessing["reasons"]) == (not reasons, reasons)


@pytest.mark.parametrize("share", [0.001, 0.08, 0.1, 0.9])
def test_every_share_hides_a_class(share):
    assert hidden_classes(share, [f"c{number}" for number in range(5)], 0).any()


def test_hidden_classes_are_named_by_the_fit_and_in_the_report(coloured, tmp_path, capsys):
    model = TransferModel(Tiny(), Classification(), coloured.classes)
    text = "zero_shot(text=starter_text(length=16), unseen={})"
    recipe = spec.parse(text.format(0.05), Recipe)
    recipe.fit(model, coloured, tmp_path / "hidden")
    (table,) = map(measures.parsed_view, recipe.views(tmp_path / "hidden"))
    ((name,),) = table.rows
    assert [name] == [*np.array(coloured.classes)[hidden_classes(0.05, coloured.classes, 0)]]
    assert f"hidden classes: {name}\n" in capsys.readouterr().out
    assert not spec.parse(text.format("[]"), Recipe).views(tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zero_shot(prompts=['a photo'])", r"prompts is .*, expected texts with \{\} once"),
        ("zero_shot(prompts=['{} and {}'])", r"expected texts with \{\} once"),
        ("zero_shot(prompts=[])", "expected at least one text"),
        ("zero_shot(unseen=0.5)", "without text no example is used"),
        ("zero_shot(text=starter_text, unseen=1.5)", r"expected names of classes, or a share"),
        ("zero_shot(text=starter)", "expected a network that reads a text alone"),
    ],
)
def test_a_value_that_cannot_be_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        spec.parse(text, Recipe)


@pytest.mark.parametrize(
    ("recipe", "task", "classes", "message"),
    [
        ("zero_shot", "classification", None, "the backbone tiny knows no words. Use one"),
        (
            "zero_shot(text=starter_text, unseen=('sea_blu',))",
            "classification",
            None,
            "unseen has 'sea_blu', which is no class; did you mean 'sea_blue'",
        ),
        (
            "zero_shot(text=starter_text, unseen=0.67)",
            "classification",
            None,
            "2 of 6 classes have training examples and are not in unseen; expected at least 3",
        ),
        (
            "zero_shot(text=starter_text)",
            "classification",
            ("0", "1", "2"),
            "the class '0' has no word in its name",
        ),
        ("zero_shot(text=starter_text)", "multilabel", None, "zero_shot needs one label of each"),
    ],
)
def test_what_cannot_be_described_is_refused_before_the_features(
    recipe, task, classes, message, coloured, recorded, tmp_path, monkeypatch
):
    monkeypatch.setattr(features, "at", lambda *given: pytest.fail("features were computed"))
    data = Data(coloured.folder, Tiny(), spec.parse(task, Task), 8)
    if classes:
        data = Data(_renamed(recorded, classes, tmp_path / "renamed"), Tiny(), data.task, 8)
    model = TransferModel(Tiny(), data.task, data.classes)
    with pytest.raises(ValueError, match=message):
        spec.parse(recipe, Recipe).fit(model, data, tmp_path / "fit")


def _renamed(examples: Path, classes: tuple[str, ...], out: Path) -> Path:
    """Copies examples of as many classes, and gives these other names."""
    shutil.copytree(examples, out)
    info = json.loads((out / "info.json").read_text())
    (out / "info.json").write_text(json.dumps({**info, "classes": classes}))
    return out


@pytest.mark.equality
def test_a_zero_shot_fit_called_again_is_not_done_again(coloured, tmp_path, monkeypatch):
    recipe = spec.parse("zero_shot(text=starter_text(length=16), unseen=0.34)", Recipe)
    one = TransferModel(Tiny(), Classification(), coloured.classes)
    logs = recipe.fit(one, coloured, tmp_path)
    monkeypatch.setattr(zero_shot._ClassNames, "solution", lambda *given: pytest.fail("again"))
    other = TransferModel(Tiny(), Classification(), coloured.classes)
    assert recipe.fit(other, coloured, tmp_path) == logs
    for path, value in weights_of(one.full).items():
        np.testing.assert_array_equal(value, weights_of(other.full)[path])
