"""Conformal sets: the classes of an example that hold its label with a chosen probability.

Split conformal prediction: a score says how badly a class suits an example. A class is in the set
if its score is at most the threshold, a quantile of the scores of the right classes on examples
that the model was not fitted to. Whatever the model, a set then holds the label of a new example
with at least that probability, if the new examples are drawn as those were (Vovk et al. 2005;
Angelopoulos and Bates 2023, https://arxiv.org/abs/2107.07511).
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tlkeras import files, spec
from tlkeras.measures.checks import FINITE, SHARES, require
from tlkeras.measures.estimates import mean_loss
from tlkeras.measures.measures import Measures, Scalar, Table, share
from tlkeras.spec import Spec
from tlkeras.task import Task

if TYPE_CHECKING:
    from tlkeras.data.batches import Data
    from tlkeras.model.transfer_model import TransferModel
    from tlkeras.recipe import Recipe

FILE = "sets.json"
"""Beside the measures of a model: the rule by which a client makes the sets."""

_SIZES = 5  # Sets of so many classes and more have one row together.


class Conformal(Spec):
    """A score of the classes of an example; its quantile is the threshold of the sets."""

    source: ClassVar[str]
    """Authors and link."""

    score: ClassVar[str]
    """What the score of a class is, in words for clients of other languages."""

    coverage: float = 0.9
    """How often at least a set holds the label."""

    def validate(self):
        self.require(0 < self.coverage < 1, "coverage", "a share above 0 and below 1")

    @abc.abstractmethod
    def scores(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns the score of every class, float64 [b, classes]; less suits better."""

    def rank(self, count: int) -> int:
        """Returns which of so many sorted scores is the threshold, from 1 on.

        One more than there are counts, the new example's: so the promise holds for any number.
        """
        return math.ceil((count + 1) * self.coverage - 1e-9)

    def require_examples(self, counts: Mapping[str, int]) -> None:
        """Checks, before a training, that sets can be made and measured after it.

        Args:
            counts: The number of examples by split.

        Raises:
            ValueError: No test split of any domain to measure on, or too few validation examples.
        """
        if not (counts.get("test") or counts.get("target_test")):
            raise ValueError(
                f"--conformal={self} needs a test split beside the validation split: what gives "
                'the threshold cannot measure it. Give more examples, or --split="split(test=20)".'
            )
        least = self.rank(0)
        while self.rank(least) > least:
            least += 1
        if (count := counts.get("validation", 0)) < least:
            raise ValueError(
                f"--conformal={self} needs at least {least} validation examples, as of fewer no "
                f"score is above a share of {self.coverage:g} of all; there are {count}. Give "
                'more examples, --split="split(validation=20)", or a smaller coverage.'
            )


class LAC(Conformal, name="lac"):
    """The score is 1 less the probability: the smallest sets on average, of some examples none.

    Sadinle et al. 2019, https://arxiv.org/abs/1609.00451.
    """

    source = "Sadinle et al. 2019, https://arxiv.org/abs/1609.00451"
    score = "1 less its probability"

    def scores(self, probabilities):
        return 1 - np.asarray(probabilities, np.float64)


class APS(Conformal, name="aps"):
    """The score is the probability of all classes before this one: sets grow where it is doubtful.

    Romano et al. 2020, https://arxiv.org/abs/2006.02544, without its random part: an example has
    one set, and none is empty. Where the model is right more often than `coverage` asks, a set is
    the most probable class and covers more. Equally probable classes are in their order.
    """

    source = "Romano et al. 2020, https://arxiv.org/abs/2006.02544, without its random part"
    score = "the sum of the probabilities of all more probable classes"

    def scores(self, probabilities):
        given = np.asarray(probabilities, np.float64)
        order = np.argsort(-given, axis=-1, kind="stable")
        ranked = np.take_along_axis(given, order, axis=-1)
        before = np.zeros_like(given)
        np.put_along_axis(before, order, np.cumsum(ranked, axis=-1) - ranked, axis=-1)
        return before


