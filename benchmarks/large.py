"""Large networks: the memory and the seconds of a fit of a head beside the network's own pass.

Networks at their published sizes with random weights, so nothing here is a measure of quality; 64
made-up examples, batches of 32. Every run is a process of its own, and the ways take turns:

* ``import``: Python with TensorFlow and Keras imported, and no network;
* ``forward``: the network as Keras or KerasHub makes it runs over the examples in `predict`;
* ``fit``: `FineTune` with one phase of the head: the frozen pass, the kept features, five epochs.

    python benchmarks/large.py --results=FILE

`seconds` count from the start of the process to its end, without the writing of the examples; `mb`
is the peak of memory. Keras takes long over ConvNeXt's grouped convolutions: with ConvNeXt-Tiny the
way ``forward`` took 384 s, ``fit`` 29 s. Every result is appended to ``--results``; the same
command resumes with the missing runs. At the end it prints a Markdown table of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tlkeras.data.batches import Data

COUNT, BATCH = 64, 32
WAYS = ("import", "forward", "fit")
NETWORKS = {
    "convnext_base, 224 px": "convnext_base(weights=None)",
    "convnext_tiny, 224 px": "convnext_tiny(weights=None)",
    "efficientnet_v2_l, 480 px": "efficientnet_v2_l(weights=None)",
    "efficientnet_v2_s, 384 px": "efficientnet_v2_s(weights=None)",
    "distil_bert, 135 M": "distil_bert(weights=None, configuration='{folder}')",
}
"""The backbones by their name in the table."""

SIZES = {
    "vocabulary_size": 119_547,
    "num_layers": 6,
    "num_heads": 12,
    "hidden_dim": 768,
    "intermediate_dim": 3072,
}
"""The sizes of the multilingual DistilBERT."""

TEXTS = {
    "model_type": "distilbert",
    "vocab_size": SIZES["vocabulary_size"],
    "max_position_embeddings": 512,
    "dim": SIZES["hidden_dim"],
    "n_layers": SIZES["num_layers"],
    "n_heads": SIZES["num_heads"],
    "hidden_dim": SIZES["intermediate_dim"],
    "dropout": 0.1,
    "activation": "gelu",
}
"""The same as Hugging Face's libraries write it."""

Row = dict[str, Any]


def main() -> None:
    """Measures the missing runs, then shows all."""
    parser = argparse.ArgumentParser(description="Memory and seconds of large networks.")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        way, text, folder = options.one
        one(way, text, Path(folder))
        return

    text = options.results.read_text(encoding="utf-8") if options.results.exists() else ""
    rows: list[Row] = [json.loads(line) for line in text.splitlines()]
    cases = [
        {"network": network, "run": run, "way": way}
        for run in range(options.runs)
        for network in options.networks
        for way in WAYS
    ]
    for case in cases:
        if any(case.items() <= row.items() for row in rows):
            continue
        rows.append(case | measured(case["way"], NETWORKS[case["network"]]))
        with options.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(rows[-1], flush=True)
    show(rows)


def measured(way: str, network: str) -> Row:
    """Returns the seconds of one way in a process of its own, and its peak of memory in MB."""
    with tempfile.TemporaryDirectory() as folder:
        text = network.format(folder=folder)
        start_child("examples", text, folder)
        start = time.perf_counter()
        peak = start_child(way, text, folder)
        return {"seconds": time.perf_counter() - start, "mb": peak}


def start_child(way: str, network: str, folder: str) -> float:
    """Returns the peak of memory in MB of a process that runs one way."""
    process = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], "--one", way, network, folder],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        text=True,
    )
    if process.returncode:
        raise SystemExit(f"{way} of {network} ended with {process.returncode}.")
    return float(process.stdout.splitlines()[-1])


def one(way: str, network: str, folder: Path) -> None:
    """Runs one way in this process, and prints the peak of its memory in MB."""
    if way == "import":
        import keras  # noqa: F401
        import tensorflow  # noqa: F401
    elif way == "examples":
        examples(network, folder)
    elif way == "forward":
        forward(read(network, folder))
    else:
        fit(read(network, folder), folder)
    # Linux begins `ru_maxrss` with the memory of the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (kilobytes,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    print(int(kilobytes) / 1024)


def examples(network: str, folder: Path) -> None:
    """Writes drawn shapes or notes, all of them for training."""
    from tlkeras import spec
    from tlkeras.backbone import Backbone
    from tlkeras.data import ingest
    from tlkeras.data.splits import Split
    from tlkeras.sources.embedded import Embedded

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *map(chr, range(33, 127))]
    vocabulary += [f"##{letter}" for letter in vocabulary[4:]]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(TEXTS), encoding="utf-8")
    reads = spec.parse(network, Backbone).reads
    drawn = Embedded("shapes" if "image" in reads else "notes", count=COUNT, size=256)
    ingest.write_examples(drawn, Split(validation=0, test=0), folder / "examples")


def read(network: str, folder: Path) -> Data:
    """Returns the written examples."""
    from tlkeras import spec
    from tlkeras.backbone import Backbone
    from tlkeras.data.batches import Data
    from tlkeras.tasks.classification import Classification

    backbone = spec.parse(network, Backbone)
    return Data(folder / "examples", backbone, Classification(), BATCH)


def forward(data: Data) -> None:
    """Runs the network of the library that it is from, on the same batches."""
    from tlkeras.frameworks import keras, keras_hub, tf

    name, batches = type(data.backbone).__name__, data.batches("train")
    if "image" in data.backbone.reads:
        network = getattr(keras.applications, name)(include_top=False, weights=None, pooling="avg")
    else:
        network = getattr(keras_hub.models, f"{name}Backbone")(**SIZES)
        # The id of padding is 0.
        batches = batches.map(
            lambda ids, label: {"token_ids": ids, "padding_mask": tf.cast(ids != 0, tf.int32)}
        )
    network.predict(batches, verbose=0)


def fit(data: Data, folder: Path) -> None:
    """Fits a head."""
    from tlkeras.model.transfer_model import TransferModel
    from tlkeras.recipes.fine_tune import FineTune
    from tlkeras.training.phase import Phase

    model = TransferModel(data.backbone, data.task, data.classes)
    # Random weights of EfficientNetV2-L give activations that float16 cannot hold.
    FineTune((Phase(),), cache="float32").fit(model, data, folder / "fit")


def show(rows: list[Row]) -> None:
    """Prints the medians as a Markdown table."""
    print("\n| network | MB, TensorFlow alone | MB, forward | MB, fit | fit / forward ", end="")
    print("| s, forward | s, fit | fit / forward | runs |\n|" + "---|" * 9)
    for network in dict.fromkeys(row["network"] for row in rows):
        alike = [row for row in rows if row["network"] == network]
        mb, seconds = (
            {way: statistics.median(row[key] for row in alike if row["way"] == way) for way in WAYS}
            for key in ("mb", "seconds")
        )
        print(
            f"| {network} | {mb['import']:,.0f} | {mb['forward']:,.0f} | {mb['fit']:,.0f} | "
            f"{mb['fit'] / mb['forward']:.2f} | {seconds['forward']:.1f} | {seconds['fit']:.1f} | "
            f"{seconds['fit'] / seconds['forward']:.2f} | {len(alike) // len(WAYS)} |"
        )


if __name__ == "__main__":
    main()
