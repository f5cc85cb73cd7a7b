"""The two-phase schedule."""

import dataclasses
import shutil
import types
from typing import Any

import numpy as np
import pytest
from conftest import SUMMANDS, Tiny, Wordy, assert_near, weights_of
from toy_text import Sentences, ToyText

from tlkeras import spec
from tlkeras.augment import Augment
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.frameworks import keras, tf
from tlkeras.model.transfer_model import TransferModel, computing_in
from tlkeras.recipe import Recipe
from tlkeras.recipes.fine_tune import FineTune, Phase
from tlkeras.sources.embedded import Embedded
from tlkeras.sources.folder import Folder
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.detection import Detection
from tlkeras.tasks.multilabel import Multilabel
from tlkeras.tasks.regression import Regression
from tlkeras.tasks.segmentation import Segmentation
from tlkeras.tasks.tagging import Tagging
from tlkeras.training import features, layer_decay, loop, schedule
from tlkeras.training.trainable import trainable


def make(task=Classification()):  # noqa: B008 - a spec is frozen
    return TransferModel(Tiny(), task, ("blue", "green", "red"), seed=3)


def moved(before, after):
    return {path for path in before if not np.array_equal(before[path], after[path])}


def test_the_head_alone_moves_in_phase_one_and_chosen_blocks_in_phase_two(data, tmp_path):
    model = make()
    start = weights_of(model.full)
    recipe = FineTune(phases=(Phase(epochs=1), Phase(epochs=1, unfreeze="block3")))
    recipe.fit(model, data, tmp_path)
    changed = {path.split("/")[0] for path in moved(start, weights_of(model.full))}
    assert changed == {"logits", "block3_conv", "block4_conv"}


@pytest.mark.equality
@pytest.mark.parametrize("cache", ["none", "float32"])
def test_batch_norms_stay_bit_equal_unless_asked(data, tmp_path, cache):
    for batch_norm in (False, True):
        model = make()
        start = weights_of(model.full)
        phase = Phase(epochs=1, unfreeze=("block3",), batch_norm=batch_norm)
        FineTune(phases=(phase,), cache=cache).fit(model, data, tmp_path / str(batch_norm))
        changed = {path for path in moved(start, weights_of(model.full)) if "norm" in path}
        expected = {"gamma", "beta", "moving_mean", "moving_variance"} if batch_norm else set()
        assert changed == {f"block3_norm/{name}" for name in expected}


def test_norms_that_train_know_the_statistics_of_the_data_after_few_steps(data, tmp_path):
    model = make()
    (norm,) = (each for each in model.body.layers if each.name == "block3_norm")
    norm.momentum = 0.999  # As Keras's MobileNets: after all steps below, 90 % would be of before.
    model.train_only(["block3"], batch_norm=True)
    full: Any = model.full
    full.compile(keras.optimizers.SGD(1e-6), model.task.loss())
    for epoch in range(20):
        full.fit(data.shuffled("train", epoch), shuffle=False, verbose=0)
    before = keras.Model(model.body.input, norm.input)
    values = np.concatenate([before(inputs) for inputs, _ in data.batches("train")])
    mean, variance = values.mean(axis=(0, 1, 2)), values.var(axis=(0, 1, 2))
    assert np.abs(norm.moving_mean - mean).max() < 0.4 * values.std()
    assert np.abs(norm.moving_variance - variance).max() < 0.4 * values.var()


# Of 8 steps at a time on features: less than that, just that, and twice that and some more.
BATCH_SIZES = pytest.mark.parametrize(
    ("batch_size", "steps"),
    [
        pytest.param(8, range(1, 8), marks=pytest.mark.slow),
        (5, [8]),
        pytest.param(2, range(17, 24), marks=pytest.mark.slow),
    ],
)


