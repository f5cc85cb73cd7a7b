"""Ranges in flags, and the search in them."""

import contextlib
import html
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import checkpoints
import numpy as np
import optuna
import pytest
from absl import flags as absl_flags
from conftest import Tiny, Wordy
from test_groups import written

from pipeline import flags, search, store, trial
from pipeline.config import Config
from pipeline.ranges import Template
from pipeline.search import Settings
from tlkeras import spec
from tlkeras.backbones.towers import Towers
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipe import Recipe
from tlkeras.recipes.fine_tune import FineTune, Phase
from tlkeras.recipes.probe import Probe
from tlkeras.sources.embedded import Embedded
from tlkeras.sources.folder import Folder
from tlkeras.task import Task
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.detection import Detection
from tlkeras.tasks.retrieval import Retrieval
from tlkeras.tasks.segmentation import Segmentation
from tlkeras.training import loop

TESTS = Path(__file__).parent
LENGTHS = r"of texts of 1\d pieces.*; .* of texts of (14|20) pieces"
PIECES = r"log_likelihood .* 16 pieces, read by gpt2\(.*; .* 16 pieces, read by llama\("
RECIPE = "fine_tune(phases=[phase(epochs=3, learning_rate=log(1e-4, 10))])"


def test_ranges_are_found_at_their_places_and_filled():
    text = "fine_tune(phases=[solve, phase(epochs=int(1, 4), unfreeze=choice('bløck', 0.3, ()))])"
    template = Template("recipe", text)
    assert list(template.ranges) == ["recipe.phases[1].epochs", "recipe.phases[1].unfreeze"]
    assert template.ranges["recipe.phases[1].unfreeze"].ends == ("'bløck'", "0.3", "()")
    filled = template.filled(template.first)
    assert filled == "fine_tune(phases=[solve, phase(epochs=1, unfreeze='bløck')])"
    other = {"recipe.phases[1].epochs": "2", "recipe.phases[1].unfreeze": "0.3"}
    assert template.filled(other) == "fine_tune(phases=[solve, phase(epochs=2, unfreeze=0.3)])"


def test_values_between_bars_have_the_ranges_that_they_have_in_a_list():
    values = ("solve", "phase(learning_rate=log(1e-05, 0.01))", "phase(epochs=int(1, 4))")
    barred, listed = (
        Template("recipe", f"fine_tune(phases={text})")
        for text in (" | ".join(values), f"[{', '.join(values)}]")
    )
    assert barred.ranges == listed.ranges and len(barred.ranges) == 2
    fine_tunes = (spec.parse(each.filled(each.first), Recipe) for each in (barred, listed))
    assert len({*fine_tunes}) == 1


def test_a_whole_flag_may_be_a_range_and_a_choice_may_be_of_specs():
    assert Template("batch_size", "choice(16, 32)").filled({"batch_size": "32"}) == "32"
    backbones = Template("backbone", "choice(starter, mobilenet_v2(alpha=0.35))")
    assert backbones.ranges["backbone"].ends == ("starter", "mobilenet_v2(alpha=0.35)")


@pytest.mark.parametrize("text", ["fine_tune", "photos/of days", "32", "fine_tune(", "'log'"])
def test_a_text_without_ranges_has_none(text):
    assert not Template("recipe", text).ranges


def test_written_numbers_have_three_digits_and_stay_in_the_range():
    (each,) = Template("x", "log(0.0012345, 0.0045678)").ranges.values()
    assert each.written(0.00234567) == "0.00235"
    assert float(each.written(0.0012345)) == 0.0012345
    assert float(each.written(0.0045678)) == 0.0045678


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("phase(epochs=choice(3))", r"recipe.epochs is choice\(3\): expected at least two diff"),
        ("phase(epochs=choice(3, 3))", r"expected at least two different values"),
        ("phase(epochs=int(3, 3))", r"no range of one value"),
        ("phase(epochs=int(4, 3))", r"expected the smaller end first"),
        ("phase(epochs=int(1, 3.5))", r"expected whole numbers as ends"),
        (
            "phase(clip=uniform(1))",
            r"recipe.clip is uniform\(1\): expected two numbers, the ends; ",
        ),
        ("phase(clip=uniform(0, None))", r"expected two numbers, the ends"),
        ("phase(clip=log(0, 1))", r"recipe.clip is log\(0, 1\): expected ends above 0"),
        ("phase(clip=log(-1, 1))", r"expected ends above 0"),
        ("phase(clip=log(low=1, high=2))", r"expected values without names"),
        ("choice(probe, phase(clip=log(1, 2)))", r"a range in a choice is not supported"),
    ],
)
def test_a_range_that_cannot_be_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Template("recipe", text)


