"""ExampleGen: writes a source as TFRecords in splits."""

from __future__ import annotations

from pathlib import Path

from pipeline.step import Runtime, Step, name_modules
from tlkeras import spec, terminal
from tlkeras.data import ingest
from tlkeras.data.parts import Runner
from tlkeras.data.splits import Split
from tlkeras.source import Source


@Step
def examples(
    out: Path,
    *,
    source: Source,
    split: Split,
    beam_runner: Runtime[str] = Runner.name,
    beam_options: Runtime[str] = Runner.options,
) -> None:
    """Reads every example, checks its features and writes it into its split."""
    runner = Runner(beam_runner, beam_options)
    info = ingest.write_examples(source, split, out, runner=runner, parts=out / "_scratch")
    name_modules(out, (type(kind).__module__ for kind in info.features.values()))
    counts = ", ".join(f"{count:,} {name}" for name, count in info.counts.items())
    if info.classes:
        print(terminal.printable(f"  {len(info.classes)} classes: {spec.listed(info.classes)}"))
    print(f"  {counts}")
