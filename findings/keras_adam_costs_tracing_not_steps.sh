#!/usr/bin/env bash
# Keras 3.15.1 on TensorFlow 2.21.0: a step of `Adam` is 41 operations for each variable, constants
# counted, where TensorFlow has a kernel that is one, `ResourceApplyAdam`. What costs is less the step
# than the first one, which traces those operations: with 160 variables of MobileNet's sizes 3.8 s by
# Keras and 0.8 s by the kernel, once for every compiled model, on two cores.
# Seen when this was written (Python 3.11):
#   operations for each variable: Keras 41, kernel 9
#   the first step, Keras to kernel: 4.9 (3.8 s to 0.8 s); later steps: 1.7
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet tensorflow==2.21.0 keras==3.15.1
cat > "$folder/steps.py" <<'PYTHON'
import time

import keras
import numpy as np
import tensorflow as tf


class OneKernel(keras.optimizers.Adam):
    def _backend_update_step(self, gradients, variables, rate):
        step = tf.cast(self.iterations + 1, tf.float32)
        powers = tf.pow(self.beta_1, step), tf.pow(self.beta_2, step)
        for place, (gradient, variable) in enumerate(zip(gradients, variables)):
            tf.raw_ops.ResourceApplyAdam(
                var=variable.value.handle,
                m=self._momentums[place].value.handle,
                v=self._velocities[place].value.handle,
                beta1_power=powers[0],
                beta2_power=powers[1],
                lr=rate,
                beta1=self.beta_1,
                beta2=self.beta_2,
                epsilon=self.epsilon,
                grad=gradient,
            )


def measured(kind):
    random = np.random.default_rng(0)
    sizes = random.permutation([shape for shape in (96, 192, 3000, 9216) for _ in range(40)])
    variables = [keras.Variable(random.normal(size=size), dtype="float32") for size in sizes]
    gradients = [tf.constant(random.normal(size=size), tf.float32) for size in sizes]
    optimizer = kind(1e-3)
    optimizer.build(variables)

    @tf.function
    def step():
        optimizer.apply(gradients, variables)

    start = time.perf_counter()
    step()
    first = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(50):
        step()
    later = (time.perf_counter() - start) / 50
    operations = len(step.get_concrete_function().graph.get_operations()) / len(variables)
    return first, later, operations, np.concatenate([np.asarray(each) for each in variables])


measured(OneKernel)  # What the first trace of a process costs counts for neither.
first, later, operations, values = measured(keras.optimizers.Adam)
kernel_first, kernel_later, kernel_operations, kernel_values = measured(OneKernel)
print(f"operations for each variable: Keras {operations:.0f}, kernel {kernel_operations:.0f}")
print(
    f"the first step, Keras to kernel: {first / kernel_first:.1f} "
    f"({first:.1f} s to {kernel_first:.1f} s); later steps: {later / kernel_later:.1f}"
)
assert np.abs(values - kernel_values).max() < 1e-3
assert operations > 30 and kernel_operations < 12
assert first > 2 * kernel_first
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/steps.py"
