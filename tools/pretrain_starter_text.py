"""Trains the weights of the text starter from random initialisation, by distillation from MiniLM.

The teacher is the sentence encoder all-MiniLM-L6-v2 (Wang et al. 2020,
https://arxiv.org/abs/2002.10957; Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084). The
student learns four things of every text:

* ``sentence``: a linear map of its summary is the teacher's sentence vector;
* ``relation``: the cosines between the summaries of a batch are those of the teacher's vectors
  (Park et al. 2019, https://arxiv.org/abs/1904.05068), so no map is needed to use them;
* ``words``: a linear map of each word's first token is the teacher's, of its fourth layer, where
  names of persons and places are better told apart than in the last;
* ``masked``: of every second text some pieces are hidden, shown as unknown, and guessed from the
  rest (Devlin et al. 2019, https://arxiv.org/abs/1810.04805). The teacher has seen them.

The student's embeddings begin as principal components of what the teacher makes of each piece
alone, so that pieces that are rare in the texts begin with a meaning. With ``--earlier`` the
training goes on from weights of this script in place of that. Four resumable stages:

1. ``texts``: sentences and passages, from training and unlabelled files. No label is used, and no
   text that a test file holds, too.
2. ``pieces``: the student's vocabulary, the commonest pieces of the teacher's; ids of both.
3. ``teach``: the teacher's outputs of every text, to disk.
4. ``fit``: trains the student. A checkpoint is saved every 100 steps, in a folder named by the
   earlier weights.

    python tools/pretrain_starter_text.py --data=TEXT --teacher=FOLDER --work=DIR --out=DIR

TEXT holds ``ag_news``, ``fdu_mtl``, ``sms_spam``, ``sst2``, ``trec`` and ``wnut17``; FOLDER is
MiniLM as Hugging Face's libraries write it. The weights, float16, and ``starter_text.json`` with
data, seed, recipe and result go to ``--out``.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import re
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np
import tensorflow as tf
import tqdm

from tlkeras import shipped
from tlkeras.backbones import starter_text
from tlkeras.texts import folders
from tlkeras.texts.wordpiece import WordPiece

LONGEST = 128  # Pieces of a text.
DOMAINS = ("books", "dvd", "electronics", "imdb", "kitchen_housewares")
"""Of fdu_mtl all but ``MR``, whose sentences are partly those of SST-2's test set."""

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
LENGTHS = (16, 32, 64, 128)  # Texts of a batch are padded to one of these.
PIECES = 6144  # Of a batch, padding included.
WINDOW = 4096  # Texts that are sorted by length together.
HELD_OUT = 1024  # Texts for validation.
EVERY = 100  # Steps between checkpoints.
RATES = (2e-3, 1.5e-3)  # At the height of the first cycle, and of the others.
WEIGHTS = {"sentence": 1.0, "relation": 5.0, "words": 0.5, "masked": 0.1}
HIDDEN = 0.2  # Of the pieces of a text that has some.


