"""Hub files: where the weights and settings of a network of KerasHub lie, and what reads them."""

from __future__ import annotations

import hashlib
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
    digest, found = hashlib.sha256(), list(paths)
    for path in found:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in (file for file in files if file.name.endswith(_DECIDING)):
            digest.update(f"{file.relative_to(path)}\0".encode())
            with file.open("rb") as read:
                digest.update(hashlib.file_digest(read, "sha256").digest())
    return digest.hexdigest() if found else ""


def preparation(folder: Path | None) -> str:
    """Returns the SHA-256 of the files of a folder that are not weights; empty without a folder."""
    if folder is None or not folder.is_dir():
        return ""
    inside = (each for place in (folder, folder / "assets") for each in place.glob("*"))
    below = folder.glob("assets/*/*")
    found = [each for each in (*inside, *below) if each.name.endswith(_PREPARING)]
    named = [
        f"{each.relative_to(folder).as_posix()}\0{files.sha256(each)}" for each in sorted(found)
    ]
    return hashlib.sha256("\n".join(named).encode()).hexdigest()


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
