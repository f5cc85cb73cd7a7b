"""Network file: a ``.keras`` file that appears whole; equal networks give equal bytes."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

from tlkeras.frameworks import keras


def read_network(path: Path | str) -> Any:
    """Returns the network of a ``.keras`` file, not compiled, also with layers of `hub_layers`.

    Keras imports the modules of KerasHub's layers by itself, but no others.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            config = archive.read("config.json")
        if b'"registered_name": "tlkeras>' in config:
            from tlkeras.texts import hub_layers  # noqa: F401 (registers them, imports KerasHub)
    return keras.saving.load_model(path, compile=False)


def save_network(network: keras.Model, path: Path) -> None:
    """Writes a ``.keras`` file, which appears whole; equal networks give equal files."""
    written_beside(network, path).replace(path)


def written_beside(network: keras.Model, path: Path) -> Path:
    """Returns the file beside `path` that has been written to take its place.

    It has neither date nor addresses.
    """
    partial = path.with_name(f"partial.{path.name}")  # Keras wants the same ending.
    network.save(partial)
    _strip_date_and_addresses(partial)
    return partial


def _strip_date_and_addresses(path: Path) -> None:
    """Rewrites a ``.keras`` archive without date and addresses."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.loads(members["metadata.json"])
    del metadata["date_saved"]
    members["metadata.json"] = json.dumps(metadata).encode()
    numbers: dict[bytes, bytes] = {}
    # The ids of shared objects are memory addresses; only their equality matters.
    members["config.json"] = re.sub(
        rb'("shared_object_id": )(\d+)',
        lambda match: match[1] + numbers.setdefault(match[2], b"%d" % len(numbers)),
        members["config.json"],
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
