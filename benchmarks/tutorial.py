"""The recipe of TensorFlow's transfer-learning tutorial, in plain Keras; `speed.py` runs it.

https://www.tensorflow.org/tutorials/images/transfer_learning: a frozen MobileNetV2 under a new last
layer, then all layers from 100 on at a hundredth of the rate. Changes in its favour: no
augmentation, which would only take time here, and a rate of 1e-3 for the last layer instead of
1e-4. With ``--cache`` decoded pictures stay in memory, with a new shuffle in every epoch.

    python benchmarks/tutorial.py --data=IMAGES/flower_photos --weights=NOTOP.weights.h5 --cache

The last line on the output is JSON: the seconds of each part and the validation accuracies.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

SIZE, BATCH, FIRST_TRAINED = 160, 32, 100


def main() -> None:
    """Trains and prints."""
    parser = argparse.ArgumentParser(description="The recipe of TensorFlow's tutorial.")
    parser.add_argument("--data", type=Path, required=True, help="holds train/ and val/")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--epochs", type=int, default=5, help="of each of the two parts")
    parser.add_argument("--cache", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a folder for trained, an empty file, and TFLite")
    options = parser.parse_args()

    times = [time.perf_counter()]
    import keras
    import tensorflow as tf

    times.append(time.perf_counter())
    keras.utils.set_random_seed(options.seed)
    train, validation = (
        keras.utils.image_dataset_from_directory(
            options.data / part, image_size=(SIZE, SIZE), batch_size=None, shuffle=False
        )
        for part in ("train", "val")
    )
    classes, count = len(train.class_names), len(train.file_paths)
    if options.cache:
        train = train.cache().shuffle(count)
        validation = validation.cache()
    else:
        # As in the tutorial: shuffle the files, then read them.
        train = keras.utils.image_dataset_from_directory(
            options.data / "train", image_size=(SIZE, SIZE), batch_size=None, seed=options.seed
        )
    train = train.batch(BATCH).prefetch(tf.data.AUTOTUNE)
    validation = validation.batch(BATCH).prefetch(tf.data.AUTOTUNE)

    base = keras.applications.MobileNetV2(
        input_shape=(SIZE, SIZE, 3),
        alpha=options.alpha,
        include_top=False,
        weights=str(options.weights),
    )
    base.trainable = False
    inputs = keras.Input([SIZE, SIZE, 3])
    x = keras.applications.mobilenet_v2.preprocess_input(inputs)
    x = base(x, training=False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.2)(x)
    model = keras.Model(inputs, keras.layers.Dense(classes)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    frozen = model.fit(train, validation_data=validation, epochs=options.epochs, verbose=2)
    times.append(time.perf_counter())

    base.trainable = True
    for layer in base.layers[:FIRST_TRAINED]:
        layer.trainable = False
    model.compile(keras.optimizers.RMSprop(1e-5), loss, metrics=["accuracy"])
    tuned = model.fit(train, validation_data=validation, epochs=options.epochs, verbose=2)
    times.append(time.perf_counter())
    if options.out:
        (options.out / "trained").touch()
        converted = tf.lite.TFLiteConverter.from_keras_model(model).convert()
        (options.out / "model.tflite").write_bytes(converted)

    names = ("import", "frozen", "fine_tuned")
    result = {
        "seconds": {
            name: round(end - start, 2)
            for name, start, end in zip(names, times[:-1], times[1:], strict=True)
        },
        "accuracies": [*frozen.history["val_accuracy"], *tuned.history["val_accuracy"]],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
