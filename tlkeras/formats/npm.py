"""npm: files of published JavaScript packages, fetched by the user's own client and checked.

npm reads the user's settings (registry, proxy, certificates) and has a cache, so a second time
needs no network.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

_SECONDS = 600  # The time limit of npm, its own retries included.


@dataclasses.dataclass(frozen=True)
class Package:
    """One published version.

    Attributes:
        name: As npm knows it, ``@scope/name``.
        version: The exact version.
        integrity: ``sha512-`` and the digest of its archive in base 64, as in a lock file.
    """

    name: str
    version: str
    integrity: str

    def __str__(self) -> str:
        """Returns the name and version as the commands of npm have them."""
        return f"{self.name}@{self.version}"


class Unreachable(ValueError):
    """There is no npm, or it cannot fetch a package; with the network back it may."""


def read(package: Package, members: Sequence[str]) -> dict[str, bytes]:
    """Returns the contents of files of a package by their paths in it; nothing is installed.

    Raises:
        Unreachable: See there.
        ValueError: The archive is not the one of the package's integrity, or lacks a file.
    """
    archive = _archive(package)
    digest = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if f"sha512-{digest}" != package.integrity:
        raise ValueError(
            f"npm gave an archive of {package} whose integrity is sha512-{digest[:12]}…, expected "
            f"{package.integrity[:19]}…: it is damaged or another one. Look at the registry that "
            "'npm config get registry' prints, and run again."
        )
    found: dict[str, bytes] = {}
    # Only the listed members are read, and no path of the archive is ever written to.
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as files:
        for member in files:
            name = member.name.partition("/")[2]  # npm puts all under one folder.
            if name in members and (file := files.extractfile(member)):
                found[name] = file.read()
    if missing := sorted({*members} - {*found}):
        raise ValueError(f"{package} has no {', '.join(missing)}.")
    return found


def _archive(package: Package) -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        raise Unreachable(
            f"{package} is fetched by npm, and there is none on the search path; "
            "install Node.js, which brings it, and run again."
        )
    # In a folder of its own, so that the settings that count are the user's, not a project's.
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", str(package), "--prefer-offline", "--ignore-scripts"]
        try:
            ended = subprocess.run(
                [*command, "--loglevel=error"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise Unreachable(_message(package, f"no answer in {_SECONDS} s")) from None
        if ended.returncode:
            raise Unreachable(_message(package, _reason(ended.stderr)))
        try:
            (path,) = Path(folder).glob("*.tgz")
        except ValueError:
            raise Unreachable(_message(package, "it wrote no archive")) from None
        return path.read_bytes()


def _message(package: Package, reason: str) -> str:
    return (
        f"npm cannot fetch {package}: {reason}. Check the network and the registry that "
        "'npm config get registry' prints, and run again."
    )


def _reason(errors: str) -> str:
    """Returns npm's first error line after the code, or the code."""
    lines = [line.partition("npm error ")[2].strip() for line in errors.splitlines()]
    reasons = [
        line for line in lines if line and not line.startswith(("code ", "syscall ", "errno "))
    ]
    return (reasons or [line for line in lines if line] or ["no reason given"])[0].rstrip(".")
