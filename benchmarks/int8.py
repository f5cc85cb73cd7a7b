"""The cost of int8: networks trained on the digits, as float32 and as int8 files.

    python benchmarks/int8.py mobilenet_v3_small efficientnet_b0

Each trains in full from random weights on the embedded digits at 48 pixels, 800 steps of 16. It is
exported as float32 and as int8, with and without bias correction. Prints a Markdown table: accuracy
on the test split, the share of pictures with the same best class as float32, the mean difference of
the probabilities, bytes as a fraction of float32.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np

from pipeline import gain
from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.exporters.tflite import TFLite
from tlkeras.formats import bias_correction
from tlkeras.model.transfer_model import TransferModel
from tlkeras.sources.embedded import Embedded
from tlkeras.tasks.classification import Classification
from tlkeras.training.trainable import trainable

STEPS = 800
LEFT_OUT = mock.patch.object(bias_correction, "corrected", lambda file, exact, inputs: file)
WAYS = {
    "float32": (TFLite(), contextlib.nullcontext()),
    "int8": (TFLite(quantize="int8"), contextlib.nullcontext()),
    "int8, biases as rounded": (TFLite(quantize="int8"), LEFT_OUT),
}


def main() -> None:
    """Trains, exports, measures and prints."""
    parser = argparse.ArgumentParser(description="The cost of int8.")
    parser.add_argument("backbones", nargs="+", help="names, like mobilenet_v3_small")
    options = parser.parse_args()
    print("| network | file | accuracy | same best class | mean difference | bytes |")
    print("|---|---|---|---|---|---|")
    for name in options.backbones:
        backbone = spec.parse(f"{name}(size=48, weights=None)", Backbone)
        with tempfile.TemporaryDirectory() as folder:
            ingest.write_examples(Embedded(), Split(), Path(folder), say=lambda text: None)
            data = Data(Path(folder), backbone, Classification())
            for row in measured(data):
                print(f"| {name} | {' | '.join(row)} |", flush=True)


def measured(data: Data) -> list[list[str]]:
    """Returns a row for every file of a network trained on the data."""
    model = TransferModel(data.backbone, data.task, data.classes, seed=0)
    gain.train(trainable(model.full), *arrays(data, "train"), seed=0, steps=STEPS)
    pictures, labels = arrays(data, "test")
    rows, first = [], None
    for way, (exporter, patched) in WAYS.items():
        with tempfile.TemporaryDirectory() as folder, patched:
            exporter.write(model, data.singles("train"), Path(folder))
            (written,) = Path(folder).glob("*.tflite")
            size = written.stat().st_size
            served = exporter.load(Path(folder))(pictures)["probabilities"]
        first = first or (served, size)
        exact, bytes_ = first
        accuracy = np.mean(served.argmax(-1) == labels)
        same = np.mean(served.argmax(-1) == exact.argmax(-1))
        difference = np.abs(served - exact).mean()
        rows.append(
            [way, f"{accuracy:.4f}", f"{same:.4f}", f"{difference:.4f}", f"{size / bytes_:.3f}"]
        )
    return rows


def arrays(data: Data, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the inputs, float32 [n, 48, 48, 3], and the labels [n] of a split."""
    pairs = list(data.batches(split).as_numpy_iterator())
    inputs = np.concatenate([inputs for inputs, _ in pairs])
    return inputs, np.concatenate([targets.argmax(-1) for _, targets in pairs])


if __name__ == "__main__":
    main()
