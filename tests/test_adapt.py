"""Heads for a domain without labels, against NumPy and the formulas of the papers."""

import dataclasses

import numpy as np
import pytest
from conftest import COLOURS, Tiny, weights_of
from PIL import Image

from pipeline.steps import exporter, trainer
from tlkeras import spec
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.exporter import Details
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.frameworks import keras, tf
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipe import Recipe
from tlkeras.recipes.adapt import Adapt
from tlkeras.recipes.probe import Probe
from tlkeras.source import Source
from tlkeras.sources.domains import Domains
from tlkeras.sources.folder import Folder
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.regression import Regression
from tlkeras.training import adapted, adversary, alignment, discrepancy, features, loop, norms
from tlkeras.training.linear import LinearHead


def slow(method):
    return pytest.param(method, marks=pytest.mark.slow)


def rows(seed, count, width=3, step=0.0):
    random = np.random.default_rng(seed)
    return random.normal(0, 1, (count, width)) @ random.normal(0, 1, (width, width)) + step


def of(loss, source, target):
    return float(loss(tf.constant(source), tf.constant(target)))


def squares(source, target):
    """Returns the squared distances of all rows from each other."""
    both = np.concatenate([source, target])
    return np.square(both[:, None] - both[None]).sum(axis=-1)


def kernel_mean(source, target, width):
    """Returns the discrepancy by NumPy, with kernels of this width and of factors of it."""
    found, n = squares(source, target), len(source)
    kernel = np.mean([np.exp(-found / (f * width)) for f in (0.25, 0.5, 1, 2, 4)], axis=0)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def test_the_mean_discrepancy_is_that_of_all_pairs():
    source, target = rows(0, 12), rows(1, 9, step=1.0)
    expected = kernel_mean(source, target, squares(source, target).mean())
    assert of(discrepancy.kernel_mean, source, target) == pytest.approx(expected)
    assert of(discrepancy.kernel_mean, source, source[::-1]) == pytest.approx(0, abs=1e-12)
    assert of(discrepancy.kernel_mean, source * 0, target * 0) == pytest.approx(0, abs=1e-12)


def test_the_class_confusion_is_that_of_the_paper():
    logits = rows(2, 20)
    shares = np.exp(logits / 2.5)
    shares /= shares.sum(axis=1, keepdims=True)
    certain = 1 + np.exp((shares * np.log(shares)).sum(axis=1))
    weights = len(logits) * certain / certain.sum()
    found = np.einsum("n,nj,nk->jk", weights, shares, shares)
    found /= found.sum(axis=1, keepdims=True)
    expected = sum(found[j, k] for j in range(3) for k in range(3) if j != k) / 3
    assert of(discrepancy.confusion, logits, logits) == pytest.approx(expected)
    sure = 1000 * np.eye(3)
    assert of(discrepancy.confusion, sure, sure) == pytest.approx(0)


def test_moved_rows_have_the_mean_and_the_covariance_of_the_target():
    source, target = rows(0, 60, 5), rows(1, 50, 5, step=3.0)
    moved = alignment.means(source, target)(source)
    np.testing.assert_allclose(moved.mean(axis=0), target.mean(axis=0))
    np.testing.assert_allclose(np.cov(moved.T), np.cov(source.T))
    moved = alignment.covariances(source, target, 1e9)(source)
    np.testing.assert_allclose(moved.mean(axis=0), target.mean(axis=0))
    np.testing.assert_allclose(np.cov(moved.T), np.cov(target.T), atol=1e-5)
    weak = alignment.covariances(source, target, 1e-9)(source)
    np.testing.assert_allclose(weak, alignment.means(source, target)(source), atol=1e-5)
    larger = alignment.covariances(10 * source, 10 * target, 0.5)(10 * source)
    np.testing.assert_allclose(larger, 10 * alignment.covariances(source, target, 0.5)(source))


def test_a_channel_that_never_varies_is_no_danger():
    source, target = rows(0, 20), rows(1, 20)
    source[:, 1] = target[:, 1] = 4.0
    assert np.isfinite(alignment.covariances(source, target, 1e9)(source)).all()


