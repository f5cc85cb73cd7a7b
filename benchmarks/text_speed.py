"""Texts against the libraries that people take for them: seconds, agreement and memory.

Two jobs with all-MiniLM-L6-v2 on the training texts of SST-2, each done by tlkeras and by a peer on
PyTorch. Every run is a process of its own, on the processor:

* ``features``: the mean of the tokens of every text. The peer is ``sentence-transformers``, which
  sorts texts by length itself. Timed from texts to rows: cutting into pieces, the network and, for
  tlkeras, the trace and the cache on disk; not the import and the reading of weights;
* ``tune``: the last two layers and a head are trained, batches of 32. The peer is ``transformers``
  with its Trainer, padding to the longest of a batch; all other layers are frozen there, too. Timed
  is an epoch, the median of all but the first, and beside it all that comes before.

    python benchmarks/text_speed.py --data=SST2 --minilm=FOLDER --peer=PYTHON --results=FILE

SST2 holds ``stsa.binary.train``; FOLDER is the network as Hugging Face's libraries write it; PYTHON
is an interpreter with ``sentence-transformers``, ``accelerate`` and ``torch``. The ways take turns,
run by run. Every result is appended to ``--results``; the same command resumes with the missing
runs. Prints a line of a table for each job: medians of tlkeras and of the peer,
how many times as fast, run by run, and the peaks of memory in MB.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

LENGTH, BATCH, EPOCHS, TUNED = 128, 32, 4, 2
WAYS = ("tlkeras", "peer")
JOBS = ("features", "tune")
_SHOWN = ("seconds", "megabytes")
Row = dict[str, Any]


def main() -> None:
    """Measures the missing runs, then shows all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minilm", type=Path, required=True)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=3, help="with seeds 0, 1, …")
    parser.add_argument("--texts", type=int, default=0, help="0 is all")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=JOBS)
    options = parser.parse_args()
    rows = read(options.results)
    python = {"tlkeras": sys.executable, "peer": options.peer}
    for seed in range(options.runs):
        for job in options.jobs:
            with tempfile.TemporaryDirectory() as folder:
                for way in WAYS:
                    case = {"job": job, "texts": options.texts, "way": way, "seed": seed}
                    if any(case.items() <= row.items() for row in rows):
                        continue
                    rows.append(case | child(python[way], case, options, Path(folder)))
                    with options.results.open("a", encoding="utf-8") as file:
                        print(json.dumps(rows[-1]), file=file)
                    print(rows[-1], flush=True)
    for job in options.jobs:
        show(job, [row for row in rows if (row["job"], row["texts"]) == (job, options.texts)])


def read(results: Path) -> list[Row]:
    """Returns the rows of a file of JSON lines, none if there is no file."""
    text = results.read_text(encoding="utf-8") if results.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


def child(python: str, case: Row, options: argparse.Namespace, folder: Path) -> Row:
    """Returns what a run of one way says, and how far its rows are from those of the first."""
    words = [case["way"], case["job"], options.data, options.minilm, folder, case["seed"]]
    run = subprocess.run(
        [python, Path(__file__), "--child", *map(str, [*words, options.texts])],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise RuntimeError(f"{case}: {run.stderr}")
    found = json.loads(run.stdout.splitlines()[-1])
    files = [folder / f"{way}.npy" for way in WAYS]
    if all(file.exists() for file in files):
        one, other = (np.load(file).astype(np.float64) for file in files)
        norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        found["least_cosine"] = float(((one * other).sum(axis=1) / norms).min())
    return found


def show(job: str, rows: Sequence[Row]) -> None:
    """Prints a line of medians, and the ratio of the runs side by side."""
    of = {way: {row["seed"]: row for row in rows if row["way"] == way} for way in WAYS}
    own, peer = (
        {key: statistics.median(row[key] for row in of[way].values()) for key in _SHOWN}
        for way in WAYS
    )
    ratios = [of["peer"][seed]["seconds"] / of["tlkeras"][seed]["seconds"] for seed in of["peer"]]
    shown = ", ".join(f"{ratio:.2f}" for ratio in sorted(ratios))
    print(
        f"| {job} | {own['seconds']:.1f} | {peer['seconds']:.1f} | {shown} | "
        f"{own['megabytes']:,.0f} / {peer['megabytes']:,.0f} |"
    )


def texts_of(data: Path, most: int) -> tuple[list[str], list[int]]:
    """Returns the training sentences of SST-2 and their labels, the first `most` (0 is all)."""
    lines = (data / "stsa.binary.train").read_text(encoding="utf-8").splitlines()
    pairs = [line.split(" ", 1) for line in lines if line][: most or None]
    return [text for _, text in pairs], [int(label) for label, _ in pairs]


def tlkeras_data(data: Path, minilm: Path, folder: Path, seed: int, most: int) -> Any:
    """Returns the data and a model of `Bert` for classification."""
    from tlkeras.backbones.hub_text import Bert
    from tlkeras.data import ingest
    from tlkeras.data.batches import Data
    from tlkeras.data.splits import Split
    from tlkeras.model.transfer_model import TransferModel
    from tlkeras.sources.csv import CSV
    from tlkeras.tasks.classification import Classification

    texts, labels = texts_of(data, most)
    table = folder / "texts.tsv"
    rows = (f"{label}\t{text}\ttrain\n" for text, label in zip(texts, labels, strict=True))
    table.write_text("".join(rows), encoding="utf-8")
    source = CSV(
        table, columns=("label", "text", "part"), label="label", split_column="part", quotes=False
    )
    ingest.write_examples(source, Split(validation=0, test=0), folder / "examples")
    backbone, task = Bert(weights=str(minilm), length=LENGTH), Classification()
    made = Data(folder / "examples", backbone, task, batch_size=BATCH, seed=seed)
    return made, TransferModel(backbone, task, made.classes, seed=seed)


def tlkeras_features(data: Path, minilm: Path, folder: Path, seed: int, most: int) -> Row:
    """Writes the pooled features in the order of the texts and returns the seconds."""
    from tlkeras.data import records
    from tlkeras.model.transfer_model import HEAD
    from tlkeras.training import features
    from tlkeras.training.features import Cache, Tap

    made, model = tlkeras_data(data, minilm, folder, seed, most)
    start = time.perf_counter()
    tap = Tap("train", HEAD)
    found = features.at(model, made, [tap], Cache(folder / "cache"), "float32")[tap]
    seconds = time.perf_counter() - start
    order = np.arange(made.count("train"))
    (rows,) = found.rows.read(order)
    recorded = records.Records(made.folder, "train").read(order)
    known = [records.values(record, made.info.features)[1]["text"] for record in recorded]
    row_of = dict(zip(known, rows, strict=True))
    np.save(folder / "tlkeras.npy", np.stack([row_of[text] for text in texts_of(data, most)[0]]))
    return {"seconds": seconds}


def tlkeras_tune(data: Path, minilm: Path, folder: Path, seed: int, most: int) -> Row:
    """Returns the seconds of an epoch of the last layers, and of all before the second one."""
    from tlkeras.frameworks import keras
    from tlkeras.recipes.fine_tune import FineTune
    from tlkeras.training.schedule import Phase

    made, model = tlkeras_data(data, minilm, folder, seed, most)
    ends: list[float] = []
    noted = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: ends.append(time.perf_counter())
    )
    last = [block for block in model.blocks if "transformer" in block][-TUNED:]
    phase = Phase(
        epochs=EPOCHS, learning_rate=1e-4, optimizer="adamw", weight_decay=0.01, unfreeze=last[0]
    )
    start = time.perf_counter()
    FineTune((phase,)).fit(model, made, folder / "fit", callbacks=[noted])
    return {"seconds": float(np.median(np.diff(ends))), "before": ends[0] - start}


