"""The laws of every source; a new file under ``tlkeras/sources`` adds a sample of its data here."""

from __future__ import annotations

import functools
import io
import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import scanner
from PIL import Image

from tlkeras import spec
from tlkeras.data import ingest, reading
from tlkeras.data.splits import Split
from tlkeras.source import Source
from tlkeras.sources.coco import COCO
from tlkeras.sources.conll import CoNLL
from tlkeras.sources.csv import CSV
from tlkeras.sources.dicom import DICOM
from tlkeras.sources.domains import Domains
from tlkeras.sources.embedded import Embedded
from tlkeras.sources.folder import Folder
from tlkeras.sources.instances import Instances
from tlkeras.sources.jsonl import JSONL
from tlkeras.sources.masks import Masks
from tlkeras.sources.nifti import NIfTI
from tlkeras.sources.tfds import TFDS
from tlkeras.sources.voc import VOC
from tlkeras.sources.yolo import YOLO

# Said inside protobuf when TensorFlow Datasets reads its own metadata.
pytestmark = pytest.mark.filterwarnings(r"ignore:label\(\) is deprecated:DeprecationWarning")

MEMBERS = [
    name for name, cls in spec.names(Source).items() if cls.__module__.startswith("tlkeras.")
]

Changed = Callable[[], Source]


