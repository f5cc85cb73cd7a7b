"""Which products and versions saw an example, and in which split it was."""

import difflib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from withdrawal import SPLIT, config, rows, run

from pipeline import forget, lineage, store, trace
from pipeline.forget import Forget
from pipeline.lineage import Lineage
from pipeline.step import Step
from pipeline.steps import evaluator
from tlkeras.data import ingest
from tlkeras.data.id_list import IdList
from tlkeras.sources.folder import Folder

MADE = ("card", "evaluation", "examples", "exports", "infra_blessing", "model", "pushed")


@pytest.fixture(scope="module")
def made(pictures, tmp_path_factory):
    """A place with two runs: of all pictures, and of the blue and green ones alone."""
    place = tmp_path_factory.mktemp("made")
    first = run(config(pictures, place))
    other = tmp_path_factory.mktemp("other") / "fewer"
    shutil.copytree(pictures, other, ignore=shutil.ignore_patterns("red"))
    second = run(config(other, place, name="fewer"))
    return place, first, second


def first_of(examples: Path, split: str, colour: str) -> str:
    return next(i for found, i, _ in rows(examples) if found == split and i.startswith(colour))


def seen(place: Path, capsys: Any, **named: Any) -> list[list[str]]:
    """Returns the cells of the table, the name of the place left out."""
    own = Lineage(root=place / "runs", saved_models=place / "saved_models", **named)
    capsys.readouterr()
    assert lineage.main(own) == 0
    _, _, *lines = capsys.readouterr().out.split("\n\n")[0].strip().splitlines()
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
    return [[*row[:-1], str(Path(row[-1]).relative_to(place))] for row in cells]


@pytest.mark.parametrize(
    ("split", "use"),
    [
        ("train", "training"),
        ("validation", "chooses among fits, or sets factors and thresholds of one"),
        ("test", "measures, trains nothing"),
    ],
)
def test_every_product_and_version_that_saw_an_example_is_told_with_its_split(
    made, capsys, split, use
):
    place, first, _ = made
    found = seen(place, capsys, id=first_of(first["examples"], split, "red"))
    assert {(row[1], row[2]) for row in found} == {(split, use)}
    told = {row[0]: row[3] for row in found}
    assert told["version"] == "saved_models/colours/1"
    assert told["features"].startswith(f"runs/features/{split}-head-")
    for name in MADE:
        assert told[name] == first[name].relative_to(place).as_posix()


def test_an_example_of_two_data_sets_is_found_in_both(made, capsys):
    place, first, second = made
    found = seen(place, capsys, id=first_of(first["examples"], "train", "blue"))
    for products in (first, second):
        names = {product.relative_to(place).as_posix() for product in products.values()}
        assert names <= {row[3] for row in found}
    versions = [row[3] for row in found if row[0] == "version"]
    assert versions == ["saved_models/colours/1", "saved_models/fewer/1"]


def test_after_a_forget_the_mark_still_tells_it(made, tmp_path, capsys):
    place = tmp_path / "place"
    shutil.copytree(made[0], place, symlinks=True)
    identity = first_of(made[1]["examples"], "test", "red")
    (tmp_path / "ids").write_text(identity)
    forget.main(Forget(IdList(tmp_path / "ids"), place / "runs", place / "saved_models"))
    capsys.readouterr()
    (row,) = seen(place, capsys, id=identity)
    assert row == ["version", "test", "measures, trains nothing", "saved_models/colours/1"]


def test_predictions_elsewhere_are_found_by_the_log_and_by_their_ids(made, tmp_path, capsys):
    @Step
    def predictions(out: Path, *, data: Path, written: str) -> None:
        (out / "predictions.jsonl").write_text(written)

    place = tmp_path / "place"
    shutil.copytree(made[0], place, symlinks=True)
    (tmp_path / "new").mkdir()
    examples = place / made[1]["examples"].relative_to(made[0])
    out = place / "predictions"
    store.make(predictions, out, {"written": ""}, {"data": examples})
    inner = place / "runs" / "answers"
    written = json.dumps({"id": "of/a/file.png", "label": "red"}) + "\n"
    store.make(predictions, inner, {"written": written}, {"data": tmp_path / "new"})
    found = seen(place, capsys, id=first_of(examples, "train", "red"))
    assert ["predictions", "train", "training", "predictions"] in found
    (row,) = seen(place, capsys, id="of/a/file.png")
    assert row == ["predictions", "predicted", "predicted", "runs/answers"]


def test_explanations_are_found_by_their_ids(made, tmp_path, capsys):
    @Step
    def explanations(out: Path, *, data: Path) -> None:
        (out / "explanations.jsonl").write_text(json.dumps({"id": "of/a/file.png"}) + "\n")

    place = tmp_path / "place"
    shutil.copytree(made[0], place, symlinks=True)
    (tmp_path / "new").mkdir()
    store.make(explanations, place / "runs" / "explained", {}, {"data": tmp_path / "new"})
    (row,) = seen(place, capsys, id="of/a/file.png")
    assert row == ["explanations", "predicted", "predicted", "runs/explained"]


