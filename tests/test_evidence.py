"""What a run shows: the datasheet, the bill of materials, the metadata, the duties, the summary."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
from test_card import DATA, EXPORTS, GOOD, NAMES, section

from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.exporter import Details
from tlkeras.kinds.image import Image
from tlkeras.measures.measures import COMPARED, Measures, Scalar, Table
from tlkeras.recipe import Recipe
from tlkeras.report import bom, croissant, datasheet, duties, figures, libraries, report, summary
from tlkeras.report.card import card
from tlkeras.report.evidence import DataDetails, Evidence, written
from tlkeras.report.page import anchors

HOSTILE = "<script>alert('&')</script>\"|"
VERSIONS = {name: importlib.metadata.version(name) for name in ("numpy", "absl-py", "pillow")}
MADE = {
    "key": "ab" * 32,
    "seconds": 61.4,
    "finished": "2025-01-02T03:04:05+00:00",
    "git": "0123abc",
    "versions": VERSIONS,
    "platform": "Linux",
}
LINEAGE = [
    {**MADE, "step": "examples", "digest": "1" * 64, "files": {"train-00000.tfrecord": "2" * 64}},
    {**MADE, "step": "model", "digest": "3" * 64, "files": {"model.keras": "4" * 64}},
    {**MADE, "step": "exports", "digest": "5" * 64, "files": {"model.tflite": "6" * 64}},
]
EXPORTED = [{**EXPORTS[0], "p50_ms": 2.5}, {**EXPORTS[1], "bytes": 999_949}]


def evidence(**changes: Any) -> Evidence:
    """Returns what a run of which nothing was stated shows."""
    shown = Evidence(
        name="flowers",
        configuration={"source": "folder(path='flowers')", "backbone": "mobilenet_v2(size=160)"},
        data=DATA,
        left_out={"empty file": 2},
        noted={"outlier": 3, HOSTILE: 1},
        beside=[Image.leaves_out],
        columns=[("image.width", 20.0, 30.0, 40.0), ("label", "", "3 words", "")],
        measures=GOOD,
        blessing={"blessed": True, "reasons": []},
        exports=EXPORTED,
        lineage=LINEAGE,
    )
    return dataclasses.replace(shown, **changes)


def stated(cls: Any) -> Any:
    return cls(**{field: f"The {field} {HOSTILE}" for field in spec.fields(cls)})


STATED = evidence(details=stated(Details), data_details=stated(DataDetails))
NOTHING = Evidence(name="nothing")


def test_no_page_names_a_share_that_cut_nothing():
    for given, is_named in (([], True), (["train", "test"], False)):
        shown = evidence(data={**DATA, "given": given})
        pages = [datasheet.datasheet(shown), json.dumps(croissant.croissant(shown))]
        pages += [figures.data(shown.data), card("flowers", data=shown.data)]
        assert sum("split(test=50.0)" in page for page in pages) == (4 if is_named else 0)
        assert sum("split as the source has them." in each for each in pages) == 4 - 4 * is_named


def test_a_datasheet_has_what_the_files_tell_and_what_people_stated():
    text = datasheet.datasheet(STATED)
    for heading, said in [
        ("What is in them", "| `image` | `image` |"),
        ("What is in them", "| all | 300 | 300 |"),
        ("What is in them", "| image.width | 20.0000 | 30.0000 | 40.0000 |"),
        ("What is in them", "| label |  | 3 words |  |"),
        ("How they were gathered", "They were read from `folder(path='flowers')`."),
        ("How they were gathered", "They were taken in at 2025-01-02T03:04:05+00:00."),
        ("What was done to them", Image.leaves_out),
        ("What was done to them", "They were cut by `split(test=50.0)`."),
        ("What was done to them", "| empty file | 2 |"),
        ("What looks odd", "| outlier | 3 |"),
        ("Who may have them", "the galleries in `metrics.json` say of them and lay over them"),
        ("Who looks after them", "`tlkeras forget`"),
    ]:
        assert said in section(text, heading)
    for field in spec.fields(DataDetails):
        assert f"The {field} \\<script" in text
    assert "not been stated" not in text and "Not stated" not in text
    assert not re.search(r"(?<!\\)<", text)


def test_a_split_without_labels_has_no_number_of_any_class():
    counts = {"train": [100, 100, 100], "target": [0, 0, 0]}
    data = {**DATA, "counts": {"train": 300, "target": 70}, "class_counts": counts}
    shown = evidence(data=data)
    for text in (datasheet.datasheet(shown), card("flowers", data=data)):
        assert f"| {NAMES[0]} | 100 |  |" in text and "| all | 300 | 70 |" in text
    page = figures.data(data)
    assert f'{NAMES[0]}</th><td class="number">100</td><td class="number"></td>' in page
    many = {**data, "classes": [str(place) for place in range(60)]}
    many["class_counts"] = {"train": [1, *[9] * 59], "target": [0] * 60}
    smallest = 'smallest class</th><td class="number">1</td><td class="number"></td>'
    assert smallest in figures.data(many)


def test_a_datasheet_says_what_nobody_stated_and_how_to():
    assert [*datasheet.UNSTATED] == [*spec.fields(DataDetails)]
    text = datasheet.datasheet(evidence(data_details=DataDetails(purpose="To sort.")))
    for field, sentence in datasheet.UNSTATED.items():
        assert (sentence in text) == (field != "purpose")
    (call,) = re.findall(r'--data_details="(.*)"`', text)
    assert {*spec.parse(call, DataDetails).full().split("'")} >= {"…"} and "purpose" not in call
    text = datasheet.datasheet(NOTHING)
    assert "The data were not described." in text and not re.search(r"\d", text)


@pytest.mark.slow
def test_a_bill_of_materials_is_one_by_the_schema_of_cyclonedx():
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    validator = JsonStrictValidator(SchemaVersion.V1_6)
    for each in (evidence(), STATED, NOTHING):
        assert validator.validate_str(json.dumps(bom.bom(each))) is None
    wrong = {**bom.bom(STATED), "components": [{"type": "model"}]}
    assert validator.validate_str(json.dumps(wrong)) is not None


def test_a_bill_of_materials_has_the_model_its_card_the_data_and_the_libraries():
    found = bom.bom(STATED)
    model = found["metadata"]["component"]
    assert (model["type"], model["name"]) == ("machine-learning-model", "flowers")
    assert model["components"][0]["hashes"] == [{"alg": "SHA-256", "content": "6" * 64}]
    assert model["pedigree"]["ancestors"][0]["name"] == "mobilenet_v2(size=160)"
    card = model["modelCard"]
    first, *_ = card["quantitativeAnalysis"]["performanceMetrics"]
    low, high = GOOD.score.interval or (0, 0)
    assert first == {
        "type": "accuracy",
        "value": "0.8",
        "slice": "test",
        "confidenceInterval": {"lowerBound": str(low), "upperBound": str(high)},
    }
    assert card["considerations"]["useCases"] == [f"The intended_use {HOSTILE}"]
    data, *parts = found["components"]
    assert data["hashes"][0]["content"] == "1" * 64
    assert {part["purl"] for part in parts} == {f"pkg:pypi/{n}@{v}" for n, v in VERSIONS.items()}
    assert all(part["licenses"] for part in parts)
    refs = {"data", *(part["bom-ref"] for part in parts)}
    assert {*found["dependencies"][0]["dependsOn"]} == refs
    assert bom.bom(STATED) == found


def test_a_bill_of_materials_says_nothing_that_nobody_stated():
    model = bom.bom(evidence())["metadata"]["component"]
    assert not {"licenses", "authors", "description"} & {*model}
    assert not {"useCases", "ethicalConsiderations"} & {*model["modelCard"]["considerations"]}
    assert "stated" not in json.dumps(bom.bom(evidence()))


@pytest.mark.slow
def test_the_metadata_of_the_data_are_read_by_croissant(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of the libraries that it imports.
        import mlcroissant

        for each in (evidence(), STATED, NOTHING):
            (tmp_path / croissant.FILE).write_text(json.dumps(croissant.croissant(each)))
            found = mlcroissant.Dataset(tmp_path / croissant.FILE)
            assert not found.metadata.ctx.issues.errors
            told = [*found.metadata.ctx.issues.warnings]
            assert not [line for line in told if "recommended, but does not exist" not in line]
        (tmp_path / croissant.FILE).write_text(json.dumps(croissant.croissant(STATED)))
        found = mlcroissant.Dataset(tmp_path / croissant.FILE)
        names = [row["classes/name"] for row in found.records("classes")]
    assert [each.decode() if isinstance(each, bytes) else each for each in names] == DATA["classes"]
    (file,) = found.metadata.to_json()["distribution"]
    assert (file["name"], file["sha256"]) == ("train-00000.tfrecord", "2" * 64)
    assert found.metadata.description == f"The purpose {HOSTILE}"


def test_names_of_any_bytes_become_texts_that_utf_8_holds():
    odd = evidence(name="ro\udcffse", data={**DATA, "classes": ["a", "\udcfe", "ü"]})
    for made in (bom.bom(odd), croissant.croissant(odd)):
        json.dumps(written(made), ensure_ascii=False).encode()
    classes, _ = written(croissant.croissant(odd))["recordSet"]
    assert [row["classes/name"] for row in classes["data"]] == ["a", "?", "ü"]
    assert "ro?se" in datasheet.datasheet(odd)


def test_a_licence_is_that_of_the_installed_version_or_unknown():
    found = libraries.licences(VERSIONS)
    assert found["absl-py"].startswith("Apache") and found["numpy"].startswith("BSD-3-Clause")
    assert libraries.licences({"numpy": "0.0.1"}) == {"numpy": libraries.UNKNOWN}
    assert libraries.licences({"no such library": "1"}) == {"no such library": libraries.UNKNOWN}


@pytest.mark.parametrize(
    ("head", "licence"),
    [
        ("License-Expression: MIT OR BSD-2-Clause\nLicense: old", "MIT OR BSD-2-Clause"),
        ("License: MIT\nClassifier: License :: OSI Approved :: MIT License", "MIT License"),
        ("License: Apache 2.0", "Apache 2.0"),
        ("License: BSD 3-Clause\n \n Copyright (c) somebody", libraries.UNKNOWN),
        ("Author: License: MIT", libraries.UNKNOWN),
    ],
)
def test_a_licence_is_read_as_packages_declare_it(head, licence, tmp_path, monkeypatch):
    (folder := tmp_path / "some_library-1.0.dist-info").mkdir()
    text = f"Metadata-Version: 2.4\nName: some-library\nVersion: 1.0\n{head}\n\nLicense: GPL\n"
    (folder / "METADATA").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert libraries.licences({"some-library": "1.0"}) == {"some-library": licence}


def duty(law: str, article: str, shown: Evidence = STATED) -> duties.Duty:
    (row,) = (each for each in duties.duties(shown) if law in each.law and each.article == article)
    return row


def test_every_duty_has_a_law_an_article_a_request_and_a_question():
    rows = duties.duties(NOTHING)
    assert len({(row.law, row.article) for row in rows}) == len(rows)
    assert all(row.article and row.asks.endswith(".") and row.people for row in rows)
    assert [row.article for row in rows if "Safe Harbor" in row.law] == [
        *(f"(i)({letter})" for letter in "ABCDEFGHIJKLMNOPQR"),
        "(ii)",
    ]
    annex = [row.article for row in rows if "Annex IV" in row.law]
    assert {article[0] for article in annex} == {*"123456789"}
    said = json.dumps([dataclasses.asdict(row) for row in rows]).lower()
    assert "complian" not in said and "complies" not in said


def test_a_further_purpose_of_personal_data_has_to_be_compatible_and_need_not_be_the_same():
    asks = duty("GDPR", "Art. 5(1)(b)").asks
    assert "none that is incompatible with them" in asks and "no other" not in asks
    assert "research and statistics under Art. 89(1) count as compatible" in asks


def test_what_a_duty_is_shown_is_true_of_the_run():
    def said(law: str, article: str, shown: Evidence) -> str:
        return " ".join(sentence for sentence, _ in duty(law, article, shown).shows)

    assert f"“The purpose {HOSTILE}”" in said("GDPR", "Art. 5(1)(b)", STATED)
    assert "Nobody stated the purpose of the data." in said("GDPR", "Art. 5(1)(b)", evidence())
    assert said("GDPR", "Art. 5(1)(c)", STATED).startswith("Of each example the store keeps its id")
    excluded = evidence(configuration={"exclude_ids": "id_list(path='gone.txt')"})
    assert "were excluded" not in said("GDPR", "Art. 5(1)(c)", evidence())
    assert "gone.txt' were excluded" in said("GDPR", "Art. 5(1)(c)", excluded).replace(")", "")
    assert "2 examples were left out" in said("GDPR", "Art. 5(1)(d)", evidence())
    assert Image.leaves_out in said("Safe Harbor", "(i)(B)", evidence())
    assert "Nothing searched the content" in said("Safe Harbor", "(i)(B)", evidence())
    texts = evidence(beside=[], data={**DATA, "features": {"text": "text", "label": "label"}})
    assert said("Safe Harbor", "(i)(A)", texts) == (
        "Nothing searched the content of text, label for it."
    )
    # There may be one that nobody asked to compare it with.
    assert said("Annex IV", "4", evidence()) == (
        "No threshold was set, and the model was compared with no earlier version."
    )
    bound = evidence(blessing={"blessed": True, "reasons": [], "lower_bound": 0.5})
    assert said("Annex IV", "4", bound) == "The model passed its thresholds."
    assert "61 s" in said("Annex IV", "2(c)", evidence())
    assert "Nothing was measured by groups" in said("Annex IV", "2(g)", evidence())
    grouped = Measures("x", 2, {"x": Scalar(1.0)}, [Table("Groups", ["group", "x"], [["a", 1.0]])])
    assert "measured by groups" not in said("Annex IV", "2(g)", evidence(measures=grouped))


def text_of(markup: str) -> str:
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", markup))


def test_the_duties_link_to_files_of_the_version_and_sections_of_the_report(tmp_path):
    report.write(tmp_path / "report.html", report.Report("x", measures=GOOD, evidence=STATED))
    page = (tmp_path / "report.html").read_text()
    headings = dict(re.findall(r'<h2 id="(section\d+)">([^<]*)<', page))
    links = re.findall(r' See <a href="([^"]+)">([^<]+)</a>', page)
    assert {address for address, _ in links if not address.startswith("#")} == {
        *("card.md", "datasheet.md", "manifest.json", bom.FILE),
    }
    inner = {(address[1:], name) for address, name in links if address.startswith("#")}
    assert inner <= {*headings.items()} and ("section2", "Results") in inner
    assert HOSTILE not in page and "nothing." in page


def test_the_summary_is_first_and_answers_what_a_reader_asks(tmp_path):
    report.write(tmp_path / "report.html", report.Report("x", measures=GOOD, evidence=STATED))
    headings = re.findall(r"<h2[^>]*>([^<]*)<", (tmp_path / "report.html").read_text())
    assert headings[:2] == [summary.HEADING, "Results"] and headings[-1] == "What laws ask"
    said = text_of(summary.drawn(evidence(), anchors(["Results"])))
    for sentence in [
        "no bound was set, and it was compared with no earlier version.",
        "Nobody stated what it is for.",
        "Accuracy is 0.8000: the share of examples whose class it names right.",
        "This was measured on 300 examples. The model did not learn from them.",
        "with 95 % confidence it lies between 0.7511 and 0.8413.",
        "Weakest of “classes”, by F1: daisy (0.8000)",
        "was not measured: a model that is good on the whole may fail one of them.",
        "Nobody stated whether the data are about people.",
        "Examples of 3 classes: 300 train, 300 test.",
        "2 examples were left out as unusable, and 4 findings are worth a look.",
        "what the network mobilenet_v2 had been trained on.",
        "saved_model: 2.0 MB, 2.50 ms an example.",
        "model.tflite: 999.9 kB.",
        "Its training took 61 seconds.",
        "Its energy was not measured.",
    ]:
        assert sentence in said, sentence
    assert "More: Results" in said and "More: Data" not in said
    assert "More: Groups by eye" in text_of(summary.drawn(evidence(), {"Groups by eye": "#x"}))


def test_a_table_that_ranks_nothing_has_no_sentence():
    empty = Table("Types", ["type", "f1"], [["PER", None]], weakest="f1")
    said = text_of(
        summary.drawn(evidence(measures=Measures("x", 2, {"x": Scalar(1.0)}, [empty])), {})
    )
    assert "Weakest of" not in said and "The measures show no weakness" in said


GROUPED = Table(
    "Groups by eye",
    ["eye", "accuracy", COMPARED],
    [["l", 0.9, True], ["r", 0.5, True], ["one", 0.0, False], ["none", None, False]],
    weakest="accuracy",
)


UNDEFINED = Measures("ap", 5, {"ap": Scalar(0.0, is_defined=False), "ap50": Scalar(0.25)})


def test_a_measure_that_the_examples_do_not_define_has_no_number(tmp_path):
    blessing = {"blessed": True, "primary": "ap", "value": 0.0, "lower_bound": None}
    contents = report.Report("t", measures=UNDEFINED, blessing=blessing)
    report.write(tmp_path / "report.html", contents)
    page = text_of((tmp_path / "report.html").read_text(encoding="utf-8").partition("<main>")[2])
    text = card("flowers", measures=UNDEFINED, blessing=blessing)
    shown = evidence(measures=UNDEFINED)
    duties_of = " ".join(said for each in duties.duties(shown) for said, _ in each.shows)
    for found in (page, text, duties_of):
        assert "not defined by these examples" in found and not re.search(r"\b0\.0", found)
    listed = bom.bom(shown)["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]
    assert [each["type"] for each in listed["performanceMetrics"]] == ["ap50"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"measures": dataclasses.replace(GOOD, views=[*GOOD.views, GROUPED])},
            "Weakest of “groups by eye”, by Accuracy: r (0.5000), l (0.9000). Nobody stated",
        ),
        (
            {
                "measures": dataclasses.replace(
                    GOOD, views=[dataclasses.replace(GROUPED, more_is_better=False)]
                )
            },
            "Weakest of “groups by eye”, by Accuracy: l (0.9000), r (0.5000). Nobody stated",
        ),
        (
            {
                "measures": dataclasses.replace(
                    GOOD, views=[dataclasses.replace(GROUPED, rows=GROUPED.rows[2:])]
                )
            },
            "Its groups were measured, and not compared: see “Where does it fail?”.",
        ),
        ({"blessing": {}}, "It was not judged."),
        ({"blessing": {"blessed": False, "reasons": ["it is weak"]}}, "No: it is weak."),
        (
            {"blessing": {"blessed": True, "reasons": [], "baseline": "x/1"}},
            "Yes: it passed what was asked of it.",
        ),
        (
            {"measures": dataclasses.replace(GOOD, split="validation")},
            "They may have chosen its best state, so expect less of new ones.",
        ),
        (
            {"measures": dataclasses.replace(GOOD, groups=10)},
            "0.8413 if all are independent, but these are of 10 groups, such as patients, so it",
        ),
        (
            {"measures": dataclasses.replace(GOOD, known=7)},
            "on 300 examples. Training has copies of 7 of them, or others of the same group,",
        ),
        ({"measures": None}, "It was not measured."),
        (
            {"measures": Measures("odd", 5, {"odd": Scalar(2.0)}, split="test")},
            "Odd is 2.0000. This was measured on 5 examples.",
        ),
        (
            {"measures": Measures("odd", 5, {"odd": Scalar(2.0)}, split="test")},
            "How far chance may have moved the number was not measured.",
        ),
        (
            {"left_out": {"empty file": 1}, "noted": {"outlier": 1}},
            "1 example was left out as unusable, and 1 finding is worth a look.",
        ),
        ({"data": {**DATA, "classes": ["cat"]}}, "Examples of 1 class: 300 train, 300 test."),
        ({"measures": UNDEFINED}, "Ap is not defined by these examples: how well its boxes"),
        ({"data": {}}, "The data were not described."),
        ({"details": Details(intended_use="Sorting.")}, "For: Sorting."),
    ],
)
def test_the_summary_says_what_is_true_of_the_run(changes, sentence):
    assert sentence in text_of(summary.drawn(evidence(**changes), {})).replace(" .", ".")


NONE = "bert(weights=None, configuration='b')"


@pytest.mark.parametrize(
    ("network", "is_pretrained"),
    [
        ("mobilenet_v2", True),  # Its weights are those of ImageNet.
        ("mobilenet_v2(weights='weights=None.h5')", True),
        ("mobilenet_v2(weights=None)", False),
        ("efficientnet_lite0", False),  # Without a file it has none.
        ("efficientnet_lite0(weights='lite0.pth')", True),
        ("starter", True),  # It has its own.
        (NONE, False),
        (f"towers(picture=starter(), text={NONE})", True),
        (f"towers(picture=mobilenet_v2(weights=None), text={NONE})", False),
    ],
)
def test_a_network_that_began_with_random_weights_has_seen_nothing_and_no_ancestor(
    network, is_pretrained
):
    # As manifests hold it.
    shown = evidence(configuration={"backbone": spec.parse(network, Backbone).full()})
    said = text_of(summary.drawn(shown, {}))
    assert ("had been trained on" in said) == is_pretrained
    assert ("Its network began with random weights." in said) == (not is_pretrained)
    assert ("pedigree" in bom.bom(shown)["metadata"]["component"]) == is_pretrained


@pytest.mark.parametrize(
    ("backbone", "recipe", "ancestors"),
    [
        ("starter", "zero_shot(text=starter_text)", ["starter", "starter_text"]),
        ("starter", f"zero_shot(text={NONE})", ["starter"]),
        ("mobilenet_v2(weights=None)", "zero_shot(text=starter_text)", ["starter_text"]),
        ("starter", "fine_tune(phases=[solve(), phase(unfreeze='all')])", ["starter"]),
    ],
)
def test_a_network_that_the_recipe_reads_with_is_an_ancestor_too(backbone, recipe, ancestors):
    options = {"backbone": spec.parse(backbone, Backbone), "recipe": spec.parse(recipe, Recipe)}
    shown = evidence(configuration={name: each.full() for name, each in options.items()})
    found = bom.bom(shown)["metadata"]["component"]["pedigree"]["ancestors"]
    assert [each["name"].partition("(")[0] for each in found] == ancestors
    named = f"network{'s' if len(ancestors) > 1 else ''} {' and '.join(ancestors)} had been trained"
    assert named in text_of(summary.drawn(shown, {}))


def test_every_task_of_ours_has_its_primary_measure_in_words():
    folder = Path(summary.__file__).parents[1] / "measures"
    primaries = {
        name
        for path in folder.glob("*.py")
        for name in re.findall(r'primary="(\w+)"', path.read_text())
    }
    assert primaries == {*summary.MEANINGS}
