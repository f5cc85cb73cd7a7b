"""A graphics card: pictures a second of tlkeras and of plain Keras, and how long steps wait.

Made-up pictures, networks with random weights, whose speed is that of trained ones. One process for
each network, precision and side; the sides take turns. The ways:

* ``frozen``: the pass over the network, from records to kept features. Keras: `predict`;
* ``half``: an epoch of the last half of the blocks, on features kept at the cut; their pass is not
  in it. Keras: `fit` with the same layers trainable, from pictures;
* ``full``: an epoch of all layers, from pictures. Keras: `fit`.

Both sides read the same records in batches of 64, Keras by `tf.data` with its own tuning, and have
batch norms in inference mode. Keras compiles with XLA on a card, as it does by itself; tlkeras does
not. A figure is the median of epochs in so many ``--seconds``, at least one, behind one that is
left out: it traces, compiles and fills buffers. The wait is the share of that epoch which one of as
many steps saves with one batch in memory, repeated: the time of reads, decoding and shuffles
that steps do not hide. The copy to the card stays in both.

    python benchmarks/gpu.py --results=FILE

Without a card ``--device=cpu`` measures the processor, to see the program run. Every result is
appended to ``--results`` with the card's name; the same command resumes with the missing runs. At
the end it prints a Markdown table of medians.
"""

from __future__ import annotations

import argparse
import functools
import io
import itertools
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.backbones import applications
from tlkeras.data import ingest
from tlkeras.data.batches import Data
from tlkeras.data.splits import Split
from tlkeras.frameworks import keras, tf
from tlkeras.model.transfer_model import HEAD, TransferModel, computing_in
from tlkeras.sources.folder import Folder
from tlkeras.tasks.classification import Classification
from tlkeras.training import feature_store, features, frozen
from tlkeras.training.features import Cache, Tap
from tlkeras.training.phase import Phase
from tlkeras.training.trainable import trainable

BATCH, CLASSES = 64, 10
HALF = 0.5
ON_FEATURES = 8
"""Steps in one call on kept features, as in a schedule."""

PRECISIONS = ("float32", "mixed_bfloat16")
WAYS = ("frozen", "half", "full")
Row = dict[str, Any]


