"""Resolver: the pushed version that the new model has to be as good as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline import product
from pipeline.step import Step
from pipeline.version import last, manifest, warning
from tlkeras import files


# Always run: versions come and go outside the store. Its contents are in the keys of later steps.
@Step(always=True)
def resolved(out: Path, *, model: Path, baseline: str, name: str, saved_models: Path) -> None:
    """Finds the baseline and writes it to ``resolved.json``; null if there is none.

    ``last`` is the newest pushed version of another model.
    """
    found = named(baseline)
    if baseline == "last" and (
        found := last(saved_models, name, product.manifest(model)["digest"])
    ):
        _require(found, baseline)
    contents: dict[str, Any] = {"version": None, "is_last": baseline == "last"}
    if found:
        if said := warning(found):
            print(f"  {said}")
        contents |= {"version": str(found), "products": manifest(found)["products"]}
    files.write_json(out / "resolved.json", contents)


def foreseen(baseline: str, name: str, saved_models: Path) -> Path | None:
    """Returns the version that a model not yet trained is compared with, None if with none.

    For ``last`` it is the newest, which only this very model is not compared with.

    Raises:
        ValueError: As of `named`.
    """
    return last(saved_models, name, model="") if baseline == "last" else named(baseline)


def named(baseline: str) -> Path | None:
    """Returns the folder of the version that a baseline names; None for ``last`` and ``none``.

    Raises:
        ValueError: There is no such version, or no saved_model in it.
    """
    found = None if baseline in ("last", "none") else Path(baseline)
    if found:
        _require(found, baseline)
    return found


def _require(version: Path, baseline: str) -> None:
    if not (version / "saved_model").is_dir():
        raise ValueError(
            f"--baseline={baseline}: there is no saved_model in {version} to compare with; "
            "give another version, or none."
        )


def read(resolved: Path) -> Path | None:
    """Returns the folder of the version that the step found."""
    version = files.read_json(resolved / "resolved.json")["version"]
    return Path(version) if version else None


def is_last(resolved: Path) -> bool:
    """Returns whether the baseline is the last pushed version, whichever that is."""
    return files.read_json(resolved / "resolved.json")["is_last"]
