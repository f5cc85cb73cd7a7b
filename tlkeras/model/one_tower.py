"""One tower of a fitted model, as a model of its own that shares the variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tlkeras import files, spec
from tlkeras.backbone import Backbone
from tlkeras.frameworks import keras
from tlkeras.model import graph
from tlkeras.model.network_file import read_network
from tlkeras.model.towers import PAIR, named
from tlkeras.model.transfer_model import HEAD, TransferModel, called_with
from tlkeras.task import Task

WEIGHTS = "model.keras"
"""The file with the network of a pair, in the folder of a model or of a pushed version."""


def one_tower(model: TransferModel, tower: str) -> TransferModel:
    """Returns the model of a tower: what it reads alone, and the row that it gives.

    Raises:
        ValueError: The model has no such tower, or its task no use for one.
    """
    backbone = model.backbone.towers().get(tower)
    task = model.task.of_tower(tower)
    if backbone is None or task is None:
        raise ValueError(
            f"There is no tower {tower!r} of {model.task.name} on {model.backbone.name}; a pair "
            'of towers is what --task=retrieval has on --backbone="towers(picture=…, text=…)".'
        )
    inputs: Any = model.full.input
    features: Any = model.body.output
    entered: Any = model.head.input
    body = graph.segment(model.full, inputs[PAIR[tower]], features[tower])
    row = model.head.get_layer(named(tower, "row")).output
    head: Any = graph.segment(model.head, entered[tower], row)
    head.name = HEAD
    full = keras.Model(body.input, head(body.output), name=backbone.name)
    return TransferModel.of(backbone, task, (), body, head, full)


def pair(folder: Path) -> TransferModel:
    """Returns the pair of towers of a folder, without its outputs.

    The folder is one of `TransferModel.save`, or a pushed version with the export ``keras``.

    Raises:
        ValueError: The folder holds neither.
    """
    backbone, task = described(folder)
    network = read_network(folder / WEIGHTS)
    head = network.get_layer(HEAD)
    body = keras.Model(network.input, called_with(head), name="body")
    return TransferModel.of(backbone, task, (), body, head, network)


def described(folder: Path) -> tuple[Backbone, Task]:
    """Returns backbone and task of the pair in a folder, see `pair`."""
    texts: dict[str, str] = {}
    if (folder / "model.json").is_file():
        texts = files.read_json(folder / "model.json")
    elif (folder / "manifest.json").is_file():
        lineage = files.read_json(folder / "manifest.json")["lineage"]
        fields = [made["asked"]["fields"] for made in lineage if made["step"] == "model"][-1]
        texts = {name: fields[name]["value"] for name in ("backbone", "task")}
    if not texts or not (folder / WEIGHTS).is_file():
        raise ValueError(
            f"{folder} holds no pair of towers, expected {WEIGHTS} beside model.json or "
            "manifest.json; give the folder of a fitted model, or a version that was pushed with "
            "--exporters=keras among others."
        )
    return spec.parse(texts["backbone"], Backbone), spec.parse(texts["task"], Task)
