"""A pushed version: a folder ``<saved_models>/<name>/<number>/`` and its manifest."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tlkeras import files

WITHDRAWN = "withdrawn.json"
"""The marks of `tlkeras forget` in a version: a list, one for each time.

A mark has ``time``, the name of its ``certificate``, and ``examples``: the digest of each id in
``identity``, its ``split``, and the digest of its file or text in ``content``.
"""


def versions(saved_models: Path, name: str) -> list[Path]:
    """Returns the folders of a model's pushed versions, oldest first."""
    paths = (path for path in (saved_models / name).glob("*") if path.name.isdigit())
    return sorted(paths, key=lambda path: int(path.name))


def last(saved_models: Path, name: str, model: str) -> Path | None:
    """Returns the newest version of another model than that of this digest, or None.

    One that saw examples that were withdrawn since is passed over: it has to be replaced, even by a
    model that is worse without them.
    """
    for version in reversed(versions(saved_models, name)):
        if not withdrawn(version) and model_of(manifest(version)["lineage"]) != model:
            return version
    return None


def model_of(lineage: Iterable[Mapping[str, Any]]) -> str:
    """Returns the digest of the model in a lineage."""
    return {made["step"]: made["digest"] for made in lineage}["model"]


def manifest(version: Path) -> dict[str, Any]:
    """Returns ``manifest.json`` of a pushed version: its products and their lineage."""
    path = version / "manifest.json"
    try:
        return files.read_json(path)
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}); remove {version} or put it elsewhere."
        ) from None


def withdrawn(version: Path) -> list[dict[str, Any]]:
    """Returns the marks of examples that the version saw and that were withdrawn since."""
    path = version / WITHDRAWN
    try:
        return files.read_json(path) if path.exists() else []
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); push the model again.") from None


def warning(version: Path) -> str:
    """Returns one line for whoever uses a version that saw withdrawn examples, or an empty text."""
    marks = withdrawn(version)
    if not marks:
        return ""
    seen = {(each["identity"], each["split"]) for mark in marks for each in mark["examples"]}
    counts = Counter(split for _, split in seen)
    listed = ", ".join(f"{count:,} in {split}" for split, count in sorted(counts.items()))
    return (
        f"{version} saw examples that were withdrawn by {marks[-1]['time'][:10]} ({listed}); "
        "train it again without them."
    )
