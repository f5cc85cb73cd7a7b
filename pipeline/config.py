"""Every option of the pipeline, once."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Self

from tlkeras import terminal
from tlkeras.backbone import Backbone
from tlkeras.backbones.starter import Starter
from tlkeras.data.parts import Runner
from tlkeras.data.splits import Split
from tlkeras.exporter import Details, Exporter, require_distinct
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.exporters.tflite import TFLite
from tlkeras.model.transfer_model import Precision
from tlkeras.recipe import Recipe
from tlkeras.recipes.fine_tune import FineTune
from tlkeras.source import Source
from tlkeras.sources.embedded import Embedded
from tlkeras.spec import Spec
from tlkeras.task import Task
from tlkeras.tasks.classification import Classification


class Config(Spec, name="config"):
    """From labelled pictures to a measured and pushed model."""

    source: Annotated[
        Source,
        "Where the examples come from; of a folder with a folder per class the path is enough.",
    ] = Embedded()
    split: Annotated[Split, "How the examples are cut into train, validation and test."] = Split()
    backbone: Annotated[Backbone, "The pretrained network."] = Starter()
    task: Annotated[Task, "What is predicted."] = Classification()
    recipe: Annotated[Recipe, "How the weights are obtained."] = FineTune()
    exporters: Annotated[tuple[Exporter, ...], "What to ship, joined by |."] = (
        SavedModel(),
        TFLite(),
    )
    batch_size: Annotated[int, "Examples per step, over all replicas."] = 32
    seed: Annotated[int, "Seed of everything random."] = 0
    precision: Annotated[
        Precision, "What training computes in; the model that is kept is float32."
    ] = "float32"
    feature_cache_gb: Annotated[
        float, "Gigabytes that features of frozen layers may take on the disk."
    ] = 20.0
    lower_bound: Annotated[
        float, "The least accuracy of a blessed model, a share: 0.9 is 90 %."
    ] = 0.0
    max_drop: Annotated[
        float, "How far its accuracy may be below the baseline's, a share: 0.01 is one point."
    ] = 0.0
    baseline: Annotated[
        str, "What to compare with: 'last', 'none', or the folder of a pushed version."
    ] = "last"
    max_accuracy_drop: Annotated[
        float | None,
        "Points of the primary measure that an export may lose to Keras; None: 1, and 2 for int8.",
    ] = None
    # The member's own name is a class variable; a field of that name hides it, as it may.
    name: Annotated[  # pyright: ignore[reportIncompatibleVariableOverride]
        str, "The name under which the model is pushed; that of the data if empty."
    ] = ""
    details: Annotated[Details, "What only you can tell: authors, licence, intended use…"] = (
        Details()
    )
    saved_models: Annotated[Path, "The folder of the pushed models."] = Path("saved_models")
    root: Annotated[Path, "The store: what was made before is found again there."] = Path("runs")
    to: Annotated[
        str, "The product to stop after, such as examples, model, evaluation or exports."
    ] = "pushed"
    beam_runner: Annotated[
        str, "Who does the data steps: auto (by the size of the data) or a runner of Apache Beam."
    ] = Runner.name
    beam_options: Annotated[str, "Options of that runner, separated by spaces."] = Runner.options

    def validate(self):
        if not self.name:
            object.__setattr__(self, "name", _titled(self.source))
        self.require(self.batch_size >= 1, "batch_size", "at least 1")
        self.require(self.seed >= 0, "seed", "at least 0")
        self.require(
            0 <= self.feature_cache_gb < math.inf, "feature_cache_gb", "a number of at least 0"
        )
        self.require(len(self.exporters) > 0, "exporters", "at least one exporter")
        require_distinct(self.exporters)
        self.require(self.max_drop >= 0, "max_drop", "at least 0")
        allowed = self.max_accuracy_drop
        self.require(allowed is None or allowed >= 0, "max_accuracy_drop", "at least 0, or None")
        self.require(
            bool(self.name) and self.name == Path(self.name).name and self.name[0] != ".",
            "name",
            "a plain folder name",
        )

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with other field values; a name that was the data's is that of the new."""
        if self.name == _titled(self.source):
            changes = {"name": "", **changes}
        return super().replace(**changes)


def _titled(source: Source) -> str:
    return terminal.printable(source.title()).lstrip(".") or source.member