@pytest.mark.parametrize("loss", [discrepancy.kernel_mean, discrepancy.confusion])
def test_the_gradient_of_a_term_is_that_of_differences(loss):
    source, target = rows(0, 14, 4), rows(1, 11, 4)
    random = np.random.default_rng(2)
    kernel, bias = random.normal(0, 1, (4, 3)), random.normal(0, 1, 3)
    term = adapted._term(loss, 0.7, source, target)
    value, (slope, bias_slope) = term((kernel, bias))
    logits = [each @ kernel + bias for each in (source, target)]
    assert value == pytest.approx(0.7 * of(loss, *logits))
    width = squares(*logits).mean()  # A constant to the gradient.

    def shifted(step, bias_step):
        one, other = (each @ (kernel + step) + bias + bias_step for each in (source, target))
        if loss is discrepancy.kernel_mean:
            return 0.7 * kernel_mean(one, other, width)
        return 0.7 * of(loss, one, other)

    for place in [(0, 0), (3, 2)]:
        step = np.zeros_like(kernel)
        step[place] = 1e-6
        change = (shifted(step, 0) - shifted(-step, 0)) / 2e-6
        assert slope[place] == pytest.approx(change, rel=1e-4)
        assert abs(change) > 1e-4
    step = np.array([1e-6, 0, 0])
    change = (shifted(0, step) - shifted(0, -step)) / 2e-6
    assert bias_slope[0] == pytest.approx(change, rel=1e-4, abs=1e-8)


def test_the_reversal_turns_the_gradient_and_grows_as_in_the_paper():
    x = tf.Variable([1.0, 2.0])
    with tf.GradientTape() as tape:
        turned = adversary._reversed(x, 0.25)
        loss = tf.reduce_sum(turned * [3.0, 5.0])
    np.testing.assert_allclose(turned, x)
    np.testing.assert_allclose(tape.gradient(loss, x), [-0.75, -1.25])
    assert adversary.reversal(0) == 0
    assert adversary.reversal(0.5) == pytest.approx(2 / (1 + np.exp(-5)) - 1)
    assert 0.9999 < adversary.reversal(1) < 1


@pytest.mark.parametrize("strength", [3.0, 0.03])
def test_an_adversary_names_rows_of_many_channels(strength):
    random, labels = np.random.default_rng(0), np.arange(60) % 3
    centres = random.normal(0, 1, (3, 1280))
    source, target = (centres[labels] + random.normal(0, 0.1, (60, 1280)) for _ in range(2))
    ((_, (kernel, bias)),) = adversary.heads(
        source,
        np.eye(3)[labels],
        target,
        [strength],
        loss=keras.losses.CategoricalCrossentropy(from_logits=True).call,
        weight=1.0,
        seed=0,
    )
    assert np.isfinite(kernel).all() and np.isfinite(bias).all()
    assert np.mean((target @ kernel + bias).argmax(axis=1) == labels) > 0.9


@pytest.mark.parametrize(
    ("scores", "count", "expected"),
    [
        ([(0.7, 3.0, 0.1), (0.8, 1.0, 0.1), (0.8, 0.1, 0.1)], 0, 1),
        ([(0.7, 3.0, 0.1), (0.8, 1.0, 0.1), (0.82, 0.1, 0.1)], 100, 1),
        ([(0.7, 3.0, 0.1), (0.8, 1.0, 0.1), (0.82, 0.1, 0.1)], 10_000, 2),
        ([(0.8, 1.0, 1.0), (0.8, 1.0, 0.1), (0.8, 0.1, 0.1)], 100, 1),
    ],
)
def test_one_standard_error_below_the_best_the_strongest_penalty_wins(scores, count, expected):
    assert adapted._chosen([adapted.Candidate(*each) for each in scores], count) == expected


def brightened(folder, per_class, shift, seed):
    """Writes noisy pictures of the colours, `shift` brighter in all channels."""
    random = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            noise = random.normal(0, 30, (24, 28, 3))
            pixels = np.clip(0.5 * np.asarray(colour) + shift + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:03d}.png")
    return Folder(folder)


class Relabelled(Source, name="relabelled"):
    """The examples of a source, each with the label that follows its own."""

    source: Source

    def features(self):
        return self.source.features()

    def classes(self):
        return self.source.classes()

    def examples(self):
        for key, example in self.source.examples():
            yield key, {**example, "label": (example["label"] + 1) % len(self.classes())}

    def fingerprint(self):
        return self.source.fingerprint()


def written(source, target, place):
    made = Domains(source, target, cut=Split(validation=0, test=40))
    ingest.write_examples(made, Split(validation=30, test=20), place)
    return Data(place, Tiny(), Classification(), batch_size=8, seed=0)


@pytest.fixture(scope="module")
def domains(tmp_path_factory):
    """Dark pictures as the source, brighter ones as the target."""
    place = tmp_path_factory.mktemp("domains")
    return brightened(place / "dark", 30, 0, 0), brightened(place / "bright", 30, 110, 1)


