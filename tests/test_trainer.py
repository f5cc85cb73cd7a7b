"""The step that fits the recipe."""

import json
import types
from typing import Any

import numpy as np
import pytest
from conftest import Tiny
from toy_text import ToyText

from pipeline.steps import trainer
from tlkeras.augments.geometric import Flip
from tlkeras.backbones.starter_text import StarterText
from tlkeras.backbones.towers import Towers
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.frameworks import keras, tf
from tlkeras.kinds.image import Image
from tlkeras.kinds.label import Label
from tlkeras.kinds.labels import Labels
from tlkeras.kinds.number import Number
from tlkeras.kinds.text import Text
from tlkeras.measures.conformal import LAC
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipes.fine_tune import FineTune, Phase
from tlkeras.source import Source
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.multilabel import Multilabel
from tlkeras.tasks.regression import Regression
from tlkeras.tasks.retrieval import Retrieval


def trained(recorded, place, name, **changes):
    out = place / name
    out.mkdir()
    phases = (Phase(epochs=1), Phase(epochs=2, unfreeze="block3", learning_rate=1e-3))
    options = {
        "recipe": FineTune(phases),
        "batch_size": 8,
        "seed": 0,
        "precision": "float32",
        "exporters": (),
        "feature_cache_gb": 1.0,
        "features": place / "features",
    }
    trainer.model.run(
        out,
        examples=recorded,
        **{"backbone": Tiny(), "task": Classification(), **options, **changes},
    )
    losses = [log["loss"] for log in json.loads((out / "logs.json").read_text())]
    return TransferModel.load(out), losses


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_in_mixed_precision_losses_are_near_and_the_kept_model_is_float32(
    recorded, tmp_path, precision
):
    _, expected = trained(recorded, tmp_path, "plain")
    model, losses = trained(recorded, tmp_path, "mixed", precision=precision)
    assert losses != expected
    np.testing.assert_allclose(losses, expected, rtol=0.05)
    assert keras.config.dtype_policy().name == "float32"
    assert {layer.compute_dtype for layer in model.full.layers} == {"float32"}
    data = Data(recorded, Tiny(), Classification(), batch_size=8)
    model.full.compile(loss=model.task.loss())
    silent: Any = 0
    assert model.full.evaluate(data.batches("train"), verbose=silent) < expected[0]


def test_what_an_exporter_cannot_hold_is_refused_before_the_training(
    recorded, tmp_path, monkeypatch
):
    def fits(model):
        raise ValueError(f"picky holds no {model.task.name}.")

    monkeypatch.setattr(FineTune, "fit", lambda *ignored, **options: pytest.fail("was trained"))
    with pytest.raises(ValueError, match="picky holds no classification"):
        trained(recorded, tmp_path, "out", exporters=(types.SimpleNamespace(fits=fits),))


def test_sets_of_too_few_examples_are_refused_before_the_training(recorded, tmp_path, monkeypatch):
    monkeypatch.setattr(FineTune, "fit", lambda *ignored, **options: pytest.fail("was trained"))
    with pytest.raises(ValueError, match=r"--conformal=lac\(.*at least 99 validation examples"):
        trained(recorded, tmp_path, "out", conformal=LAC(0.99))


def named(modules):
    return " ".join(sorted(modules))


def test_the_cache_knows_the_code_of_networks_inside_others_and_of_kinds(
    shapes, tmp_path, monkeypatch
):
    monkeypatch.setattr(trainer.code, "digest", named)
    pair = Towers(picture=Tiny(), text=StarterText())
    data = Data(shapes, pair, Retrieval())
    found = {*trainer.cache(tmp_path, 1.0, data).code.split()}
    assert found >= {type(each).__module__ for each in (pair, pair.picture, pair.text, data.task)}
    assert found >= {type(kind).__module__ for kind in data.info.features.values()}


def test_the_fit_is_given_what_the_flags_say(recorded, tmp_path, monkeypatch):
    seen: dict[str, Any] = {}

    def fit(recipe, model, data, folder, callbacks=(), shared=None):
        seen.update(model=model, data=data, folder=folder, shared=shared)
        return []

    monkeypatch.setattr(FineTune, "fit", fit)
    monkeypatch.setattr(trainer.code, "digest", named)
    recipe = FineTune((Phase(epochs=2, views=2, augment=(Flip(),)),))
    trained(recorded, tmp_path, "out", recipe=recipe, seed=5, batch_size=4, feature_cache_gb=2.0)
    data, shared = seen["data"], seen["shared"]
    assert (data.seed, data.batch_size, seen["folder"]) == (5, 4, tmp_path / "out" / "_scratch")
    assert (shared.folder, shared.gigabytes) == (tmp_path / "features", 2.0)
    modules = {Tiny.__module__, Classification.__module__, "tlkeras.training.features"}
    assert {*shared.code.split()} >= modules
    assert {*shared.augments} == {*shared.augments.values()} == {Flip.__module__}
    expected = TransferModel(Tiny(), Classification(), data.classes, seed=5)
    kernels = (each.head.get_weights()[0] for each in (seen["model"], expected))
    np.testing.assert_array_equal(*kernels)


class Long(Source, name="long_texts_of_a_test"):
    """Ten examples whose pieces are eight, special ones included, and nine of those in `longer`.

    Of a pair now the first text is longer, now the second.
    """

    longer: tuple[int, ...] = ()
    pair: bool = False

    def features(self):
        kinds = {"label": Label(), "labels": Labels(), "number": Number(), "image": Image()}
        return {"text": Text(), "pair": Text(), "caption": Text(), **kinds}

    def classes(self):
        return ("bad", "good")

    def examples(self):
        picture = tf.io.encode_png(np.zeros([40, 40, 3], np.uint8)).numpy()
        for i in range(10):
            first, second = i in self.longer and i % 2, i in self.longer and not i % 2
            counts = (3 + first, 2 + second) if self.pair else (6 + (first or second), 1)
            text, pair = (" ".join(["soup"] * count) for count in counts)
            yield (
                f"{i}",
                {
                    **{"text": text, "pair": pair, "caption": text},
                    **{"label": i % 2, "labels": [i % 2], "number": i, "image": picture},
                },
            )

    def fingerprint(self):
        return str(self)


@pytest.mark.parametrize("longer", [(), (2, 5, 8)])
@pytest.mark.parametrize(
    ("backbone", "task"),
    [
        (ToyText(length=8), Classification()),
        (ToyText(length=8), Multilabel()),
        (ToyText(length=8), Regression()),
        (ToyText(length=8, input="pair"), Classification()),
        (Towers(picture=Tiny(), text=ToyText(length=8)), Retrieval(channels=8)),
    ],
    ids=["classes", "labels", "numbers", "pairs", "captions"],
)
def test_texts_that_the_network_reads_cut_are_counted(
    backbone, task, longer, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(FineTune, "fit", lambda *ignored, **options: [])
    is_pair = "pair" in backbone.reads
    ingest.write_examples(Long(longer, is_pair), Split(0, 0), tmp_path / "examples")
    trained(tmp_path / "examples", tmp_path, "out", backbone=backbone, task=task)
    path, told = tmp_path / "out" / "remarks.json", capsys.readouterr().out
    if not longer:
        assert not path.exists() and "cut" not in told
        return
    (remark,) = json.loads(path.read_text())
    assert f"  {remark}\n" in told
    assert "3 of 10 train examples" in remark and f"8 pieces that {backbone.name} reads" in remark