def png(number: int) -> bytes:
    """Returns a small picture unlike any other number's."""
    pixels = np.random.default_rng(number).integers(0, 255, (6, 7, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def put(root: Path, *names: str) -> Path:
    """Writes a picture of its own under every name."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(number))
    return root


def _folder(place: Path) -> tuple[Source, Changed]:
    root = put(place / "photos", *(f"{name}/{i}.png" for name in ("cat", "dog") for i in range(8)))

    def change() -> Source:
        put(root, "dog/new.png")
        return Folder(root)

    return Folder(root), change


def _text_files(place: Path) -> tuple[Source, Changed]:
    root = place / "reviews"
    for number in range(12):
        file = root / ("neg" if number % 2 else "pos") / f"{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"Text {number}.\nGrüße!\n")

    def change() -> Source:
        (root / "pos/0.txt").unlink()
        return Folder(root)

    return Folder(root), change


def _csv(place: Path) -> tuple[Source, Changed]:
    put(place, *(f"pictures/{i}.png" for i in range(12)))
    table = place / "table.csv"
    lines = ["image,label", *(f"pictures/{i}.png,{'cat' if i % 2 else 'dog'}" for i in range(12))]
    table.write_text("\n".join(lines))

    def change() -> Source:
        table.write_text("\n".join(lines[:-1]))
        return CSV(table)

    return CSV(table), change


def _lines(source: Source, name: str, lines: list[str]) -> tuple[Source, Changed]:
    """Writes a file of texts for a source of it; the change is one example fewer."""
    file = getattr(source, "path") / name  # noqa: B009
    file.write_text("".join(lines))

    def change() -> Source:
        file.write_text("".join(lines[:-1]))
        return source.replace(path=file)

    return source.replace(path=file), change


def _texts(place: Path) -> tuple[Source, Changed]:
    rows = [f'"Grüße, {i}\n",{"cat" if i % 2 else "dog"}\n' for i in range(12)]
    return _lines(CSV(place), "texts.tsv", ["text,label\n", *rows])


def _pairs(place: Path) -> tuple[Source, Changed]:
    rows = [f"a {i},b {i},{'cat' if i % 2 else 'dog|cat'}\n" for i in range(12)]
    source = CSV(place, pair="pair", multilabel=True, separator="|")
    return _lines(source, "pairs.csv", ["text,pair,label\n", *rows])


def _jsonl(place: Path) -> tuple[Source, Changed]:
    rows = [json.dumps({"text": f"text {i}", "label": i % 2}) + "\n" for i in range(12)]
    return _lines(JSONL(place), "texts.jsonl", rows)


def _conll(place: Path) -> tuple[Source, Changed]:
    rows = [f"word{i} O\nOslo B-LOC\n\n" for i in range(12)]
    return _lines(CoNLL(place), "words.conll", rows)


def _embedded(data: str, target: str, place: Path) -> tuple[Source, Changed]:
    source = spec.parse(f"embedded(data={data!r}, count=40, size=32, target={target!r})", Source)
    return source, lambda: source.replace(count=39)


def _tfds(place: Path) -> tuple[Source, Changed]:
    prepare(place / "first", 8)

    def change() -> Source:
        shutil.rmtree(place / "first")
        prepare(place / "first", 9)
        return TFDS("tiny_pictures", data_dir=place / "first")

    return TFDS("tiny_pictures", data_dir=place / "first"), change


def _tfds_texts(place: Path) -> tuple[Source, Changed]:
    prepare(place / "first", 8, _text_builder())

    def change() -> Source:
        shutil.rmtree(place / "first")
        prepare(place / "first", 9, _text_builder())
        return source.replace()

    source = TFDS("tiny_texts", data_dir=place / "first", pair="second")
    return source, change


def _masks(place: Path) -> tuple[Source, Changed]:
    put(place, *(f"images/{i}.png" for i in range(12)))
    for i in range(12):
        numbers = np.full((6, 7), i % 3, np.uint8)
        (place / "masks").mkdir(exist_ok=True)
        Image.fromarray(numbers).save(place / f"masks/{i}.png")
    source = Masks(place / "images", place / "masks", names=("background", "sea", "ship"))

    def change() -> Source:
        (place / "masks/11.png").unlink()
        return source.replace()

    return source, change


_BOXES = ["cat", "dog", "cat"]


def _voc(place: Path) -> tuple[Source, Changed]:
    put(place, *(f"JPEGImages/{i}.png" for i in range(12)))
    (place / "Annotations").mkdir()
    (place / "ImageSets/Main").mkdir(parents=True)
    for name, numbers in {"train": range(9), "test": range(9, 12)}.items():
        (place / f"ImageSets/Main/{name}.txt").write_text("\n".join(map(str, numbers)))

    for number in range(12):
        objects = "".join(
            f"<object><name>{name}</name><bndbox><xmin>1</xmin><ymin>{top}</ymin>"
            f"<xmax>5</xmax><ymax>6</ymax></bndbox></object>"
            for top, name in enumerate(_BOXES[: 1 + number % 3], start=1)
        )
        text = f"<annotation><size><width>7</width><height>6</height></size>{objects}</annotation>"
        (place / f"Annotations/{number}.xml").write_text(text)

    def change() -> Source:
        (place / "JPEGImages/3.png").unlink()
        return VOC(place)

    return VOC(place), change


def _coco(place: Path) -> tuple[Source, Changed]:
    put(place, *(f"images/{i}.png" for i in range(12)))
    table = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(12)],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            {"id": i, "image_id": i // 2, "category_id": (3, 7)[i % 2], "bbox": [1, 2, 3, 4]}
            for i in range(20)
        ],
    }
    (place / "boxes.json").write_text(json.dumps(table))

    def change() -> Source:
        table["images"].pop()
        (place / "boxes.json").write_text(json.dumps(table))
        return COCO(place / "boxes.json")

    return COCO(place / "boxes.json"), change


def _yolo(place: Path) -> tuple[Source, Changed]:
    put(place, *(f"{split}/images/{i}.png" for split in ("train", "valid") for i in range(8)))
    (place / "data.yaml").write_text("train: ../train/images\nnames: ['cat', \"dog\"]\n")
    for split in ("train", "valid"):
        (place / split / "labels").mkdir()
        for i in range(8):
            (place / split / f"labels/{i}.txt").write_text(f"{i % 2} 0.5 0.5 0.25 0.5\n")

    def change() -> Source:
        put(place, "valid/images/new.png")
        return YOLO(place)

    return YOLO(place), change


def _instances(place: Path) -> tuple[Source, Changed]:
    put(place, *(f"images/{i}.png" for i in range(12)))
    (place / "masks").mkdir()
    for i in range(12):
        numbers = np.zeros((6, 7), np.uint8)
        numbers[1:3, 2:5], numbers[4:, : i % 3] = 1, 2
        Image.fromarray(numbers).save(place / f"masks/{i}_mask.png")

    def change() -> Source:
        (place / "images/11.png").unlink()
        return source.replace()

    source = Instances(place / "images", place / "masks", label="thing")
    return source, change


def _domains(place: Path) -> tuple[Source, Changed]:
    names = [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(8)]
    source, target = (Folder(put(place / domain, *names)) for domain in ("photos", "drawings"))

    def change() -> Source:
        put(place / "drawings", "dog/new.png")
        return Domains(Folder(place / "photos"), Folder(place / "drawings"))

    return Domains(source, target), change


def _dicom(place: Path) -> tuple[Source, Changed]:
    root = scanner.shapes(place / "scans", 12)

    def change() -> Source:
        (root / "ring/IM0001").unlink()
        return DICOM(root)

    return DICOM(root), change


def _dicom_table(place: Path) -> tuple[Source, Changed]:
    root, table = place / "scans", place / "findings.csv"
    for number in range(12):
        stored = np.full((3, 6, 7), number, "<u2")
        more = {"WindowCenter": -1000, "WindowWidth": 100, "PatientID": f"P{number}"}
        scanner.scan(root / f"{number}.dcm", stored, **more)
    lines = ["PatientID,label", *(f"P{i},{'sound|fat' if i % 2 else 'sound'}" for i in range(12))]
    table.write_text("\n".join(lines))
    source = DICOM(root, table=table, multilabel=True, separator="|")

    def change() -> Source:
        table.write_text("\n".join(lines[:-1]))
        return source.replace()

    return source, change


def _nifti(place: Path) -> tuple[Source, Changed]:
    values = np.random.default_rng(0).integers(0, 900, (8, 5, 6, 3)).astype(np.int16)
    for number, each in enumerate(values):
        file = place / "volumes" / ("sound", "ill")[number % 2] / f"{number}.nii.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(each, np.eye(4)), file)

    def change() -> Source:
        (place / "volumes/ill/1.nii.gz").unlink()
        return NIfTI(place / "volumes")

    return NIfTI(place / "volumes"), change


SAMPLES: dict[str, list[Callable[[Path], tuple[Source, Changed]]]] = {
    "coco": [_coco],
    "conll": [_conll],
    "csv": [_csv, _texts, _pairs],
    "dicom": [_dicom, _dicom_table],
    "domains": [_domains],
    "embedded": [
        functools.partial(_embedded, data, target)
        for data, target in [
            ("digits", "label"),
            ("shapes", "label"),
            ("shapes", "caption"),
            *(("notes", target) for target in ("label", "labels", "tags", "pair")),
        ]
    ],
    "folder": [_folder, _text_files],
    "instances": [_instances],
    "jsonl": [_jsonl],
    "masks": [_masks],
    "nifti": [_nifti],
    "tfds": [_tfds, _tfds_texts],
    "voc": [_voc],
    "yolo": [_yolo],
}


@functools.cache
def _builder() -> Any:
    import tensorflow_datasets as tfds

    class TinyPictures(tfds.core.GeneratorBasedBuilder):
        """Named cats and dogs in three splits, one of them not known to us."""

        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = tfds.core.Path(__file__).parent
        count = 0

        def _info(self):
            label = tfds.features.ClassLabel(names=["cat", "dog"])
            features = tfds.features.FeaturesDict({"image": tfds.features.Image(), "label": label})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {name: self._rows(name) for name in ("train", "test", "extra")}

        def _generate_examples(self, split):
            raise NotImplementedError

        def _rows(self, split):
            for i in range(self.count):
                yield f"{split}{i}", {"image": io.BytesIO(png(i)), "label": i % 2}

    return TinyPictures


@functools.cache
def _text_builder() -> Any:
    import tensorflow_datasets as tfds

    class TinyTexts(tfds.core.GeneratorBasedBuilder):
        """Pairs of texts in two splits."""

        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = tfds.core.Path(__file__).parent
        count = 0

        def _info(self):
            label = tfds.features.ClassLabel(names=["no", "yes"])
            texts = {"text": tfds.features.Text(), "second": tfds.features.Text()}
            features = tfds.features.FeaturesDict({**texts, "label": label})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {name: self._rows(name) for name in ("train", "validation")}

        def _generate_examples(self, split):
            raise NotImplementedError

        def _rows(self, split):
            for i in range(self.count):
                yield f"{split}{i}", {"text": f"Grüße {i}", "second": f"{split}\n", "label": i % 2}

    return TinyTexts


def prepare(folder: Path, count: int, made: Any = None) -> None:
    import tensorflow_datasets as tfds

    builder = (made or _builder())(data_dir=str(folder))
    builder.count = count
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )


@pytest.mark.parametrize("name", MEMBERS)
def test_every_source_has_a_sample_here(name: str):
    assert SAMPLES.get(name), f"add a sample of {name} to SAMPLES, so that the laws are tested"


@pytest.fixture(params=[(name, i) for name in SAMPLES for i in range(len(SAMPLES[name]))], ids=str)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Source, Changed]:
    name, number = request.param
    return SAMPLES[name][number](tmp_path)


@pytest.fixture
def source(sample: tuple[Source, Changed]) -> Source:
    return sample[0]


def test_ids_and_order_are_the_same_every_time(source: Source):
    first, again = list(source.examples()), list(source.replace().examples())
    assert first == again
    ids = [identity for identity, _ in first]
    assert len(set(ids)) == len(ids) > 0


def test_any_part_can_be_read_alone(source: Source):
    every = list(source.examples())
    count = len(every)
    for start, stop in [(0, 3), (3, count - 1), (count - 1, count + 5), (count, count + 1), (5, 5)]:
        assert list(source.between(start, stop)) == every[start:stop]


def test_a_source_can_be_sent_to_another_process(source: Source):
    list(source.between(0, 1))
    sent = pickle.dumps(source)
    assert pickle.loads(sent) == source
    assert len(sent) < 1_000  # What it has found out since stays here.


def test_features_are_of_the_kinds_declared(source: Source):
    kinds = source.features()
    for identity, features in source.examples():
        assert features.keys() == kinds.keys()
        assert reading.records.encode(identity, features, kinds)


def test_labels_are_in_range_and_told_without_the_pictures(source: Source):
    labels = [(identity, {*numbers}) for identity, numbers in source.labels()]
    naming = [(key, kind) for key, kind in source.features().items() if kind.least_classes]
    assert labels == [
        (name, {each for key, kind in naming[:1] for each in kind.classes_in(row[key])})
        for name, row in source.examples()
    ]
    assert {label for _, found in labels for label in found} == set(range(len(source.classes())))


def test_the_fingerprint_changes_with_the_data_alone(sample: tuple[Source, Changed]):
    source, change = sample
    before = source.fingerprint()
    assert before == source.replace().fingerprint() != ""
    examined = [identity for identity, _ in source.labels()]
    changed = change()
    assert (changed.full(), changed.fingerprint()) != (source.full(), before)
    assert [identity for identity, _ in changed.labels()] != examined


@pytest.mark.parametrize("name", ["new.heic", "new.png", "new.txt", "new.xml"])
def test_a_file_that_a_source_says_it_leaves_out_changes_the_fingerprint(
    sample: tuple[Source, Changed], tmp_path: Path, name: str
):
    source, _ = sample
    before = told(source)
    for folder in [tmp_path, *(each for each in tmp_path.rglob("*") if each.is_dir())]:
        file = folder / name
        file.write_bytes(png(99))
        try:
            after = told(source.replace())
        except ValueError:
            continue  # There it would be data, and no good ones.
        finally:
            file.unlink()
        assert (after == before) or after[0] != before[0], folder


@pytest.mark.parametrize(
    ("make", "suffix", "text"),
    [
        (CSV, ".csv", "text,label\n{0},cat\n"),
        (JSONL, ".jsonl", '{{"text": "{0}", "label": 1}}\n'),
        (CoNLL, ".conll", "{0} O\n"),
    ],
)
def test_a_file_beside_those_of_splits_changes_the_fingerprint(
    make: Callable[[Path], Source], suffix: str, text: str, tmp_path: Path
):
    for split in ("train", "test"):
        (tmp_path / f"{split}{suffix}").write_text(text.format(split))
    before = told(make(tmp_path))
    (tmp_path / f"latest{suffix}").write_text(text.format("latest"))
    after = told(make(tmp_path))
    assert after[0] != before[0] and f"latest{suffix}" in after[1][0]


def told(source: Source) -> tuple[str, list[str], list[tuple[str, str, str]]]:
    """Returns the fingerprint of a source, and what it says of files that it leaves out."""
    return source.fingerprint(), source.remarks(), [*source.left_out()]


def test_the_spec_survives_its_text(source: Source):
    assert spec.parse(str(source), Source) == source


def test_examples_come_back_from_the_disk_as_they_were(source: Source, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    told = ingest.write_examples(source, Split(), out, lambda text: None)
    expected = dict(source.examples())
    given = {identity: source.split(identity) for identity in expected}
    for split in told.counts:
        for row in reading.dataset(out, split).as_numpy_iterator():
            identity = row["id"].decode()
            features = expected.pop(identity)
            assert given[identity] in (None, split) or given[identity] == "train"
            for key, kind in source.features().items():
                same = kind.given(kind.checked(features[key])).numpy()
                np.testing.assert_array_equal(row[key], same)
    assert not expected


def test_changed_data_are_written_as_they_are_also_from_a_source_that_has_read_them(
    sample: tuple[Source, Changed], tmp_path: Path
):
    source, change = sample
    written(source, tmp_path / "before")
    changed = change()
    if changed == source:  # Else it is the description that changed.
        assert written(source, tmp_path / "again") == written(changed, tmp_path / "new")


def written(source: Source, out: Path) -> dict[str, bytes]:
    """Returns the files that ingest writes, by name."""
    ingest.write_examples(source, Split(), out, lambda text: None)
    return {file.name: file.read_bytes() for file in out.iterdir()}


def test_the_digits_are_those_of_scikit_learn():
    from sklearn import datasets

    digits = Embedded()
    labels = [label for _, (label,) in digits.labels()]
    assert len(labels) == 1_797
    assert labels[:5] == [0, 1, 2, 3, 4]
    _, first = next(digits.examples())
    image = Image.open(io.BytesIO(first["image"]))
    assert image.size == (32, 32)
    stored, _ = datasets.load_digits(return_X_y=True)
    assert np.corrcoef(stored[0], np.asarray(image.reduce(4)).ravel())[0, 1] > 0.97


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("photos/", Folder(Path("photos"))),
        ("photos", Folder(Path("photos"))),
        (".", Folder(Path())),
        ("photos (1)", Folder(Path("photos (1)"))),
        ("photos(1)", Folder(Path("photos(1)"))),
        ("photos(1)/", Folder(Path("photos(1)"))),
        ("labels(1).csv", CSV(Path("labels(1).csv"))),
        ("~/photos", Folder(Path("/HOME/photos"))),
        ("labels.csv", CSV(Path("labels.csv"))),
        ("~/Labels.TSV", CSV(Path("/HOME/Labels.TSV"))),
        ("texts.jsonl", JSONL(Path("texts.jsonl"))),
        ("words.conll", CoNLL(Path("words.conll"))),
        ("splits", CoNLL(Path("splits"))),
        ("folder(path='photos')", Folder(Path("photos"))),
        ("embedded", Embedded()),
    ],
)
def test_a_bare_path_is_the_source_that_reads_it(
    text: str, expected: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("photos", "photos (1)", "photos(1)", "embedded", "splits"):
        (tmp_path / name).mkdir()
    files = ("texts.jsonl", "words.conll", "splits/train.conll", "splits/test.conll", "splits/x.md")
    for name in ("labels.csv", "labels(1).csv", "Labels.TSV", *files):
        (tmp_path / name).touch()
    found = spec.parse(text, Source)
    assert str(found).replace(str(tmp_path), "/HOME") == str(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("photoz/", r"no folder or file 'photoz'; did you mean 'photos'\?$"),
        ("photoz", r"no folder or file 'photoz'; did you mean 'photos'\?$"),
        ("Photos", r"no folder or file 'Photos'; did you mean 'photos'\?$"),
        ("photos/trian", r"no folder or file 'photos/trian'; did you mean 'photos/train'\?$"),
        ("photoz/train/x", r"no folder or file 'photoz/train/x'; did you mean 'photos'\?$"),
        ("~/photoz", r"no folder or file '/.*/photoz'; did you mean '/.*/photos'\?$"),
        ("lables.csv", r"no folder or file 'lables.csv'; did you mean 'labels.csv'\?$"),
        (
            "zzz",
            r"'zzz' is no source \(coco, conll, csv, .*\)\. There is no .*holds labels.csv, notes",
        ),
        (
            "notes.doc",
            r"No source reads the file 'notes.doc'; there are sources of .json, .conll, .csv, ",
        ),
        ("z" * 300, r"is no source \(.*\)\. There is no .*holds labels.csv, notes"),
        (f"{'z' * 300}/z", r"is no source \(.*\)\. There is no .*holds labels.csv, notes"),
        ("foldr(path='x')", r"^'foldr' is not a Source; did you mean 'folder'\?$"),
        ("embeded", r"^'embeded' is not a Source; did you mean 'embedded'\?$"),
        ("folder(path='x'", r"is not a call like name\(field=value\)"),
    ],
)
def test_a_missing_path_or_a_misspelled_source_suggests_the_nearest(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "photos/train").mkdir(parents=True)
    for name in ("labels.csv", "notes.doc", ".hidden"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=message):
        spec.parse(text, Source)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("embedded(count=0)", "embedded.count is 0, expected at least 1"),
        ("embedded(size=8)", "embedded.size is 8, expected at least 16"),
        ("embedded(data='faces')", "embedded.data is 'faces', expected"),
        ("embedded(shift='grey')", "embedded.shift is 'grey', expected 'none' of all but shapes"),
        (
            "embedded(data='shapes', target='tags')",
            "embedded.target is 'tags', expected 'label' or 'caption' of shapes",
        ),
    ],
)
def test_impossible_embedded_data_is_refused(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        spec.parse(text, Source)


@pytest.mark.parametrize(
    "content",
    [
        "file,kind\na,x\n",
        "file,labels\na,x\n",
        "kind,label\na,x\n",
        'file,label\n"a,x\n',
        "file,label\nä,x\n",
        "file,label\na,x,y\n",
    ],
)
@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("member", [CSV, DICOM, NIfTI])
def test_what_a_message_on_a_table_advises_is_a_field_of_its_source(
    member: type[CSV | DICOM | NIfTI], multilabel: bool, content: str, tmp_path: Path
):
    scanner.scan(tmp_path / "scans/a.dcm", np.zeros((8, 8), "<u2"))
    table = tmp_path / "table.csv"
    table.write_bytes(content.encode("latin-1"))
    fields: dict[str, Any] = {"path": tmp_path / "scans", "table": table}
    fields = {"path": table} if member is CSV else fields
    with pytest.raises(ValueError, match=r"table\.csv") as refused:
        member(**fields, multilabel=multilabel).classes()
    assert {*re.findall(r"(\w+)=", str(refused.value))} <= {*spec.fields(member)}


def test_tfds_keeps_its_own_splits_and_tells_of_others(tmp_path: Path):
    source, _ = _tfds(tmp_path)
    assert source.classes() == ("cat", "dog")
    assert [source.split(identity) for identity, _ in source.labels()] == ["train"] * 8 + [
        "test"
    ] * 8
    assert source.remarks() == ["The splits extra of tiny_pictures are left out."]
    assert {row["image"] for _, row in source.examples()} == {png(i) for i in range(8)}


def test_tfds_gives_texts_where_there_are_no_pictures(tmp_path: Path):
    source, _ = _tfds_texts(tmp_path)
    assert [*source.features()] == ["text", "pair", "label"]
    _, first = next(source.examples())
    assert first["text"].startswith("Grüße ") and first["pair"] == "train\n"
    alone = source.replace(pair="")
    assert [*alone.features()] == ["text", "label"]
    with pytest.raises(ValueError, match=r"has no Text called 'third'; there are text"):
        source.replace(pair="third").features()
    with pytest.raises(ValueError, match=r"tfds.image is 'a', expected no feature beside that of"):
        source.replace(image="a")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "tiny_picture"}, "has no 'tiny_picture'; did you mean 'tiny_pictures'"),
        ({"image": "picture"}, r"no Image called 'picture'; there are image \(Image\), label"),
        ({"label": "image"}, r"no ClassLabel called 'image'; there are"),
        ({"data_dir": Path("nowhere")}, "not prepared in .*: tfds build tiny_pictures --data_dir="),
    ],
)
def test_what_tfds_cannot_give_is_told(fields: dict[str, Any], message: str, tmp_path: Path):
    source, _ = _tfds(tmp_path)
    with pytest.raises(ValueError, match=message):
        list(source.replace(**fields).examples())


def test_a_split_of_tfds_without_labels_is_left_out_and_told(tmp_path: Path):
    class TinyContest(_builder()):
        """The labels of its test split are not published."""

        def _rows(self, split):
            for key, row in super()._rows(split):
                yield key, {**row, "label": -1 if split == "test" else row["label"]}

    prepare(tmp_path, 3, TinyContest)
    source = TFDS("tiny_contest", data_dir=tmp_path)
    ids = [identity for identity, _ in source.labels()]
    assert [source.split(identity) for identity in ids] == ["train"] * 3
    assert [identity for identity, _ in source.between(1, 9)] == ids[1:]
    _, told = source.remarks()
    assert told.startswith("3 of 3 examples of the split test of tiny_contest have the label -1,")


def test_examples_of_tfds_without_a_label_are_left_out_among_the_others_and_told(tmp_path: Path):
    class TinyDisputed(_builder()):
        """On every third example its annotators did not agree."""

        def _rows(self, split):
            for number, (key, row) in enumerate(super()._rows(split)):
                yield key, {**row, "label": row["label"] if number % 3 else -1}

    prepare(tmp_path, 8, TinyDisputed)
    prepare(tmp_path, 8)
    source = TFDS("tiny_disputed", data_dir=tmp_path)
    every, disputed = [*source.examples()], [png(0), png(3), png(6)]
    known = TFDS("tiny_pictures", data_dir=tmp_path).examples()
    assert every == [(name, row) for name, row in known if row["image"] not in disputed]
    assert [*source.labels()] == [(identity, [row["label"]]) for identity, row in every]
    for start, stop in [(0, 3), (1, 4), (4, 7), (5, 20), (9, 9), (10, 12)]:
        assert [*source.between(start, stop)] == every[start:stop]
    _, *told = source.remarks()
    assert told == [
        f"3 of 8 examples of the split {split} of tiny_disputed have the label -1, which is none, "
        "and are left out."
        for split in ("train", "test")
    ]
