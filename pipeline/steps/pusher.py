"""Pusher: a blessed model goes to ``saved_models/<name>/<version>/``, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import log, product, signing
from pipeline.step import NotBlessed, Runtime, Step
from pipeline.version import last, manifest, model_of, versions, withdrawn
from tlkeras import files

_BLESSING = "blessing.json"
"""What a file of an evaluation says of bounds, which change nothing in a version that passed."""


# Always run: a version may have been removed since, and looking takes no time.
@Step(always=True)
def pushed(
    out: Path,
    *,
    exports: Path,
    evaluation: Path,
    infra_blessing: Path,
    card: Path,
    statistics: Path,
    schema: Path,
    name: str,
    saved_models: Path,
    sign_key: Runtime[Path | None],
) -> None:
    """Copies exports, labels, measures, report and card into a new version.

    So are the statistics and the schema of the examples, and the reference in the evaluation: by
    these ``tlkeras validate`` judges later data.

    ``manifest.json`` has the digest of every file, which ``tlkeras verify`` compares; with a
    `sign_key` the version is signed, see `signing`. If the newest version holds these very exports
    and measures, whole, with the same details and signed by this key, there is no new one.
    ``pushed.json`` names the folder.

    Raises:
        NotBlessed: An export is unfit: a version has all the exports, or there is none.
        ValueError: The model was compared with the last version, and another was pushed since.
    """
    require_fit(infra_blessing)
    key = signing.private_key(sign_key) if sign_key else None
    products = {"exports": exports, "evaluation": evaluation, "card": card}
    products |= {"infra_blessing": infra_blessing, "statistics": statistics, "schema": schema}
    digests = {made: product.manifest(path)["digest"] for made, path in products.items()}
    store = log.above(exports)
    # Kept elsewhere, it shows whether the log has lost lines since.
    head = log.head(store / log.FILE) if store else ""
    contents = {"name": name, "products": digests, "log": head, "lineage": _lineage(products)}
    folder = saved_models / name
    try:
        with product.locked(folder / ".push", lambda text: print(f"  pushed {text}")):
            version = _found(saved_models, contents, key)
            if not version:
                _require_last(saved_models, contents, evaluation)
                sources = [exports, card, evaluation, statistics, schema]
                version = _push(folder, sources, contents, key)
    except OSError as error:
        place, why = error.filename or folder, error.strerror
        if isinstance(error, shutil.Error):  # Of several files, each with its error as a text.
            (_, place, why), *_ = error.args[0]
        raise ValueError(
            f"--saved_models={saved_models}: cannot write to {place} ({why}); "
            "free some space or choose another folder."
        ) from error
    files.write_json(out / "pushed.json", {"folder": str(version)})


def require_fit(infra_blessing: Path) -> None:
    """Raises `NotBlessed`, with the reasons, if an export is unfit."""
    rows = files.read_json(infra_blessing / "infra.json")
    if unfit := [f"{row['export']} {reason}" for row in rows for reason in row["reasons"]]:
        advice = " Leave it out of --exporters, and the others are pushed." * (len(rows) > 1)
        raise NotBlessed(f"Nothing pushed: {'; '.join(unfit)}.{advice}")


def _lineage(products: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Returns the manifests of all products and of their ancestors, each once."""
    # Where the store and other versions lie is nobody's business but their owner's.
    manifests = []
    for made in product.lineage(*products.values()):
        public = {key: made[key] for key in made if key not in ("path", "from")}
        if made["step"] == "resolved" and "asked" in made:
            fields = {"name": made["asked"]["fields"]["name"]}
            public["asked"] = {**made["asked"], "fields": fields}
        manifests.append(public)
    return manifests


def _found(saved_models: Path, contents: Mapping[str, Any], key: Any = None) -> Path | None:
    """Returns the newest version if it has these exports, measures and statements, whole, or None.

    Files that were added since leave it whole. Servers take the newest one. Nobody signs what was
    pushed before: with a key it has to bear its signature.
    """
    *_, version = versions(saved_models, contents["name"]) or [None]
    if not version:
        return None
    kept = manifest(version)
    if kept["products"]["exports"] != contents["products"]["exports"]:
        return None
    if _measured(kept) != _measured(contents):
        return None
    if _stated(kept) != _stated(contents):
        return None  # Some exports have no room for what the card states.
    if withdrawn(version):
        return None  # Its report is not whole, and its mark is not true of this model.
    if key and not signing.fits(version, key.public_key()):
        return None
    found = signing.contents(version)
    # Versions of earlier releases have no digests of their own.
    made = kept.get("files") or _manifest_of("exports", kept)["files"]
    if changed := [name for name, digest in made.items() if found.get(name) != digest]:
        print(f"  {version / changed[0]} is not as it was pushed, so all is pushed again")
        return None
    return version


def _measured(contents: Mapping[str, Any]) -> dict[str, str]:
    """Returns the digests of the files of the evaluation of a version that hold its measures."""
    made = _manifest_of("evaluation", contents)["files"]
    return {name: digest for name, digest in made.items() if name != _BLESSING}


def _require_last(saved_models: Path, contents: Mapping[str, Any], evaluation: Path) -> None:
    """Raises ValueError if a run pushed another model since this one was compared with the last."""
    blessing = files.read_json(evaluation / _BLESSING)
    if not blessing["baseline_is_last"]:
        return
    newest = last(saved_models, contents["name"], model_of(contents["lineage"]))
    _, _, number = (blessing["baseline"] or "0").rpartition("/")
    if newest and int(newest.name) > int(number):
        raise ValueError(
            f"{contents['name']}/{newest.name} was pushed meanwhile; run again: nothing is trained "
            "anew."
        )


def _stated(contents: Mapping[str, Any]) -> Any:
    """Returns what the makers of a version have stated of it and of its data."""
    fields = _manifest_of("card", contents)["asked"]["fields"]
    return [fields.get(name) for name in ("details", "data_details")]


def _manifest_of(name: str, contents: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the manifest of a product of a version; the lineage may hold others of its step."""
    made = product.made_by(name, contents["lineage"])
    return next(each for each in made if each["digest"] == contents["products"][name])


def _push(folder: Path, products: list[Path], contents: Mapping[str, Any], key: Any = None) -> Path:
    """Returns the new version, written to the side and renamed; call it under the lock."""
    for left in folder.glob(".partial*"):  # By a push that was killed.
        shutil.rmtree(left)
    partial = folder / ".partial"
    try:
        partial.mkdir(parents=True)
        for path in products:
            ignored = shutil.ignore_patterns(product.MANIFEST, "served")
            shutil.copytree(path, partial, ignore=ignored, dirs_exist_ok=True)
        # TensorFlow Serving looks for a SavedModel in the folder of the version itself.
        for part in (partial / "saved_model").glob("*"):
            (partial / part.name).symlink_to(part.relative_to(partial))
        taken = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
        number = max(taken, default=0) + 1
        described = {"version": number, **contents, "files": signing.contents(partial)}
        files.write_json(partial / "manifest.json", described)
        if key:
            signing.sign(partial, key)
        product.sync(partial)
        return partial.rename(folder / str(number))
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
