"""Membership attacks: their figures against loops and scikit-learn, and what they find."""

import re
from typing import Any

import numpy as np
import pytest
from absl import flags as absl_flags
from conftest import Tiny
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from pipeline import attack, flags
from pipeline.config import Config
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.frameworks import tf
from tlkeras.measures import measures, membership
from tlkeras.measures.measures import Curve, Table
from tlkeras.measures.membership import Attack, confidence, likelihood_ratios
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipes.probe import Probe
from tlkeras.sources.embedded import Embedded
from tlkeras.sources.folder import Folder
from tlkeras.task import Task
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.multilabel import Multilabel
from tlkeras.tasks.regression import Regression
from tlkeras.tasks.segmentation import Segmentation
from tlkeras.training import shadows
from tlkeras.training.features import Cache
from tlkeras.training.linear import LinearHead, Rows
from tlkeras.training.shadows import Pool
from tlkeras.training.solve import Solve

CLASSES = ("blue", "green", "red")
CHANNELS = 24  # Those of `Tiny`.


def scores(members: int, others: int, apart: float = 0.7) -> Attack:
    random = np.random.default_rng(0)
    drawn = random.normal(0, 1, members + others).round(2)  # Some are equal.
    return Attack(drawn[:members] + apart, drawn[members:])


def pool(count: int, members: int, task: Task | None = None) -> Pool:
    """Returns examples of features and labels by chance, which can only be learned by heart."""
    random = np.random.default_rng(0)
    features = tf.constant(random.normal(0, 1, (count, CHANNELS)), tf.float32)
    targets = tf.one_hot(random.integers(0, 3, count), 3)
    head = LinearHead(TransferModel(Tiny(), task or Classification(), CLASSES), "test")
    head.model.task.initialize(head.model.head, targets[:, :1].numpy())
    return Pool(head, Rows(lambda: [(features, targets)], lambda given: given, head), members)


def test_auc_and_true_positives_are_those_of_scikit_learn():
    attack = scores(700, 1200)
    labels = np.repeat([1, 0], [700, 1200])
    both = np.concatenate([attack.members, attack.others])
    assert attack.auc.value == pytest.approx(roc_auc_score(labels, both), abs=1e-12)
    false, true, _ = roc_curve(labels, both, drop_intermediate=False)
    for rate in (0.001, 0.01, 0.1):
        assert attack.caught(rate).value == pytest.approx(true[false <= rate].max(), abs=1e-12)
    for x, y in attack.points():
        # The logarithms are of a whole number of false positives.
        assert true[false <= 10**x + 1e-9].max() == pytest.approx(10**y)


def test_intervals_are_those_of_many_other_samples():
    drawn = np.random.default_rng(1)
    attacks = [Attack(drawn.normal(0.7, 1, 300), drawn.normal(0, 1, 400)) for _ in range(200)]
    (low, high), value = attacks[0].auc.interval or (0, 0), attacks[0].auc.value
    spread = np.std([each._auc(*each._ones()) for each in attacks])
    assert low < value < high
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.2)
    (low, high), value = attacks[0].caught(0.1).interval or (0, 0), attacks[0].caught(0.1).value
    spread = np.std([each._share(*each._ones(), 40) for each in attacks])
    assert low < value < high
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.3)
    # None caught says little of a few members.
    assert Attack(np.zeros(20), np.ones(100)).caught(0.1).interval == pytest.approx(
        (0, 0.161), abs=1e-3
    )


def test_confidence_is_the_logit_of_the_probability_however_small_the_loss():
    probabilities = np.array([1e-12, 0.1, 0.5, 0.9, 1 - 1e-9])
    expected = np.log(probabilities) - np.log1p(-probabilities)
    np.testing.assert_allclose(confidence(-np.log(probabilities)), expected, rtol=1e-6)
    assert np.isfinite(confidence(np.array([0.0, 1e4]))).all()


def test_likelihood_ratios_are_those_of_a_loop():
    random = np.random.default_rng(0)
    shadows, found = random.normal(0, 2, (16, 30)), random.normal(0, 2, 30)
    inside = random.random((16, 30)).argsort(axis=0) < 8
    expected = []
    for place in range(30):
        with_it, without = (
            shadows[chosen, place] for chosen in (inside[:, place], ~inside[:, place])
        )
        one, other = (
            stats.norm.logpdf(found[place], each.mean(), each.std()) for each in (with_it, without)
        )
        expected.append(one - other)
    np.testing.assert_allclose(likelihood_ratios(found, shadows, inside), expected, rtol=1e-6)


