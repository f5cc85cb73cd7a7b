"""The model card: it says what was measured, and of the rest that it was not."""

from __future__ import annotations

import ast
import re
from typing import Any

import numpy as np
import pytest

from tlkeras import spec
from tlkeras.exporter import Details
from tlkeras.measures import classification
from tlkeras.report import limits
from tlkeras.report.card import DETAILS, card, code, plain

NAMES = ["daisy", "a|b <i>*", "tulip"]


def measured(matrix: list[list[int]], names: list[str], sure: float = 0.8) -> dict[str, Any]:
    """Returns the measures of predictions counted by a confusion matrix, all equally sure."""
    cells = np.array(matrix)
    labels, predicted = (np.repeat(side.ravel(), cells.ravel()) for side in np.indices(cells.shape))
    others = (1 - sure) / (len(names) - 1)
    probabilities = others + (sure - others) * np.eye(len(names))[predicted]
    return {"split": "test", **classification.classification([(labels, probabilities)], names)}


GOOD = measured([[80, 10, 10], [10, 80, 10], [10, 10, 80]], NAMES)
DATA = {
    "classes": NAMES,
    "features": {"image": "image", "label": "integer"},
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
        blessing={"blessed": True, "reasons": []},
        slices={"indoors": GOOD},
        exports=EXPORTS,
        lineage=LINEAGE,
    )
    assert text.startswith("# Model card: flowers\n")
    assert re.findall("^## (.*)", text, re.MULTILINE) == [
        "Model details",
        "Intended use",
        "Data",
        "Evaluation",
        "Groups",
        "Classes",
        "Limitations",
        "Ethical considerations",
        "Exports",
        "Reproduction",
        "Lineage",
    ]
    for heading, told in [
        ("Model details", "- Licence: CC-BY-4.0"),
        ("Model details", "| backbone | `mobilenet_v2` |"),
        ("Model details", "Fitted 2025-01-02T03:04:05+00:00 in 61 seconds."),
        ("Intended use", "Sorting photos of gardens."),
        ("Data", "| all | 300 | 300 |"),
        ("Evaluation", "Measured on the 300 examples of the split `test`."),
        ("Evaluation", "| accuracy | 0.8000 | 0.7511 to 0.8413 |"),
        ("Evaluation", "The model passed its thresholds."),
        ("Evaluation", "Always answering the most frequent class, daisy, would reach 0.3333."),
        ("Groups", "| indoors | 300 | 0.8000 |"),
        ("Classes", "| tulip | 0.8000 | 0.8000 | 0.8000 | 100 |"),
        ("Exports", "| `saved_model` | `saved_model` | 2,000,000 | 0.8000 | 1.0e-07 |"),
        ("Reproduction", "```sh\npython -m pipeline --name=flowers\n```"),
        ("Lineage", "| model | `abababababab` | 61.0 |"),
        ("Lineage", "| keras | 3.15.1 |"),
    ]:
        assert told in section(text, heading)


def test_the_seconds_of_a_fit_that_was_stopped_are_told_to_be_of_its_last_run():
    text = card("flowers", lineage=[LINEAGE[0], {**LINEAGE[1], "resumed": True}])
    assert "in 61 seconds, not counting an earlier run that it went on from." in section(
        text, "Model details"
    )


def test_what_was_not_stated_or_measured_is_said_not_to_be():
    text = card("nothing")
    for sentence in DETAILS.values():
        assert sentence in text
    assert "The data was not described." in text
    assert "The model was not evaluated." in text
    assert "The command was not recorded." in text
    assert not re.search(r"\d\.\d|%|passed|blessed", text.lower())
    assert "Classes" not in text and "Exports" not in text


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
    assert r"| a\|b \<i\>\* | 0.8000 |" in section(text, "Classes")
    assert r"| a | `b='c\|d'` |" in text
    for table in re.findall(r"(?:^\|.*\|\n?)+", text, re.MULTILINE):
        widths = {len(re.split(r"(?<!\\)\|", line)) for line in table.strip().split("\n")}
        assert len(widths) == 1


def test_a_command_cannot_leave_its_fence():
    text = card("x", command="echo '\n```\n# no heading'")
    assert "````sh\necho '\n```\n# no heading'\n````" in text


