"""The time of a step with one and with two workers, and the bytes of their exchange.

Each worker is a process with its own core. Both are on this machine, so the exchange is over
loopback, without a network. MobileNetV2 at 160 pixels with random weights, a batch of 32 over all
workers, random data in memory.
"""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import time
from typing import Any

import numpy as np

from tlkeras import hardware
from tlkeras.backbones.applications import MobileNetV2
from tlkeras.frameworks import keras, tf
from tlkeras.model.transfer_model import HEAD, TransferModel
from tlkeras.tasks.classification import Classification
from tlkeras.training.trainable import trainable

BATCH, STEPS, WARM = 32, 40, 15
PHASES = {
    "head, on cached features": (HEAD, ()),
    "from block_13 on, on cached features": ("block_13", "block_13"),
    "everything": ("stem", "all"),
}


def main() -> None:
    """Prints a table; each cell is the median over the steps of one run."""
    measured = {count: _run(count) for count in (1, 2)}
    print("| trained | trainable weights | bytes a step | 1 worker, ms | 2 workers, ms | faster |")
    print("|---|---|---|---|---|---|")
    for name in PHASES:
        one, two = measured[1][name], measured[2][name]
        print(
            f"| {name} | {one['weights']:,} | {4 * one['weights']:,} | {one['ms']:.1f} | "
            f"{two['ms']:.1f} | {one['ms'] / two['ms']:.2f} |"
        )
    print(f"\nDecoding and resizing: {measured[1]['pictures']:.0f} pictures a second on one core.")


def _run(count: int) -> dict[str, Any]:
    """Returns the figures of the first of `count` workers."""
    servers = [socket.create_server(("localhost", 0)) for _ in range(count)]
    cluster = {"worker": [f"localhost:{each.getsockname()[1]}" for each in servers]}
    for each in servers:
        each.close()
    processes = []
    for i in range(count):
        config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})
        environment = {**os.environ, "TF_CONFIG": config if count > 1 else "", "CORE": str(i)}
        arguments = [sys.executable, __file__, "worker"]
        processes.append(subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE))
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit("A worker has failed.")
    return json.loads(outputs[0].splitlines()[-1])


def _worker() -> None:
    os.sched_setaffinity(0, {int(os.environ["CORE"])})
    tf.config.threading.set_intra_op_parallelism_threads(1)
    with hardware.used("auto"):
        figures: dict[str, Any] = {name: _phase(*phase) for name, phase in PHASES.items()}
        figures["pictures"] = _pictures()
    print(json.dumps(figures))


def _phase(start: str, unfreeze: Any) -> dict[str, float]:
    """Returns the trainable weights and the median milliseconds of a step."""
    task = Classification()
    backbone = MobileNetV2(size=160, weights=None)
    model = TransferModel(backbone, task, [str(i) for i in range(10)])
    model.train_only(model.chosen(unfreeze))
    network = model.full if start == "stem" else model.split_at(start)[1]
    trained = trainable(network)
    with hardware.scope():
        trained.compile(
            optimizer=keras.optimizers.SGD(1e-3),
            loss=task.loss(),
            metrics=task.metrics(model.classes),
        )
    random = np.random.default_rng(0)
    rows = BATCH // hardware.part()[1]
    shapes = [tuple(tensor.shape[1:]) for tensor in network.inputs]
    inputs = [random.uniform(0, 1, (rows, *shape)).astype("float32") for shape in shapes]
    batch = (inputs[0] if len(inputs) == 1 else tuple(inputs), np.eye(10, dtype="float32")[:1])
    batch = (batch[0], np.repeat(batch[1], rows, axis=0))
    data = tf.data.Dataset.from_tensors(batch).repeat(STEPS)
    ends: list[float] = []
    clock = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda step, logs: ends.append(time.perf_counter())
    )
    trained.fit(data, shuffle=False, verbose=0, callbacks=[clock])
    weights = sum(math.prod(each.shape) for each in trained.trainable_variables)
    return {"weights": weights, "ms": 1e3 * float(np.median(np.diff(ends)[WARM:]))}


def _pictures() -> float:
    """Returns the JPEG pictures [375, 500, 3] per second through decoding and resizing."""
    noise = tf.random.stateless_uniform([24, 32, 3], [0, 0], 0, 255)
    pixels = tf.cast(tf.image.resize(noise, [375, 500]), tf.uint8)
    encoded = tf.io.encode_jpeg(pixels, quality=90)
    backbone = MobileNetV2(size=224, weights=None)
    data = tf.data.Dataset.from_tensors(encoded).repeat(300)
    data = data.map(lambda text: backbone.preprocess({"image": tf.io.decode_jpeg(text, 3)}))
    began = time.perf_counter()
    count = sum(1 for _ in data)
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    _worker() if sys.argv[1:] else main()
