"""A pushed version: a folder ``<saved_models>/<name>/<number>/`` and its manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tlkeras import files


def versions(saved_models: Path, name: str) -> list[Path]:
    """Returns the folders of a model's pushed versions, oldest first."""
    paths = (path for path in (saved_models / name).glob("*") if path.name.isdigit())
    return sorted(paths, key=lambda path: int(path.name))


def manifest(version: Path) -> dict[str, Any]:
    """Returns ``manifest.json`` of a pushed version: its products and their lineage."""
    path = version / "manifest.json"
    try:
        return files.read_json(path)
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}); remove {version} or put it elsewhere."
        ) from None
