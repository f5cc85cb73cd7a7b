"""Membership: how well an attacker tells the training examples of a model from others.

Both attacks see the loss of each example, and higher scores are taken for members:

- the loss threshold, a lower loss (Yeom et al. 2018, https://arxiv.org/abs/1709.01604), which also
  finds what else sets the two kinds of examples apart;
- the likelihood ratio, LiRA, of the loss between heads that were trained with the example and heads
  that were not (Carlini et al. 2022, https://arxiv.org/abs/2112.03570), which allows for how hard
  the example is.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from tlkeras.measures.measures import Curve, Measures, Scalar, Table, interval

THRESHOLD, RATIO = "loss threshold", "likelihood ratio"
"""The names of the attacks."""

RATES = (0.001, 0.01, 0.1)
"""Shares of others that an attacker may take for members; the least that others can show counts."""

_PUBLIC = (
    "These figures are not private, whatever the training was: the attacks look at the training "
    "examples themselves. Do not publish them with a model that is to protect its examples."
)
_DRAWS = 1000  # Of the bootstrap.
_POINTS = 60  # Of a line.
_SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")


def confidence(losses: np.ndarray) -> np.ndarray:
    """Returns ``log(p / (1 - p))`` of ``p = exp(-loss)``, which is about normal over many heads."""
    losses = np.maximum(losses, 1e-16)
    return np.where(losses > 30, -losses, -np.log(np.expm1(np.minimum(losses, 30))))


def likelihood_ratios(found: np.ndarray, shadows: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Returns the log-likelihood ratio of each example, float64 [n]; large for members.

    Args:
        found: The confidence of the attacked model in each, [n].
        shadows: That of each shadow head, [heads, n].
        inside: Which examples each shadow head was trained with, bool [heads, n].
    """
    ratio = np.zeros(len(found))
    for chosen, sign in ((inside, 1), (~inside, -1)):
        values = np.ma.masked_array(shadows, ~chosen)
        mean, deviation = values.mean(axis=0).filled(0), values.std(axis=0).filled(0)
        deviation = deviation + 1e-9
        ratio -= sign * (np.square((found - mean) / deviation) / 2 + np.log(deviation))
    return ratio


@dataclasses.dataclass(frozen=True)
class Attack:
    """The scores of members and of others, float64; higher ones are taken for members."""

    members: np.ndarray
    others: np.ndarray

    @property
    def rate(self) -> float | None:
        """The least of `RATES` of which one of the others is a part; None if they are too few."""
        return next((rate for rate in RATES if _allowed(rate, len(self.others))), None)

    @property
    def auc(self) -> Scalar:
        """How often a member has a higher score than another example; ties count half."""
        return Scalar(self._auc(*self._ones()), self._interval(self._auc), more_is_better=False)

    def caught(self, rate: float) -> Scalar:
        """Returns the share of members above a score that at most so many of the others exceed."""
        most = _allowed(rate, len(self.others))

        def share(members: np.ndarray, others: np.ndarray) -> float:
            return self._share(members, others, most)

        value = share(*self._ones())
        low, high = self._interval(share)
        # Of few that are caught the bootstrap knows too little.
        least, largest = interval(round(value * len(self.members)), len(self.members))
        return Scalar(value, (min(low, least), max(high, largest)), more_is_better=False)

    def points(self) -> list[list[float]]:
        """Returns the logarithms, base 10, of false and of true positives by falling threshold."""
        count = len(self.others)
        found = []
        for most in np.unique(np.geomspace(1, count, _POINTS).astype(int)):
            share = self._share(*self._ones(), int(most))
            if share:
                found.append([float(np.log10(most / count)), float(np.log10(share))])
        return found

    def _ones(self) -> tuple[np.ndarray, np.ndarray]:
        return np.ones(len(self.members)), np.ones(len(self.others))

    def _auc(self, members: np.ndarray, others: np.ndarray) -> float:
        """Returns it with a weight for each member and, in rising order of scores, each other."""
        below = np.concatenate([[0.0], np.cumsum(others)])
        first, last = self._places
        sums = (members * (below[first] + below[last])).sum()
        return float(sums / 2 / members.sum() / others.sum())

    def _share(self, members: np.ndarray, others: np.ndarray, most: int) -> float:
        beyond = np.cumsum(others[::-1]) > most
        if not beyond.any():
            return 1.0
        least = self._rising[::-1][beyond.argmax()]
        return float(members[self.members > least].sum() / members.sum())

    @functools.cached_property
    def _rising(self) -> np.ndarray:
        return np.sort(self.others)

    @functools.cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """How many others each member exceeds, and how many it does at least equal."""
        first, last = (np.searchsorted(self._rising, self.members, side) for side in _SIDES)
        return first, last

    def _interval(self, value: Callable[[np.ndarray, np.ndarray], float]) -> tuple[float, float]:
        """Returns the 95 % interval of a function of weights, by the bootstrap; always the same."""
        random = np.random.default_rng(0)
        sizes = len(self.members), len(self.others)
        drawn = [
            value(*(np.bincount(random.integers(0, size, size), minlength=size) for size in sizes))
            for _ in range(_DRAWS)
        ]
        low, high = np.quantile(drawn, [0.025, 0.975])
        return float(low), float(high)


