"""Trains the starter weights from random initialisation, by distillation from a larger network.

The student sees the very views that the teacher saw and learns the teacher's pooled features,
consistently and for long (Beyer et al. 2022, https://arxiv.org/abs/2106.05237), and the labels
where there are any. Two resumable stages:

1. ``views``: random crops of every picture, and the teacher's features of them, on disk.
2. ``train``: the student on those views; a checkpoint every 500 steps.

    python tools/pretrain_starter.py --data=IMAGES --teacher=W.weights.h5 --work=DIR --out=DIR

IMAGES holds ``caltech101_112`` and ``imagenet_1000_samples``; drawn shapes are added. The weights,
float16, and ``starter.json`` with data, seed, recipe and result go to ``--out``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tqdm

VIEW = 128  # Pixels of a kept view, as the teacher sees it.
SIZE = 96  # Pixels the student sees.
CHUNK = 256
HELD_OUT = 0.03


def main() -> None:
    """Runs both stages."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--views", type=int, default=10)
    parser.add_argument("--drawn", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--learning_rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    for name in pictures_of(options):
        make_views(options, name)
    train(options)


def pictures_of(
    options: argparse.Namespace,
) -> dict[str, Callable[[], Iterator[tuple[bytes, int]]]]:
    """Returns, by name, what yields the ``(encoded picture, label)`` pairs of every data set."""

    def folder(path: Path) -> Iterator[tuple[bytes, int]]:
        classes = sorted(found.name for found in path.iterdir() if found.is_dir())
        for found in sorted(path.glob("*/*.jpg")):
            yield found.read_bytes(), classes.index(found.parent.name)

    def single(path: Path) -> Iterator[tuple[bytes, int]]:
        for number, found in enumerate(sorted(path.glob("*.[jJ]*"))):  # One of each class.
            yield found.read_bytes(), number

    def drawn() -> Iterator[tuple[bytes, int]]:
        from tlkeras.sources.embedded import Embedded

        for _, example in Embedded(data="shapes", count=options.drawn).examples():
            yield example["image"], example["label"]

    return {
        "caltech101_112": lambda: folder(options.data / "caltech101_112"),
        "imagenet_1000_samples": lambda: single(options.data / "imagenet_1000_samples"),
        "drawn": drawn,
    }


def make_views(options: argparse.Namespace, name: str) -> None:
    """Writes ``views.npy``, ``features.npy``, ``labels.npy`` of a data set, unless it is done."""
    work = options.work / name
    if (work / "done").exists():
        return
    work.mkdir(parents=True, exist_ok=True)
    pictures, labels = zip(*pictures_of(options)[name](), strict=True)
    teacher = keras.applications.MobileNetV2(
        weights=None, include_top=False, input_shape=(VIEW, VIEW, 3), pooling="avg"
    )
    teacher.load_weights(options.teacher)
    extract = tf.function(lambda x: teacher(x / 127.5 - 1.0, training=False))
    count = len(pictures) * options.views
    kept = {
        "views": _array(work / "views.npy", np.uint8, (count, VIEW, VIEW, 3)),
        "features": _array(work / "features.npy", np.float16, (count, 1280)),
    }
    np.save(work / "labels.npy", np.tile(np.asarray(labels, np.int32), options.views))
    for number in range(options.views):
        seeds = [(options.seed, number * len(pictures) + i) for i in range(len(pictures))]
        views = tf.data.Dataset.from_tensor_slices((list(pictures), seeds))
        views = views.map(_view, num_parallel_calls=2).batch(CHUNK).prefetch(2)
        start = number * len(pictures)
        for batch in tqdm.tqdm(views, desc=f"{name} {number + 1}/{options.views}", mininterval=30):
            stop = start + len(batch)
            kept["views"][start:stop] = np.clip(np.rint(batch.numpy()), 0, 255)
            kept["features"][start:stop] = extract(batch).numpy()
            start = stop
    for array in kept.values():
        array.flush()
    (work / "done").touch()


class Views:
    """The kept views of several data sets as one, their labels made distinct."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Opens the arrays; pictures, not views, are held out."""
        random = np.random.default_rng(options.seed)
        self.parts, places, held, self.classes, self.pictures = [], [], [], 0, {}
        for number, name in enumerate(pictures_of(options)):
            work = options.work / name
            labels = np.load(work / "labels.npy") + self.classes
            self.classes = int(labels.max()) + 1
            self.pictures[name] = len(labels) // options.views
            views = np.load(work / "views.npy", mmap_mode="r")
            features = np.load(work / "features.npy", mmap_mode="r")
            self.parts.append((views, features, labels))
            places.append(np.stack([np.full(len(labels), number), np.arange(len(labels))], axis=1))
            is_held = random.random(self.pictures[name]) < HELD_OUT
            held.append(np.tile(is_held, options.views))
        every, is_held = np.concatenate(places), np.concatenate(held)
        self.train, self.held_out = every[~is_held], random.permutation(every[is_held])[:2048]

    def read(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns views, features and labels of rows ``(data set, place)``."""
        columns: list[list[np.ndarray]] = [[], [], []]
        for number, part in enumerate(self.parts):
            rows = np.sort(places[places[:, 0] == number, 1])
            for column, array in zip(columns, part, strict=True):
                column.append(array[rows])
        views, features, labels = (np.concatenate(column) for column in columns)
        return views, features, labels


def _array(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def _view(encoded: Any, seed: Any) -> Any:
    """Returns a random resized crop, flipped and coloured at random, float32 [VIEW, VIEW, 3]."""
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 6))
    box = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        tf.zeros([0, 0, 4]),
        seeds[0],
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.25, 1.0),
        use_image_if_no_bounding_boxes=True,
    )
    image = tf.slice(image, box[0], box[1])
    image.set_shape([None, None, 3])
    image = tf.image.resize(tf.cast(image, tf.float32), [VIEW, VIEW], antialias=True)
    image = tf.image.stateless_random_flip_left_right(image, seeds[1])
    image = tf.image.stateless_random_brightness(image, 24.0, seeds[2])
    image = tf.image.stateless_random_contrast(image, 0.75, 1.25, seeds[3])
    grey = tf.random.stateless_uniform([], seeds[4]) < 0.15
    image = tf.where(grey, tf.reduce_mean(image, -1, keepdims=True) * tf.ones(3), image)
    return tf.clip_by_value(image, 0.0, 255.0)


def train(options: argparse.Namespace) -> None:
    """Fits the student and writes its weights and what they are."""
    kept = Views(options)
    random = np.random.default_rng(options.seed)
    sample = kept.read(random.choice(kept.train, 20_000, replace=False))[1].astype(np.float32)
    mean, deviation = sample.mean(0), sample.std(0) + 1e-2

    keras.utils.set_random_seed(options.seed)
    student = network()
    pooled = keras.layers.GlobalAveragePooling2D()(student.output)
    outputs = {
        "features": keras.layers.Dense(sample.shape[1], name="to_teacher")(pooled),
        "labels": keras.layers.Dense(kept.classes, name="to_labels")(pooled),
    }
    model = keras.Model(student.input, outputs)
    warm = options.steps // 20
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, options.steps - warm, warmup_target=options.learning_rate, warmup_steps=warm
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=2e-3, global_clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    optimizer.build(model.trainable_variables)

    def losses(images: Any, wanted: Any, label: Any, training: bool) -> tuple[Any, Any, Any]:
        images = tf.image.resize(tf.cast(images, tf.float32), [SIZE, SIZE], antialias=True)
        found = model(images, training=training)
        wanted = (tf.cast(wanted, tf.float32) - mean) / deviation
        distance = tf.reduce_mean(tf.square(found["features"] - wanted))
        entropy = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)(
            tf.one_hot(label, kept.classes), found["labels"]
        )
        hit = tf.argmax(found["labels"], -1, output_type=tf.int32) == label
        return distance, entropy, tf.reduce_mean(tf.cast(hit, tf.float32))

    @tf.function
    def step(images: Any, wanted: Any, label: Any) -> Any:
        with tf.GradientTape() as tape:
            distance, entropy, hits = losses(images, wanted, label, training=True)
            total = distance + 0.1 * entropy
        gradients = tape.gradient(total, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return tf.stack([distance, entropy, hits])

    evaluate = tf.function(lambda *batch: tf.stack(losses(*batch, training=False)))
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)
    manager = tf.train.CheckpointManager(checkpoint, options.work / "checkpoints", max_to_keep=2)
    log = options.work / "log.jsonl"
    if manager.latest_checkpoint:
        checkpoint.restore(manager.latest_checkpoint).assert_existing_objects_matched()
    began = time.perf_counter()
    first = int(optimizer.iterations)

    def batch_at(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        random = np.random.default_rng((options.seed, number))
        return kept.read(kept.train[random.integers(len(kept.train), size=options.batch_size)])

    numbers = tf.data.Dataset.range(first, options.steps)
    feed = numbers.map(
        lambda number: tf.numpy_function(
            lambda n: batch_at(int(n)), [number], [tf.uint8, tf.float16, tf.int32], stateful=False
        ),
        num_parallel_calls=2,
    ).prefetch(4)
    sums = np.zeros(3)
    progress = tqdm.tqdm(feed, total=options.steps, initial=first, mininterval=30)
    for number, (images, wanted, label) in enumerate(progress, first + 1):
        images.set_shape([options.batch_size, VIEW, VIEW, 3])
        sums += step(images, wanted, label).numpy()
        if number % 500 == 0 or number == options.steps:
            parts = np.array_split(kept.held_out, len(kept.held_out) // CHUNK)
            measured = np.mean([evaluate(*kept.read(p)).numpy() for p in parts], axis=0)
            manager.save()
            since = 500 if number % 500 == 0 else number % 500
            entry = {
                "step": number,
                "distance": sums[0] / since,
                "label_loss": sums[1] / since,
                "label_accuracy": sums[2] / since,
                "held_out_distance": float(measured[0]),
                "held_out_label_accuracy": float(measured[2]),
                "seconds": time.perf_counter() - began,
            }
            sums[:] = 0
            with log.open("a") as file:
                file.write(json.dumps(entry) + "\n")
            print(entry, flush=True)
    write(student, options, kept, log)


def network() -> keras.Model:
    """Returns the student: a Keras application, pixels in [0, 255], scaling inside."""
    student = keras.applications.MobileNetV3Small(
        weights=None, include_top=False, input_shape=(SIZE, SIZE, 3)
    )
    for layer in student.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.99  # At Keras's 0.999, statistics lag by a quarter of this training.
    return student


def write(student: keras.Model, options: argparse.Namespace, kept: Views, log: Path) -> None:
    """Writes ``starter.npz``, float16 arrays named by place, and ``starter.json``."""
    options.out.mkdir(parents=True, exist_ok=True)
    weights = options.out / "starter.npz"
    arrays = {f"{i:04d}": w.astype(np.float16) for i, w in enumerate(student.get_weights())}
    np.savez(weights, **arrays)
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    description = {
        "network": "keras.applications.MobileNetV3Small, without top",
        "size": SIZE,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "pictures": kept.pictures,
        "teacher": options.teacher.name,
        "views_per_picture": options.views,
        "steps": options.steps,
        "batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "seed": options.seed,
        "hours": sum(
            entry["seconds"] - (before["seconds"] if before["seconds"] < entry["seconds"] else 0)
            for before, entry in zip([{"seconds": 0.0}, *entries], entries, strict=False)
        )
        / 3600,
        "result": entries[-1],
    }
    (options.out / "starter.json").write_text(json.dumps(description, indent=2) + "\n")


if __name__ == "__main__":
    main()
