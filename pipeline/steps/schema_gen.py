"""SchemaGen: the schema of the training examples, as a TFMD schema proto in text form."""

from __future__ import annotations

from pathlib import Path

from pipeline.step import Step
from tlkeras.doctor import schemas
from tlkeras.doctor import statistics as summaries
from tlkeras.doctor.schemas import FILE, read

__all__ = ["FILE", "read", "schema"]


@Step
def schema(out: Path, *, statistics: Path) -> None:
    """Writes the range of every number and the domain of every text column of the training.

    The domains hold classes, formats and modes, with the share of each. Of two domains the target
    counts as well, see `statistics.trained`.
    """
    schemas.write(schemas.of(summaries.trained(summaries.read(statistics))), out)
