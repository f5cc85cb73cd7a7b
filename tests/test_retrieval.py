"""Retrieval: losses and ranks against loops, captions that no training saw, and what is refused."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from conftest import Tiny, Wordy, weights_of
from toy_text import ToyText

from pipeline import fresh
from pipeline.config import Config
from pipeline.steps import infra_validator
from tlkeras import files, hardware, spec
from tlkeras.backbone import Backbone
from tlkeras.backbones.aligned import Aligned
from tlkeras.backbones.towers import Towers
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.exporter import Exporter
from tlkeras.frameworks import keras, tf
from tlkeras.images import drawing
from tlkeras.kinds.image import Image
from tlkeras.kinds.text import Text
from tlkeras.measures.measures import Gallery, interval
from tlkeras.measures.retrieval import RetrievalTally, ranks
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipe import Recipe
from tlkeras.recipes.align import Align
from tlkeras.report.views import Shown, drawn
from tlkeras.source import Source
from tlkeras.sources.csv import CSV
from tlkeras.sources.embedded import Embedded
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.retrieval import Retrieval
from tlkeras.texts import captions
from tlkeras.training import layer_decay, schedule
from tlkeras.training.phase import Phase

TOWERS = Towers(Tiny(), Wordy(input="text"))
PAIRS = Embedded(data="shapes", target="caption", count=96, size=32)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    out = tmp_path_factory.mktemp("pairs")
    ingest.write_examples(PAIRS, Split(), out)
    return out


@pytest.fixture
def data(recorded):
    return Data(recorded, TOWERS, Retrieval(channels=8), 16)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def rows_of(
    count: int, channels: int = 6, kinds: int = 0, scenes: int = 0
) -> tuple[np.ndarray, ...]:
    """Returns rows of pictures, rows of texts, and keys.

    With `kinds`, there are so many different texts; with `scenes`, so many different pictures.
    """
    random = np.random.default_rng(count)
    of = random.integers(kinds, size=count) if kinds else np.arange(count)
    texts = unit(random.normal(size=(count, channels)))[of]
    seen = random.integers(scenes, size=count) if scenes else np.arange(count)
    keys = np.stack([of // 3, of % 3, seen // 3, seen % 3], axis=1).astype(np.float32)
    return unit(random.normal(size=(count, channels)))[seen], texts, keys


def right_pairs(keys: np.ndarray) -> set[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Returns the keys of the picture and the text of every example."""
    return {(tuple(row[2:]), tuple(row[:2])) for row in keys.tolist()}


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x)) if x > 0 else x - math.log1p(math.exp(x))


def looped(objective: str, pictures, texts, keys, factor: float, summand: float) -> np.ndarray:
    """Returns the loss of each pair, by the formulas of the papers, one number at a time."""
    count = len(pictures)
    pairs = right_pairs(keys)
    right = [[(tuple(one[2:]), tuple(other[:2])) in pairs for other in keys] for one in keys]
    logit = [
        [factor * float(pictures[i] @ texts[j]) + summand for j in range(count)]
        for i in range(count)
    ]
    losses = []
    for i in range(count):
        every = range(count)
        if objective == "siglip":
            losses.append(-sum(log_sigmoid(logit[i][j] * (2 * right[i][j] - 1)) for j in every))
            continue
        there = math.log(sum(math.exp(logit[i][j]) for j in every))
        back = math.log(sum(math.exp(logit[j][i]) for j in every))
        texts_of = [j for j in every if right[i][j]]
        pictures_of = [j for j in every if right[j][i]]
        found = sum(logit[i][j] - there for j in texts_of) / len(texts_of)
        found += sum(logit[j][i] - back for j in pictures_of) / len(pictures_of)
        losses.append(-found / 2)
    return np.array(losses)


