"""New data judged by a pushed version."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import opened
from conftest import COLOURS, Tiny, draw
from google.protobuf import text_format
from PIL import Image
from toy_text import ToyText

from pipeline import bulk_inferrer, validate
from pipeline.step import NotBlessed
from pipeline.steps import schema_gen, statistics_gen
from pipeline.validate import Validation
from tlkeras import spec
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.doctor import drift, judging, samples, statistics
from tlkeras.doctor.reference import Reference
from tlkeras.doctor.samples import Sample
from tlkeras.doctor.statistics import protos
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.exporters.tflite import TFLite
from tlkeras.kinds.mask import Mask
from tlkeras.measures.conformal import LAC, Sets
from tlkeras.model import vector
from tlkeras.model.transfer_model import TransferModel
from tlkeras.report import validation
from tlkeras.source import Source
from tlkeras.sources.folder import Folder
from tlkeras.tasks.classification import Classification

PER_CLASS = 60


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("judged")
    source = Folder(draw(out / "data", PER_CLASS, seed=1))
    ingest.write_examples(source, Split(validation=0, test=40), out / "examples")
    return out / "examples"


@pytest.fixture(scope="module")
def version(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the pusher leaves it, of a model that nobody has trained."""
    model = TransferModel(Tiny(), Classification(), tuple(sorted(COLOURS)), seed=1)
    return pushed(model, examples, tmp_path_factory.mktemp("version") / "colours" / "1")


def pushed(model: TransferModel, examples: Path, out: Path) -> Path:
    """Writes what a version has that new data are judged by."""
    out.mkdir(parents=True)
    export(model, out)
    statistics_gen.statistics.run(out, examples=examples)
    schema_gen.schema.run(out, statistics=out)
    data = Data(examples, Tiny(), Classification(), batch_size=16)
    reference, run, first = Reference(data, "test"), vector.predicted(model), 0
    for inputs, _ in data.batches("test"):
        served = {name: np.asarray(array) for name, array in run(inputs).items()}
        features = served.pop(vector.FEATURES)
        reference.add(served, features, first)
        first += len(features)
    reference.sample().write(out)
    return out


def export(model: TransferModel, out: Path) -> None:
    """Writes a model's SavedModel, and what tells of it."""
    SavedModel().write(model, None, out)
    (out / "labels.txt").write_text("".join(f"{name}\n" for name in model.classes))
    specs = {"backbone": model.backbone, "task": model.task}
    fields = {name: {"value": each.full()} for name, each in specs.items()}
    lineage = [{"step": "model", "asked": {"fields": fields}}]
    (out / "manifest.json").write_text(json.dumps({"lineage": lineage}))


def judged(version: Path, data: Path | str, out: Path) -> dict[str, dict[str, Any]]:
    """Returns the findings that are wrong, as the anomalies proto tells of them, by column."""
    try:
        validate.main(Validation(model=version, data=str(data), out=out))
    except NotBlessed as refusal:
        assert "comparisons are wrong" in str(refusal)
    text = (out / judging.FILE).read_text()
    found = text_format.Parse(text, protos("anomalies").Anomalies())
    wrong = {name: info.description for name, info in found.anomaly_info.items()}
    if found.HasField("dataset_anomaly_info"):
        wrong[""] = found.dataset_anomaly_info.description
    return wrong


def test_a_batch_of_the_same_distribution_passes(version, tmp_path, capsys):
    data = draw(tmp_path / "new", 30, seed=7)
    assert judged(version, data, tmp_path / "out") == {}
    assert validate.main(Validation(model=version, data=str(data), out=tmp_path / "again")) == 0
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {
        *("predictions.jsonl", "statistics.pb", "anomalies.pbtxt", "validation.html"),
    }
    printed = capsys.readouterr().out
    for column in ("image.brightness", "image.format", "label", "prediction", "features"):
        assert f"\n{column} " in printed
    (dataset,) = statistics.read(tmp_path / "out").datasets
    assert (dataset.name, dataset.num_examples) == ("new", 90)


