"""Measures of two domains: those of the target, with the source's beside them, and the gap."""

from __future__ import annotations

import dataclasses
import math

from tlkeras.measures.measures import Measures, Scalar, Table


def compared(target: Measures, source: Measures) -> Measures:
    """Returns the measures of the target with the primary one of the source, and the ``gap``.

    The gap is by how much the target is worse than the source, in the unit of the measure; below 0
    it is better.
    """
    name = target.primary
    gap = _gap(source.score, target.score)
    rows = [
        (domain, each.split, each.count, each.score.value, *(each.score.interval or (None, None)))
        for domain, each in (("source", source), ("target", target))
    ]
    table = Table(
        "Domains",
        ("domain", "split", "examples", name.replace("_", " "), "from", "to"),
        rows,
        "From and to are the ends of the 95 % interval.",
    )
    scalars = {name: target.score, f"source_{name}": source.score, "gap": gap}
    return dataclasses.replace(
        target, scalars=scalars | dict(target.scalars), views=[table, *target.views]
    )


def _gap(source: Scalar, target: Scalar) -> Scalar:
    """Returns by how much the target is worse.

    Its interval, where both have one, is made of the two by Newcombe's method (1998, number 10).
    """
    better, worse = (source, target) if source.more_is_better else (target, source)
    value = better.value - worse.value
    if not (better.interval and worse.interval):
        return Scalar(value, more_is_better=False)
    below = math.hypot(better.value - better.interval[0], worse.interval[1] - worse.value)
    above = math.hypot(better.interval[1] - better.value, worse.value - worse.interval[0])
    return Scalar(value, (value - below, value + above), more_is_better=False)
