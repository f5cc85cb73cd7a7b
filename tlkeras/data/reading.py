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

# Records per call into Python.
_CHUNK = 32


def dataset(
    folder: Path,
    split: str,
    order: np.ndarray | None = None,
    keys: Sequence[str] | None = None,
    least: int | None = None,
) -> Any:
    """Returns a tf.data.Dataset of decoded examples, dicts from `records.decode`.

    Args:
        folder: A folder of `ingest.write_examples`.
        split: One of its splits.
        order: The numbers of the examples, int64 [n]; file order if None.
        keys: The features to decode, besides ``id``; all if None.
        least: The least pixels of a side of a reduced JPEG; None decodes in full.
    """
    about = info(folder)
    known_keys = [*about.features]
    for name, known in [(split, [*about.counts]), *((key, known_keys) for key in keys or ())]:
        if name not in known:
            raise ValueError(f"No {name!r} in {folder}; {spec.nearest(name, known)}")
    kinds = {key: kind for key, kind in about.features.items() if keys is None or key in keys}
    rows = Records(folder, split)
    order = np.arange(len(rows)) if order is None else order

    def fetch(indices: np.ndarray) -> np.ndarray:
        return np.array(rows.read(indices), dtype=object)

    def fetched(indices: Any) -> Any:
        encoded = tf.numpy_function(fetch, [indices], tf.string, stateful=False)
        return tf.ensure_shape(encoded, [None])

    return (
        untuned(tf.data.Dataset.from_tensor_slices(np.asarray(order, np.int64)))
        .batch(_CHUNK)
        .map(as_written(fetched), num_parallel_calls=2, deterministic=True)
        .unbatch()
        .apply(tf.data.experimental.assert_cardinality(len(order)))
        .map(
            as_written(lambda record: records.decode(record, kinds, least)),
            num_parallel_calls=PARALLEL,
            deterministic=True,
        )
    )
