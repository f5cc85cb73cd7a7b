"""Adapt: a head for a domain that has no labels, from the labels of another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tlkeras import files, hardware, spec
from tlkeras.frameworks import as_written
from tlkeras.recipe import Recipe
from tlkeras.training import norms, schedule
from tlkeras.training.adapted import Adapted
from tlkeras.training.head_alone import require_label
from tlkeras.training.solve import Solve, require_strengths

if TYPE_CHECKING:
    from tlkeras.data.batches import Data
    from tlkeras.model.transfer_model import TransferModel

# Examples of a batch whose statistics a norm takes; `norms.measured` says why not fewer.
_NORMED = 64


class Adapt(Recipe, name="adapt"):
    """A linear head for the split ``target``, of which no label is read; the backbone stays.

    It needs ``--source=domains(source=…, target=…)`` and a task with one label of each example. All
    but ``adabn`` begin with the features of the source moved by the difference of the means, and
    solve the head on them with the penalty of ``solve``. So the head is the target's: where means
    differ, it is worse on the source.

    - ``coral`` also gives them nearly the target's covariance, see `alignment.covariances`.
    - ``mmd`` adds the maximum mean discrepancy of the logits, see `discrepancy.kernel_mean`.
    - ``mcc`` adds the class confusion on the target, see `discrepancy.confusion`.
    - ``dann`` learns a linear map of the features that an adversary cannot tell apart, folded into
      the head, see `adversary`.
    - ``adabn`` gives the batch norms of the backbone the statistics of the source, see `norms`,
      solves the head as ``probe`` does, and then gives them those of the target. It chooses as
      ``probe`` does.

    Every strength of the penalty is tried with every one of `weights`, the weight of what the
    method adds. The source's validation split chooses, its features moved like those it trains on:
    on reviews of products that was better than reverse validation (Ganin et al. 2016, section
    5.1.3), see ``benchmarks/README.md``. Of all within one standard error of the best, the
    strongest penalty is taken, then the smallest weight. The logs measure both splits of the source
    as moved, those of ``adabn`` with the statistics of the source: no label of the target tells
    there which method suits it. With `oracle` the labels of ``target`` choose instead: that is for
    research alone, and the report says so.

    All but ``adabn`` hold the features of both domains whole, several times: about 30 bytes for
    every channel of an example of the source, and 16 for one of the target.
    """

    is_for_target = True

    method: Literal["coral", "mmd", "dann", "adabn", "mcc"] = "mcc"
    strengths: tuple[float, ...] = (3.0, 1.0, 0.3, 0.1, 0.03)
    weights: tuple[float, ...] = (0.3, 1.0)
    oracle: bool = False
    cache: Literal["float16", "float32", "none"] = "float16"

    def validate(self):
        require_strengths(self, self.strengths)
        self.require(len(self.weights) > 0, "weights", "at least one weight")
        self.require(min(self.weights) > 0, "weights", "weights above 0")
        rising = sorted(set(self.weights))
        self.require([*self.weights] == rising, "weights", "rising weights, each once")
        if self.oracle and self.method == "adabn":
            raise ValueError("adapt.oracle with method='adabn', which has nothing to choose by it.")
        if self.weights != Adapt.weights and self.method == "adabn":
            raise ValueError("adapt.weights with method='adabn', which adds nothing to the loss.")

    def remarks(self):
        is_adabn = self.method == "adabn"
        if len(self.strengths) * (1 if is_adabn else len(self.weights)) == 1:
            return ("adapt had one candidate alone, so no label chose among several.",)
        if self.oracle:
            return (
                "Labels of the target chose among the candidates (adapt.oracle), so the measures "
                "tell what the method could reach, not what it reaches without such labels.",
            )
        chose = "the validation split of the source"
        if is_adabn:
            chose += ", or parts of its training split where that is small,"
        return (f"Of the candidates of adapt {chose} chose one, without labels of the target.",)

    def fit(self, model, data, folder, callbacks=(), shared=None):
        _require(self, model, data)
        statistics = {}
        if self.method == "adabn":
            part, beside = Solve(self.strengths), ""
            statistics = _statistics(model, data, spec.path(folder))
            norms.assign(model.body, statistics["train"])
        else:
            part = Adapted(self.method, self.strengths, self.weights, self.oracle)
            beside = "target"
        logs = schedule.fit(
            self,
            model,
            data,
            folder,
            callbacks,
            shared,
            phases=(part,),
            cache=self.cache,
            beside=beside,
        )
        if statistics:
            norms.assign(model.body, statistics["target"])
        return logs


def _require(recipe: Adapt, model: TransferModel, data: Data) -> None:
    """Raises ValueError if there is no target, or nothing to adapt or to choose by."""
    if not data.count("target"):
        raise ValueError(
            "adapt needs examples of a target domain, and these data have the splits "
            f'{", ".join(data.info.counts)}; use --source="domains(source=…, target=…)".'
        )
    require_label(model.task, "adapt")
    if recipe.method == "adabn":
        if not norms.found(model.body):
            raise ValueError(
                f"adapt.method is 'adabn', but {model.backbone.name} has no batch norm; use "
                "another method."
            )
        if hardware.replicas() > 1:
            raise ValueError("adabn runs on one device; use --strategy=one_device.")
    elif recipe.oracle:
        if not sum(data.info.class_counts["target"]):
            raise ValueError(
                "adapt.oracle is True, but the target has no labels; use oracle=False."
            )
    elif not data.count("validation") and len(recipe.strengths) * len(recipe.weights) > 1:
        raise ValueError(
            "adapt chooses by the validation split, and there is none; use "
            "--split='split(validation=10)', or one strength and one weight."
        )


def _statistics(model: TransferModel, data: Data, folder: Path) -> dict[str, Any]:
    """Returns the statistics of the norms on both splits, those in the folder where there are.

    Raises:
        ValueError: Those are of other examples.
    """
    file, splits = folder / "norms.json", ("train", "target")
    examples = {split: data.digest(split) for split in splits}
    if not file.exists():
        print(f"  statistics of {len(norms.found(model.body))} batch norms")
        found = {}
        for split in splits:
            inputs = data.pairs(split).map(as_written(lambda inputs, target: inputs))
            measured = norms.measured(model.body, inputs.batch(_NORMED))
            found[split] = {path: values.tolist() for path, values in measured.items()}
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(file, {"examples": examples, **found})
    found = files.read_json(file)
    if found.get("examples") != examples:
        raise ValueError(
            f"{file} holds statistics of other examples than these. Use a new folder for this fit, "
            f"or remove {folder}."
        )
    return {
        split: {path: np.array(values, np.float32) for path, values in found[split].items()}
        for split in splits
    }
