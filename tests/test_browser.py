"""The browser exporter, and npm, which brings what the page needs; neither is asked for here."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import re
import shutil
import tarfile

import numpy as np
import pytest
from conftest import Tiny, Wordy, cropped
from test_texts import PAIRS

from tlkeras import spec
from tlkeras.backbones.towers import Towers
from tlkeras.exporter import Exporter
from tlkeras.exporters import browser
from tlkeras.exporters.browser import Browser
from tlkeras.formats import npm, page_inputs
from tlkeras.frameworks import tf
from tlkeras.kinds.text import Text
from tlkeras.model.one_tower import one_tower
from tlkeras.model.transfer_model import TransferModel
from tlkeras.task import Output
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.detection import Detection
from tlkeras.tasks.multilabel import Multilabel
from tlkeras.tasks.regression import Regression
from tlkeras.tasks.retrieval import Retrieval
from tlkeras.tasks.segmentation import Segmentation
from tlkeras.tasks.tagging import Tagging
from tlkeras.texts import characters, inputs


def turned(backbone, example):
    ids = inputs.preprocess(backbone.tokenizer, example, backbone.input, backbone.length)
    return tf.reverse(ids, [-1])


def spread(task, outputs):
    return {"spread": outputs}


def joined(task, outputs):
    return {"probabilities": outputs[:, :1]}


@pytest.mark.parametrize(
    ("backbone", "change", "told"),
    [
        (Tiny(), (Tiny, "preprocess", cropped), "the backbone tiny does otherwise"),
        (Wordy(input="text"), (Wordy, "preprocess", turned), "the backbone wordy does otherwise"),
        (Wordy(input="text"), (Wordy, "tokenizer", None), "the backbone wordy does otherwise"),
        (Wordy(input="text"), (Text, "meaning", "sound"), "the backbone wordy does otherwise"),
        (
            Tiny(),
            (Classification, "served", spread),
            r"the task classification serves \{'spread': \(1, 2\)\}",
        ),
        (
            Tiny(),
            (Classification, "served", joined),
            r"the task classification serves \{'probabilities': \(1, 1\)\}",
        ),
        (
            Tiny(),
            (Classification, "outputs", lambda task: (Output("probabilities", "vector"),) * 2),
            "the task classification serves",
        ),
    ],
)
def test_a_model_that_the_page_cannot_show_is_refused(
    backbone, change, told, tmp_path, monkeypatch
):
    model = TransferModel(backbone, Classification(), ("a", "b"))
    monkeypatch.setattr(*change)
    with pytest.raises(ValueError, match=told):
        Browser().fits(model)
    with pytest.raises(ValueError, match=told):
        Browser().write(model, None, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_row_of_many_numbers_is_no_number_that_the_page_shows():
    pair = TransferModel(Towers(Tiny(), Wordy(input="text")), Retrieval(), ())
    with pytest.raises(ValueError, match=r"serves \{'picture': \(1, 128\)\}; leave this exporter"):
        Browser().fits(one_tower(pair, "picture"))


def test_no_page_shows_a_tower():
    with pytest.raises(ValueError, match=r"tower\.to is browser, expected saved_model, keras, tfl"):
        spec.parse("tower(side='picture', to=browser)", Exporter)


@pytest.mark.parametrize(
    ("backbone", "task", "module", "shows", "names"),
    [
        (Tiny(), Classification(), "picture", "scores", {"scores": "probabilities"}),
        (Wordy(input="text"), Multilabel(), "text", "scores", {"scores": "probabilities"}),
        (Wordy(input="pair"), Regression(), "text", "number", {"vector": "number"}),
        (Wordy(), Tagging(), "text", "tokens", {"tokens": "probabilities"}),
        (Tiny(), Segmentation(), "picture", "mask", {"mask": "mask"}),
        (
            Tiny(),
            Detection(),
            "picture",
            "boxes",
            {"boxes": "boxes", "category": "category", "count": "count", "scores": "scores"},
        ),
    ],
)
def test_every_task_and_input_has_a_script_of_the_page(backbone, task, module, shows, names):
    model = TransferModel(backbone, task, ("a", "b"))
    Browser().fits(model)
    settings, output = page_inputs.settings(model), browser._shown(model)
    assert (settings["module"], output["module"], output["names"]) == (module, shows, names)
    assert {f"{module}.js", f"{shows}.js"} <= {path.name for path in browser.PAGE.iterdir()}
    assert [*settings["tensors"]] == [*model.inputs]
    assert output["threshold"] == (0.5 if isinstance(task, Multilabel) else None)


@pytest.mark.parametrize("change", [{"cut": "qwen2"}, {"composed": True}, {"whole_words": True}])
def test_byte_pairs_that_the_script_would_cut_otherwise_are_refused(change, monkeypatch):
    def preprocess(wordy, example):
        return inputs.preprocess(wordy.tokenizer, example, "text", wordy.length)

    model = TransferModel(Wordy(input="text"), Classification(), ("a", "b"))
    monkeypatch.setattr(Wordy, "preprocess", preprocess)
    monkeypatch.setattr(Wordy, "tokenizer", PAIRS)
    assert page_inputs.settings(model)["module"] == "text"
    monkeypatch.setattr(Wordy, "tokenizer", dataclasses.replace(PAIRS, **change))
    with pytest.raises(ValueError, match="wordy does otherwise"):
        page_inputs.settings(model)


def test_characters_that_no_piece_has_are_told_as_one_strange_letter():
    model = TransferModel(Wordy(input="text"), Classification(), ("a", "b"))
    told = json.loads(page_inputs.files(model)[page_inputs.PIECES])
    runs = dict((first, what) for first, *what in told["characters"])
    assert runs[ord("A")] == [4 * (ord("a") - ord("A")) + characters.LETTER]
    assert runs[ord("a")] == [characters.LETTER] and runs[ord("i")] == [page_inputs._STRANGE]
    assert runs[0xC0][0] == 4 * (ord("a") - 0xC0) + characters.LETTER  # Its accent is gone.
    assert runs[ord("!")] == [characters.PUNCTUATION] and runs[0x200B] == []
    assert runs[0x4E00] == [characters.SPACE, page_inputs._STRANGE, characters.SPACE]
    assert (told["padding"], told["unknown"], told["frames"]) == (
        0,
        1,
        [[[2], [3]], [[2], [3], [3]]],
    )


def test_the_folder_holds_page_packages_licence_and_network(tmp_path, monkeypatch):
    monkeypatch.setattr(npm, "read", lambda package, members: dict.fromkeys(members, b"x"))
    model = TransferModel(Tiny(), Classification(), ("a", "grün"))
    Browser().write(model, None, tmp_path)
    folder = tmp_path / "try"
    expected = {"model.tflite", "model.json", "npm/LICENSE"}
    expected |= {path.name for path in browser.PAGE.iterdir()}
    for package, members in browser._MEMBERS.items():
        expected |= {f"npm/{package.name}/{member}" for member in members}
    files = (path for path in folder.rglob("*") if path.is_file())
    assert {path.relative_to(folder).as_posix() for path in files} == expected
    assert "Apache License" in (folder / "npm" / "LICENSE").read_text(encoding="utf-8")
    told = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    size = (folder / "model.tflite").stat().st_size
    assert (told["classes"], told["bytes"]) == (["a", "grün"], size)
    assert (told["input"]["module"], told["input"]["size"]) == ("picture", 32)
    assert told["input"]["tensors"] == {"image": {"shape": [1, 32, 32, 3], "dtype": "float32"}}
    assert told["output"]["names"] == {"scores": "probabilities"}
    inputs = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    served = Browser().load(tmp_path)(inputs)["probabilities"]
    np.testing.assert_allclose(served, model.served(inputs)["probabilities"], atol=1e-4)


def test_the_policy_allows_the_import_map_as_it_is_and_no_other_text():
    page = (browser.PAGE / "index.html").read_text(encoding="utf-8")
    (import_map,) = re.findall(r'<script type="importmap">(.*?)</script>', page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(import_map.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in page
    assert "unsafe-inline" not in page
    assert " on" + "error=" not in page and " style=" not in page
    for package, path in json.loads(import_map)["imports"].items():
        (published,) = (each for each in browser._MEMBERS if each.name == package)
        assert path.removeprefix(f"./npm/{package}/") in browser._MEMBERS[published]


def test_a_changed_page_is_another_export(tmp_path, monkeypatch):
    before = Browser().fingerprint()
    assert before == spec.parse("browser", Exporter).fingerprint() != ""
    shutil.copytree(browser.PAGE, tmp_path / "page")
    monkeypatch.setattr(browser, "PAGE", tmp_path / "page")
    assert Browser().fingerprint() == before
    (tmp_path / "page" / "page.css").write_text("body { color: red }")
    assert Browser().fingerprint() != before


def archive(files):
    """Returns an npm archive and the package that it is."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as made:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    digest = base64.b64encode(hashlib.sha512(buffer.getvalue()).digest()).decode()
    return buffer.getvalue(), npm.Package("@scope/name", "1.2.3", f"sha512-{digest}")


