"""Signing: the digest of every file of a pushed version, and an Ed25519 signature over them.

``manifest.json`` holds the digests. ``manifest.sig`` is the signature of its bytes (RFC 8032,
https://www.rfc-editor.org/rfc/rfc8032), 64 bytes, and ``signer.pem`` the public key that it fits.
So OpenSSL verifies it without tlkeras: ``openssl pkeyutl -verify -pubin -inkey signer.pem -rawin
-in manifest.json -sigfile manifest.sig``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline import product
from tlkeras import folders

SIGNATURE, SIGNER = "manifest.sig", "signer.pem"

_UNSIGNED = {"manifest.json", SIGNATURE, SIGNER}
_OTHERS = 0o077  # The permissions of all but the owner.
_MADE = "openssl genpkey -algorithm ed25519 -out KEY.pem"


def contents(version: Path) -> dict[str, str]:
    """Returns the sha256 of every file of a version by its name, and where each link leads.

    A file without read permission has ``unreadable``. What holds the digests and the signature is
    not among them.
    """
    found: dict[str, str] = {}
    for path in sorted(version.rglob("*")):
        name = path.relative_to(version).as_posix()
        if path.is_symlink():  # It leads within the version, where its target has its own digest.
            found[name] = f"-> {path.readlink()}"
        elif path.is_dir() or name in _UNSIGNED:
            continue
        elif path.is_file():
            found[name] = product.sha256(path)
        else:
            found[name] = "no file"  # Whoever opens a pipe may wait for ever.
    return found


def private_key(path: Path) -> Any:
    """Returns the key of a PEM file that only its owner may read.

    Raises:
        ValueError: There is no such file, others may read it, or it holds another kind of key.
    """
    flag = f"--sign_key={path}"
    pem = _bytes(path, flag)
    if (mode := path.stat().st_mode & 0o777) & _OTHERS:
        raise ValueError(
            f"{flag} has the permissions {mode:03o}, so others may read or change it; expected "
            f"600. Run chmod 600 {path}, or make a new key if others may have read it."
        )
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return _loaded(
        lambda: serialization.load_pem_private_key(pem, password=None),
        Ed25519PrivateKey,
        f"{flag} holds no Ed25519 private key in PEM without a password; {_MADE} makes one.",
    )


def public_key(path: Path, flag: str = "") -> Any:
    """Returns the public key of a PEM file.

    Raises:
        ValueError: There is no such file, or it holds no such key; the message begins with `flag`.
    """
    named = flag or str(path)
    pem = _bytes(path, named)
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return _loaded(
        lambda: serialization.load_pem_public_key(pem),
        Ed25519PublicKey,
        f"{named} holds no Ed25519 public key in PEM; openssl pkey -in KEY.pem -pubout writes it.",
    )


def sign(version: Path, key: Any) -> None:
    """Writes the signature over the digests of a version, and the public key beside it."""
    (version / SIGNATURE).write_bytes(key.sign((version / "manifest.json").read_bytes()))
    (version / SIGNER).write_bytes(_pem(key.public_key()))


def fits(version: Path, key: Any) -> bool:
    """Returns whether the signature of a version is one of this public key over its digests."""
    from cryptography.exceptions import InvalidSignature

    try:
        signature = (version / SIGNATURE).read_bytes()
        key.verify(signature, (version / "manifest.json").read_bytes())
    except (InvalidSignature, FileNotFoundError):
        return False
    return True


def fingerprint(key: Any) -> str:
    """Returns the sha256 of a public key, of its form in DER: ``sha256:…``."""
    from cryptography.hazmat.primitives import serialization

    form = serialization.PublicFormat.SubjectPublicKeyInfo
    encoded = key.public_bytes(serialization.Encoding.DER, form)
    return f"sha256:{hashlib.sha256(encoded).hexdigest()}"


def _bytes(path: Path, named: str) -> bytes:
    if not path.is_file():
        raise ValueError(f"{named}: {folders.missing(path)} It should be a PEM file.")
    return path.read_bytes()


def _loaded(load: Callable[[], Any], kind: type[Any], otherwise: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        key = load()
    # A key with a password raises TypeError. The library's words may tell of the key, so none do.
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError(otherwise) from None
    if not isinstance(key, kind):
        raise ValueError(otherwise)
    return key


def _pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form)
