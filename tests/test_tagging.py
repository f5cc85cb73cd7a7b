"""Tags of words against seqeval and nervaluate, and by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import nervaluate
import numpy as np
import pytest
import seqeval.metrics
from conftest import Wordy
from scipy.optimize import linear_sum_assignment
from seqeval.scheme import IOB2, IOBES
from sklearn.metrics import confusion_matrix

from tlkeras.exporters.saved_model import SavedModel
from tlkeras.frameworks import keras, tf
from tlkeras.losses import tagging
from tlkeras.measures import measures as shapes
from tlkeras.measures.entities import Scheme, overlapping
from tlkeras.measures.measures import Gallery, Mark, Matrix, Measures, Table
from tlkeras.measures.tagging import MISTAKES, TaggingTally, tags_of
from tlkeras.model.transfer_model import TransferModel
from tlkeras.tasks.tagging import Tagging

oracle: Any = seqeval.metrics

BIO = ("B-LOC", "B-PER", "I-LOC", "I-PER", "O")
BIOES = (
    *("B-LOC", "B-PER", "E-LOC", "E-PER", "I-LOC", "I-PER"),
    *("O", "S-LOC", "S-PER"),
)
LENGTH = 10

CASES = {
    "right": (BIO, "B-PER I-PER O B-LOC", "B-PER I-PER O B-LOC"),
    "I- without B-": (BIO, "B-PER I-PER O B-LOC", "I-PER I-PER O I-LOC"),
    "true I- without B-": (BIO, "O I-PER I-PER O B-LOC", "O B-PER I-PER O B-LOC"),
    "both without B-": (BIO, "O I-PER I-PER", "O I-PER I-PER"),
    "adjacent": (BIO, "B-PER B-PER I-PER B-LOC", "B-PER I-PER I-PER B-LOC"),
    "adjacent and right": (BIO, "B-PER B-PER", "B-PER B-PER"),
    "another type inside": (BIO, "B-PER I-LOC I-PER O", "B-PER I-PER I-PER O"),
    "predicted type changes": (BIO, "B-PER I-PER I-PER", "B-PER I-LOC I-LOC"),
    "wrong type": (BIO, "B-PER I-PER O", "B-LOC I-LOC O"),
    "too short": (BIO, "B-PER I-PER I-PER O", "B-PER I-PER O O"),
    "too long": (BIO, "B-PER I-PER O O", "B-PER I-PER I-PER O"),
    "shifted": (BIO, "O B-PER I-PER O", "B-PER I-PER O O"),
    "one in two": (BIO, "B-PER I-PER I-PER I-PER", "B-PER I-PER B-PER I-PER"),
    "two in one": (BIO, "B-PER I-PER B-PER I-PER", "B-PER I-PER I-PER I-PER"),
    "nothing true": (BIO, "O O O", "B-PER O B-LOC"),
    "nothing found": (BIO, "B-PER O B-LOC", "O O O"),
    "nothing": (BIO, "O O", "O O"),
    "empty": (BIO, "", ""),
    "BIOES right": (BIOES, "S-PER B-LOC I-LOC E-LOC O", "S-PER B-LOC I-LOC E-LOC O"),
    "B- without E-": (BIOES, "B-LOC E-LOC O S-PER", "B-LOC I-LOC O S-PER"),
    "E- alone": (BIOES, "S-LOC O S-PER", "E-LOC O S-PER"),
    "E- without B-": (BIOES, "B-LOC I-LOC E-LOC", "O I-LOC E-LOC"),
    "S- in a row": (BIOES, "S-PER S-PER S-LOC", "B-PER E-PER S-LOC"),
    "B- twice": (BIOES, "B-PER E-PER O", "B-PER B-PER E-PER"),
    "I- after E-": (BIOES, "B-PER E-PER I-PER E-PER", "B-PER I-PER I-PER E-PER"),
    "E- of another type": (BIOES, "B-PER I-PER E-LOC S-PER", "B-PER I-PER E-PER S-PER"),
    "I- after S-": (BIOES, "S-PER I-PER E-PER", "S-PER B-PER E-PER"),
}
"""Classes, true tags, predicted tags."""

Sentence = tuple[Sequence[str], Sequence[str]]


def sentence(case: str) -> tuple[Sequence[str], list[str], list[str]]:
    classes, true, found = CASES[case]
    return classes, true.split(), found.split()


def random_sentences(classes: Sequence[str], count: int, seed: int = 0) -> list[Sentence]:
    """Returns sentences of random tags, half of them predicted rightly, well-formed or not."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        true = random.choice(classes, random.integers(0, LENGTH))
        other = random.choice(classes, len(true))
        found.append(
            (true.tolist(), np.where(random.random(len(true)) < 0.5, true, other).tolist())
        )
    return found


