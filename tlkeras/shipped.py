"""Weights inside tlkeras: files ``NAME.npz``, each described by the ``NAME.json`` beside it."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras import files

FOLDER = Path(__file__).parent / "weights"

_ADVICE = "reinstall tlkeras."


def read(name: str, folder: Path = FOLDER) -> dict[str, np.ndarray]:
    """Returns the arrays of ``NAME.npz``, those of float16 as float32.

    Raises:
        ValueError: The file is missing, or its SHA-256 is not that of ``NAME.json``.
    """
    expected = digest(name, folder)
    path = folder / f"{name}.npz"
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); {_ADVICE}") from None
    found = hashlib.sha256(encoded).hexdigest()
    if found != expected:
        raise ValueError(
            f"{path} has {len(encoded):,} bytes of SHA-256 {found[:12]}…, expected "
            f"{expected[:12]}…: it is damaged or another file; {_ADVICE}"
        )
    with np.load(io.BytesIO(encoded), allow_pickle=False) as arrays:
        return {key: _widened(array) for key, array in arrays.items()}


def digest(name: str, folder: Path = FOLDER) -> str:
    """Returns the SHA-256 of ``NAME.npz`` that ``NAME.json`` tells."""
    path = folder / f"{name}.json"
    try:
        described: dict[str, Any] = files.read_json(path)
        return described["sha256"]
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}); {_ADVICE}") from None


def _widened(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype == np.float16 else array
