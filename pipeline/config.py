"""Every option of the pipeline, once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from tlkeras import spec, terminal
from tlkeras.backbone import Backbone
from tlkeras.backbones.starter import Starter
from tlkeras.backbones.starter_text import StarterText
from tlkeras.backbones.towers import Towers
from tlkeras.data import ingest
from tlkeras.data.id_list import IdList
from tlkeras.data.parts import Runner
from tlkeras.data.splits import Split
from tlkeras.exporter import Details, Exporter, require_distinct
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.exporters.tflite import TFLite
from tlkeras.kinds.group import Group
from tlkeras.measures import conformal
from tlkeras.measures.conformal import Conformal
from tlkeras.model.transfer_model import Precision
from tlkeras.recipe import Recipe
from tlkeras.report.evidence import DataDetails
from tlkeras.source import Source
from tlkeras.sources.embedded import Embedded
from tlkeras.spec import Spec
from tlkeras.task import Task
from tlkeras.tasks.classification import Classification


class Config(Spec, name="config"):
    """From labelled pictures or texts to a measured and pushed model."""

    source: Annotated[
        Source,
        "The data: the bare path of a folder or a table, or a source with its fields.",
    ] = Embedded()
    split: Annotated[Split, "How the examples are cut into train, validation and test."] = Split()
    exclude_ids: Annotated[
        IdList | None,
        "A text file of ids, one a line, of examples to leave out of every product.",
    ] = None
    max_bad_fraction: Annotated[
        float, "The largest share of examples that may be left out as unusable: 0.01 is 1 %."
    ] = ingest.MAX_BAD_FRACTION
    backbone: Annotated[
        Backbone | None, "The pretrained network; None: the starter that reads such data."
    ] = None
    task: Annotated[
        Task | None, "What is predicted; None: the class, or what else the labels of the data name."
    ] = None
    recipe: Annotated[
        Recipe | None, "How the weights are obtained; None: the schedule that suits the task."
    ] = None
    exporters: Annotated[tuple[Exporter, ...], "The exports of the model, joined by |."] = (
        SavedModel(),
        TFLite(),
    )
    batch_size: Annotated[int, "Examples per step, over all replicas."] = 32
    seed: Annotated[int, "Seed of everything random."] = 0
    precision: Annotated[
        Precision, "The number type of the training; the saved model has float32."
    ] = "float32"
    feature_cache_gb: Annotated[
        float, "The most gigabytes of disk for the features of frozen layers."
    ] = 20.0
    calibrate: Annotated[
        bool, "Whether one temperature, fitted on the validation split, divides the logits."
    ] = False
    conformal: Annotated[
        Conformal | None,
        "Sets of classes that hold the label as often as asked: lac(coverage=0.9), or aps.",
    ] = None
    lower_bound: Annotated[
        float | None,
        "The least value of the primary measure of a blessed model, where more is better; a share: "
        "0.9 is 90 %.",
    ] = None
    upper_bound: Annotated[
        float | None,
        "The largest value of the primary measure of a blessed model, where less is better.",
    ] = None
    max_drop: Annotated[
        float,
        "The share of the primary measure that a blessed model may lose to the baseline: 0.01 is "
        "one point of accuracy.",
    ] = 0.0
    max_gap: Annotated[
        float | None,
        "The share of the primary measure that a blessed model may have less in one group than in "
        "another, of the columns that the source names as groups.",
    ] = None
    baseline: Annotated[
        str, "The model to compare with: 'last', 'none', or the folder of a pushed version."
    ] = "last"
    max_export_drop: Annotated[
        float | None,
        "The share of the primary measure that an export may lose to Keras; None: 0.01, and 0.02 "
        "for int8.",
    ] = None
    # The member's own name is a class variable; a field of that name hides it, as it may.
    name: Annotated[  # pyright: ignore[reportIncompatibleVariableOverride]
        str, "The name of the pushed model; the name of the data if empty."
    ] = ""
    details: Annotated[Details, "Statements for the card: authors, licence, intended use…"] = (
        Details()
    )
    data_details: Annotated[
        DataDetails, "Statements for the datasheet of the data: purpose, people, consent…"
    ] = DataDetails()
    saved_models: Annotated[Path, "The folder of the pushed models."] = Path("saved_models")
    sign_key: Annotated[
        Path | None, "A PEM file with the Ed25519 key that signs what is pushed; None: nobody does."
    ] = None
    root: Annotated[Path, "The folder of the store, where a run finds earlier products."] = Path(
        "runs"
    )
    to: Annotated[
        str, "The last product to make, such as examples, model, evaluation or exports."
    ] = "pushed"
    beam_runner: Annotated[
        str, "The runner of the data steps: auto (by the size of the data) or one of Apache Beam."
    ] = Runner.name
    beam_options: Annotated[str, "Options of that runner, separated by spaces."] = Runner.options

    def validate(self):
        if not self.name:
            object.__setattr__(self, "name", _titled(self.source))
        for name, suited in _SUITED.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, suited(self))
        if self.baseline.startswith("~"):
            object.__setattr__(self, "baseline", str(spec.path(self.baseline)))
        self.require(self.batch_size >= 1, "batch_size", "at least 1")
        self.require(0 <= self.seed < 2**32, "seed", "a whole number from 0 to 4294967295")
        self.require(
            0 <= self.feature_cache_gb < math.inf, "feature_cache_gb", "a number of at least 0"
        )
        self.require(len(self.exporters) > 0, "exporters", "at least one exporter")
        require_distinct(self.exporters)
        if self.conformal and self.task:
            conformal.require_task(self.conformal, self.task)
        if self.conformal and self.recipe:
            conformal.require_recipe(self.conformal, self.recipe)
        self.require(0 <= self.max_bad_fraction <= 1, "max_bad_fraction", "a share from 0 to 1")
        self.require(0 <= self.max_drop <= 1, "max_drop", "a share from 0 to 1")
        for name in ("lower_bound", "max_export_drop", "max_gap"):
            share = getattr(self, name)
            self.require(share is None or 0 <= share <= 1, name, "a share from 0 to 1, or None")
        if self.task:
            self.task.require_bounds(self.lower_bound, self.upper_bound)
        if self.max_gap is not None and Group() not in self.source.features().values():
            raise ValueError(
                f"--max_gap={self.max_gap:g} compares groups, and {self.source} names none; name "
                "the columns that tell them, such as csv(…, group='device')."
            )
        self.require(
            bool(self.name) and self.name == Path(self.name).name and self.name[0] != ".",
            "name",
            "a plain folder name",
        )

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with other field values; what the old ones decided, the new ones do."""
        if "source" in changes and self.name == _titled(self.source):
            changes = {"name": "", **changes}
        decided = dict.fromkeys(name for field in changes for name in _DECIDED.get(field, ()))
        own = [name for name in decided if getattr(self, name) == _SUITED[name](self)]
        changes = {**dict.fromkeys(own), **changes}
        return super().replace(**changes)


