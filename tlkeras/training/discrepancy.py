"""Discrepancies: how unlike two domains are to a head, as losses that need no label of the target.

Each is a function of the logits of both domains, float32 or float64 [n, classes] and [m, classes],
and returns a scalar, 0 at best. All rows count at once: the losses are no means over rows.
"""

from __future__ import annotations

from typing import Any

from tlkeras.frameworks import tf

# Long et al. 2015 mix Gaussian kernels of several widths; these are factors of the mean square
# distance of two rows.
_WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)

# Jin et al. 2020 found this temperature good on all of their data.
_TEMPERATURE = 2.5


def kernel_mean(source: Any, target: Any) -> Any:
    """Returns the squared distance of the means of two domains in the space of a kernel.

    The maximum mean discrepancy (Gretton et al. 2012) of the mean of five Gaussian kernels, as in
    Long et al. 2015, https://arxiv.org/abs/1502.02791, with every pair of rows. The widths are
    constants to the gradient. Time and memory grow with the square of the rows.
    """
    rows = tf.concat([source, target], axis=0)
    squares = tf.reduce_sum(tf.square(rows), axis=1)
    products = tf.matmul(rows, rows, transpose_b=True)
    distances = tf.maximum(squares[:, None] + squares[None] - 2 * products, 0)
    width = tf.stop_gradient(tf.reduce_mean(distances))
    # Where a head begins all logits are equal, and so all kernels are 1.
    shares = tf.math.divide_no_nan(distances, width)
    kernel = tf.add_n([tf.exp(-shares / factor) for factor in _WIDTHS])
    n, m = (tf.cast(tf.shape(each)[0], rows.dtype) for each in (source, target))
    signs = tf.concat(
        [tf.fill(tf.shape(source)[:1], 1 / n), tf.fill(tf.shape(target)[:1], -1 / m)], 0
    )
    return tf.tensordot(signs, tf.linalg.matvec(kernel, signs), 1) / len(_WIDTHS)


def confusion(source: Any, target: Any) -> Any:
    """Returns the confusion of classes with each other in the predictions on the target.

    Minimum class confusion (Jin et al. 2020, https://arxiv.org/abs/1912.03699, equations 2 to 6):
    rows of low entropy weigh more, and each class counts the same. `source` is not read.
    """
    del source
    shares = tf.nn.softmax(target / _TEMPERATURE)
    entropies = -tf.reduce_sum(shares * tf.nn.log_softmax(target / _TEMPERATURE), axis=1)
    weights = 1 + tf.exp(-entropies)
    weights /= tf.reduce_mean(weights)
    found = tf.matmul(shares * weights[:, None], shares, transpose_a=True)
    found /= tf.reduce_sum(found, axis=1, keepdims=True)
    classes = tf.cast(tf.shape(found)[0], found.dtype)
    return (tf.reduce_sum(found) - tf.linalg.trace(found)) / classes
