"""Street scenes, drawn in the layouts of CamVid and of YOLO's signs, from source to exports."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tlkeras.frameworks import tf
from tlkeras.images import decoding
from tlkeras.images.masks import IGNORE
from tlkeras.sources.masks import Masks

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT = 96, 72

# CamVid's colours of some of its classes, and the numbers that they have in SegNet's copy of it.
COLOURS = {
    "Sky": (128, 128, 128),
    "Building": (128, 0, 0),
    "Road": (128, 64, 128),
    "Car": (64, 0, 128),
    "Void": (0, 0, 0),
}
NUMBERS = {"Sky": 0, "Building": 1, "Road": 3, "Car": 8, "Void": 11}
NAMED = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car",
         "pedestrian", "bicyclist")  # fmt: skip
SIGNS = {"stop": (200, 20, 30), "speed limit": (240, 240, 240), "priority": (240, 200, 0)}


def street(seed: int) -> tuple[Image.Image, np.ndarray]:
    """Returns a noisy street and the number of the place in `COLOURS` of every pixel."""
    random = np.random.default_rng(seed)
    places = np.zeros([HEIGHT, WIDTH], int)
    horizon = int(random.integers(20, 40))
    left, right = np.sort(random.integers(0, WIDTH, 2))
    places[horizon - 14 : horizon + 2, left:right] = 1
    places[horizon:] = 2
    y, x = random.integers(horizon + 2, HEIGHT - 18), random.integers(0, WIDTH - 26)
    places[y : y + 14, x : x + 24] = 3
    places[-3:] = 4  # The bonnet, of which nothing is said.
    shown = np.array([(150, 190, 240), (130, 70, 50), (70, 70, 75), (200, 30, 40), (10, 10, 10)])
    pixels = shown[places] + random.normal(0, 8, (HEIGHT, WIDTH, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), places


def camvid(root: Path, ending: str, of_places: Any, suffix: str = "") -> Path:
    """Writes streets in folders of splits, and their masks in folders beside these."""
    for split, count in {"train": 24, "val": 6, "test": 6}.items():
        for number in range(count):
            name = f"{split}_{number:04d}"
            picture, places = street(100 * len(split) + number)
            for folder, file, image in (
                (split, f"{name}.png", picture),
                (f"{split}{ending}", f"{name}{suffix}.png", Image.fromarray(of_places[places])),
            ):
                (root / folder).mkdir(parents=True, exist_ok=True)
                image.save(root / folder / file)
    return root


def signs(root: Path) -> Path:
    """Writes streets with signs, and lines of boxes, in the folders and the file of YOLO."""
    for split, count in {"train": 30, "valid": 6, "test": 6}.items():
        for number in range(count):
            random = np.random.default_rng(1000 * len(split) + number)
            picture, _ = street(500 + number)
            draw, lines = ImageDraw.Draw(picture), []
            for column in range(random.integers(0, 4)):
                label = int(random.integers(len(SIGNS)))
                side, top = int(random.integers(14, 26)), int(random.integers(2, 40))
                left = 32 * column + int(random.integers(0, 32 - side))
                colour = [*SIGNS.values()][label]
                draw.ellipse([left, top, left + side - 1, top + side - 1], colour, (0, 0, 0))
                x, y = (left + side / 2) / WIDTH, (top + side / 2) / HEIGHT
                lines.append(f"{label} {x:.6f} {y:.6f} {side / WIDTH:.6f} {side / HEIGHT:.6f}")
            for folder, file in ((f"{split}/images", ".jpg"), (f"{split}/labels", ".txt")):
                (root / folder).mkdir(parents=True, exist_ok=True)
                path = root / folder / f"{number:05d}{file}"
                if file == ".txt":
                    path.write_text("\n".join(lines))
                else:
                    picture.save(path, quality=92)
    names = "\n".join(f"  {place}: {name}" for place, name in enumerate(SIGNS))
    text = f"train: ../train/images\nval: ../valid/images\nnc: {len(SIGNS)}\nnames:\n{names}\n"
    (root / "data.yaml").write_text(text)
    return root


def pushed(place: Path, source: str, task: str, epochs: int) -> Path:
    """Returns the version that the whole pipeline pushes."""
    phase = f"phase(epochs={epochs}, learning_rate=5e-3, augment=[flip, zoom(scale=1.2)], views=4)"
    ended = subprocess.run(
        [
            sys.executable, "-m", "pipeline", f"--source={source}", f"--task={task}",
            "--backbone=starter(size=96)", f"--recipe=fine_tune(phases=[{phase}])",
            "--exporters=saved_model|tflite|tflite(quantize='int8')", "--batch_size=8",
            f"--root={place / 'runs'}", f"--saved_models={place / 'models'}", "--name=streets",
            "--max_export_drop=0.1",
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    version = place / "models/streets/1"
    names = {path.name for path in version.iterdir()}
    assert names >= {"saved_model", "model.tflite", "model_int8.tflite", "labels.txt", "card.md"}
    return version


def of_client(version: Path, picture: Path) -> dict[str, np.ndarray]:
    loaded = tf.saved_model.load(str(version / "saved_model"))
    served = loaded.signatures["encoded"](image=tf.constant([picture.read_bytes()]))
    return {name: value[0].numpy() for name, value in served.items()}


@pytest.mark.slow
def test_streets_are_segmented_from_the_layout_of_camvid(tmp_path):
    root = camvid(tmp_path / "CamVid", "_labels", np.array([*COLOURS.values()], np.uint8), "_L")
    table = "name,r,g,b\n" + "".join(
        f"{name},{','.join(map(str, colour))}\n" for name, colour in COLOURS.items()
    )
    (root / "class_dict.csv").write_text(table)
    source = (
        f"masks(images='{root}', masks='{root}', colours='{root}/class_dict.csv', ignore='Void')"
    )
    version = pushed(tmp_path, source, "segmentation(width=24)", 12)
    assert (version / "labels.txt").read_text().split() == [*COLOURS][:4]
    served = of_client(version, root / "test/test_0000.png")
    assert served["category"].shape == (HEIGHT, WIDTH)
    true = np.array([1, 2, 3, 4, IGNORE])[street(400)[1]]
    assert (served["category"] == true)[true != IGNORE].mean() > 0.85


def test_streets_are_read_from_the_layout_of_segnets_copy_of_camvid(tmp_path):
    root = camvid(tmp_path / "CamVid", "annot", np.array([*NUMBERS.values()], np.uint8))
    source = Masks(root, root, names=NAMED, ignore=11)
    assert source.classes() == NAMED
    found = dict(source.examples())
    counts = Counter(map(source.split, found))
    assert counts == {"train": 24, "validation": 6, "test": 6}
    (first,) = (each for each in found if "test_0000" in each)
    numbers = decoding.mask_numbers(found[first]["mask"])
    np.testing.assert_array_equal(numbers, np.array([0, 1, 3, 8, IGNORE])[street(400)[1]])


@pytest.mark.slow
def test_signs_are_found_from_the_layout_of_yolo(tmp_path):
    root = signs(tmp_path / "signs")
    version = pushed(tmp_path, f"yolo(path='{root}')", "detection(most=10, width=48)", 24)
    assert (version / "labels.txt").read_text().splitlines() == [*SIGNS]
    hits = []
    for file in sorted((root / "test/images").iterdir()):
        served = of_client(version, file)
        lines = (root / "test/labels" / file.with_suffix(".txt").name).read_text().splitlines()
        for line in lines:
            label, x, y = map(float, line.split()[:3])
            centre = np.array([y * HEIGHT, x * WIDTH])
            sure = served["scores"] >= 0.2
            low, high = served["pixels"][:, :2], served["pixels"][:, 2:]
            inside = ((low < centre) & (centre < high)).all(1)
            same = served["names"] == [*SIGNS][int(label)].encode()
            hits.append(bool((sure & inside & same).any()))
    assert len(hits) >= 5 and np.mean(hits) > 0.5