def main() -> None:
    """Runs the stages."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--earlier", type=Path, help="folder of weights to go on from")
    parser.add_argument("--words", type=int, default=1_200_000, help="of all texts")
    parser.add_argument("--vocabulary", type=int, help="pieces, 10,000 by default")
    parser.add_argument("--steps", nargs="+", type=int, default=[1200, 1200], help="of each cycle")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.earlier and options.vocabulary:
        parser.error("--vocabulary is that of the earlier weights; leave it out.")
    options.work.mkdir(parents=True, exist_ok=True)
    # Twice the speed where the processor multiplies bfloat16, and cosines of 0.9998 to float32.
    tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})
    keras.utils.set_random_seed(options.seed)
    corpus = texts(options)
    tokenizer = folders.wordpiece(options.teacher)
    teacher_ids = ids(options.work / "teacher_ids.npy", tokenizer, corpus)
    earlier = options.earlier and shipped.read(starter_text.NAME, options.earlier)
    if earlier:
        vocabulary = starter_text.vocabulary_of(earlier)
    else:
        vocabulary = pieces(tokenizer.vocabulary, teacher_ids, options.vocabulary or 10_000)
    begun = shipped.digest(starter_text.NAME, options.earlier)[:8] if earlier else "new"
    place = options.work / begun
    place.mkdir(exist_ok=True)
    student_ids = ids(place / "student_ids.npy", WordPiece(vocabulary), corpus)
    teacher = network(options.teacher)
    taught = teach(teacher, Begins(tokenizer.vocabulary), teacher_ids, options.work)
    student = starter_text.network(vocabulary, "pair", None)
    if earlier:
        student.set_weights([earlier[weight.path] for weight in student.weights])
    else:
        begin(student, vocabulary, tokenizer, teacher)
    feed = Feed(student_ids, Begins(vocabulary), taught, options.seed)
    fit(student, feed, place, options)
    write(student, vocabulary, len(corpus), place, options)


def texts(options: argparse.Namespace) -> list[str]:
    """Returns the texts in a random order; the first call writes them."""
    path = options.work / "texts.json"
    if not path.exists():
        random = np.random.default_rng(options.seed)
        short = [*sentences(options.data)]
        tested = {key(text) for text in tests(options.data)}
        passages = [*reviews(options.data, random, tested)]
        left = options.words - sum(len(text.split()) for text in short)
        taken = []
        for place in random.permutation(len(passages)):
            if left <= 0:
                break
            taken.append(passages[place])
            left -= len(passages[place].split())
        found = [*dict.fromkeys(" ".join(text.split()) for text in short + taken)]
        order = [found[i] for i in random.permutation(len(found))]
        path.write_text(json.dumps([text for text in order if key(text) not in tested]))
    return json.loads(path.read_text())


def sentences(data: Path) -> Iterator[str]:
    """Yields the texts of all data sets but the reviews."""
    for line in lines(data / "sst2/stsa.binary.train"):
        yield line.split(" ", 1)[1]
    for line in lines(data / "trec/TREC.train.all", "latin-1"):
        yield line.split(" ", 1)[1]
    for line in lines(data / "ag_news/dev.tsv"):
        yield line.split("\t")[0]
    for line in lines(data / "sms_spam/SMSSpamCollection"):
        text = line.split("\t")[1]
        if not held_out(text):
            yield text
    for block in (data / "wnut17/wnut17train.conll").read_text("utf-8").split("\n\t\n"):
        yield " ".join(line.split("\t")[0] for line in block.splitlines())


def tests(data: Path) -> Iterator[str]:
    """Yields the texts of the test files, for a few are in a training file, too: left out."""
    for part in ("dev", "test"):
        yield from (line.split(" ", 1)[1] for line in lines(data / f"sst2/stsa.binary.{part}"))
    yield from (line.split(" ", 1)[1] for line in lines(data / "trec/TREC.test.all", "latin-1"))
    yield from (line.split("\t")[0] for line in lines(data / "ag_news/test.tsv"))
    messages = (line.split("\t")[1] for line in lines(data / "sms_spam/SMSSpamCollection"))
    yield from (message for message in messages if held_out(message))
    for file in sorted((data / "fdu_mtl").glob("*.test")):
        yield from (line.split("\t", 1)[1] for line in lines(file))


def key(text: str) -> str:
    """Returns the letters and digits of a text, by which two are the same."""
    return "".join(re.findall(r"\w", text.lower()))


def held_out(message: str) -> bool:
    """Tells whether a message of SMS spam, which has no test file, is of the test set: 30 %."""
    return hashlib.sha256(message.encode()).digest()[0] < 77


def reviews(data: Path, random: np.random.Generator, tested: Collection[str]) -> Iterator[str]:
    """Yields passages of whole sentences, of at least 10, 20, 40 or 90 words at random.

    A review whose `key` is one of `tested` has none: no passage of it has that key.
    """
    for domain in DOMAINS:
        train = [line.split("\t", 1)[1] for line in lines(data / f"fdu_mtl/{domain}.task.train")]
        for review in [*train, *lines(data / f"fdu_mtl/{domain}.task.unlabel")]:
            if key(review) in tested:
                continue
            passage: list[str] = []
            least = 90
            for sentence in re.split(r"(?<=[.!?])\s+", review):
                passage += sentence.split()
                if len(passage) >= least:
                    yield " ".join(passage[:110])
                    passage, least = [], random.choice([10, 20, 40, 90], p=[0.4, 0.3, 0.2, 0.1])


def lines(file: Path, encoding: str = "utf-8") -> list[str]:
    """Returns the lines of a file that hold something."""
    return [line for line in file.read_bytes().decode(encoding, "replace").split("\n") if line]


def ids(path: Path, tokenizer: WordPiece, corpus: Sequence[str]) -> np.ndarray:
    """Returns the ids of texts, int32 [n, LONGEST]; the first call writes them."""
    if not path.exists():
        parts = [tokenizer(corpus[i : i + 512], LONGEST) for i in range(0, len(corpus), 512)]
        np.save(path, np.concatenate(parts))
    return np.load(path, mmap_mode="r")


def pieces(vocabulary: Sequence[str], ids: np.ndarray, most: int) -> tuple[str, ...]:
    """Returns the special pieces, those of one ASCII character, and the commonest others."""
    counts = np.bincount(ids.ravel(), minlength=len(vocabulary))
    bare = [piece.removeprefix("##") for piece in vocabulary]
    needed = [len(piece) == 1 and piece.isascii() for piece in bare]
    order = np.lexsort((np.arange(len(vocabulary)), -counts, ~np.array(needed)))
    chosen = [i for i in order if vocabulary[i] not in SPECIAL][: most - len(SPECIAL)]
    return (*SPECIAL, *(vocabulary[i] for i in sorted(chosen)))


class Begins:
    """Tells of ids which begin a word. A word has as many beginnings in any vocabulary: one."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        """Looks at every piece once."""
        frame = ("[PAD]", "[CLS]", "[SEP]")
        self.table = np.array([not (p.startswith("##") or p in frame) for p in vocabulary])

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """Returns bool [b, n]."""
        return self.table[ids]


def network(folder: Path) -> keras.Model:
    """Returns the teacher: from ids to tokens of its layers 4 and 6."""
    bert = keras_hub.models.BertBackbone.from_preset(str(folder))
    fourth = bert.get_layer("transformer_layer_3").output
    return keras.Model(bert.input, [fourth, bert.output["sequence_output"]])


@tf.function(reduce_retracing=True)
def taught_of(teacher: Any, ids: Any) -> tuple[Any, Any]:
    """Returns tokens of layer 4, [b, n, 384], and sentence vectors of length 1, [b, 384]."""
    mask = tf.cast(ids != 0, tf.int32)
    inputs = {"token_ids": ids, "segment_ids": tf.zeros_like(ids), "padding_mask": mask}
    fourth, last = teacher(inputs, training=False)
    total = tf.reduce_sum(last * tf.cast(mask, tf.float32)[..., None], axis=1)
    return fourth, tf.math.l2_normalize(total, axis=1)


class Taught:
    """The teacher's outputs on disk: vectors of texts [n, 384], rows of their words [w, 384]."""

    def __init__(self, folder: Path, counts: np.ndarray) -> None:
        """Opens the files, or makes them."""
        self.ends = np.cumsum(counts)
        self.starts = self.ends - counts
        shapes = {"sentences": (len(counts), 384), "words": (int(self.ends[-1]), 384)}
        self.arrays = {}
        for name, shape in shapes.items():
            path = folder / f"{name}.npy"
            mode: Any = "r+" if path.exists() else "w+"
            self.arrays[name] = np.lib.format.open_memmap(path, mode, np.float16, shape)