@pytest.mark.equality
@BATCH_SIZES
def test_a_cached_run_gives_the_losses_of_an_uncached_one(data, tmp_path, batch_size, steps):
    # Kept rows were computed in other batches, and with AVX2 oneDNN takes patches by six: the last
    # one to three of a batch are added up in another order. So equality is but for the rounding.
    data, logs = dataclasses.replace(data, batch_size=batch_size), {}
    assert data.steps("train") in steps
    for cache in ("none", "float32", "float16"):
        phases = (Phase(epochs=2), Phase(epochs=2, unfreeze="block3", learning_rate=1e-3))
        recipe = FineTune(phases=phases, cache=cache)
        logs[cache] = [
            [log["loss"], log["val_loss"]] for log in recipe.fit(make(), data, tmp_path / cache)
        ]
    assert_near(logs["float32"], logs["none"], SUMMANDS["logits"])
    np.testing.assert_allclose(logs["float16"], logs["none"], rtol=2e-3)


@pytest.mark.equality
def test_two_runs_of_a_seed_are_equal_and_another_seed_differs(data, tmp_path):
    def losses(seed, name):
        seeded = dataclasses.replace(data, seed=seed)
        phases = (Phase(epochs=2), Phase(epochs=1, unfreeze=0.5))
        return [log["loss"] for log in FineTune(phases).fit(make(), seeded, tmp_path / name)]

    assert losses(1, "a") == losses(1, "b") != losses(2, "c")


@pytest.mark.equality
@BATCH_SIZES
def test_a_fit_killed_in_the_second_phase_ends_like_an_unbroken_one(
    data, tmp_path, batch_size, steps
):
    data = dataclasses.replace(data, batch_size=batch_size)
    assert data.steps("train") in steps

    class Killed(Exception):
        pass

    def kill(epoch, logs):
        if epoch == 1 and len(list((tmp_path / "broken" / "phase1").glob("*.npz"))):
            raise Killed

    recipe = FineTune((Phase(epochs=2), Phase(epochs=4, unfreeze=0.5, learning_rate=1e-3)))
    unbroken = make()
    expected = recipe.fit(unbroken, data, tmp_path / "unbroken")
    with pytest.raises(Killed):
        killer = keras.callbacks.LambdaCallback(on_epoch_end=kill)
        recipe.fit(make(), data, tmp_path / "broken", callbacks=[killer])
    again = make()
    logs = recipe.fit(again, data, tmp_path / "broken")
    assert logs == expected
    assert not moved(weights_of(unbroken.full), weights_of(again.full))


def test_a_folder_with_the_progress_of_another_fit_is_refused(data, tmp_path):
    recipe = FineTune((Phase(epochs=1),))
    logs = recipe.fit(make(), data, tmp_path)
    assert recipe.fit(make(), data, tmp_path) == logs
    seeded = dataclasses.replace(data, seed=5)
    with pytest.raises(ValueError, match="another fit, with seed 0, not 5"):
        recipe.fit(make(), seeded, tmp_path)
    reduced = dataclasses.replace(data, exact=False)
    with pytest.raises(ValueError, match="another fit, with decoded_in_full True, not False"):
        recipe.fit(make(), reduced, tmp_path)
    with pytest.raises(ValueError, match=r"with recipe fine_tune.*Use a new folder"):
        FineTune((Phase(epochs=2),)).fit(make(), data, tmp_path)
    first = TransferModel(data.backbone, data.task, data.classes, seed=3)
    first.save(tmp_path)
    assert recipe.fit(TransferModel.load(tmp_path), data, tmp_path) == logs
    other = TransferModel(data.backbone, data.task, data.classes, seed=9)
    with pytest.raises(ValueError, match=r"with model_seed \d, not 9"):
        recipe.fit(other, data, tmp_path)


def test_progress_is_not_put_on_another_network(data, tmp_path):
    model, head = make(), FineTune((Phase(epochs=1),))
    FineTune((Phase(epochs=1, unfreeze="all"),)).fit(model, data, tmp_path / "first")
    head.fit(model, data, tmp_path / "second")
    with pytest.raises(ValueError, match=r"with frozen \w{16}, not"):
        head.fit(make(), data, tmp_path / "second")


