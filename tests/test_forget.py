"""After a forget nothing holds the examples, however often it was killed."""

import json
import os
import re
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import draw
from withdrawal import cache_name, config, held, model, rows, run

from pipeline import audit, bulk_inferrer, forget, log, product, store, trace, validate, version
from pipeline.forget import Forget
from pipeline.step import Step
from pipeline.steps import resolver
from tlkeras import files
from tlkeras.data import records
from tlkeras.data.id_list import IdList
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.measures import measures


def write(path: Path, ids: list[str]) -> IdList:
    path.write_text("".join(f"{each}\n" for each in ids))
    return IdList(path)


@pytest.fixture(scope="module")
def made(pictures, tmp_path_factory):
    """A place with a store and a pushed version, and its products."""
    place = tmp_path_factory.mktemp("made")
    return place, run(config(pictures, place))


@pytest.fixture(scope="module")
def gone(made):
    """By id the split and the content of two examples, one for training and one for the test."""
    _, products = made
    info = records.info(products["examples"])
    found = {split: (identity, record) for split, identity, record in rows(products["examples"])}
    return {
        found[split][0]: (split, records.values(found[split][1], info.features)[1]["image"])
        for split in ("train", "test")
    }


@pytest.fixture
def place(made, tmp_path):
    """A copy of the place, to harm."""
    shutil.copytree(made[0], tmp_path / "place", symlinks=True)
    return tmp_path / "place"


def settings(place: Path, ids: list[str], **more: Any) -> Forget:
    listed = write(place.parent / "ids.txt", ids)
    return Forget(listed, root=place / "runs", saved_models=place / "saved_models", **more)