def _titled(source: Source) -> str:
    return terminal.printable(source.title()).lstrip(".") or source.member


STARTERS: tuple[Backbone, ...] = (
    Starter(),
    StarterText(input="pair"),
    StarterText(input="words"),
    StarterText(),
    Towers(Starter(size=96), StarterText(length=32)),
)
"""The networks with weights in tlkeras. The default is the one that reads all features of the data,
or else the first that reads some."""


def _starter(config: Config) -> Backbone:
    kinds = config.source.features()
    reading = [
        backbone
        for backbone in STARTERS
        if all(kinds.get(key) == kind for key, kind in backbone.raw().items())
    ]
    if reading:
        return next((each for each in reading if {*each.raw()} == {*kinds}), reading[0])
    raise ValueError(
        f"--backbone is missing: no starter reads {', '.join(f'{key!r}' for key in kinds)}, the "
        f"features of {config.source}."
    )


def _task(config: Config) -> Task:
    """Returns classification if the data have a label, else the task that reads most of them.

    Texts and pictures count only where there is nothing else to be predicted. A task of a user's
    own has to be named where one of tlkeras's reads as much.

    Raises:
        ValueError: There is none, or two that read as much.
    """
    if "label" in (keys := config.source.features()):
        return Classification()
    members = spec.names(Task)
    sent = {key for backbone in STARTERS for key in backbone.raw()}
    reading = {
        name: len({*each.reads} - sent)
        for name, each in members.items()
        if each.reads and {*each.reads} <= {*keys}
    }
    best = [name for name, count in reading.items() if count == max(reading.values())]
    own = [name for name in best if members[name].__module__.startswith("tlkeras.")]
    best = own or best
    if len(best) != 1:
        raise ValueError(
            f"--task is missing: the features of {config.source} are {', '.join(keys)}, which "
            f"{' and '.join(best) or 'no task'} could learn."
        )
    return spec.parse(best[0], Task)


def _recipe(config: Config) -> Recipe:
    task: Any = config.task
    return spec.parse(task.recipe, Recipe)


_SUITED: Mapping[str, Callable[[Config], Spec]] = {
    "backbone": _starter,
    "task": _task,
    "recipe": _recipe,
}
"""The fields that others decide where they are None, each after those it looks at."""

_DECIDED = {"source": [*_SUITED], "task": ["recipe"]}
"""What else may change with a field."""