def test_the_code_for_exports_is_python_and_only_there_for_pictures():
    files = ["saved_model", "model.tflite", "model.keras", "model.onnx"]
    exports = [{"export": name, "files": [name]} for name in files]
    text = card("x", data=DATA, exports=exports)
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for snippet, name in zip(snippets, files, strict=True):
        assert f'("{name}")' in snippet
        ast.parse(snippet)
    assert "```python" not in card("x", data={**DATA, "features": {}}, exports=EXPORTS)


def test_a_page_is_used_by_serving_it():
    text = card("x", data=DATA, exports=[{"export": "browser", "files": ["try"], "bytes": 1}])
    assert "### Use of try\n\n```sh\npython -m http.server" in text
    assert "```python" not in text


def test_a_good_balanced_model_has_nothing_said_against_it():
    names = ["a", "b"]
    good = measured([[900, 50], [50, 900]], names, sure=0.95)
    data = {"classes": names, "class_counts": {"train": [10, 12]}}
    assert limits.found(good, {"blessed": True}, data, EXPORTS[1:]) == []
    assert limits.found({}, {}, {}, []) == []
    assert limits.found({"split": "test", "mean_iou": 0.5}, {}, {}, []) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"blessing": {"blessed": False}}, "did not pass its thresholds"),
        ({"measures": {**GOOD, "split": "validation"}}, "There was no test split"),
        (
            {"measures": measured([[8, 2], [2, 8]], ["a", "b"])},
            "With only 20 examples the accuracy is known roughly: 0.58 to 0.92",
        ),
        (
            {"measures": measured([[0, 100], [0, 300]], ["a", "b"])},
            "no better than always answering b.",
        ),
        (
            {"measures": measured([[60, 40], [0, 300]], ["a", "b"])},
            "much less often than examples on the whole: a (0.60 of 100).",
        ),
        (
            {"measures": measured([[60, 40], [0, 300]], ["a", "b"])},
            "Often taken for another class: a for b (40%).",
        ),
        (
            {"measures": measured([[9, 0, 0], [0, 99, 0], [0, 0, 0]], NAMES)},
            "because they have no example: tulip.",
        ),
        (
            {"measures": measured([[9, 0], [0, 99]], ["a", "b"])},
            "fewer than 10 examples each, so hardly known: a.",
        ),
        (
            {"measures": measured([[300, 300], [0, 600]], ["a", "b"], sure=0.99)},
            "99.0% sure on average, right in 75.0%, calibration error 0.24.",
        ),
        (
            {"data": {"classes": ["a", "b", "c"], "class_counts": {"train": [30, 10, 0]}}},
            "uneven: 30 of a, 10 of b.",
        ),
        (
            {"data": {"classes": ["a", "b", "c"], "class_counts": {"train": [30, 10, 0]}}},
            "Never seen in training: c.",
        ),
        (
            {"measures": GOOD, "exports": [{**EXPORTS[0], "value": 0.75}]},
            "saved_model is worse than the model it was made of: accuracy 0.7500 instead of 0.8000",
        ),
    ],
)
def test_limitations_follow_from_the_numbers(changes, sentence):
    nothing: dict[str, Any] = {"measures": {}, "blessing": {}, "data": {}, "exports": []}
    found = limits.found(**{**nothing, **changes})
    assert any(sentence in line for line in found), found


def test_of_many_classes_only_some_are_named():
    names = [f"c{i}" for i in range(8)]
    data = {"classes": names, "class_counts": {"train": [0] * 7 + [1]}}
    assert limits.found({}, {}, data, []) == [
        "Never seen in training: c0, c1, c2, c3, c4 and 2 more."
    ]


def test_chance_is_not_called_a_fault_of_the_probabilities():
    told, errors = 0, []
    for seed in range(20):
        random = np.random.default_rng(seed)
        sure = random.uniform(0.5, 1, 100)
        labels = (random.random(100) > sure).astype(int)
        found = classification.classification([(labels, np.stack([sure, 1 - sure], 1))], ["a", "b"])
        errors.append(found["calibration_error"])
        told += any("at their word" in line for line in limits.found(found, {}, {}, []))
    assert np.mean(errors) > 0.05  # Though there is no fault, of so few examples.
    assert told <= 3


def test_one_mistake_of_few_examples_is_not_called_much_less_often():
    for few, is_told in (([3, 1], False), ([30, 10], True)):
        found = measured([few, [4, 96]], ["a", "b"])
        lines = limits.found(found, {}, {}, [])
        assert any("much less often" in line for line in lines) is is_told
