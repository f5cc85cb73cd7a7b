"""Lineage: which products and pushed versions saw an example, ``tlkeras lineage``.

It is not a step of the pipeline.
"""

from __future__ import annotations

import bisect
import difflib
import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, NoReturn

from pipeline import flags, trace
from pipeline.trace import Root, SavedModels, Sight, Trace, Wanted
from tlkeras import spec, terminal
from tlkeras.kinds.text import Text
from tlkeras.source import digest
from tlkeras.spec import Spec

USES = {
    "train": "training",
    "validation": "chooses among fits, or sets factors and thresholds of one",
    "test": "measures, trains nothing",
    "target": "training without its label, by a recipe that adapts",
    "target_test": "measures, trains nothing",
    trace.LEFT_OUT: "left out: trains and measures nothing",
    trace.PREDICTED: "predicted",
}
"""What the examples of a split are for."""


_COMPARED = 10_000  # Ids with a misspelt one: they take a second.


class Lineage(Spec, name="lineage"):
    """Tells which products, caches and pushed versions saw an example, and in which split it was.

    An example is named by its --id, such as rose/17.jpg, or by a copy of its file. A version of
    which the store no longer has the examples is named, too: of it nobody can tell. Known are the
    store, what was made elsewhere of its products, and the versions in --saved_models. No other
    folder is searched: predictions of new data by a version are known if they lie in the store, as
    by --out=runs/predictions, and what `tlkeras validate` wrote is not.
    """

    id: Annotated[str, "The id of an example."] = ""
    file: Annotated[Path | None, "A file with the very content of an example."] = None
    root: Root = Path("runs")
    saved_models: SavedModels = Path("saved_models")

    def validate(self):
        if bool(self.id) == (self.file is not None):
            raise ValueError("Name one example, by --id or by --file.")


def main(settings: Lineage) -> int:
    """Prints a table of all that saw the example.

    Raises:
        ValueError: Nothing saw it, or the store or a version cannot be read.
    """
    wanted, named = _wanted(settings)
    found = trace.find(settings.root, settings.saved_models, wanted)
    sights = [each for each in found.sights if each.rows]
    if not sights:
        raise ValueError(_unknown(settings, found, named))
    print(terminal.table(rows(sights), ("product", "split", "what it is for", "folder")))
    for remark in remarks(found):
        print(f"\n{terminal.printable(remark)}")
    return 0


def _wanted(settings: Lineage) -> tuple[Wanted, str]:
    """Returns which examples are wanted, and their name in messages."""
    if settings.file is None:
        identity = trace.digest_of(settings.id)
        return lambda row: row.identity == identity, f"the id {settings.id!r}"
    try:
        contents = _contents(settings.file)
    except ValueError as error:
        raise ValueError(f"--file={error}") from None
    return lambda row: row.content in contents, f"the content of {settings.file}"


def _contents(file: Path) -> set[str]:
    """Returns the digests of a file that examples may have: of its bytes, and of what it says."""
    found, text = {digest(file)}, Text()
    if file.suffix.lower() in text.suffixes:  # It is read without its mark, and with other ends.
        found.add(hashlib.sha256(text.same(text.read(file))).hexdigest())
    return found


def _unknown(settings: Lineage, found: Trace, named: str) -> str:
    message = f"No example in {settings.root} has {named}"
    if settings.id:
        message += f"; {nearest(settings.id, found.ids)}"
    return " ".join([f"{message}." if message[-1] not in ".?" else message, *remarks(found)])


def nearest(identity: str, ids: Collection[str]) -> str:
    """Returns the end of an error message: the known ids that are most like a misspelt one.

    Of very many only those beside it in order are compared, as each takes its time.
    """
    known = sorted(ids)
    if len(known) <= _COMPARED:
        return spec.nearest(identity, known)
    place = bisect.bisect(known, identity)
    first = max(0, min(place - _COMPARED // 2, len(known) - _COMPARED))
    beside = known[first : first + _COMPARED]
    close = difflib.get_close_matches(identity, beside, n=3, cutoff=0)
    return f"did you mean {' or '.join(map(repr, close))}?"


def rows(sights: Sequence[Sight]) -> list[tuple[str, ...]]:
    """Returns a row of the table for every split of every sight."""
    return [
        (
            sight.kind,
            split if count == 1 else f"{split} ({count:,})",
            USES.get(split, "holds it"),
            terminal.printable(str(sight.path)),
        )
        for sight in sights
        for split, count in sorted(Counter(row.split for row in sight.rows).items())
    ]


def remarks(found: Trace) -> list[str]:
    """Returns messages on what the table cannot tell."""
    said = []
    if found.unknown:
        listed = spec.listed([str(path) for path in found.unknown])
        said.append(f"Of {listed} nobody can tell: the store does not have its examples.")
    if rests := [str(each.path) for each in found.sights if each.kind == trace.REST]:
        said.append(f"Rests of killed runs may hold any example: {spec.listed(rests)}.")
    return said


def command(argv: Sequence[str]) -> NoReturn:
    """Runs ``tlkeras lineage``."""
    flags.run(argv, main, Lineage, example="--id=rose/17.jpg")