def test_progress_in_another_precision_is_refused(data, tmp_path):
    recipe = FineTune((Phase(epochs=1, unfreeze="all"),))
    recipe.fit(make(), data, tmp_path)
    with computing_in("mixed_float16"):
        mixed = make()
    with pytest.raises(ValueError, match=r"with precision \['float32'\], not \['mixed"):
        recipe.fit(mixed, data, tmp_path)


def test_a_mixed_model_has_its_loss_scaled_wherever_it_is_fitted():
    with computing_in("mixed_float16"):
        model = make()
    trained = trainable(model.full)
    trained.compile("sgd", "mse")
    assert isinstance(trained.optimizer, keras.optimizers.LossScaleOptimizer)
    plain = trainable(make().full)
    plain.compile("sgd", "mse")
    assert not isinstance(plain.optimizer, keras.optimizers.LossScaleOptimizer)


def test_a_float32_model_is_trained_in_float32_whatever_the_policy_of_keras(data, tmp_path):
    phases = Phase(epochs=1, unfreeze="block3"), Phase(epochs=1, unfreeze="all")
    recipe, plain, other = FineTune(phases, cache="none"), make(), make()
    logs = recipe.fit(plain, data, tmp_path / "plain")
    with computing_in("mixed_float16"):
        assert recipe.fit(other, data, tmp_path / "other") == logs
    for one, same in zip(plain.full.get_weights(), other.full.get_weights(), strict=True):
        np.testing.assert_array_equal(one, same)


def test_a_callback_that_saves_what_is_trained_is_told_how(data, tmp_path):
    saving = keras.callbacks.ModelCheckpoint(str(tmp_path / "best.keras"))
    with pytest.raises(ValueError, match=r"use ModelCheckpoint\(…, save_weights_only=True\)"):
        FineTune((Phase(epochs=1),)).fit(make(), data, tmp_path, [saving])