@pytest.mark.parametrize("task", [Classification(), Multilabel()])
def test_losses_next_to_0_are_exact(task):
    made = pool(40, 20, task)
    kernel = np.random.default_rng(1).normal(0, 9, (CHANNELS, 3))
    ((_, inputs),) = made.head.inputs(made.rows)
    logits, targets = inputs @ kernel, made.rows.targets
    if isinstance(task, Classification):
        own = logits[targets > 0]
        expected = np.log1p(np.exp(np.where(targets > 0, -np.inf, logits - own[:, None])).sum(1))
    else:
        expected = np.logaddexp(0, np.where(targets > 0, -logits, logits)).mean(axis=1)
    assert expected.min() < 1e-7
    losses = made.head.losses((kernel, np.zeros(3)), made.rows)
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-15)


def test_losses_of_numbers_are_squared_errors_in_standard_deviations():
    made = pool(40, 20, Regression())
    kernel = np.random.default_rng(1).normal(0, 1, (CHANNELS, 1))
    ((_, inputs),) = made.head.inputs(made.rows)
    numbers = made.rows.targets[:, 0]
    expected = np.square((numbers - numbers.mean()) / numbers.std() - (inputs @ kernel)[:, 0])
    losses = made.head.losses((kernel, np.zeros(1)), made.rows)
    np.testing.assert_allclose(losses, expected, rtol=1e-3, atol=1e-5)


def test_attacks_find_who_was_learned_by_heart_and_nobody_where_nothing_was_learned():
    made = pool(240, 120)
    heart = made.attacks(made._solved(0.01, made.inside), 16, seed=0)
    for found in heart.values():
        assert (found.auc.interval or (0,))[0] > 0.6
    # A head that was trained on neither of both.
    random = np.random.default_rng(3)
    stranger = random.normal(0, 0.3, (CHANNELS, 3)), np.zeros(3)
    for found in made.attacks(stranger, 16, seed=0).values():
        low, high = found.auc.interval or (1, 1)
        assert low < 0.5 < high


def test_shadow_heads_fit_the_members_as_closely_as_the_attacked_head():
    made = pool(240, 120)
    for strength in (1.0, 0.03):
        assert made._likest(made._solved(strength, made.inside)) == strength


@pytest.mark.parametrize(
    ("others", "told"),
    [
        (2000, ()),
        (500, ("500 examples outside the training are too few .* 0.1 %, .* 1,000.* at 1 % are",)),
        (8, ("8 examples outside .* those caught none is shown",)),
    ],
)
def test_too_few_others_are_told(others, told):
    attacks = {"this model": {"loss threshold": scores(300, others, 0.0)}}
    found = membership.measured(attacks, {})
    *remarks, public = found.remarks
    assert "not private" in public and len(remarks) == len(told)
    for remark, pattern in zip(remarks, told, strict=True):
        assert re.search(pattern, remark)
    assert {*found.scalars} == {"loss_threshold_auc"} | (
        {"loss_threshold_caught"} if others > 8 else set()
    )


def test_who_can_be_told_is_remarked_by_the_attack_that_allows_for_how_hard_an_example_is():
    for apart, count in ((0.7, 1), (0.0, 0)):
        harder, ratio = scores(300, 2000, 0.7), scores(300, 2000, apart)
        attacks = {membership.THRESHOLD: harder, membership.RATIO: ratio}
        found = membership.measured({"this model": attacks}, {})
        *remarks, _ = found.remarks
        assert len(remarks) == count
        assert all("the AUC of the likelihood ratio is 0." in each for each in remarks)


