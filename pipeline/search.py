"""Search: the best values of ranges in the recipe and other flags, ``tlkeras search``.

It is not a step of the pipeline.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

from pipeline import flags, product, store
from pipeline import trial as trials
from pipeline.config import Config
from pipeline.option import Option, written
from pipeline.ranges import Range, Template
from pipeline.step import Step
from pipeline.steps import example_gen
from tlkeras import files, terminal
from tlkeras.data import records
from tlkeras.frameworks import tf
from tlkeras.measures.measures import Curve
from tlkeras.report import charts, page
from tlkeras.spec import Spec

SEARCHED = ("recipe", "backbone", "task", "batch_size")
"""The flags that may have ranges."""

FILE, REPORT = "search.json", "search.html"


class Settings(Spec, name="search"):
    """The settings of a search."""

    trials: Annotated[int, "How many trials."] = 20

    def validate(self):
        self.require(self.trials >= 1, "trials", "at least 1")


@dataclasses.dataclass(frozen=True)
class Trial:
    """The values of a trial by the places of the ranges, its flags, and what it gave.

    `score` is that of the best epoch, smaller is better; None if the trial was stopped. `scores`
    are those after 1, 3, 9, … epochs.
    """

    values: dict[str, str]
    flags: dict[str, str]
    measure: str
    score: list[float] | None
    scores: dict[str, float]
    epochs: int
    product: str

    @property
    def value(self) -> float | None:
        """The measure as users know it, of the best epoch or the last one compared."""
        last = self.score[0] if self.score else next(reversed(self.scores.values()), None)
        return last if last is None or self.measure == "val_loss" else -last


@Step
def search(out: Path, *, found: str, training: str) -> None:
    """Searches the ranges in --recipe, --backbone, --task and --batch_size.

    A range stands where a value stands: log(1e-5, 1e-2) and uniform(0, 0.5) are numbers between two
    ends, int(1, 10) whole ones, choice(0, 0.2, 0.5) one of these values. Optuna's tree-structured
    Parzen estimator chooses the values of a trial from the trials before. Trials that are behind
    after 1, 3, 9, … epochs stop. All use one cache of features. They are compared on the validation
    split; the test split is not read. A killed search goes on where it stood.
    """
    rows = [Trial(**row) for row in json.loads(found)]
    best = best_of(rows)
    content = {"best": best.flags, "measure": best.measure, "value": best.value}
    files.write_json(out / FILE, {**content, "trials": [dataclasses.asdict(row) for row in rows]})
    (out / REPORT).write_text(report(rows, training), encoding="utf-8")


PIPELINE = (example_gen.examples, trials.trial, search)


def main(templates: Mapping[str, Template], config: Config, settings: Settings) -> int:
    """Makes the trials, prints their table and the best one as flags.

    Raises:
        ValueError: There is no range, a value of one cannot be, there is no validation split, or
            the trials would have different metrics.
    """
    templates = {name: template for name, template in templates.items() if template.ranges}
    if not templates:
        raise ValueError(
            "There is no range to search: write one in place of a value, as in "
            "--recipe='fine_tune(phases=[phase(learning_rate=log(1e-5, 1e-2))])'; it may stand in "
            f"{', '.join(f'--{name}' for name in SEARCHED)}."
        )
    ends = possible(templates, config)
    optuna = _optuna()
    place = store.Store(config.root)
    products = store.run(PIPELINE[:1], config, place)
    info = records.info(products["examples"])
    if not info.counts.get("validation"):
        raise ValueError(
            "A search compares its trials on the validation split, and there is none; set --split."
        )
    _require_one_metric(ends, info.classes)
    rows = [*_trials(optuna, templates, config, settings, place, products)]
    best = best_of(rows)
    training = training_of(best, config)
    found = json.dumps([dataclasses.asdict(row) for row in rows])
    made = place.make(search, {"found": found, "training": training}, {})
    print("\n" + terminal.table(*table(rows)))
    print(f"\nBest {best.measure}: {page.number(best.value)}, by\n  {training}")
    print(f"\nReport: {made / REPORT}")
    return 0


def possible(templates: Mapping[str, Template], config: Config) -> list[Config]:
    """Returns the options of every end and choice of the ranges, each with the first of the others.

    Raises:
        ValueError: A field does not take one.
    """
    return [
        _config(config, {name: template.filled({**template.first, place: end})})
        for name, template in templates.items()
        for place, each in template.ranges.items()
        for end in each.ends
    ]


def _require_one_metric(ends: Sequence[Config], classes: Sequence[str]) -> None:
    """Raises ValueError if trials would be scored by different metrics."""
    scored: dict[tuple[str, Any], str] = {}
    for each in ends:
        recipe: Any = each.recipe
        task: Any = each.task
        backbone: Any = each.backbone
        meanings = {output.meaning for output in task.outputs()}
        metric, pieces = recipe.metric(task, classes) or "loss", None
        if task.compares:
            metric += f" in batches of {each.batch_size}"
        if "mask" in meanings:
            # Smaller masks have less to miss.
            metric += f" of masks of {_size(each)}"
        if "tokens" in meanings or task.rates_pieces:
            # Of a text that is cut shorter, less is measured.
            metric += f" of texts of {_length(each)} pieces"
        if recipe.is_for_target:
            metric += " of the source as moved to the target"
        said = f"{recipe} for {task} by {metric}"
        if task.rates_pieces:
            # In a larger vocabulary pieces are fewer and less probable.
            pieces, said = backbone.tokenizer, f"{said}, read by {backbone}"
        scored.setdefault((metric, pieces), said)
    if len(scored) > 1:
        raise ValueError(
            "A search compares its trials by one metric, and these choose their epochs by several: "
            f"{'; '.join(scored.values())}. Search in each alone."
        )


def _size(config: Config) -> str:
    """Returns the height and the width of the picture that the network reads.

    Raises:
        ValueError: It reads none.
    """
    pictures = [shape for shape in _shapes(config) if len(shape) == 3]
    if not pictures:
        raise ValueError(
            f"{config.task} predicts masks of pictures, and {config.backbone} reads none; give "
            "another --task, or a --backbone that reads pictures."
        )
    height, width = pictures[0][:2]
    return f"{height} x {width} pixels"


def _length(config: Config) -> int:
    """Returns how many pieces of a text the network reads, 0 if it reads none."""
    return next((shape[0] for shape in _shapes(config) if len(shape) == 1), 0)


def _shapes(config: Config) -> list[Any]:
    """Returns the shapes of what the network reads of one example."""
    backbone: Any = config.backbone
    sample = {key: kind.given(kind.sample()) for key, kind in backbone.raw().items()}
    return [each.shape for each in tf.nest.flatten(backbone.preprocess(sample))]


def _config(config: Config, texts: Mapping[str, str]) -> Config:
    options = {option.name: option for option in Option.of(Config)}
    return config.replace(**{name: options[name].read(text) for name, text in texts.items()})


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ValueError(
            f"A search needs the package {error.name}: pip install 'tlkeras[search]'."
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _trials(
    optuna: Any,
    templates: Mapping[str, Template],
    config: Config,
    settings: Settings,
    place: store.Store,
    products: Mapping[str, Path],
) -> list[Trial]:
    """Returns the trials in order; what is there is reused, and chooses the same values again."""
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=config.seed))
    rows: list[Trial] = []
    for number in range(settings.trials):
        asked = study.ask()
        values = {
            path: each.written(_suggested(asked, path, each))
            for template in templates.values()
            for path, each in template.ranges.items()
        }
        texts = {name: template.filled(values) for name, template in templates.items()}
        chosen = _config(config, texts)
        bars = trials.bars(row.scores for row in rows)
        given = {name: getattr(chosen, name) for name in trials.trial.read if hasattr(chosen, name)}
        say = functools.partial(print, f"trial {number + 1} of {settings.trials}  ")
        made = place.make(trials.trial, {**given, "bars": json.dumps(bars)}, products, say)
        found = files.read_json(made / trials.FILE)
        rows.append(Trial(values, texts, product=made.name, **found))
        _tell(optuna, study, asked, rows[-1])
        say(f"{rows[-1].measure} {page.number(rows[-1].value)}  {as_flags(rows[-1])}")
    return rows


def _suggested(asked: Any, path: str, each: Range) -> Any:
    if each.choices:
        return asked.suggest_categorical(path, each.choices)
    if isinstance(each.low, int):
        return asked.suggest_int(path, each.low, each.high)
    return asked.suggest_float(path, each.low, each.high, log=each.is_log)


def _tell(optuna: Any, study: Any, asked: Any, row: Trial) -> None:
    for epochs, score in row.scores.items():
        asked.report(score, int(epochs))
    if row.score:
        study.tell(asked, row.score[0])
    else:
        study.tell(asked, state=optuna.trial.TrialState.PRUNED)


def best_of(rows: Sequence[Trial]) -> Trial:
    """Returns the first of the trials with the best score.

    Raises:
        ValueError: No trial was fitted to its end.
    """
    whole = [row for row in rows if row.score]
    if not whole:
        raise ValueError("The loss of every trial is not finite; search smaller learning rates.")
    return min(whole, key=lambda row: row.score or [])


def as_flags(row: Trial) -> str:
    """Returns the flags of a trial for a shell."""
    return " ".join(f"--{name}={shlex.quote(text)}" for name, text in row.flags.items())


def training_of(row: Trial, config: Config) -> str:
    """Returns the line for a shell that trains as a trial did, on the data of the search."""
    chosen = _config(config, row.flags)
    # Where the store lies changes no training, so the page is the same everywhere.
    options = [option for option in Option.of(Config) if option.name != "root"]
    texts = {
        option.name: written(getattr(chosen, option.name))
        for option in options
        if option.name in SEARCHED or getattr(chosen, option.name) != option.default
    }
    return product.command(texts)


def table(rows: Sequence[Trial]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """Returns a row for each trial, and the names of the columns."""
    cells = [
        (
            str(number),
            *row.values.values(),
            page.number(row.value),
            str(row.epochs),
            "" if row.score else "yes",
        )
        for number, row in enumerate(rows, start=1)
    ]
    return cells, ("trial", *rows[0].values, rows[0].measure, "epochs", "stopped")


def report(rows: Sequence[Trial], training: str) -> str:
    """Returns a page with the line that trains as the best, a picture and a table of all trials."""
    best = best_of(rows)
    cells, columns = table(rows)
    values = [(number, row.value) for number, row in enumerate(rows, start=1)]
    each = [(float(number), value) for number, value in values if value is not None]
    sign = -1 if best.measure == "val_loss" else 1
    leading: list[tuple[float, float]] = []
    for number, row in enumerate(rows, start=1):
        whole = [sign * (other.value or 0.0) for other in rows[:number] if other.score]
        if whole and row.value is not None:
            leading.append((float(number), sign * max(whole)))
    series = {"best so far": leading, "each trial": each}
    picture = charts.lines(Curve("Trials", "trial", best.measure.replace("_", " "), series))
    told = f"{best.measure} is {page.number(best.value)}, on the validation split."
    return page.page(
        "Search",
        {
            "Best": page.joined([page.element("p", told), page.element("pre", training)]),
            "Trials": page.joined(
                [
                    page.side_by_side(picture),
                    page.table("In their order", columns, cells),
                ]
            ),
        },
    )


EXAMPLE = '--recipe="fine_tune(phases=[solve, phase(learning_rate=log(1e-5, 1e-2), unfreeze=0.3)])"'


def before(templates: dict[str, Template]) -> dict[str, Callable[[str], str]]:
    """Returns functions that note the template of a flag and return its text with first values."""

    def first(name: str, text: str) -> str:
        template = templates[name] = Template(name, text)
        return template.filled(template.first) if template.ranges else text

    return {name: functools.partial(first, name) for name in SEARCHED}


def command(argv: Sequence[str]) -> NoReturn:
    """Runs ``tlkeras search``."""
    templates: dict[str, Template] = {}
    program = functools.partial(main, templates)
    flags.run(
        argv,
        program,
        Config,
        Settings,
        steps=PIPELINE,
        example=EXAMPLE,
        before=before(templates),
    )
