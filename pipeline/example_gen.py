"""ExampleGen: a source becomes TFRecords, cut into splits."""

from __future__ import annotations

from pathlib import Path

from pipeline import flags
from pipeline.core import Runtime, Step
from tlkeras import examples as records
from tlkeras.examples import Split
from tlkeras.source import Source
from tlkeras.workers import Workers


@Step
def examples(
    out: Path,
    *,
    source: Source,
    split: Split,
    beam_runner: Runtime[str] = Workers.runner,
    beam_options: Runtime[str] = Workers.options,
) -> None:
    """Reads every example, checks its picture and writes it into its split."""
    workers = Workers(beam_runner, beam_options)
    info = records.write(source, split, out, workers=workers, parts=out / "_scratch")
    counts = ", ".join(f"{count:,} {name}" for name, count in info.counts.items())
    print(f"  {len(info.classes)} classes; {counts}")


if __name__ == "__main__":
    flags.run_alone(examples)
