"""Fused: Adam with one operation for each variable.

Keras writes the step of a variable as forty operations. On one replica TensorFlow's kernel of Adam
does the same. With the 158 variables of a MobileNetV2 the first step took 5 s, and 10 s with
Keras's (Keras 3.15, two cores), nearly all of it for the trace.
"""

from __future__ import annotations

import functools
from typing import Any

from tlkeras import hardware
from tlkeras.frameworks import tf


def fused(kind: Any) -> Any:
    """Returns `keras.optimizers.Adam` or `AdamW` with fused steps; its variables are the same.

    The numbers are those of Keras up to the rounding of its constants, so that ``1 - beta_2`` is
    0.00100005 in place of 0.001. Several replicas make Keras's steps.
    """

    class Fused(kind):
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            if hardware.replicas() > 1 or isinstance(gradient, tf.IndexedSlices):
                super().update_step(gradient, variable, learning_rate)
                return
            place = self._get_variable_index(variable)
            number = functools.partial(tf.cast, dtype=variable.dtype)
            step = number(self.iterations + 1)
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=self._momentums[place].value.handle,
                v=self._velocities[place].value.handle,
                beta1_power=tf.pow(number(self.beta_1), step),
                beta2_power=tf.pow(number(self.beta_2), step),
                lr=number(learning_rate),
                beta1=number(self.beta_1),
                beta2=number(self.beta_2),
                epsilon=number(self.epsilon),
                grad=number(gradient),
            )

        def _clip_gradients(self, grads: Any) -> Any:
            if not self.global_clipnorm:
                return super()._clip_gradients(grads)
            return tf.clip_by_global_norm(grads, self.global_clipnorm)[0]

        def _apply_weight_decay(self, variables: Any) -> None:
            if self.weight_decay:  # AdamW wants a number, and would compute with 0, too.
                super()._apply_weight_decay(variables)

    Fused.__name__ = f"Fused{kind.__name__}"
    return Fused
