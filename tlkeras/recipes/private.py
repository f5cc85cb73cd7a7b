"""Private: a linear head that tells next to nothing of any one training example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tlkeras import files, hardware, spec
from tlkeras.measures import measures
from tlkeras.recipe import Recipe
from tlkeras.training import privacy, schedule
from tlkeras.training.linear import LinearHead
from tlkeras.training.noisy_descent import NoisyDescent, require_form

if TYPE_CHECKING:
    from tlkeras.data.batches import Data
    from tlkeras.model.transfer_model import TransferModel

_FILE = "privacy.json"


class Private(Recipe, name="private"):
    """The head by differentially private gradient descent on frozen features, see `NoisyDescent`.

    The training is (`epsilon`, `delta`)-private for one example added or removed. The noise that
    this takes is solved by an accountant, see `privacy`. A `delta` of None is ``n ** -1.1`` of n
    training examples. `epochs` count passes over the data on average, each of ``1 / sampling_rate``
    steps. A smaller epsilon wants a smaller learning rate.

    Blocks stay frozen. The noise grows with the root of the number of weights: the last two of
    MobileNetV2 have 885,445, and with them it is twelve times that of a head of five classes. Nor
    do convolutions give the norm of one example's gradient, which here is 3.5 MB, in closed form.

    Chance is the operating system's, so two fits differ. A fit writes nothing before its end, so
    that a killed one has published nothing: another one begins anew, with other noise. Two finished
    fits on the same examples have both been paid for: their epsilons add up.
    """

    epsilon: float = 3.0
    delta: float | None = None
    clip: float = 0.3
    epochs: int = 40
    sampling_rate: float = 1.0
    learning_rate: float = 100.0
    cache: Literal["float16", "float32", "none"] = "float16"

    def validate(self):
        self.require(0 < self.epsilon <= 100, "epsilon", "above 0 and at most 100")
        in_range = self.delta is None or 1e-10 <= self.delta < 1
        self.require(in_range, "delta", "at least 1e-10 and below 1, or None")
        self.require(self.clip > 0, "clip", "a norm above 0")
        self.require(self.epochs >= 1, "epochs", "at least 1")
        self.require(0 < self.sampling_rate <= 1, "sampling_rate", "a share above 0, at most 1")
        self.require(self.learning_rate > 0, "learning_rate", "above 0")

    def remarks(self):
        return (
            "The training is private, see Privacy, but only that of the head. Not protected are "
            "the validation and the test split, on which one factor of all logits, options and "
            "measures depend; the number of examples of each class and the names of classes; "
            "options that somebody chose by looking at results on these examples.",
            "Not protected is what lies beside the model: examples and features in the store, "
            "statistics of the training split in the pushed folder, and what an int8 export takes "
            "from training examples: ranges of numbers and corrections of all biases, the head's "
            "too.",
            "What attacks find of who was in the training is in no pushed folder, because it would "
            "tell of training examples: tlkeras attack, with the flags of data, network and "
            "training that this run had, shows it.",
        )

    def views(self, folder):
        return [files.read_json(folder / _FILE)]

    def fit(self, model, data, folder, callbacks=(), shared=None):
        require_form(model)
        training, delta = self._training(model, data)
        logs = schedule.fit(
            self,
            model,
            data,
            folder,
            callbacks,
            shared,
            phases=(
                NoisyDescent(
                    training.noise,
                    training.sum_noise,
                    self.sampling_rate,
                    self.clip,
                    training.steps,
                    self.learning_rate,
                ),
            ),
            cache=self.cache,
        )
        if hardware.is_chief() and not (file := spec.path(folder) / _FILE).exists():
            count, epsilon = data.count("train"), training.epsilon(delta)
            stated = privacy.table(training, epsilon, delta, self.clip, count)
            files.write_json(file, measures.plain_view(stated))
        return logs

    def _training(self, model: TransferModel, data: Data) -> tuple[privacy.Training, float]:
        """Returns the training that keeps to epsilon, and delta.

        Raises:
            ValueError: Delta is too large, or epsilon too small, for so many examples.
        """
        count, kernel = data.count("train"), LinearHead(model, self.member).zeros()[0]
        delta = privacy.default_delta(count) if self.delta is None else self.delta
        if delta * count >= 1:
            raise ValueError(
                f"private.delta is {delta:g}, expected less than 1 / {count:,} = {1 / count:.2g}, "
                "one by the number of training examples: with more, a training that publishes one "
                "of them as it is would count as private."
            )
        steps = max(1, round(self.epochs / self.sampling_rate))
        training = privacy.solved(self.epsilon, delta, self.sampling_rate, steps)
        weights = (len(kernel) + 1) * kernel.shape[1]
        privacy.require_reachable(training, self.epsilon, delta, count, weights)
        return training, delta