def test_the_folder_of_findings_keeps_its_mode(version, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o775)
    validate.main(Validation(model=version, data=str(draw(tmp_path / "new", 30, seed=7)), out=out))
    assert out.stat().st_mode & 0o777 == 0o775


def test_pictures_of_an_earlier_batch_are_gone_and_no_file_of_the_user(version, tmp_path):
    data, out = draw(tmp_path / "new", 30, seed=7), tmp_path / "out"
    (out / "category").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        (out / "category" / name).write_bytes(b"")
    validate.main(Validation(model=version, data=str(data), out=out))
    row = {"id": "x\u2028/a.jpg", "category": "category/a.png", "names": ["category/b.png"]}
    (out / bulk_inferrer.FILE).write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")
    validate.main(Validation(model=version, data=str(data), out=out))
    assert [path.name for path in (out / "category").iterdir()] == ["b.png"]
    assert len((out / bulk_inferrer.FILE).read_text(encoding="utf-8").split("\n")) == 91


def brighter(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(pixels * 1.3, 0, 255).astype(np.uint8))


def larger(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels).resize((56, 48))


def grey(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels).convert("L")


def changed(folder: Path, change: Callable[[np.ndarray], Image.Image]) -> None:
    for path in folder.rglob("*.png"):
        change(np.asarray(Image.open(path))).save(path)


@pytest.mark.parametrize(
    ("change", "columns"),
    [
        (brighter, {"image.brightness", "image.border", "image.contrast"}),
        (larger, {"image.height", "image.width", "image.bytes"}),
        (grey, {"image.mode", "image.bytes"}),
    ],
)
def test_what_is_changed_is_found(change, columns, version, tmp_path):
    data = draw(tmp_path / "new", 30, seed=7)
    changed(data, change)
    wrong = judged(version, data, tmp_path / "out")
    assert columns <= {*wrong}
    assert "label" not in wrong and "" not in wrong


def test_another_mix_of_classes_is_a_shift_of_labels(version, tmp_path):
    data = draw(tmp_path / "new", 30, seed=7)
    for path in sorted((data / "red").iterdir())[5:]:
        path.unlink()
    wrong = judged(version, data, tmp_path / "out")
    assert "7.7% red, expected 3" in wrong["label"]


def test_classes_that_the_model_does_not_know_are_told(version, tmp_path):
    data = draw(tmp_path / "new", 30, seed=7)
    (data / "red").rename(data / "purple")
    wrong = judged(version, data, tmp_path / "out")
    assert "classes that the model does not know: purple (30)" in wrong["label"]


def test_files_without_folders_of_classes_have_no_labels(version, tmp_path, capsys):
    data = draw(tmp_path / "new" / "2024" / "mixed", 30, seed=7).parents[1]
    assert judged(version, data, tmp_path / "out") == {}
    printed = capsys.readouterr().out
    assert "so there are no labels" in printed and "\nlabel" not in printed


def test_files_that_cannot_be_read_are_told_one_by_one(version, tmp_path):
    data = draw(tmp_path / "new", 30, seed=7)
    for name in ("a.png", "b.png"):
        (data / "red" / name).write_bytes(b"no picture")
    wrong = judged(version, data, tmp_path / "out")
    assert "2 of 92 examples cannot be read: red/a.png: is none of" in wrong[""]
    assert "red/b.png" in (tmp_path / "out" / "validation.html").read_text()


def test_a_broken_file_whose_name_is_no_text_is_told(version, tmp_path):
    data = draw(tmp_path / "new", 30, seed=7)
    (Path(os.fsdecode(os.fsencode(data / "red") + b"/b\xfc.png"))).write_bytes(b"no picture")
    (data / "red" / "a.png").write_bytes(b"no picture")
    wrong = judged(version, data, tmp_path / "out")
    assert "2 of 92 examples cannot be read: red/a.png" in wrong[""]
    assert "\\udcfc.png: is none of" in wrong[""]