def teach(teacher: Any, begins: Begins, ids: np.ndarray, folder: Path) -> Taught:
    """Writes the teacher's outputs, and in ``taught.txt`` how many batches are done."""
    lengths = (ids[:] != 0).sum(axis=1)
    taught = Taught(folder, begins(ids[:]).sum(axis=1))
    order = np.argsort(lengths, kind="stable")
    batches = [order[i : i + 64] for i in range(0, len(order), 64)]
    path = folder / "taught.txt"
    done = int(path.read_text()) if path.exists() else 0
    bar = tqdm.tqdm(range(done, len(batches)), "teach", len(batches), initial=done, mininterval=60)
    for number in bar:
        batch = batches[number]
        width = -(-int(lengths[batch].max()) // 8) * 8
        rows = ids[batch][:, :width]
        fourth, sentence = taught_of(teacher, tf.constant(rows))
        taught.arrays["sentences"][batch] = sentence.numpy()
        for text, tokens, first in zip(batch, fourth.numpy(), begins(rows), strict=True):
            taught.arrays["words"][taught.starts[text] : taught.ends[text]] = tokens[first]
        if number % 100 == 99 or number == len(batches) - 1:
            for array in taught.arrays.values():
                array.flush()
            path.write_text(str(number + 1))
    return taught


def begin(
    student: keras.Model, vocabulary: Sequence[str], tokenizer: WordPiece, teacher: Any
) -> None:
    """Sets the student's embeddings to components of what the teacher makes of a piece alone."""
    places = {piece: i for i, piece in enumerate(tokenizer.vocabulary)}
    frame = [places["[CLS]"], places["[SEP]"]]
    rows = np.array([[frame[0], places[piece], frame[1]] for piece in vocabulary], np.int32)
    blocks = collections.defaultdict(list)
    for start in range(0, len(rows), 500):
        fourth, sentence = taught_of(teacher, tf.constant(rows[start : start + 500]))
        blocks["fourth"].append(fourth.numpy()[:, 1])
        blocks["sentence"].append(sentence.numpy())
    joined = []
    for parts in blocks.values():
        block = np.concatenate(parts)
        block -= block.mean(axis=0)
        joined.append(block / block.std())
    left, sizes, _ = np.linalg.svd(np.concatenate(joined, axis=1), full_matrices=False)
    components = (left * sizes)[:, : starter_text.NARROW]
    student.get_layer("embeddings").set_weights([components / components.std()])


def begin_maps(
    maps: Sequence[Any], student: Any, feed: Feed, mean: np.ndarray, spread: np.ndarray
) -> None:
    """Sets the maps to the teacher's sentences and words by least squares on a few batches."""
    found: list[list[np.ndarray]] = [[], [], [], []]
    for number, batch in enumerate(feed.epoch(0)[:8]):
        ids, sentences, places, words, *_ = feed.read(batch, number)
        features = student(ids)
        tokens = features["tokens"].numpy().reshape(-1, starter_text.CHANNELS)[places]
        rows = features["pooled"].numpy(), sentences, tokens, (words - mean) / spread
        for column, part in zip(found, rows, strict=True):
            column.append(part.astype(np.float32))
    for layer, pair in zip(maps, (found[:2], found[2:]), strict=False):
        rows, targets = map(np.concatenate, pair)
        ones = np.ones([len(rows), 1], np.float32)
        kernel = np.linalg.lstsq(np.concatenate([rows, ones], axis=1), targets, rcond=1e-4)[0]
        layer.set_weights([kernel[:-1], kernel[-1]])


class Feed:
    """Batches of texts, each a function of the seed and the epoch."""

    def __init__(self, ids: np.ndarray, begins: Begins, taught: Taught, seed: int) -> None:
        """Holds out the first texts, whose order is random already."""
        self.ids, self.begins, self.taught, self.seed = ids, begins, taught, seed
        self.lengths = (ids[:] != 0).sum(axis=1)

    def epoch(self, number: int) -> list[np.ndarray]:
        """Returns the places of the texts of each batch."""
        random = np.random.default_rng((self.seed, number))
        order = HELD_OUT + random.permutation(len(self.ids) - HELD_OUT)
        batches = []
        for start in range(0, len(order), WINDOW):
            batches += self.sorted(order[start : start + WINDOW])
        return [batches[i] for i in random.permutation(len(batches))]

    def sorted(self, places: np.ndarray) -> list[np.ndarray]:
        """Returns texts in batches, each of similar lengths."""
        widths = np.searchsorted(LENGTHS, self.lengths[places])
        batches = []
        for width, length in enumerate(LENGTHS):
            chosen = places[widths == width]
            size = PIECES // length
            batches += [chosen[i : i + size] for i in range(0, len(chosen), size)]
        return [batch for batch in batches if len(batch) >= 8]

    def read(self, batch: np.ndarray, number: int) -> tuple[np.ndarray, ...]:
        """Returns ids, sentence vectors, where words begin with the teacher's rows, and hidden ids.

        Of the hidden ones, which `number` and the seed choose, there are the places and the ids.
        """
        width = LENGTHS[np.searchsorted(LENGTHS, self.lengths[batch].max())]
        ids = self.ids[batch][:, :width]
        begins = self.begins(ids)
        numbers = np.cumsum(begins, axis=1) - 1
        rows = self.taught.starts[batch][:, None] + numbers
        found = begins & (rows < self.taught.ends[batch][:, None])
        words = self.taught.arrays["words"][rows[found]]
        random = np.random.default_rng((self.seed, number))
        hidden = np.flatnonzero((random.random(ids.shape) < HIDDEN) & (ids >= len(SPECIAL)))
        hidden = hidden[hidden // width % 2 == 1]
        shown = ids.copy()
        shown.flat[hidden] = SPECIAL.index("[UNK]")
        sentences = self.taught.arrays["sentences"][batch]
        return shown, sentences, np.flatnonzero(found), words, hidden, ids.flat[hidden]


class Cycles(keras.optimizers.schedules.LearningRateSchedule):
    """Cosines, one behind the other (Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983).

    A twentieth of each cycle is warm-up. The weights at the end of a cycle can be used.
    """

    def __init__(self, steps: Sequence[int], rates: Sequence[float]) -> None:
        """Takes the steps of each cycle, and the heights of the first and of the others."""
        self.steps = np.array(steps, np.float32)
        self.ends = np.cumsum(self.steps)
        self.rates = np.array([rates[0], *[rates[-1]] * (len(steps) - 1)], np.float32)

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate."""
        step = tf.cast(step, tf.float32)
        cycle = tf.minimum(tf.reduce_sum(tf.cast(step >= self.ends, tf.int32)), len(self.ends) - 1)
        steps = tf.gather(self.steps, cycle)
        since, warm = step - tf.gather(self.ends, cycle) + steps, steps / 20
        falling = 0.5 + 0.5 * tf.cos(np.pi * tf.minimum((since - warm) / (steps - warm), 1.0))
        return tf.gather(self.rates, cycle) * tf.where(since < warm, since / warm, falling)


def fit(student: keras.Model, feed: Feed, place: Path, options: argparse.Namespace) -> None:
    """Trains the student; resumes from the last checkpoint in its place."""
    maps = [keras.layers.Dense(384, name=name) for name in ("sentence", "words")]
    maps.append(keras.layers.Dense(starter_text.NARROW, name="masked"))
    embeddings: Any = student.get_layer("embeddings")
    for layer in maps:
        layer.build([None, starter_text.CHANNELS])
    steps, rate = sum(options.steps), Cycles(options.steps, RATES[1:] if options.earlier else RATES)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=0.01, global_clipnorm=1.0)
    variables = [w for part in (student, *maps) for w in part.trainable_variables]
    optimizer.build(variables)
    some = feed.taught.arrays["words"][:200_000].astype(np.float32)
    mean, spread = some.mean(axis=0), some.std(axis=0)

    def losses(ids: Any, sentences: Any, places: Any, words: Any, hidden: Any, pieces: Any) -> Any:
        found = student(ids, training=True)
        sentences = tf.cast(sentences, tf.float32)
        mapped = tf.math.l2_normalize(maps[0](found["pooled"]), axis=1)
        sentence = 1 - tf.reduce_mean(tf.reduce_sum(mapped * sentences, axis=1))
        own = tf.math.l2_normalize(found["pooled"], axis=1)
        gaps = tf.matmul(own, own, transpose_b=True)
        gaps -= tf.matmul(sentences, sentences, transpose_b=True)
        count = tf.cast(tf.shape(ids)[0], tf.float32)
        relation = tf.reduce_sum(tf.square(gaps)) / (count * (count - 1))
        tokens = tf.reshape(found["tokens"], [-1, starter_text.CHANNELS])
        targets = (tf.cast(words, tf.float32) - mean) / spread
        word = tf.reduce_mean(tf.square(maps[1](tf.gather(tokens, places)) - targets))
        guesses = maps[2](tf.gather(tokens, hidden)) / np.sqrt(starter_text.NARROW)
        guesses = tf.matmul(guesses, embeddings.embeddings, transpose_b=True)
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(pieces, guesses)
        masked = tf.math.divide_no_nan(tf.reduce_sum(each), tf.cast(tf.size(each), tf.float32))
        return tf.stack([sentence, relation, word, masked])

    signature = (
        tf.TensorSpec([None, None], tf.int32),
        tf.TensorSpec([None, 384], tf.float16),
        tf.TensorSpec([None], tf.int64),
        tf.TensorSpec([None, 384], tf.float16),
        tf.TensorSpec([None], tf.int64),
        tf.TensorSpec([None], tf.int32),
    )
    weights = tf.constant([*WEIGHTS.values()])

    @tf.function(input_signature=signature)
    def step(*batch: Any) -> Any:
        with tf.GradientTape() as tape:
            each = losses(*batch)
            total = tf.reduce_sum(each * weights)
        optimizer.apply(tape.gradient(total, variables), variables)
        return each

    measured = tf.function(losses, input_signature=signature)
    checkpoint = tf.train.Checkpoint(student=student, maps=maps, optimizer=optimizer)
    manager = tf.train.CheckpointManager(checkpoint, place / "fit", max_to_keep=1)
    if manager.latest_checkpoint:
        checkpoint.restore(manager.latest_checkpoint).assert_existing_objects_matched()
    else:
        begin_maps(maps, student, feed, mean, spread)
    first = int(optimizer.iterations)
    feeding = tf.data.Dataset.from_generator(
        lambda: (feed.read(batch, i) for i, batch in enumerate(from_step(feed, first), first)),
        output_signature=signature,
    )
    began, sums = time.perf_counter(), np.zeros(len(WEIGHTS))
    bar = tqdm.tqdm(feeding.prefetch(4), "fit", steps, initial=first, mininterval=60)
    for number, batch in enumerate(bar, first + 1):
        sums += step(*batch).numpy()
        if number % EVERY == 0 or number == steps:
            batches = feed.sorted(np.arange(HELD_OUT))
            found = [measured(*feed.read(batch, i)) for i, batch in enumerate(batches)]
            means = np.mean(found, axis=0)
            manager.save()
            entry = {
                "step": number,
                "loss": rounded(sums / (number % EVERY or EVERY)),
                "held_out": rounded(means),
                "seconds": round(time.perf_counter() - began, 1),
            }
            began, sums = time.perf_counter(), np.zeros(len(WEIGHTS))
            with (place / "log.jsonl").open("a") as file:
                file.write(json.dumps(entry) + "\n")
            print(entry, flush=True)
        if number >= steps:
            break


def from_step(feed: Feed, first: int) -> Iterable[np.ndarray]:
    """Yields the batches behind the first `first`, without end."""
    number = 0
    while True:
        batches = feed.epoch(number)
        yield from batches[first:]
        first, number = max(first - len(batches), 0), number + 1


def rounded(losses: np.ndarray) -> dict[str, float]:
    """Returns losses by name."""
    return {name: round(float(x), 4) for name, x in zip(WEIGHTS, losses, strict=True)}


def write(
    student: keras.Model,
    vocabulary: Sequence[str],
    texts: int,
    place: Path,
    options: argparse.Namespace,
) -> None:
    """Writes ``starter_text.npz``, float16 arrays and the vocabulary, and its description."""
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "starter_text.npz"
    arrays = {w.path: w.numpy().astype(np.float16) for w in student.weights}
    text = "\n".join(vocabulary).encode()
    np.savez_compressed(path, vocabulary=np.frombuffer(text, np.uint8), **arrays)
    entries = [json.loads(line) for line in (place / "log.jsonl").read_text().splitlines()]
    description: dict[str, Any] = {
        "network": f"{starter_text.LAYERS} layers of {starter_text.CHANNELS} channels, "
        f"{student.count_params():,} weights, {len(vocabulary):,} pieces",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "texts": texts,
        "data": [
            "sst2 train",
            "trec train",
            "ag_news dev",
            "sms_spam without its test part",
            "wnut17 train",
            *(f"fdu_mtl {d} train, unlabel" for d in DOMAINS),
        ],
        "teacher": "all-MiniLM-L6-v2",
        "loss_weights": WEIGHTS,
        "hidden_pieces_of_every_second_text": HIDDEN,
        "steps": options.steps,
        "pieces_per_step": PIECES,
        "seed": options.seed,
        "hours": round(sum(entry["seconds"] for entry in entries) / 3600, 2),
        "result": entries[-1],
    }
    if options.earlier:
        earlier = json.loads((options.earlier / "starter_text.json").read_text())
        description |= {
            "remark": "Most held-out texts are among those that the earlier weights learnt from.",
            "earlier": earlier,
        }
    (options.out / "starter_text.json").write_text(json.dumps(description, indent=2) + "\n")


if __name__ == "__main__":
    main()