@pytest.mark.slow
@pytest.mark.parametrize("task", [Classification(), Multilabel()])
def test_the_step_attacks_a_model_and_writes_a_page(task, recorded, shapes, tmp_path, monkeypatch):
    monkeypatch.setattr(shadows, "HEADS", 2)
    monkeypatch.setattr(membership, "_DRAWS", 20)
    monkeypatch.setattr(Solve, "strengths", (0.3, 0.01))
    examples = recorded if isinstance(task, Classification) else shapes
    data = Data(examples, Tiny(), task, batch_size=8)
    model = TransferModel(data.backbone, task, data.classes)
    Probe((0.01,)).fit(model, data, tmp_path / "fit", shared=Cache(tmp_path / "features"))
    model.save(tmp_path / "model")
    out = tmp_path / "out"
    out.mkdir()
    attack.attack.run(
        out,
        examples=examples,
        model=tmp_path / "model",
        backbone=data.backbone,
        task=task,
        batch_size=8,
        seed=0,
        feature_cache_gb=1.0,
        features=tmp_path / "features",
    )
    found = measures.read(out)
    assert found.count == data.count("train") + data.count("test")
    table, curve, fits = found.views
    assert isinstance(table, Table) and isinstance(curve, Curve) and isinstance(fits, Table)
    own, plain = (dict(zip(fits.columns, row, strict=True)) for row in fits.rows)
    assert (own["head"], plain["head"]) == ("this model", "a plain head")
    metric: Any = task.metrics(data.classes)[0]
    for inputs, target in data.batches("test"):
        metric.update_state(target, model.full(inputs, training=False))
    assert own[f"test {metric.name}"] == pytest.approx(float(metric.result()), abs=1e-3)
    assert {"training loss", "test loss", f"training {metric.name}"} <= {*own}
    assert [row[0] for row in table.rows] == [
        f"{name}, {way}"
        for name in ("this model", "a plain head")
        for way in ("loss threshold", "likelihood ratio")
    ]
    page = (out / attack.PAGE).read_text(encoding="utf-8")
    assert "this model, likelihood ratio" in page and "power of 10" in page


def test_features_beyond_float16_are_attacked_in_float32(data, tmp_path):
    model = TransferModel(data.backbone, data.task, data.classes)
    norm = model.body.get_layer("block4_norm")
    norm.gamma.assign(np.full(norm.gamma.shape, 1e9))
    pool = shadows.pooled(model, data, Cache(tmp_path), ["test"])
    found = pool.head.features(pool.rows)
    assert len(found) == data.count("train") + data.count("test")
    assert np.abs(found).max() > np.finfo(np.float16).max and np.isfinite(found).all()


def test_a_worker_that_is_not_the_chief_ends_well_after_the_training(monkeypatch, tmp_path):
    monkeypatch.setattr(attack.store, "run", lambda *_: {"examples": tmp_path, "model": tmp_path})
    assert attack.main(Config(root=tmp_path)) == 0


@pytest.mark.parametrize("word", ["--exporters=onnx", "--conformal=lac"])
def test_attack_has_no_flag_of_steps_that_do_not_follow(word, capsys):
    parse = flags.parser(
        Config, steps=attack.PIPELINE, without=attack.UNUSED, values=absl_flags.FlagValues()
    )
    with pytest.raises(SystemExit):
        parse(["attack", word])
    assert f"Unknown command line flag '{word[2:].split('=')[0]}'" in capsys.readouterr().err


def test_no_export_has_to_hold_the_model_that_is_attacked(monkeypatch, tmp_path):
    configs = []
    monkeypatch.setattr(
        attack.store, "run", lambda steps, config, place: configs.append(config) or {}
    )
    assert attack.main(Config(backbone=Tiny(), root=tmp_path)) == 0
    assert configs == [Config(backbone=Tiny(), root=tmp_path, exporters=(SavedModel(),))]


def test_a_head_of_another_form_is_refused_before_anything_runs(tmp_path):
    config = Config(
        source=Embedded("shapes", count=20),
        backbone=Tiny(size=64),
        task=Segmentation(),
        root=tmp_path / "runs",
    )
    message = (
        r"^attack needs a head of one dense layer .* that of segmentation has .*\. Name another "
        r"--task; other models cannot be attacked\.$"
    )
    with pytest.raises(ValueError, match=message):
        attack.main(config)
    assert not (tmp_path / "runs").exists()


def test_what_cannot_be_attacked_is_refused(pictures, shapes, tmp_path):
    data = Data(shapes, Tiny(size=64), Segmentation())
    model = TransferModel(data.backbone, data.task, data.classes)
    with pytest.raises(ValueError, match=r"attack needs a head of one dense layer.*segmentation"):
        shadows.attacked(model, data, Cache(tmp_path))
    ingest.write_examples(Folder(pictures), Split(validation=20, test=0), tmp_path / "examples")
    data = Data(tmp_path / "examples", Tiny(), Classification())
    model = TransferModel(data.backbone, data.task, data.classes)
    with pytest.raises(ValueError, match=r"test has 0 examples; give --split='split\(test=20\)'"):
        shadows.attacked(model, data, Cache(tmp_path))
    data = Data(shapes, Tiny(), Multilabel())
    model = TransferModel(data.backbone, data.task, data.classes)
    with pytest.raises(
        ValueError, match="which has no room for them; give more --feature_cache_gb"
    ):
        shadows.attacked(model, data, Cache(tmp_path, gigabytes=0))
