"""Trains the starter weights from random initialisation, by distillation from published weights.

The student is a MobileNetV2 of width 0.35; the teacher is the same network with published ImageNet
weights. The student learns the features at the end of every block, not only the last ones (Romero
et al. 2015, https://arxiv.org/abs/1412.6550), so that few pictures suffice. Three resumable stages:

1. ``pictures``: decodes and resizes every picture once, to disk.
2. ``blocks``: trains every block of the student alone, from the teacher's features before it to
   those after it (Li et al. 2020, https://arxiv.org/abs/1911.13053).
3. ``whole``: trains the student from pixels to all of the teacher's features.

Student and teacher see the same fresh views at every step (Beyer et al. 2022,
https://arxiv.org/abs/2106.05237). A checkpoint is saved every 250 steps.

    python tools/pretrain_starter.py --data=IMAGES --teacher=W.weights.h5 --work=DIR --out=DIR

IMAGES holds ``caltech101_112`` and ``imagenet_1000_samples``; drawn shapes are added. The weights,
float16, and ``starter.json`` with data, seed, recipe and result go to ``--out``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tqdm

from tlkeras.model.graph import segment

SIDE = 160  # Pixels of a picture on disk; the held-out sets have photos of up to 320.
HELD_OUT = 256  # Pictures for validation.
EVERY = 250  # Steps between checkpoints.


def main() -> None:
    """Runs the stages."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--drawn", type=int, default=1500)
    parser.add_argument("--block_steps", type=int, default=2500)
    parser.add_argument("--whole_steps", type=int, default=1000)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    pictures = {name: resized(options, name) for name in sources(options)}
    keras.utils.set_random_seed(options.seed)
    student, teacher = network(), network()
    teacher.load_weights(options.teacher)
    for layer in student.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.99  # At Keras's 0.999, statistics lag by a quarter of a stage.
    feed = Feed(pictures, options)
    for stage in (Blocks(student, teacher), Whole(student, teacher)):
        fit(stage, feed, options)
    write(student, options, {name: len(array) for name, array in pictures.items()})


def sources(options: argparse.Namespace) -> dict[str, Callable[[], Iterable[bytes]]]:
    """Returns the functions that yield the encoded pictures of every data set, by name."""

    def folder(name: str) -> Callable[[], Iterator[bytes]]:
        paths = sorted((options.data / name).rglob("*.[jJ]*"))
        return lambda: (path.read_bytes() for path in paths)

    def drawn() -> Iterator[bytes]:
        from tlkeras.sources.embedded import Embedded

        for _, example in Embedded(data="shapes", count=options.drawn).examples():
            yield example["image"]

    folders = ("caltech101_112", "imagenet_1000_samples")
    return {**{name: folder(name) for name in folders}, "drawn": drawn}


def resized(options: argparse.Namespace, name: str) -> np.ndarray:
    """Returns the pictures of a data set, uint8 [n, SIDE, SIDE, 3]; the first call writes them."""
    path = options.work / f"{name}.npy"
    if not path.exists():
        arrays = []
        for encoded in tqdm.tqdm(sources(options)[name](), desc=name, mininterval=30):
            image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
            image = tf.image.resize(image, [SIDE, SIDE], antialias=True)
            arrays.append(np.clip(np.rint(image.numpy()), 0, 255).astype(np.uint8))
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.save(file, np.stack(arrays))
        partial.replace(path)
    return np.load(path, mmap_mode="r")


def network() -> keras.Model:
    """Returns student or teacher with random weights: maps pixels in [-1, 1] to a feature map."""
    none: Any = None  # Keras annotates it as a text only.
    return keras.applications.MobileNetV2(
        weights=none, include_top=False, alpha=0.35, input_shape=(None, None, 3)
    )


class Feed:
    """Batches of pictures, each a function of the seed, the stage and the step."""

    def __init__(self, pictures: dict[str, np.ndarray], options: argparse.Namespace) -> None:
        """Samples the few and diverse photos of ImageNet four times as often as others."""
        self.parts, self.options = list(pictures.values()), options
        places = [[(part, i) for i in range(len(a))] for part, a in enumerate(self.parts)]
        every = np.random.default_rng(options.seed).permutation(np.concatenate(places))
        self.held_out, self.places = every[:HELD_OUT], every[HELD_OUT:]
        often = np.array([4.0 if n == "imagenet_1000_samples" else 1.0 for n in pictures])
        weights = often[self.places[:, 0]]
        self.chances = np.cumsum(weights / weights.sum())

    def batch(self, stage: str, step: int) -> np.ndarray:
        """Returns pictures, uint8 [batch_size, SIDE, SIDE, 3]."""
        random = np.random.default_rng((self.options.seed, len(stage), step))
        drawn = np.searchsorted(self.chances, random.random(self.options.batch_size))
        return self.read(self.places[np.minimum(drawn, len(self.places) - 1)])

    def read(self, places: np.ndarray) -> np.ndarray:
        """Returns the pictures of rows ``(data set, place)``."""
        return np.stack([self.parts[part][place] for part, place in places])


