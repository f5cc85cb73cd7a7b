"""The model card: it says what was measured, and of the rest that it was not."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from tlkeras import spec
from tlkeras.doctor.samples import Sample
from tlkeras.exporter import Details, Usage
from tlkeras.measures.classification import ClassificationTally
from tlkeras.measures.measures import Gallery, Matrix, Measures, Scalar, Table
from tlkeras.report import facts, limits, summary
from tlkeras.report.card import DETAILS, card, code, plain
from tlkeras.report.evidence import Evidence

NAMES = ["daisy", "a|b <i>*", "tulip"]


def measured(matrix: list[list[int]], names: list[str], sure: float = 0.8) -> Measures:
    """Returns the measures of predictions counted by a confusion matrix, all equally sure."""
    cells = np.array(matrix)
    labels, predicted = (np.repeat(side.ravel(), cells.ravel()) for side in np.indices(cells.shape))
    others = (1 - sure) / (len(names) - 1)
    probabilities = others + (sure - others) * np.eye(len(names))[predicted]
    tally = ClassificationTally(names)
    tally.add(np.eye(len(names))[labels], {"probabilities": probabilities}, 0)
    return dataclasses.replace(tally.measures(), split="test")


GOOD = measured([[80, 10, 10], [10, 80, 10], [10, 10, 80]], NAMES)
DATA = {
    "classes": NAMES,
    "features": {"image": "image", "label": "label"},
    "counts": {"train": 300, "test": 300},
    "class_counts": {"train": [100, 100, 100], "test": [100, 100, 100]},
    "split": "split(test=50.0)",
}
EXPORTS = [
    {
        "export": "saved_model",
        "files": ["saved_model"],
        "bytes": 2_000_000,
        "primary": "accuracy",
        "value": 0.8,
        "difference": 1e-7,
        "agreement": 1.0,
        "p50_ms": 2.5,
    },
    {"export": "tflite", "files": ["model.tflite"], "bytes": 1_000_000},
]
LINEAGE = [
    {"step": "examples", "digest": "00"},
    {
        "step": "model",
        "key": "ab" * 32,
        "seconds": 61.0,
        "finished": "2025-01-02T03:04:05+00:00",
        "git": "0123abc",
        "versions": {"keras": "3.15.1"},
    },
]


def section(text: str, heading: str) -> str:
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"no section {heading!r}"
    return found[1]


def test_a_card_has_the_sections_of_the_paper_and_the_numbers():
    text = card(
        "flowers",
        details={"licence": "CC-BY-4.0", "intended_use": "Sorting photos of gardens."},
        configuration={"source": "folder(path='flowers')", "backbone": "mobilenet_v2"},
        command="python -m pipeline --name=flowers",
        data=DATA,
        measures=GOOD,
        blessing={"blessed": True, "reasons": [], "lower_bound": 0.75},
        exports=EXPORTS,
        usages=[Usage("model.tflite", "python", "print(1)\n")],
        lineage=LINEAGE,
        reference=Sample(
            570,
            {"image.width": np.ones(570)},
            {"prediction": {"a": 570}},
            np.zeros([570, 8], np.float16),
        ),
    )
    assert text.startswith("# Model card: flowers\n")
    assert re.findall("^## (.*)", text, re.MULTILINE) == [
        "Model details",
        "Intended use",
        "Data",
        "Evaluation",
        "Limitations",
        "Ethical considerations",
        "New data",
        "Exports",
        "Reproduction",
        "Lineage",
    ]
    for heading, text_in_it in [
        ("Model details", "- Licence: CC-BY-4.0"),
        ("Model details", "| backbone | `mobilenet_v2` |"),
        ("Model details", "Fitted 2025-01-02T03:04:05+00:00 in 61 seconds."),
        ("Intended use", "Sorting photos of gardens."),
        ("Data", "| all | 300 | 300 |"),
        ("Evaluation", "Measured on 300 examples of the split `test`."),
        ("Evaluation", "| accuracy | 0.8000 | 0.7511 to 0.8413 | more |"),
        ("Evaluation", "| log loss | 0.6390 | 0.5448 to 0.7333 | less |"),
        ("Evaluation", "The model passed its thresholds."),
        ("Evaluation", "the most frequent class, daisy, would reach an accuracy of 0.3333."),
        ("Evaluation", "### Classes\n\n| class | precision | recall | f1 | 95 % interval of f1 |"),
        ("Evaluation", "| tulip | 0.8000 | 0.8000 | 0.8000 | 0.73 to 0.85 |"),
        ("Evaluation", "### Most confused classes\n\n| class | predicted |"),
        (
            "New data",
            "what this folder holds of 570 of the examples on which the model was measured: "
            "`image.width`, `prediction` in `reference.json`, features of the network in "
            "`reference.npy`. It",
        ),
        ("Exports", "| `saved_model` | `saved_model` | 2,000,000 | 0.8000 | 1.0e-07 |"),
        ("Exports", "### Use of model.tflite\n\n```python\nprint(1)\n```"),
        ("Reproduction", "```sh\npython -m pipeline --name=flowers\n```"),
        ("Lineage", "| model | `abababababab` | 61.0 |"),
        ("Lineage", "| keras | 3.15.1 |"),
    ]:
        assert text_in_it in section(text, heading)


def test_a_model_of_which_nothing_was_asked_is_not_said_to_have_passed():
    blessing = {"blessed": True, "reasons": [], "lower_bound": None, "baseline": None}
    first = section(card("flowers", measures=GOOD, blessing=blessing), "Evaluation")
    assert "No threshold was set, and the model was compared with no earlier version." in first
    assert "passed" not in first
    unseen = {**blessing, "blessed": False, "reasons": ["a class has no example"]}
    text = section(card("flowers", measures=GOOD, blessing=unseen), "Evaluation")
    assert "The model did not pass its thresholds: a class has no example." in text


def test_the_seconds_of_a_resumed_fit_are_those_of_its_last_run():
    lineage = [LINEAGE[0], {**LINEAGE[1], "resumed": True}]
    shown = Evidence("flowers", lineage=lineage)
    said = " 61 seconds, not counting the earlier run that it resumed."
    assert said in section(card("flowers", lineage=lineage), "Model details")
    assert said in summary.drawn(shown, {})
    assert [each for each in facts.SHOWN["computing"](shown) if said in each]


def test_what_was_not_stated_or_measured_is_said_not_to_be():
    text = card("nothing")
    for sentence in DETAILS.values():
        assert sentence in text
    assert "The data was not described." in text
    assert "The model was not evaluated." in text
    assert "The command was not recorded." in text
    assert not re.search(r"\d\.\d|%|passed|blessed", text.lower())
    assert "Classes" not in text and "Exports" not in text and "Confus" not in text


def test_every_detail_that_can_be_stated_has_its_place():
    assert [*spec.fields(Details)] == [*DETAILS]
    stated = {key: f"The {key}." for key in DETAILS}
    text = card("flowers", details=stated)
    for key, sentence in DETAILS.items():
        assert plain(stated[key]) in text and sentence not in text
        assert sentence in card("flowers", details={**stated, key: ""})


def test_a_detail_that_cards_do_not_have_is_refused():
    with pytest.raises(ValueError, match="no detail 'license'; did you mean 'licence'"):
        card("flowers", details={"license": "MIT"})


def test_names_are_shown_as_they_are():
    assert plain("a *b* <c> [d](e) `f`\n# g_h \\") == (
        r"a \*b\* \<c\> \[d\](e) \`f\` \# g\_h \\"  # Each sign stands for itself.
    )
    assert plain("\udcff") == "?"
    assert code("a `b` c") == "`` a `b` c ``"
    text = card("x", data=DATA, measures=GOOD, exports=EXPORTS, configuration={"a": "b='c|d'"})
    assert r"| a\|b \<i\>\* | 0.8000 |" in section(text, "Evaluation")
    assert r"| a | `b='c\|d'` |" in text
    for table in re.findall(r"(?:^\|.*\|\n?)+", text, re.MULTILINE):
        widths = {len(re.split(r"(?<!\\)\|", line)) for line in table.strip().split("\n")}
        assert len(widths) == 1


def test_a_command_cannot_leave_its_fence():
    text = card("x", command="echo '\n```\n# no heading'")
    assert "````sh\necho '\n```\n# no heading'\n````" in text


def test_the_code_of_a_usage_cannot_leave_its_fence():
    usages = [Usage("a.bin", "sh", "echo '```'\n"), Usage("b", "python", "print(2)")]
    text = section(card("x", usages=usages), "Exports")
    assert text.split("\n\n", 1)[1].strip() == (
        "````sh\necho '```'\n````\n\n### Use of b\n\n```python\nprint(2)\n```"
    )


def test_a_card_of_any_task_has_its_scalars_tables_and_remarks():
    measures = Measures(
        "perplexity",
        12,
        {"perplexity": Scalar(7.5, (7.0, 8.0), more_is_better=False)},
        [
            Table("Hard words", ["word", "loss"], [["a|b", 9.5], ["_c_", None]], "A note."),
            Table("No rows", ["word"], []),
            Table("Groups", ["measure", "iPhone|12"], [["loss", 1.5]]),
            Matrix("Drawn", ["a"], [[1]]),
            Gallery("Drawn, too", []),
        ],
        ["It is weak."],
        "test",
    )
    text = card("x", measures=measures)
    evaluation = section(text, "Evaluation")
    assert "| perplexity | 7.5000 | 7.0000 to 8.0000 | less |" in evaluation
    assert "### Hard words\n\n| word | loss |\n| --- | --- |\n| a\\|b | 9.5000 |" in evaluation
    assert "| \\_c\\_ |  |\n\nA note." in evaluation
    assert "| measure | iPhone\\|12 |\n| --- | --- |\n| loss | 1.5000 |" in evaluation
    assert "No rows" not in text and "Drawn" not in text
    assert "- It is weak." in section(text, "Limitations")


def test_a_good_balanced_model_has_no_limitation():
    names = ["a", "b"]
    good = measured([[900, 50], [50, 900]], names, sure=0.95)
    data = {"classes": names, "class_counts": {"train": [10, 12]}}
    assert limits.found(good, {"blessed": True}, data, EXPORTS[1:]) == []
    assert limits.found(None, {}, {}, []) == []
    assert limits.found(None, {}, {}, EXPORTS) == []


LESS = Measures("perplexity", 9, {"perplexity": Scalar(10.0, more_is_better=False)})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"blessing": {"blessed": False}}, "did not pass its thresholds"),
        ({"measures": dataclasses.replace(GOOD, split="validation")}, "There is no test split"),
        ({"measures": dataclasses.replace(GOOD, remarks=["It is weak."])}, "It is weak."),
        (
            {"data": {"classes": ["a", "b", "c"], "class_counts": {"train": [30, 10, 0]}}},
            "uneven: 30 of a, 10 of b.",
        ),
        (
            {"data": {"classes": ["a", "b"], "class_counts": {"train": [3000, 1000]}}},
            "uneven: 3,000 of a, 1,000 of b.",
        ),
        (
            {"data": {"classes": ["a", "b", "c"], "class_counts": {"train": [30, 10, 0]}}},
            "These classes have no training example: c.",
        ),
        (
            {"measures": GOOD, "exports": [{**EXPORTS[0], "value": 0.75}]},
            "saved_model is worse than the model: its accuracy is 0.7500 instead of 0.8000.",
        ),
        (
            {
                "measures": LESS,
                "exports": [{"export": "onnx", "primary": "perplexity", "value": 10.5}],
            },
            "onnx is worse than the model: its perplexity is 10.5000 instead of 10.0000.",
        ),
    ],
)
def test_limitations_follow_from_the_numbers(changes, sentence):
    nothing: dict[str, Any] = {"measures": None, "blessing": {}, "data": {}, "exports": []}
    found = limits.found(**{**nothing, **changes})
    assert any(sentence in line for line in found), found


def test_classes_of_the_data_limit_no_model_that_names_none():
    counts = {"counts": {"train": 40}, "class_counts": {"train": [30, 10, 0]}}
    data: dict[str, Any] = {"classes": ["a", "b", "c"], **counts}
    assert limits.found(None, {}, data, [], answers_classes=False) == []
    assert Evidence("m", data=data, answers_classes=False).limits == []
    said = "no training example"
    assert said in card("m", data=data, measures=GOOD)
    assert said not in card("m", data=data, measures=GOOD, answers_classes=False)


def test_of_many_classes_only_some_are_named():
    names = [f"c{i}" for i in range(8)]
    data = {"classes": names, "class_counts": {"train": [0] * 7 + [1]}}
    assert limits.found(None, {}, data, []) == [
        "These classes have no training example: c0, c1, c2, c3, c4 and 2 more."
    ]


def test_an_export_that_is_better_is_no_limitation():
    rows = [{"export": "onnx", "primary": "perplexity", "value": 9.0}]
    assert limits.found(LESS, {}, {}, rows) == []


def test_a_class_in_the_name_of_a_measure_breaks_no_table():
    scalars = {"accuracy": Scalar(0.5), "f1_a|b <i>*": Scalar(0.25)}
    text = card("m", measures=Measures("accuracy", 4, scalars))
    assert r"| f1 a\|b \<i\>\* | 0.2500 |  | more |" in text
