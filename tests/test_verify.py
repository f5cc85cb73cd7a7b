"""A pushed version: its digests tell what was changed, its signature who made it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import withdrawal
from conftest import draw
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from pipeline import forget, signing, verify
from pipeline.forget import Forget
from pipeline.verify import Verify
from tlkeras.data.id_list import IdList

ROOT = Path(__file__).parents[1]


def private(path: Path, key: Any, password: bytes = b"", mode: int = 0o600) -> Path:
    """Writes a private key as PEM."""
    kept = form.BestAvailableEncryption(password) if password else form.NoEncryption()
    path.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, kept))
    path.chmod(mode)
    return path


def public(path: Path, key: Any) -> Path:
    encoding, shape = form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(key.public_key().public_bytes(encoding, shape))
    return path


KEY, OTHER = (ed25519.Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in (1, 2))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Where a toy pipeline pushed version 1 unsigned, and version 2 signed by `KEY`."""
    place = tmp_path_factory.mktemp("place")
    options = withdrawal.config(draw(place / "pictures", 8), place)
    withdrawal.run(options)
    withdrawal.run(options.replace(sign_key=private(place / "key.pem", KEY)))
    return place


@pytest.fixture
def copied(place, tmp_path) -> Callable[[int], Path]:
    """Returns a version to be changed."""

    def copy(number: int) -> Path:
        out = tmp_path / "saved_models" / "colours" / str(number)
        shutil.copytree(place / "saved_models" / "colours" / str(number), out, symlinks=True)
        return out

    return copy


def said(version: Path, capsys: Any, status: int, key: Path | None = None) -> list[str]:
    """Returns the lines that `tlkeras verify` prints."""
    capsys.readouterr()
    assert verify.main(Verify(version=version, public_key=key)) == status
    return capsys.readouterr().out.splitlines()


def test_a_version_as_it_was_pushed_is_whole_and_its_signer_is_told(place, tmp_path, capsys):
    versions = place / "saved_models" / "colours"
    nobody = "Nobody signed it: who changed a file could have changed its digest, too."
    first, last = said(versions / "1", capsys, 0)
    assert first.endswith(" files were pushed as version 1 of colours; 0 differ.")
    assert last == nobody
    signed = f"Signed by the key {signing.fingerprint(KEY.public_key())}"
    *_, last = said(versions / "2", capsys, 0)
    assert last.startswith(f"{signed}, which lies beside it: compare it by --public_key")
    *_, last = said(versions / "2", capsys, 0, public(tmp_path / "public.pem", KEY))
    assert last == f"{signed}, that of --public_key."
    other = public(tmp_path / "other.pem", OTHER)
    assert said(versions / "1", capsys, 1, other)[0] == nobody
    assert said(versions / "2", capsys, 1, other)[0] == (
        f"Another key signed it, {signing.fingerprint(KEY.public_key())}."
    )


def changed(version: Path) -> None:
    with (version / "labels.txt").open("a") as file:
        file.write("violet\n")


def mended(version: Path) -> None:
    """Changes a file, and its digest too."""
    changed(version)
    manifest = json.loads((version / "manifest.json").read_text())
    manifest["files"] = signing.contents(version)
    (version / "manifest.json").write_text(json.dumps(manifest))


def led_elsewhere(version: Path) -> None:
    (version / "variables").unlink()
    (version / "variables").symlink_to("/etc/passwd")


@pytest.mark.parametrize(
    ("damage", "lines"),
    [
        (changed, ["labels.txt was changed."]),
        (lambda v: (v / "labels.txt").unlink(), ["labels.txt is missing."]),
        (lambda v: (v / "saved_model" / "new.so").touch(), ["saved_model/new.so was added."]),
        (led_elsewhere, ["variables was changed."]),
        (lambda v: os.mkfifo(v / "pipe"), ["pipe was added."]),
        (
            lambda v: (v / "labels.txt").rename(v / "moved.txt"),
            ["labels.txt is missing.", "moved.txt was added."],
        ),
        (mended, ["manifest.sig does not fit: manifest.json or the signature was changed."]),
        (
            lambda v: (v / "manifest.sig").write_bytes(bytes(64)),
            ["manifest.sig does not fit: manifest.json or the signature was changed."],
        ),
        (
            lambda v: (v / "manifest.sig").unlink(),
            ["Of signer.pem and manifest.sig there is only signer.pem."],
        ),
    ],
)
def test_what_was_changed_in_a_signed_version_is_named(damage, lines, copied, tmp_path, capsys):
    version = copied(2)
    damage(version)
    found = said(version, capsys, 1, public(tmp_path / "public.pem", KEY))
    assert found[: len(lines)] == lines
    assert not [line for line in found[len(lines) :] if line.endswith(("changed.", "missing."))]