def test_a_callback_that_resumes_in_its_own_way_is_refused(data, tmp_path):
    start, model = make().full.get_weights(), make()
    saving = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
    with pytest.raises(ValueError, match=r"BackupAndRestore would .* a fit resumes by itself"):
        FineTune((Phase(epochs=1),)).fit(model, data, tmp_path / "fit", [saving])
    for one, other in zip(model.full.get_weights(), start, strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_examples_in_equal_numbers_need_another_folder(data, pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "pictures")
    for old, new in (("blue", "once"), ("red", "blue"), ("once", "red")):
        (tmp_path / "pictures" / old).rename(tmp_path / "pictures" / new)
    source = Folder(tmp_path / "pictures")
    ingest.write_examples(source, Split(validation=20, test=20), tmp_path / "examples")
    other = dataclasses.replace(data, folder=tmp_path / "examples")
    assert other.info.counts == data.info.counts
    recipe = FineTune((Phase(epochs=1),))
    recipe.fit(make(), data, tmp_path / "fit")
    with pytest.raises(ValueError, match=r"with examples \{'train': '\d+ of digest \w{16}'"):
        recipe.fit(make(), other, tmp_path / "fit")


def test_a_model_of_other_classes_than_the_data_is_refused(data, tmp_path):
    model = TransferModel(Tiny(), Classification(), ("red", "green", "blue"))
    with pytest.raises(ValueError, match=r"of the classes \('red', .*not \('blue', .* as the data"):
        FineTune((Phase(epochs=1),)).fit(model, data, tmp_path)


def test_a_recipe_that_was_refused_leaves_its_folder_to_the_mended_one(data, tmp_path):
    with pytest.raises(ValueError, match="block3"):
        FineTune((Phase(epochs=1, unfreeze="blok3"),)).fit(make(), data, tmp_path)
    FineTune((Phase(epochs=1, unfreeze="block3"),)).fit(make(), data, tmp_path)


def test_a_phase_that_augments_trains(data, tmp_path):
    augments = tuple(spec.parse(name, Augment) for name in spec.names(Augment))
    model = make()
    start = weights_of(model.full)
    phases = (Phase(epochs=1, unfreeze="all", augment=augments),)
    logs = FineTune(phases).fit(model, data, tmp_path)
    assert np.isfinite(logs[0]["loss"])
    assert "block1_conv/kernel" in moved(start, weights_of(model.full))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_every_optimizer_lowers_the_loss(data, tmp_path, optimizer, schedule):
    phase = Phase(
        epochs=4, optimizer=optimizer, schedule=schedule, learning_rate=0.01, warmup=0.2, clip=1.0
    )
    data = dataclasses.replace(data, task=Classification(dropout=0.0))
    logs = FineTune((phase,)).fit(make(data.task), data, tmp_path)
    assert logs[-1]["loss"] < logs[0]["loss"]


def test_the_cosine_rate_rises_in_the_warm_up_and_falls_to_zero():
    phase = Phase(learning_rate=0.1, schedule="cosine", warmup=0.25)
    rate = phase.compiled_optimizer(steps=100)._learning_rate
    steps = [0, 10, 25, 62.5, 100]
    half_cosine = 0.1 * (1 + np.cos(np.pi * 0.5)) / 2
    np.testing.assert_allclose(
        [float(rate(step)) for step in steps], [0, 0.04, 0.1, half_cosine, 0], atol=1e-6
    )


def test_the_constant_rate_with_warm_up_stays_at_its_value():
    rate = Phase(learning_rate=0.1, warmup=0.5).compiled_optimizer(steps=10)._learning_rate
    rates = [float(rate(step)) for step in (0, 1, 5, 9)]
    np.testing.assert_allclose(rates, [0, 0.02, 0.1, 0.1], rtol=1e-6)


def test_clip_bounds_the_norm_of_all_gradients_together():
    optimizer = Phase(optimizer="sgd", learning_rate=1.0, clip=1.0).compiled_optimizer(1)
    variables = [keras.Variable([0.0]), keras.Variable([0.0])]
    optimizer.apply([tf.constant([3.0]), tf.constant([4.0])], variables)
    np.testing.assert_allclose([float(v[0]) for v in variables], [-0.6, -0.8], rtol=1e-5)


@pytest.mark.parametrize(("optimizer", "decay"), [("adam", 0.0), ("adamw", 0.1)])
def test_rates_that_decay_by_block_are_those_of_adam_in_numpy(optimizer, decay):
    phase = Phase(optimizer=optimizer, weight_decay=decay, layer_decay=0.5, learning_rate=0.1)
    start, random = [3.0, 3.0, 3.0], np.random.default_rng(0)
    variables = [keras.Variable([value]) for value in start]
    rates = {id(v): 0.5**depth for depth, v in enumerate(variables)}
    found = phase.compiled_optimizer(4, rates)
    expected = np.array(start)
    m, v = np.zeros(3), np.zeros(3)
    for step in range(1, 5):
        gradient = random.normal(size=3) * [1, 10, 100]
        found.apply([tf.constant([each], tf.float32) for each in gradient], variables)
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        rate = 0.1 * 0.5 ** np.arange(3)
        expected = expected - expected * decay * rate
        mean, square = m / (1 - 0.9**step), v / (1 - 0.999**step)
        expected = expected - rate * mean / (np.sqrt(square) + 1e-7)
    np.testing.assert_allclose([float(v[0]) for v in variables], expected, rtol=1e-5)


def test_the_rate_decays_from_the_head_to_the_first_block():
    model = make()
    found = layer_decay.factors(model, 0.5)
    layers = {name: model.body.get_layer(f"{name}_conv") for name in ("block4", "block3", "block1")}
    rates = {name: found[id(layer.kernel)] for name, layer in layers.items()}
    assert rates == {"block4": 0.5, "block3": 0.25, "block1": 0.0625}
    assert found[id(model.head.get_layer("logits").kernel)] == 1


def test_a_phase_whose_rates_decay_trains_and_resumes(data, tmp_path):
    phase = Phase(epochs=2, unfreeze=0.5, layer_decay=0.5, clip=1.0)
    first, second = make(), make()
    logs = FineTune((phase,)).fit(first, data, tmp_path)
    assert logs[1]["loss"] < logs[0]["loss"]
    assert FineTune((phase,)).fit(second, data, tmp_path) == logs
    assert not moved(weights_of(first.full), weights_of(second.full))


def test_phases_that_unfreeze_more_and_more_thaw_the_network_from_its_end(data, tmp_path):
    model, ends = make(), [weights_of(make().full)]

    def note(epoch, logs):
        ends.append(weights_of(model.full))

    phases = tuple(Phase(epochs=1, unfreeze=name) for name in ("block4", "block3", "block1"))
    noting = keras.callbacks.LambdaCallback(on_epoch_end=note)
    FineTune(phases).fit(model, data, tmp_path, [noting])
    changed = [
        {path.split("_")[0] for path in moved(ends[0], end) if "conv" in path} for end in ends
    ]
    assert changed[1:3] == [{"block4"}, {"block3", "block4"}]
    assert changed[3] == {f"block{i}" for i in range(1, 5)}


def test_balanced_class_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    def counted(*counts):
        info = types.SimpleNamespace(class_counts={"train": counts})
        data: Any = types.SimpleNamespace(info=info, task=Classification())
        return schedule._class_weights(data)

    labels = np.repeat([0, 1, 2], [30, 10, 5])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(counted(30, 10, 5), expected, rtol=1e-6)
    np.testing.assert_allclose(counted(30, 10, 0)[:2], [2 / 3, 2], rtol=1e-6)
    target = tf.one_hot([0, 2], 3)
    same, weights = Classification().weighted(target, tf.constant(expected, tf.float32))
    np.testing.assert_allclose(weights, expected[[0, 2]], rtol=1e-6)
    np.testing.assert_array_equal(same, target)


@pytest.mark.parametrize(
    ("task", "backbone"), [(Regression(), Tiny()), (Multilabel(), Tiny()), (Tagging(), Wordy())]
)
def test_class_weights_of_a_task_that_has_none_are_refused_before_the_features(
    task, backbone, shapes, tmp_path, monkeypatch
):
    monkeypatch.setattr(features, "at", lambda *given: pytest.fail("features were computed"))
    data = Data(shapes, backbone, task)
    model = TransferModel(backbone, task, data.classes)
    with pytest.raises(ValueError, match=f"{task.name} has no class weights; use class_weight="):
        FineTune(class_weight="balanced").fit(model, data, tmp_path / "fit")
    assert not (tmp_path / "fit").exists()


def test_the_parts_of_a_mixed_target_weigh_as_their_classes():
    target, weights = Classification().weighted(tf.constant([[0.5, 0.5]]), [0.5556, 5.0])
    logits = np.log([[0.9, 0.1]]).astype("float32")
    loss: Any = Classification().loss()(target, logits, sample_weight=weights)
    expected = -0.5 * (0.5556 * np.log(0.9) + 5.0 * np.log(0.1))
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_class_weights_reach_the_loss(data, tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, "_class_weights", lambda data: tf.zeros([3]))
    model = make()
    start = weights_of(model.full)
    (log,) = FineTune((Phase(epochs=1),), class_weight="balanced").fit(model, data, tmp_path)
    assert log["loss"] == 0 and not moved(start, weights_of(model.full))


def test_smoothing_and_decay_are_those_asked_for():
    loss: Any = Classification(label_smoothing=0.1).loss()([[1.0, 0.0]], [[2.0, 0.0]])
    p = np.exp(2) / (np.exp(2) + 1)
    assert float(loss) == pytest.approx(-0.95 * np.log(p) - 0.05 * np.log(1 - p), rel=1e-5)
    optimizer = Phase(optimizer="adamw", weight_decay=0.1).compiled_optimizer(1)
    assert optimizer.weight_decay == pytest.approx(0.1)


def test_a_phase_has_to_beat_those_before_it(data, tmp_path, monkeypatch):
    fit, states = loop.fit, [loop.State()]

    def watched(*arguments, **options):
        assert options["start"] == states[-1]
        states.append(fit(*arguments, **options))
        return states[-1]

    monkeypatch.setattr(loop, "fit", watched)
    phases = (Phase(epochs=1), Phase(epochs=1, unfreeze="block3"))
    FineTune(phases).fit(make(), data, tmp_path)
    assert len(states) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fine_tune(phases=[])", "at least one phase"),
        ("fine_tune(phases=[phase(epochs=0)])", "phase.epochs is 0, expected at least 1"),
        ("fine_tune(phases=[phase(learning_rate=0)])", "phase.learning_rate is 0.0"),
        ("fine_tune(phases=[phase(optimizer=adm)])", "phase.optimizer is 'adm'"),
        ("fine_tune(phases=[phase(unfreeze=1.5)])", "expected a fraction in"),
        ("fine_tune(phases=[phase(weight_decay=0.1)])", "use optimizer='adamw'"),
        (
            "fine_tune(phases=[phase(layer_decay=1.5)])",
            "phase.layer_decay is 1.5, expected a factor",
        ),
        ("fine_tune(phases=[phase(patience=-1)])", "phase.patience is -1"),
        ("fine_tune(phases=[phase(views=2)])", "phase.views without augment"),
        ("fine_tune(phases=[phase(views=6, augment=[flip])])", "at most the 5 epochs"),
        ("fine_tune(phases=[phase(views=2, augment=[mix_up])])", "mixes the pictures of a batch"),
    ],
)
def test_a_wrong_recipe_is_refused_when_written(text, message):
    with pytest.raises(ValueError, match=message):
        spec.parse(text, Recipe)