@pytest.mark.parametrize(("kinds", "scenes"), [(0, 0), (3, 0), (0, 3), (3, 3)])
@pytest.mark.parametrize("objective", ["infonce", "siglip"])
def test_a_loss_is_that_of_its_paper(objective, kinds, scenes):
    pictures, texts, keys = rows_of(7, kinds=kinds, scenes=scenes)
    factor, summand = 5.0, -2.0
    ends = np.tile(np.array([math.log(factor), summand], np.float32), (7, 1))
    outputs = np.concatenate([pictures, texts, ends], axis=1)
    loss = Retrieval(objective, channels=6).loss()
    expected = looped(objective, pictures, texts, keys, factor, summand)
    np.testing.assert_allclose(loss.call(tf.constant(keys), tf.constant(outputs)), expected, 1e-5)
    assert float(loss(keys, outputs)) == pytest.approx(expected.mean(), rel=1e-5)


def test_without_equal_texts_infonce_is_the_mean_of_two_cross_entropies():
    pictures, texts, keys = rows_of(5)
    outputs = np.concatenate([pictures, texts, np.zeros((5, 2), np.float32)], axis=1)
    logits = pictures @ texts.T
    both: list[Any] = [
        keras.losses.sparse_categorical_crossentropy(np.arange(5), each, from_logits=True)
        for each in (logits, logits.T)
    ]
    found = Retrieval(channels=6).loss().call(tf.constant(keys), tf.constant(outputs))
    np.testing.assert_allclose(found, (both[0] + both[1]) / 2, 1e-5)


@pytest.mark.parametrize("objective", ["infonce", "siglip"])
@pytest.mark.parametrize(("optimizer", "rate"), [("adam", 0.1), ("sgd", 1e-4)])
def test_logits_stay_within_a_hundred_times_the_cosines_and_can_come_back(
    objective, optimizer, rate
):
    _, texts, keys = rows_of(6)
    head = TransferModel(TOWERS, Retrieval(objective, channels=6), (), seed=0).head
    factor = head.get_layer("factor")
    factor.embeddings.assign([[4.7]])
    for layer in head.layers:
        layer.trainable = layer is factor
    optimizer = Phase(learning_rate=rate, optimizer=optimizer).compiled_optimizer(1)
    inner = keras.Model(factor.input, factor.output)
    loss = Retrieval(objective, channels=6).loss()

    def stepped() -> float:
        with tf.GradientTape() as tape:
            log = inner(tf.zeros(6, tf.int32))
            wrong = tf.concat([texts[::-1], texts, log, tf.zeros((6, 1))], axis=1)
            found = tf.reduce_mean(loss.call(keys, wrong))
        variables = head.trainable_variables
        optimizer.apply(tape.gradient(found, variables), variables)
        return float(factor.embeddings[0, 0])

    first, second = stepped(), stepped()
    assert math.log(100) + 1e-6 > first > second


def naive_ranks(pictures, texts, keys) -> tuple[list[int], list[int]]:
    """Returns the places of right texts and of right pictures, by loops over all pairs."""
    pairs, rows = right_pairs(keys), [*enumerate(keys.tolist())][::-1]
    seen = {tuple(key[2:]): pictures[i] for i, key in rows}
    told = {tuple(key[:2]): texts[i] for i, key in rows}

    def place(scores: list[tuple[float, bool]]) -> int:
        best = max(score for score, is_right in scores if is_right)
        return 1 + sum(score >= best for score, is_right in scores if not is_right)

    return (
        [
            place([(float(seen[each] @ row), (each, key) in pairs) for key, row in told.items()])
            for each in sorted(seen)
        ],
        [
            place([(float(row @ told[each]), (key, each) in pairs) for key, row in seen.items()])
            for each in sorted(told)
        ],
    )


