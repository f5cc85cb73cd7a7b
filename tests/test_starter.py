"""The picture network that comes with tlkeras."""

from typing import Any

import numpy as np

from tlkeras import shipped
from tlkeras.backbones.starter import Starter
from tlkeras.frameworks import keras


def test_the_network_is_mobilenet_v2_with_these_weights_on_pixels_from_minus_1_to_1():
    none: Any = None  # Keras annotates it as a text only.
    plain = keras.applications.MobileNetV2(
        input_shape=(96, 96, 3), alpha=0.35, include_top=False, weights=none
    )
    plain.set_weights([array for _, array in sorted(shipped.read("starter").items())])
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 96, 96, 3)).astype(np.float32)
    found = Starter(size=96).build()(pixels)["stride32"]
    np.testing.assert_allclose(found, plain(pixels / 127.5 - 1), rtol=1e-4, atol=1e-4)
