"""Pusher: what is blessed goes to ``saved_models/<name>/<version>/``, whole or not at all."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import core, flags, product
from pipeline.core import NotBlessed, Step


# Always run: a version may have been removed since, and looking takes no time.
@Step(always=True)
def pushed(
    out: Path,
    *,
    exports: Path,
    evaluation: Path,
    infra_blessing: Path,
    card: Path,
    name: str,
    saved_models: Path,
) -> None:
    """Copies exports, labels, measures, report and card into a new version.

    A version that holds these very exports is found again instead. ``pushed.json`` names
    the folder.

    Raises:
        NotBlessed: An export was found unfit; a version holds all that was asked for, or is not.
    """
    rows = json.loads((infra_blessing / "infra.json").read_text(encoding="utf-8"))
    if unfit := [f"{row['export']} {reason}" for row in rows for reason in row["reasons"]]:
        raise NotBlessed(
            f"Nothing pushed: {'; '.join(unfit)}. Leave it out of --exporters, and the others are "
            "pushed."
        )
    products = {"exports": exports, "evaluation": evaluation, "card": card}
    products["infra_blessing"] = infra_blessing
    digests = {made: core.manifest(path)["digest"] for made, path in products.items()}
    for version in versions(saved_models, name):
        if manifest(version)["products"]["exports"] == digests["exports"]:
            break
    else:
        contents = {"name": name, "products": digests, "lineage": _lineage(products)}
        try:
            version = _push(saved_models / name, [exports, card, evaluation], contents)
        except OSError as error:
            place, why = error.filename, error.strerror
            if isinstance(error, shutil.Error):  # Of several files, each with its error as a text.
                (_, place, why), *_ = error.args[0]
            raise ValueError(
                f"--saved_models={saved_models}: cannot write to {place} ({why}); "
                "free some space or choose another folder."
            ) from error
    (out / "pushed.json").write_text(json.dumps({"folder": str(version)}), encoding="utf-8")


def versions(saved_models: Path, name: str) -> list[Path]:
    """Returns the folders of a model's pushed versions, oldest first."""
    found = (path for path in (saved_models / name).glob("*") if path.name.isdigit())
    return sorted(found, key=lambda path: int(path.name))


def manifest(version: Path) -> dict[str, Any]:
    """Returns ``manifest.json`` of a pushed version: its products and all they were made of."""
    path = version / "manifest.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}); remove {version} or put it elsewhere."
        ) from None


def _lineage(products: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Returns the manifests of all products and of what they were made of, each once."""
    # Where the store lies is nobody's business but its owner's.
    return [
        {key: made[key] for key in made if key not in ("path", "from")}
        for made in core.lineage(*products.values())
    ]


def _push(folder: Path, products: list[Path], contents: Mapping[str, Any]) -> Path:
    """Returns the new version, written to the side and renamed."""
    partial = folder / f".partial-{uuid.uuid4().hex}"
    try:
        return _named(partial, folder, products, contents)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _named(partial: Path, folder: Path, products: list[Path], contents: Mapping[str, Any]) -> Path:
    """Fills the folder `partial` and renames it to the next version."""
    partial.mkdir(parents=True)
    for path in products:
        ignored = shutil.ignore_patterns(product.MANIFEST, "served", "mistakes.json")
        shutil.copytree(path, partial, ignore=ignored, dirs_exist_ok=True)
    # TensorFlow Serving, told the model's folder, looks for a SavedModel in the version itself.
    for part in (partial / "saved_model").glob("*"):
        (partial / part.name).symlink_to(part.relative_to(partial))
    while True:
        taken = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
        number = max(taken, default=0) + 1
        text = json.dumps({"version": number, **contents}, indent=2)
        (partial / "manifest.json").write_text(text + "\n", encoding="utf-8")
        try:
            return partial.rename(folder / str(number))
        except OSError:
            # Another process took the number since; anything else is told.
            if not (folder / str(number)).exists():
                raise


if __name__ == "__main__":
    flags.run_alone(pushed)