@pytest.mark.parametrize(
    ("count", "kinds", "scenes"),
    [(1, 0, 0), (9, 0, 0), (40, 0, 0), (40, 7, 0), (40, 0, 7), (40, 9, 9), (1500, 0, 0)],
)
def test_ranks_are_those_of_a_loop(count, kinds, scenes):
    # Numbers of few bits: every order of a sum gives the same, so that ties are ties.
    pictures, texts, keys = rows_of(count, kinds=kinds, scenes=scenes)
    pictures, texts = np.round(pictures * 4) / 4, np.round(texts * 4) / 4
    if count > 100:  # More than are in memory at a time; the loop would take long.
        found = ranks(pictures, texts, keys)
        part = ranks(pictures[-3:], texts[-3:], keys[-3:])
        assert (found.texts[-3:] >= part.texts).all() and found.texts.max() > 100
        return
    found = ranks(pictures, texts, keys)
    to_texts, to_pictures = naive_ranks(pictures, texts, keys)
    assert found.texts.tolist() == to_texts
    assert found.pictures.tolist() == to_pictures


def test_a_model_that_tells_pictures_of_several_captions_apart_is_right_everywhere():
    scenes = np.repeat(np.arange(50), 5)
    rows = unit(np.random.default_rng(0).normal(size=(50, 32)))[scenes]
    keys = np.stack([np.arange(250), 0 * scenes, scenes, 0 * scenes], axis=1).astype(np.float32)
    found = tallied(rows, rows, keys)
    assert {found.scalars[f"{way}_recall_at_1"].value for way in ("text", "picture")} == {1.0}
    # A picture is one example, with all that is said of it.
    assert found.score.interval == found.scalars["picture_recall_at_1"].interval == interval(50, 50)
    assert "50 different pictures and 250 different texts" in found.remarks[0]
    assert "first for 2.00%" in found.remarks[0] and found.count == 250