@pytest.fixture
def client(tmp_path, monkeypatch):
    """Puts a shell script in the place of npm."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")

    def put(script):
        (tmp_path / "bin").mkdir()
        path = tmp_path / "bin" / "npm"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return put


def test_only_the_files_asked_for_leave_the_archive(tmp_path, client):
    content, package = archive(
        {"package/dist/a.js": b"a", "package/b.js": b"b", "../../evil.js": b"evil"}
    )
    (tmp_path / "given.tgz").write_bytes(content)
    client(
        f'[ "$1 $2" = "pack @scope/name@1.2.3" ] && cp {tmp_path}/given.tgz scope-name-1.2.3.tgz'
    )
    assert npm.read(package, ["dist/a.js"]) == {"dist/a.js": b"a"}
    with pytest.raises(ValueError, match=r"^@scope/name@1\.2\.3 has no c\.js\.$"):
        npm.read(package, ["b.js", "c.js"])
    assert not [*tmp_path.rglob("evil.js")]


def test_another_archive_than_the_pinned_one_is_refused(tmp_path, client):
    content, package = archive({"package/a.js": b"a"})
    (tmp_path / "given.tgz").write_bytes(content[:-1] + b"!")
    client(f"cp {tmp_path}/given.tgz a.tgz")
    with pytest.raises(ValueError, match="is damaged or another one") as told:
        npm.read(package, ["a.js"])
    assert not isinstance(told.value, npm.Unreachable)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (
            "echo npm error code ENOTFOUND >&2; echo npm error network away. >&2; exit 1",
            "network away. Check",
        ),
        ("echo npm error code E404 >&2; exit 1", "code E404"),
        ("exit 7", "no reason given"),
        ("exit 0", "it wrote no archive"),
    ],
)
def test_an_npm_that_fails_is_told_in_one_message(script, told, client):
    client(script)
    with pytest.raises(npm.Unreachable, match=f"cannot fetch @scope/name@1.2.3: {told}"):
        npm.read(archive({})[1], [])


def test_a_missing_npm_is_told_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(npm.Unreachable, match="install Node"):
        npm.read(browser.CORE, [])
