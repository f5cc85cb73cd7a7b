"""Reference: the sample of those examples on which a model is measured; see `samples`.

The model was not fitted to them. To the features of its training examples it was: against these,
new examples of the same distribution would look like others.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from tlkeras.data import records
from tlkeras.data.batches import Data
from tlkeras.data.records import Records
from tlkeras.doctor import answers, samples, traits
from tlkeras.doctor.samples import Gathering, Sample, Seen

_TOGETHER = 32  # Records in memory.


class Reference:
    """The sample of a split, gathered while its batches run through the model."""

    def __init__(self, data: Data, split: str) -> None:
        """Reads what is seen of a random choice of the examples, the same for as many of them."""
        count = data.count(split)
        # This generator alone gives the same numbers in all versions of NumPy.
        numbers = np.sort(np.random.RandomState(0).permutation(count)[: samples.ROWS])
        self._data, self._gathering = data, Gathering()
        found = {identity: (int(n), seen) for n, identity, seen in _recorded(data, split, numbers)}
        for row in traits.read(data.folder):
            if row.identity in found:
                n, seen = found[row.identity]
                of_traits = itertools.starmap(samples.of_traits, row.traits.items())
                found[row.identity] = n, samples.merged(seen, *of_traits)
        self._seen = {n: (identity, seen) for identity, (n, seen) in found.items()}

    def add(self, served: Mapping[str, np.ndarray], features: np.ndarray, first: int) -> None:
        """Adds what a batch was served with, whose first example has the number `first`."""
        answered = answers.columns(self._data.task.outputs(), served, self._data.classes)
        chosen = [place for place in range(len(features)) if first + place in self._seen]
        ids = [self._seen[first + place][0] for place in chosen]
        seen = [samples.merged(self._seen[first + place][1], answered[place]) for place in chosen]
        self._gathering.add(ids, seen, features[chosen])

    def sample(self) -> Sample:
        """Returns the sample of all examples added."""
        return self._gathering.sample()


def _recorded(data: Data, split: str, numbers: np.ndarray) -> Iterator[tuple[int, str, Seen]]:
    rows, kinds = Records(data.folder, split), data.info.features
    for start in range(0, len(numbers), _TOGETHER):
        some = numbers[start : start + _TOGETHER]
        for number, record in zip(some, rows.read(some), strict=True):
            identity, values = records.values(record, kinds)
            yield number, identity, samples.of_values(values, kinds, data.classes)
