"""The whole job beside other libraries: seconds from data to a model and to a file for a phone.

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
interpreter with fastai, transformers, accelerate, torchvision, onnx and onnxscript.

With ``--texts=COUNT`` the job is so many training texts of SST-2 and its validation texts, with
all-MiniLM-L6-v2, cut at 128 pieces, its last two layers and pooler in place of the blocks:

* ``tlkeras``: one command, up to the pushed TFLite file;
* ``text_classifier``: KerasHub's ``TextClassifier`` on the same folder of weights; TFLite;
* ``text_trainer``: Hugging Face's ``Trainer`` on the same folder of weights; ONNX.

    python benchmarks/peers.py --texts=COUNT --data=SST2 --weights=MINILM --torch=PYTHON …

SST2 holds ``stsa.binary.train`` and ``stsa.binary.dev``, MINILM is the network's folder as Hugging
Face's libraries write it. All read the same two tables.

Every run is a process of its own; the ways take turns. Every result is appended to ``--results``;
the same command resumes with the missing runs. At the end it prints a Markdown table.
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
SIZE, LENGTH, BATCH = 160, 128, 32
Row = dict[str, Any]


def keras_hub(data: Path, weights: Path, epochs: int, out: Path) -> Iterator[None]:
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


def fastai(data: Path, weights: Path, epochs: int, out: Path) -> Iterator[None]:
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


def trainer(data: Path, weights: Path, epochs: int, out: Path) -> Iterator[None]:
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


def text_classifier(data: Path, weights: Path, epochs: int, out: Path) -> Iterator[None]:
    """Trains with KerasHub; yields at the end of the training."""
    import keras
    import keras_hub
    import numpy as np

    def read(part: str) -> tuple[Any, Any]:
        lines = (data / f"{part}.tsv").read_text(encoding="utf-8").splitlines()[1:]
        labels, texts = zip(*(line.split("\t") for line in lines), strict=True)
        return np.array(texts), np.array(labels, int)

    (texts, labels), validation = read("train"), read("dev")
    model = keras_hub.models.TextClassifier.from_preset(
        str(weights),
        num_classes=len(np.unique(labels)),
        preprocessor=keras_hub.models.TextClassifierPreprocessor.from_preset(
            str(weights), sequence_length=LENGTH
        ),
    )

    def fit(rate: float) -> None:
        model.compile(optimizer=keras.optimizers.Adam(rate), metrics=["accuracy"])
        options = {"batch_size": BATCH, "epochs": epochs, "verbose": 2}
        model.fit(texts, labels, validation_data=validation, **options)

    model.backbone.trainable = False
    fit(1e-3)
    for name in ("transformer_layer_4", "transformer_layer_5", "pooled_dense"):
        model.backbone.get_layer(name).trainable = True
    fit(1e-4)
    yield
    model.export(out / "model.tflite", format="litert")


def text_trainer(data: Path, weights: Path, epochs: int, out: Path) -> Iterator[None]:
    """Trains with Hugging Face's Trainer; yields at the end of the training."""
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    tokenizer = AutoTokenizer.from_pretrained(weights)

    def read(part: str) -> list[Row]:
        lines = (data / f"{part}.tsv").read_text(encoding="utf-8").splitlines()[1:]
        pairs = [line.split("\t") for line in lines]
        return [
            {"labels": int(label), **tokenizer(text, truncation=True, max_length=LENGTH)}
            for label, text in pairs
        ]

    train, validation = read("train"), read("dev")
    classes = len({row["labels"] for row in train})
    model = AutoModelForSequenceClassification.from_pretrained(weights, num_labels=classes)

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
        )
        Trainer(
            model,
            arguments,
            DataCollatorWithPadding(tokenizer),
            train_dataset=train,
            eval_dataset=validation,
        ).train()

    model.bert.requires_grad_(False)
    fit(1e-3)
    for part in (*model.bert.encoder.layer[-2:], model.bert.pooler):
        part.requires_grad_(True)
    fit(1e-4)
    yield
    ids = torch.ones((1, LENGTH), dtype=torch.int64)
    torch.onnx.export(model.eval(), (ids, ids), out / "model.onnx")