@pytest.mark.parametrize(
    ("source", "backbone", "task", "change", "message"),
    [
        (Sentences(), ToyText(), Classification(), "flip", "No 'image' to augment; this example"),
        (
            Embedded(data="shapes", count=24, size=32),
            Tiny(),
            Segmentation(),
            "mix_up",
            "The targets of mix_up are .*, expected a float row of classes for each example",
        ),
        (
            Embedded(data="shapes", count=24, size=32),
            Tiny(),
            Detection(),
            "cut_mix",
            "The targets of cut_mix are .*, expected a float row of classes for each example",
        ),
    ],
)
def test_a_change_that_the_examples_cannot_have_is_refused_before_the_first_phase(
    source, backbone, task, change, message, tmp_path
):
    ingest.write_examples(source, Split(validation=20, test=20), tmp_path / "examples")
    classes = source.classes()
    data = Data(tmp_path / "examples", backbone, task, batch_size=8)
    phases = (Phase(epochs=1), Phase(epochs=1, augment=(spec.parse(change, Augment),)))
    with pytest.raises(ValueError, match=message):
        FineTune(phases).fit(TransferModel(backbone, task, classes), data, tmp_path / "fit")
    assert not (tmp_path / "fit").exists()


def test_patience_without_a_validation_split_is_refused_before_the_first_phase(pictures, tmp_path):
    ingest.write_examples(Folder(pictures), Split(validation=0, test=20), tmp_path / "examples")
    data = Data(tmp_path / "examples", Tiny(), Classification(), batch_size=8)
    recipe = FineTune((Phase(epochs=1), Phase(epochs=9, patience=2)))
    with pytest.raises(ValueError, match=r"phase\.patience is 2, and there is no validation split"):
        recipe.fit(make(), data, tmp_path / "fit")
    assert not (tmp_path / "fit").exists()


def test_an_unknown_block_is_named_with_the_nearest(data, tmp_path):
    recipe = FineTune((Phase(unfreeze="blok3"),))
    with pytest.raises(ValueError, match="No block 'blok3' in tiny; did you mean 'block3'"):
        recipe.fit(make(), data, tmp_path)


@pytest.mark.parametrize("cache", ["float16", "none"])
def test_data_without_a_validation_split_is_fitted(pictures, tmp_path, cache):
    ingest.write_examples(Folder(pictures), Split(validation=0, test=20), tmp_path / "examples")
    data = Data(tmp_path / "examples", Tiny(), Classification(), batch_size=8)
    recipe = FineTune((Phase(epochs=1), Phase(epochs=1, unfreeze=0.5)), cache=cache)
    logs = recipe.fit(make(), data, tmp_path / "fit")
    assert [set(log) for log in logs] == [{"phase", "epoch", "loss", "accuracy"}] * 2