def arrays(sentences: Sequence[Sentence], classes: Sequence[str]) -> tuple[np.ndarray, Any]:
    """Returns targets, and the probabilities of predicted tags; `None` is a word not seen."""
    target = np.full([len(sentences), LENGTH + 1 + len(classes)], -1)
    target[:, LENGTH + 1 :] = 0
    found = np.zeros([len(sentences), LENGTH, len(classes)], np.float32)
    for row, (true, predicted) in enumerate(sentences):
        numbers = [classes.index(tag) for tag in true]
        target[row, : min(len(true), LENGTH + 1)] = numbers[: LENGTH + 1]
        for number in numbers[LENGTH + 1 :]:
            target[row, LENGTH + 1 + number] += 1
        for place, tag in enumerate(predicted[:LENGTH]):
            if tag:
                found[row, place] = 0.1 / (len(classes) - 1)
                found[row, place, classes.index(tag)] = 0.9
    return target, {"probabilities": found}


def allowed(sentences: Sequence[Sentence], classes: Sequence[str]) -> list[Sentence]:
    """Returns them with the predicted tags that `tags_of` makes of those."""
    _, served = arrays(sentences, classes)
    rows = tags_of(served["probabilities"], Scheme(classes)).tolist()
    return [
        (true, [classes[int(number)] for number in row[: len(predicted)]])
        for (true, predicted), row in zip(sentences, rows, strict=True)
    ]


def measured(sentences: Sequence[Sentence], classes: Sequence[str] = BIO) -> Measures:
    tally = TaggingTally(classes)
    tally.add(*arrays(sentences, classes), 0)
    return tally.measures()


def values(found: Measures) -> dict[str, float]:
    return {name: scalar.value for name, scalar in found.scalars.items()}


def view(found: Measures, kind: Any) -> Any:
    (only,) = (each for each in found.views if isinstance(each, kind))
    return only


def strict_of_seqeval(sentences: Sequence[Sentence], classes: Sequence[str]) -> list[float]:
    true, found = map(list, zip(*sentences, strict=True))
    scheme = IOBES if classes is BIOES else IOB2
    return [
        measure(true, found, mode="strict", scheme=scheme, zero_division=0)
        for measure in (oracle.precision_score, oracle.recall_score, oracle.f1_score)
    ]


@pytest.mark.filterwarnings("ignore::seqeval.metrics.v1.UndefinedMetricWarning")
@pytest.mark.parametrize("case", CASES)
def test_entities_are_those_of_seqeval(case):
    classes, true, found = sentence(case)
    have = values(measured([(true, found)], classes))
    ((_, found),) = allowed([(true, found)], classes)
    strict = strict_of_seqeval([(true, found)], classes)
    names = ("entity_precision", "entity_recall", "entity_f1")
    assert [have[name] for name in names] == pytest.approx(strict)
    assert have["lenient_f1"] == pytest.approx(oracle.f1_score([true], [found], zero_division=0))


def test_the_overlap_of_the_only_type_is_that_of_all():
    classes = ("B-PER", "I-PER", "O")
    wild = (["B-PER", "I-PER"], ["I-PER", "I-PER"])
    for sentences in ([wild], random_sentences(classes, 300)):
        found = measured(sentences, classes)
        (row,) = view(found, Table).rows
        assert row[5] == pytest.approx(values(found)["overlap_f1"])


