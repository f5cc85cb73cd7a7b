"""The whole job beside other libraries: seconds from pictures to a model and to a file for a phone.

Ways, each what its users would write, on the same folder, MobileNetV2 1.0 at 160 pixels, batches of
32, the same epochs with a frozen network and with its last two blocks, validation after each:

* ``tlkeras``: one command, up to the pushed TFLite file, which is checked in a fresh process;
* ``keras``: `tutorial.py` with pictures kept in memory, which trains from layer 100 on; TFLite;
* ``keras_hub``: KerasHub's ``ImageClassifier`` on a backbone of this shape; TFLite;
* ``fastai``: ``fine_tune`` of its ``Learner``, which trains all layers in the end; ONNX;
* ``trainer``: Hugging Face's ``Trainer`` with ``MobileNetV2ForImageClassification``; ONNX.

    python benchmarks/peers.py --data=FOLDER --weights=FILE --torch=PYTHON --results=FILE

FOLDER holds ``train`` and ``val``, the weights are ``MobileNetV2_1.0_224_notop.weights.h5``, which
the last three cannot load: they start from random weights, so accuracies are left out. PYTHON is an
interpreter with fastai, transformers, accelerate, torchvision, onnx and onnxscript. Every run is a
process of its own; the ways take turns. Every result is appended to ``--results``; the same command
resumes with the missing runs. At the end it prints a Markdown table.
"""

from __future__ import annotations

import argparse
import ast
import functools
import inspect
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SIZE, BATCH = 160, 32
Row = dict[str, Any]


def keras_hub(data: Path, epochs: int, out: Path) -> Iterator[None]:
    """Trains with KerasHub; yields at the end of the training."""
    import keras
    import keras_hub

    read = functools.partial(
        keras.utils.image_dataset_from_directory, image_size=(SIZE, SIZE), batch_size=BATCH
    )
    train, validation = read(data / "train"), read(data / "val")
    classes = len(train.class_names)
    backbone = keras_hub.models.MobileNetBackbone(**hub_shape(), image_shape=(SIZE, SIZE, 3))
    model = keras_hub.models.ImageClassifier(backbone, classes)
    backbone.trainable = False
    model.compile(keras.optimizers.Adam(1e-3), metrics=["accuracy"])
    model.fit(train, validation_data=validation, epochs=epochs, verbose=2)
    backbone.trainable = True
    for layer in backbone.layers[:-4]:
        layer.trainable = False
    model.compile(keras.optimizers.Adam(3e-4), metrics=["accuracy"])
    model.fit(train, validation_data=validation, epochs=epochs, verbose=2)
    yield
    model.export(out / "model.tflite", format="litert")


def fastai(data: Path, epochs: int, out: Path) -> Iterator[None]:
    """Trains with fastai; yields at the end of the training."""
    import torch
    from fastai.vision import all as vision

    loaders = vision.ImageDataLoaders.from_folder(
        data, train="train", valid="val", item_tfms=vision.Resize(SIZE), bs=BATCH
    )
    # `vision_learner` does not know where MobileNetV2 is cut, and ignores its argument `cut`.
    model = torch.nn.Sequential(
        vision.create_body(vision.models.mobilenet_v2(), cut=-1),
        vision.create_head(1280, loaders.c),
    )
    learner = vision.Learner(loaders, model, splitter=vision.default_split, metrics=vision.accuracy)
    learner.fine_tune(epochs, freeze_epochs=epochs)
    yield
    torch.onnx.export(learner.model.eval(), (torch.rand(1, 3, SIZE, SIZE),), out / "model.onnx")


