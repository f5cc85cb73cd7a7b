"""Words that a prediction rests on."""

from __future__ import annotations

import numpy as np
import pytest
from toy_text import ToyText

from tlkeras.measures import occlusion
from tlkeras.measures.measures import Example, Gallery, Mark, Measures, Scalar, Table
from tlkeras.model.transfer_model import TransferModel
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.regression import Regression
from tlkeras.tasks.tagging import Tagging

TEXT = "so  the good soup\nwas bad fine sour"


@pytest.fixture(scope="module")
def model() -> TransferModel:
    return TransferModel(ToyText(), Classification(), ("bad", "good"), seed=0)


def test_a_weight_is_what_the_prediction_loses_without_the_word(model):
    found = occlusion.marks(model, [{"text": "so bad"}, {"text": TEXT}])
    ((name, marks),) = found[1].items()
    (whole,) = model.predict([TEXT])
    best = int(np.argmax(whole["probabilities"]))
    assert name == f"by how much each word speaks for {model.classes[best]}"
    words = TEXT.split()
    lost = []
    for i in range(len(words)):
        (other,) = model.predict([" ".join(words[:i] + words[i + 1 :])])
        lost.append(whole["probabilities"][best] - other["probabilities"][best])
    largest = sorted(np.argsort(-np.abs(lost))[: occlusion.MARKED])
    assert [mark.first for mark in marks] == [i for i in largest if abs(lost[i]) >= 0.02]
    assert len(marks) >= 2
    for mark in marks:
        assert mark.stop == mark.first + 1
        assert mark.weight == pytest.approx(lost[mark.first], abs=1e-5)
        assert mark.name == f"{mark.weight:+.2f}"


def test_words_of_no_piece_that_matters_are_not_marked(model):
    (found,) = occlusion.marks(model, [{"text": "\x07 \x07 good \x07"}])
    marks = [mark for each in found.values() for mark in each]
    assert {mark.first for mark in marks} <= {2}


def test_what_has_no_classes_or_reads_words_is_not_marked():
    regression = TransferModel(ToyText(), Regression(), (), seed=0)
    assert occlusion.marks(regression, [{"text": TEXT}]) == [{}]
    tagging = TransferModel(ToyText(input="words"), Tagging(), ("O", "B-x"), seed=0)
    assert occlusion.marks(tagging, [{"words": TEXT.split()}]) == [{}]


def test_the_galleries_of_measures_get_the_marks_of_their_examples(model):
    own = {"true": [Mark(0, 1, "PER")]}
    texts = ["so bad", "the good soup", TEXT]
    examples = [Example(2, "a"), Example(0, "b", marks=own), Example(1, "c")]
    views = [Gallery("Mistakes", examples), Table("Words", ["word"], [])]
    measures = Measures("accuracy", 3, {"accuracy": Scalar(0.5)}, views)
    asked = []

    def read(numbers):
        asked.append(numbers)
        return [{"text": texts[number]} for number in numbers]

    gallery, table = occlusion.marked(measures, model, read).views
    assert asked == [[2, 1]] and table == views[1]
    assert isinstance(gallery, Gallery)
    expected = occlusion.marks(model, [{"text": texts[2]}, {"text": texts[1]}])
    assert gallery.examples[1].marks == own
    for each, one in zip((gallery.examples[0], gallery.examples[2]), expected, strict=True):
        assert each.marks.keys() == one.keys()
        (found, wanted) = ([m for row in x.values() for m in row] for x in (each.marks, one))
        assert [mark.first for mark in found] == [mark.first for mark in wanted]