@dataclasses.dataclass(frozen=True)
class Sets:
    """The rule of the sets of one model.

    Attributes:
        conformal: The score, and how often at least a set holds the label.
        threshold: The largest score of a class in a set.
        examples: The number of those by which it was found.
        ties: How many of their scores are the threshold; if several, sets cover more than asked.
        groups: Of how many groups the examples are, such as patients; 0 if each is of its own.
    """

    conformal: Conformal
    threshold: float
    examples: int
    ties: int = 1
    groups: int = 0

    def chosen(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns which classes are in the set of each example, bool [b, classes]."""
        return self.conformal.scores(probabilities) <= self.threshold

    def named(self, probabilities: np.ndarray, classes: Sequence[str]) -> list[str]:
        """Returns the classes in the set of one example, the most probable first."""
        (chosen,) = self.chosen(probabilities[None])
        order = np.argsort(-probabilities, kind="stable")
        return [classes[int(place)] for place in order if chosen[place]]

    def write(self, folder: Path) -> None:
        """Writes the file `FILE`."""
        plain = {"conformal": self.conformal.full(), "score": self.conformal.score}
        rule = {"threshold": self.threshold, "examples": self.examples}
        found = {"ties": self.ties, "groups": self.groups}
        files.write_json(folder / FILE, plain | rule | found)


def read(folder: Path) -> Sets | None:
    """Returns the rule in a folder; None if it has none."""
    if not (folder / FILE).exists():
        return None
    plain = files.read_json(folder / FILE)
    # An earlier version wrote neither of the last two.
    rule = (plain["threshold"], plain["examples"], plain.get("ties", 1), plain.get("groups", 0))
    return Sets(spec.parse(plain["conformal"], Conformal), *rule)


def require_task(conformal: Conformal, task: Task) -> None:
    """Raises ValueError unless a task gives each example exactly one class."""
    if type(task).chances is Task.chances:
        raise ValueError(
            f"--conformal={conformal}: {task.name} does not give each example one of the classes, "
            "so no set of them can hold it; leave --conformal out, or use classification."
        )


def require_recipe(conformal: Conformal, recipe: Recipe) -> None:
    """Raises ValueError if the head is for examples that the validation split has none of."""
    if recipe.is_for_target:
        raise ValueError(
            f"--conformal={conformal} with --recipe={recipe.member}: validation examples give the "
            "threshold, which are of the source, and the head is for the target, of which the sets "
            "would promise nothing; leave --conformal out, or choose another --recipe."
        )


def fitted(conformal: Conformal, model: TransferModel, data: Data) -> Sets:
    """Returns the rule of the sets of a model; the validation split runs through it once."""
    scores = []
    for inputs, target in data.batches("validation"):
        served = {name: np.asarray(each) for name, each in model.predicted(inputs).items()}
        every = conformal.scores(model.task.chances(served))
        scores.append(every[np.arange(len(every)), np.asarray(target).argmax(axis=-1)])
    sets = of_scores(conformal, np.concatenate(scores))
    groups = data.info.groups.get("validation", 0)
    return dataclasses.replace(sets, groups=groups if groups < sets.examples else 0)


def of_scores(conformal: Conformal, scores: np.ndarray) -> Sets:
    """Returns the rule of the scores of the right classes, [n]; see `require_examples`."""
    threshold = np.sort(scores)[conformal.rank(len(scores)) - 1]
    return Sets(conformal, float(threshold), len(scores), int((scores == threshold).sum()))


class SetTally:
    """Counts of sets that hold the label, by class and by size.

    ``set_coverage`` is the share of the sets that hold it, ``set_size`` the mean number of classes.
    """

    def __init__(self, sets: Sets, task: Task, classes: Sequence[str]) -> None:
        """Begins with no example."""
        self._sets, self._task, self._classes = sets, task, tuple(classes)
        # By class and size: sets, and those that hold the label.
        self._counts = np.zeros([2, len(classes), len(classes) + 1], np.int64)

    def add(self, target: np.ndarray, served: Mapping[str, Any], first: int) -> None:
        """Adds one-hot targets [b, classes] and the served outputs of a batch."""
        chances, labels = self._task.chances(served), target.argmax(axis=-1)
        require("probabilities", chances, target.shape, first, [FINITE, SHARES])
        chosen = self._sets.chosen(chances)
        held = chosen[np.arange(len(labels)), labels]
        np.add.at(self._counts, (0, labels, chosen.sum(axis=-1)), 1)
        np.add.at(self._counts, (1, labels, chosen.sum(axis=-1)), held)

    def joined(self, found: Measures) -> Measures:
        """Returns measures with those of the sets."""
        coverage, size = _measured(self._counts)
        scalars = {"set_coverage": coverage, "set_size": size}
        remarks = []
        if self._is_too_low():
            cause = ": these examples are not as those of the validation split"
            remarks.append(
                f"The conformal sets hold the label of {coverage.value:.1%} of the examples, fewer "
                f"than the {self._sets.conformal.coverage:.1%} asked for"
                f"{'' if self._sets.groups else cause}."
            )
        return dataclasses.replace(
            found,
            scalars={**found.scalars, **scalars},
            views=[*found.views, self._by_class(), self._by_size()],
            remarks=[*found.remarks, *remarks],
        )

    def _is_too_low(self) -> bool:
        """Returns whether so few of the sets hold the label in 2.5 % of faultless runs at most.

        Both splits are drawn: the count has a beta-binomial distribution, see `_note`.
        """
        from scipy import stats  # No help text has to wait for it.

        tested, held = (int(part.sum()) for part in self._counts)
        known = self._sets.examples
        rank = self._sets.conformal.rank(known)
        return bool(stats.betabinom.cdf(held, tested, rank, known + 1 - rank) < 0.025)

    def _by_class(self) -> Table:
        rows = []
        for place, name in enumerate(self._classes):
            if (counts := self._counts[:, place : place + 1])[0].any():
                rows.append((name, *_row(counts)))
        return Table(
            TITLE,
            ("class", "examples", "holds the label", "from", "to", "mean size"),
            [("all", *_row(self._counts)), *rows],
            _note(self._sets),
            weakest="holds the label",
        )

    def _by_size(self) -> Table:
        sizes = [*range(min(_SIZES, len(self._classes) + 1))]
        parts = {str(size): self._counts[:, :, size : size + 1] for size in sizes}
        if len(self._classes) >= _SIZES:
            parts[f"{_SIZES} and more"] = self._counts[:, :, _SIZES:]
        rows = [
            (size, int(part[0].sum()), *_ends(share(int(part[1].sum()), int(part[0].sum()))))
            for size, part in parts.items()
            if part[0].any()
        ]
        note = "A set of one class is an answer; one of several says between which it is in doubt."
        if self._counts[0, :, 0].any():
            note += (
                " One of none has no class that is as probable as right ones usually are. Where "
                "the model is right more often than the coverage asks, LAC leaves sets empty: ask "
                "for more, or take aps."
            )
        columns = ("classes in the set", "examples", "holds the label", "from", "to")
        return Table(TITLE, columns, rows, note)


TITLE = "Conformal sets"
"""Of the section of the report."""


def _note(sets: Sets) -> str:
    """Returns what is promised; given one validation split, coverage has a beta distribution.

    Where scores are equal coverage is larger than that, and only the lower end holds.
    """
    from scipy import stats  # No help text has to wait for it.

    asked, count = sets.conformal, sets.examples
    rank = asked.rank(count)
    low, high = stats.beta.ppf([0.025, 0.975], rank, count + 1 - rank)
    gives = f"{low:.1%} to {high:.1%}, with a chance of 95 %"
    if sets.ties > 1:
        gives = (
            f"at least {low:.1%}, with a chance of 97.5 %, and may give far more: {sets.ties:,} of "
            "its scores are equal to the threshold"
        )
    if sets.groups:
        gives += (
            f", if its examples are independent; they are of {sets.groups:,} groups, such as "
            "patients, so one split may be further from what is asked"
        )
    return (
        f"{asked.member.upper()} ({asked.source}). On average over validation splits of {count:,} "
        f"examples, a set holds the label of at least {asked.coverage:.1%} of new examples that "
        f"are drawn as those were; one such split gives {gives}. Of one class it need not be so "
        f"many. A class is in the set if {asked.score} is at most {sets.threshold:.6g}; {FILE} has "
        "the rule. It is of float probabilities: those of int8 exports, in steps of 1/256, have no "
        "sets. From and to are the ends of the 95 % interval of the measured share."
    )


def _measured(counts: np.ndarray) -> tuple[Scalar, Scalar]:
    """Returns how often sets hold the label, and their mean size, of counts by class and size."""
    by_size = counts[0].sum(axis=0)
    count, sizes = int(by_size.sum()), np.arange(len(by_size))
    mean = mean_loss(np.array([by_size @ sizes, by_size @ sizes**2], np.float64), count)
    return share(int(counts[1].sum()), count), mean


def _row(counts: np.ndarray) -> tuple[Any, ...]:
    coverage, size = _measured(counts)
    return int(counts[0].sum()), *_ends(coverage), size.value


def _ends(scalar: Scalar) -> tuple[Any, ...]:
    return scalar.value, *(scalar.interval or (None, None))
