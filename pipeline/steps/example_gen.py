"""ExampleGen: a source becomes TFRecords, cut into splits."""

from __future__ import annotations

from pathlib import Path

from pipeline.step import Runtime, Step, name_modules
from tlkeras import spec, terminal
from tlkeras.data import ingest
from tlkeras.data.parts import Workers
from tlkeras.data.splits import Split
from tlkeras.source import Source


@Step
def examples(
    out: Path,
    *,
    source: Source,
    split: Split,
    beam_runner: Runtime[str] = Workers.runner,
    beam_options: Runtime[str] = Workers.options,
) -> None:
    """Reads every example, checks its features and writes it into its split."""
    workers = Workers(beam_runner, beam_options)
    info = ingest.write_examples(source, split, out, workers=workers, parts=out / "_scratch")
    name_modules(out, (type(kind).__module__ for kind in info.features.values()))
    counts = ", ".join(f"{count:,} {name}" for name, count in info.counts.items())
    if info.classes:
        print(terminal.printable(f"  {len(info.classes)} classes: {spec.listed(info.classes)}"))
    print(f"  {counts}")