def test_the_product_examples_and_a_table_are_judged_like_a_folder(version, examples, tmp_path):
    assert judged(version, examples, tmp_path / "examples") == {}
    lines = ["image,label"]
    data = draw(tmp_path / "new", 30, seed=7)
    lines += [f"{path},{path.parent.name}" for path in sorted(data.rglob("*.png"))]
    (tmp_path / "new.csv").write_text("\n".join(lines))
    assert judged(version, tmp_path / "new.csv", tmp_path / "table") == {}
    long = f"csv({' ' * 300}path={str(tmp_path / 'new.csv')!r})"
    assert judged(version, long, tmp_path / "long") == {}
    files = ("table", "long", "examples")
    counts = [statistics.read(tmp_path / name).datasets[0].num_examples for name in files]
    assert counts == [90, 90, 3 * PER_CLASS]


def test_a_table_without_its_label_column_is_judged_without_labels(version, tmp_path, capsys):
    data = draw(tmp_path / "new", 30, seed=7)
    lines = ["image", *map(str, sorted(data.rglob("*.png")))]
    (tmp_path / "new.csv").write_text("\n".join(lines))
    assert judged(version, tmp_path / "new.csv", tmp_path / "out") == {}
    printed = capsys.readouterr().out
    assert "has no column label, so there are no labels" in printed and "\nlabel" not in printed


@pytest.mark.parametrize(
    ("name", "content", "missing"),
    [
        ("a.csv", "text\nfine\n", ["label"]),
        ("a.csv", "text;label\nfine;good\n", []),
        ("a.jsonl", '{"text": "fine"}\n\n{"text": "sour"}\n', ["label"]),
        ("a.jsonl", '{"text": "fine"}\n{"text": "sour", "label": "bad"}\n', []),
        ("a.jsonl", '{"text": "fine"}\n{"text\n', []),
        ("a.jsonl", "", []),
    ],
)
def test_a_file_lacks_its_target_if_no_row_has_it(name, content, missing, tmp_path):
    (tmp_path / name).write_text(content)
    assert [*spec.parse(str(tmp_path / name), Source).missing_targets()] == missing


def test_each_column_of_the_product_examples_has_one_number_of_an_example(version, tmp_path):
    data = tmp_path / "data"
    for path in sorted(draw(data, 20, seed=7).rglob("*.png")):
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    ingest.write_examples(Folder(data), Split(validation=20, test=20), tmp_path / "examples")
    written = {}
    for name in ("data", "examples"):
        judged(version, tmp_path / name, tmp_path / "out" / name)
        (dataset,) = statistics.read(tmp_path / "out" / name).datasets
        written[name] = {each.name: each for each in dataset.features}
        for each in dataset.features:
            common = getattr(each, each.WhichOneof("stats")).common_stats
            assert (each.name, common.num_non_missing) == (each.name, dataset.num_examples)
    of_folder, of_examples = written["data"], written["examples"]
    assert of_folder.keys() == of_examples.keys()
    read = [name for name in of_folder if name.startswith("image.")]
    assert [of_folder[name] for name in read] == [of_examples[name] for name in read]


def test_bulk_inferrer_compares_what_it_saw_with_the_reference(version, tmp_path, capsys):
    data = draw(tmp_path / "new", 30, seed=7)
    changed(data, larger)
    (tmp_path / "out").mkdir()
    settings: dict[str, Any] = {"exporter": SavedModel(), "batch_size": 32}
    bulk_inferrer.predictions.run(tmp_path / "out", exports=version, data=data, **settings)
    found = json.loads((tmp_path / "out" / bulk_inferrer.DRIFT).read_text())
    wrong = {each["column"] for each in found if each["is_wrong"]}
    assert {"image.height", "image.width"} <= wrong
    assert "image.height: Kolmogorov-Smirnov finds median 48" in capsys.readouterr().out
    (dataset,) = statistics.read(tmp_path / "out").datasets
    heights = next(each for each in dataset.features if each.name == "image.height")
    assert heights.num_stats.mean == 48 and dataset.num_examples == 90


