"""A number: the measures against scikit-learn and SciPy, and the task."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from conftest import Tiny

from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.frameworks import keras, tf
from tlkeras.kinds.image import Image
from tlkeras.kinds.number import Number
from tlkeras.measures.measures import Curve, Example, Gallery, Measures, Table
from tlkeras.measures.regression import WORST, RegressionTally
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipes.fine_tune import FineTune, Phase
from tlkeras.source import Source
from tlkeras.tasks.regression import Regression

oracle: Any = sklearn.metrics
statistics: Any = scipy.stats

ERRORS = ("mean_absolute_error", "root_mean_squared_error")
SCORES = ("r2", "pearson", "spearman")


def guesses(count: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns true numbers of the size of 1000, and predictions that are 30 off and 5 too high."""
    random = np.random.default_rng(seed)
    true = random.normal(1000, 50, count)
    return true, true + random.normal(5, 30, count)


def measured(true: Any, found: Any, sizes: tuple[int, ...] = ()) -> Measures:
    """Returns the measures, of batches cut at these places."""
    tally, first = RegressionTally(), 0
    true, found = (np.asarray(side, np.float64)[:, None] for side in (true, found))
    for target, numbers in zip(np.split(true, sizes), np.split(found, sizes), strict=True):
        tally.add(target, {"number": numbers}, first)
        first += len(target)
    return tally.measures()


def values(found: Measures) -> dict[str, float]:
    return {name: scalar.value for name, scalar in found.scalars.items()}


def view(found: Measures, kind: Any) -> Any:
    (only,) = (each for each in found.views if isinstance(each, kind))
    return only


def test_the_measures_are_those_of_scikit_learn_and_scipy():
    true, found = guesses()
    measures = measured(true, found)
    assert measures.primary == "mean_absolute_error" and not measures.score.more_is_better
    assert values(measures) == pytest.approx(
        {
            "mean_absolute_error": oracle.mean_absolute_error(true, found),
            "root_mean_squared_error": oracle.root_mean_squared_error(true, found),
            "r2": oracle.r2_score(true, found),
            "pearson": statistics.pearsonr(true, found).statistic,
            "spearman": statistics.spearmanr(true, found).statistic,
        }
    )
    interval = statistics.pearsonr(true, found).confidence_interval()
    assert measures.scalars["pearson"].interval == pytest.approx(tuple(interval))


def test_equal_numbers_share_a_rank():
    true, found = [1, 1, 2, 3, 3, 3, 4], [2, 2, 2, 1, 5, 5, 9]
    expected = statistics.spearmanr(true, found).statistic
    assert values(measured(true, found))["spearman"] == pytest.approx(expected)


def test_measures_do_not_depend_on_the_cut_into_batches():
    true, found = guesses()
    whole, cut = (measured(true, found, sizes) for sizes in ((), (1, 1, 50, 300)))
    assert cut == whole


def test_the_intervals_are_those_of_a_bootstrap():
    true, found = guesses()
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(300):
        places = random.integers(0, len(true), len(true))
        drawn.append(values(measured(true[places], found[places])))
    for name, scalar in measured(true, found).scalars.items():
        expected = np.quantile([each[name] for each in drawn], [0.025, 0.975])
        width = 0.2 * (expected[1] - expected[0])
        assert scalar.interval == pytest.approx(expected, abs=width), name


def test_perfect_constant_and_random_predictions_are_measured_so():
    true, _ = guesses()
    perfect = measured(true, true)
    assert values(perfect) == pytest.approx({name: 0 for name in ERRORS} | dict.fromkeys(SCORES, 1))
    assert perfect.remarks == [] and view(perfect, Gallery).examples == []
    constant = measured(true, np.full(len(true), np.median(true)))
    assert constant.scalars.keys() == {*ERRORS, "r2"}
    assert values(constant)["r2"] == pytest.approx(0, abs=0.01)
    assert constant.remarks == ["The model is no better than one that always answers the median."]
    chance = values(measured(true, np.random.default_rng(1).permutation(true)))
    assert chance["r2"] == pytest.approx(-1, abs=0.3)
    assert chance["pearson"] == pytest.approx(0, abs=0.15)


def test_of_equal_numbers_only_the_errors_are_known():
    found = measured([3.0, 3.0], [2.0, 5.0])
    assert values(found) == pytest.approx(
        {"mean_absolute_error": 1.5, "root_mean_squared_error": 2.5**0.5}
    )
    assert all(scalar.interval is None for scalar in measured([3.0], [2.0]).scalars.values())


def test_remarks_follow_from_the_numbers():
    true, found = guesses(2000)
    assert measured(true, found).remarks == [
        f"The predictions are too high, by {(found - true).mean():.4g} on average."
    ]
    assert any("low" in remark for remark in measured(true, true - 1).remarks)
    assert measured(true[:20], found[:20]).remarks[-1:] == [
        "The errors are imprecise: there are only 20 examples."
    ]


