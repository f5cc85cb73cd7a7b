"""Outliers: examples whose features are like those of no class."""

from __future__ import annotations

import dataclasses

import numpy as np

from tlkeras.doctor.defects import Defect

DEFECT = "outlier"

# As Tukey's fence, so many times the distance of the quartiles beyond the third. Of clean photos
# (flower_photos, hymenoptera, dogcat) it finds 0.2 to 1.6 %. Of 7 cats and dogs among 3,670 flowers
# it found 5 with the starter and 2 with MobileNetV2; at 1.5 both found 5, of 1.1 to 3.1 % in all.
_FENCE = 2.0


@dataclasses.dataclass(frozen=True)
class Outlier:
    """An example that is far from every class.

    Attributes:
        number: Its place among those that were judged.
        distance: To the nearest class, as a multiple of the median distance.
    """

    number: int
    distance: float

    def defect(self, identity: str, split: str) -> Defect:
        """Returns the finding."""
        reason = f"is like no class: {self.distance:.2f} times as far from the nearest one as usual"
        return Defect(identity, split, DEFECT, reason)


def found(distances: np.ndarray) -> list[Outlier]:
    """Returns the outliers of distances to the nearest class, float [n]; the furthest first."""
    low, median, high = np.percentile(distances, [25, 50, 75])
    beyond = np.flatnonzero(distances > high + _FENCE * (high - low))
    order = beyond[np.argsort(-distances[beyond], kind="stable")]
    return [Outlier(int(number), float(distances[number] / median)) for number in order]
