"""FineTune: a schedule of two or any number of phases."""

from __future__ import annotations

from typing import Literal

from tlkeras.recipe import Recipe
from tlkeras.training import balance, schedule
from tlkeras.training.phase import Phase
from tlkeras.training.solve import Solve


class FineTune(Recipe, name="fine_tune"):
    """Phases in order; each starts with the best weights of those before it.

    The first may be ``solve()``, which finds the head as the minimum of a convex function.

    Layers that no phase so far has unfrozen run once over the data, and the cache holds their
    activations. ``float16`` loses the digits past the third, ``float32`` nothing but the order of
    rounding in sums; ``cache='none'`` runs the frozen layers in every epoch. So does the training
    of a phase with `augment`, unless it has `views`. Of texts without a frozen layer it holds the
    pieces. On one machine two fits of a seed are equal to the bit, if each computes its own
    features.
    Frozen batch norms run in inference mode, like all layers of the blocks that a phase does not
    train. ``class_weight='balanced'`` weighs each class by n / (classes * its count).

    ``balance='group'`` weighs each *cell*, the examples of one class and group, by n / (cells * its
    count); `group_dro` is the step size of group DRO, which also raises the weights of the cells of
    the largest loss (0 is off, 0.01 that of the paper; a short training needs more). See
    `training.balance`. Groups are those that the source names. The best epoch is then that of the
    best value in the worst cell of the validation split.
    """

    phases: tuple[Phase | Solve, ...] = (
        Phase(epochs=5, learning_rate=1e-3),
        Phase(epochs=5, learning_rate=1e-4, unfreeze=0.3, schedule="cosine", warmup=0.1),
    )
    class_weight: Literal["none", "balanced"] = "none"
    cache: Literal["float16", "float32", "none"] = "float16"
    balance: Literal["none", "group"] = "none"
    group_dro: float = 0.0

    def validate(self):
        self.require(len(self.phases) > 0, "phases", "at least one phase")
        self.require(self.group_dro >= 0, "group_dro", "a step size, or 0 for none")
        if self._is_balanced and self.class_weight == "balanced":
            raise ValueError(
                "fine_tune.class_weight beside balance or group_dro, whose cells are of one class "
                "and group: they balance classes, too; use class_weight='none'."
            )
        if self.group_dro and (alone := [str(each) for each in self.phases if each.is_alone]):
            raise ValueError(
                f"fine_tune.group_dro with {alone[0]}, which makes no steps; use balance='group'."
            )

    @property
    def _is_balanced(self) -> bool:
        return self.balance == "group" or self.group_dro > 0

    def metric(self, task, classes):
        if self._is_balanced:
            return balance.worst(task, classes)
        return super().metric(task, classes)

    def parts(self):
        return self.phases if self.cache == "float16" else ()

    def fit(self, model, data, folder, callbacks=(), shared=None):
        return schedule.fit(
            self,
            model,
            data,
            folder,
            callbacks,
            shared,
            phases=self.phases,
            class_weight=self.class_weight,
            cache=self.cache,
            balance=self.balance,
            group_dro=self.group_dro,
        )