def main() -> None:
    """Measures the missing runs, then shows all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--networks", nargs="+", default=["mobilenet_v2", "resnet50v2"])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--pictures", type=int, default=4096, help=f"a multiple of {BATCH}")
    parser.add_argument("--size", type=int, default=224, help="of pictures and inputs")
    parser.add_argument("--seconds", type=float, default=4, help="of each figure")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--examples", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    name = chosen(options.device)
    if options.one:
        case = json.loads(options.one)
        with computing_in(case["precision"]):
            found = SIDES[case["side"]](case, options.examples, options.seconds)
        print(json.dumps(found))
        return
    if options.pictures < BATCH or options.pictures % BATCH:
        parser.error(f"--pictures={options.pictures}, expected a multiple of {BATCH}.")

    text = options.results.read_text(encoding="utf-8") if options.results.exists() else ""
    rows: list[Row] = [json.loads(line) for line in text.splitlines()]
    told = {"card": name, "pictures": options.pictures, "size": options.size}
    order = itertools.product(range(options.runs), options.networks, options.precisions, SIDES)
    cases = [
        told | {"network": network, "precision": precision, "side": side, "run": run}
        for run, network, precision, side in order
    ]
    missing = [case for case in cases if not any(case.items() <= row.items() for row in rows)]
    with tempfile.TemporaryDirectory() as folder:
        if missing:
            draw(Path(folder), options.pictures, options.size)
        for case in missing:
            command = [sys.executable, __file__, f"--results={options.results}"]
            command += [f"--device={options.device}", f"--seconds={options.seconds}"]
            command += [f"--examples={folder}/examples", f"--one={json.dumps(case)}"]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            rows.append(case | json.loads(output.splitlines()[-1]))
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            print(rows[-1], flush=True)
    show(rows)


def chosen(device: str) -> str:
    """Makes TensorFlow see only the first card, or the processor; returns its name."""
    cards = tf.config.list_physical_devices("GPU")
    if device == "gpu" and not cards:
        raise SystemExit(
            "TensorFlow sees no GPU; --device=cpu measures the processor in place of one."
        )
    used = cards[:1] if device == "gpu" else []
    tf.config.set_visible_devices(used, "GPU")
    if used:
        return tf.config.experimental.get_device_details(used[0])["device_name"]
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{next(iter(names), platform.machine())}, {os.cpu_count()} cores"


def draw(folder: Path, count: int, size: int) -> None:
    """Writes made-up JPEGs of some classes, and their records in ``examples``."""
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (size // 4, size // 4, 3), np.uint8))
        path = folder / f"pictures/{number % CLASSES}/{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((size, size)).save(path, quality=90)
    said = io.StringIO()
    split = Split(validation=0, test=0)
    ingest.write_examples(
        Folder(folder / "pictures"), split, folder / "examples", functools.partial(print, file=said)
    )


def of_tlkeras(case: Row, examples: Path, seconds: float) -> Row:
    """Returns the figures of tlkeras for every way."""
    backbone, task = backbone_of(case), Classification()
    data = Data(examples, backbone, task, batch_size=BATCH)
    data.targets  # noqa: B018 - It caches them; a batch of features needs them in a graph.
    model = TransferModel(backbone, task, data.classes)
    cut = model.chosen(HALF)[0]
    prefix, suffix = model.split_at(cut)
    tap = Tap("train", cut)
    with tempfile.TemporaryDirectory() as folder:
        found = {"frozen": kept(model, data, Path(folder), seconds)}
        cache = Cache(Path(folder) / "cut")
        rows = features.at(model, data, [tap], cache, "float16")[tap]
        model.train_only(model.chosen(HALF))
        half = trainable(suffix, lambda inputs: features.entrance(prefix, inputs, "float16"))

        def feed(epoch: int) -> Any:
            return rows.batches(data.order("train", epoch))

        found["half"] = fitted(half, task, feed, data, seconds, ON_FEATURES)
    model.train_only(model.chosen("all"))
    shuffled = functools.partial(data.shuffled, "train")
    found["full"] = fitted(trainable(model.full), task, shuffled, data, seconds, 1)
    return found


def kept(model: TransferModel, data: Data, folder: Path, seconds: float) -> Row:
    """Returns the figures of the frozen pass."""
    tap, count = Tap("train", HEAD), data.count("train")
    network = frozen.forward(model, {HEAD: model.body}, False, (HEAD,))
    numbers = itertools.count()

    def writer() -> Any:
        return feature_store.Writer(folder / f"{next(numbers)}", 0, count)

    def whole() -> None:
        frozen.run(data, lambda blocks: network, {tap: writer()}, "float16", {}, None)

    inputs = next(iter(data.batches("train")))[0]

    def repeated() -> None:
        rows = writer()
        for first in range(0, count, BATCH):
            columns = [np.asarray(each) for each in keras.tree.flatten(network(inputs)[HEAD])]
            rows.add(first, [frozen.narrowed(each, "float16") for each in columns])

    return figures(count, timed(whole, seconds), timed(repeated, seconds))


def fitted(
    model: Any, task: Any, feed: Callable[[int], Any], data: Data, seconds: float, at_once: int
) -> Row:
    """Returns the figures of epochs, each a `fit` as in the loop of tlkeras."""
    model.compile(
        optimizer=Phase(epochs=1, learning_rate=1e-5).compiled_optimizer(1),
        loss=task.loss(),
        metrics=task.metrics(data.classes),
        steps_per_execution=at_once,
    )
    epochs = itertools.count()

    def fit(batches: Any) -> None:
        model.fit(batches, shuffle=False, verbose=0)

    whole = timed(lambda: fit(feed(next(epochs))), seconds)
    held = one_batch(feed(0), data.steps("train"))
    return figures(data.count("train"), whole, timed(lambda: fit(held), seconds))


def of_keras(case: Row, examples: Path, seconds: float) -> Row:
    """Returns the figures of plain Keras for every way."""
    size, count, steps = case["size"], case["pictures"], case["pictures"] // BATCH
    model = plain(case)
    files = [str(path) for path in sorted(examples.glob("train-*.tfrecord"))]
    keys = {"image": tf.io.FixedLenFeature([], tf.string)}
    keys |= {"label": tf.io.FixedLenFeature([], tf.int64)}

    def decoded(record: Any) -> tuple[Any, Any]:
        parsed = tf.io.parse_single_example(record, keys)
        picture = tf.io.decode_jpeg(parsed["image"], channels=3)
        return tf.image.resize(picture, [size, size]), parsed["label"]

    def batches(records: Any) -> Any:
        pictures = records.map(decoded, num_parallel_calls=tf.data.AUTOTUNE)
        return pictures.batch(BATCH).prefetch(tf.data.AUTOTUNE)

    known = tf.data.experimental.assert_cardinality(count)
    records = tf.data.TFRecordDataset(files).apply(known)
    body = keras.Model(model.input, model.get_layer("pooled").output)
    ordered, shuffled = batches(records), batches(records.shuffle(count))
    whole = timed(lambda: body.predict(ordered, verbose=0), seconds)
    held = one_batch(ordered, steps)
    waited = timed(lambda: body.predict(held, verbose=0), seconds)
    found = {"frozen": figures(count, whole, waited)}

    blocks = backbone_of(case).blocks(model)
    for way, share in (("half", HALF), ("full", 1)):
        tuned = [*blocks.values()][len(blocks) - math.ceil(share * len(blocks)) :]
        for layer in model.layers:
            is_norm = isinstance(layer, keras.layers.BatchNormalization)
            layer.trainable = not is_norm and any(layer in block for block in tuned)
        model.compile(
            keras.optimizers.Adam(1e-5),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        whole = of_fit(model, shuffled, seconds)
        found[way] = figures(count, whole, of_fit(model, one_batch(shuffled, steps), seconds))
    return found


def plain(case: Row) -> Any:
    """Returns the same network as its users build it, with a layer of classes on it."""
    constructors = {row[1]: row[0] for row in applications.TABLE}
    constructor = getattr(keras.applications, constructors[case["network"]])
    backbone = backbone_of(case)
    shape = (case["size"], case["size"], 3)
    inputs = keras.Input(shape)
    network = constructor(
        input_tensor=backbone.family.scale(inputs),
        input_shape=shape,
        include_top=False,
        weights=None,
    )
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(network.output)
    x = keras.layers.Dropout(0.2)(x)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, dtype="float32")(x))


def backbone_of(case: Row) -> Any:
    """Returns the spec of a network with random weights."""
    return spec.parse(f"{case['network']}(size={case['size']}, weights=None)", Backbone)


SIDES: Mapping[str, Callable[[Row, Path, float], Row]] = {"tlkeras": of_tlkeras, "keras": of_keras}


def one_batch(batches: Any, steps: int) -> Any:
    """Returns the first batch so many times; it stays in memory."""
    batch = next(iter(batches))
    return tf.data.Dataset.from_tensors(batch).repeat(steps).prefetch(2)


def timed(run: Callable[[], Any], seconds: float) -> float:
    """Returns the median seconds of the calls after the first."""
    run()
    took: list[float] = []
    while not took or sum(took) < seconds:
        start = time.perf_counter()
        run()
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def of_fit(model: Any, batches: Any, seconds: float) -> float:
    """Returns the median seconds of the epochs of one `fit` after the first."""
    ends: list[float] = []

    def note(epoch: int, logs: Any) -> None:
        ends.append(time.perf_counter())
        model.stop_training = len(ends) > 1 and ends[-1] - ends[0] >= seconds

    noted = keras.callbacks.LambdaCallback(on_epoch_end=note)
    model.fit(batches, epochs=sys.maxsize, shuffle=False, verbose=0, callbacks=[noted])
    return float(np.median(np.diff(ends)))


def figures(count: int, whole: float, repeated: float) -> Row:
    """Returns examples a second and the share of the wait for input."""
    return {"rate": round(count / whole, 1), "wait": round(max(0, 1 - repeated / whole), 3)}


def show(rows: list[Row]) -> None:
    """Prints the medians as a Markdown table; waits are those of tlkeras and of Keras."""
    print("\n| card | network, pixels | precision | way | tlkeras | Keras | times | waits | runs |")
    print("|---|---|---|---|---|---|---|---|---|")
    keys = ("card", "network", "size", "precision")
    for group in dict.fromkeys(tuple(row[key] for key in keys) for row in rows):
        alike = [row for row in rows if tuple(row[key] for key in keys) == group]
        by = {side: [row for row in alike if row["side"] == side] for side in SIDES}
        if not all(by.values()):
            continue  # The other side is yet to come.
        card, network, size, precision = group
        for way in WAYS:
            (own, waits), (theirs, idle) = (
                [statistics.median(row[way][key] for row in by[side]) for key in ("rate", "wait")]
                for side in SIDES
            )
            print(
                f"| {card} | {network}, {size} | {precision} | {way} | {own:,.0f} | {theirs:,.0f} "
                f"| {own / theirs:.2f} | {waits:.0%}, {idle:.0%} | {len(by['tlkeras'])} |"
            )


if __name__ == "__main__":
    main()