def peer_features(data: Path, minilm: Path, folder: Path, seed: int, most: int) -> Row:
    """Writes the embeddings and returns the seconds."""
    import torch
    from sentence_transformers import SentenceTransformer  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(os.cpu_count() or 1)
    model = SentenceTransformer(str(minilm), device="cpu")
    model.max_seq_length = LENGTH
    texts, _ = texts_of(data, most)
    start = time.perf_counter()
    rows = model.encode(texts, batch_size=BATCH, show_progress_bar=False)
    seconds = time.perf_counter() - start
    np.save(folder / "peer.npy", rows)
    return {"seconds": seconds}


def peer_tune(data: Path, minilm: Path, folder: Path, seed: int, most: int) -> Row:
    """Returns the seconds of an epoch of the last layers, and of all before the second one."""
    import torch
    import transformers as t  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(os.cpu_count() or 1)
    t.set_seed(seed)
    texts, labels = texts_of(data, most)
    tokenizer = t.AutoTokenizer.from_pretrained(str(minilm))
    model = t.AutoModelForSequenceClassification.from_pretrained(str(minilm), num_labels=2)
    for name, weight in model.bert.named_parameters():
        tuned = [f"encoder.layer.{model.config.num_hidden_layers - 1 - i}." for i in range(TUNED)]
        weight.requires_grad = any(part in name for part in [*tuned, "pooler"])
    ends: list[float] = []

    class Noted(t.TrainerCallback):
        def on_epoch_end(self, *args: Any, **options: Any) -> None:
            ends.append(time.perf_counter())

    start = time.perf_counter()
    cut = tokenizer(texts, truncation=True, max_length=LENGTH)
    rows = [
        {"input_ids": ids, "attention_mask": mask, "labels": label}
        for ids, mask, label in zip(cut["input_ids"], cut["attention_mask"], labels, strict=True)
    ]
    arguments = t.TrainingArguments(
        output_dir=str(folder / "peer"),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=BATCH,
        learning_rate=1e-4,
        weight_decay=0.01,
        lr_scheduler_type="constant",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        use_cpu=True,
        seed=seed,
        disable_tqdm=True,
    )
    trainer = t.Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=t.DataCollatorWithPadding(tokenizer),
        callbacks=[Noted()],
    )
    trainer.train()
    return {"seconds": float(np.median(np.diff(ends))), "before": ends[0] - start}


def run_child(
    way: str, job: str, data: str, minilm: str, folder: str, seed: str, most: str
) -> None:
    """Runs one job and prints its figures as the last line."""
    work = {
        ("tlkeras", "features"): tlkeras_features,
        ("tlkeras", "tune"): tlkeras_tune,
        ("peer", "features"): peer_features,
        ("peer", "tune"): peer_tune,
    }[way, job]
    row = work(Path(data), Path(minilm), Path(folder), int(seed), int(most))
    row["megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({name: round(value, 3) for name, value in row.items()}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        run_child(*sys.argv[2:])
    else:
        main()
