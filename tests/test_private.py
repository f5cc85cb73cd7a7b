"""Private training: noise and clipping against loops and autodiff, epsilon against the library."""

import re
import shutil
import sys
from typing import Any

import dp_accounting
import numpy as np
import pytest
from conftest import Tiny, Wordy, weights_of
from dp_accounting.pld import privacy_loss_distribution

from pipeline import store
from pipeline.config import Config
from pipeline.order import STEPS
from pipeline.steps import model_card
from tlkeras import spec
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.frameworks import keras, tf
from tlkeras.measures import measures
from tlkeras.measures.measures import Table
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipe import Recipe
from tlkeras.recipes.private import Private
from tlkeras.sources.folder import Folder
from tlkeras.task import Task
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.multilabel import Multilabel
from tlkeras.tasks.regression import Regression
from tlkeras.tasks.segmentation import Segmentation
from tlkeras.tasks.tagging import Tagging
from tlkeras.training import entropy, features, loop, privacy
from tlkeras.training.linear import LinearHead, Rows
from tlkeras.training.noisy_descent import NoisyDescent, across, clipped_sum, of_features, units
from tlkeras.training.privacy import Training

CLASSES = ("blue", "green", "red")
CHANNELS = 24  # Those of `Tiny`.


def examples(count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Returns features [n, channels] that are far from 0, and one-hot labels."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, count)
    centres = random.normal(0, 1, (3, CHANNELS))
    return 3 + centres[labels] + random.normal(0, 1, (count, CHANNELS)), np.eye(3)[labels]


def head_and_rows(task: Task, count: int = 60) -> tuple[LinearHead, Rows]:
    """Returns the head of a task with rows of the examples, in two batches."""
    head = LinearHead(TransferModel(Tiny(), task, CLASSES), "test")
    inputs, targets = (tf.constant(each, tf.float32) for each in examples(count))
    halves = [(inputs[: count // 2], targets[: count // 2])]
    halves.append((inputs[count // 2 :], targets[count // 2 :]))
    return head, Rows(lambda: halves, lambda given: given, head)


def gradient(task: Task, row: np.ndarray, target: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Returns the gradient of one example's loss, by TensorFlow."""
    variable = tf.Variable(point)
    with tf.GradientTape() as tape:
        loss = task.loss().call(tf.constant(target[None]), tf.constant(row[None]) @ variable)
    return np.asarray(tape.gradient(loss, variable))


@pytest.mark.parametrize("task", [Classification(), Classification(0.2, 0.1), Multilabel()])
@pytest.mark.parametrize("clip", [0.3, 100.0])
def test_the_gradient_of_the_clipped_sum_is_that_of_a_loop_over_single_examples(task, clip):
    head, _ = head_and_rows(task)
    inputs, targets = examples()
    rows = units(inputs)
    point = np.random.default_rng(1).normal(0, 2, (CHANNELS + 1, 3))
    expected, norms = np.zeros_like(point), []
    for row, target in zip(rows, targets, strict=True):
        each = gradient(task, row, target, point)
        norms.append(np.linalg.norm(each))
        expected += each * min(1.0, clip / norms[-1])
    assert clip != 0.3 or min(norms) < clip < max(norms)  # Some are clipped, some not.
    slopes = head.slopes(rows @ point, tf.constant(targets, tf.float32))
    np.testing.assert_allclose(clipped_sum(rows, slopes, clip), expected, atol=1e-5)


def test_one_example_moves_the_clipped_sum_by_no_more_than_the_clip():
    inputs, _ = examples()
    slopes = np.random.default_rng(2).normal(0, 9, (len(inputs), 3))
    whole = clipped_sum(inputs, slopes, 0.3)
    for left_out in range(len(inputs)):
        others = np.delete(inputs, left_out, 0), np.delete(slopes, left_out, 0)
        assert np.linalg.norm(whole - clipped_sum(*others, 0.3)) <= 0.3 + 1e-12


def test_a_gradient_without_a_bound_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        clipped_sum(np.array([[1.0, np.inf]]), np.ones((1, 3)), 0.3)


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "delta"),
    [
        (2.5, 0.2, 100, 2e-4),
        pytest.param(1.0, 0.013, 500, 1e-5, marks=pytest.mark.slow),
        (6.0, 1.0, 30, 1e-6),
    ],
)
def test_epsilon_is_that_of_dp_accounting(noise, rate, steps, delta):
    loss = privacy_loss_distribution.from_gaussian_mechanism(noise, sampling_prob=rate)
    # The sum of features before the steps has its share of the budget.
    sum_of_all = privacy_loss_distribution.from_gaussian_mechanism(noise / rate)
    expected = loss.self_compose(steps).compose(sum_of_all).get_epsilon_for_delta(delta)
    assert Training(noise, rate, steps).epsilon(delta) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("epsilon", [0.5, pytest.param(20.0, marks=pytest.mark.slow)])
def test_solved_noise_keeps_to_epsilon_and_is_no_more_than_that_takes(epsilon):
    found = privacy.solved(epsilon, 1e-4, 0.2, 40)
    assert 0.995 * epsilon < found.epsilon(1e-4) <= epsilon


def test_without_noise_and_clip_private_descent_is_plain_descent():
    head, rows = head_and_rows(Classification())
    part = NoisyDescent(0.0, 0.0, sampling_rate=1.0, clip=1e9, steps=4, rate=2.0)
    inputs, targets = examples()
    rows_seen = units(inputs)
    mean = np.append(rows_seen[:, :-1].mean(axis=0), 0)
    mean /= np.linalg.norm(mean)
    rows_seen -= np.outer(rows_seen @ mean, mean)
    rows_seen /= np.linalg.norm(rows_seen, axis=1, keepdims=True)
    layer: Any = keras.Sequential(
        [keras.Input([CHANNELS + 1]), keras.layers.Dense(3, use_bias=False)]
    )
    layer.compile(keras.optimizers.SGD(2.0), Classification().loss())
    layer.set_weights([np.zeros((CHANNELS + 1, 3))])
    ends = []
    for _ in range(4):
        layer.train_on_batch(rows_seen.astype(np.float32), targets)
        ends.append(layer.get_weights()[0])
    np.testing.assert_allclose(part._descended(head, rows), np.mean(ends[2:], axis=0), atol=1e-6)


def test_without_a_clip_a_label_descends_alike_beside_others():
    inputs, targets = examples()
    part = NoisyDescent(0.0, 0.0, sampling_rate=1.0, clip=1e9, steps=4, rate=2.0)
    ends = []
    for count in (1, 3):
        head = LinearHead(TransferModel(Tiny(), Multilabel(), CLASSES[:count]), "test")
        batch = (tf.constant(inputs, tf.float32), tf.constant(targets[:, :count], tf.float32))
        rows = Rows(lambda batch=batch: [batch], lambda given: given, head)
        ends.append(part._descended(head, rows)[:, 0])
    np.testing.assert_allclose(*ends, atol=1e-6)


def test_every_example_is_drawn_as_often_as_the_rate_says_and_anew_in_every_step():
    head, rows = head_and_rows(Classification(), 400)
    part = NoisyDescent(1.0, 5.0, sampling_rate=0.2, clip=1.0, steps=1, rate=1.0)
    counts = [sum(len(drawn) for drawn, _ in part._drawn(head, rows)) for _ in range(50)]
    deviation = np.sqrt(400 * 0.2 * 0.8)
    assert abs(np.mean(counts) - 80) < 5 * deviation / np.sqrt(50)
    assert deviation / 2 < np.std(counts) < 2 * deviation
    (first, targets), (second, _) = (next(part._drawn(head, rows)) for _ in range(2))
    assert len(first) == len(targets)
    assert first.shape != second.shape or (first != second).any()


def test_noise_has_the_deviation_that_the_accountant_counts_on():
    head, rows = head_and_rows(Classification())
    part = NoisyDescent(500.0, 0.0, sampling_rate=0.5, clip=0.01, steps=1, rate=2.0)
    ends = np.stack([part._descended(head, rows) for _ in range(40)])
    # The gradients of 60 examples move the sum by at most 0.6.
    assert np.std(ends) == pytest.approx(2.0 * 500 * 0.01 / (0.5 * 60), rel=0.1)
    drawn = entropy.normal([20_000])
    assert abs(drawn.mean()) < 0.04 and drawn.std() == pytest.approx(1, abs=0.03)
    assert np.mean(drawn**4) == pytest.approx(3, abs=0.35)
    assert not np.array_equal(drawn, entropy.normal([20_000]))
    assert 0 < entropy.uniform(20_000).min() < entropy.uniform(20_000).max() < 1


def test_the_direction_of_the_sum_of_features_has_the_noise_that_the_accountant_counts_on():
    head, rows = head_and_rows(Classification())
    inputs = examples()[0]
    centred = inputs - inputs.mean(axis=1, keepdims=True)
    total = (centred / np.sqrt(1 + np.square(centred).sum(axis=1, keepdims=True))).sum(axis=0)
    random = np.random.default_rng(0)
    noisy = total + 5 * random.normal(size=(4000, CHANNELS))
    noisy -= noisy.mean(axis=1, keepdims=True)
    expected = noisy @ total / np.linalg.norm(noisy, axis=1) / np.linalg.norm(total)
    part = NoisyDescent(1.0, 5.0, sampling_rate=1.0, clip=1.0, steps=1, rate=1.0)
    drawn = np.stack([part._direction(head, rows, CHANNELS) for _ in range(200)])
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1)
    assert (drawn[:, -1] == 0).all() and np.abs(drawn.sum(axis=1)).max() < 1e-9
    found = drawn[:, :-1] @ total / np.linalg.norm(total)
    error = 5 * expected.std() / np.sqrt(len(found))
    assert expected.std() > 0.01 and abs(found.mean() - expected.mean()) < error
    # One example more moves the sum by no more than 1, the length that the noise is a multiple of.
    assert np.linalg.norm(units(inputs)[:, :-1], axis=1).max() <= 1


def test_the_head_orders_the_classes_as_the_points_do():
    random = np.random.default_rng(0)
    inputs, point = 5 + random.normal(0, 3, (500, CHANNELS)), random.normal(0, 1, (CHANNELS + 1, 9))
    direction = np.append(random.normal(size=CHANNELS), 0)
    direction[:-1] -= direction[:-1].mean()
    direction /= np.linalg.norm(direction)
    point -= np.outer(direction, direction @ point)
    kernel, bias = of_features(point)
    rows = across(units(inputs), direction)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1)
    np.testing.assert_allclose(rows @ direction, 0, atol=1e-12)
    one, other = rows @ point, inputs @ kernel + bias
    np.testing.assert_array_equal(one.argsort(axis=1), other.argsort(axis=1))


def test_a_private_fit_tells_of_the_validation_split_alone_and_what_it_guarantees(data, tmp_path):
    model = TransferModel(Tiny(), Classification(), CLASSES)
    recipe = Private(epsilon=8.0)
    (log,) = recipe.fit(model, data, tmp_path)
    assert {*log} == {"phase", "epoch", "val_loss", "val_accuracy"}
    (view,) = map(measures.parsed_view, recipe.views(tmp_path))
    assert isinstance(view, Table)
    told: dict[str, str] = {name: value for name, value in view.rows}
    count = data.count("train")
    assert float(told["epsilon"]) == pytest.approx(8, rel=0.01)
    assert float(told["delta"]) == pytest.approx(count**-1.1, rel=0.01)
    assert told["steps"] == "40" and told["training examples"].startswith(f"{count},")
    noise = dp_accounting.GaussianDpEvent(float(told["noise multiplier"]))
    step = dp_accounting.PoissonSampledDpEvent(1.0, noise)
    accountant = dp_accounting.pld.PLDAccountant()
    accountant.compose(step, 40)
    told_of_sum = float(told["noise of the sum of features"].split()[0])
    accountant.compose(dp_accounting.GaussianDpEvent(told_of_sum))
    assert accountant.get_epsilon(float(told["delta"])) == pytest.approx(8, rel=0.01)
    # The export adds to it what rounding takes from the mean of exact features.
    assert "the head, but for its bias in an int8 export" in told["protected"]
    assert "corrections of all biases, the head's too" in " ".join(recipe.remarks())


@pytest.mark.slow
def test_a_killed_fit_leaves_no_result_and_the_next_has_other_noise(data, tmp_path, monkeypatch):
    recipe, ends = Private(epsilon=8.0, epochs=1), []
    solution = NoisyDescent.solution

    def killed(self, *given):
        ends.append(solution(self, *given))
        raise KeyboardInterrupt

    monkeypatch.setattr(NoisyDescent, "solution", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            recipe.fit(TransferModel(Tiny(), Classification(), CLASSES), data, tmp_path)
        assert not [*tmp_path.glob("phase0/*")] and not (tmp_path / "privacy.json").exists()
    assert not np.allclose(ends[0][0], ends[1][0])
    monkeypatch.setattr(NoisyDescent, "solution", solution)
    model = TransferModel(Tiny(), Classification(), CLASSES)
    logs, before = recipe.fit(model, data, tmp_path), weights_of(model.full)
    # What is finished is paid for: it is not drawn again.
    monkeypatch.setattr(NoisyDescent, "solution", lambda *given: pytest.fail("drawn again"))
    again = TransferModel(Tiny(), Classification(), CLASSES)
    assert recipe.fit(again, data, tmp_path) == logs
    assert all(np.array_equal(before[path], each) for path, each in weights_of(again.full).items())


@pytest.mark.slow
def test_the_report_and_the_card_state_what_is_guaranteed_and_what_is_not(pictures, tmp_path):
    config = Config(
        source=Folder(pictures),
        split=Split(validation=20, test=20),
        backbone=Tiny(),
        recipe=Private(epsilon=8.0),
        root=tmp_path / "runs",
        name="private",
        to="evaluation",
    )
    steps = STEPS[: [step.name for step in STEPS].index("evaluation") + 1]
    products = store.run(steps, config, store.Store(config.root))
    # A network of the tests cannot be exported: other processes do not know it.
    judged = shutil.copytree(products["evaluation"], tmp_path / "judged")
    (judged / "infra.json").write_text("[]")
    (out := tmp_path / "card").mkdir()
    before = ("examples", "statistics", "anomalies", "model", "evaluation")
    model_card.card.run(
        out,
        **{name: products[name] for name in before},
        infra_blessing=judged,
        backbone=config.backbone,
        task=config.task,
        exporters=(),
        name=config.name,
        details=config.details,
        data_details=config.data_details,
    )
    card = (out / "card.md").read_text(encoding="utf-8")
    page = (out / "report.html").read_text(encoding="utf-8")
    table = card.partition("### Privacy")[2].partition("###")[0]
    assert re.search(r"epsilon \| (7\.99\d+|8) \|", table)
    for told in ("one example added or removed", "dp-accounting 0.6", "Poisson"):
        assert told in table, told
    for told in ("noise multiplier", "number of examples of each class", "int8 export takes"):
        assert told in page and told in card, told
        assert told not in page.partition("Where does it fail?")[2].partition("</section>")[0], told
    # A second run finds the model and spends nothing.
    again = store.run(steps, config, store.Store(config.root))
    assert again == products


@pytest.fixture
def refuse_features(monkeypatch):
    """Makes it an error to compute features: a refusal comes before."""
    monkeypatch.setattr(features, "at", lambda *given: pytest.fail("features were computed"))
    monkeypatch.setattr(loop, "write", lambda *given: pytest.fail("a result was written"))


@pytest.mark.parametrize(
    ("task", "backbone", "message"),
    [
        (Segmentation(), Tiny(size=64), "private needs a head of one dense layer.*segmentation"),
        (Regression(), Tiny(), "private cannot fit regression: its head holds numbers"),
        (Tagging(), Wordy(), "private needs one row of features for each example; tagging"),
    ],
)
@pytest.mark.usefixtures("refuse_features")
def test_a_head_whose_gradients_cannot_be_clipped_is_refused(
    task, backbone, message, shapes, tmp_path
):
    data = Data(shapes, backbone, task)
    model = TransferModel(backbone, task, data.classes)
    with pytest.raises(ValueError, match=message):
        Private().fit(model, data, tmp_path)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("private(delta=0.1)", r"delta is 0.1, expected less than 1 / \d\d = 0.0"),
        (
            "private(epsilon=0.1)",
            r"epsilon is 0.1, too little for \d\d training examples and 75 weights: the noise "
            r"would be \d+\.\d times all gradients together. Reachable with these examples is an "
            r"epsilon of \d.*or about \d+ examples",
        ),
    ],
)
@pytest.mark.usefixtures("refuse_features")
def test_what_so_few_examples_cannot_reach_is_refused_and_told(call, message, data, tmp_path):
    model = TransferModel(Tiny(), Classification(), CLASSES)
    with pytest.raises(ValueError, match=message):
        spec.parse(call, Recipe).fit(model, data, tmp_path)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("private(epsilon=0.0)", "epsilon is 0.0, expected above 0 and at most 100"),
        ("private(epsilon=1000.0)", "at most 100"),
        ("private(delta=1.0)", "delta is 1.0, expected at least 1e-10 and below 1, or None"),
        ("private(clip=0.0)", "clip is 0.0, expected a norm above 0"),
        ("private(sampling_rate=1.5)", "sampling_rate is 1.5, expected a share above 0"),
        ("private(epochs=0)", "epochs is 0, expected at least 1"),
        ("private(learning_rate=-1.0)", "learning_rate is -1.0, expected above 0"),
    ],
)
def test_a_value_that_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        spec.parse(call, Recipe)


@pytest.mark.usefixtures("refuse_features")
def test_without_the_accountant_nothing_is_trained(data, tmp_path, monkeypatch):
    privacy._library.cache_clear()
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    model = TransferModel(Tiny(), Classification(), CLASSES)
    try:
        with pytest.raises(ValueError, match=r"dp_accounting: pip install 'tlkeras\[private\]'\.$"):
            Private(epsilon=2.5).fit(model, data, tmp_path)
    finally:
        privacy._library.cache_clear()
