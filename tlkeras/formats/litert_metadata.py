"""Metadata: what a ``.tflite`` file says of itself, for MediaPipe, Android Studio and people.

TFLite Metadata (https://github.com/tensorflow/tflite-support/blob/master/tensorflow_lite_support/
metadata/metadata_schema.fbs) is a flatbuffer of its own, kept in the model as the buffer named
``TFLITE_METADATA``. The files that it names are appended to the model as a zip archive.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkeras.exporter import Origin

if TYPE_CHECKING:
    from tlkeras.model.transfer_model import TransferModel

LABELS = "labels.txt"
"""The attached file: the class names, one a line, in the order of the scores."""

_NAME = "TFLITE_METADATA"

# Nothing newer than the first version of the schema is written.
_PARSER = "1.0.0"

# The fields of each table in the order of the schema, which numbers them; a union takes two.
_TABLES = {
    "ModelMetadata": (
        *("name", "description", "version", "subgraph_metadata", "author", "license"),
        *("associated_files", "min_parser_version"),
    ),
    "SubGraphMetadata": ("name", "description", "input_tensor_metadata", "output_tensor_metadata"),
    "TensorMetadata": (
        *("name", "description", "dimension_names", "content", "process_units", "stats"),
        "associated_files",
    ),
    "Content": ("content_properties_type", "content_properties", "range"),
    "FeatureProperties": (),
    "ImageProperties": ("color_space", "default_size"),
    "ProcessUnit": ("options_type", "options"),
    "NormalizationOptions": ("mean", "std"),
    "Stats": ("max", "min"),
    "AssociatedFile": ("name", "description", "type", "locale", "version"),
}

# Values of enumerations and of the type fields of unions; all of them are one byte wide.
_AXIS_LABELS = 2
_RGB = 1
_FEATURE, _IMAGE = 1, 2
_NORMALIZATION = 1
_BYTES = ("content_properties_type", "color_space", "options_type", "type")

# The places of fields of a model's root (https://github.com/tensorflow/tensorflow/blob/master/
# tensorflow/lite/schema/schema.fbs): its version, a number, and two of its vectors. All the other
# fields are offsets.
_VERSION, _BUFFERS, _METADATA = 0, 4, 6

# What the schema asks for buffers; the old file is moved by a multiple of it.
_ALIGNMENT = 16


def described(file: bytes, model: TransferModel, origin: Origin) -> bytes:
    """Returns a converted ``.tflite`` file with labels, scaling and origin in it.

    The inputs are pictures in [0, 255] and are told to be left so: scaling is inside the network.

    Raises:
        ValueError: The file is no model, or no output has one value per class.
    """
    from ai_edge_litert import schema_py_generated as schema

    if not schema.Model.ModelBufferHasIdentifier(file, 0):
        raise ValueError("What the converter gave is not a TFLite model: no TFL3 at its beginning.")
    parsed: Any = schema.Model.GetRootAs(file)
    graph, signature = parsed.Subgraphs(0), parsed.SignatureDefs(0)
    mapped = [signature.Outputs(i) for i in range(signature.OutputsLength())]
    names = {output.TensorIndex(): output.Name().decode() for output in mapped}
    places = [graph.Outputs(i) for i in range(graph.OutputsLength())]
    widths = {names[place]: int(graph.Tensors(place).ShapeAsNumpy()[-1]) for place in places}
    labelled = [name for name, width in widths.items() if width == len(model.classes)]
    if not labelled:
        raise ValueError(
            f"The model has {len(model.classes)} classes, but its outputs end in "
            f"{', '.join(f'{width} ({name})' for name, width in widths.items())} values; "
            "labels can be attached only to an output with one value per class."
        )
    whole = _with_buffer(file, _NAME, _written(origin.texts(model), list(widths), labelled))
    return _with_file(whole, LABELS, "".join(f"{name}\n" for name in model.classes))


def _written(texts: dict[str, str], outputs: Sequence[str], labelled: Sequence[str]) -> bytes:
    """Returns the flatbuffer of the metadata."""
    make = _Tables()
    label_files = {
        name: [make("AssociatedFile", name=LABELS, type=_AXIS_LABELS)] for name in labelled
    }
    picture = make(
        "TensorMetadata",
        name="image",
        description="RGB picture, its sides scaled to those of the tensor.",
        content=make(
            "Content",
            content_properties_type=_IMAGE,
            content_properties=make("ImageProperties", color_space=_RGB),
        ),
        process_units=[
            make(
                "ProcessUnit",
                options_type=_NORMALIZATION,
                # (pixel - mean) / std, pixels in [0, 255]: as they are.
                options=make("NormalizationOptions", mean=[0.0], std=[1.0]),
            )
        ],
        stats=make("Stats", max=[255.0], min=[0.0]),
    )
    scores = [
        make(
            "TensorMetadata",
            name=name,
            content=make(
                "Content",
                content_properties_type=_FEATURE,
                content_properties=make("FeatureProperties"),
            ),
            **({"associated_files": label_files[name]} if name in label_files else {}),
        )
        for name in outputs
    ]
    graph = make("SubGraphMetadata", input_tensor_metadata=[picture], output_tensor_metadata=scores)
    root = make("ModelMetadata", **texts, subgraph_metadata=[graph], min_parser_version=_PARSER)
    return make.finished(root, b"M001")


def _with_buffer(file: bytes, name: str, data: bytes) -> bytes:
    """Returns a model file with one more named buffer.

    A new root is put before the old file, which stays as it was, byte for byte and as aligned: the
    functions generated from the schema would pack it anew, float weights at odd addresses.
    """
    from flatbuffers import Builder, encode, number_types
    from flatbuffers.table import Table

    builder = Builder(len(file) + len(data) + 4096)
    # A place counts from the end. Before its bytes a vector keeps four more with its length.
    begin = builder.CreateByteVector(file + bytes(-len(file) % _ALIGNMENT)) - 4
    root = Table(file, encode.Get(number_types.UOffsetTFlags.packer_type, file, 0))

    def pointed(place: int) -> int:
        return begin - root.Indirect(place)

    def pointed_by(vector: int) -> list[int]:
        start = root.Vector(vector)
        return [pointed(start + 4 * i) for i in range(root.VectorLen(vector))]

    table_of_fields = root.Pos - root.Get(number_types.SOffsetTFlags, root.Pos)
    count = (root.Get(number_types.VOffsetTFlags, table_of_fields) - 4) // 2
    fields = {slot: root.Offset(4 + 2 * slot) for slot in range(max(count, _METADATA + 1))}
    version = root.Get(number_types.Uint32Flags, root.Pos + fields.pop(_VERSION))
    buffers = pointed_by(fields[_BUFFERS])
    entries = pointed_by(fields[_METADATA]) if fields[_METADATA] else []
    told = {slot: pointed(root.Pos + place) for slot, place in fields.items() if place}

    builder.StartVector(1, len(data), _ALIGNMENT)
    for byte in reversed(data):
        builder.PrependByte(byte)
    content, text = builder.EndVector(), builder.CreateString(name)
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, content, 0)
    buffer = builder.EndObject()
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(0, text, 0)
    builder.PrependUint32Slot(1, len(buffers), 0)
    entry = builder.EndObject()
    told[_BUFFERS] = _vector(builder, [*buffers, buffer])
    told[_METADATA] = _vector(builder, [*entries, entry])
    builder.StartObject(max(count, _METADATA + 1))
    builder.PrependUint32Slot(_VERSION, version, 0)
    for slot, offset in told.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    builder.Finish(builder.EndObject(), b"TFL3")
    return bytes(builder.Output())


def _with_file(model: bytes, name: str, text: str) -> bytes:
    """Returns a model file with an uncompressed zip archive of one file after it."""
    whole = io.BytesIO(model)
    with zipfile.ZipFile(whole, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), text)  # Of 1980: equal models are equal files.
    return whole.getvalue()


class _Tables:
    """Writes tables of the metadata schema by the names of their fields."""

    def __init__(self) -> None:
        from flatbuffers import Builder

        self.builder: Any = Builder(1024)

    def __call__(self, kind: str, **fields: Any) -> int:
        """Returns where the new table is."""
        builder, names = self.builder, _TABLES[kind]
        kept = {names.index(name): self._kept(value) for name, value in fields.items()}
        builder.StartObject(len(names))
        for slot, value in kept.items():
            if names[slot] in _BYTES:
                builder.PrependUint8Slot(slot, value, 0)
            else:
                builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        return builder.EndObject()

    def finished(self, root: int, identifier: bytes) -> bytes:
        """Returns the whole flatbuffer."""
        self.builder.Finish(root, identifier)
        return bytes(self.builder.Output())

    def _kept(self, value: str | int | list[Any]) -> int:
        """Returns a byte or the place of a table as it is, the place of anything else."""
        match value:
            case str():
                return self.builder.CreateString(value)
            case [float(), *_]:
                return self.builder.CreateNumpyVector(np.array(value, np.float32))
            case list():
                return _vector(self.builder, value)
            case _:
                return value


def _vector(builder: Any, places: Sequence[int]) -> int:
    """Returns where a new vector of tables is."""
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    return builder.EndVector()