def measured(
    attacks: Mapping[str, Mapping[str, Attack]],
    fits: Mapping[str, Mapping[str, float]],
    remarks: Sequence[str] = (),
) -> Measures:
    """Returns what attacks show: of each model by its name, each attack by its name.

    The first model is the one that the remarks are about. `fits` are the metrics of each, which
    show what its privacy costs.
    """
    models = iter(attacks)
    first = next(models)
    some = next(iter(attacks[first].values()))
    rate = some.rate
    scalars: dict[str, Scalar] = {}
    rows = []
    for model, own in attacks.items():
        for name, attack in own.items():
            found = [attack.auc, *([attack.caught(rate)] if rate else [])]
            cells = [cell for each in found for cell in (each.value, _as_text(each))]
            rows.append([f"{model}, {name}", *cells])
            if model == first:
                titles = (f"{name}_auc", f"{name}_caught")
                scalars |= {
                    title.replace(" ", "_"): each
                    for title, each in zip(titles, found, strict=False)
                }
    columns = ["attack", "AUC", "95 % interval"]
    if rate:
        columns += [f"caught at {_percent(rate)} false alarms", "95 % interval of it"]
    note = (
        "AUC is how often an attacker puts an example of the training before another one; 0.5 is "
        "chance. Caught are examples of the training beyond a score that few others exceed: those "
        "few are the false alarms. Intervals are by the bootstrap over examples. The loss "
        "threshold also finds if examples of the test split are harder by themselves; the "
        "likelihood ratio allows for that. That attacks find nothing proves no privacy: better "
        "ones may."
    )
    lines = {
        f"{model}, {name}": attack.points()
        for model, own in attacks.items()
        for name, attack in own.items()
    }
    least = -np.log10(len(some.others))
    lines["chance"] = [[float(least), float(least)], [0.0, 0.0]]
    drawn = Curve(
        "Membership",
        "false positive rate, power of 10",
        "true positive rate, power of 10",
        lines,
        "Above the line of chance an attacker learns who was in the training.",
    )
    primary = next(iter(scalars))
    return Measures(
        primary=primary,
        count=len(some.members) + len(some.others),
        scalars=scalars,
        views=[Table("Membership", columns, rows, note), drawn, _fitted(fits)],
        remarks=[*_known(attacks[first]), *_too_few(some), _PUBLIC, *remarks],
        split="train and test",
    )


def _fitted(fits: Mapping[str, Mapping[str, float]]) -> Table:
    columns = ["head", *dict.fromkeys(name for found in fits.values() for name in found)]
    rows = [[name, *(found.get(column) for column in columns[1:])] for name, found in fits.items()]
    note = (
        "The difference of the test columns is what this model pays for what attacks do not find. "
        "The plain head has the penalty that is best for the test examples, so it looks a little "
        "better than one chosen otherwise."
    )
    return Table("Beside a plain head", columns, rows, note)


def _too_few(attack: Attack) -> Iterator[str]:
    count, least = len(attack.others), RATES[0]
    if attack.rate != least:
        shown = f"at {_percent(attack.rate)} are shown instead" if attack.rate else "none is shown"
        yield (
            f"{count:,} examples outside the training are too few for a false positive rate of "
            f"{_percent(least)}, which takes {round(1 / least):,}: those caught {shown}."
        )


def _known(attacks: Mapping[str, Attack]) -> Iterator[str]:
    if RATIO in attacks:
        found = attacks[RATIO].auc
        if found.interval and found.interval[0] > 0.5:
            yield (
                "Whoever has an example and this model can tell better than by chance whether it "
                f"was in the training: the AUC of the {RATIO} is {found.value:.3f}."
            )


def _allowed(rate: float, count: int) -> int:
    """Returns how many of so many others are at most a share of them, against rounding."""
    return int(rate * count + 1e-9)


def _as_text(scalar: Scalar) -> str:
    return " to ".join(f"{end:.4f}" for end in scalar.interval or ())


def _percent(rate: float) -> str:
    return f"{100 * rate:g} %"
