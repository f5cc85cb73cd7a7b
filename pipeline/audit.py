"""Audit: whether a store's log is whole and its products are those of the log, ``tlkeras audit``.

It is not a step of the pipeline.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

from pipeline import flags, log, product, trace
from pipeline.trace import Root
from tlkeras import folders, spec
from tlkeras.spec import Spec


class Audit(Spec, name="audit"):
    """Verifies the hash-chained log of a store, and that its products are those of the log.

    It names the first line that was changed, is missing or out of order, and every product that
    differs from its line or was removed by no forget. A chain cannot show that its last lines are
    missing, or that all lines from one on were written anew. A digest kept elsewhere shows it:
    compare with the "log" in the manifest.json of a pushed version by --head. Exit status 1 says
    that something is wrong.
    """

    root: Root = Path("runs")
    head: Annotated[str, "A digest of the log that was kept elsewhere."] = ""


def main(settings: Audit) -> int:
    """Prints what is wrong, and the digest of the last line to keep elsewhere.

    Raises:
        ValueError: There is no store, or no log in it.
    """
    root = settings.root
    if not root.is_dir():
        raise ValueError(f"--root={root}: {folders.missing(root)}")
    verdict = log.read(root)
    faults = [verdict.fault] if verdict.fault else []
    digests = [entry["sha256"] for entry in verdict.entries]
    if settings.head and settings.head not in digests:
        faults.append(
            f"No line has the digest --head={settings.head}: lines at the end are missing, or the "
            "log was written anew, or the digest is of another log."
        )
    more: list[Path] = []
    if not verdict.fault:  # Of products whose line is not sound nothing can be said.
        faults += _changed(root, verdict.entries)
        more = _without_line(root, verdict.entries)
    for fault in faults:
        print(fault)
    for path in more:
        print(
            f"{path} is in no line: it is older than the log, or the store of the products that it "
            "was made of has its line, or somebody put it there."
        )
    print(f"{len(digests):,} lines of {root / log.FILE} are sound, head {verdict.head or 'none'}")
    if settings.head in digests:
        print(f"--head is line {digests.index(settings.head) + 1:,}.")
    return 1 if faults else 0


def _changed(root: Path, entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yields what differs of the products, and of the certificates, from what the log says."""
    made: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        if "made" in entry:
            made[entry["made"]["path"]] = entry
        for path in entry.get("forgotten", {}).get("removed", ()):
            made.pop(path, None)
    place = root.resolve()
    for path, entry in made.items():
        if fault := _fault(place / path, entry["made"]):
            yield f"{root / path} {fault}, says line {entry['number']}."
    for entry in (each for each in entries if "forgotten" in each):
        path = root / entry["forgotten"]["certificate"]
        if not path.exists():
            yield f"{path} is missing, says line {entry['number']}."
        elif hashlib.sha256(path.read_bytes()).hexdigest() != entry["forgotten"]["sha256"]:
            yield f"{path} was changed, says line {entry['number']}."


def _fault(path: Path, made: Mapping[str, Any]) -> str:
    """Returns what is wrong with a product, or an empty text."""
    if _manifest(product.partial(path)) == made["manifest"]:
        return "was not finished because its run was killed: the next run makes it"
    if not (path / product.MANIFEST).exists():
        return "is missing, and no forget removed it"
    if not (own := _manifest(path)):
        return f"has a damaged {product.MANIFEST}"
    if own != made["manifest"]:
        return f"has another {product.MANIFEST}"
    if changed := product.differing(path):
        return f"was changed: {spec.listed(changed)}"
    return ""


def _manifest(path: Path) -> str:
    """Returns the digest of the manifest in a folder; empty if there is none, or it is damaged."""
    try:
        return product.digest(product.manifest(path))
    except ValueError:
        return ""


def _without_line(root: Path, entries: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Returns the products that no line names; a product appears after its line."""
    place = root.resolve()
    known = {(place / entry["made"]["path"]).resolve() for entry in entries if "made" in entry}
    return [path for path in trace.products(root) if path.resolve() not in known]


def command(argv: Sequence[str]) -> NoReturn:
    """Runs ``tlkeras audit``."""
    flags.run(argv, main, Audit, example="--root=runs")
