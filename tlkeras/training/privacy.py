"""Privacy: how much noise makes a training differentially private, and what it then guarantees.

Two sets of training examples are neighbours if one has one example more. A training is private if
no result is more than ``exp(epsilon)`` times as likely on one of them as on the other, but for a
probability of `delta` (Dwork and Roth 2014, https://doi.org/10.1561/0400000042).
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import math
from typing import Any

from tlkeras.measures.measures import Table

# The steps of the accountant's grid, for the search and for what is stated. Both err upwards only;
# ten times finer ones changed no digit of five and took ten times as long.
_ROUGH, _FINE = 1e-3, 1e-4

# Below this multiplier of the noise the grid is too long to fill the memory with.
_LEAST = 0.2


@dataclasses.dataclass(frozen=True)
class Training:
    """The parts of a private training that decide what it guarantees.

    Every step takes each example with the probability `sampling_rate`, clips its gradient, and adds
    normal noise to the sum. `noise` is the deviation of that as a multiple of the clipping norm.
    Before the first step the features of all examples, of length 1, are summed with `sum_noise`.
    """

    noise: float
    sampling_rate: float
    steps: int

    @property
    def sum_noise(self) -> float:
        """The deviation of the noise of the sum: by the number of examples it is that of a step."""
        return self.noise / self.sampling_rate

    def epsilon(self, delta: float, grid: float = _FINE) -> float:
        """Returns the epsilon of a delta, by the accountant of privacy loss distributions."""
        return float(_accountant(grid).compose(self._event()).get_epsilon(delta))

    def drowned(self, count: int, weights: int) -> float:
        """Returns the norm of all noise by that of all gradients, if each of these is clipped.

        From 1 on, no direction of the gradients can be told from chance.
        """
        signal = self.sampling_rate * count * math.sqrt(self.steps)
        return self.noise * math.sqrt(weights) / signal

    def _event(self) -> Any:
        library = _library()
        noise = library.GaussianDpEvent(self.noise)
        step = library.PoissonSampledDpEvent(self.sampling_rate, noise)
        steps = library.SelfComposedDpEvent(step, self.steps)
        return library.ComposedDpEvent([library.GaussianDpEvent(self.sum_noise), steps])


@functools.cache
def solved(epsilon: float, delta: float, sampling_rate: float, steps: int) -> Training:
    """Returns the training with the least noise that keeps to an epsilon and a delta."""
    library, grid = _library(), _ROUGH * max(epsilon, 1.0)

    def spent(noise: float) -> float:
        return Training(noise, sampling_rate, steps).epsilon(delta, grid)

    # The grid is as long as the noise is small, so that no end may be far below the solution.
    most = 1.0
    while spent(most) > epsilon:
        most *= 2
    while spent(most / 2) <= epsilon:
        most /= 2
    noise = library.calibrate_dp_mechanism(
        functools.partial(_accountant, grid),
        lambda noise: Training(noise, sampling_rate, steps)._event(),
        epsilon,
        delta,
        library.ExplicitBracketInterval(most / 2, most),
        tol=1e-4 * most,
    )
    return Training(float(noise), sampling_rate, steps)


def default_delta(count: int) -> float:
    """Returns ``n ** -1.1`` of n training examples.

    It has to be well below ``1 / n`` (Ponomareva et al. 2023, https://arxiv.org/abs/2303.00654).
    """
    return float(max(count, 2)) ** -1.1


def require_reachable(
    training: Training, epsilon: float, delta: float, count: int, weights: int
) -> None:
    """Raises ValueError, and what is reachable, if the noise would drown all gradients."""
    drowned = training.drowned(count, weights)
    if drowned < 1:
        return
    enough = math.ceil(count * drowned)
    possible = dataclasses.replace(training, noise=training.noise / drowned)
    reachable = ""
    if possible.noise >= _LEAST:
        reachable = f" Reachable with these examples is an epsilon of {possible.epsilon(delta):.2g}"
        reachable += f" at a delta of {delta:.2g}, but that little is learned of it; or"
    raise ValueError(
        f"private.epsilon is {epsilon:g}, too little for {count:,} training examples and "
        f"{weights:,} weights: the noise would be {drowned:.1f} times all gradients together."
        f"{reachable or ' Use'} about {enough:,} examples for this epsilon, or a backbone of fewer "
        "channels."
    )


def table(training: Training, epsilon: float, delta: float, clip: float, count: int) -> Table:
    """Returns what a training guarantees, and how, for report and card."""
    version = importlib.metadata.version("dp-accounting")
    rows = [
        ("epsilon", f"{epsilon:.4g}"),
        ("delta", f"{delta:.3g}"),
        (
            "protected",
            "the head, but for its bias in an int8 export, against whoever wonders about one "
            "training example",
        ),
        ("neighbouring data", "one example added or removed"),
        ("accountant", f"privacy loss distributions of dp-accounting {version}"),
        ("noise multiplier", f"{training.noise:.4g}"),
        ("noise of the sum of features", f"{training.sum_noise:.4g} times their length"),
        ("clipping norm", f"{clip:g}"),
        ("steps", f"{training.steps:,}"),
        ("sampling", f"Poisson, each example with probability {training.sampling_rate:g}"),
        ("training examples", f"{count:,}, a number that is not protected"),
    ]
    return Table(
        "Privacy",
        ["what", "value"],
        rows,
        "A result of the training is at most exp(epsilon) times as likely with any one example as "
        "without it, but for a probability of delta. Who has several examples in the training has "
        "the sum of their epsilons. Every further training on the same examples adds its own.",
    )


def _accountant(grid: float) -> Any:
    """Returns an empty accountant of pairs of examples of which one has one example more."""
    library = _library()
    return library.pld.PLDAccountant(
        library.NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=grid
    )


@functools.cache
def _library() -> Any:
    """Returns dp-accounting.

    Raises:
        ValueError: It is not installed.
    """
    try:
        import dp_accounting
        from dp_accounting import pld  # noqa: F401 - It is an attribute from here on.
    except ModuleNotFoundError as error:
        raise ValueError(
            f"private needs the package {error.name}: pip install 'tlkeras[private]'."
        ) from None
    return dp_accounting
