"""Shadows: heads that were trained with and without each example, to attack a model by.

They are solved on the features that the model's own body gives, so that only the head is imitated:
what unfrozen blocks have learned by heart shows in the attacked losses, not in the shadows.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tlkeras import terminal
from tlkeras.data.batches import Data
from tlkeras.frameworks import tf
from tlkeras.measures.membership import RATIO, THRESHOLD, Attack, confidence, likelihood_ratios
from tlkeras.model import lengths
from tlkeras.model.transfer_model import TransferModel
from tlkeras.training import features, summaries
from tlkeras.training.features import Cache, Features
from tlkeras.training.linear import LinearHead, Rows, Weights
from tlkeras.training.solve import ROUGH, Problem, Solve

HEADS = 64
"""Half of them are trained with an example. The paper has most of its gain from 64 on."""

MOST = 5_000
"""Examples of the training, and of others, that are attacked at most."""


@dataclasses.dataclass(frozen=True)
class Pool:
    """Members of the training, and behind them others, of the same distribution."""

    head: LinearHead
    rows: Rows
    members: int

    def confidence(self, weights: Weights) -> np.ndarray:
        """Returns that of a head in each example, [count]."""
        return confidence(self.head.losses(weights, self.rows))

    @property
    def inside(self) -> np.ndarray:
        """Which examples are members, float32 [count]."""
        return (np.arange(self.rows.count) < self.members).astype(np.float32)

    def fit(self, weights: Weights) -> dict[str, float]:
        """Returns the metrics of a head on the members and on the others."""
        return {
            f"{of} {name}": value
            for of, counted in (("training", self.inside), ("test", 1 - self.inside))
            for name, value in self.head.measured(self.rows, [(weights, counted)]).items()
        }

    def plain(self) -> Weights:
        """Returns a head of the members that protects nobody, as ``probe`` finds it.

        Its strength has the least loss of the others: the attacker's case, not a fair measure.
        """
        weights = self._along(self.inside)
        losses = {
            strength: self.head.loss(found, self.rows, 1 - self.inside)[0]
            for strength, found in weights.items()
        }
        return weights[min(losses, key=lambda strength: losses[strength])]

    def attacks(self, weights: Weights, heads: int, seed: int) -> dict[str, Attack]:
        """Returns the attacks on a head that was trained on the members, by their names.

        Each example is in half of the shadow heads, and the seed decides in which. They are solved
        with the strength at which a head of the members fits them as closely as this one.
        """
        strength, found = self._likest(weights), self.confidence(weights)
        chance = np.random.default_rng(seed).random((heads, self.rows.count))
        inside = chance.argsort(axis=0) < heads // 2
        shadows = np.stack(
            [
                self.confidence(self._solved(strength, each.astype(np.float32)))
                for each in terminal.shown(inside, heads, "shadow heads")
            ]
        )
        scores = {THRESHOLD: found, RATIO: likelihood_ratios(found, shadows, inside)}
        return {
            name: Attack(each[: self.members], each[self.members :])
            for name, each in scores.items()
        }

    def _likest(self, weights: Weights) -> float:
        """Returns the strength of which a head fits the members as closely as this one does."""
        loss = self.head.loss(weights, self.rows, self.inside)[0]
        apart = {
            strength: abs(self.head.loss(found, self.rows, self.inside)[0] - loss)
            for strength, found in self._along(self.inside).items()
        }
        return min(apart, key=lambda strength: apart[strength])

    def _along(self, inside: np.ndarray) -> dict[float, Weights]:
        """Returns the head of some rows by the strength of its penalty."""
        found, start = {}, self.head.zeros()
        for strength in Solve.strengths:
            start = found[strength] = self._solved(strength, inside, start)
        return found

    def _solved(self, strength: float, inside: np.ndarray, start: Weights | None = None) -> Weights:
        return self._problem.minimum(strength, inside, start or self.head.zeros(), ROUGH)

    @functools.cached_property
    def _problem(self) -> Problem:
        return Problem(self.head, self.rows)


class Audit(NamedTuple):
    """What attacks on each head find, and its metrics on training and test, by its name."""

    attacks: Mapping[str, Mapping[str, Attack]]
    fits: Mapping[str, Mapping[str, float]]


def attacked(model: TransferModel, data: Data, cache: Cache) -> Audit:
    """Attacks a fitted model, and a head without privacy on the same features.

    Members are examples of the training split, others those of the test split. The seed of the data
    decides what is left to chance.

    Raises:
        ValueError: See `pooled`.
    """
    pool = pooled(model, data, cache, ["test"])
    heads = {"this model": pool.head.weights(), "a plain head": pool.plain()}
    return Audit(
        {name: pool.attacks(weights, HEADS, data.seed) for name, weights in heads.items()},
        {name: pool.fit(weights) for name, weights in heads.items()},
    )


def linear_head(model: TransferModel) -> LinearHead:
    """Returns the head of a model to attack.

    Raises:
        ValueError: It is not one dense layer.
    """
    advice = "Name another --task; other models cannot be attacked."
    return LinearHead(model, "attack", advice=advice)


def pooled(model: TransferModel, data: Data, cache: Cache, others: Sequence[str]) -> Pool:
    """Returns the pool of a model: at most `MOST` examples of the training and of each other split.

    Raises:
        ValueError: The head is not one dense layer, a split is empty, or the cache has no room.
    """
    head, splits = linear_head(model), ("train", *others)
    for split in splits:
        if data.count(split) < 2:
            raise ValueError(
                f"attack compares the training with the {others[0]} split, and {split} has "
                f"{data.count(split)} examples; give --split='split(test=20)'."
            )
    kept, _ = summaries.of(model, data, splits, cache)
    if missing := [split for split in splits if split not in kept]:
        raise ValueError(
            f"attack needs the features of {missing[0]} in the cache, which has no room for them; "
            "give more --feature_cache_gb."
        )
    rows = _rows(model, head, [kept[split] for split in splits], data)
    return Pool(head, rows, min(data.count("train"), MOST))


def _rows(model: TransferModel, head: LinearHead, kept: Sequence[Features], data: Data) -> Rows:
    """Returns rows of at most `MOST` examples of each split, those that the seed decides."""
    data.targets  # noqa: B018 - It caches them; a batch of features needs them in a graph.
    chosen = []
    for each in kept:
        count = data.count(each.tap.split)
        random = np.random.default_rng((data.seed, count))
        chosen.append(np.sort(random.permutation(count)[:MOST]))

    def batches() -> Iterator[Any]:
        for each, numbers in zip(kept, chosen, strict=True):
            yield from each.batches(numbers)

    def summarized(inputs: Any) -> Any:
        found = features.entrance(kept[0].prefix, inputs, kept[0].dtype)
        return lengths.restored(found, model.head.input)

    return Rows(batches, tf.function(summarized, autograph=False, reduce_retracing=True), head)
