"""Augment: random changes of training examples and batches, pure functions of a seed.

`examples` and `batches` apply several in order, each with its own seed. They run inside
``tf.data.Dataset.map`` on pictures of any size. Randomness comes from TensorFlow's stateless
generators only: the layers of Keras and keras-cv count their calls, and parallel calls have no
order. `tlkeras.images.geometry` and `tlkeras.images.pixels` hold the mechanisms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tlkeras.frameworks import tf
from tlkeras.spec import Spec

Example = Mapping[str, Any]


class Augment(Spec, plugins="tlkeras.augments"):
    """A random change; a member overrides `example` or `batch`, the other changes nothing.

    The seed is an integer tensor [2]; equal seeds give equal bits. AutoGraph does not rewrite these
    methods: branch on tensors with `tf.cond`, not with ``if``.
    """

    @property
    def mixes(self) -> bool:
        """Whether a member overrides `batch`, so an example depends on the rest of its batch."""
        return type(self).batch is not Augment.batch

    def example(self, example: Example, seed: Any) -> dict[str, Any]:
        """Returns a changed example with the same keys and types.

        ``image`` is uint8 or float [h, w, 3] in [0, 255]. A geometric change also moves ``mask``
        [h, w, 1] and ``boxes`` [n, 4] (top, left, bottom, right in [0, 1]). The mask is 255 outside
        of the picture. Boxes are clipped; one outside of the picture is dropped together with its
        entry of ``labels`` [n].
        """
        return dict(example)

    def batch(self, inputs: Any, targets: Any, seed: Any) -> tuple[Any, Any]:
        """Returns a changed batch of float inputs [b, h, w, 3] and targets [b, classes]."""
        return inputs, targets


def examples(augments: Sequence[Augment], example: Example, seed: Any) -> dict[str, Any]:
    """Returns an example after all augmentations; the seed is any number of integers."""
    augmented = dict(example)
    for augment, own in zip(augments, seeds(seed, len(augments)), strict=True):
        augmented = augment.example(augmented, own)
    return augmented


def batches(augments: Sequence[Augment], inputs: Any, targets: Any, seed: Any) -> tuple[Any, Any]:
    """Returns a batch after all augmentations; the seed is any number of integers."""
    for augment, own in zip(augments, seeds(seed, len(augments)), strict=True):
        inputs, targets = augment.batch(inputs, targets, own)
    return inputs, targets


def seeds(seed: Any, count: int) -> list[Any]:
    """Returns independent seeds, int32 [2], as a function of any number of integers."""
    numbers = tf.unstack(seed) if tf.is_tensor(seed) else seed
    folded = tf.zeros([2], tf.int32)
    for number in numbers:
        folded = tf.random.fold_in(folded, tf.cast(number, tf.int32))
    return [tf.random.fold_in(folded, place) for place in range(count)]
