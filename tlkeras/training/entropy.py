"""Entropy: chance that nobody can repeat, from the cryptographic source of the operating system.

Privacy rests on noise and samples that stay secret. So no seed decides them, and none is kept.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence

import numpy as np

# The low bits of one float64 of noise can betray the sum below it; those of four together cannot
# (Holohan and Braghin 2021, https://arxiv.org/abs/2107.10138).
_SUMMANDS = 4


def uniform(count: int) -> np.ndarray:
    """Returns float64 [count] within (0, 1), each of 2**53 numbers equally likely."""
    whole = np.frombuffer(secrets.token_bytes(8 * count), np.uint64) >> np.uint64(11)
    return (whole + 0.5) * 2.0**-53


def normal(shape: Sequence[int]) -> np.ndarray:
    """Returns float64 numbers of a normal distribution of mean 0 and deviation 1."""
    from scipy import special

    total = np.zeros(math.prod(shape))
    for _ in range(_SUMMANDS):
        total += special.ndtri(uniform(total.size))
    return (total / math.sqrt(_SUMMANDS)).reshape(shape)
