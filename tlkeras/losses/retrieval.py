"""The losses of pairs within a batch, and their recall."""

from __future__ import annotations

from typing import Any

from tlkeras.frameworks import keras


def _compared(targets: Any, outputs: Any) -> tuple[Any, Any]:
    """Returns logits [b, b], a row for each picture, and which pairs are right, as 0 and 1.

    Those are right that an example of the batch has: its picture, or an equal one, and its text.
    """
    channels = outputs.shape[-1] // 2 - 1
    pictures, texts = outputs[:, :channels], outputs[:, channels : 2 * channels]
    cosines: Any = keras.ops.matmul(pictures, keras.ops.transpose(texts))
    factor: Any = keras.ops.exp(outputs[0, -2])
    equal: Any = keras.ops.equal(targets[:, None, :], targets[None, :, :])
    texts_equal, pictures_equal = (
        keras.ops.cast(keras.ops.all(each, axis=-1), "float32")
        for each in (equal[..., :2], equal[..., 2:])
    )
    both: Any = keras.ops.matmul(pictures_equal, texts_equal)
    right: Any = keras.ops.cast(both > 0, "float32")
    return cosines * factor + outputs[0, -1], right


class InfoNCE(keras.losses.Loss):
    """The mean of both cross entropies of each pair, [b]."""

    def call(self, y_true, y_pred):
        logits, right = _compared(y_true, y_pred)
        total: Any = 0
        for axis in (0, 1):
            count: Any = keras.ops.sum(right, axis=axis, keepdims=True)
            share = right / count
            total += keras.ops.sum(share * keras.ops.log_softmax(logits, axis=axis), axis=axis)
        return -total / 2


class SigLIP(keras.losses.Loss):
    """The sum of the logistic losses of each picture with all texts, [b]."""

    def call(self, y_true, y_pred):
        logits, right = _compared(y_true, y_pred)
        signs: Any = 2 * right - 1
        losses: Any = keras.ops.log_sigmoid(signs * logits)
        return keras.ops.sum(-losses, axis=1)


OBJECTIVES: dict[str, Any] = {"infonce": InfoNCE, "siglip": SigLIP}


class BatchRecall(keras.metrics.Mean):
    """The recall at 1 within a batch, the mean of both ways; it depends on the batch size."""

    def update_state(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, y_true, y_pred, sample_weight=None
    ):
        logits, right = _compared(y_true, y_pred)
        hits: Any = 0
        for axis in (0, 1):
            best: Any = keras.ops.argmax(logits, axis=axis)
            place: Any = keras.ops.expand_dims(best, axis)
            hits += keras.ops.squeeze(keras.ops.take_along_axis(right, place, axis=axis), axis)
        super().update_state(hits / 2)