def test_rows_of_one_picture_have_a_key_of_it_in_common(tmp_path):
    for name, shade in (("one", 0), ("two", 200), ("copy", 200)):
        pixels = np.full((40, 40, 3), shade, np.uint8)
        (tmp_path / f"{name}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    rows = [f"{name}.png,{text}" for name in ("one", "two", "copy") for text in ("a b", name)]
    (tmp_path / "t.csv").write_text("\n".join(["image,said", *rows]), encoding="utf-8")
    source = CSV(tmp_path / "t.csv", caption="said")
    ingest.write_examples(source, Split(0, 0), tmp_path / "examples")
    data = Data(tmp_path / "examples", TOWERS, Retrieval(channels=8), 8)
    ((_, target),) = data.batches("train")
    texts, pictures = (
        {tuple(row) for row in each.tolist()}
        for each in (target.numpy()[:, :2], target.numpy()[:, 2:])
    )
    assert (len(texts), len(pictures)) == (4, 2)


def tallied(pictures, texts, keys) -> Any:
    tally = RetrievalTally()
    for start in range(0, len(keys), 16):
        part = slice(start, start + 16)
        tally.add(keys[part], {"picture": pictures[part], "text": texts[part]}, start)
    return tally.measures()


def test_measures_are_shares_and_medians_of_the_ranks():
    pictures, texts, keys = rows_of(60, kinds=20)
    there, back = (np.array(each) for each in naive_ranks(pictures, texts, keys))
    found = tallied(pictures, texts, keys).scalars
    for place in (1, 5, 10):
        assert found[f"text_recall_at_{place}"].value == pytest.approx((there <= place).mean())
        assert found[f"picture_recall_at_{place}"].value == pytest.approx((back <= place).mean())
    both = ((there == 1).mean() + (back == 1).mean()) / 2
    assert found["recall_at_1"].value == pytest.approx(both)
    assert found["text_median_rank"].value == np.sort(there)[(len(there) - 1) // 2]
    assert found["picture_median_rank"].value == np.sort(back)[(len(back) - 1) // 2]


def test_intervals_cover_what_drawing_the_texts_again_gives():
    random = np.random.default_rng(1)
    pictures, texts, keys = rows_of(300, channels=8, kinds=100)
    pictures = unit(pictures + 1.2 * texts)
    scalars = tallied(pictures, texts, keys).scalars
    found = ranks(pictures, texts, keys)
    own, _ = found.units
    hits, counts = np.bincount(own, found.texts == 1), np.bincount(own)
    right = (found.pictures == 1)[np.argsort(found.units[1])]  # A unit has one text.
    again = random.integers(len(counts), size=(2000, len(counts)))
    rates = {
        "text_recall_at_1": hits[again].sum(axis=1) / counts[again].sum(axis=1),
        "picture_recall_at_1": right[again].mean(axis=1),
    }
    rates["recall_at_1"] = (rates["text_recall_at_1"] + rates["picture_recall_at_1"]) / 2
    for name, values in rates.items():
        # Bootstrap of texts, with all their pictures: the same width to a sixth.
        low, high = scalars[name].interval or (0, 0)
        expected = np.quantile(values, [0.025, 0.975])
        assert (high - low) == pytest.approx(expected[1] - expected[0], rel=1 / 6)


def test_a_model_that_tells_nothing_apart_is_right_nowhere():
    same = np.tile(np.array([[0.6, 0.8]], np.float32), (12, 1))
    keys = np.stack([np.arange(12), np.zeros(12)] * 2, axis=1).astype(np.float32)
    found = tallied(same, same, keys)
    assert found.score.value == 0 and found.scalars["text_median_rank"].value == 12


def test_galleries_mark_the_right_ones():
    _, texts, keys = rows_of(12, kinds=5)
    views = [view for view in tallied(texts, texts, keys).views if hasattr(view, "examples")]
    assert len(views) == 6
    for view in views:
        query, best, *rest = view.examples
        assert best.caption == "1: right" and "found first" in query.caption
        for each in rest:
            is_right = (keys[each.number, :2] == keys[query.number, :2]).all()
            assert each.caption.endswith("right" if is_right else "wrong")


def test_a_caption_names_shape_texture_and_colour():
    for number in range(200):
        said = captions.combination(3, number)
        words = said.sentence.replace(",", "").replace(";", "").split()
        assert said.shape in words and said.colour in words
        pattern = {"checkered": "checks", "dotted": "dots", "solid": "pattern"}
        nouns = {said.texture, pattern.get(said.texture, said.texture.replace("d", "s")[:-1])}
        nouns |= (
            {"speckles", "stripes"} & {*words} if said.texture in ("speckled", "striped") else set()
        )
        assert nouns & {*words}
    every = [
        captions.Combination(shape, texture, colour)
        for shape in drawing.SHAPES
        for texture in drawing.TEXTURES
        for colour in drawing.COLOURS
    ]
    assert len({each.sentence for each in every}) == len(every)


def test_unseen_combinations_are_the_test_split_and_their_parts_are_seen_by_two():
    every = [
        captions.Combination(shape, texture, colour)
        for shape in drawing.SHAPES
        for texture in drawing.TEXTURES
        for colour in drawing.COLOURS
    ]
    seen, unseen = ([e for e in every if e.is_unseen == which] for which in (False, True))
    assert len(unseen) == len(every) // 5
    for parts in (("shape", "texture"), ("shape", "colour"), ("texture", "colour")):
        held = {tuple(getattr(each, part) for part in parts) for each in seen}
        assert held == {tuple(getattr(each, part) for part in parts) for each in every}
    splits = {"train": set(), "validation": set(), "test": set()}
    for number in range(600):
        splits[captions.split(5, number)].add(captions.combination(5, number))
    assert splits["test"] <= {*unseen} and splits["train"] | splits["validation"] <= {*seen}
    assert all(splits.values())


def test_a_captioned_picture_shows_what_its_caption_says():
    said = captions.combination(0, 4)
    picture = drawing.draw(0, 4, 64, (said.colour, said.texture))
    assert picture.caption == f"a {said.texture} {said.colour} {said.shape}"


def fitted(data, folder, text: str) -> tuple[TransferModel, dict[str, np.ndarray]]:
    model = TransferModel(data.backbone, data.task, data.classes, seed=0)
    before = weights_of(model.full)
    spec.parse(text, Recipe).fit(model, data, folder)
    return model, before


SHORT = "phases=[phase(epochs=2, learning_rate=1e-2, unfreeze='all')]"


@pytest.mark.parametrize(
    ("locked", "moving"),
    [
        ("picture", {"text", "head"}),
        pytest.param("text", {"picture", "head"}, marks=pytest.mark.slow),
        pytest.param("both", {"head"}, marks=pytest.mark.slow),
        pytest.param("none", {"picture", "text", "head"}, marks=pytest.mark.slow),
    ],
)
def test_a_locked_tower_never_changes(data, tmp_path, locked, moving):
    model, before = fitted(data, tmp_path, f"align(locked={locked!r}, {SHORT})")
    parts = {
        "picture": [x for name, each in model.blocks.items() if name[:4] == "pict" for x in each],
        "text": [x for name, each in model.blocks.items() if name[:4] == "text" for x in each],
        "head": [model.head],
    }
    fresh = TransferModel(data.backbone, data.task, data.classes, seed=0)
    assert all(np.array_equal(v, before[p]) for p, v in weights_of(fresh.full).items())
    after = weights_of(model.full)
    for name, layers in parts.items():
        paths = {v.path for layer in layers for v in layer.trainable_variables + layer.weights}
        paths &= {*after}
        changed = {path for path in paths if not np.array_equal(before[path], after[path])}
        assert bool(changed) == (name in moving), name


@pytest.mark.parametrize(
    ("locked", "share", "expected"),
    [
        ("picture", 0.1, ["text_block2"]),
        ("text", 0.1, ["picture_block4"]),
        ("text", 0.4, ["picture_block3", "picture_block4"]),
        ("both", 0.1, []),
        ("none", 0.1, ["text_block2"]),
    ],
)
def test_a_share_is_of_the_blocks_that_are_not_locked(locked, share, expected):
    model = TransferModel(TOWERS, Retrieval(channels=8), ())
    recipe = Align(locked=locked)
    assert recipe._unlocked(model, Phase(unfreeze=share)).unfreeze == tuple(expected)


def test_in_training_a_locked_tower_gives_the_rows_of_inference(recorded):
    towers = Towers(Tiny(), ToyText(dropout=0.5))
    data = Data(recorded, towers, Retrieval(channels=8), 16)
    model = TransferModel(towers, data.task, (), seed=0)
    phase = Align(locked="text")._unlocked(model, Phase(unfreeze="all"))
    model.train_only(model.chosen(phase.unfreeze))
    inputs, _ = next(iter(data.batches("train")))
    trained = schedule._behind_frozen(model, phase, "picture_stem", "float16")
    found, expected = trained(inputs, training=True), model.served(inputs)
    np.testing.assert_allclose(found[:, 8:16], expected["text"], atol=1e-5)
    assert not np.allclose(found[:, :8], expected["picture"], atol=1e-3)


def test_the_last_block_of_each_tower_is_one_step_from_the_head(data):
    model = TransferModel(data.backbone, data.task, data.classes, seed=0)
    found = layer_decay.factors(model, 0.5)
    for tower in ("picture", "text"):
        own = [layers for name, layers in model.blocks.items() if name.startswith(tower)]
        weights = [[found[id(v)] for layer in layers for v in layer.variables] for layers in own]
        for depth, rates in enumerate(reversed(weights), start=1):
            assert {*rates} <= {0.5**depth}, tower
        assert weights[-1]


@pytest.mark.slow
@pytest.mark.equality
def test_a_killed_align_ends_like_an_unbroken_one(data, tmp_path):
    text = f"align({SHORT})"
    whole, _ = fitted(data, tmp_path / "whole", text)

    class Killed(Exception):
        pass

    def kill(epoch, logs):
        if epoch == 1:
            raise Killed

    model = TransferModel(data.backbone, data.task, data.classes, seed=0)
    stop = keras.callbacks.LambdaCallback(on_epoch_begin=kill)
    with pytest.raises(Killed):
        spec.parse(text, Recipe).fit(model, data, tmp_path / "killed", [stop])
    again, _ = fitted(data, tmp_path / "killed", text)
    for one, other in zip(whole.full.weights, again.full.weights, strict=True):
        if one.name != "seed_generator_state":
            np.testing.assert_array_equal(one, other)


def test_what_cannot_be_aligned_is_refused_before_training(data, recorded, tmp_path):
    align = spec.parse(f"align({SHORT})", Recipe)
    plain = Data(recorded, TOWERS, Retrieval(channels=8), 16)
    with pytest.raises(ValueError, match=r"of two towers, and there are .*pooled"):
        TransferModel(Tiny(), Retrieval(), ())
    model = TransferModel(TOWERS, plain.task, ())
    for size, message in (
        (1, "--batch_size is 1, and retrieval compares the examples of a batch; use at least 2"),
        (400, r"\d+ training pairs are too few for a batch of 400"),
    ):
        few = Data(recorded, TOWERS, plain.task, size)
        with pytest.raises(ValueError, match=message):
            align.fit(model, few, tmp_path)
    locked = spec.parse("align(phases=[phase(unfreeze=['picture_block2'])])", Recipe)
    with pytest.raises(ValueError, match=r"align\.locked is 'picture', but phase\.unfreeze names"):
        locked.fit(model, plain, tmp_path)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("recipe", ["align", "fine_tune"])
def test_several_devices_that_would_compare_only_their_own_pairs_are_refused(
    recipe, data, tmp_path, monkeypatch
):
    monkeypatch.setattr(hardware, "replicas", lambda: 2)
    model = TransferModel(data.backbone, data.task, data.classes)
    with pytest.raises(
        ValueError, match=r"retrieval compares .* each of 2 devices has a part; use"
    ):
        spec.parse(f"{recipe}({SHORT})", Recipe).fit(model, data, tmp_path)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "towers(picture=tiny, text=wordy)",
            "towers.text is wordy, expected a network that reads one text",
        ),
        (
            "towers(picture=wordy(input='text'), text=tiny)",
            "towers.picture is .*, expected .* one image",
        ),
        ("towers(picture=tiny)", "towers needs text=…"),
    ],
)
def test_towers_read_one_picture_and_one_text(text, message):
    with pytest.raises(ValueError, match=message):
        spec.parse(text, Backbone)


