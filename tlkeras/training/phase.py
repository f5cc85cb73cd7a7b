"""Phase: a part of a schedule that gradient descent fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tlkeras import hardware
from tlkeras.augment import Augment
from tlkeras.frameworks import keras
from tlkeras.spec import Spec
from tlkeras.training import layer_decay, loop
from tlkeras.training.fused import fused
from tlkeras.training.planned import planned
from tlkeras.training.rate_finder import Sweep

if TYPE_CHECKING:
    from tlkeras.data.batches import Data
    from tlkeras.model.transfer_model import TransferModel


_OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "rmsprop": "RMSprop"}


class Phase(Spec, name="phase"):
    """A compile and a fit of the head and of the blocks it unfreezes.

    `unfreeze` names blocks as in `TransferModel.chosen`: ``'block_13'`` (from there to the end),
    ``('conv4', 'conv5')`` (only these), ``0.3`` (the last 30 %), ``'all'``, or ``()`` (only the
    head). ``learning_rate='auto'`` takes the suggestion of a sweep before the phase, see
    `rate_finder`; the logs have it. `warmup` is the fraction of steps in which the rate rises from
    0. `clip` bounds the norm of all gradients together; 0 is off. `patience` counts epochs; 0 never
    stops early. `augment` changes every picture anew in every epoch. With `views`, epoch ``e`` uses
    view ``e % views`` of a fixed number of changed copies; the feature cache can hold their
    features. `batch_norm` also trains the batch norms of unfrozen blocks, with a momentum of at
    most 0.9. The rate of the last block is `layer_decay` times that of the head, the rate of the
    block before it `layer_decay` times that of the last, and so on, in each tower. The ``cosine``
    schedule falls to 0 at the phase's end. Optimizers have Keras's defaults, but `weight_decay` is
    0, also for ``adamw``.
    """

    is_alone: ClassVar[bool] = False
    """Whether each worker gets all examples instead of its share of them."""

    epochs: int = 5
    learning_rate: float | Literal["auto"] = 1e-3
    unfreeze: str | float | tuple[str, ...] = ()
    batch_norm: bool = False
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = "adam"
    weight_decay: float = 0.0
    layer_decay: float = 1.0
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: float = 0.0
    clip: float = 0.0
    augment: tuple[Augment, ...] = ()
    views: int = 0
    patience: int = 0

    def validate(self):
        self.require(self.epochs >= 1, "epochs", "at least 1")
        is_rate = self.learning_rate == "auto" or self.learning_rate > 0
        self.require(is_rate, "learning_rate", "a rate above 0, or 'auto'")
        self.require(0 <= self.warmup < 1, "warmup", "a fraction of the steps in [0, 1)")
        self.require(self.weight_decay >= 0, "weight_decay", "at least 0")
        self.require(0 < self.layer_decay <= 1, "layer_decay", "a factor in (0, 1]")
        self.require(self.clip >= 0, "clip", "a norm above 0, or 0 for none")
        self.require(self.patience >= 0, "patience", "at least 0 epochs")
        self.require(self.views >= 0, "views", "a number of views, or 0 for new ones every epoch")
        if self.views and not self.augment:
            raise ValueError("phase.views without augment: all views would be the same.")
        self.require(self.views <= self.epochs, "views", f"at most the {self.epochs} epochs")
        if self.views and (mixing := [str(each) for each in self.augment if each.mixes]):
            raise ValueError(
                f"phase.views with {mixing[0]}, which mixes the pictures of a batch: a cached view "
                "has no pictures to mix. Use views=0."
            )
        if isinstance(self.unfreeze, float):
            self.require(0 < self.unfreeze <= 1, "unfreeze", "a fraction in (0, 1]")
        if self.weight_decay and self.optimizer == "adam":
            raise ValueError("phase.weight_decay with optimizer='adam': use optimizer='adamw'.")

    def compiled_optimizer(
        self, steps: int, factors: Mapping[int, float] | None = None
    ) -> keras.optimizers.Optimizer:
        """Returns a new optimizer for a phase of `steps` steps.

        `factors` of the learning rate, by the id of the variable, are those of `layer_decay`.
        """
        rate: Any = self.learning_rate
        schedules, warm = keras.optimizers.schedules, self.warmup
        if self.schedule == "cosine":
            start = 0.0 if warm else 1.0
            rate = planned(
                schedules.CosineDecay(start, 1 - warm, 0.0, "cosine", 1.0, warm), rate, steps
            )
        elif warm:
            rate = planned(schedules.PolynomialDecay(0.0, warm, 1.0), rate, steps)
        decay = self.weight_decay
        kind = _kind(self.optimizer)
        options: dict[str, Any] = {"learning_rate": rate, "global_clipnorm": self.clip or None}
        if self.layer_decay < 1:
            kind = _kind("adam") if self.optimizer == "adamw" else kind
            return layer_decay.scaled(kind, factors or {}, decay, **options)
        # AdamW requires a number; for the others 0 would compute without effect.
        return kind(**options, weight_decay=decay if self.optimizer == "adamw" else decay or None)

    def settled(self, swept: Callable[[Phase], Sweep]) -> Phase:
        """Returns the phase with a number as its rate.

        `swept` returns the sweep of a phase of a constant rate, whatever that is.
        """
        if self.learning_rate != "auto":
            return self
        constant = self.replace(learning_rate=1.0, schedule="constant", warmup=0.0)
        return self.replace(learning_rate=swept(constant).suggestion)

    def require_fit(self, model: TransferModel, data: Data, start: str) -> None:
        """Raises ValueError if it cannot fit this model, whose blocks from `start` on change.

        A schedule asks all its parts before the first begins. A phase fits every model, but a task
        that compares the examples of a batch needs all of them on one device. What it asks of the
        data, `augment` and `patience`, they have to have.
        """
        if self.augment:
            data.shuffled("train", 0, self.augment)  # It traces the changes, and reads nothing.
        if self.patience and not data.count("validation"):
            raise ValueError(
                f"phase.patience is {self.patience}, and there is no validation split to tell when "
                'to stop; give one, such as by --split="split(validation=20)", or leave patience '
                "out."
            )
        if not model.task.compares:
            return
        if hardware.replicas() > 1:
            raise ValueError(
                f"{model.task.name} compares the examples of a batch, of which each of "
                f"{hardware.replicas()} devices has a part; use --strategy=one_device."
            )
        if data.batch_size < 2:
            raise ValueError(
                f"--batch_size is {data.batch_size}, and {model.task.name} compares the examples "
                "of a batch; use at least 2."
            )

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
        """Fits the compiled part `trained` of a model; the other arguments are of `loop.fit`."""
        return loop.fit(
            trained,
            train,
            validation,
            metric=metric,
            start=start,
            first=first,
            epochs=self.epochs,
            patience=self.patience,
            seed=seed,
            folder=folder,
            callbacks=callbacks,
        )


def _kind(optimizer: str) -> Any:
    """Returns the class of an optimizer."""
    kind: Any = getattr(keras.optimizers, _OPTIMIZERS[optimizer])
    return fused(kind) if issubclass(kind, keras.optimizers.Adam) else kind
