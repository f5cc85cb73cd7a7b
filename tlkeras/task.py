"""Task: what is predicted, from the features of any backbone that offers those it asks for."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np

from tlkeras.frameworks import keras
from tlkeras.spec import Spec

if TYPE_CHECKING:
    from tlkeras.measures.measures import Measures, View
    from tlkeras.model.transfer_model import TransferModel

Meaning = Literal["scores", "boxes", "category", "count", "mask", "tokens", "vector"]
"""What a served tensor holds."""


@dataclasses.dataclass(frozen=True)
class Output:
    """One served tensor.

    Attributes:
        name: Its key in what `Task.served` returns.
        meaning: What it holds; ``scores`` has a number for each class, in their order, and
            ``tokens`` has such numbers for each word, all 0 where there is none.
        labelled: Whether the class names say what its values, or the numbers in it, stand for.
        others: The names of values before those of the classes.
        threshold: The score from which on an example has a class; None if it has exactly one.
        abstains_below: If the best score is lower, there is no answer; None if there always is one.
    """

    name: str
    meaning: Meaning
    labelled: bool = False
    others: tuple[str, ...] = ()
    threshold: float | None = None
    abstains_below: float | None = None


class Tally(Protocol):
    """Measures of a task, from batches that are added one after the other."""

    def add(self, target: Any, served: Mapping[str, Any], first: int) -> None:
        """Adds a batch of targets and served outputs as NumPy arrays.

        `first` is the number of its first example, by which a gallery shows examples.

        Raises:
            ValueError: A value that cannot be, and the number of its example; nothing is added.
        """
        ...

    def measures(self) -> Measures:
        """Returns the measures of all examples added.

        Raises:
            ValueError: None was added.
        """
        ...


class Task(Spec, plugins="tlkeras.tasks"):
    """Target, head, loss, metrics, served outputs and measures of one kind of prediction."""

    reads: ClassVar[tuple[str, ...]]
    """The example keys that `target` reads."""

    optional: ClassVar[tuple[str, ...]] = ()
    """The keys that `target` reads as well where the examples have them."""

    needs_float: ClassVar[bool] = False
    """Whether integers are too coarse for what `served` makes of the outputs."""

    rates_pieces: ClassVar[bool] = False
    """Whether the head rates the pieces of the backbone's vocabulary, in place of classes.

    Its layer ``logits`` begins with `Backbone.readout`.
    """

    explains: ClassVar[bool] = False
    """Whether there are numbers that an explanation can be of, see `explained`."""

    compares: ClassVar[bool] = False
    """Whether each example is measured among the others, so that their number decides how well.

    Metrics then depend on the batch size, and measures of few examples are better.
    """

    primary: ClassVar[str]
    """The scalar of the measures that blesses a model or not."""

    more_is_better: ClassVar[bool] = True
    """Whether the primary scalar is better where it is larger; bounds are on the other side."""

    recipe: ClassVar[str] = "fine_tune"
    """The recipe for whoever names none, as a call."""

    @property
    def answers_classes(self) -> bool:
        """Whether answers name classes, so that those of the examples matter."""
        return any(output.labelled for output in self.outputs())

    def named_classes(self, classes: Sequence[str]) -> Sequence[str]:
        """Returns the classes that answers name, of those of the examples: all, or none."""
        return classes if self.answers_classes else ()

    @abc.abstractmethod
    def target(self, example: Mapping[str, Any], inputs: Any, classes: int) -> Any:
        """Returns the training target of one example, of a fixed shape.

        `inputs` is what the backbone's `preprocess` gave for it; with None it is the target at the
        example's own size. `classes` counts the classes. Traced as it stands, like `preprocess`.
        """

    def require_classes(self, classes: Sequence[str]) -> None:
        """Checks, before a model is built, the names of the classes.

        Raises:
            ValueError: One that the task cannot have.
        """

    def require_bounds(self, lower_bound: float | None, upper_bound: float | None) -> None:
        """Checks, before a training, on which side bounds of the primary scalar are.

        Raises:
            ValueError: One is where any value is good.
        """
        more = self.more_is_better
        bound, flag, other = (
            (upper_bound, "upper", "lower") if more else (lower_bound, "lower", "upper")
        )
        if bound is not None:
            raise ValueError(
                f"--{flag}_bound={bound:g}: of {self.primary}, the primary measure of {self.name}, "
                f"{'more' if more else 'less'} is better; give --{other}_bound."
            )

    def counts(self, target: Any, classes: int) -> Any:
        """Returns how often each class of `weighted` occurs in one target.

        A task overrides it if the classes of an example do not say so. Traced as it stands.
        """
        raise NotImplementedError

    def weighted(self, target: Any, class_weights: Any) -> tuple[Any, Any]:
        """Returns (targets, sample weights) so that each class counts by its weight in the loss.

        Metrics see the returned targets. Traced as it stands, like `target`.
        """
        raise ValueError(f"{self.name} has no class weights; use class_weight='none'.")

    @abc.abstractmethod
    def summarize(self, features: Mapping[str, Any]) -> Any:
        """Returns the symbolic part of the features that the head needs: one tensor or a dict."""

    @abc.abstractmethod
    def head(self, summary: Any, classes: int) -> Any:
        """Returns the symbolic float32 outputs, logits where there are any, of a summary."""

    def initialize(self, head: keras.Model, targets: Iterable[Any]) -> None:
        """Sets those weights of a head that are known from the training targets; most have none.

        A recipe calls it before the first epoch, and again before it resumes. `targets` are read on
        demand: NumPy values at the size of their example.
        """

    @abc.abstractmethod
    def loss(self) -> keras.losses.Loss:
        """Returns the loss of targets and outputs."""

    @abc.abstractmethod
    def metrics(self, classes: Sequence[str]) -> Sequence[keras.metrics.Metric]:
        """Returns new metrics to show while training; of the first, larger is better.

        `classes` are the names of the classes.
        """

    def decisions(self, classes: int) -> int:
        """Returns of how many losses, each by an output of its own, that of an example is the mean.

        `classes` counts the classes. Penalties of weights and bounds of gradients are by the sum,
        so that one decision is fitted alike beside few others and many.
        """
        return 1

    def rated(self, target: Any, outputs: Any) -> tuple[Any, Any]:
        """Returns the logits [n, k] of every decision in a batch, and the right places, int [n].

        Both arguments are NumPy arrays. A task overrides it, and `rescaled`, if its head ends in a
        layer ``logits`` whose kernel and bias one number can divide; see `training.temperature`.
        """
        raise NotImplementedError

    def chances(self, served: Mapping[str, Any]) -> Any:
        """Returns the probabilities of the classes, [b, classes], of a batch of NumPy arrays.

        A task overrides it if each example has exactly one class; its targets are one-hot.
        """
        raise NotImplementedError

    def rescaled(self, served: Mapping[str, Any], factor: float) -> dict[str, Any]:
        """Returns what the same logits times a factor would be served as, NumPy arrays both."""
        raise NotImplementedError

    @abc.abstractmethod
    def served(self, outputs: Any) -> dict[str, Any]:
        """Returns what a client gets, by name, made of the outputs: probabilities, not logits.

        It is called with tensors and, for networks that are shipped whole, symbolically.
        """

    @abc.abstractmethod
    def outputs(self) -> tuple[Output, ...]:
        """Returns what `served` holds, in any order."""

    def named(self, served: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
        """Returns the served tensors with class names as strings added, for servers.

        A task that rates classes adds ``classes``, strings, and ``scores``, float32, both
        [b, classes] and best first: what TensorFlow Serving's Classify call answers with.
        """
        return dict(served)

    def located(self, named: Mapping[str, Any], places: Any) -> dict[str, Any]:
        """Returns `named` with places in the text of a client, if the task finds any there.

        `places` are where the words of each text begin and end, int32 [b, words, 2], in characters;
        see `Entrance.places`.
        """
        return dict(named)

    def placed(self, served: Mapping[str, Any], sizes: Any) -> dict[str, Any]:
        """Returns what a client gets beside `named`, in places of the picture that it sent.

        `sizes` is the height and the width of each picture of the batch, int32 [b, 2]. What has the
        name of another answer stands for it.
        """
        return {}

    def answers(
        self, served: Mapping[str, Any], classes: Sequence[str], sizes: Sequence[Any]
    ) -> list[dict[str, Any]]:
        """Returns the answer to each example of a batch, NumPy arrays of `named` and `placed`.

        `sizes` are those of the examples' own pictures, int32 [2] each, see `Backbone.sides`.
        """
        named = self.named(served, classes)
        arrays = {name: np.asarray(values) for name, values in named.items()}
        found = []
        for i, size in enumerate(sizes):
            one = {name: values[i : i + 1] for name, values in served.items()}
            placed = self.placed(one, size[None])
            own = {name: array[i] for name, array in arrays.items()}
            found.append(own | {name: np.asarray(values)[0] for name, values in placed.items()})
        return found

    def record(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what is written down of the answer to one example, `named` and `placed` as NumPy.

        An array of uint8 [h, w] is written as a picture, all else as numbers and texts.
        """
        return dict(answer)

    def explained(self, outputs: Any) -> tuple[Any, Any]:
        """Returns numbers that an explanation can be of, float32 [b, n], and their classes.

        They are made of the outputs and differentiated: the logits of all classes, in order, or of
        the parts that were found. The largest of an example matters most. The classes are int32
        [b, n]: -1 where there is nothing to explain, and 0 of a task without classes. A task that
        `explains` has it.
        """
        raise NotImplementedError

    def views(self, model: TransferModel, examples: Sequence[Mapping[str, Any]]) -> Sequence[View]:
        """Returns what the report shows beside the measures, made by the model of some examples.

        They are the first of the measured split, in its order, and what the backbone reads, as
        `TransferModel.predict` takes it. Words or pictures of an example belong in a gallery, which
        `tlkeras forget` removes from a version; a table stays.
        """
        return ()

    def of_tower(self, tower: str) -> Task | None:
        """Returns the task of one of `Backbone.towers` alone, which serves what comes of it.

        The layer whose output it serves has the name of the tower and ``_row``. None is for tasks
        to which no tower is of use without the others.
        """
        return None

    @abc.abstractmethod
    def tally(self, classes: Sequence[str]) -> Tally:
        """Returns a new tally of the test measures."""

    def decided(self, target: Any, served: Mapping[str, Any]) -> tuple[Any, Any] | None:
        """Returns which classes examples have and which they are given, both bool [b, classes].

        By them groups are compared, see `measures.parity`. None is for tasks whose answers are no
        classes of whole examples. `target` and `served` are NumPy arrays, as `Tally.add` gets them.
        """
        return None

    def kept(self, served: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the part of a batch of served NumPy arrays by which exports are judged.

        It is kept for every test example, each array [b, ...] of a fixed size.
        """
        return dict(served)

    @abc.abstractmethod
    def agree(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> Any:
        """Returns bool [b]: whether two batches of `kept` give the same answer to each example."""
