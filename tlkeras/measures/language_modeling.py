"""Measures of the probability of texts: perplexity, bits a byte, and the share of right pieces.

NumPy alone; sums over texts, which are the independent examples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tlkeras.measures.checks import FINITE, require
from tlkeras.measures.estimates import Ratio
from tlkeras.measures.measures import Example, Gallery, Measures, Scalar

SHOWN = 6
"""So many of the least and of the most probable texts are shown."""


class LanguageTally:
    """Sums over texts.

    ``perplexity`` is the exponential of the mean negative logarithm of the probability of a piece;
    it depends on how texts are cut into pieces. ``bits_per_byte`` does not: it is what the texts
    would take, compressed, in bits for each byte of UTF-8. It is of the texts that fit into the
    network's length, and left out if none does. A first piece that the network reads nothing before
    is not predicted: it costs no bits though its bytes count, so of short texts the number is too
    low, and not to be compared with that of a network that predicts it. ``accuracy`` is the share
    of the pieces that are the most probable ones. Intervals are those of ratios of sums over texts
    (delta method).
    """

    def __init__(self) -> None:
        """Begins with no text."""
        self._nats, self._bits, self._right = Ratio(), Ratio(), Ratio()
        self._count = self._cut = 0
        # Mean logarithm of a piece and number of the text, of those to show.
        self._least: list[tuple[float, int]] = []
        self._most: list[tuple[float, int]] = []

    def add(self, target: np.ndarray, served: Mapping[str, Any], first: int) -> None:
        """Adds the bytes of texts, [b, 1], and what was served of each piece, [b, n]."""
        bytes_of = np.asarray(target, np.float64)
        logs, counted, right = (
            np.asarray(served[name], np.float64)
            for name in ("log_probabilities", "counted", "right")
        )
        require("targets", bytes_of, (len(logs), 1), first, [FINITE])
        for name, values in (("logarithms", logs), ("counts", counted), ("pieces", right)):
            require(name, values, counted.shape, first, [FINITE])
        losses, pieces = -logs.sum(axis=1), counted.sum(axis=1)
        # The last place has no next piece; where the one before it has, more may have been cut off.
        is_cut = counted[:, -2] > 0 if counted.shape[1] > 1 else np.ones(len(logs), bool)
        self._nats.add(losses, pieces)
        self._right.add(right.sum(axis=1), pieces)
        whole = ~is_cut & (pieces > 0)
        self._bits.add(losses[whole] / math.log(2), bytes_of[whole, 0])
        self._count += len(logs)
        self._cut += int(is_cut.sum())
        rated = [(losses[i] / pieces[i], first + i) for i in range(len(logs)) if pieces[i]]
        self._least = sorted([*self._least, *rated], reverse=True)[:SHOWN]
        self._most = sorted([*self._most, *rated])[:SHOWN]

    def measures(self) -> Measures:
        """Returns the measures of all texts added."""
        if not self._count:
            raise ValueError("There is no example to measure.")
        scalars = {"perplexity": _perplexity(self._nats)}
        if self._bits.whole:
            scalars["bits_per_byte"] = self._bits.rate
        scalars["accuracy"] = self._right.scalar
        remarks = []
        if self._cut:
            remarks.append(
                f"{self._cut:,} of {self._count:,} texts fill the length of the network and may "
                "have been cut; their bits per byte are not measured."
            )
        return Measures(
            primary="perplexity",
            count=self._count,
            scalars=scalars,
            views=[
                _gallery("Least probable", self._least, "The texts that surprise the model most."),
                _gallery("Most probable", self._most, "The texts that surprise the model least."),
            ],
            remarks=remarks,
        )


def _perplexity(nats: Ratio) -> Scalar:
    if not nats.whole:  # Such as of a group whose only text is one piece, which nothing predicts.
        return Scalar(0.0, more_is_better=False, is_defined=False)
    rate = nats.rate
    interval = rate.interval and (_exp(rate.interval[0]), _exp(rate.interval[1]))
    return Scalar(_exp(rate.value), interval, more_is_better=False)


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))  # Above, the number is infinite.


def _gallery(title: str, found: list[tuple[float, int]], note: str) -> Gallery:
    examples = [Example(number, f"perplexity {_exp(loss):.4g}") for loss, number in found]
    return Gallery(title, examples, note)