def test_a_version_signed_anew_by_another_shows_only_beside_the_key(copied, tmp_path, capsys):
    version = copied(2)
    mended(version)
    signing.sign(version, OTHER)
    *_, last = said(version, capsys, 0)
    assert signing.fingerprint(OTHER.public_key()) in last
    fault, *_ = said(version, capsys, 1, public(tmp_path / "public.pem", KEY))
    assert fault == f"Another key signed it, {signing.fingerprint(OTHER.public_key())}."


def test_openssl_finds_the_same_signature_right(copied):
    version, openssl = copied(2), shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on the search path")
    command = [
        *(openssl, "pkeyutl", "-verify", "-pubin", "-inkey", "signer.pem", "-rawin"),
        *("-in", "manifest.json", "-sigfile", "manifest.sig"),
    ]
    assert subprocess.run(command, cwd=version, capture_output=True).returncode == 0
    mended(version)
    assert subprocess.run(command, cwd=version, capture_output=True).returncode != 0


def test_of_a_marked_version_it_is_said_why_files_differ(place, copied, tmp_path, capsys):
    version, ids = copied(2), tmp_path / "ids.txt"
    ids.write_text("red/000.png\nred/001.png\nred/002.png\nblue/000.png\nblue/001.png\n")
    shutil.copytree(place / "runs", tmp_path / "runs")
    saved_models = tmp_path / "saved_models"
    forget.main(Forget(ids=IdList(ids), root=tmp_path / "runs", saved_models=saved_models))
    lines = said(version, capsys, 1)
    assert "withdrawn.json was added." in lines
    assert [line for line in lines if "saw examples that were withdrawn" in line]
    assert "tlkeras forget, which marked it, removed files and changed others." in lines


def test_a_version_of_before_the_digests_and_no_version_are_told(copied, tmp_path):
    version = copied(1)
    manifest = json.loads((version / "manifest.json").read_text())
    for older in ({k: manifest[k] for k in ("version", "name")}, {**manifest, "files": 3}, []):
        (version / "manifest.json").write_text(json.dumps(older))
        with pytest.raises(ValueError, match=r"has no digests of its files: an earlier tlkeras"):
            verify.main(Verify(version=version))
    with pytest.raises(ValueError, match=r"--version=.*gone"):
        verify.main(Verify(version=tmp_path / "gone"))
    with pytest.raises(ValueError, match=r"--public_key=.*labels\.txt holds no Ed25519 public"):
        verify.main(Verify(version=version, public_key=version / "labels.txt"))


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (lambda path: private(path, KEY, mode=0o640), "has the permissions 640, so others may"),
        (lambda path: private(path, KEY, password=b"x"), "no Ed25519 private key in PEM without"),
        (lambda path: private(path, rsa.generate_private_key(65537, 1024)), "no Ed25519 private"),
        (lambda path: public(path, KEY).chmod(0o600), "holds no Ed25519 private key"),
        (lambda path: path.write_bytes(b"-----BEGIN") and path.chmod(0o600), "no Ed25519 private"),
        (lambda path: None, "It should be a PEM file."),
    ],
    ids=["readable by others", "password", "RSA", "public", "damaged", "missing"],
)
def test_a_key_that_cannot_sign_is_refused(written, message, tmp_path):
    written(tmp_path / "key.pem")
    with pytest.raises(ValueError, match=rf"^--sign_key=.*key\.pem.*{message}"):
        signing.private_key(tmp_path / "key.pem")


def test_what_is_signed_is_not_pushed_again_and_no_file_holds_the_key(place, tmp_path):
    options = withdrawal.config(place / "pictures", place, sign_key=place / "key.pem")
    pushed = withdrawal.run(options)["pushed"]
    version = Path(json.loads((pushed / "pushed.json").read_text())["folder"])
    assert version.name == "2" and not (version.parent / "3").exists()
    raw = KEY.private_bytes(form.Encoding.Raw, form.PrivateFormat.Raw, form.NoEncryption())
    body = (place / "key.pem").read_bytes().splitlines()[1]
    for path in (p for folder in ("runs", "saved_models") for p in (place / folder).rglob("*")):
        if path.is_file():
            held = path.read_bytes()
            assert raw not in held and body not in held and b"key.pem" not in held, path


def test_the_command_takes_a_bare_folder_and_imports_no_tensorflow(copied):
    version = copied(2)
    changed(version)
    script = (
        "import sys; sys.argv[0] = 'tlkeras'\n"
        "try:\n    import pipeline.__main__ as m; m.main()\n"
        "finally:\n    print({*sys.modules} & {'tensorflow', 'keras'})"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, "verify", str(version)],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    lines = ended.stdout.splitlines()
    assert ended.returncode == 1 and not ended.stderr
    assert (lines[0], lines[-1]) == ("labels.txt was changed.", "set()")