def test_an_int8_export_blames_no_unchanged_data_and_writes_no_sets(examples, tmp_path, capsys):
    model = TransferModel(Tiny(), Classification(), tuple(sorted(COLOURS)), seed=1)
    data = Data(examples, Tiny(), Classification(), batch_size=64)
    features = np.concatenate([model.body(inputs) for inputs, _ in data.batches("train")])
    kernel = np.random.default_rng(0).normal(0, 1, (features.shape[1], len(COLOURS)))
    kernel *= 6 / (features @ kernel).std(axis=0)
    model.head.get_layer("logits").set_weights([kernel, -features.mean(axis=0) @ kernel])
    version = pushed(model, examples, tmp_path / "1")
    int8 = TFLite(quantize="int8")
    int8.write(model, data.singles("train"), version)
    Sets(LAC(), 0.003, 60).write(version)  # The least step below 1 is wider.
    (tmp_path / "out").mkdir()
    bulk_inferrer.predictions.run(
        tmp_path / "out", exports=version, data=examples, exporter=int8, batch_size=64
    )
    found = json.loads((tmp_path / "out" / bulk_inferrer.DRIFT).read_text())
    assert not [each["sentence"] for each in found if each["is_wrong"]]
    assert {"prediction", "label"} <= {each["column"] for each in found}
    assert '"set"' not in (tmp_path / "out" / bulk_inferrer.FILE).read_text()
    assert (
        "have 8 bits, so there is no comparison of their numbers with the reference and no "
        "conformal set\n"
    ) in capsys.readouterr().out


def described(version: Path, **datasets: tuple[int, dict[str, Any], dict[str, Any]]) -> Path:
    """Returns a version of an empty reference, by the counts, numbers and words of its data."""
    version.mkdir()
    lists = protos("statistics").DatasetFeatureStatisticsList()
    for name, (count, numbers, words) in datasets.items():
        statistics.add(lists, name, count, numbers, words)
    statistics.write(lists, version)
    schema_gen.schema.run(version, statistics=version)
    Sample(0, {}, {}, np.zeros([0, 0], np.float16)).write(version)
    return version


def wrong_of(version: Path, seen: Sequence[samples.Seen]) -> set[str]:
    """Returns the columns that are wrong of new examples."""
    new = samples.Gathering()
    new.add([f"{number}" for number in range(len(seen))], seen)
    return {each.column for each in judging.judged(version, new, [], []) if each.is_wrong}


def test_rare_words_of_one_distribution_pass(tmp_path):
    random, shares = np.random.default_rng(0), [0.97, *[0.03 / 40] * 40]
    words = {f"{word}": int(n) for word, n in enumerate(random.multinomial(1000, shares)) if n}
    version = described(tmp_path / "1", train=(1000, {}, {"text.language": words}))
    drawn = random.choice(41, 1000, p=shares)
    assert len({*map(str, drawn)} - {*words}) > 5
    assert wrong_of(version, [({}, {"text.language": [str(word)]}) for word in drawn]) == set()
    others = [({}, {"text.language": ["x" if place < 60 else "0"]}) for place in range(1000)]
    assert wrong_of(version, others) == {"text.language"}


def test_many_words_of_one_example_are_one_example(tmp_path):
    version = described(tmp_path / "1", train=(20, {}, {"labels": {"a": 200}}))
    seen = [({}, {"labels": ["b" if place == 0 else "a"] * 10}) for place in range(20)]
    assert wrong_of(version, [*seen, ({}, {"labels": []})]) == set()
    assert wrong_of(version, [({}, {"labels": ["b"] * 10})] * 20) == {"labels"}


