"""Reading: the decoded examples of a split, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import spec
from tlkeras.data import records
from tlkeras.data.records import Records, info
from tlkeras.frameworks import PARALLEL, as_written, tf, untuned

# Records fetched by one call into Python.
_FETCHED = 32


def dataset(
    folder: Path,
    split: str,
    order: np.ndarray | None = None,
    keys: Sequence[str] | None = None,
    least: int | None = None,
) -> Any:
    """Returns a tf.data.Dataset of decoded examples, dicts of what `records.decode` gives.

    Args:
        folder: What `write` wrote.
        split: One of the splits in it.
        order: Numbers of the examples wanted, int64 [n]; file order if None.
        keys: The features to decode, ``id`` apart; all if None.
        least: How many pixels a side of a large JPEG has to keep; all if None.
    """
    held = info(folder)
    for name, known in [(split, [*held.counts]), *((key, [*held.features]) for key in keys or ())]:
        if name not in known:
            raise ValueError(f"No {name!r} in {folder}; {spec.nearest(name, known)}")
    kinds = {key: kind for key, kind in held.features.items() if keys is None or key in keys}
    rows = Records(folder, split)
    order = np.arange(len(rows)) if order is None else order

    def fetch(indices: np.ndarray) -> np.ndarray:
        return np.array(rows.read(indices), dtype=object)

    def fetched(indices: Any) -> Any:
        found = tf.numpy_function(fetch, [indices], tf.string, stateful=False)
        return tf.ensure_shape(found, [None])

    return (
        untuned(tf.data.Dataset.from_tensor_slices(np.asarray(order, np.int64)))
        .batch(_FETCHED)
        .map(as_written(fetched), num_parallel_calls=2, deterministic=True)
        .unbatch()
        .apply(tf.data.experimental.assert_cardinality(len(order)))
        .map(
            as_written(lambda record: records.decode(record, kinds, least)),
            num_parallel_calls=PARALLEL,
            deterministic=True,
        )
    )