class Untold(Source, name="untold"):
    """A picture without a word."""

    def features(self):
        return {"image": Image(), "caption": Text()}

    def classes(self):
        return ()

    def examples(self):
        yield "one", {"image": next(PAIRS.examples())[1]["image"], "caption": " \n"}

    def fingerprint(self):
        return "1"


def test_an_empty_caption_is_refused_by_its_example(tmp_path):
    with pytest.raises(ValueError, match=r"one has no text, or white space alone \(caption\)"):
        ingest.write_examples(Untold(), Split(), tmp_path)


def test_captions_of_a_source_get_towers_and_retrieval():
    found = Config(source=PAIRS)
    assert found.backbone == spec.parse(
        "towers(picture=starter(size=96), text=starter_text(length=32))", Backbone
    )
    assert found.task == Retrieval()
    shapes = Config(source=Embedded(data="shapes"))
    assert (str(shapes.backbone), shapes.task) == ("starter", Classification())


ALONE = """
import json, sys
sys.modules["tlkeras"] = sys.modules["pipeline"] = None  # As if they were not installed.
import tensorflow as tf
loaded = tf.saved_model.load("text/saved_model")
served = loaded.signatures["serving_default"](text=tf.constant(json.loads(sys.argv[1])))
print(json.dumps(served["text"].numpy().tolist()))
"""


