"""Checks: served values that cannot be are refused by the number of their example."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

Check = tuple[Callable[[np.ndarray], np.ndarray], str]
"""Which rows of an array are wrong, bool [b], and what they are: ``are not finite``."""


def _apart(values: np.ndarray) -> Any:
    """Returns the values of each example in a row, [b, n]."""
    return values.reshape(len(values), math.prod(values.shape[1:]))


FINITE: Check = (lambda values: ~np.isfinite(_apart(values)).all(axis=-1), "are not finite")
SHARES: Check = (
    lambda values: ((_apart(values) < -1e-3) | (_apart(values) > 1 + 1e-3)).any(axis=-1),
    "are not in [0, 1]",
)


def require(
    what: str, values: np.ndarray, shape: tuple[int, ...], first: int, checks: Iterable[Check]
) -> None:
    """Raises ValueError unless the values of a batch have this shape and pass the checks.

    Args:
        what: They are, ``probabilities``.
        values: The array.
        shape: It has to have.
        first: The number of the first example.
        checks: What no example may be, the gravest first.
    """
    if values.shape != shape:
        raise ValueError(f"{what.capitalize()} have shape {values.shape}, expected {shape}.")
    for are_wrong, problem in checks:
        wrong = np.flatnonzero(are_wrong(values))
        if len(wrong):
            raise ValueError(
                f"The {what} of example {first + wrong[0]} {problem}: {row(values[wrong[0]])}."
            )


def row(values: np.ndarray) -> str:
    """Returns the values of one example for a message."""
    return np.array2string(values, precision=4, threshold=10, edgeitems=3)
