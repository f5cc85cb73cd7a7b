"""Verify: whether a pushed version is as it was pushed, and who signed it, ``tlkeras verify``.

It is not a step of the pipeline.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

from pipeline import flags, signing, version
from tlkeras import folders, terminal
from tlkeras.spec import Spec


class Verify(Spec, name="verify"):
    """Names every file of a pushed version that was changed, added or is missing, and the signer.

    The digests in its manifest.json tell, and the signature of --sign_key tells whether these were
    changed. Whoever could change a version could also sign it anew with a key of their own, so
    compare the signer by --public_key, a file that came another way. Exit status 1 says that
    something is wrong.
    """

    version: Annotated[Path, "The folder of the version, such as saved_models/photos/3."]
    public_key: Annotated[Path | None, "A PEM file with the public key of who has to sign."] = None


def main(settings: Verify) -> int:
    """Prints what is wrong, how many files there are, and who signed them.

    Raises:
        ValueError: There is no version, it is older than these digests, or there is no such key.
    """
    folder = settings.version
    if not folder.is_dir():
        raise ValueError(f"--version={folder}: {folders.missing(folder)}")
    expected = None
    if settings.public_key:
        expected = signing.public_key(settings.public_key, f"--public_key={settings.public_key}")
    manifest = version.manifest(folder)
    digests = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(digests, dict):
        raise ValueError(
            f"{folder / 'manifest.json'} has no digests of its files: an earlier tlkeras pushed "
            "it, or it was changed. Push the model again."
        )
    differences = [*differing(digests, signing.contents(folder))]
    fault, signer = _signer(folder, expected)
    lines = [*differences, *filter(None, [fault])]
    if warning := version.warning(folder):
        lines += [warning, "tlkeras forget, which marked it, removed files and changed others."]
    lines.append(
        f"{len(digests):,} files were pushed as version {manifest.get('version')} of "
        f"{manifest.get('name')}; {len(differences):,} differ."
    )
    for line in [*lines, *filter(None, [signer])]:
        print(terminal.printable(line))
    return 1 if differences or fault else 0


def differing(expected: Mapping[str, str], found: Mapping[str, str]) -> Iterator[str]:
    """Yields what of a version was changed, is missing or was added."""
    for name in sorted({*expected, *found}):
        if name not in found:
            yield f"{name} is missing."
        elif name not in expected:
            yield f"{name} was added."
        elif expected[name] != found[name]:
            yield f"{name} was changed."


def _signer(folder: Path, expected: Any) -> tuple[str, str]:
    """Returns what is wrong with the signature of a version, and who signed it."""
    pem, signature = folder / signing.SIGNER, folder / signing.SIGNATURE
    there = [path.name for path in (pem, signature) if path.exists()]
    if not there:
        nobody = "Nobody signed it: who changed a file could have changed its digest, too."
        return (nobody, "") if expected else ("", nobody)
    if len(there) == 1:
        return f"Of {pem.name} and {signature.name} there is only {there[0]}.", ""
    key = expected or signing.public_key(pem)
    if not signing.fits(folder, key):
        if expected and signing.fits(folder, other := signing.public_key(pem)):
            return f"Another key signed it, {signing.fingerprint(other)}.", ""
        return f"{signature.name} does not fit: manifest.json or the signature was changed.", ""
    signed = f"Signed by the key {signing.fingerprint(key)}"
    if expected:
        return "", f"{signed}, that of --public_key."
    return "", f"{signed}, which lies beside it: compare it by --public_key with one you trust."


def command(argv: Sequence[str]) -> NoReturn:
    """Runs ``tlkeras verify``; its first word may be the folder alone."""
    program, *words = argv
    if words and not words[0].startswith("-"):
        words[0] = f"--version={words[0]}"
    flags.run([program, *words], main, Verify, example="--version=saved_models/photos/3")
