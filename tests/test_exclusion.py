"""Examples that a list excludes are in no record, count or statistic, and move no other."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.steps import example_gen, statistics_gen
from pipeline.store import Store
from tlkeras import spec
from tlkeras.data import ingest, records
from tlkeras.data.id_list import IdList
from tlkeras.data.records import Records
from tlkeras.data.splits import Split
from tlkeras.doctor import defects
from tlkeras.sources.folder import Folder

SPLIT = Split(validation=20, test=20)
GONE = ["blue/003.png", "green/010.png", "red/000.png", "red/023.png"]


def rows(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yields the split, the id and the record of every example."""
    for split in records.info(folder).counts:
        for record in Records(folder, split).between(0, 10_000):
            yield split, records.values(record, {})[0], record


def listed(path: Path, ids: list[str]) -> IdList:
    path.write_text("# Withdrawn.\n\n" + "".join(f"{each}\n" for each in ids), encoding="utf-8")
    return IdList(path)


def test_a_list_has_one_id_a_line(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_bytes(
        b"\xef\xbb\xbfa/1.png\r\n\n# taken back in May\n#\n  \n#7\nb 2\na/1.png\n\xff.png"
    )
    assert IdList(path).ids() == ["a/1.png", "#7", "b 2", "\udcff.png"]


def test_only_the_ids_of_a_list_are_in_its_fingerprint(tmp_path):
    first = listed(tmp_path / "a", ["x", "y"]).fingerprint()
    (tmp_path / "b").write_text("y\nx\n# more\n")
    assert IdList(tmp_path / "b").fingerprint() == first
    assert listed(tmp_path / "a", ["x", "z"]).fingerprint() != first


@pytest.mark.parametrize("text", ["ids.txt", "id_list(path='ids.txt')"])
def test_a_bare_path_is_a_list(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ids.txt").touch()
    assert spec.parse(text, IdList) == IdList(Path("ids.txt"))
    with pytest.raises(ValueError, match=r"'id.txt'; did you mean 'ids.txt'\?.* text file of ids"):
        spec.parse("id.txt", IdList)


def test_an_excluded_example_is_gone_and_all_others_are_as_before(pictures, tmp_path):
    source, said = Folder(pictures), []
    before = ingest.write_examples(source, SPLIT, tmp_path / "before")
    after = ingest.write_examples(
        source, SPLIT, tmp_path / "after", said.append, excluded=[*GONE, "blue/3.png"]
    )
    expected = [row for row in rows(tmp_path / "before") if row[1] not in GONE]
    assert [*rows(tmp_path / "after")] == expected
    assert sum(after.counts.values()) == sum(before.counts.values()) - len(GONE)
    assert sum(map(sum, after.class_counts.values())) == len(expected)
    assert said[:2] == [
        "4 of 72 examples are excluded.",
        "1 of 5 excluded ids are in no example; they may have gone already: blue/3.png.",
    ]
    held = b"".join(path.read_bytes() for path in (tmp_path / "after").rglob("*.*"))
    assert not [each for each in GONE if each.encode() in held]


def test_an_excluded_copy_moves_none_of_its_group(pictures, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(pictures, source)
    split = SPLIT.replace(dedup=True)
    for i in range(24):  # The first of each group, which names it, is excluded.
        shutil.copy(source / f"red/{i:03d}.png", source / f"red/a{i:03d}.png")
    ids = [f"red/{i:03d}.png" for i in range(24)]
    ingest.write_examples(Folder(source), split, tmp_path / "before")
    ingest.write_examples(Folder(source), split, tmp_path / "after", excluded=ids)
    expected = [row for row in rows(tmp_path / "before") if row[1] not in ids]
    assert [*rows(tmp_path / "after")] == expected
    held = b"".join(path.read_bytes() for path in (tmp_path / "after").rglob("*.*"))
    assert not [each for each in ids if each.encode() in held]


def test_the_last_example_of_a_class_in_training_moves_no_other(tmp_path, pictures):
    ingest.write_examples(Folder(pictures), SPLIT, tmp_path / "before")
    blue = [i for split, i, _ in rows(tmp_path / "before") if split == "train" and i[0] == "b"]
    said: list[str] = []
    ingest.write_examples(Folder(pictures), SPLIT, tmp_path / "after", said.append, excluded=blue)
    left = {(split, i) for split, i, _ in rows(tmp_path / "before")} - {("train", i) for i in blue}
    assert {(split, i) for split, i, _ in rows(tmp_path / "after")} == left
    assert "The split train has no example of blue." in said


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ("", r"72 of 72 examples are excluded, which leaves none for training; exclude fewer\.$"),
        ("test", r"none for training: the \d+ others are in test; exclude fewer\.$"),
    ],
)
def test_a_list_that_leaves_nothing_to_learn_from_is_refused(pictures, tmp_path, kept, message):
    ingest.write_examples(Folder(pictures), SPLIT, tmp_path / "all")
    excluded = [identity for split, identity, _ in rows(tmp_path / "all") if split != kept]
    with pytest.raises(ValueError, match=message):
        ingest.write_examples(Folder(pictures), SPLIT, tmp_path / "none", excluded=excluded)


def test_a_broken_file_that_is_excluded_harms_nobody(pictures, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(pictures, source)
    (source / GONE[0]).write_bytes(b"not a picture")
    out = tmp_path / "out"
    info = ingest.write_examples(Folder(source), SPLIT, out, excluded=GONE, max_bad_fraction=0.0)
    assert sum(info.counts.values()) == 68 and defects.read(out) == []


def test_the_contents_of_the_list_are_in_the_key_of_the_examples(pictures, tmp_path):
    store, said = Store(tmp_path / "runs"), []
    config = Config(source=Folder(pictures), split=SPLIT)

    def examples(exclude_ids: IdList | None) -> Path:
        own = dataclasses.replace(config, exclude_ids=exclude_ids)
        fields = {name: getattr(own, name) for name in example_gen.examples.read}
        return store.make(example_gen.examples, fields, {}, said.append)

    every, some = examples(None), examples(listed(tmp_path / "ids", GONE[:2]))
    assert examples(listed(tmp_path / "ids", GONE[1::-1])) == some and said[-1] == "reused"
    fewer = examples(listed(tmp_path / "ids", GONE))
    assert len({every, some, fewer}) == 3
    made = store.make(statistics_gen.statistics, {}, {"examples": fewer}, said.append)
    sets = statistics_gen.read(made).datasets
    assert sum(each.num_examples for each in sets) == 68
    told = json.loads((fewer / "_manifest.json").read_text())["asked"]["fields"]["exclude_ids"]
    assert told["fingerprint"] == IdList(tmp_path / "ids").fingerprint()