@pytest.mark.parametrize("classes", [BIO, BIOES], ids=["BIO", "BIOES"])
def test_random_tags_are_measured_as_by_seqeval(classes):
    sentences = random_sentences(classes, 300)
    found = measured(sentences, classes)
    have = values(found)
    sentences = allowed(sentences, classes)
    strict = strict_of_seqeval(sentences, classes)
    names = ("entity_precision", "entity_recall", "entity_f1")
    assert [have[name] for name in names] == pytest.approx(strict)
    true, predicted = map(list, zip(*sentences, strict=True))
    assert have["lenient_f1"] == pytest.approx(oracle.f1_score(true, predicted))
    assert have["token_accuracy"] == pytest.approx(oracle.accuracy_score(true, predicted))
    report: Any = oracle.classification_report(
        true,
        predicted,
        mode="strict",
        scheme=IOBES if classes is BIOES else IOB2,
        output_dict=True,
        zero_division=0,
    )
    for row in view(found, Table).rows:
        expected = report[row[0]]
        assert row[1:4] == pytest.approx(
            [expected[name] for name in ("precision", "recall", "f1-score")]
        )
        assert row[-1] == expected["support"]
    flat = [
        [tag.partition("-")[2] or "O" for row in side for tag in row] for side in (true, predicted)
    ]
    matrix = view(found, Matrix)
    np.testing.assert_array_equal(matrix.counts, confusion_matrix(*flat, labels=matrix.names))


def test_the_log_loss_is_that_of_the_words_the_network_saw():
    def loss(*sentences: tuple[str, list[str]]) -> dict[str, float]:
        return values(measured([(true.split(), found) for true, found in sentences]))

    # Two words at 0.9, one at 0.1 / 4; the third of the first sentence was not seen.
    found = loss(("B-PER O O", ["B-PER", "B-LOC", ""]), ("O", ["O"]))
    assert found["log_loss"] == pytest.approx(-(2 * np.log(0.9) + np.log(0.025)) / 3)
    assert "log_loss" not in loss(("", []), ("O", [""]))


def of_nervaluate(sentences: Sequence[Sentence], strategy: str) -> float:
    true, found = map(list, zip(*sentences, strict=True))
    judge = nervaluate.Evaluator(true, found, tags=["LOC", "PER"], loader="list")
    return judge.evaluate()["overall"][strategy].f1


@pytest.mark.parametrize("case", [name for name, (classes, *_) in CASES.items() if classes is BIO])
def test_lenient_entities_are_those_of_nervaluate(case):
    """Its strict one reads tags as conlleval does."""
    _, true, found = sentence(case)
    have = values(measured([(true, found)]))
    ((_, found),) = allowed([(true, found)], BIO)
    assert have["lenient_f1"] == pytest.approx(of_nervaluate([(true, found)], "strict"))
    assert have["overlap_f1"] == pytest.approx(of_nervaluate([(true, found)], "ent_type"))


def pairs_at_most(true: Sequence[str], found: Sequence[str]) -> int:
    """Returns the largest number of pairs of overlapping entities of one type."""
    scheme = Scheme(BIO)
    one, other = (scheme.lenient([BIO.index(tag) for tag in side]) for side in (true, found))
    shares = np.zeros([len(one) + 1, len(other) + 1])
    for i, (kind, start, stop) in enumerate(one):
        for j, (type_, begin, end) in enumerate(other):
            shares[i, j] = kind == type_ and max(start, begin) < min(stop, end)
    return int(shares[linear_sum_assignment(-shares)].sum())


def test_overlapping_entities_are_paired_as_often_as_possible():
    """nervaluate pairs each predicted one with the first that is there, of whatever type."""
    sentences = allowed(random_sentences(BIO, 300), BIO)
    have = values(measured(sentences))
    entities = [sum(tag != "O" for tag in side) for row in sentences for side in row]
    assert sum(entities) > 1000
    scheme = Scheme(BIO)
    spans = [
        [len(scheme.lenient([BIO.index(tag) for tag in side])) for side in row] for row in sentences
    ]
    expected = 2 * sum(pairs_at_most(*row) for row in sentences) / np.sum(spans)
    assert have["overlap_f1"] == pytest.approx(expected)
    assert have["overlap_f1"] > of_nervaluate(sentences, "ent_type")
    assert have["lenient_f1"] == pytest.approx(of_nervaluate(sentences, "strict"))


def test_each_entity_is_in_one_pair_at_most():
    assert overlapping([("x", 0, 9)], [("x", 0, 2), ("x", 3, 5)]) == ["x"]
    assert overlapping([("x", 0, 2), ("x", 2, 4)], [("x", 1, 3), ("x", 3, 4)]) == ["x", "x"]
    assert overlapping([("x", 0, 2)], [("x", 2, 3), ("y", 0, 2)]) == []


@pytest.mark.parametrize(
    ("classes", "tags", "strict"),
    [
        (("B-x", "L-x", "I-x", "U-x", "O"), "B-x I-x L-x U-x", [("x", 0, 3), ("x", 3, 4)]),
        (("B-x", "E-x", "M-x", "S-x", "O"), "B-x M-x E-x S-x", [("x", 0, 3), ("x", 3, 4)]),
        (("NOUN", "VERB"), "NOUN NOUN VERB", [("NOUN", 0, 1), ("NOUN", 1, 2), ("VERB", 2, 3)]),
        (("B-a-b", "I-a-b", "O"), "B-a-b I-a-b", [("a-b", 0, 2)]),
    ],
)
def test_other_names_of_classes_are_read(classes, tags, strict):
    assert Scheme(classes).strict([classes.index(tag) for tag in tags.split()]) == strict


def test_words_that_were_cut_off_are_scored_as_outside():
    """One is not seen in the middle, three are at the end, of which two have no row."""
    true = ["B-PER", "I-PER", "O", "B-LOC", "O", "O", "O", "O", "O", "B-PER", "I-PER", "B-LOC", "O"]
    seen = ["B-PER", "I-PER", "O", None, "O", "O", "O", "O", "O", None]
    whole = [tag or "O" for tag in seen] + ["O"] * 3
    cut, full = measured([(true, seen)]), strict_of_seqeval([(true, whole)], BIO)
    have = values(cut)
    names = ("entity_precision", "entity_recall", "entity_f1")
    assert [have[name] for name in names] == pytest.approx(full)
    assert have["lenient_f1"] == pytest.approx(oracle.f1_score([true], [whole]))
    assert have["token_accuracy"] == pytest.approx(oracle.accuracy_score([true], [whole]))
    sides = [[tag.partition("-")[2] or "O" for tag in side] for side in (true, whole)]
    matrix = view(cut, Matrix)
    np.testing.assert_array_equal(matrix.counts, confusion_matrix(*sides, labels=matrix.names))
    assert any(remark.startswith("5 of 13 words were cut off") for remark in cut.remarks)


def test_an_entity_that_goes_on_behind_the_rows_is_not_found_by_its_beginning():
    """The word behind the rows is O to the model, so the entity ends otherwise."""
    true = ["O"] * 9 + ["B-PER", "I-PER"]
    assert values(measured([(true, true[:LENGTH])]))["entity_f1"] == 0
    assert values(measured([(true[:LENGTH], true[:LENGTH])]))["entity_f1"] == 1


def test_perfect_constant_and_random_predictions_are_measured_so():
    wild = [(true, true) for true, _ in random_sentences(BIO, 200)]
    sentences = [(known, known) for _, known in allowed(wild, BIO)]
    perfect = values(measured(sentences))
    assert perfect.pop("log_loss") == pytest.approx(-np.log(0.9))  # What `arrays` gives a tag.
    assert set(perfect.values()) == {1.0}
    constant = measured([(true, ["O"] * len(true)) for true, _ in sentences])
    assert values(constant)["entity_f1"] == values(constant)["overlap_f1"] == 0
    assert constant.remarks[0] == "The model finds no entity."
    shuffled = np.random.default_rng(0)
    chance = [(true, shuffled.permutation(true).tolist()) for true, _ in wild]
    assert values(measured(chance))["entity_f1"] < 0.3


def test_nothing_to_find_is_no_score_and_has_no_interval():
    found = measured([(["O", "O"], ["O", "O"]), ([], [])])
    assert found.scalars["entity_f1"] == shapes.Scalar(0.0, is_defined=False)
    assert found.scalars["token_accuracy"].value == 1
    assert found.count == 2


def test_the_interval_is_that_of_a_bootstrap_over_sentences():
    sentences = random_sentences(BIO, 100, seed=1)
    target, served = arrays(sentences, BIO)
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(400):
        places = random.integers(0, len(sentences), len(sentences))
        tally = TaggingTally(BIO)
        tally.add(target[places], {"probabilities": served["probabilities"][places]}, 0)
        drawn.append(values(tally.measures()))
    for name, scalar in measured(sentences).scalars.items():
        low, high = np.quantile([each[name] for each in drawn], [0.025, 0.975])
        slack = 0.2 * (high - low)
        assert scalar.interval == pytest.approx((low, high), abs=slack), name


def test_the_gallery_has_the_sentences_with_the_most_wrong_entities():
    many = ["B-PER", "I-PER", "O", "B-LOC"]
    found = measured([(["O"], ["B-LOC"]), (many, ["O", "B-PER", "O", "B-LOC"]), (many, many)])
    examples = view(found, Gallery).examples
    assert [(each.number, each.caption) for each in examples] == [
        (1, "true PER 1-2; predicted PER 2"),
        (0, "predicted LOC 1"),
    ]
    several = measured([(["O"], ["B-LOC"])] * (MISTAKES + 3))
    assert [each.number for each in view(several, Gallery).examples] == [*range(MISTAKES)]


def test_true_entities_outside_of_the_scheme_are_told():
    found = measured([(["O", "I-PER", "I-PER"], ["O", "I-PER", "I-PER"])])
    assert any(remark.startswith("1 of the true entities are not") for remark in found.remarks)


GOOD = ["B-PER", "O"], ["B-PER", "O"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"found": (0, 1, np.nan)}, "probabilities of example 8 are not finite"),
        ({"found": (0, 1, 4.0)}, r"probabilities of example 8 are not in \[0, 1\]"),
        ({"found": (0, 1, 0.4)}, "probabilities of example 8 add up to neither 1 nor 0"),
        ({"target": (1, -1)}, "Example 8 has 1 tags and at least 2 words"),
        ({"target": (1, 5)}, r"tags of example 8 are .*, expected numbers from 0 to 4"),
        ({"target": (0, -1)}, "Example 8 has 1 tags and at least 2 words"),
    ],
)
def test_a_batch_that_cannot_be_is_refused_by_its_number_and_changes_nothing(change, message):
    target, served = arrays([GOOD, GOOD], BIO)
    tally = TaggingTally(BIO)
    tally.add(target, served, 0)
    before = tally.measures()
    if "found" in change:
        row, place, value = change["found"]
        served["probabilities"][1, row, place] = value
    else:
        place, value = change["target"]
        target[1, place] = value
    with pytest.raises(ValueError, match=message):
        tally.add(target, served, 7)
    assert tally.measures() == before


WORDS = Wordy(length=6)


def target_of(tags: Sequence[int]) -> Any:
    example = {"tags": tf.constant(tags, tf.int64, [len(tags)])}
    return Tagging().target(example, {"starts": tf.zeros([6], tf.int32)}, 3).numpy().tolist()


def test_the_target_has_a_row_more_than_the_network_and_counts_the_rest():
    assert target_of([2, 0]) == [2, 0, -1, -1, -1, -1, -1, 0, 0, 0]
    ten = [2, 0, 1, 1, 2, 2, 0, 1, 1, 0]
    assert target_of(ten) == [*ten[:7], 1, 2, 0]
    example = {"tags": tf.constant(ten, tf.int64)}
    assert Tagging().target(example, None, 3).numpy().tolist() == [*ten, 0, 0, 0]


def outputs_of(probabilities: np.ndarray, mask: Sequence[bool]) -> Any:
    return tf.where(np.array(mask)[None, :, None], tf.math.log(probabilities)[None], -1e4)


def lost(target: np.ndarray, outputs: Any) -> float:
    return float(np.asarray(Tagging().loss()(target, outputs)))


def test_the_loss_is_of_the_words_that_are_seen_and_metrics_too():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4], [0.1, 0.7, 0.2], [0.4, 0.3, 0.3]])
    outputs = outputs_of(probabilities, [True, False, True, True])
    target = np.array([[0, 1, 0, -1, -1, 0, 0, 0]])
    assert lost(target, outputs) == pytest.approx(-np.log(0.7) - np.log(0.1), rel=1e-6)
    f1, accuracy = Tagging().metrics(("B-x", "I-x", "O"))
    for metric in (f1, accuracy):
        metric.update_state(target, outputs)
        metric.update_state(target, outputs, sample_weight=[0.0])
    assert np.asarray(accuracy.result()) == 0.5
    assert np.asarray(f1.result()) == pytest.approx(2 / 3)  # Of two entities one is found.


@pytest.mark.parametrize(
    "classes",
    [
        ("B-x", "B-y", "I-x", "I-y", "O"),
        ("B-x", "E-x", "E-y", "I-x", "I-y", "O", "S-x", "B-y"),
        ("noun", "verb", "O"),
    ],
)
def test_the_f1_of_training_is_that_of_the_strict_entities_of_all_sentences(classes):
    random, scheme = np.random.default_rng(0), Scheme(classes)
    metric = tagging.EntityF1(classes)
    right = found = true = 0
    for words in (1, 7, 12):
        tags = random.integers(0, len(classes), (40, words))
        lengths = random.integers(0, words + 1, 40)
        seen = np.arange(words) < lengths[:, None]
        seen &= random.random(seen.shape) < 0.9
        guesses = np.where(random.random(tags.shape) < 0.3, tags[::-1], tags)
        # No two ways to tag a sentence are equally probable.
        noise = random.dirichlet(np.ones(len(classes)), tags.shape)
        given = (0.8 * np.eye(len(classes))[guesses] + 0.2 * noise) * seen[..., None]
        outputs = np.where(seen[..., None], np.log(np.maximum(given, 1e-9)), -1e4)
        guesses = tags_of(given, scheme)
        marked = np.where(np.arange(words) < lengths[:, None], tags, -1)
        target = np.concatenate([marked, np.full((40, 1), -1), np.zeros((40, len(classes)))], 1)
        metric.update_state(target.astype(np.int32), tf.constant(outputs, tf.float32))
        for own, guess, is_seen in zip(tags, guesses, seen, strict=True):
            spans = [{*scheme.strict([*np.where(is_seen, each, -1)])} for each in (own, guess)]
            right += len(spans[0] & spans[1])
            true, found = true + len(spans[0]), found + len(spans[1])
    assert 0 < right < min(true, found)
    assert np.asarray(metric.result()) == pytest.approx(2 * right / (true + found), rel=1e-6)


def test_the_loss_of_a_batch_is_the_mean_of_its_sentences():
    random = np.random.default_rng(0)
    outputs = tf.math.log_softmax(random.normal(size=(6, 4, 3)))
    target = random.integers(-1, 3, (6, 8))
    each = [lost(target[i : i + 1], outputs[i : i + 1]) for i in range(6)]
    assert lost(target, outputs) == pytest.approx(np.mean(each), rel=1e-5)


def test_the_gallery_marks_true_and_predicted_entities_in_their_places():
    case = (["B-PER", "I-PER", "O", "B-LOC"], ["B-PER", "I-PER", "B-LOC", "O"])
    (example,) = view(measured([case]), Gallery).examples
    assert example.marks == {
        "true": [Mark(0, 2, "PER", 1.0, 1), Mark(3, 4, "LOC", 1.0, 0)],
        "predicted": [Mark(0, 2, "PER", 1.0, 1), Mark(2, 3, "LOC", 1.0, 0)],
    }
    assert "PER" not in example.caption


def test_a_record_of_a_sentence_has_the_rows_of_its_own_words_and_entities():
    task, classes = Tagging(), ("B-x", "I-x", "O")
    probabilities = np.zeros((2, 6, 3), np.float32)
    probabilities[0, :4] = np.eye(3)[[0, 1, 2, 0]]
    probabilities[1, 1] = np.eye(3)[2]  # The word before is not seen.
    size = np.zeros(2, np.int32)
    answers = task.answers({"probabilities": probabilities}, classes, [size, size])
    first, second = map(task.record, answers)
    assert [*first["tags"]] == [b"B-x", b"I-x", b"O", b"B-x"]
    np.testing.assert_array_equal(first["probabilities"], probabilities[0, :4])
    assert first["entities"] == 2 and [*first["entity_types"]] == [b"x", b"x"]
    assert [*zip(first["entity_starts"], first["entity_stops"], strict=True)] == [(0, 2), (3, 4)]
    assert [*second["tags"]] == [b"", b"O"] and len(second["probabilities"]) == 2
    assert second["entities"] == len(second["entity_scores"]) == 0


def test_the_head_learns_which_words_have_which_tags():
    keras.utils.set_random_seed(0)
    model = TransferModel(WORDS, Tagging(dropout=0.0), ("B-x", "I-x", "O"))
    words = [["a", "b", "c"], ["c", "a", "b"], ["a", "c"], []]
    tags = {"a": 0, "b": 1, "c": 2}
    rows = [words + [""] * (3 - len(words)) for words in words]
    inputs = WORDS.preprocess({"words": tf.constant(rows)})
    target = np.array([target_of([tags[word] for word in row]) for row in words])
    model.full.compile(keras.optimizers.Adam(0.05), loss=model.task.loss())
    silent: Any = 0
    model.full.fit(inputs, target, epochs=30, verbose=silent)
    found = Tagging().named(model.served(inputs), model.classes)["tags"].numpy().tolist()
    names = {word: ("B-x", "I-x", "O")[tag].encode() for word, tag in tags.items()}
    for row, answer in zip(words, found, strict=True):
        assert answer == [names[word] for word in row] + [b""] * (6 - len(row))


def test_a_saved_model_takes_words_and_answers_with_tags(tmp_path):
    model = TransferModel(WORDS, Tagging(), ("B-x", "I-x", "O"))
    SavedModel().write(model, None, tmp_path)
    loaded: Any = tf.saved_model.load(str(tmp_path / "saved_model"))
    found = loaded.signatures["serving_default"](words=tf.constant([["a", "b"], ["c", ""]]))
    tags = [[tag.decode() for tag in row] for row in found["tags"].numpy()]
    assert tags == [each["tags"] for each in model.predict(["a b", "c"])]
    assert [row.count("") for row in tags] == [4, 5]


def test_words_with_white_space_are_sent_as_words_and_not_as_a_text(tmp_path):
    model = TransferModel(WORDS, Tagging(), ("B-x", "I-x", "O"))
    SavedModel().write(model, None, tmp_path)
    calls = SavedModel().endpoints(tmp_path, WORDS.raw())
    carried = {name: call({"words": ["a b", "c"]}) is not None for name, call in calls.items()}
    assert carried == {"serving_default": True, "text": False, "examples": True}
    one, other = (calls[name]({"words": ["a\u00a0b", "c"]}) for name in ("serving_default", "text"))
    assert one and other and one["tags"].tolist() == other["tags"].tolist()


def test_a_backbone_without_words_is_refused():
    texts = dataclasses.replace(WORDS, input="text")
    example = {"text": tf.constant("a"), "tags": tf.constant([0])}
    with pytest.raises(ValueError, match="use a text backbone with input='words'"):
        Tagging().target(example, texts.preprocess(example), 3)
    with pytest.raises(ValueError, match="needs 'tokens' of the backbone, which has pooled"):
        Tagging().summarize({"pooled": None})
    with pytest.raises(ValueError, match=r"tagging\.dropout is 1"):
        Tagging(dropout=1.0)
