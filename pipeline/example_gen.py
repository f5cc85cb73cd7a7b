"""ExampleGen: a source becomes TFRecords, cut into splits."""

from __future__ import annotations

from pathlib import Path

from pipeline import flags
from pipeline.core import Step
from tlkeras import examples as records
from tlkeras.examples import Split
from tlkeras.source import Source


@Step
def examples(out: Path, *, source: Source, split: Split) -> None:
    """Reads every example, checks its picture and writes it into its split."""
    info = records.write(source, split, out)
    counts = ", ".join(f"{count:,} {name}" for name, count in info.counts.items())
    print(f"  {len(info.classes)} classes; {counts}")


if __name__ == "__main__":
    flags.run_alone(examples)
