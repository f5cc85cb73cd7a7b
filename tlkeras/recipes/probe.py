"""Probe: the best linear head on frozen features."""

from __future__ import annotations

from typing import Literal

from tlkeras.recipe import Recipe
from tlkeras.training import balance, schedule
from tlkeras.training.linear import LinearHead
from tlkeras.training.solve import Solve, require_strengths


class Probe(Recipe, name="probe"):
    """The head as the solution of a convex problem; the backbone stays as it is.

    The fields are those of ``solve``, and `cache` and `balance` of ``fine_tune``. With
    ``cache='none'`` the backbone runs again for features that take more than half a gigabyte.
    With ``balance='group'`` the worst cell of the validation split chooses the strength.
    """

    strengths: tuple[float, ...] = Solve.strengths
    folds: int = 5
    cache: Literal["float16", "float32", "none"] = "float16"
    balance: Literal["none", "group"] = "none"

    def validate(self):
        require_strengths(self, self.strengths)
        self.require(self.folds >= 2, "folds", "at least 2")

    def metric(self, task, classes):
        if self.balance == "group":
            return balance.worst(task, classes)
        return super().metric(task, classes)

    def fit(self, model, data, folder, callbacks=(), shared=None):
        LinearHead(model, self.member)  # It refuses other heads by the name of this recipe.
        return schedule.fit(
            self,
            model,
            data,
            folder,
            callbacks,
            shared,
            phases=(Solve(self.strengths, self.folds),),
            cache=self.cache,
            balance=self.balance,
        )
