"""Align: two towers come together in one space, one of them locked or none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from tlkeras import spec
from tlkeras.model.towers import PICTURE, TEXT, named
from tlkeras.recipe import Recipe
from tlkeras.training import schedule
from tlkeras.training.phase import Phase

if TYPE_CHECKING:
    from tlkeras.data.batches import Data
    from tlkeras.model.transfer_model import TransferModel

_LOCKED: Mapping[str, tuple[str, ...]] = {
    "picture": (PICTURE,),
    "text": (TEXT,),
    "both": (PICTURE, TEXT),
    "none": (),
}


class Align(Recipe, name="align"):
    """Phases as those of `fine_tune`, in which the blocks of a locked tower never change.

    With ``locked='picture'`` the tower of texts learns to read what that of pictures sees (LiT,
    Zhai et al. 2022, https://arxiv.org/abs/2111.07991); the pictures run once, and an epoch takes
    the time of the texts. With ``both`` the projections alone learn, on features of both. A phase's
    `unfreeze` is that of `fine_tune`, less the blocks of the locked towers: ``'all'`` are all
    others, ``0.3`` the last 30 % of them. In front of it, a phase without `unfreeze` fits the
    projections. `cache` is that of `fine_tune`; with ``locked='text'`` and ``none`` nothing can be
    cached. It trains on one device, because a loss compares all pairs of a batch.
    """

    locked: Literal["picture", "text", "both", "none"] = "picture"
    phases: tuple[Phase, ...] = (
        Phase(epochs=20, learning_rate=1e-3, unfreeze="all", schedule="cosine", warmup=0.1),
    )
    cache: Literal["float16", "float32", "none"] = "float16"

    def validate(self):
        self.require(len(self.phases) > 0, "phases", "at least one phase")

    def fit(self, model, data, folder, callbacks=(), shared=None):
        _require_pairs(model, data)
        return schedule.fit(
            self,
            model,
            data,
            folder,
            callbacks,
            shared,
            phases=[self._unlocked(model, phase) for phase in self.phases],
            cache=self.cache,
        )

    def _unlocked(self, model: TransferModel, phase: Phase) -> Phase:
        """Returns a phase that names the blocks it changes."""
        prefixes = tuple(named(tower, "") for tower in _LOCKED[self.locked])
        free = [block for block in model.blocks if not block.startswith(prefixes)]
        if isinstance(phase.unfreeze, float):
            return phase.replace(unfreeze=tuple(free[-math.ceil(phase.unfreeze * len(free)) :]))
        chosen = model.chosen(phase.unfreeze)
        locked = [block for block in chosen if block not in free]
        if isinstance(phase.unfreeze, tuple) and locked:
            raise ValueError(
                f"align.locked is {self.locked!r}, but phase.unfreeze names {locked[0]!r}; leave "
                "it out, or use another locked."
            )
        return phase.replace(unfreeze=tuple(block for block in chosen if block not in locked))


def _require_pairs(model: TransferModel, data: Data) -> None:
    """Raises ValueError if there are no two towers, or too few pairs to compare."""
    if missing := [tower for tower in _LOCKED["both"] if tower not in model.backbone.towers()]:
        raise ValueError(
            f"align needs a backbone with a tower {missing[0]!r}, and {model.backbone.name} has "
            f"{spec.listed([*model.backbone.towers()]) or 'no towers'}; use "
            '--backbone="towers(picture=starter, text=starter_text)" and --task=retrieval.'
        )
    if (count := data.count("train")) < data.batch_size:
        raise ValueError(
            f"{count} training pairs are too few for a batch of {data.batch_size}, and align "
            "compares the pairs of a batch; give more pairs, or a smaller --batch_size."
        )
