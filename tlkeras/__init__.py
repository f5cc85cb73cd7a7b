"""tlkeras: transfer learning on Keras, from labelled data to a served and a mobile model.

The names that a notebook needs are found here, ``from tlkeras import TransferModel``; each is
imported when first asked for. Every Keras application is found under the name of its constructor.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tlkeras.augment import Color, Crop, CutMix, Erase, Flip, MixUp, RandAugment, Rotate
    from tlkeras.backbones.applications import *  # noqa: F403
    from tlkeras.backbones.starter import Starter
    from tlkeras.data import Data
    from tlkeras.examples import Split
    from tlkeras.exporters.browser import Browser
    from tlkeras.exporters.keras import Keras
    from tlkeras.exporters.onnx import ONNX
    from tlkeras.exporters.saved_model import SavedModel
    from tlkeras.exporters.tflite import TFLite
    from tlkeras.features import Cache
    from tlkeras.model import TransferModel
    from tlkeras.recipes.fine_tune import FineTune, Phase
    from tlkeras.sources.csv import CSV
    from tlkeras.sources.embedded import Embedded
    from tlkeras.sources.folder import Folder
    from tlkeras.sources.tfds import TFDS
    from tlkeras.tasks.classification import Classification

_MODULES = {
    "Browser": "exporters.browser",
    "CSV": "sources.csv",
    "Cache": "features",
    "Classification": "tasks.classification",
    "Color": "augment",
    "Crop": "augment",
    "CutMix": "augment",
    "Data": "data",
    "Embedded": "sources.embedded",
    "Erase": "augment",
    "FineTune": "recipes.fine_tune",
    "Flip": "augment",
    "Folder": "sources.folder",
    "Keras": "exporters.keras",
    "MixUp": "augment",
    "ONNX": "exporters.onnx",
    "Phase": "recipes.fine_tune",
    "RandAugment": "augment",
    "Rotate": "augment",
    "SavedModel": "exporters.saved_model",
    "Split": "examples",
    "Starter": "backbones.starter",
    "TFDS": "sources.tfds",
    "TFLite": "exporters.tflite",
    "TransferModel": "model",
}

__all__ = [
    "CSV",
    "ONNX",
    "TFDS",
    "Browser",
    "Cache",
    "Classification",
    "Color",
    "Crop",
    "CutMix",
    "Data",
    "Embedded",
    "Erase",
    "FineTune",
    "Flip",
    "Folder",
    "Keras",
    "MixUp",
    "Phase",
    "RandAugment",
    "Rotate",
    "SavedModel",
    "Split",
    "Starter",
    "TFLite",
    "TransferModel",
]


def __getattr__(name: str) -> Any:
    module = importlib.import_module(f"tlkeras.{_MODULES.get(name, 'backbones.applications')}")
    if name.startswith("_") or not hasattr(module, name):
        raise AttributeError(f"tlkeras has no {name!r}.")
    return getattr(module, name)