def everything(place: Path) -> dict[str, bytes]:
    """Returns every file, but for locks, which hold the number of a process."""
    return {
        path.relative_to(place).as_posix(): path.read_bytes()
        for path in sorted(place.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def assert_gone(place: Path, gone: Any) -> None:
    for name, content in everything(place).items():
        for identity, (_, picture) in gone.items():
            assert picture not in content, name
            assert identity.encode() not in content, name
            # As a report shows bytes.
            assert repr(picture)[2:-1].encode() not in content, name


def test_nothing_holds_a_forgotten_example(place, gone, capsys):
    before = everything(place)
    with pytest.raises(AssertionError):
        assert_gone(place, gone)
    assert forget.main(settings(place, [*gone])) == 0
    assert_gone(place, gone)
    kept = everything(place)
    assert not [name for name in kept if re.match(r"runs/(examples|model|card|exports)/\w+/", name)]
    # The features of a split without the examples are as they were.
    (features,) = {name.split("/")[2] for name in kept if name.startswith("runs/features/")}
    assert features.startswith("validation-")
    changed = [name for name in kept if name in before and kept[name] != before[name]]
    assert changed == ["runs/log.jsonl", "saved_models/colours/1/metrics.json"]
    assert not measures.read(place / "saved_models" / "colours" / "1").views
    assert "report.html" not in {path.name for path in (place / "saved_models/colours/1").iterdir()}


def test_the_version_has_a_mark_that_names_no_id_and_whoever_uses_it_is_told(place, gone):
    forget.main(settings(place, [*gone]))
    folder = place / "saved_models" / "colours" / "1"
    (mark,) = version.withdrawn(folder)
    assert {(each["identity"], each["split"]) for each in mark["examples"]} == {
        (trace.digest_of(identity), split) for identity, (split, _) in gone.items()
    }
    said = version.warning(folder)
    assert re.fullmatch(
        rf"{folder} saw examples that were withdrawn by \d{{4}}-\d\d-\d\d "
        r"\(1 in test, 1 in train\); train it again without them\.",
        said,
    )
    assert version.warning(folder.parent) == ""


def test_the_resolver_and_the_bulk_inferrer_tell_of_the_mark(
    place, gone, tmp_path, monkeypatch, capsys
):
    forget.main(settings(place, [*gone]))
    folder = place / "saved_models" / "colours" / "1"
    capsys.readouterr()
    resolver.resolved.run(
        tmp_path, model=place, baseline=str(folder), name="colours", saved_models=folder.parents[1]
    )
    said = f"  {version.warning(folder)}\n"
    assert capsys.readouterr().out == said
    monkeypatch.setattr(bulk_inferrer, "_described", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bulk_inferrer.predictions.run(
            tmp_path, exports=folder, data=tmp_path, exporter=SavedModel(), batch_size=1
        )
    assert capsys.readouterr().out == said


def test_validate_says_that_the_reference_was_withdrawn_and_brings_no_example_back(
    place, gone, tmp_path
):
    forget.main(settings(place, [*gone]))
    folder = place / "saved_models" / "colours" / "1"
    options = validate.Validation(model=folder, data=str(tmp_path), out=tmp_path / "out")
    with pytest.raises(ValueError, match=r"withdrawn by .*--exclude_ids") as refusal:
        validate.main(options)
    assert "earlier version" not in str(refusal.value)


def test_a_version_that_only_learnt_from_them_keeps_its_report(place, gone):
    (trained,) = [identity for identity, (split, _) in gone.items() if split == "train"]
    forget.main(settings(place, [trained]))
    folder = place / "saved_models" / "colours" / "1"
    assert (folder / "report.html").exists() and measures.read(folder).views


def test_the_certificate_tells_what_is_gone_and_how_to_train_again(place, gone, capsys):
    sums = {
        path.parent.relative_to(place / "runs").as_posix(): product.manifest(path.parent)["digest"]
        for path in place.glob("runs/*/*/_manifest.json")
    }
    forget.main(settings(place, [*gone]))
    (path,) = (place / "runs").glob("certificate-*.json")
    told = json.loads(path.read_text())
    removed = {row["path"]: row["digest"] for row in told["removed"]}
    assert {name: removed[name] for name in sums} == sums
    assert {name.split("-")[0] for name in removed if "features/" in name} == {
        "features/train",
        "features/test",
    }
    assert all(row["digest_after"] is None for row in told["removed"])
    (marked,) = told["marked"]
    folder = place / "saved_models" / "colours" / "1"
    assert marked["digest_after"] == product.digest(product.digests(folder)) != marked["digest"]
    held = ["report.html", "reference.json", "reference.npy"]
    assert marked["redacted"] == [*held, "galleries of metrics.json"]
    (again,) = told["retrain"]
    assert again["what"] == "Version 1 of colours"
    for word in (f"--exclude_ids={place.parent / 'ids.txt'}", "--seed=0", "--name=colours"):
        assert word in again["command"]
    text = path.with_suffix(".md").read_text()
    assert again["command"] in text and "Version 1 of colours" in text
    assert "2 examples were removed from the store" in text
    assert "names of classes and groups, such as of a speaker, are not searched for" in text
    assert again["command"] in capsys.readouterr().out


def test_the_next_run_equals_that_of_a_fresh_store_with_the_same_list(
    place, pictures, gone, tmp_path
):
    own = settings(place, [*gone])
    others = {
        i: record for _, i, record in rows(*place.glob("runs/examples/*[!k]")) if i not in gone
    }
    forget.main(own)
    found = run(config(pictures, place, exclude_ids=own.ids))
    fresh = run(config(pictures, tmp_path / "fresh", exclude_ids=own.ids))
    assert {i: record for _, i, record in rows(found["examples"])} == others
    digests = [
        {name: product.manifest(path)["digest"] for name, path in each.items() if name != "pushed"}
        for each in (found, fresh)
    ]
    assert digests[0] == digests[1] and len(digests[0]) == 8
    assert (place / "saved_models" / "colours" / "2").exists()
    assert_gone(place, gone)
    assert not version.withdrawn(place / "saved_models" / "colours" / "2")


class Killed(BaseException):
    """The process ends here."""


def killing(patch: pytest.MonkeyPatch, at: int) -> list[str]:
    """Kills this process, so to speak, before its change number `at` of the disk."""
    done: list[str] = []

    def wrap(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            done.append(f"{name} {arguments[0]}")
            if len(done) == at:
                if name == "rmtree":  # In the middle of it.
                    for path in [path for path in arguments[0].rglob("*") if path.is_file()][:1]:
                        os.remove(path)  # noqa: PTH107 (the other way is counted)
                raise Killed
            return function(*arguments, **options)

        patch.setattr(owner, name, counted)

    patch.setattr(os, "fsync", lambda _: None)
    for name in ("rename", "replace", "unlink", "write_text"):
        wrap(Path, name)
    wrap(shutil, "rmtree")
    wrap(os, "fsync")
    return done


def linked(source: str, target: str) -> None:
    """Copies a file that is written to, and links all others."""
    (shutil.copy if source.endswith(log.FILE) else os.link)(source, target)


def test_a_forget_killed_at_any_change_of_the_disk_ends_like_an_unbroken_one(
    made, gone, tmp_path, capsys
):
    ends, at = [], 0
    done: list[str] = []
    while True:
        place = tmp_path / str(at) / "place"
        shutil.copytree(made[0], place, symlinks=True, copy_function=linked)
        own = settings(place, [*gone])
        try:
            with pytest.MonkeyPatch.context() as patch:
                done = killing(patch, at)
                forget.main(own)
        except Killed:
            forget.main(own)
        assert_gone(place, gone)
        assert not (place / "runs" / forget.JOURNAL).exists()
        assert audit.main(audit.Audit(root=place / "runs")) == 0
        lines = log.read(place / "runs").entries
        assert sum("forgotten" in line for line in lines) == 1
        (certificate,) = (place / "runs").glob("certificate-*.json")
        told = files.read_json(certificate)
        kept = {name for name in everything(place) if "certificate" not in name}
        names = {name for name in kept if not name.endswith(".partial")}
        ends.append((names, [row["path"] for row in told["removed"]], len(told["marked"])))
        if 0 < at > len(done):
            break
        at += 1
    assert at > 30 and all(end == ends[0] for end in ends)


def test_a_second_withdrawal_finds_the_version_whose_examples_are_removed(place, gone, made):
    first, second = gone
    forget.main(settings(place, [first]))
    forget.main(settings(place, [second]))
    folder = place / "saved_models" / "colours" / "1"
    told = [[each["identity"] for each in mark["examples"]] for mark in version.withdrawn(folder)]
    assert told == [[trace.digest_of(first)], [trace.digest_of(second)]]
    assert len([*(place / "runs").glob("certificate-*.json")]) == 2
    kept = trace.find(place / "runs", place / "saved_models", lambda row: True)
    (sight,) = [each for each in kept.sights if each.rows]
    assert len(sight.rows) == 72 and not kept.unknown


def test_a_certificate_of_a_mark_alone_tells_of_no_removal(place, gone):
    first, second = gone
    forget.main(settings(place, [first]))
    shutil.rmtree(place / "runs" / "features")
    forget.main(settings(place, [second]))
    one, other = (path.read_text() for path in sorted((place / "runs").glob("certificate-*.md")))
    assert "1 example was removed from the store" in one and " and finished at " in one
    assert "1 example is withdrawn; the store" in other
    assert "removed from the store" not in other and "finished" not in other


def test_the_same_list_again_changes_nothing(place, gone, capsys):
    forget.main(settings(place, [*gone]))
    before = everything(place)
    capsys.readouterr()
    assert forget.main(settings(place, [*gone])) == 0
    assert everything(place) == before
    assert "2 ids were forgotten before" in capsys.readouterr().out


def test_a_product_beside_the_log_of_other_work_is_forgotten_by_the_store_of_its_input(
    place, made, gone
):
    @Step
    def explanations(out: Path, *, data: Path) -> None:
        (out / "pictures").write_bytes(held(data, "train", "test"))

    log.append(place)
    examples = place / made[1]["examples"].relative_to(made[0])
    store.make(explanations, place / "explained", {}, {"data": examples})
    assert log.read(place / "runs").entries[-1]["made"]["path"] == "../explained"
    forget.main(settings(place, [*gone]))
    assert not (place / "explained").exists()
    assert_gone(place, gone)


def test_a_store_without_a_log_gets_its_certificate_all_the_same(place, gone, capsys):
    (place / "runs" / log.FILE).unlink()
    assert forget.main(settings(place, [*gone])) == 0
    assert "Certificate" in capsys.readouterr().out
    assert not (place / "runs" / forget.JOURNAL).exists()
    assert [entry for entry in log.read(place / "runs").entries if "forgotten" in entry]


def test_a_dry_run_prints_and_changes_nothing(place, gone, capsys):
    before = everything(place)
    assert forget.main(settings(place, [*gone], dry_run=True)) == 0
    assert everything(place) == before
    said = capsys.readouterr().out
    assert re.search(r"^examples +would be removed +examples/[0-9a-f]{16}$", said, re.MULTILINE)
    assert re.search(r"^version +would be marked, 1 test, 1 train ", said, re.MULTILINE)
    assert "Certificate" not in said


def test_of_several_data_sets_only_that_with_the_example_is_touched(
    place, gone, pictures, tmp_path
):
    products = run(config(renamed(pictures, tmp_path / "other"), place, name="others"))
    before = everything(place)
    forget.main(settings(place, [*gone]))
    after = everything(place)
    for path in (*products.values(), place / "saved_models" / "others"):
        name = path.relative_to(place).as_posix()
        own = {key: value for key, value in before.items() if key.startswith(f"{name}/")}
        assert own and own.items() <= after.items()
    assert (place / "runs/features" / cache_name(products["examples"], "train")).exists()


def test_an_example_in_quarantine_is_forgotten_and_the_version_is_not_marked(
    pictures, tmp_path, capsys
):
    place, source = tmp_path / "place", tmp_path / "source"
    shutil.copytree(pictures, source)
    (source / "red" / "broken_a.png").write_bytes(b"broken")
    run(config(source, place, max_bad_fraction=0.1))
    with pytest.raises(ValueError, match="1 of 73 examples cannot be used"):
        run(config(source, place, max_bad_fraction=0.0))
    assert [*place.glob("runs/quarantine/*.json")]
    forget.main(settings(place, ["red/broken_a.png"]))
    assert not [name for name, held in everything(place).items() if b"broken_a" in held]
    assert not version.withdrawn(place / "saved_models" / "colours" / "1")


def renamed(pictures: Path, out: Path) -> Path:
    """Returns a folder with the same pictures by other ids."""
    for path in pictures.rglob("*.png"):
        (out / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, out / path.parent.name / f"other_{path.name}")
    return out


def test_what_a_killed_run_left_of_the_examples_is_removed_and_nothing_else(
    place, gone, made, tmp_path
):
    source = renamed(draw(tmp_path / "drawn", 8, seed=5), tmp_path / "other")
    others = run(config(source, place, name="others"))
    other = product.manifest(others["examples"])["digest"]
    lost = place / "runs" / "model" / f"{'d' * 16}.partial"
    left = place / "runs" / "model" / f"{'a' * 16}.partial"
    spared = place / "runs" / "model" / f"{'b' * 16}.partial"
    unknown = place / "runs" / "examples" / f"{'c' * 16}.scratch"
    digest, (first, _) = product.manifest(made[1]["examples"])["digest"], gone
    for path, read in ((left, digest), (spared, other), (lost, "gone")):
        with (
            pytest.raises(Killed),
            product.appearing(
                path.with_suffix(""), {"step": "model", "inputs": {"examples": read}}, {}
            ),
        ):
            (path / "_scratch" / "weights").write_text("" if path == spared else first)
            raise Killed
    unknown.mkdir()
    (unknown / "found.json").write_text(first)
    forget.main(settings(place, [*gone]))
    assert_gone(place, gone)
    assert (spared / "_scratch" / "weights").exists() and not lost.exists()


def test_what_was_made_of_examples_that_are_gone_is_removed_and_told(
    place, gone, pictures, made, tmp_path, capsys
):
    store = place / "runs"
    grown = tmp_path / "grown"
    shutil.copytree(pictures, grown)
    shutil.copy(grown / "red" / "000.png", grown / "red" / "other.png")
    run(config(grown, place))
    for step in ("examples", "statistics"):
        shutil.rmtree(place / made[1][step].relative_to(made[0]))
    capsys.readouterr()
    forget.main(settings(place, [*gone]))
    assert_gone(store, gone)
    assert not (place / made[1]["schema"].relative_to(made[0])).exists()
    assert "nobody can tell: the store does not have its examples." in capsys.readouterr().out
    (path,) = store.glob("certificate-*.json")
    told = json.loads(path.read_text())
    model = made[1]["model"].relative_to(made[0] / "runs").as_posix()
    assert {model, "../saved_models/colours/1"} <= {*told["unknown"]}
    assert model in {row["path"] for row in told["removed"]}
    assert "| ../saved_models/colours/1 |" in path.with_suffix(".md").read_text()


def test_a_folder_of_the_store_behind_a_link_is_searched(place, gone, tmp_path):
    features = place / "runs" / "features"
    features.rename(tmp_path / "scratch")
    features.symlink_to(tmp_path / "scratch")
    forget.main(settings(place, [*gone]))
    assert_gone(tmp_path / "scratch", gone)
    assert [*features.glob("validation-*")] and not [*features.glob("train-*")]


def test_a_step_at_work_is_waited_for(place, gone, monkeypatch):
    waits, said = threading.Event(), []

    def say(text: str) -> None:
        said.append(text)
        waits.set()

    monkeypatch.setattr(forget, "print", say, raising=False)
    thread = threading.Thread(target=forget.main, args=(settings(place, [*gone]),), daemon=True)
    with log.shared(place / "runs", print):
        thread.start()
        assert waits.wait(60) and said == ["waits until the steps at work there have ended"]
        assert [*place.glob("runs/model/*/weights")]
    thread.join(60)
    assert_gone(place, gone)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (
            ["blue/0O3.png"],
            r"No example in .*runs has the id 'blue/0O3.png'; did you mean .*'blue/003.png'\?$",
        ),
        (["x1", "x2", "x3"], r"has the id 'x1' or one of 2 others; "),
        ([], r"There is no id in .*ids\.txt"),
    ],
)
def test_a_list_without_an_example_is_refused(place, ids, message):
    before = everything(place)
    with pytest.raises(ValueError, match=message):
        forget.main(settings(place, ids))
    assert everything(place) == before


def test_an_unknown_id_beside_a_known_one_is_told(place, gone, capsys):
    own = settings(place, [*gone, "blue/999.png"])
    with own.ids.path.open("ab") as file:
        file.write(b"\xff.png\n")
    forget.main(own)
    said = capsys.readouterr().out
    assert "2 ids are of no example there: blue/999.png, \\udcff.png." in said
    assert_gone(place, gone)


def test_wrong_places_are_named(place, gone, tmp_path):
    own = settings(place, [*gone])
    with pytest.raises(
        ValueError, match=r"--root=.*run: There is no folder .* did you mean '.*runs'"
    ):
        forget.main(own.replace(root=place / "run"))
    (place / "saved_models" / "colours" / "1" / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"colours/1/manifest\.json cannot be read"):
        forget.main(own)
    assert model.name == "model"
