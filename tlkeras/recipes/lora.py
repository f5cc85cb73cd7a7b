"""Lora: low-rank changes of the dense layers, merged into the network at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from tlkeras import hardware
from tlkeras.recipe import Recipe
from tlkeras.training import adapters, schedule
from tlkeras.training.adapters import Adapters
from tlkeras.training.phase import Phase
from tlkeras.training.solve import Solve

if TYPE_CHECKING:
    from tlkeras.model.transfer_model import TransferModel


class Lora(Recipe, name="lora"):
    """Phases as those of `fine_tune`, but blocks that one unfreezes learn changes of low rank.

    The kernel of every dense layer in them, also inside of attention, gets a change of `rank`,
    times ``alpha / rank`` (Hu et al. 2021, https://arxiv.org/abs/2106.09685). Their other weights
    remain. At the end of a phase its changes are merged: the network has the same layers as before.
    `cache` is that of `fine_tune`. It trains on one device.
    """

    rank: int = 8
    alpha: float = 16.0
    phases: tuple[Phase | Solve, ...] = (
        Phase(epochs=5, learning_rate=1e-3, unfreeze="all", schedule="cosine", warmup=0.1),
    )
    cache: Literal["float16", "float32", "none"] = "float16"

    def validate(self):
        self.require(self.rank >= 1, "rank", "at least 1")
        self.require(self.alpha > 0, "alpha", "a factor above 0")
        unfreeze = any(phase.unfreeze != () for phase in self.phases)
        self.require(unfreeze, "phases", "a phase with unfreeze, the blocks to change")
        changed = [phase for phase in self.phases if phase.batch_norm]
        self.require(not changed, "phases", "none with batch_norm, as only dense layers change")

    def parts(self):
        return self.phases if self.cache == "float16" else ()

    def fit(self, model, data, folder, callbacks=(), shared=None):
        if hardware.replicas() > 1:
            raise ValueError("lora trains on one device; use --strategy=one_device, or fine_tune.")
        for phase in self.phases:
            chosen = model.chosen(phase.unfreeze)
            if chosen and not adapters.dense(_layers(model, chosen)):
                raise ValueError(
                    f"lora changes dense layers, and {model.backbone.name} has none in the blocks "
                    f"of unfreeze={phase.unfreeze!r}; use fine_tune."
                )

        def adapt(blocks: Sequence[str]) -> Adapters:
            return Adapters(_layers(model, blocks), self.rank, self.alpha, data.seed)

        return schedule.fit(
            self,
            model,
            data,
            folder,
            callbacks,
            shared,
            phases=self.phases,
            cache=self.cache,
            adapt=adapt,
        )


def _layers(model: TransferModel, blocks: Sequence[str]) -> list:
    return [layer for block in blocks for layer in model.blocks[block]]