def test_new_examples_of_the_target_of_two_domains_pass(tmp_path):
    def columns(sizes, kind, name):
        numbers = {"image.width": np.array(sizes), "number": np.array(sizes)}
        return len(sizes), numbers, {"image.format": {kind: 100}, "label": {name: 100}}

    domains = {"train": columns([20.0, 30.0] * 50, "PNG", "a")}
    alone = described(tmp_path / "1", **domains)
    domains["target"] = columns([70.0, 80.0] * 50, "JPEG", "b")
    both = described(tmp_path / "2", **domains)
    seen = [({"image.width": 75.0}, {"image.format": ["JPEG"]})] * 50
    assert wrong_of(both, seen) == set()
    assert wrong_of(alone, seen) == {"image.width", "image.format"}
    strange = [({"image.width": 90.0}, {"image.format": ["GIF"]})] * 50
    assert wrong_of(both, strange) == {"image.width", "image.format"}
    # The labels of a target teach nothing, and those of an unlabelled one are stand-ins.
    labels = [({"number": 75.0}, {"label": ["b"]})] * 50
    assert wrong_of(both, labels) == {"number", "label"}


def test_the_examples_of_the_reference_have_no_shift_whatever_their_digits(tmp_path):
    version = described(tmp_path / "1", train=(60, {}, {}))
    margins = np.random.default_rng(0).normal(15, 3, 60)
    columns = {
        "image.bytes": [3_145_782.0] * 60,
        "prediction.score": (1 / (1 + np.exp(-margins))).astype(np.float32).tolist(),
        "number": [0.0, 1 / 3, 2 / 3, 1.0] * 15,
    }
    new = samples.Gathering()
    new.add(
        [f"{place}" for place in range(60)],
        [(dict(zip(columns, row, strict=True)), {}) for row in zip(*columns.values(), strict=True)],
    )
    new.sample().write(version)
    compared = [each for each in judging.judged(version, new, [], []) if each.column in columns]
    assert {each.column: each.size for each in compared} == dict.fromkeys(columns, 0)


def test_the_page_says_which_differences_are_wrong_at_any_size(tmp_path):
    version = described(tmp_path / "1", train=(1000, {}, {"text.language": {"en": 1000}}))
    new, words = samples.Gathering(), ["fr"] * 60 + ["en"] * 940
    new.add([f"{place}" for place in range(1000)], [({}, {"text.language": [w]}) for w in words])
    found = judging.judged(version, new, [], [])
    (wrong,) = [each for each in found if each.is_wrong]
    assert wrong.test == drift.EXCEEDANCES and (wrong.size or 0) < drift.LEAST_SIZE
    validation.write(tmp_path / "page", "", found, samples.read(version), new.sample(), [])
    said = f"Of {wrong.test}, numbers and words that training never had, any size is."
    assert said in (tmp_path / "page").read_text()


def of_masks(*numbers: int) -> samples.Gathering:
    """Returns what is seen of masks with pixels of these classes of a, b and c."""
    pixels, made = io.BytesIO(), samples.Gathering()
    Image.fromarray(np.array([[0, *(1 + each for each in numbers)]], np.uint8)).save(pixels, "PNG")
    kinds = {"mask": Mask(background=True)}
    seen = samples.of_values({"mask": pixels.getvalue()}, kinds, ("a", "b", "c"))
    made.add([f"{number}" for number in range(40)], [seen] * 40)
    return made


def test_the_classes_of_masks_are_compared_like_labels(tmp_path):
    classes = ("a", "b", "c")
    version = described(tmp_path / "1", train=(40, {}, {"mask": {"a": 40, "b": 40}}))
    of_masks(0, 1).sample().write(version)
    same = judging.judged(version, of_masks(0, 1), [], classes)
    assert not [each.column for each in same if each.is_wrong]
    other = judging.judged(version, of_masks(2), [], classes)
    assert "mask" in {each.column for each in other if each.is_wrong}
    assert not [each for each in [*same, *other] if "without" in each.expected + each.found]
    found = judging.judged(version, of_masks(2), [], classes[:2])
    assert ("mask", "c (40)", True) in [(each.column, each.found, each.is_wrong) for each in found]


def without(name: str) -> Callable[[Path, Path], None]:
    return lambda version, data: (version / name).unlink()


def damaged(name: str) -> Callable[[Path, Path], Any]:
    return lambda version, data: (version / name).write_text("{no}")


def unreadable(version: Path, data: Path) -> None:
    for path in data.rglob("*.png"):
        path.write_bytes(b"no picture")