PEERS = {
    each.__name__: each for each in (keras_hub, fastai, trainer, text_classifier, text_trainer)
}
WAYS = {
    "pictures": ("tlkeras", "keras", "keras_hub", "fastai", "trainer"),
    "texts": ("tlkeras", "text_classifier", "text_trainer"),
}
OF_TORCH = ("fastai", "trainer", "text_trainer")


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
    parser.add_argument("--texts", type=int, default=0, help="0 is for pictures")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--torch", help="a Python interpreter")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--epochs", type=int, default=5, help="of each phase")
    parser.add_argument("--ways", nargs="+", choices=("tlkeras", "keras", *PEERS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        run = PEERS[options.peer]
        for _ in run(options.data, options.weights, options.epochs, options.out):
            (options.out / "trained").touch()
        return

    text = options.results.read_text(encoding="utf-8") if options.results.exists() else ""
    rows: list[Row] = [json.loads(line) for line in text.splitlines()]
    job, name = "pictures", options.data.name
    for path in options.data.rglob("*.*"):
        path.read_bytes()  # Every run, also the first, finds the files in the disk's cache.
    with tempfile.TemporaryDirectory() as tables:
        if options.texts:
            job, name = "texts", f"{name}, {options.texts:,} texts"
            options.data = written(options.data, options.texts, Path(tables))
        for run in range(options.runs):
            for way in options.ways or WAYS[job]:
                case = {"data": name, "epochs": options.epochs, "way": way, "run": run}
                if any(case.items() <= row.items() for row in rows):
                    continue
                rows.append(case | measured(way, job, options))
                with options.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
                print(rows[-1], flush=True)
    show(rows)


def written(data: Path, count: int, folder: Path) -> Path:
    """Writes tables of the first training texts and of all validation texts into a folder."""
    for part, most in (("train", count), ("dev", None)):
        lines = (data / f"stsa.binary.{part}").read_text(encoding="utf-8").splitlines()[:most]
        rows = ["label\ttext", *(line.replace(" ", "\t", 1) for line in lines)]
        (folder / f"{part}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def measured(way: str, job: str, options: argparse.Namespace) -> Row:
    """Returns the seconds to the model and to the file, the peak memory in MB, and the lines."""
    data, epochs = options.data, options.epochs
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        if way == "tlkeras":
            words = ["-m", "pipeline", *own(job, data, options.weights, epochs, out)]
            done = "model/*/_manifest.json"
        elif way == "keras":
            words = [str(HERE / "tutorial.py"), f"--data={data}", f"--weights={options.weights}"]
            words += [f"--epochs={epochs}", "--cache", f"--out={out}"]
            done = "trained"
        else:
            words = [__file__, f"--peer={way}", f"--data={data}", f"--epochs={epochs}"]
            words, done = [*words, f"--weights={options.weights}", f"--out={out}"], "trained"
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


def own(job: str, data: Path, weights: Path, epochs: int, out: Path) -> list[str]:
    """Returns the flags of tlkeras; the phases for pictures are those of `speed.py`."""
    from speed import OURS, recipe

    source, backbone, tuned = {
        "pictures": (
            f"folder(path='{data}')",
            f"mobilenet_v2(size={SIZE}, weights='{weights}')",
            OURS["ours"],
        ),
        "texts": (
            f"csv(path='{data}', quotes=False)",
            f"bert(weights='{weights}', length={LENGTH}, pooling='pooler')",
            {"learning_rate": 1e-4, "unfreeze": "transformer_layer_4"},
        ),
    }[job]
    flags = {"source": source, "backbone": backbone, "split": "split(test=0)"}
    flags |= {"recipe": recipe(epochs, tuned), "exporters": "tflite"}
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
    return text == "yield" or any(word in text for word in ("parser", "times", "json", "'trained'"))


def show(rows: list[Row]) -> None:
    """Prints the medians as a Markdown table."""
    print("\n| data | way | seconds to the model | to the file | times ours | MB | lines | runs |")
    print("|---|---|---|---|---|---|---|---|")
    for name in dict.fromkeys(row["data"] for row in rows):
        ways = dict.fromkeys(row["way"] for row in rows if row["data"] == name)
        alike = {way: [x for x in rows if (x["data"], x["way"]) == (name, way)] for way in ways}
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
