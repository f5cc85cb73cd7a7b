"""The programs beside the packages run; on so little data what they print means nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import FAMILIES, INNER, POSITIONS, WIDTH, WORD_PIECES, describe
from conftest import draw
from PIL import Image
from safetensors.numpy import save_file

from tlkeras import shipped
from tlkeras.frameworks import keras

ROOT = Path(__file__).parents[1]
FILE = "MobileNetV2_0.35_224_notop.weights.h5"
PROGRAMS = [
    "benchmarks/speed.py --data={0}/images --weights={0} --results={0}/speed.jsonl"
    " --sets flower_photos --alphas 0.35 --epochs 1 --runs 1 --ways ours cached",
    "benchmarks/scale.py --work={0}/work --results={0}/scale.jsonl --counts 40 60",
    "benchmarks/parts.py --data={0}/images/flower_photos --weights={0} --alpha=0.35 --rounds=1",
    "benchmarks/starter.py --data={0}/images --weights={0}/" + FILE + " --sets digits"
    " --results={0}/starter.jsonl --labels 5 --ways starter --seeds 1",
    "tools/pretrain_starter.py --data={0}/images --teacher={0}/" + FILE + " --work={0}/kept"
    " --out={0}/weights --drawn=260 --block_steps=20 --whole_steps=20 --batch_size=8",
    "benchmarks/starter_text.py --data={0}/texts --minilm={0}/bert --results={0}/texts.jsonl"
    " --sets sms_spam --labels 5 --seeds 1 --ways starter_text minilm tfidf",
    "tools/pretrain_starter_text.py --data={0}/texts --teacher={0}/bert --work={0}/kept_text"
    " --out={0}/weights --steps 2 2 --vocabulary=200",
    "tools/pretrain_starter_text.py --data={0}/texts --teacher={0}/bert --work={0}/kept_longer"
    " --out={0}/longer --earlier=tlkeras/weights --steps 2",
    "benchmarks/mutated.py --count=330",
    "benchmarks/doctor.py --data={0}/images/flower_photos --base=. --runs=1 --counts=40",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few drawn JPEGs where photos are wanted, made-up texts, and random weights."""
    place = tmp_path_factory.mktemp("programs")
    sets = ("flower_photos/train", "flower_photos/val", "caltech101_112", "imagenet_1000_samples")
    for name in sets:
        for path in list(draw(place / "images" / name, 12).rglob("*.png")):
            Image.open(path).save(path.with_suffix(".jpg"))
            path.unlink()
    options: Any = {"input_shape": (160, 160, 3), "include_top": False, "weights": None}
    keras.applications.MobileNetV2(alpha=0.35, **options).save_weights(place / FILE)
    write_texts(place / "texts")
    write_bert(place / "bert")
    return place


def write_texts(folder: Path) -> None:
    """Writes the files that the programs for texts read."""
    for name in ("sst2", "trec", "ag_news", "sms_spam", "fdu_mtl", "wnut17"):
        (folder / name).mkdir(parents=True)
    labelled = [f"{i % 2} is film {i} good" for i in range(1300)]
    for part, rows in (("train", labelled), ("dev", labelled[:2]), ("test", labelled[2:4])):
        (folder / f"sst2/stsa.binary.{part}").write_text("\n".join(rows) + "\n")
    for part in ("train", "test"):
        rows = [f"{i % 6} where is the {part} {i}" for i in range(40)]
        (folder / f"trec/TREC.{part}.all").write_text("\n".join(rows) + "\n")
    for part in ("dev", "test"):
        (folder / f"ag_news/{part}.tsv").write_text(f"the {part} of a team won\tSports\n")
    rows = [f"{('ham', 'spam')[i % 2]}\tcall me {i}\t\t" for i in range(40)]
    (folder / "sms_spam/SMSSpamCollection").write_text("\n".join(rows) + "\n")
    review = "It broke soon. I am sad about that. " * 30
    for domain in ("books", "dvd", "electronics", "imdb", "kitchen_housewares"):
        tested = f"{domain} tested {review}\n"
        (folder / f"fdu_mtl/{domain}.task.train").write_text(f"1\t{domain} {review}\n1\t{tested}")
        (folder / f"fdu_mtl/{domain}.task.test").write_text(f"0\t{domain} is bad\n0\t{tested}")
        (folder / f"fdu_mtl/{domain}.task.unlabel").write_text(f"a {domain} {review}\n")
    (folder / "wnut17/wnut17train.conll").write_text("Anna\tB-person\nran\tO\n\t\nhi\tO\n")


def write_bert(folder: Path) -> None:
    """Writes a random network of MiniLM's width, six layers deep, with letters as vocabulary."""
    letters = [chr(i) for i in range(33, 127) if not chr(i).isupper()]
    pieces = [*WORD_PIECES[:5], *letters, *(f"##{letter}" for letter in letters)]
    sizes: dict[Any, Any] = {WIDTH: 384, INNER: 128, POSITIONS: 128, "vocabulary": len(pieces)}
    fields = {"num_hidden_layers": 6, "hidden_size": 384, "vocab_size": len(pieces)}
    describe("bert", folder, **fields, intermediate_size=128, max_position_embeddings=128)
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    shapes: dict[str, Any] = {**FAMILIES["bert"].shapes}
    for layer in (3, 4, 5):
        shapes |= {key.replace("layer.2.", f"layer.{layer}."): shapes[key] for key in shapes}
    random = np.random.default_rng(0)
    tensors = {
        key: random.normal(0, 0.1, [sizes.get(n, n) for n in shape]).astype(np.float32)
        for key, shape in shapes.items()
    }
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda text: text.split()[0])
def test_a_program_runs(program: str, place: Path):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *program.format(place).split()]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    if "pretrain" in program:
        name = "starter_text" if "text" in program else "starter"
        out = place / program.partition("--out={0}/")[2].split()[0]
        made, ours = (shipped.read(name, f) for f in (out, shipped.FOLDER))
        assert [*made] == [*ours]
        vocabulary = ("vocabulary", "embeddings/embeddings")  # It depends on the texts.
        for array in ours.keys() - vocabulary:
            assert made[array].shape == ours[array].shape
    if "pretrain_starter_text" in program:  # Of a text that a test file has it read no passage.
        work = place / program.partition("--work={0}/")[2].split()[0]
        read = (work / "texts.json").read_text()
        assert "books" in read and "tested" not in read
