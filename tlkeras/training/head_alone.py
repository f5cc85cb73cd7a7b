"""HeadAlone: a part of a schedule that finds a linear head in one go, without steps."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tlkeras import hardware
from tlkeras.augment import Augment
from tlkeras.frameworks import keras, tf
from tlkeras.model.transfer_model import HEAD
from tlkeras.spec import Spec
from tlkeras.training import loop
from tlkeras.training.linear import LinearHead, Rows, Weights

if TYPE_CHECKING:
    from tlkeras.data.batches import Data
    from tlkeras.model.transfer_model import TransferModel
    from tlkeras.task import Task
    from tlkeras.training.balance import Balance


class HeadAlone(Spec):
    """A part of a schedule as `Phase` is one; its fit is one epoch, that of the whole head.

    It needs a head of one dense layer, and stands before all phases that unfreeze blocks.
    """

    is_alone: ClassVar[bool] = True
    epochs: ClassVar[int] = 1
    patience: ClassVar[int] = 0
    learning_rate: ClassVar[None] = None
    unfreeze: ClassVar[tuple[str, ...]] = ()
    batch_norm: ClassVar[bool] = False
    layer_decay: ClassVar[float] = 1.0
    augment: ClassVar[tuple[Augment, ...]] = ()
    views: ClassVar[int] = 0

    @abc.abstractmethod
    def solution(
        self,
        head: LinearHead,
        rows: Rows,
        checked: Rows | None,
        metric: str | None,
        seed: int,
        *beside: Rows,
    ) -> Weights:
        """Returns kernel and bias.

        Args:
            head: The head.
            rows: The training split, in an order of seed and epoch.
            checked: The validation split, if there is one.
            metric: The name of the first metric, if there is one.
            seed: Decides what is left to chance.
            beside: The split beside the training, where a recipe reads one.
        """

    def solved(
        self,
        head: LinearHead,
        rows: Rows,
        checked: Rows | None,
        metric: str | None,
        seed: int,
        *beside: Rows,
    ) -> tuple[Weights, Rows, Rows | None]:
        """Returns the solution, and the rows of both splits that measure it, here as they are."""
        return self.solution(head, rows, checked, metric, seed, *beside), rows, checked

    def learned(self, head: LinearHead, rows: Rows, solution: Weights) -> loop.Logs:
        """Returns the loss and the metrics of the training split."""
        return head.measured(rows, [(solution, rows.ones())])

    def settled(self, swept: Callable[[Any], Any]) -> HeadAlone:
        """Returns itself: it has no learning rate."""
        return self

    def require_fit(self, model: TransferModel, data: Data, start: str) -> None:
        """Refuses heads of other forms, and blocks that a phase before has changed."""
        LinearHead(model, self.member)
        if start != HEAD:
            raise ValueError(
                f"{self} stands behind a phase that unfreezes blocks; put it first, because the "
                "features of a head that is solved have to be final."
            )

    def compiled_optimizer(
        self, steps: int, factors: Mapping[int, float] | None = None
    ) -> keras.optimizers.Optimizer:
        """Returns any optimizer: `trained` has to be compiled, but makes no step."""
        return keras.optimizers.SGD()

    def fit(
        self,
        model: TransferModel,
        trained: Any,
        train: Callable[[int], Any],
        validation: Any,
        *,
        beside: Any = None,
        metric: str | None,
        start: loop.State,
        first: int,
        seed: int,
        folder: Path,
        callbacks: Sequence[Any],
    ) -> loop.State:
        """Sets the head if that is better than what it was; the chief does, and all load it."""
        if loop.resumed(trained, folder) is None and hardware.is_chief():
            balance: Balance | None = trained.balance
            head, summarized = self._head(model, balance), trained.summarized
            weigh, ones = (balance.fixed, _ones) if balance else (None, None)
            rows = Rows(functools.partial(train, first), summarized, head, weigh)
            checked = Rows(lambda: validation, summarized, head, ones) if validation else None
            others = [Rows(lambda: beside, summarized, head)] if beside else []
            solution, rows, checked = self.solved(head, rows, checked, metric, seed, *others)
            logs = self.learned(head, rows, solution)
            if checked:
                measured = head.measured(checked, [(solution, checked.ones())])
                logs |= {f"val_{name}": value for name, value in measured.items()}
            print(f"  solved  {loop.as_text(logs)}")
            score = loop.scored(logs, metric, first)
            if score < start.best:
                head.assign(solution)
            loop.write(trained, loop.State(1, min(score, start.best), 1, history=(logs,)), folder)
        hardware.meet(f"{folder.name} with a solved head")
        state = loop.resumed(trained, folder)
        assert state is not None  # The chief has written it.
        return state

    def _head(self, model: TransferModel, balance: Balance | None) -> LinearHead:
        """Returns the head of a model, with the functions that an earlier fit has traced."""
        if balance:
            return LinearHead(model, self.member, balance)
        key = ("linear head", self.member)
        if key not in model.traced:
            model.traced[key] = LinearHead(model, self.member)
        return model.traced[key]


def require_label(task: Task, asker: str) -> None:
    """Raises ValueError unless a task has one label of each example; `asker` is who needs it."""
    if task.reads != ("label",):
        raise ValueError(
            f"{asker} needs one label of each example; {task.name} reads "
            f"{', '.join(map(repr, task.reads))}. Use probe or fine_tune."
        )


def _ones(cells: Any) -> Any:
    """Returns weights of validation examples: all count equally in their loss."""
    return tf.ones(tf.shape(cells))