def test_the_curve_is_of_the_mean_prediction_by_the_true_number():
    true, found = guesses()
    order = np.argsort(true)
    series = view(measured(true, found), Curve).series
    for place, part in enumerate(np.split(order, 10)):
        assert series["mean"][place] == pytest.approx([true[part].mean(), found[part].mean()])
        assert series["ideal"][place] == pytest.approx([true[part].mean()] * 2)
        assert series["10 %"][place][1] == pytest.approx(np.quantile(found[part], 0.1))
    rows = view(measured(true, found), Table).rows
    assert [row[1] for row in rows] == [40] * 10
    errors = [np.abs(found - true)[part].mean() for part in np.split(order, 10)]
    assert [row[2] for row in rows] == pytest.approx(errors)


def test_equal_numbers_are_in_one_part_with_their_number_as_its_name():
    true = np.repeat([1.0, 2.0, 3.0, 4.0, 5.0], [3, 10, 7, 30, 50])
    found = true + np.random.default_rng(0).normal(size=len(true))
    measures = measured(true, found)
    rows = view(measures, Table).rows
    # The cuts behind 10 and 20 examples are nearer to 13 and 20, those behind 60 and 70 to 50.
    assert [row[:2] for row in rows] == [
        ["1 to 2", 13],
        ["3", 7],
        ["4", 30],
        ["5", 50],
    ]
    assert len(view(measures, Curve).series["mean"]) == len(rows)


def test_the_gallery_has_the_largest_errors():
    found = view(measured([1.0, 2.0, 3.0], [1.0, 2.5, 10.0]), Gallery).examples
    assert found == [Example(2, "10 instead of 3"), Example(1, "2.5 instead of 2")]
    many = view(measured(*guesses()), Gallery).examples
    assert len(many) == WORST


@pytest.mark.parametrize(
    ("true", "found", "message"),
    [
        ([[1], [2]], [[1], [np.nan]], r"The numbers of example 8 are not finite: \[nan\]"),
        ([[1], [2]], [[np.inf], [1]], "The numbers of example 7 are not finite"),
        ([[np.nan], [2]], [[1], [1]], "The targets of example 7 are not finite"),
        ([[1], [2]], [1, 2], r"Numbers have shape \(2,\), expected \(2, 1\)"),
        ([1, 2], [[1], [2]], r"Targets have shape \(2,\), expected \(2, 1\)"),
    ],
)
def test_a_batch_that_cannot_be_is_refused_by_its_number_and_changes_nothing(true, found, message):
    tally = RegressionTally()
    tally.add(np.ones((7, 1)), {"number": np.ones((7, 1))}, 0)
    before = tally.measures()
    with pytest.raises(ValueError, match=message):
        tally.add(np.array(true), {"number": np.array(found)}, 7)
    assert tally.measures() == before


class Grey(Source, name="grey"):
    """Grey pictures, and numbers that grow with their brightness."""

    least: float = 0.0
    slope: float = 1.0
    count: int = 96

    def features(self):
        return {"image": Image(), "number": Number()}

    def classes(self):
        return ()

    def examples(self):
        for number in range(self.count):
            share = np.random.default_rng(number).random()
            pixels = np.full((16, 16, 3), round(255 * share), np.uint8)
            image = bytes(tf.io.encode_png(pixels).numpy())
            yield str(number), {"image": image, "number": self.least + self.slope * share}

    def fingerprint(self):
        return str(self)


def test_numbers_of_any_size_train_alike():
    """The same line, in thousands and in thousandths, by every optimizer."""
    random = np.random.default_rng(0)
    summaries = random.normal(size=(64, 4)).astype(np.float32)
    standard = summaries @ [1.0, -1.0, 0.5, 0.0] + 0.1 * random.normal(size=64)
    for optimizer in (keras.optimizers.Adam(0.1), keras.optimizers.SGD(0.1)):
        losses = []
        for least, slope in ((0.0, 1.0), (1000.0, 500.0), (-1e-3, 1e-3)):
            keras.utils.set_random_seed(0)
            task, summary = Regression(dropout=0.0), keras.Input([4])
            head: Any = keras.Model(summary, task.head(summary, 0))
            numbers = (least + slope * standard).astype(np.float32)[:, None]
            task.initialize(head, numbers)
            own = type(optimizer).from_config(optimizer.get_config())
            head.compile(own, loss=task.loss())
            steps = [np.tile(each, (40, 1)) for each in (summaries, numbers)]
            head.fit(*steps, batch_size=64, shuffle=False, verbose=0)
            outputs = head(summaries)
            found = np.asarray(task.served(outputs)["number"])
            expected = oracle.r2_score(numbers, found), oracle.mean_absolute_error(numbers, found)
            for metric, value in zip(task.metrics(()), expected, strict=True):
                metric.update_state(numbers, outputs)
                assert np.asarray(metric.result()) == pytest.approx(value, rel=1e-3)
                metric.update_state(numbers, outputs, sample_weight=np.zeros(64))
                assert np.asarray(metric.result()) == pytest.approx(value, rel=1e-3)
            loss = float(np.asarray(task.loss()(numbers, outputs)))
            assert loss == pytest.approx(1 - expected[0], rel=1e-3) and loss < 0.05
            losses.append(loss)
        assert losses == pytest.approx([losses[0]] * 3, rel=0.01)