@pytest.fixture(scope="module")
def both(domains, tmp_path_factory):
    source, target = domains
    return written(source, target, tmp_path_factory.mktemp("examples"))


def model_of(data):
    return TransferModel(data.backbone, data.task, data.classes, seed=3)


def of_one(method):
    """Returns the recipe with one strength and, where the method adds anything, one weight."""
    return Adapt(method, (0.1,), Adapt.weights if method == "adabn" else (1.0,))


def accuracy(model, data, split):
    hits = [
        np.argmax(model.full(inputs, training=False), -1) == np.argmax(target, -1)
        for inputs, target in data.batches(split)
    ]
    return np.concatenate(hits).mean()


TURN = np.radians(70)
MAPS = {
    "coral": np.array([[1.25, 0.75], [0.75, 1.25]]),
    "mmd": np.array([[np.cos(TURN), np.sin(TURN)], [-np.sin(TURN), np.cos(TURN)]]),
}
MAPS["mcc"] = MAPS["mmd"]
"""By method, a linear map of rows that it undoes in part: a stretching, or a turn."""


def two_classes(method, seed, turned):
    """Returns 80 rows of two classes to both sides of 0, mapped if `turned`, and their labels."""
    random, labels = np.random.default_rng(seed), np.arange(80) % 2
    found = np.zeros([80, 24])  # So many channels has `Tiny`.
    found[:, 0] = random.normal(2 * labels - 1, 0.3)
    found[:, 1] = random.normal(0, 1.0 if method == "coral" else 0.3, 80)
    if turned:
        found[:, :2] @= MAPS[method]
    return found, labels


@pytest.mark.parametrize("method", MAPS)
def test_what_a_method_adds_names_more_where_the_means_are_equal(method):
    model = TransferModel(Tiny(), Classification(), ("a", "b"), seed=3)
    head = LinearHead(model, "adapt")
    source, target = two_classes(method, 2, turned=False), two_classes(method, 3, turned=True)
    given, others = (
        adapted._rows(head, found, np.eye(2)[labels]) for found, labels in (source, target)
    )

    def accuracy_with(weight):
        part = adapted.Adapted(method, (0.1,), (weight,), False)
        solved = part.solution(head, given, None, None, 0, others)
        return adapted._accuracy(solved, *target)

    assert accuracy_with(1e-9) < 0.93
    assert accuracy_with(1.0) > 0.97


def solved(strengths, monkeypatch):
    """Returns the kernel that is chosen of an adversary's, which is not finite for 3.0.

    The rows to choose by are of the first class, which NumPy takes for the largest of no numbers.
    """
    model = TransferModel(Tiny(), Classification(), ("a", "b"), seed=3)
    head, (found, labels) = LinearHead(model, "adapt"), two_classes("coral", 2, turned=False)
    given = adapted._rows(head, found, np.eye(2)[labels])
    first = adapted._rows(head, found[labels == 0], np.eye(2)[labels[labels == 0]])
    heads = adversary.heads

    def diverging(*given, **options):
        for strength, (kernel, bias) in heads(*given, **options):
            yield strength, (kernel * (np.nan if strength == 3.0 else 1.0), bias)

    monkeypatch.setattr(adversary, "heads", diverging)
    part = adapted.Adapted("dann", strengths, (1.0,), False)
    return part.solution(head, given, first, "accuracy", 0, given)[0]


def test_a_head_that_is_not_finite_is_never_chosen(monkeypatch):
    assert np.isfinite(solved((3.0, 0.1), monkeypatch)).all()


def test_a_method_without_a_finite_head_is_refused(monkeypatch):
    with pytest.raises(loop.Diverged, match=r"No head of adapt\.method='dann' is finite; use"):
        solved((3.0,), monkeypatch)


@pytest.mark.parametrize(
    "method", ["mcc", *(slow(each) for each in ("coral", "dann", "mmd", "adabn"))]
)
def test_a_shifted_target_is_named_better_than_by_a_probe(method, both, tmp_path):
    plain, better = model_of(both), model_of(both)
    Probe((0.1,)).fit(plain, both, tmp_path / "plain")
    before = accuracy(plain, both, "target_test")
    assert accuracy(plain, both, "test") > 0.9 > before
    of_one(method).fit(better, both, tmp_path / "adapted")
    assert accuracy(better, both, "target_test") > before + 0.1


