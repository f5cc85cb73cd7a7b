"""Measures of two domains: those of the target, with the source's beside them, and the gap."""

from __future__ import annotations

import dataclasses

from tlkeras.measures.estimates import difference
from tlkeras.measures.measures import Measures, Table


def compared(target: Measures, source: Measures) -> Measures:
    """Returns the measures of the target with the primary one of the source, and the ``gap``.

    The gap is by how much the target is worse than the source, in the unit of the measure; below 0
    it is better.
    """
    name = target.primary
    gap = difference(source.score, target.score)
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


def of_source(found: Measures) -> Measures:
    """Returns measures of the source that say so, where no example can measure the target."""
    remark = (
        "Nothing was measured on the target, as it has no test split with labels. These "
        f"{found.count:,} examples are of the source, for which an adapted head is not made, so "
        "they do not tell how good the model is on the target."
    )
    return dataclasses.replace(found, remarks=[remark, *found.remarks])
