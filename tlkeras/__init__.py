"""tlkeras: transfer learning on Keras, from labelled data to a served and a mobile model.

A notebook imports its names from here, ``from tlkeras import TransferModel``; each loads on first
use. Every Keras application has the name of its constructor.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tlkeras.augments.colour import Color
    from tlkeras.augments.erase import Erase
    from tlkeras.augments.geometric import Crop, Flip, Rotate, Zoom
    from tlkeras.augments.mixing import CutMix, MixUp
    from tlkeras.augments.rand_augment import RandAugment
    from tlkeras.backbones.applications import *  # noqa: F403
    from tlkeras.backbones.starter import Starter
    from tlkeras.data.batches import Data
    from tlkeras.data.ingest import write_examples
    from tlkeras.data.splits import Split
    from tlkeras.exporters.browser import Browser
    from tlkeras.exporters.keras import Keras
    from tlkeras.exporters.onnx import ONNX
    from tlkeras.exporters.saved_model import SavedModel
    from tlkeras.exporters.tflite import TFLite
    from tlkeras.model.transfer_model import TransferModel
    from tlkeras.recipes.fine_tune import FineTune
    from tlkeras.recipes.lora import Lora
    from tlkeras.recipes.probe import Probe
    from tlkeras.recipes.prototypes import Prototypes
    from tlkeras.sources.coco import COCO
    from tlkeras.sources.conll import CoNLL
    from tlkeras.sources.csv import CSV
    from tlkeras.sources.dicom import DICOM
    from tlkeras.sources.embedded import Embedded
    from tlkeras.sources.folder import Folder
    from tlkeras.sources.instances import Instances
    from tlkeras.sources.jsonl import JSONL
    from tlkeras.sources.masks import Masks
    from tlkeras.sources.nifti import NIfTI
    from tlkeras.sources.tfds import TFDS
    from tlkeras.sources.voc import VOC
    from tlkeras.sources.yolo import YOLO
    from tlkeras.tasks.classification import Classification
    from tlkeras.tasks.detection import Detection
    from tlkeras.tasks.segmentation import Segmentation
    from tlkeras.training.features import Cache
    from tlkeras.training.phase import Phase
    from tlkeras.training.solve import Solve

_MODULES = {
    "Browser": "exporters.browser",
    "COCO": "sources.coco",
    "CSV": "sources.csv",
    "Cache": "training.features",
    "Classification": "tasks.classification",
    "CoNLL": "sources.conll",
    "Color": "augments.colour",
    "Crop": "augments.geometric",
    "CutMix": "augments.mixing",
    "DICOM": "sources.dicom",
    "Data": "data.batches",
    "Detection": "tasks.detection",
    "Embedded": "sources.embedded",
    "Erase": "augments.erase",
    "FineTune": "recipes.fine_tune",
    "Flip": "augments.geometric",
    "Folder": "sources.folder",
    "Instances": "sources.instances",
    "JSONL": "sources.jsonl",
    "Keras": "exporters.keras",
    "Lora": "recipes.lora",
    "Masks": "sources.masks",
    "MixUp": "augments.mixing",
    "NIfTI": "sources.nifti",
    "ONNX": "exporters.onnx",
    "Phase": "training.phase",
    "Probe": "recipes.probe",
    "Prototypes": "recipes.prototypes",
    "RandAugment": "augments.rand_augment",
    "Rotate": "augments.geometric",
    "SavedModel": "exporters.saved_model",
    "Segmentation": "tasks.segmentation",
    "Solve": "training.solve",
    "Split": "data.splits",
    "Starter": "backbones.starter",
    "TFDS": "sources.tfds",
    "TFLite": "exporters.tflite",
    "TransferModel": "model.transfer_model",
    "VOC": "sources.voc",
    "YOLO": "sources.yolo",
    "Zoom": "augments.geometric",
    "write_examples": "data.ingest",
}

__all__ = [
    "COCO",
    "CSV",
    "DICOM",
    "JSONL",
    "ONNX",
    "TFDS",
    "VOC",
    "YOLO",
    "Browser",
    "Cache",
    "Classification",
    "CoNLL",
    "Color",
    "Crop",
    "CutMix",
    "Data",
    "Detection",
    "Embedded",
    "Erase",
    "FineTune",
    "Flip",
    "Folder",
    "Instances",
    "Keras",
    "Lora",
    "Masks",
    "MixUp",
    "NIfTI",
    "Phase",
    "Probe",
    "Prototypes",
    "RandAugment",
    "Rotate",
    "SavedModel",
    "Segmentation",
    "Solve",
    "Split",
    "Starter",
    "TFLite",
    "TransferModel",
    "Zoom",
    "write_examples",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES and not name[:1].isupper():
        # Python asks so before it imports a module of this package, which needs no network.
        raise AttributeError(f"tlkeras has no {name!r}.")
    module = importlib.import_module(f"tlkeras.{_MODULES.get(name, 'backbones.applications')}")
    if not hasattr(module, name):
        raise AttributeError(f"tlkeras has no {name!r}.")
    return getattr(module, name)
