"""Layer decay: a smaller learning rate for each block farther from the head.

Adam divides by the size of the gradient, so a smaller gradient takes steps of the same size. Here
the update of every variable has a rate of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tlkeras.frameworks import keras
from tlkeras.model.transfer_model import TransferModel
from tlkeras.training.adapters import Adapters


def factors(
    model: TransferModel, decay: float, adapters: Adapters | None = None
) -> dict[int, float]:
    """Returns the factors of the learning rate by the id of the variable.

    They are 1 in the head, `decay` in the last block, its square in the one before, and so on
    (Clark et al. 2020, https://arxiv.org/abs/2003.10555); each tower has a last block.
    """
    found = {id(variable): 1.0 for variable in model.head.variables}
    for chain in _chains(model):
        for depth, layers in enumerate(reversed(chain), start=1):
            for layer in layers:
                found |= {id(variable): decay**depth for variable in layer.variables}
    for change in adapters.changes if adapters else ():
        found |= {id(each): found[id(change.kernel)] for each in (change.down, change.up)}
    return found


def scaled(kind: Any, factors: Mapping[int, float], weight_decay: float, **options: Any) -> Any:
    """Returns an optimizer of a kind, whose rates are those of the options times the factors.

    The decay of weights is scaled, too: it is a part of the update.
    """

    class Scaled(kind):
        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "weight_decay": weight_decay}

        def build(self, variables: Any) -> None:
            super().build(variables)
            self.factors = [factors[id(variable)] for variable in variables]

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            rate = learning_rate * self.factors[self._get_variable_index(variable)]
            if weight_decay:
                self.assign_sub(variable, variable * weight_decay * rate)
            super().update_step(gradient, variable, rate)

    return Scaled(**options)


def _chains(model: TransferModel) -> Iterator[Sequence[Sequence[keras.Layer]]]:
    """Yields the blocks of each tower in order; those of a network without towers are one chain."""
    for prefix in [f"{tower}_" for tower in model.backbone.towers()] or [""]:
        yield [layers for block, layers in model.blocks.items() if block.startswith(prefix)]