def test_labels_of_the_target_change_no_weight(domains, both, tmp_path):
    source, target = domains
    renamed = written(source, Relabelled(target), tmp_path / "examples")
    labels = [
        np.concatenate([each.argmax(-1) for _, each in data.batches("target").as_numpy_iterator()])
        for data in (both, renamed)
    ]
    np.testing.assert_array_equal((labels[0] + 1) % 3, labels[1])
    fitted, other = model_of(both), model_of(renamed)
    recipe = Adapt("coral", (1.0, 0.1), (0.3,))
    recipe.fit(fitted, both, tmp_path / "one")
    recipe.fit(other, renamed, tmp_path / "two")
    for path, value in weights_of(fitted.full).items():
        np.testing.assert_array_equal(value, weights_of(other.full)[path])


def test_an_oracle_takes_the_head_that_names_most_of_the_target(both, tmp_path, capsys):
    model = model_of(both)
    recipe = Adapt("mcc", (10.0, 1.0, 0.01), (0.1,), oracle=True)
    recipe.fit(model, both, tmp_path)
    told = [line.split() for line in capsys.readouterr().out.splitlines() if "score" in line]
    scores = {float(words[1].strip(",")): float(words[5]) for words in told}
    assert len(scores) == 3
    assert accuracy(model, both, "target") == pytest.approx(max(scores.values()), abs=1e-4)
    assert (
        "oracle" in recipe.remarks()[0] and "validation split of the source" in Adapt().remarks()[0]
    )


def test_the_logs_measure_the_source_moved_as_the_score_of_the_candidate_does(
    both, tmp_path, capsys
):
    model = model_of(both)
    (log,) = Adapt("coral", (0.1,), (1.0,)).fit(model, both, tmp_path)
    (told,) = [line.split() for line in capsys.readouterr().out.splitlines() if "score" in line]
    assert log["val_accuracy"] == pytest.approx(float(told[5]), abs=1e-4)
    assert log["accuracy"] > 0.9 > accuracy(model, both, "train")


@pytest.mark.equality
@pytest.mark.parametrize("method", ["coral", slow("dann"), slow("adabn")])
def test_a_killed_fit_ends_like_an_unbroken_one(method, both, tmp_path, monkeypatch):
    recipe = of_one(method)
    unbroken = model_of(both)
    expected = recipe.fit(unbroken, both, tmp_path / "unbroken")
    write, killed = loop.write, model_of(both)

    def kill(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "write", kill)
    with pytest.raises(KeyboardInterrupt):
        recipe.fit(killed, both, tmp_path / "broken")
    monkeypatch.setattr(loop, "write", write)
    for _ in range(2):  # The second finds all done.
        again = model_of(both)
        assert recipe.fit(again, both, tmp_path / "broken") == expected
        for path, value in weights_of(unbroken.full).items():
            np.testing.assert_array_equal(value, weights_of(again.full)[path])


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("coral", r"holds the progress of another fit, with examples .*'target': '16 of digest"),
        ("adabn", r"norms\.json holds statistics of other examples than these\. Use a new folder"),
    ],
)
def test_another_target_in_the_folder_of_a_fit_is_refused(method, message, domains, both, tmp_path):
    recipe, source = of_one(method), domains[0]
    recipe.fit(model_of(both), both, tmp_path / "fit")
    other = written(source, brightened(tmp_path / "dim", 10, 60, 2), tmp_path / "examples")
    assert other.digest("train") == both.digest("train")
    with pytest.raises(ValueError, match=message):
        recipe.fit(model_of(other), other, tmp_path / "fit")


