"""Hub files: where the weights and settings of a network of KerasHub lie, and what reads them."""

from __future__ import annotations

import hashlib
import itertools
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tlkeras import files, spec

# The files of a folder that decide what comes out of the network: how data become its inputs, in
# Keras presets also in the folder assets, and its weights.
_PREPARING = (".json", ".txt", ".model", ".spm")
_DECIDING = (*_PREPARING, ".safetensors", ".h5")


def existing(member: str, weights: str | None, *, is_path: bool = False) -> Path | None:
    """Returns the file or folder of weights; None if they are random or a preset's name.

    Args:
        member: The name of the backbone, for the message.
        weights: Its field.
        is_path: Whether no preset can have that name.

    Raises:
        ValueError: It is a path, but there is nothing.
    """
    if weights is None:
        return None
    path = spec.path(weights)
    if path.exists():
        return path
    if is_path or (path.name != weights and "://" not in weights):
        raise ValueError(f"{member}.weights is {weights!r}, but there is no such file.")
    return None


def fingerprint(paths: Iterable[Path]) -> str:
    """Returns the SHA-256 of the deciding files of folders, and of files; empty without any."""
    found = list(paths)
    inside = ((path, path.rglob("*") if path.is_dir() else [path]) for path in found)
    return _digest(inside, _DECIDING) if found else ""


def preparation(folder: Path | None) -> str:
    """Returns the SHA-256 of the files of a folder that are not weights; empty without a folder."""
    if folder is None or not folder.is_dir():
        return ""
    patterns = ("*", "assets/*", "assets/*/*")
    inside = itertools.chain.from_iterable(map(folder.glob, patterns))
    return _digest([(folder, inside)], _PREPARING)


def _digest(found: Iterable[tuple[Path, Iterable[Path]]], endings: tuple[str, ...]) -> str:
    """Returns the SHA-256 of files of some endings: of their paths below a folder and contents."""
    digest = hashlib.sha256()
    for top, inside in found:
        for file in sorted(each for each in inside if each.name.endswith(endings)):
            digest.update(f"{file.relative_to(top)}\0".encode())
            digest.update(bytes.fromhex(files.known_sha256(file)))
    return digest.hexdigest()


def preset(member: str, weights: str, kind: Any) -> Any:
    """Returns what a preset, a folder or a name, holds of a kind: a class of KerasHub.

    Raises:
        ValueError: KerasHub cannot read it.
    """
    try:
        with warnings.catch_warnings():  # SentencePiece's file stays open in KerasHub 0.32.
            warnings.simplefilter("ignore", ResourceWarning)
            return kind.from_preset(weights)
    except Exception as error:  # KerasHub raises no narrower one.
        raise ValueError(
            f"{member}.weights is {weights!r}, which KerasHub cannot read ({error}). "
            f"Set the path of a folder, {member}(weights='FOLDER')."
        ) from None


def settings(file: Path, told: str) -> dict[str, Any]:
    """Returns what a JSON file holds; `told` is what it says, for the message.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        return files.read_json(file)
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}, which says {told}, cannot be read: {error}.") from None