def texts(version: Path, data: Path) -> None:
    for path in data.rglob("*.png"):
        path.with_suffix(".txt").write_text("some words")
        path.unlink()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (without(samples.COLUMNS), "has no reference.json: it was pushed by an earlier version"),
        (without(statistics.FILE), r"has no statistics\.pb"),
        (without("schema.pbtxt"), r"has no schema\.pbtxt"),
        (damaged(samples.COLUMNS), "The reference of .* is damaged"),
        (damaged(samples.FEATURES), "The reference of .* is damaged"),
        (damaged(statistics.FILE), r"statistics\.pb is damaged"),
        (damaged("schema.pbtxt"), r"schema\.pbtxt is damaged"),
        (unreadable, r"None of the 3 examples of --data=.* can be read: .*000\.png: is none of"),
        (texts, r"has the features 'text' \(text\), 'label' \(label\); the model reads 'image'"),
    ],
)
def test_what_cannot_be_judged_is_one_message(harm, message, version, tmp_path):
    data, copy = draw(tmp_path / "new", 1), tmp_path / "version"
    shutil.copytree(version, copy, symlinks=True)
    harm(copy, data)
    with pytest.raises(ValueError, match=message):
        validate.main(Validation(model=copy, data=str(data), out=tmp_path / "out"))
    assert not [*(tmp_path / "out").glob("*")]


def test_folders_that_are_not_there_are_told(version, tmp_path):
    for field in ("model", "data"):
        fields = {"model": version, "data": str(tmp_path), field: str(tmp_path / "gone")}
        config = Validation(**{**fields, "model": Path(fields["model"])}, out=tmp_path / "out")
        with pytest.raises(ValueError, match=r"There is no folder or file .*gone"):
            validate.main(config)
    (tmp_path / "flat").mkdir()
    with pytest.raises(ValueError, match=r"There are no files in .*flat"):
        validate.main(Validation(model=version, data=str(tmp_path / "flat"), out=tmp_path / "out"))


@pytest.mark.parametrize(("name", "content"), [("a.csv", "text,label\n"), ("a.jsonl", "")])
def test_a_table_without_rows_has_no_predictions_and_nothing_to_judge(name, content, tmp_path):
    version, table = described(tmp_path / "1", train=(9, {}, {"label": {"a": 9}})), tmp_path / name
    export(TransferModel(ToyText(), Classification(), ("a", "b"), seed=1), version)
    table.write_text(content)
    (tmp_path / "out").mkdir()
    settings: dict[str, Any] = {"exporter": SavedModel(), "batch_size": 32}
    bulk_inferrer.predictions.run(tmp_path / "out", exports=version, data=table, **settings)
    assert (tmp_path / "out" / bulk_inferrer.FILE).read_bytes() == b""
    found = json.loads((tmp_path / "out" / bulk_inferrer.DRIFT).read_text())
    assert [each["is_wrong"] for each in found] == [False]
    with pytest.raises(ValueError, match=rf"--data={table} has no examples; name data"):
        validate.main(Validation(model=version, data=str(table), out=tmp_path / "judged"))
    assert not [*(tmp_path / "judged").glob("*")]


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1200])
def test_a_browser_shows_the_page_without_errors_at_any_width(width, version, tmp_path):
    data = draw(tmp_path / "new", 30, seed=7)
    changed(data, brighter)
    (data / "red" / "a.png").write_bytes(b"no picture")
    judged(version, data, tmp_path / "out")
    with opened(tmp_path / "profile") as page:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        page.call("Emulation.setDeviceMetricsOverride", **metrics)
        page.open((tmp_path / "out" / "validation.html").as_uri())
        assert page.run("document.documentElement.scrollWidth") <= width
        headings = page.run("[...document.querySelectorAll('h2')].map(x => x.innerText)")
        assert headings[:4] == ["Verdict", "Comparisons", "Numbers", "Words"]
        assert page.run("document.querySelectorAll('svg').length") >= 8
        assert not page.told("Runtime.exceptionThrown") and not page.told("Log.entryAdded")
