"""Certificate: what a forget removed from a store and marked, ``certificate-<time>.json``.

The same is beside it as text for people, ``.md``. Ids stand there as digests: whoever knows an id
can find it, and nobody can read it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline import product, version
from tlkeras import files, terminal


def write(root: Path, plan: Mapping[str, Any]) -> Path:
    """Writes the certificate of a plan that was carried out; returns the JSON file.

    Raises:
        ValueError: A folder that was to be removed is still there.
    """
    left = [row["path"] for row in plan["removed"] if (root / row["path"]).exists()]
    if left:
        raise ValueError(f"{left[0]} was made again while it was removed; run forget again.")
    contents = {
        **plan,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "removed": [{**row, "digest_after": None} for row in plan["removed"]],
        "marked": [
            {**row, "digest_after": product.digest(product.digests(root / row["path"]))}
            for row in plan["marked"]
        ],
    }
    path = root / f"{plan['certificate']}.json"
    path.with_suffix(".md").write_text(terminal.printable(text(contents)), encoding="utf-8")
    files.write_json(path, contents)
    return path


def text(contents: Mapping[str, Any]) -> str:
    """Returns the certificate in Markdown."""
    examples = contents["examples"]
    parts = [
        f"# Certificate of {contents['finished'][:10]}",
        f"{_done(contents)} An example is named by the sha256 of its id.",
        _table(("sha256 of the id", "split"), _splits(examples)),
        "## Removed",
        "Every product that was made from them, or of which nobody can tell, with its digest "
        "before; after, it is not there. Equal products without these examples are made by the "
        "next run.",
        _table(
            ("product", "path in the store", "sha256 before"),
            [(row["kind"], row["path"], row["digest"]) for row in contents["removed"]],
        ),
        "## Not known",
        "Of these nobody can tell, because the store no longer has their examples. A version among "
        "them stays as it is; if it saw them, nothing here tells. No folder outside the store was "
        "searched but for versions, and for what the log of the store names: of predictions of new "
        "data by a version, only those in the store are known.",
        _table(("path from the store",), [(path,) for path in contents.get("unknown", ())]),
        "## Marked",
        "Pushed versions that saw them stay: what a model has learnt cannot be taken out of it. "
        "Each has a mark, of which `tlkeras` tells whoever uses it. Of a version that measured "
        "them, the report and the galleries are removed: they may show them. The names of classes "
        "and groups, such as of a speaker, are not searched for: they stay in its labels, schema, "
        "statistics and tables.",
        _table(
            ("version", "split", "sha256 before", "sha256 after", "removed in it"),
            [
                (
                    row["path"],
                    counted(row["examples"]),
                    row["digest"],
                    row["digest_after"],
                    ", ".join(row["redacted"]),
                )
                for row in contents["marked"]
            ],
        ),
        "## To be trained again",
        f"Use `--exclude_ids={contents['list']}` in every later run, or remove the examples from "
        "the data themselves: this command does not touch them.",
        *(f"{row['what']}:\n\n```\n{row['command']}\n```" for row in contents["retrain"]),
    ]
    return "\n\n".join(parts) + "\n"


def _done(contents: Mapping[str, Any]) -> str:
    count = len({row["identity"] for row in contents["examples"]})
    store, one = f"the store `{contents['root']}`", count == 1
    named = f"{count:,} example{'' if one else 's'}"
    if not contents["removed"]:
        are, them = ("is", "it") if one else ("are", "them")
        return f"{named} {are} withdrawn; {store} held nothing more that was made of {them}."
    return (
        f"{named} {'was' if one else 'were'} removed from {store}, begun at {contents['started']} "
        f"and finished at {contents['finished']}."
    )


def counted(examples: Iterable[Mapping[str, str]]) -> str:
    """Returns how many examples there are in each split."""
    counts = Counter(row["split"] for row in examples)
    return ", ".join(f"{count:,} {split}" for split, count in sorted(counts.items()))


def commands(
    root: Path, saved_models: Path, path: Path, removed: Iterable[Path], marked: Iterable[Path]
) -> list[dict[str, str]]:
    """Returns which models have to be trained again, and the command of each.

    Args:
        root: The store.
        saved_models: The folder of the versions.
        path: The list of ids to exclude.
        removed: The products `model` among those to remove.
        marked: The versions.
    """
    rows: dict[str, str] = {}
    known: set[str] = set()
    for each in marked:
        lineage = version.manifest(each)["lineage"]
        known |= {entry["digest"] for entry in lineage}
        command = _command(lineage, path, f"--root={root}", f"--saved_models={saved_models}")
        rows.setdefault(command, f"Version {each.name} of {each.parent.name}")
    for each in removed:
        if product.manifest(each)["digest"] not in known:
            lineage = [entry for entry in product.lineage(each) if "asked" in entry]
            command = _command(lineage, path, f"--root={root}", "--to=model")
            rows.setdefault(command, f"The model {os.path.relpath(each, root)}")
    return [{"what": what, "command": command} for command, what in rows.items()]


def _command(lineage: Iterable[Mapping[str, Any]], path: Path, *more: str) -> str:
    options = product.options(lineage)
    before = options.get("exclude_ids", "None")
    command = product.command({**options, "exclude_ids": str(path)}, *more)
    # One list is all that there is room for.
    note = "" if before == "None" else f"# Before, it excluded {before}: put these ids into it.\n"
    return f"{note}{command}"


def _splits(examples: Iterable[Mapping[str, str]]) -> list[tuple[str, str]]:
    found: dict[str, dict[str, None]] = {}
    for row in examples:
        found.setdefault(row["identity"], {})[row["split"]] = None
    return [(identity, ", ".join(splits)) for identity, splits in sorted(found.items())]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    if len(lines) == 2:
        return "None."
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )
