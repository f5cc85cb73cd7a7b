"""From texts to a network's inputs, and from pieces to the rows of words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from toy_text import ToyText, written

from pipeline.__main__ import everything
from pipeline.config import Config
from tlkeras.backbone import Backbone, require_read
from tlkeras.backbones.hub_text import Bert
from tlkeras.backbones.starter import Starter
from tlkeras.backbones.starter_text import StarterText
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.frameworks import keras, tf
from tlkeras.kinds.image import Image
from tlkeras.kinds.label import Label
from tlkeras.kinds.labels import Labels
from tlkeras.kinds.mask import Mask
from tlkeras.kinds.text import Text
from tlkeras.kinds.words import Words
from tlkeras.model import graph
from tlkeras.sources.csv import CSV
from tlkeras.sources.embedded import Embedded
from tlkeras.tasks.classification import Classification
from tlkeras.tasks.tagging import Tagging
from tlkeras.texts import inputs
from tlkeras.texts.wordpiece import WordPiece

VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##wel", "##come", "rain", "in", ".")
TOKENIZER = WordPiece(VOCABULARY)
PAD, UNK, CLS, SEP, UN, WEL, COME, RAIN, IN, DOT = range(len(VOCABULARY))
LENGTH = 8

SENTENCES = [
    (["unwelcome", "rain", "."], [CLS, UN, WEL, COME, RAIN, DOT, SEP, PAD], [1, 4, 5]),
    (["rain"], [CLS, RAIN, SEP, PAD, PAD, PAD, PAD, PAD], [1]),
    (["\x07", "rain"], [CLS, RAIN, SEP, PAD, PAD, PAD, PAD, PAD], [-1, 1]),
    (["unwelcome", "unwelcome", "rain"], [CLS, UN, WEL, COME, UN, WEL, COME, SEP], [1, 4, -1]),
    ([], [CLS, SEP, PAD, PAD, PAD, PAD, PAD, PAD], []),
]
"""Words, their ids, and where the first piece of each word is."""


def filled(starts: list[int]) -> list[int]:
    return starts + [-1] * (LENGTH - len(starts))


@pytest.mark.parametrize("words, ids, starts", SENTENCES)
def test_starts_are_the_places_of_the_first_pieces(words, ids, starts):
    example = {"words": Words().given(words)}
    found = inputs.preprocess(TOKENIZER, example, "words", LENGTH)
    assert found["token_ids"].numpy().tolist() == ids
    assert found["starts"].numpy().tolist() == filled(starts)


def test_a_batch_of_words_gives_the_rows_of_its_sentences():
    longest = max(len(words) for words, _, _ in SENTENCES)
    rows = [words + [""] * (longest - len(words)) for words, _, _ in SENTENCES]
    found = inputs.preprocess(TOKENIZER, {"words": tf.constant(rows)}, "words", LENGTH)
    assert found["token_ids"].numpy().tolist() == [ids for _, ids, _ in SENTENCES]
    assert found["starts"].numpy().tolist() == [filled(starts) for _, _, starts in SENTENCES]


def test_rows_of_many_texts_are_those_of_each():
    texts = [f"{number:03d}" for number in range(130)]
    sizes: list[int] = []

    def rows(batch):
        sizes.append(len(batch))
        return tf.strings.to_number(batch)[:, None]

    np.testing.assert_array_equal(inputs.in_parts(texts, rows)[:, 0], np.arange(130))
    assert sizes == [64, 64, 2]


def test_segments_are_those_of_the_tokenizer():
    texts = tf.constant(["rain", "unwelcome rain .", ""]), tf.constant(["in", "rain rain", "rain"])
    ids, expected = TOKENIZER.pair(*texts, LENGTH)
    example = {"text": texts[0], "pair": texts[1]}
    assert np.array_equal(inputs.preprocess(TOKENIZER, example, "pair", LENGTH), ids)
    found = inputs.segments(ids, keras.ops.not_equal(ids, PAD), SEP)
    assert np.array_equal(found, expected)


def test_one_text_is_one_segment():
    ids = inputs.preprocess(TOKENIZER, {"text": tf.constant(["rain in", ""])}, "text", LENGTH)
    assert not np.any(inputs.segments(ids, keras.ops.not_equal(ids, PAD), SEP))


def network(input: inputs.Input) -> keras.Model:
    given, ids = inputs.entrance(input, LENGTH)
    mask = keras.ops.not_equal(ids, PAD)
    tokens = keras.layers.Embedding(len(VOCABULARY), 3, name="embedding")(ids)
    return keras.Model(given, inputs.features(given, tokens, mask, inputs.mean(tokens, mask)))


def words() -> dict[str, Any]:
    longest = max(len(words) for words, _, _ in SENTENCES)
    rows = [words + [""] * (longest - len(words)) for words, _, _ in SENTENCES]
    return inputs.preprocess(TOKENIZER, {"words": tf.constant(rows)}, "words", LENGTH)


def test_words_have_the_row_of_their_first_piece_and_texts_one_for_each_piece():
    of_words, of_texts = network("words"), network("text")
    of_texts.set_weights(of_words.get_weights())
    found, pieces = of_words(words()), of_texts(words()["token_ids"])
    for row, (_, ids, starts) in enumerate(SENTENCES):
        assert found["mask"].numpy()[row].tolist() == [at >= 0 for at in filled(starts)]
        assert pieces["mask"].numpy()[row].tolist() == [piece != PAD for piece in ids]
        for word, at in enumerate(starts):
            if at >= 0:
                assert np.array_equal(found["tokens"][row, word], pieces["tokens"][row, at])
        kept = pieces["tokens"].numpy()[row][np.array(ids) != PAD]
        np.testing.assert_allclose(found["pooled"][row], kept.mean(axis=0), rtol=1e-6)


def test_a_cut_behind_the_embedding_gives_the_same_features():
    model = network("words")
    prefix, suffix = graph.cut(model, [model.get_layer("embedding")])
    for key, rows in model(words()).items():
        assert np.array_equal(suffix(prefix(words()))[key], rows)


def test_the_rows_of_words_convert_to_builtin_operations(tmp_path):
    model = network("words")
    model.export(tmp_path, verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    assert converter.convert()


def test_words_are_given_as_a_list_or_as_a_text():
    kind = Words()
    assert kind.given("rain  in\n").numpy().tolist() == [b"rain", b"in"]
    assert kind.given(["rain", "in"]).numpy().tolist() == [b"rain", b"in"]
    assert kind.given("").shape == (0,)


def test_a_text_has_the_same_words_in_python_in_a_file_and_in_what_is_served(tmp_path):
    text = "\v10\u00a0000 \t\x1c\r\nrain\u3000in\f\x85 "
    (tmp_path / "text.txt").write_bytes(text.encode())
    served = Words().entrances()["text"].decoded
    assert served is not None
    expected = [word.decode() for word in served(tf.constant(text)).numpy()]
    assert expected == ["10\u00a0000", "\x1c", "rain\u3000in", "\x85"]
    assert [word.decode() for word in Words().given(text).numpy()] == expected
    assert Words().read(tmp_path / "text.txt") == expected


def test_white_space_parts_the_words_that_are_shown_and_nothing_else_does():
    shown = Words().shown(["10\u00a0000", "\u00a0", "New York", "b"])
    assert shown == "10·000 · New·York b" and len(shown.split()) == 4


TWO = {"text": Text(), "pair": Text(), "label": Label()}


@pytest.mark.parametrize(
    ("backbone", "kinds", "message"),
    [
        (
            StarterText(length=64),
            TWO,
            r"leaves out pair, .*: write .*\(length=64, input='pair'\), or",
        ),
        (Bert("MiniLM/"), TWO, r"leaves out pair, .*\(weights='MiniLM/', input='pair'\), or leave"),
        (
            Bert(),
            {"words": Words(), "tags": Labels()},
            r"bert reads 'text' of kind text; .*'words' of kind words.* bert\(input='words'\) re",
        ),
        (StarterText(), {"image": Image()}, r"the examples have 'image' of kind image\.$"),
    ],
)
def test_a_network_that_could_read_more_of_the_examples_is_told_how(backbone, kinds, message):
    with pytest.raises(ValueError, match=message):
        require_read(backbone, kinds)


def test_a_network_may_leave_out_what_it_could_never_read():
    require_read(Starter(), {"image": Image(), "caption": Text(), "mask": Mask()})
    require_read(Starter(), {"image": Image(), "text": Text(), "pair": Text()})
    require_read(StarterText(), {"text": Text(), "image": Image()})
    require_read(StarterText(input="pair"), TWO)


def test_a_second_text_that_is_not_read_is_told_before_the_data_are_read(tmp_path):
    source = CSV(tmp_path / "nli.csv", text="premise", pair="hypothesis")
    with pytest.raises(ValueError, match="starter_text reads text and leaves out pair"):
        everything(Config(source=source, backbone=StarterText(), task=Classification()))


class Pieces(Backbone, name="pieces_of_a_test"):
    """An embedding of the pieces above."""

    block_pattern = r"^(embedding)"

    input: inputs.Input = "text"

    def build(self):
        return network(self.input)

    def raw(self):
        return inputs.raw(self.input)

    def preprocess(self, example):
        return inputs.preprocess(TOKENIZER, example, self.input, LENGTH)


@pytest.mark.parametrize(
    ("target", "input", "task"),
    [
        ("label", "text", Classification()),
        pytest.param("pair", "pair", Classification(), marks=pytest.mark.slow),
        ("tags", "words", Tagging()),
    ],
)
def test_texts_preprocessed_together_are_those_preprocessed_alone(tmp_path, target, input, task):
    source = Embedded(data="notes", count=70, target=target)
    ingest.write_examples(source, Split(), tmp_path, say=lambda text: None)
    data = Data(tmp_path, Pieces(input=input), task)
    order = data.order("train", epoch=0)
    decoded = data._examples("train", order)
    alone, together = data._alone(decoded), data.pairs("train", order)
    assert together.element_spec == alone.element_spec
    assert len(together) == len(alone) == data.count("train")
    pairs = zip(alone.as_numpy_iterator(), together.as_numpy_iterator(), strict=True)
    for one, other in pairs:
        keras.tree.map_structure(np.testing.assert_array_equal, one, other)


def test_the_preprocessing_of_texts_is_traced_once_for_all_epochs(tmp_path, monkeypatch):
    data = Data(written(tmp_path), ToyText(), Classification(), batch_size=8)
    preprocess, traces = ToyText.preprocess, []

    def traced(self, example):
        traces.append(example)
        return preprocess(self, example)

    monkeypatch.setattr(ToyText, "preprocess", traced)
    first, *others = (
        [ids for ids, _ in data.shuffled("train", epoch).unbatch().as_numpy_iterator()]
        for epoch in range(3)
    )
    assert len(traces) == 1
    for other in others:
        assert not np.array_equal(first, other)
        assert sorted(map(tuple, first)) == sorted(map(tuple, other))
