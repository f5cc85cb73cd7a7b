"""Novelty in a report: how far examples lie from each other, and from where on one is strange."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tlkeras.doctor import novelty
from tlkeras.doctor.novelty import Novelty
from tlkeras.measures.measures import Curve, Table, View

_SHARES = (0.5, 0.2, 0.05, 0.01)
_DRAWN = 0.05  # The share whose threshold the chart shows.
_POINTS = 60  # Of a line.


def views(reference: np.ndarray, split: str) -> Sequence[View]:
    """Returns the distances of the rows of a reference, and thresholds; none of too few rows.

    Args:
        reference: Its features, [n, channels], see `doctor.samples`.
        split: The split that its examples are of.
    """
    if len(reference) < novelty.LEAST:
        return ()
    known = Novelty(reference)
    count = len(known.own)
    places = np.unique(np.linspace(0, count - 1, _POINTS).round().astype(int))
    lines = {f"{split} split": [[float(known.own[i]), 1 - i / count] for i in places]}
    if (drawn := known.threshold(_DRAWN)) is not None:
        lines[f"threshold of {100 * _DRAWN:g} %"] = [[drawn, 0.0], [drawn, 1.0]]
    note = (
        f"Each of {count:,} examples of the {split} split by the mean distance of the direction of "
        f"its features to the {novelty.NEIGHBOURS} nearest others. With bulk_inferrer --novelty "
        "new examples are compared with these, which needs no label. Each threshold is chosen so "
        "that its share of these examples lies beyond it. New ones of the same distribution do "
        "so about as often; more of them say that the data have changed. Training examples set "
        "none: the model may be fitted to them, and any new example would then look far from them. "
        "What is near is not therefore right, nor what is far wrong."
    )
    rows = [(share, known.threshold(share)) for share in _SHARES]
    how = "Set by the examples above; empty where they are too few for it."
    return (
        Curve("How usual examples are", "distance", "share at least so far", lines, note),
        Table("From where on an example is strange", ["novelty_p", "distance"], rows, how),
    )
