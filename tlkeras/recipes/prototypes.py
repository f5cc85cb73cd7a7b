"""Prototypes: the class of the nearest class mean, as a linear head."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np

from tlkeras.recipe import Recipe
from tlkeras.training import schedule
from tlkeras.training.head_alone import HeadAlone, require_label
from tlkeras.training.linear import LinearHead, Rows, Weights


class Prototypes(Recipe, name="prototypes"):
    """Sets the head so that the largest logit is that of the nearest class mean, without training.

    With ``euclidean``, ``-|x - m|^2 = 2 m.x - |m|^2 - |x|^2``, whose last term is the same for all
    classes (Snell et al. 2017, https://arxiv.org/abs/1703.05175). With ``cosine``, `m` is the mean
    of ``x / |x|``, and the logit ``m.x / |m|``: the largest is that of the largest cosine, as |x|
    is the same for all classes. So both are exact in the order of the classes. Probabilities of
    ``cosine`` are sharper where |x| is large. One factor of all logits has the least loss on the
    validation split; without one, it is fixed, and probabilities are not calibrated.

    `shots` examples of each class are used, those first in an order of the seed; 0 uses all.
    """

    shots: int = 0
    distance: Literal["cosine", "euclidean"] = "cosine"
    cache: Literal["float16", "float32", "none"] = "float16"

    def validate(self):
        self.require(self.shots >= 0, "shots", "a number of examples of each class, or 0 for all")

    def fit(self, model, data, folder, callbacks=(), shared=None):
        return schedule.fit(
            self,
            model,
            data,
            folder,
            callbacks,
            shared,
            phases=(_ClassMeans(self.shots, self.distance),),
            cache=self.cache,
        )


class _ClassMeans(HeadAlone, name="class_means"):
    """The part of a schedule that does it; the fields are those of `Prototypes`."""

    shots: int
    distance: Literal["cosine", "euclidean"]

    def require_fit(self, model, data, start):
        require_label(model.task, "prototypes")
        super().require_fit(model, data, start)
        counts = dict(zip(data.classes, data.info.class_counts["train"], strict=True))
        least = max(self.shots, 1)
        if short := {name: count for name, count in counts.items() if count < least}:
            name, count = next(iter(short.items()))
            others = f", and {len(short) - 1} other classes too few" if len(short) > 1 else ""
            most = min(counts.values())
            advice = f"use at most {most} shots, or give it more" if most else "give it some"
            raise ValueError(
                f"prototypes.shots is {self.shots}, but class {name!r} has {count} training "
                f"examples{others}; {advice}."
            )

    def solution(self, head, rows, checked, metric, seed, *beside):
        """Returns kernel and bias; see `Prototypes`."""
        weights = weights_of_means(self._chosen(head, rows), len(head.model.classes), self.distance)
        return head.sharpened(weights, checked, checked.ones() if checked else None)

    def _chosen(self, head: LinearHead, rows: Rows) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields features [n, channels] and labels [n] of shots, those of a chunk together."""
        seen = np.zeros(len(head.model.classes), np.int64)
        for chunk, inputs in head.inputs(rows):
            labels = np.asarray(chunk.targets).argmax(axis=-1)
            taken = np.zeros(len(labels), bool)
            for label in np.unique(labels):
                most = self.shots - seen[label] if self.shots else None
                taken[np.flatnonzero(labels == label)[:most]] = True
            seen += np.bincount(labels[taken], minlength=len(seen))
            if taken.any():
                yield inputs[taken], labels[taken]


def weights_of_means(
    parts: Iterable[tuple[np.ndarray, np.ndarray]], classes: int, distance: str
) -> Weights:
    """Returns kernel [channels, classes] and bias [classes], at a scale for any features.

    Logits of ``euclidean`` are divided by the mean squared distance of the features to their mean,
    those of ``cosine`` by the mean norm of the features.

    Args:
        parts: Features, float64 [n, channels], and labels [n], of each class at least one. One part
            is in memory at a time.
        classes: How many classes there are.
        distance: See `Prototypes`.
    """
    counts, sums, middle, norm, squares = np.zeros(classes), 0.0, 0.0, 0.0, 0.0
    for features, labels in parts:
        norms = np.linalg.norm(features, axis=1, keepdims=True)
        norm += norms.sum()
        if distance == "cosine":
            features = features / np.maximum(norms, 1e-12)
        # Squares of two parts are joined as by Chan et al. 1983,
        # https://doi.org/10.1080/00031305.1983.10483115.
        mean, before = features.mean(axis=0), counts.sum()
        share = len(features) / (before + len(features))
        squares += np.square(features - mean).sum(axis=1).sum()
        squares += np.square(mean - middle).sum() * share * before
        middle = middle + (mean - middle) * share
        found, starts = np.unique(np.sort(labels), return_index=True)
        own = np.zeros([classes, features.shape[1]])
        own[found] = np.add.reduceat(features[np.argsort(labels, kind="stable")], starts)
        sums, counts = sums + own, counts + np.bincount(labels, minlength=classes)
    means = sums / counts[:, None]
    if distance == "cosine":
        lengths = np.linalg.norm(means, axis=1, keepdims=True)
        kernel = (means / np.maximum(lengths, 1e-12)).T / (norm / counts.sum() or 1.0)
        return kernel, np.zeros(classes)
    size = squares / counts.sum() or 1.0
    return 2 * means.T / size, -np.square(means).sum(axis=1) / size