def test_a_recipe_begins_with_the_scale_of_the_training_numbers(tmp_path):
    ingest.write_examples(Grey(1000.0, 500.0), Split(validation=20, test=20), tmp_path / "examples")
    data = Data(tmp_path / "examples", Tiny(), Regression(), batch_size=16)
    model = TransferModel(Tiny(), data.task, ())
    (log,) = FineTune(phases=(Phase(epochs=1),)).fit(model, data, tmp_path / "fit")
    numbers = np.concatenate([target for _, target in data.batches("train").as_numpy_iterator()])
    scale = model.head.get_layer("scale")
    np.testing.assert_allclose(scale.mean, [[numbers.mean()]], rtol=1e-6)
    np.testing.assert_allclose(scale.variance, [[numbers.var()]], rtol=1e-5)
    assert log["loss"] < 5 and log["val_mean_absolute_error"] < 500
    assert log["explained"] == pytest.approx(1 - log["loss"], abs=1e-4)


def test_the_scale_is_that_of_the_training_numbers_and_survives_a_file(tmp_path):
    source = Grey(least=1000.0, slope=500.0)
    ingest.write_examples(source, Split(validation=20, test=20), tmp_path / "examples")
    data = Data(tmp_path / "examples", Tiny(), Regression(), batch_size=16)
    numbers = np.concatenate([target for _, target in data.batches("train").as_numpy_iterator()])
    model = TransferModel(Tiny(), data.task, ())
    dense, scale = (model.head.get_layer(name) for name in ("standard", "scale"))
    dense.set_weights([np.zeros((24, 1)), np.ones(1)])
    data.task.initialize(model.head, data.targets_of("train"))
    inputs, _ = next(iter(data.batches("test")))
    expected = numbers.mean() + numbers.std()
    np.testing.assert_allclose(model.served(inputs)["number"], expected, rtol=1e-6)
    assert not scale.trainable_variables
    model.save(tmp_path / "model")
    loaded = TransferModel.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.served(inputs)["number"], model.served(inputs)["number"])


def test_a_second_fit_on_other_numbers_is_that_of_a_new_model(tmp_path):
    parts = []
    for name, source in (("small", Grey()), ("large", Grey(1000.0, 500.0))):
        ingest.write_examples(source, Split(validation=20, test=20), tmp_path / name)
        parts.append(Data(tmp_path / name, Tiny(), Regression(), batch_size=16))
    model, fresh = (TransferModel(Tiny(), Regression(), (), seed=3) for _ in range(2))
    recipe, start = FineTune((Phase(epochs=1),)), model.full.get_weights()
    recipe.fit(model, parts[0], tmp_path / "first")
    model.full.set_weights(start)
    logs = recipe.fit(model, parts[1], tmp_path / "second")
    assert logs == recipe.fit(fresh, parts[1], tmp_path / "fresh")
    inputs, _ = next(iter(parts[1].batches("test")))
    np.testing.assert_array_equal(model.served(inputs)["number"], fresh.served(inputs)["number"])


def test_equal_numbers_are_refused_before_the_training(tmp_path):
    ingest.write_examples(Grey(5.0, 0.0), Split(validation=20, test=20), tmp_path / "examples")
    data = Data(tmp_path / "examples", Tiny(), Regression(), batch_size=16)
    model = TransferModel(Tiny(), Regression(), ())
    with pytest.raises(ValueError, match=r"all \d+ training numbers are 5\. Read"):
        FineTune().fit(model, data, tmp_path / "fit")


def test_numbers_that_keras_cannot_scale_are_refused(tmp_path):
    task, summary = Regression(), keras.Input([4])
    head: Any = keras.Model(summary, task.head(summary, 0))
    with pytest.raises(ValueError, match=r"deviate by 1\.0e-09 .* give them in a smaller"):
        task.initialize(head, np.array([[1e-9], [3e-9]]))


def test_numbers_whose_deviation_has_no_square_are_refused(tmp_path):
    task, summary = Regression(), keras.Input([4])
    head: Any = keras.Model(summary, task.head(summary, 0))
    with pytest.raises(ValueError, match=r"deviate by 1\.0e\+20 .* give them in a larger unit"):
        task.initialize(head, np.array([[1e20], [3e20]]))


def test_answers_agree_alike_wherever_the_numbers_have_their_zero():
    task, random = Regression(), np.random.default_rng(0)
    numbers = random.normal(0, 1, (200, 1))
    found = numbers + random.normal(0, 0.05, numbers.shape)
    expected = task.agree({"number": numbers}, {"number": found})
    assert 0.5 < expected.mean() < 0.8 and expected[np.abs(numbers[:, 0]) < 0.2].any()
    moved = task.agree({"number": numbers + 100}, {"number": found + 100})
    assert (moved == expected).mean() > 0.98  # But for rounding.


def test_a_dropout_of_everything_is_refused():
    with pytest.raises(ValueError, match=r"regression\.dropout is 1"):
        Regression(dropout=1.0)
