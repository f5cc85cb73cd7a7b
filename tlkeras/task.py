"""Task: what is predicted, from the features of any backbone that offers those it asks for."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from tlkeras.frameworks import keras
from tlkeras.spec import Spec


class Task(Spec, plugins="tlkeras.tasks"):
    """Target, head, loss, metrics and served outputs of one kind of prediction."""

    reads: ClassVar[tuple[str, ...]]
    """The example keys that `target` reads."""

    primary: ClassVar[str]
    """The number in what `measure` returns that blesses a model or not; larger is better."""

    @abc.abstractmethod
    def target(self, example: Mapping[str, Any], inputs: Any, classes: int) -> Any:
        """Returns the training target of one example.

        `inputs` is what the backbone's `preprocess` gave for it; `classes` counts the classes.
        Traced as it stands, like `preprocess`.
        """

    def weighted(self, target: Any, class_weights: Any) -> tuple[Any, Any]:
        """Returns a batch of targets and a weight for each, given a weight for each class.

        With both the loss weighs the part of every class as that class; metrics see the weighted
        targets, so of mixed ones the accuracy of training is of these. Traced as it stands, like
        `target`.
        """
        raise ValueError(f"{self.name} has no class weights; use class_weight='none'.")

    @abc.abstractmethod
    def summarize(self, features: Mapping[str, Any]) -> Any:
        """Returns the symbolic part of the features that the head needs: one tensor or a dict."""

    @abc.abstractmethod
    def head(self, summary: Any, classes: int) -> Any:
        """Returns the symbolic float32 outputs, logits where there are any, of a summary."""

    @abc.abstractmethod
    def loss(self) -> keras.losses.Loss:
        """Returns the loss of targets and outputs."""

    @abc.abstractmethod
    def metrics(self) -> Sequence[keras.metrics.Metric]:
        """Returns new metrics to show while training."""

    @abc.abstractmethod
    def served(self, outputs: Any) -> dict[str, Any]:
        """Returns what a client gets, by name, made of the outputs: probabilities, not logits.

        It is called with tensors and, for networks that are shipped whole, symbolically.
        """

    def named(self, served: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
        """Returns the served tensors with class names as strings added, for servers.

        A task that rates classes adds ``classes``, strings, and ``scores``, float32, both
        [b, classes] and best first: what TensorFlow Serving's Classify call answers with.
        """
        return dict(served)

    @abc.abstractmethod
    def measure(self, batches: Iterable[tuple[Any, Any]], classes: Sequence[str]) -> dict[str, Any]:
        """Returns the test measures, JSON-ready, of numpy batches ``(target, served)``."""

    def mistakes(self, target: Any, served: Mapping[str, Any]) -> list[tuple[int, int, int, float]]:
        """Returns ``(place, class, predicted class, its probability)`` of a batch's wrong examples.

        Empty where a prediction is not one class.
        """
        return []