@pytest.mark.slow
def test_towers_are_exported_alone_and_give_the_rows_of_the_pair(data, tmp_path):
    model = TransferModel(data.backbone, data.task, (), seed=0)
    inputs, _ = next(iter(data.batches("test").as_numpy_iterator()))
    expected = model.served(inputs)
    np.testing.assert_allclose(np.linalg.norm(expected["text"], axis=1), 1, atol=1e-6)
    for text in ("tower(side='picture', to=tflite)", "tower(side='text', to=saved_model)"):
        exporter = spec.parse(text, Exporter)
        exporter.write(model, data.singles("train"), tmp_path)
        (name,) = exporter.serves
        found = exporter.load(tmp_path)(inputs)
        assert {*found} == {name}
        np.testing.assert_allclose(found[name], expected[name], atol=exporter.tolerance)
    texts = ["a b", "c"]
    ended = subprocess.run(
        [sys.executable, "-c", ALONE, json.dumps(texts)],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    given = model.backbone.towers()["text"].preprocess({"text": tf.constant(texts)})
    pictures = tf.zeros((2, 32, 32, 3))
    rows = model.served({"image": pictures, "caption": given})["text"]
    np.testing.assert_allclose(json.loads(ended.stdout), rows, atol=1e-6)


@pytest.mark.slow
def test_an_export_of_one_tower_is_judged_beside_the_other_one_s_rows(data, tmp_path):
    model = TransferModel(data.backbone, data.task, (), seed=0)
    for name in ("model", "evaluation/served", "exports"):
        (tmp_path / name).mkdir(parents=True)
    model.save(tmp_path / "model")
    served = [model.served(inputs) for inputs, _ in data.batches("test")]
    for name in ("picture", "text"):
        rows = np.concatenate([each[name] for each in served])
        np.save(tmp_path / "evaluation" / "served" / f"{name}.npy", rows)
    exporter = spec.parse("tower(side='picture', to=saved_model)", Exporter)
    exporter.write(model, None, tmp_path / "exports")
    kept = tmp_path / "evaluation" / "served"
    with fresh.Loaded(exporter, tmp_path / "exports", 2) as process:
        judged = infra_validator._Judged(exporter, tmp_path / "exports", [process], data, kept)
        infra_validator._judge([judged], data, "test")
        row = judged.row()
    tally = RetrievalTally()
    first = 0
    for (_, target), each in zip(data.batches("test"), served, strict=True):
        tally.add(target.numpy(), {name: rows.numpy() for name, rows in each.items()}, first)
        first += len(target)
    assert row["value"] == pytest.approx(tally.measures().score.value)
    assert row["agreement"] == 1 and row["difference"] < 1e-5


def test_aligned_pictures_and_words_are_the_rows_of_the_pair(data, tmp_path):
    model = TransferModel(data.backbone, data.task, (), seed=0)
    model.save(tmp_path)
    aligned = Aligned(tmp_path)
    inputs, _ = next(iter(data.batches("test").as_numpy_iterator()))
    found = aligned.build()(inputs["image"])["pooled"]
    np.testing.assert_allclose(found, model.served(inputs)["picture"], atol=1e-6)
    texts = [f"{letter} b c" for letter in "abcdefgh"] * 5  # More than run together.
    given = data.backbone.towers()["text"].preprocess({"text": tf.constant(texts)})
    pictures = tf.zeros((len(texts), 32, 32, 3))
    rows = model.served({"image": pictures, "caption": given})["text"]
    np.testing.assert_allclose(aligned.words(texts), rows, atol=1e-6)
    # A classifier on it is written and read like any other.
    classifier = TransferModel(aligned, Classification(), ("a", "b"), seed=0)
    classifier.save(tmp_path / "classifier")
    read = TransferModel.load(tmp_path / "classifier")
    np.testing.assert_array_equal(read.full(inputs["image"]), classifier.full(inputs["image"]))
    assert [*read.blocks] == [*classifier.blocks] and "picture_block1" in read.blocks


def test_words_of_a_pair_that_was_saved_again_are_those_of_the_new_one(data, tmp_path):
    aligned, texts, rows = Aligned(tmp_path), ["a b c", "d e"], []
    for seed in (0, 1):
        TransferModel(data.backbone, data.task, (), seed=seed).save(tmp_path)
        rows.append(aligned.words(texts))
        np.testing.assert_array_equal(rows[-1], Aligned(tmp_path).words(texts))
    assert not np.array_equal(*rows)


def test_the_fingerprint_of_a_pair_is_of_its_bytes_and_its_specs_are_those_of_the_towers(tmp_path):
    pair = Towers(Tiny(), Wordy(input="text"))
    file = tmp_path / "model.keras"
    texts = {"backbone": pair.full(), "task": Retrieval().full()}
    files.write_json(tmp_path / "model.json", texts)
    file.write_bytes(b"one")
    aligned, when = Aligned(tmp_path), file.stat()
    assert [*aligned.specs()] == [aligned, *pair.specs()]
    first = aligned.fingerprint()
    os.utime(file, ns=(0, 0))
    assert aligned.fingerprint() == first
    file.write_bytes(b"two")
    os.utime(file, ns=(when.st_atime_ns, when.st_mtime_ns))
    other = aligned.fingerprint()
    assert other != first
    texts["backbone"] = pair.replace(text=Wordy(input="text", length=5)).full()
    files.write_json(tmp_path / "model.json", texts)
    assert aligned.fingerprint() not in (first, other)


def test_a_folder_without_a_pair_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no pair of towers, expected model\.keras beside"):
        Aligned(tmp_path).build()
    with pytest.raises(ValueError, match="holds no pair of towers"):
        Aligned(tmp_path / "none").fingerprint()


def test_a_backbone_knows_no_words_unless_it_says_so():
    assert Tiny().words(["a"]) is None and Tiny().towers() == {}


@pytest.mark.slow
def test_combinations_that_no_training_saw_are_found_ten_times_as_often_as_by_chance(tmp_path):
    source = Embedded(data="shapes", target="caption", count=600, size=96)
    ingest.write_examples(source, Split(), tmp_path / "examples")
    config = Config(source=source)
    assert config.backbone and config.task
    data = Data(tmp_path / "examples", config.backbone, config.task, 32)
    text = "align(locked='both', phases=[phase(epochs=10, learning_rate=3e-3)])"
    model, _ = fitted(data, tmp_path / "fit", text)
    tally, first = RetrievalTally(), 0
    for inputs, target in data.batches("test"):
        served = {name: rows.numpy() for name, rows in model.predicted(inputs).items()}
        tally.add(target.numpy(), served, first)
        first += len(target)
    found = tally.measures()
    targets = np.concatenate([target.numpy() for _, target in data.batches("test")])
    texts = len(np.unique(targets[:, :2], axis=0))
    for way in ("text", "picture"):
        assert found.scalars[f"{way}_recall_at_1"].value > 10 / texts


def test_a_gallery_says_the_caption_of_each_picture():
    _, texts, keys = rows_of(12, kinds=5)
    (gallery, *_) = (v for v in tallied(texts, texts, keys).views if isinstance(v, Gallery))
    png = bytes(tf.io.encode_png(np.zeros((2, 2, 3), np.uint8)).numpy())
    shown = {each.number: Shown("id", png, "two & three") for each in gallery.examples}
    page = drawn(gallery, shown)
    assert str(page).count("two &amp; three</q>") == len(gallery.examples) == 5
