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
    """Writes the range of every number and the domain of every text column of ``train``.

    The domains hold classes, formats and modes, with the share of the examples that each has.
    """
    train = next(d for d in summaries.read(statistics).datasets if d.name == "train")
    schemas.write(schemas.of(train), out)
