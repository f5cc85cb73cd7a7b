"""ExampleGen: writes a source as TFRecords in splits."""

from __future__ import annotations

import collections
from pathlib import Path

from pipeline.step import Place, Runtime, Step, name_modules
from tlkeras import spec, terminal
from tlkeras.data import ingest
from tlkeras.data.id_list import IdList
from tlkeras.data.parts import Runner
from tlkeras.data.splits import Split
from tlkeras.doctor import defects
from tlkeras.source import Source


@Step
def examples(
    out: Path,
    *,
    source: Source,
    split: Split,
    exclude_ids: IdList | None = None,
    max_bad_fraction: float,
    quarantine: Place,
    beam_runner: Runtime[str] = Runner.name,
    beam_options: Runtime[str] = Runner.options,
) -> None:
    """Reads every example, checks its features and writes it into its split.

    Examples that cannot be used are in quarantine. If they are too many, there is no product: their
    list is a file in `quarantine` then, with the name of the product. Those in --exclude_ids are in
    no record, count or statistic, and move no other example between splits.
    """
    info = ingest.write_examples(
        source,
        split,
        out,
        runner=Runner(beam_runner, beam_options),
        parts=out / "_scratch",
        max_bad_fraction=max_bad_fraction,
        report=quarantine / f"{out.stem}.json",
        excluded=exclude_ids.ids() if exclude_ids else (),
    )
    name_modules(out, (type(kind).__module__ for kind in info.features.values()))
    counts = ", ".join(f"{count:,} {name}" for name, count in info.counts.items())
    if info.classes:
        print(terminal.printable(f"  {len(info.classes)} classes: {spec.listed(info.classes)}"))
    print(f"  {counts}")
    if notes := collections.Counter(each.defect for each in defects.notes(out)):
        told = ", ".join(f"{count:,} {defect}" for defect, count in notes.most_common())
        print(f"  worth a look, see {defects.NOTES}: {told}")
