"""The programs beside the packages run; on so little data what they print means nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import draw
from PIL import Image

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
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few drawn JPEGs where photos are wanted, and random weights."""
    place = tmp_path_factory.mktemp("programs")
    sets = ("flower_photos/train", "flower_photos/val", "caltech101_112", "imagenet_1000_samples")
    for name in sets:
        for path in list(draw(place / "images" / name, 12).rglob("*.png")):
            Image.open(path).save(path.with_suffix(".jpg"))
            path.unlink()
    options: Any = {"input_shape": (160, 160, 3), "include_top": False, "weights": None}
    keras.applications.MobileNetV2(alpha=0.35, **options).save_weights(place / FILE)
    return place


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda text: text.split()[0])
def test_a_program_runs(program: str, place: Path):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *program.format(place).split()]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    if "pretrain" in program:
        made, ours = (shipped.read("starter", f) for f in (place / "weights", shipped.FOLDER))
        assert [(n, a.shape) for n, a in made.items()] == [(n, a.shape) for n, a in ours.items()]