def views(pictures: Any, size: int, seed: Any) -> Any:
    """Returns random views, float32 [b, size, size, 3] in [-1, 1], of pictures [b, h, w, 3].

    Views are crops of a quarter to all of the area, with random flips, brightness, contrast and
    colour. A quarter are mosaics of four at half size, because the pictures are small and the
    networks would see too few fine details. An eighth are mixtures of two.
    """
    count = tf.shape(pictures)[0]
    seeds = iter(tf.unstack(tf.random.experimental.stateless_split(seed, 12), 12))

    def uniform(low: float, high: float, *shape: int) -> Any:
        return tf.random.stateless_uniform([count, *shape], next(seeds), low, high)

    area, aspect = uniform(0.25, 1.0), tf.exp(uniform(-0.3, 0.3))
    height = tf.minimum(tf.sqrt(area * aspect), 1.0)
    width = tf.minimum(tf.sqrt(area / aspect), 1.0)
    top, left = uniform(0.0, 1.0) * (1 - height), uniform(0.0, 1.0) * (1 - width)
    mirrored = uniform(0.0, 1.0) < 0.5
    start, end = left, left + width
    left, right = tf.where(mirrored, end, start), tf.where(mirrored, start, end)
    boxes = tf.stack([top, left, top + height, right], axis=1)
    images = tf.image.crop_and_resize(
        tf.cast(pictures, tf.float32) / 127.5 - 1.0, boxes, tf.range(count), [size, size]
    )
    half = tf.nn.avg_pool2d(images, 2, 2, "VALID")
    rows = [tf.concat([tf.roll(half, i, 0), tf.roll(half, i + 1, 0)], axis=2) for i in (0, 2)]
    mosaic = tf.concat(rows, axis=1)
    kind = uniform(0.0, 1.0, 1, 1, 1)
    images = tf.where(kind < 0.25, mosaic, images)
    mixed = 0.5 * (images + tf.roll(images, count // 2, 0))
    images = tf.where(kind > 0.875, mixed, images)
    grey = tf.reduce_mean(images, axis=-1, keepdims=True)
    images = grey + (images - grey) * tf.maximum(uniform(-0.3, 1.6, 1, 1, 1), 0.0)
    images = images * uniform(0.7, 1.3, 1, 1, 3) + uniform(-0.2, 0.2, 1, 1, 1)
    return tf.clip_by_value(images, -1.0, 1.0)


def ends(model: keras.Model) -> list[Any]:
    """Returns the symbolic outputs of the blocks, the first at stride 2, the last the features."""
    names = ["expanded_conv_project_BN"]
    for number in range(1, 17):
        added = f"block_{number}_add" in {layer.name for layer in model.layers}
        names.append(f"block_{number}_{'add' if added else 'project_BN'}")
    return [model.get_layer(name).output for name in (*names, "out_relu")]


def error(predictions: Any, targets: Any, before: Any = None) -> Any:
    """Returns the squared error as a fraction of the targets' variance, a mean over channels.

    With `before`, the input of a residual block, the variance is that of the block's residual.
    """
    residual = targets if before is None or before.shape != targets.shape else targets - before
    axes = list(range(len(targets.shape) - 1))
    variance = tf.math.reduce_variance(residual, axes)
    squares = tf.reduce_mean(tf.square(predictions - targets), axes)
    return tf.reduce_mean(squares / (variance + 0.01 * tf.reduce_mean(variance)))


class Blocks:
    """Every block alone, on the teacher's features."""

    name, size, rate = "blocks", 96, 6e-3

    def __init__(self, student: keras.Model, teacher: keras.Model) -> None:
        """Cuts the student at the ends of its blocks."""
        self.student, outputs = student, ends(student)
        self.parts = [
            segment(student, start, end)
            for start, end in zip([student.input, *outputs], outputs, strict=False)
        ]
        self.teacher = keras.Model(teacher.input, ends(teacher))

    def losses(self, images: Any, training: bool) -> Any:
        """Returns the `error` of every block, [18]."""
        targets = self.teacher(images, training=False)
        return tf.stack(
            [
                error(part(before, training=training), after, before)
                for part, before, after in zip(
                    self.parts, [images, *targets], targets, strict=False
                )
            ]
        )


class Whole:
    """The whole student, from pixels to all of the teacher's features."""

    name, size, rate = "whole", 128, 2e-3

    def __init__(self, student: keras.Model, teacher: keras.Model) -> None:
        """Builds models with the ends of the blocks as outputs."""
        self.student = student
        self.features, self.teacher = (keras.Model(m.input, ends(m)) for m in (student, teacher))

    def losses(self, images: Any, training: bool) -> Any:
        """Returns the `error` at the end of every block, [19]; the last is of pooled features."""
        features = self.features(images, training=training)
        targets = self.teacher(images, training=False)
        pooled = [tf.reduce_mean(maps[-1], [1, 2]) for maps in (features, targets)]
        pairs = [*zip(features, targets, strict=True), pooled]
        return tf.stack([error(one, other) for one, other in pairs])


def fit(stage: Blocks | Whole, feed: Feed, options: argparse.Namespace) -> None:
    """Trains the student in a stage; resumes from the last checkpoint."""
    steps = getattr(options, f"{stage.name.removesuffix('s')}_steps")
    warm = steps // 20
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warm, warmup_target=stage.rate, warmup_steps=warm
    )
    optimizer = keras.optimizers.Adam(rate)
    variables = stage.student.trainable_variables
    optimizer.build(variables)

    @tf.function
    def step(pictures: Any, seed: Any) -> Any:
        images = views(pictures, stage.size, seed)
        with tf.GradientTape() as tape:
            losses = stage.losses(images, training=True)
            total = tf.reduce_sum(losses)
        optimizer.apply(tape.gradient(total, variables), variables)
        return losses

    @tf.function
    def measured(pictures: Any) -> Any:
        return stage.losses(views(pictures, stage.size, (0, 0)), training=False)

    checkpoint = tf.train.Checkpoint(student=stage.student, optimizer=optimizer)
    manager = tf.train.CheckpointManager(checkpoint, options.work / stage.name, max_to_keep=1)
    if manager.latest_checkpoint:
        checkpoint.restore(manager.latest_checkpoint).assert_existing_objects_matched()
    first = int(optimizer.iterations)
    feeding = tf.data.Dataset.range(first, steps).map(
        lambda n: tf.numpy_function(
            lambda n: feed.batch(stage.name, int(n)), [n], tf.uint8, stateful=False
        )
    )
    began, sums = time.perf_counter(), np.zeros(0)
    bar = tqdm.tqdm(feeding.prefetch(2), stage.name, steps, initial=first, mininterval=60)
    for number, pictures in enumerate(bar, first + 1):
        pictures.set_shape([options.batch_size, SIDE, SIDE, 3])
        losses = step(pictures, tf.constant([options.seed, number])).numpy()
        sums = sums + losses if sums.size else losses
        if number % EVERY == 0 or number == steps:
            held_out = np.split(feed.held_out, 4)
            means = np.mean([measured(feed.read(part)).numpy() for part in held_out], axis=0)
            manager.save()
            entry = {
                "stage": stage.name,
                "step": number,
                "loss": [round(float(loss), 4) for loss in sums / (number % EVERY or EVERY)],
                "held_out": [round(float(loss), 4) for loss in means],
                "seconds": round(time.perf_counter() - began, 1),
            }
            began, sums = time.perf_counter(), np.zeros(0)
            with (options.work / "log.jsonl").open("a") as file:
                file.write(json.dumps(entry) + "\n")
            print(entry, flush=True)


def write(student: keras.Model, options: argparse.Namespace, pictures: dict[str, int]) -> None:
    """Writes ``starter.npz``, float16 arrays with their numbers as names, and ``starter.json``."""
    options.out.mkdir(parents=True, exist_ok=True)
    weights = options.out / "starter.npz"
    arrays = {f"{i:04d}": w.astype(np.float16) for i, w in enumerate(student.get_weights())}
    np.savez(weights, **arrays)
    entries = [json.loads(line) for line in (options.work / "log.jsonl").read_text().splitlines()]
    description = {
        "network": "keras.applications.MobileNetV2, alpha=0.35, without top",
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "pictures": pictures,
        "teacher": options.teacher.name,
        "block_steps": options.block_steps,
        "whole_steps": options.whole_steps,
        "batch_size": options.batch_size,
        "seed": options.seed,
        "hours": round(sum(entry["seconds"] for entry in entries) / 3600, 2),
        "result": entries[-1],
    }
    (options.out / "starter.json").write_text(json.dumps(description, indent=2) + "\n")


if __name__ == "__main__":
    main()