def trainer(data: Path, epochs: int, out: Path) -> Iterator[None]:
    """Trains with Hugging Face's Trainer; yields at the end of the training."""
    import torch
    from torchvision.datasets import ImageFolder
    from torchvision.transforms.v2 import Compose, Resize, ToDtype, ToImage
    from transformers import (
        MobileNetV2Config,
        MobileNetV2ForImageClassification,
        Trainer,
        TrainingArguments,
    )

    prepared = Compose([ToImage(), Resize((SIZE, SIZE)), ToDtype(torch.float32, scale=True)])
    train, validation = (ImageFolder(data / part, prepared) for part in ("train", "val"))
    config = MobileNetV2Config(image_size=SIZE, num_labels=len(train.classes))
    model = MobileNetV2ForImageClassification(config)

    def collated(rows: Any) -> Any:
        pictures, labels = zip(*rows, strict=True)
        return {"pixel_values": torch.stack(pictures), "labels": torch.tensor(labels)}

    def fit(rate: float) -> None:
        arguments = TrainingArguments(
            out,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=BATCH,
            num_train_epochs=epochs,
            learning_rate=rate,
            eval_strategy="epoch",
            save_strategy="no",
            report_to="none",
            dataloader_num_workers=os.cpu_count() or 1,
        )
        Trainer(model, arguments, collated, train_dataset=train, eval_dataset=validation).train()

    model.mobilenet_v2.requires_grad_(False)
    fit(1e-3)
    model.mobilenet_v2.layer[-2:].requires_grad_(True)
    fit(3e-4)
    yield
    torch.onnx.export(model.eval(), (torch.rand(1, 3, SIZE, SIZE),), out / "model.onnx")


PEERS = {each.__name__: each for each in (keras_hub, fastai, trainer)}
WAYS = ("tlkeras", "keras", *PEERS)
OF_TORCH = ("fastai", "trainer")


def hub_shape() -> dict[str, Any]:
    """Returns the arguments by which KerasHub's backbone is MobileNetV2 1.0."""
    stages = [(24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1)]
    before = [16, *(filters for filters, _, _ in stages)]

    def each(value: Any) -> list[list[Any]]:
        return [[value] * count for _, count, _ in stages]

    return {
        "stackwise_expansion": [
            [6 * start] + [6 * filters] * (count - 1)
            for start, (filters, count, _) in zip(before[:-1], stages, strict=True)
        ],
        "stackwise_num_blocks": [count for _, count, _ in stages],
        "stackwise_num_filters": [[filters] * count for filters, count, _ in stages],
        "stackwise_num_strides": [[stride] + [1] * (count - 1) for _, count, stride in stages],
        "stackwise_kernel_size": each(3),
        "stackwise_se_ratio": each(None),
        "stackwise_activation": each("relu6"),
        "stackwise_padding": each(1),
        "input_num_filters": 32,
        "input_activation": "relu6",
        "output_activation": "relu6",
        "output_num_filters": 1280,
        "last_layer_filter": 1280,
        "depthwise_filters": 16,
        "depthwise_stride": 1,
        "depthwise_residual": False,
    }