@pytest.fixture
def sites(tmp_path):
    """A table of pictures with groups."""
    parts = {"near": {"train": 22, "val": 12}, "far": {"train": 7, "val": 9}}
    return written(tmp_path / "sites", parts, group="site")


def config_of(tmp_path, pictures, **options):
    values = {
        "source": Folder(pictures),
        "split": Split(validation=20, test=20),
        "backbone": Tiny(),
        "batch_size": 16,
        "root": tmp_path,
        "name": "pictures",
    }
    return Config(**{**values, **options})


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--recipe=fine_tune", "There is no range to search: write one in place of a value"),
        (
            "--recipe=fine_tune(rate=log(1e-5, 1e-2))",
            "fine_tune has no field 'rate'",
        ),
        (
            "--recipe=fine_tune(phases=[phase(epochs=log(1, 5))])",
            "phase.epochs is 1.0, expected int",
        ),
        (
            "--recipe=fine_tune(phases=[phase(epochs=choice(1, 2.5))])",
            "phase.epochs is 2.5, expected int",
        ),
        ("--task=classification(dropout=uniform(0.5, 2))", "dropout is 2.0, expected"),
        ("--batch_size=int(0, 8)", "batch_size is 0, expected at least 1"),
        ("--batch_size=uniform(1, 8)", "'1.0' is not a whole number"),
        ("--recipe=probe(folds=choice(2))", "expected at least two different values"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_any_training(
    flag, message, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(store.Store, "make", None)
    templates: dict[str, Template] = {}
    values = absl_flags.FlagValues()
    parse = flags.parser(
        Config, Settings, steps=search.PIPELINE, before=search.before(templates), values=values
    )
    with pytest.raises(SystemExit) as end:
        flags.plainly(search.main)(templates, *parse(["search", flag, f"--root={tmp_path}"]))
    assert end.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_the_flags_are_those_of_the_training_with_ranges_and_the_number_of_trials():
    templates: dict[str, Template] = {}
    parse = flags.parser(
        Config,
        Settings,
        steps=search.PIPELINE,
        before=search.before(templates),
        values=absl_flags.FlagValues(),
    )
    config, settings = parse(["search", f"--recipe={RECIPE}", "--trials=3", "--seed=2"])
    assert settings == Settings(trials=3) and config.seed == 2
    assert config.recipe.phases[0].learning_rate == 1e-4
    assert list(templates["recipe"].ranges) == ["recipe.phases[0].learning_rate"]
    again = Template("recipe", templates["recipe"].filled({**templates["recipe"].first}))
    assert not again.ranges


def test_the_example_of_the_help_has_ranges():
    name, text = shlex.split(search.EXAMPLE)[0].removeprefix("--").split("=", 1)
    template = Template(name, text)
    assert template.ranges and spec.parse(template.filled(template.first), Recipe)


def test_without_optuna_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r"package optuna: pip install 'tlkeras\[search\]'\.$"):
        search._optuna()


def test_the_bar_is_that_of_optunas_successive_halving():
    random = np.random.default_rng(0)
    pruner = optuna.pruners.SuccessiveHalvingPruner(1, reduction_factor=trial.FACTOR)
    study = optuna.create_study(pruner=pruner)
    earlier: list[dict[str, float]] = []
    rung = 0
    for _ in range(40):
        asked, limits, scores = study.ask(), trial.bars(earlier), {}
        for rung in trial.rungs(27):
            scores[str(rung)] = float(random.normal())
            asked.report(scores[str(rung)], rung)
            is_behind = scores[str(rung)] > limits.get(str(rung), np.inf)
            assert asked.should_prune() == is_behind
            if is_behind:
                break
        study.tell(asked, scores[str(rung)])
        earlier.append(scores)
    assert {len(scores) for scores in earlier} == {1, 2, 3, 4}
    assert trial.rungs(30) == [1, 3, 9, 27] and trial.rungs(2) == [1]


def test_the_line_on_the_page_is_the_whole_training(pictures, tmp_path):
    config = config_of(tmp_path, pictures, seed=3, precision="mixed_bfloat16")
    flag = "fine_tune(phases=[phase(epochs=2, clip=0.5)])"
    row = search.Trial({"recipe": "0.5"}, {"recipe": flag}, "val_accuracy", [-0.9], {}, 2, "")
    shown = search.report([row], search.training_of(row, config))
    (line,) = re.findall(r"<pre>(.*?)</pre>", shown, re.DOTALL)
    program, *words = shlex.split(html.unescape(line))
    (found,) = flags.parser(Config, values=absl_flags.FlagValues())([program, *words])
    assert found == config.replace(recipe=spec.parse(flag, Recipe), root=Config().root)


def searched(config, count=3):
    templates = {"recipe": Template("recipe", RECIPE)}
    assert search.main(templates, config, Settings(trials=count)) == 0
    (file,) = {*config.root.glob("search/*/search.json")}
    return json.loads(file.read_text())


@pytest.mark.slow
def test_a_search_is_told_repeated_from_the_store_and_reads_no_test_split(
    pictures, tmp_path, capsys, monkeypatch
):
    config = config_of(tmp_path, pictures)
    store.run(search.PIPELINE[:1], config, store.Store(tmp_path))
    (records,) = tmp_path.glob("examples/*/test*.tfrecord")
    records.unlink()
    monkeypatch.setattr(store, "_damaged", lambda step, out: [])
    found = searched(config)
    rows = found["trials"]
    assert len(rows) == 3 and all(row["measure"] == "val_accuracy" for row in rows)
    whole = [row for row in rows if row["score"]]
    assert all(row["epochs"] == 3 for row in whole) and len(whole) < 3
    assert all(row["epochs"] in (1, 3) for row in rows)
    best = min(whole, key=lambda row: row["score"])
    assert found["best"] == best["flags"] and found["value"] == -best["score"][0]
    told = capsys.readouterr().out
    assert f"--recipe={shlex.quote(best['flags']['recipe'])}" in told
    (page,) = tmp_path.glob("search/*/search.html")
    text = page.read_text()
    assert "<svg" in text and all(f">{number}<" in text for number in range(1, 4))
    before = {path.name for path in tmp_path.glob("trial/*/trial.json")}
    assert searched(config) == found
    assert capsys.readouterr().out.count("reused") == 5
    assert {path.name for path in tmp_path.glob("trial/*/trial.json")} == before


def test_a_trial_whose_loss_is_not_finite_is_a_bad_one(pictures, tmp_path):
    config = config_of(tmp_path, pictures)
    text = "fine_tune(phases=[phase(epochs=1, optimizer='sgd', learning_rate=choice(1e-3, 1e38))])"
    templates = {"recipe": Template("recipe", text)}
    assert search.main(templates, config, Settings(trials=2)) == 0
    (file,) = tmp_path.glob("search/*/search.json")
    rows = json.loads(file.read_text())["trials"]
    assert {row["score"] is None for row in rows if "1e+38" in row["flags"]["recipe"]} <= {True}
    assert any(row["score"] for row in rows)


def test_a_trial_that_diverges_later_is_no_bar_for_others(pictures, tmp_path, monkeypatch):
    def diverge(recipe, model, data, folder, callbacks, shared):
        (watch,) = callbacks
        watch.on_epoch_end(0, {"loss": 1.0, "val_loss": 0.1, "val_accuracy": 0.9})
        raise loop.Diverged("The loss is nan.")

    config = config_of(tmp_path, pictures)
    store.run(search.PIPELINE[:1], config, store.Store(tmp_path))
    (examples,) = tmp_path.glob("examples/*/")
    monkeypatch.setattr(FineTune, "fit", diverge)
    out = tmp_path / "out"
    (out / "_scratch").mkdir(parents=True)
    trial.trial.run(
        out,
        examples=examples,
        backbone=Tiny(),
        task=Classification(),
        recipe=FineTune(),
        batch_size=16,
        seed=0,
        precision="float32",
        bars="{}",
        feature_cache_gb=1.0,
        features=tmp_path / "features",
    )
    found = json.loads((out / trial.FILE).read_text())
    assert (found["score"], found["scores"]) == (None, {})


def test_an_epoch_has_the_same_number_after_a_kill_and_solved_heads_do_not_count(tmp_path):
    for number, epochs in ((0, 1), (1, 0)):
        (tmp_path / f"phase{number}").mkdir()
        (tmp_path / f"phase{number}" / "state.json").write_text(json.dumps({"epoch": epochs}))
    logs = {"loss": 1.0, "val_loss": 0.5}
    for _ in range(2):  # The second time as after a kill before the state is written.
        trial._watch(tmp_path, None, {"1": 0.5}).on_epoch_end(0, logs)
        assert json.loads((tmp_path / "scores.json").read_text()) == {"1": 0.5}
    (tmp_path / "phase1" / "state.json").write_text(json.dumps({"epoch": 2}))
    with pytest.raises(trial._Behind):
        trial._watch(tmp_path, None, {"3": 0.4}).on_epoch_end(2, logs)
    assert json.loads((tmp_path / "scores.json").read_text()) == {"1": 0.5, "3": 0.5}


def test_trials_share_a_network_and_equal_those_of_new_ones(pictures, tmp_path, monkeypatch):
    text = (
        "fine_tune(phases=[solve, phase(epochs=int(1, 2), schedule='cosine', unfreeze='block3', "
        "learning_rate=log(1e-4, 1e-2))])"
    )
    built, build = [], Tiny.build
    monkeypatch.setattr(Tiny, "build", lambda self: [built.append(self), build(self)][1])
    found = []
    for root in ("shared", "new"):
        trial._network.cache_clear()
        if root == "new":
            monkeypatch.setattr(trial, "_network", trial._network.__wrapped__)
        config = config_of(tmp_path / root, pictures)
        assert search.main({"recipe": Template("recipe", text)}, config, Settings(trials=3)) == 0
        (file,) = tmp_path.glob(f"{root}/search/*/search.json")
        found.append((json.loads(file.read_text()), len(built)))
    (shared, once), (new, both) = found
    assert shared == new
    assert (once, both) == (1, 4)


def test_a_trial_is_scored_by_the_metric_that_chooses_the_epoch(sites, tmp_path):
    ingest.write_examples(sites, Split(0, 0), tmp_path / "examples")
    phases = (Phase(epochs=4, learning_rate=0.1),)
    for recipe, metric in (
        (FineTune(phases, balance="group"), "worst_accuracy"),
        (FineTune(phases, group_dro=0.1), "worst_accuracy"),
        (Probe((0.1,), balance="group"), "worst_accuracy"),
        (FineTune(phases), "accuracy"),
    ):
        data = Data(tmp_path / "examples", Tiny(), Classification(), 16, 0)
        out = tmp_path / str(recipe)
        out.mkdir()
        options = {"batch_size": 16, "seed": 0, "precision": "float32", "feature_cache_gb": 1.0}
        trial.trial.run(
            out,
            examples=data.folder,
            backbone=data.backbone,
            task=data.task,
            recipe=recipe,
            bars="{}",
            features=out / "features",
            **options,
        )
        model = TransferModel(data.backbone, data.task, data.classes, 0)
        logs = recipe.fit(model, data, out / "fit")
        found = json.loads((out / trial.FILE).read_text())
        assert found["measure"] == f"val_{metric}"
        assert found["score"] == min([-log[f"val_{metric}"], log["val_loss"]] for log in logs)


def test_trials_of_different_metrics_are_refused_before_any_training(sites, tmp_path, monkeypatch):
    monkeypatch.setattr(search, "_trials", None)
    config = config_of(tmp_path, tmp_path, source=sites, split=Split(0, 0))
    template = Template("recipe", "fine_tune(group_dro=uniform(0.0, 0.1))")
    with pytest.raises(ValueError, match=r"by one metric, and .* by accuracy; .* by worst_accurac"):
        search.main({"recipe": template}, config, Settings(trials=2))


@pytest.mark.parametrize(
    ("batch_size", "recipe", "is_refused"),
    [
        ("choice(16, 64)", "align", True),
        ("16", "align(phases=[phase(learning_rate=log(1e-4, 1e-2))])", False),
    ],
)
def test_pairs_are_searched_with_one_batch_size(tmp_path, batch_size, recipe, is_refused):
    source = Embedded(data="shapes", target="caption")
    towers = Towers(Tiny(), Wordy(input="text"))
    config = config_of(tmp_path, tmp_path, source=source, backbone=towers, task=Retrieval())
    texts = {"batch_size": batch_size, "recipe": recipe}
    templates = {name: Template(name, text) for name, text in texts.items()}
    ends = search.possible(templates, config)
    if not is_refused:
        search._require_one_metric(ends, ())
        return
    with pytest.raises(ValueError, match=r"batch_recall in batches of 16; .* in batches of 64"):
        search._require_one_metric(ends, ())


@pytest.mark.parametrize(
    ("task", "is_refused"),
    [(Segmentation(), True), (Detection(), False), (Classification(), False)],
)
def test_masks_are_searched_at_one_size(task, is_refused, tmp_path):
    config = config_of(tmp_path, tmp_path, source=Embedded(data="shapes"), task=task)
    template = Template("backbone", "choice(tiny(size=32), tiny(size=64))")
    ends = search.possible({"backbone": template}, config)
    if not is_refused:
        search._require_one_metric(ends, ("a", "b"))
        return
    with pytest.raises(ValueError, match=r"mean_iou of masks of 32 x 32 pixels; .* of 64 x 64 pix"):
        search._require_one_metric(ends, ("a", "b"))


def test_masks_of_a_network_that_reads_no_picture_are_refused():
    config = Config(backbone=Wordy("text"), task=Segmentation())
    message = r"^segmentation.* predicts masks of pictures, and wordy.* reads none; give another"
    with pytest.raises(ValueError, match=message):
        search._require_one_metric([config], ("a", "b"))


@pytest.mark.parametrize(
    ("field", "text", "task", "message"),
    [
        ("backbone", "choice({one}length=16), {one}length=20))", "language_modeling", LENGTHS),
        ("backbone", "choice({one}length=16), {other}length=16))", "language_modeling", PIECES),
        ("backbone", "choice({one}length=16), {same}length=16))", "language_modeling", ""),
        ("backbone", "wordy(length=choice(12, 14))", "tagging", LENGTHS),
        ("backbone", "choice({one}length=16), {other}length=20))", "classification", ""),
        (
            "recipe",
            "choice(probe, adapt)",
            "classification",
            "by accuracy; .* as moved to the targ",
        ),
        ("recipe", "adapt(method=choice('mcc', 'coral'))", "classification", ""),
    ],
)
def test_trials_on_other_pieces_or_another_domain_are_refused(field, text, task, message, tmp_path):
    for name in ("one", "same"):
        checkpoints.describe("gpt2", tmp_path / name)
    checkpoints.describe("llama", tmp_path / "other")
    starts = {
        name: f"{family}(weights=None, configuration={str(tmp_path / name)!r}, "
        for name, family in (("one", "gpt2"), ("same", "gpt2"), ("other", "llama"))
    }
    config = config_of(
        tmp_path, tmp_path, source=Embedded(data="notes"), task=spec.parse(task, Task)
    )
    ends = search.possible({field: Template(field, text.format(**starts))}, config)
    expected = pytest.raises(ValueError, match=message) if message else contextlib.nullcontext()
    with expected:
        search._require_one_metric(ends, ("a", "b"))


def test_a_search_without_validation_split_is_refused(pictures, tmp_path):
    config = config_of(tmp_path, pictures, split=Split(validation=0, test=20))
    with pytest.raises(ValueError, match="validation split, and there is none"):
        searched(config)


KILLED = """
import os, signal, sys
from pathlib import Path
from conftest import Tiny
from pipeline import search
from pipeline.config import Config
from pipeline.ranges import Template
from tlkeras import spec
from tlkeras.data.splits import Split
from tlkeras.recipe import Recipe
from tlkeras.sources.folder import Folder
from tlkeras.training import loop

root, pictures, kill = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
write, count = loop.write, [0]

def counted(*arguments):
    count[0] += 1
    if count[0] == kill:
        os.kill(os.getpid(), signal.SIGKILL)
    write(*arguments)

loop.write = counted
config = Config(source=Folder(pictures), split=Split(validation=20, test=20), backbone=Tiny(),
                batch_size=16, root=root, name="pictures")
template = Template("recipe", sys.argv[4])
search.main({"recipe": template}, config, search.Settings(trials=3))
"""


@pytest.mark.slow
def test_a_killed_search_goes_on_and_ends_like_an_unbroken_one(pictures, tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    environment = {**os.environ, "PYTHONPATH": f"{TESTS.parent}:{TESTS}"}

    def run(root, kill):
        command = [sys.executable, str(script), str(tmp_path / root), str(pictures), str(kill)]
        return subprocess.run([*command, RECIPE], env=environment, capture_output=True, text=True)

    # The seventh checkpoint is of an epoch in the middle of the second or third trial.
    assert run("broken", 7).returncode == -signal.SIGKILL
    assert not list(tmp_path.glob("broken/search/*/search.json"))
    finished = {*(path.parent.name for path in tmp_path.glob("broken/trial/*/trial.json"))}
    assert finished
    again = run("broken", 0)
    assert again.returncode == 0 and "reused" in again.stdout, again.stderr
    whole = run("whole", 0)
    assert whole.returncode == 0, whole.stderr
    (found,) = tmp_path.glob("broken/search/*/search.json")
    (expected,) = tmp_path.glob("whole/search/*/search.json")
    assert json.loads(found.read_text()) == json.loads(expected.read_text())
    assert found.parent.name == expected.parent.name
    assert finished <= {path.parent.name for path in tmp_path.glob("whole/trial/*/trial.json")}


def test_settings_are_refused():
    with pytest.raises(ValueError, match=r"search.trials is 0, expected at least 1"):
        Settings(trials=0)
