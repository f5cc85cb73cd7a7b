"""The language modeling task: likelihoods, their measures, and how texts go on."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import checkpoints as folders
import numpy as np
import pytest
from conftest import assert_near

from pipeline import forget, order, store
from pipeline.config import Config
from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.backbones.hub_text import Bert, Gemma, Llama
from tlkeras.data import ingest, records
from tlkeras.data.batches import Data
from tlkeras.data.id_list import IdList
from tlkeras.data.records import Records
from tlkeras.data.splits import Split
from tlkeras.exporter import Origin
from tlkeras.exporters.saved_model import SavedModel
from tlkeras.frameworks import keras_hub, tf
from tlkeras.measures import groups
from tlkeras.measures.language_modeling import LanguageTally
from tlkeras.measures.measures import Gallery
from tlkeras.model import vector
from tlkeras.model.transfer_model import TransferModel
from tlkeras.recipes.fine_tune import FineTune, Phase
from tlkeras.sources.csv import CSV
from tlkeras.tasks.language_modeling import LanguageModeling
from tlkeras.texts import sampling

TEXTS = ("the soup was so good", "a b", "good soup, bad soup: the soup", "the the the the the")
LENGTH = 24


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, Any]:
    place = tmp_path_factory.mktemp("gpt2")
    return place, folders.write("gpt2", place)


@pytest.fixture(scope="module")
def folder(written) -> Path:
    return written[0]


@pytest.fixture(scope="module")
def model(folder) -> TransferModel:
    return TransferModel(gpt2(folder, LENGTH), LanguageModeling(), ())


def gpt2(folder: Path, length: int) -> Backbone:
    return spec.parse(f"gpt2(weights={str(folder)!r}, length={length})", Backbone)


def served(model: TransferModel, texts: Any) -> dict[str, np.ndarray]:
    found = model.predicted(model.backbone.preprocess({"text": tf.constant(texts)}))
    return {name: np.asarray(value) for name, value in found.items()}


def test_likelihoods_are_those_of_a_numpy_forward_pass(model, written):
    folder, tensors = written
    config = json.loads((folder / "config.json").read_text())
    ids = model.backbone.preprocess({"text": tf.constant(TEXTS)}).numpy()
    mask = ids >= 0
    states = folders.gpt2(tensors, config, np.maximum(ids, 0), mask, None)[-1]
    logits = states @ tensors["wte.weight"].T
    logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    found = served(model, TEXTS)
    for row, (text, own) in enumerate(zip(ids, logs, strict=True)):
        pieces = int(mask[row].sum())
        expected = [own[place, text[place + 1]] for place in range(pieces - 1)]
        assert found["counted"][row].sum() == pieces - 1
        np.testing.assert_allclose(
            found["log_probabilities"][row, : pieces - 1], expected, atol=1e-4
        )
        assert not found["log_probabilities"][row, pieces - 1 :].any()
        best = own[: pieces - 1].argmax(axis=-1)
        np.testing.assert_array_equal(found["likely"][row, : pieces - 1], best)
        np.testing.assert_array_equal(found["right"][row, : pieces - 1], best == text[1:pieces])


def test_a_text_is_as_probable_alone_as_beside_longer_ones(model):
    together = served(model, TEXTS)["log_probabilities"].sum(axis=1)
    alone = [served(model, [text])["log_probabilities"].sum() for text in TEXTS]
    assert_near(together, np.array(alone), 64)


def test_features_do_not_depend_on_how_much_of_the_padding_is_run(model):
    inputs = model.backbone.preprocess({"text": tf.constant(["a b", "a"])})
    whole, shortened = (run(model)(inputs) for run in (vector.served, vector.predicted))
    assert_near(shortened[vector.FEATURES], whole[vector.FEATURES].numpy(), 64)


def test_the_measures_are_those_of_the_sums():
    tally = LanguageTally()
    logs = np.log([[0.5, 0.25, 1.0, 1.0], [0.125, 0.5, 0.5, 1.0]])
    counted = np.array([[1.0, 1, 0, 0], [1, 1, 1, 0]])
    right = np.array([[1.0, 0, 0, 0], [0, 1, 1, 0]])
    served = {"log_probabilities": logs * counted, "counted": counted, "right": right}
    tally.add(np.array([[6.0], [9.0]]), served, 0)
    found = tally.measures()
    nats = [math.log(8), math.log(32)]
    assert found.scalars["perplexity"].value == pytest.approx(math.exp(sum(nats) / 5))
    # The second text fills all places, so that more may have been cut off.
    assert found.scalars["bits_per_byte"].value == pytest.approx(3 / 6)
    assert found.scalars["accuracy"].value == pytest.approx(3 / 5)
    assert not found.score.more_is_better and "1 of 2" in found.remarks[0]
    low, high = found.scalars["perplexity"].interval or (0, 0)
    assert low < found.scalars["perplexity"].value < high


def test_one_text_alone_has_no_interval():
    tally, counted = LanguageTally(), np.array([[1.0, 1, 0, 0]])
    served = {"log_probabilities": -counted, "counted": counted, "right": counted}
    tally.add(np.array([[6.0]]), served, 0)
    assert [scalar.interval for scalar in tally.measures().scalars.values()] == [None] * 3


def test_a_group_whose_texts_have_no_piece_to_predict_has_no_perplexity():
    sites, trained = groups.Groups(("a", "b"), np.array([0, 1])), groups.Trained({}, {})
    tally = groups.GroupTally("site", sites, trained, LanguageModeling(), ())
    none, some = np.zeros([1, 4]), np.array([[1.0, 0, 0, 0]])
    served = {"log_probabilities": np.concatenate([none, -some])}
    served |= {name: np.concatenate([none, some]) for name in ("counted", "right")}
    tally.add(np.array([[5.0], [9.0]]), served, 0)
    first, second = (measures.score for measures in tally.found.measured.values())
    assert not first.is_defined and second.value == pytest.approx(math.e)


def test_the_most_probable_pieces_are_the_limit_of_a_small_nucleus(model):
    greedy = sampling.Sampler(model).continued("the soup", 6)
    assert greedy == sampling.Sampler(model).continued("the soup", 6)
    assert greedy == sampling.Sampler(model).continued("the soup", 6, nucleus=1e-9, seed=3)
    drawn = {
        sampling.Sampler(model).continued("the soup", 6, nucleus=1.0, seed=n) for n in range(4)
    }
    assert len(drawn) > 1
    assert sampling.Sampler(model).continued("", 6) == ""  # GPT-2 reads nothing before a text.


def test_a_text_without_white_space_is_continued_behind_its_beginning(model):
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 200)))
    (gallery,) = model.task.views(model, [{"text": text}, {"text": "a b"}])
    first, second = (example.caption for example in gallery.examples)
    pattern = "beginning: “(.*)”; most probable: “(.+)”; drawn: “(.+)”"
    found = re.fullmatch(pattern, first, re.DOTALL)
    assert found and text.startswith(found[1]) and LENGTH / 2 <= 3 * len(found[1]) < LENGTH
    assert second.startswith("beginning: “a b”;")


def test_pieces_of_sentencepiece_go_on_with_a_text(tmp_path):
    folders.write("llama", tmp_path)
    backbone = Llama(weights=str(tmp_path), length=16)
    model = TransferModel(backbone, LanguageModeling(), ())
    row = backbone.preprocess({"text": tf.constant("a rain in spain")}).numpy()
    ids = [int(piece) for piece in row[1:] if piece >= 0]
    assert model.backbone.tokenizer.text(ids) == "a rain in spain"
    assert isinstance(sampling.Sampler(model).continued("a rain", 4), str)


def test_a_text_goes_on_before_the_piece_that_ends_it(tmp_path):
    folders.write("llama", tmp_path)
    backbone = Llama(weights=str(tmp_path), length=16)
    plain = sampling.Sampler(TransferModel(backbone, LanguageModeling(), ()))
    (tmp_path / "tokenizer_config.json").write_text('{"add_eos_token": true}')
    ended = sampling.Sampler(TransferModel(backbone.replace(), LanguageModeling(), ()))
    assert ended.continued("a rain", 4) == plain.continued("a rain", 4) != ""
    begun = ended.beginning("in spain " * 20)
    assert begun and plain.beginning(begun) == begun
    assert ended.continued(begun, 4) in plain.continued(begun, 4)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_no_piece_is_drawn_that_the_vocabulary_lacks(family, tmp_path):
    pieces = folders.describe(family, tmp_path)["vocab_size"]
    folders.write(family, tmp_path, vocab_size=pieces + 60)
    backbone = spec.parse(f"{family}(weights={str(tmp_path)!r}, length=16)", Backbone)
    model = TransferModel(backbone, LanguageModeling(), ())
    before = sampling.Sampler(model).continued("a rain", 6)
    kernel: Any = model.head.get_layer("logits").kernel
    likely = np.where(np.arange(pieces + 60) < pieces, 1, 1000).astype(np.float32)
    kernel.assign(kernel.numpy() * likely)
    assert sampling.Sampler(model).continued("a rain", 6) == before
    drawn = sampling.Sampler(model).continued("a rain", 6, nucleus=1.0)
    assert isinstance(drawn, str)


def test_continuations_stand_in_a_gallery_by_the_numbers_of_their_texts(model):
    examples = [{"text": "the soup was so good and so much of it"}, {"text": " "}, {"text": "a b"}]
    (view,) = model.task.views(model, examples)
    assert isinstance(view, Gallery)
    assert [each.number for each in view.examples] == [0, 2]
    greedy = sampling.Sampler(model).continued("a b", 40)
    assert "“the soup was so”" in view.examples[0].caption  # The whole leaves no room.
    assert f"beginning: “a b”; most probable: “{greedy}”; drawn: " in view.examples[1].caption
    assert model.task.views(model, [{"text": " "}]) == []


@pytest.mark.slow
def test_no_file_has_the_words_of_a_test_text_that_was_forgotten(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    rows = [" ".join("".join(random.choice([*"aeioust"], 6)) for _ in range(9)) for _ in range(40)]
    (tmp_path / "texts.csv").write_text("\n".join(["text", *rows]), encoding="utf-8")
    config = Config(
        source=CSV(tmp_path / "texts.csv", label=None),
        split=Split(validation=20, test=20),
        backbone=gpt2(folder, LENGTH),
        task=LanguageModeling(),
        recipe=FineTune((Phase(epochs=1),)),
        exporters=(SavedModel(),),
    )
    examples = store.run(order.STEPS, config, store.Store(Path("runs")))["examples"]
    (record,) = Records(examples, "test").read([0])
    identity, values = records.values(record, records.info(examples).features)
    begun = values["text"][:12].encode()  # The network continues a half that it has room for.

    def holders() -> set[str]:
        places = (path for top in ("runs", "saved_models") for path in Path(top).rglob("*"))
        return {path.name for path in places if path.is_file() and begun in path.read_bytes()}

    assert {"metrics.json", "report.html"} <= holders()
    (tmp_path / "gone.txt").write_text(identity)
    forget.main(forget.Forget(IdList(tmp_path / "gone.txt")))
    assert holders() == set()


def test_pieces_are_drawn_from_the_nucleus_alone():
    logits, random = np.log([0.1, 0.5, 0.3, 0.1]), np.random.default_rng(0)
    drawn = [sampling.chosen(logits, 0.7, random) for _ in range(2000)]
    assert {*drawn} == {1, 2}
    assert drawn.count(1) / 2000 == pytest.approx(0.5 / 0.8, abs=0.04)


@pytest.mark.slow
def test_a_fit_makes_texts_more_probable_and_called_again_gives_the_same(folder, tmp_path):
    rows = "".join(f"{TEXTS[i % 4]} {i % 3}\n" for i in range(60))
    (tmp_path / "texts.csv").write_text(f"text\n{rows}".replace(",", ""), encoding="utf-8")
    source = CSV(tmp_path / "texts.csv", label=None)
    assert [*source.features()] == ["text"]
    ingest.write_examples(source, Split(validation=20, test=0), tmp_path / "examples")
    backbone = gpt2(folder, 16)
    data = Data(tmp_path / "examples", backbone, LanguageModeling(), batch_size=8)
    phases = tuple(Phase(epochs=1, unfreeze=blocks) for blocks in ((), 0.4, "all"))
    model = TransferModel(backbone, data.task, data.classes, seed=0)
    logs = FineTune(phases).fit(model, data, tmp_path / "fit")
    assert logs[-1]["val_loss"] < logs[0]["loss"]
    assert logs[-1]["val_perplexity"] == pytest.approx(math.exp(-logs[-1]["val_log_likelihood"]))
    again = TransferModel(backbone, data.task, data.classes, seed=0)
    assert FineTune(phases).fit(again, data, tmp_path / "fit") == logs


@pytest.mark.parametrize("is_tied", [False, ...])  # ``...`` leaves it out.
def test_a_matrix_of_its_own_rates_the_pieces(is_tied, tmp_path):
    from safetensors.numpy import save_file

    tensors = dict(folders.write("llama", tmp_path, tie_word_embeddings=is_tied))
    backbone = Llama(weights=str(tmp_path), length=16)
    network = backbone.build()
    with pytest.raises(ValueError, match=r"lm_head\.weight"):
        backbone.readout(network)
    table = tensors["embed_tokens.weight"]
    tensors["lm_head.weight"] = np.random.default_rng(0).normal(size=table.shape).astype("f4")
    save_file(tensors, tmp_path / "model.safetensors")
    np.testing.assert_array_equal(backbone.readout(network), tensors["lm_head.weight"].T)


@pytest.mark.parametrize("is_tied", [True, False])
def test_a_file_of_weights_rates_the_pieces_by_their_table_or_not_at_all(is_tied, tmp_path):
    folders.describe("llama", tmp_path, tie_word_embeddings=is_tied)
    random = Llama(weights=None, configuration=tmp_path, length=16)
    network = random.build()
    table = network.get_layer("token_embedding").embeddings.numpy()
    np.testing.assert_array_equal(random.readout(network), table.T)
    network.save_weights(tmp_path / "a.weights.h5")
    written = random.replace(weights=str(tmp_path / "a.weights.h5"))
    if is_tied:
        np.testing.assert_array_equal(written.readout(written.build()), table.T)
    else:
        with pytest.raises(ValueError, match=r"a\.weights\.h5 holds no readout, .* the folder"):
            TransferModel(written, LanguageModeling(), ())


@pytest.mark.parametrize("cap", [None, 3.0])
def test_a_network_that_bends_its_logits_rates_no_pieces(cap, tmp_path):
    rows = folders.describe("gemma", tmp_path)["vocab_size"]
    (tmp_path / "config.json").unlink()
    proto = (tmp_path / "tokenizer.model").read_bytes()
    keras_hub.tokenizers.GemmaTokenizer(proto).save_to_preset(tmp_path)
    sizes = {"num_layers": 1, "num_query_heads": 2, "num_key_value_heads": 1, "head_dim": 4}
    sizes |= {"vocabulary_size": rows, "hidden_dim": 8, "intermediate_dim": 24}
    keras_hub.models.GemmaBackbone(**sizes, final_logit_soft_cap=cap).save_to_preset(tmp_path)
    backbone = Gemma(weights=str(tmp_path), length=16)
    network = backbone.build()
    if cap is None:
        table = network.get_layer("token_embedding").embeddings.numpy()
        np.testing.assert_array_equal(backbone.readout(network), table.T)
    else:
        with pytest.raises(ValueError, match=r"gemma\.weights is .* final_logit_soft_cap is 3\.0"):
            backbone.readout(network)


def test_an_export_tells_nothing_of_classes_that_are_not_read(folder):
    model = TransferModel(gpt2(folder, LENGTH), LanguageModeling(), ("bad", "good"))
    assert Origin().texts(model)["description"] == "language_modeling on gpt2"


def test_networks_that_see_what_comes_are_refused(tmp_path):
    folders.write("bert", tmp_path)
    with pytest.raises(ValueError, match="needs 'next' of the backbone"):
        TransferModel(Bert(weights=str(tmp_path), length=16), LanguageModeling(), ())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "network"), [("smollm2", "llama"), ("llama3", "llama"), ("qwen2", "qwen")]
)
def test_a_folder_with_a_published_tokenizer_is_read_and_served(family, network, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    from test_cuts import published, read

    from tlkeras.texts.bytepairs import LETTERS

    pieces = [*LETTERS, "th", "the"]
    made = published(family, {piece: i for i, piece in enumerate(pieces)}, ["t h", "th e"])
    assert isinstance(made, tokenizers.Tokenizer)
    folders.write(network, tmp_path / "folder", vocab_size=made.get_vocab_size())
    (tmp_path / "folder" / "tokenizer.model").unlink(missing_ok=True)
    read(made, tmp_path / "folder")
    backbone = spec.parse(f"{network}(weights={str(tmp_path / 'folder')!r}, length=16)", Backbone)
    model = TransferModel(backbone, LanguageModeling(), ())
    text = "the 1234 caf\u00e9"
    ids = made.encode(text).ids
    row = backbone.preprocess({"text": tf.constant(text)}).numpy()
    assert row[: min(16, len(ids))].tolist() == ids[:16]
    SavedModel().write(model, None, tmp_path)
    loaded = tf.saved_model.load(str(tmp_path / "saved_model"))
    found = loaded.signatures["serving_default"](text=tf.constant([text]))
    expected = served(model, [text])["log_probabilities"]
    np.testing.assert_allclose(found["log_probabilities"], expected, atol=1e-4)