def main() -> None:
    """Measures the missing runs, then shows all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--torch", help="a Python interpreter")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--epochs", type=int, default=5, help="of each phase")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        for _ in PEERS[options.peer](options.data, options.epochs, options.out):
            (options.out / "trained").touch()
        return

    text = options.results.read_text(encoding="utf-8") if options.results.exists() else ""
    rows: list[Row] = [json.loads(line) for line in text.splitlines()]
    for path in options.data.rglob("*.*"):
        path.read_bytes()  # Every run, also the first, finds the files in the disk's cache.
    for run in range(options.runs):
        for way in options.ways:
            case = {"data": options.data.name, "epochs": options.epochs, "way": way, "run": run}
            if any(case.items() <= row.items() for row in rows):
                continue
            rows.append(case | measured(way, options))
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            print(rows[-1], flush=True)
    show(rows)


def measured(way: str, options: argparse.Namespace) -> Row:
    """Returns the seconds to the model and to the file, the peak memory in MB, and the lines."""
    data, epochs = options.data, options.epochs
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        if way == "tlkeras":
            words = ["-m", "pipeline", *own(data, options.weights, epochs, out)]
            done = "model/*/_manifest.json"
        elif way == "keras":
            words = [str(HERE / "tutorial.py"), f"--data={data}", f"--weights={options.weights}"]
            words += [f"--epochs={epochs}", "--cache", f"--out={out}"]
            done = "trained"
        else:
            words = [__file__, f"--peer={way}", f"--data={data}", f"--epochs={epochs}"]
            words, done = [*words, f"--out={out}"], "trained"
        python = options.torch if way in OF_TORCH else sys.executable
        start = time.time()
        megabytes = peak([python, *words])
        seconds = time.time() - start
        (trained,) = out.glob(done)
        ready = trained.stat().st_mtime - start
    lines = 1 if way == "tlkeras" else lines_of(way)
    return {
        "seconds": round(seconds, 1),
        "model": round(ready, 1),
        "megabytes": megabytes,
        "lines": lines,
    }


def own(data: Path, weights: Path, epochs: int, out: Path) -> list[str]:
    """Returns the flags of tlkeras, with the phases of `speed.py`."""
    from speed import OURS, recipe

    backbone = f"mobilenet_v2(size={SIZE}, weights='{weights}')"
    flags = {"source": f"folder(path='{data}')", "backbone": backbone, "split": "split(test=0)"}
    flags |= {"recipe": recipe(epochs, OURS["ours"]), "exporters": "tflite"}
    flags |= {"root": out, "saved_models": out / "saved_models"}
    return [f"--{name}={value}" for name, value in flags.items()]


def peak(command: list[str]) -> int:
    """Runs a process to its end and returns its peak memory in MB.

    Raises:
        RuntimeError: It failed; with what it wrote.
    """
    environment: Mapping[str, str] = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        if process.returncode:
            raise RuntimeError(f"{command} ended with {process.returncode}: {output.read()}")
    return round(usage.ru_maxrss / 1024)


def lines_of(way: str) -> int:
    """Returns the number of lines of code that a way takes."""
    if way == "keras":
        tree: ast.AST = ast.parse((HERE / "tutorial.py").read_text(encoding="utf-8"))
    else:
        tree = ast.parse(inspect.getsource(PEERS[way]))
    (function,) = (
        each
        for each in ast.walk(tree)
        if isinstance(each, ast.FunctionDef) and each.name in ("main", way)
    )
    body = [each for each in function.body[1:] if not _is_ours(each)]
    return len({line for each in body for line in range(each.lineno, (each.end_lineno or 0) + 1)})


def _is_ours(statement: ast.stmt) -> bool:
    """Returns whether a statement is of the measurement, not of the job."""
    text = ast.unparse(statement)
    return text == "yield" or any(word in text for word in ("parser", "times", "json", "trained"))


def show(rows: list[Row]) -> None:
    """Prints the medians as a Markdown table."""
    print("\n| data | way | seconds to the model | to the file | times ours | MB | lines | runs |")
    print("|---|---|---|---|---|---|---|---|")
    for name in dict.fromkeys(row["data"] for row in rows):
        alike = {way: [x for x in rows if (x["data"], x["way"]) == (name, way)] for way in WAYS}
        alike = {way: runs for way, runs in alike.items() if runs}
        medians = {
            way: {
                key: statistics.median(run[key] for run in runs)
                for key in ("model", "seconds", "megabytes")
            }
            for way, runs in alike.items()
        }
        for way, found in medians.items():
            times = found["seconds"] / medians["tlkeras"]["seconds"] if "tlkeras" in medians else 0
            print(
                f"| {name} | {way} | {found['model']:.1f} | {found['seconds']:.1f} | "
                f"{times:.1f} | {found['megabytes']:,.0f} | {alike[way][0]['lines']} | "
                f"{len(alike[way])} |"
            )


if __name__ == "__main__":
    main()