def test_a_text_is_found_by_a_copy_of_its_file_with_any_mark_and_line_breaks(tmp_path, capsys):
    @Step
    def examples(out: Path, *, data: Path) -> None:
        ingest.write_examples(Folder(data), SPLIT, out)

    for number in range(9):
        file = tmp_path / "data" / "ab"[number % 2] / f"{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(f"\ufeffnumber {number},\r\nsaid he\r\n".encode())
    store.make(examples, tmp_path / "runs" / "examples" / "1", {}, {"data": tmp_path / "data"})
    shutil.copy(tmp_path / "data" / "a" / "4.txt", tmp_path / "copy.TXT")
    (row,) = seen(tmp_path, capsys, file=tmp_path / "copy.TXT")
    assert row[0] == "examples"
    (tmp_path / "copy.TXT").write_text("number 40,\nsaid he\n")
    with pytest.raises(ValueError, match="has the content of"):
        seen(tmp_path, capsys, file=tmp_path / "copy.TXT")


def test_examples_of_another_store_are_known_and_products_elsewhere_are_told_alone(made, tmp_path):
    @Step
    def model(out: Path, *, examples: Path) -> None:
        (out / "weights").write_text("")

    place, root = tmp_path / "place", tmp_path / "runs"
    shutil.copytree(made[0], place, symlinks=True)
    examples = place / made[1]["examples"].relative_to(made[0])
    store.make(model, root / "model" / f"{'a' * 16}", {}, {"examples": examples})
    store.make(model, place / "elsewhere", {}, {"examples": examples})
    identity = trace.digest_of(first_of(examples, "train", "red"))
    for wanted, expected in ((identity, [root / "model" / f"{'a' * 16}"]), ("", [])):
        found = trace.find(
            root, tmp_path / "none", lambda row, wanted=wanted: row.identity == wanted
        )
        assert [sight.path for sight in found.sights] == expected and not found.unknown
    shutil.rmtree(examples)
    found = trace.find(place / "runs", place / "saved_models", lambda row: False)
    assert place / "elsewhere" in found.unknown
    assert place / "elsewhere" not in {sight.path for sight in found.sights}


def test_of_a_version_and_of_products_without_their_examples_nobody_can_tell(
    made, tmp_path, capsys
):
    place, first, second = made
    shutil.copytree(place, tmp_path / "place", symlinks=True)
    shutil.rmtree(tmp_path / "place" / second["examples"].relative_to(place))
    own = Lineage(
        id=first_of(first["examples"], "train", "red"),
        root=tmp_path / "place" / "runs",
        saved_models=tmp_path / "place" / "saved_models",
    )
    lineage.main(own)
    assert " nobody can tell: the store does not have its examples." in capsys.readouterr().out
    found = trace.find(own.root, own.saved_models, lambda row: False)
    unknown = {path.relative_to(tmp_path / "place").as_posix() for path in found.unknown}
    lost = [second[name] for name in second if name != "examples"]
    assert unknown >= {*(path.relative_to(place).as_posix() for path in lost)}
    assert "saved_models/fewer/1" in unknown and "saved_models/colours/1" not in unknown
    assert len([path for path in unknown if path.startswith("runs/features/")]) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "red/0O0.png"}, r"has the id 'red/0O0.png'; did you mean 'red/0.*\?$"),
        ({"id": "red/000.png", "root": Path("runz")}, r"--root=runz: There is no folder or file"),
        ({"file": Path("none.png")}, r"--file=none.png cannot be read: No such file"),
        ({"id": "a", "file": Path("b")}, "Name one example, by --id or by --file"),
        ({}, "Name one example, by --id or by --file"),
    ],
)
def test_what_cannot_be_found_is_one_clear_message(made, changes, message):
    place, _, _ = made
    given = {"root": place / "runs", "saved_models": place / "saved_models", **changes}
    with pytest.raises(ValueError, match=message):
        lineage.main(Lineage(**given))


def test_of_very_many_ids_a_misspelt_one_is_compared_with_few(monkeypatch):
    compared = []
    close = difflib.get_close_matches
    monkeypatch.setattr(
        difflib, "get_close_matches", lambda *a, **b: compared.append(len(a[1])) or close(*a, **b)
    )
    ids = [f"rose/{number:06}.jpg" for number in range(100_000)]
    said = lineage.nearest("rose/01234.jpg", ids)
    assert said.startswith("did you mean 'rose/0") and said.endswith(".jpg'?")
    assert "a/1.jpg" not in lineage.nearest("a/1.jpg", ids)
    assert "rose/099999.jpg" in lineage.nearest("rose/099999jpg", ids)
    assert max(compared) == lineage._COMPARED


def test_every_split_has_a_word_for_its_use():
    assert {"train", *evaluator._SPLITS, "target", evaluator._TARGET} <= {*lineage.USES}


def test_a_digest_stands_for_an_id_with_any_bytes():
    # printf 'a\xff' | sha256sum
    expected = "8dd06b5ab6b594257e41b7d8dd440a4062eddc67fdab5c13b4dc300176896f6e"
    assert trace.digest_of("a\udcff") == expected