def test_norms_have_the_statistics_of_what_they_get(both):
    model = model_of(both)
    inputs = np.concatenate([x for x, _ in both.batches("target")])
    norms.assign(model.body, norms.measured(model.body, [tf.constant(inputs)]))
    found = norms.found(model.body)
    assert len(found) == 4
    for norm, given in zip(
        found, keras.Model(model.body.input, [each.input for each in found])(inputs), strict=True
    ):
        given = given.numpy().astype(float).reshape(-1, given.shape[-1])
        np.testing.assert_allclose(norm.moving_mean, given.mean(axis=0), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(norm.moving_variance, given.var(axis=0), rtol=1e-3, atol=1e-4)
    # The inputs of the first norm depend on no other: a short batch counts by its examples.
    parts = norms.measured(model.body, [tf.constant(inputs[:7]), tf.constant(inputs[7:])])
    whole = norms.measured(model.body, [tf.constant(inputs)])
    for variable in (found[0].moving_mean, found[0].moving_variance):
        np.testing.assert_allclose(parts[variable.path], whole[variable.path], rtol=1e-4)


@pytest.mark.slow
def test_norms_alone_change(both, tmp_path):
    model, start = model_of(both), model_of(both)
    Adapt("adabn", (0.1,)).fit(model, both, tmp_path)
    before = weights_of(start.body)
    changed = {path for path, x in weights_of(model.body).items() if (x != before[path]).any()}
    assert changed == {
        each.path for n in norms.found(model.body) for each in (n.moving_mean, n.moving_variance)
    }


@pytest.mark.parametrize(
    ("recipe", "split"), [(of_one("coral"), "target"), (Probe((0.1,)), "train")], ids=str
)
def test_exports_are_given_samples_of_what_the_head_is_for(
    recipe, split, both, tmp_path, monkeypatch
):
    given = []
    monkeypatch.setattr(SavedModel, "write", lambda *values: given.extend(values))
    model, out = tmp_path / "model", tmp_path / "out"
    model.mkdir()
    out.mkdir()
    options = {"examples": both.folder, "backbone": both.backbone, "task": both.task}
    trainer.model.run(
        model, **options, recipe=recipe, batch_size=8, seed=0, precision="float32", exporters=(),
        feature_cache_gb=1.0, features=tmp_path / "features",
    )  # fmt: skip
    (out / "blessing.json").write_text('{"blessed": true}')
    exporter.exports.run(
        out, **options, model=model, evaluation=out, exporters=(SavedModel(),), name="colours",
        details=Details(),
    )  # fmt: skip
    _, _, samples, *_ = given
    assert len(samples) == both.count(split)
    np.testing.assert_array_equal(next(iter(samples)), next(iter(both.singles(split))))


@pytest.mark.parametrize("recipe", ["adapt(method='coral')", "adapt(method='adabn')"])
def test_data_without_a_target_are_refused_before_any_training(recipe, data, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "at", lambda *given: pytest.fail("features were computed"))
    with pytest.raises(ValueError, match=r"adapt needs .* have the splits train, .*domains\("):
        spec.parse(recipe, Recipe).fit(model_of(data), data, tmp_path)


def test_what_cannot_be_adapted_is_refused_before_any_training(both, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "at", lambda *given: pytest.fail("features were computed"))
    cases = [
        (Adapt(), {"validation": 0}, "adapt chooses by the validation split, and there is none"),
        (Adapt(oracle=True), None, "oracle is True, but the target has no labels; use oracle=F"),
    ]
    for recipe, counts, message in cases:
        info = both.info
        info = dataclasses.replace(
            info,
            counts={**info.counts, **(counts or {})},
            class_counts=info.class_counts
            if counts
            else {**info.class_counts, "target": (0, 0, 0)},
        )
        other = dataclasses.replace(both)
        vars(other)["info"] = info
        with pytest.raises(ValueError, match=message):
            recipe.fit(model_of(both), other, tmp_path)
    task = dataclasses.replace(both, task=Regression())
    with pytest.raises(ValueError, match="one label of each example; regression reads 'number'"):
        Adapt().fit(model_of(task), task, tmp_path)


def test_a_network_without_batch_norms_is_refused(both, tmp_path, monkeypatch):
    monkeypatch.setattr(norms, "found", lambda network: [])
    with pytest.raises(ValueError, match="method is 'adabn', but tiny has no batch norm; use"):
        Adapt("adabn").fit(model_of(both), both, tmp_path)


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (Adapt(), "Of the candidates of adapt the validation split of the source chose one, w"),
        (Adapt("adabn"), "source, or parts of its training split where that is small, chose one"),
        (Adapt(oracle=True), "Labels of the target chose among the candidates"),
        (Adapt(strengths=(1.0,), weights=(0.3,)), "adapt had one candidate alone, so no label ch"),
        (Adapt(strengths=(1.0,), weights=(0.3,), oracle=True), "adapt had one candidate alone"),
        (Adapt("adabn", strengths=(1.0,)), "adapt had one candidate alone"),
    ],
)
def test_the_report_says_what_chose_among_the_candidates(recipe, said):
    (remark,) = recipe.remarks()
    assert said in remark


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adapt(method='carol')", "adapt.method is 'carol', expected .*'coral', 'mmd', 'dann'"),
        ("adapt(weights=[])", "weights is .*, expected at least one weight"),
        ("adapt(weights=[0.0])", "expected weights above 0"),
        ("adapt(weights=[1.0, 0.1])", "expected rising weights, each once"),
        ("adapt(strengths=[0.1, 1.0])", r"adapt\.strengths is .*, expected falling strengths"),
        ("adapt(method='adabn', oracle=True)", "oracle with method='adabn', which has nothing"),
        ("adapt(method='adabn', weights=[1.0])", "weights with method='adabn', which adds nothing"),
    ],
)
def test_a_value_that_cannot_be_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        spec.parse(text, Recipe)
