"""Flatbuffers: tables of the metadata schema, and a model file with another buffer or file.

The functions generated from the schemas need a package of their own, and pack a model anew.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

# The fields of each table in the order of the schema, which numbers them; a union takes two.
_TABLES = {
    "ModelMetadata": (
        *("name", "description", "version", "subgraph_metadata", "author", "license"),
        *("associated_files", "min_parser_version"),
    ),
    "SubGraphMetadata": (
        *("name", "description", "input_tensor_metadata", "output_tensor_metadata"),
        *("associated_files", "input_process_units", "output_process_units"),
        *("input_tensor_groups", "output_tensor_groups"),
    ),
    "TensorGroup": ("name", "tensor_names"),
    "TensorMetadata": (
        *("name", "description", "dimension_names", "content", "process_units", "stats"),
        "associated_files",
    ),
    "Content": ("content_properties_type", "content_properties", "range"),
    "ValueRange": ("min", "max"),
    "FeatureProperties": (),
    "ImageProperties": ("color_space", "default_size"),
    "BoundingBoxProperties": ("index", "type", "coordinate_type"),
    "ProcessUnit": ("options_type", "options"),
    "NormalizationOptions": ("mean", "std"),
    "ScoreThresholdingOptions": ("global_score_threshold",),
    "BertTokenizerOptions": ("vocab_file",),
    "Stats": ("max", "min"),
    "AssociatedFile": ("name", "description", "type", "locale", "version"),
}

# Fields of one byte: enumerations, and the types of unions.
_BYTES = ("content_properties_type", "color_space", "options_type", "type")

# The places of fields of a model's root (https://github.com/tensorflow/tensorflow/blob/master/
# tensorflow/lite/schema/schema.fbs): its version, a number, and two of its vectors. All the other
# fields are offsets.
_VERSION, _BUFFERS, _METADATA = 0, 4, 6

# The alignment of buffers in the schema; the old file moves by a multiple of it.
_ALIGNMENT = 16


def with_buffer(file: bytes, name: str, data: bytes) -> bytes:
    """Returns a model file with one more named buffer.

    A new root is put before the old file, which stays as it was, byte for byte and as aligned: the
    functions generated from the schema would pack it anew, float weights at odd addresses.
    """
    from flatbuffers import Builder, encode, number_types
    from flatbuffers.table import Table

    builder = Builder(len(file) + len(data) + 4096)
    # A place counts from the end. A vector begins with four bytes of its length.
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
    places = {slot: pointed(root.Pos + place) for slot, place in fields.items() if place}

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
    places[_BUFFERS] = _vector(builder, [*buffers, buffer])
    places[_METADATA] = _vector(builder, [*entries, entry])
    builder.StartObject(max(count, _METADATA + 1))
    builder.PrependUint32Slot(_VERSION, version, 0)
    for slot, offset in places.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    builder.Finish(builder.EndObject(), b"TFL3")
    return bytes(builder.Output())


def with_file(model: bytes, name: str, text: str) -> bytes:
    """Returns a model file with one more file in the uncompressed zip archive after it."""
    whole = io.BytesIO(model)
    with zipfile.ZipFile(whole, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), text)  # Of 1980: equal models are equal files.
    return whole.getvalue()


class Tables:
    """Writes tables of the metadata schema by the names of their fields."""

    def __init__(self) -> None:
        """Begins an empty flatbuffer."""
        from flatbuffers import Builder

        self.builder: Any = Builder(1024)

    def __call__(self, kind: str, **fields: Any) -> int:
        """Returns where the new table is."""
        builder, names = self.builder, _TABLES[kind]
        values = {names.index(name): self._placed(value) for name, value in fields.items()}
        builder.StartObject(len(names))
        for slot, value in values.items():
            if names[slot] in _BYTES:
                builder.PrependUint8Slot(slot, value, 0)
            elif isinstance(value, float):
                builder.PrependFloat32Slot(slot, value, 0.0)
            elif kind == "ValueRange":
                builder.PrependInt32Slot(slot, value, 0)
            else:
                builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        return builder.EndObject()

    def finished(self, root: int, identifier: bytes) -> bytes:
        """Returns the whole flatbuffer."""
        self.builder.Finish(root, identifier)
        return bytes(self.builder.Output())

    def _placed(self, value: str | int | Any) -> int:
        """Returns a number or the place of a table as it is, the place of anything else."""
        match value:
            case str():
                return self.builder.CreateString(value)
            case np.ndarray():
                return self.builder.CreateNumpyVector(value)
            case [float(), *_]:
                return self.builder.CreateNumpyVector(np.array(value, np.float32))
            case [str(), *_]:
                return _vector(self.builder, [self.builder.CreateString(text) for text in value])
            case list():
                return _vector(self.builder, value)
            case _:
                return value


def _vector(builder: Any, places: Sequence[int]) -> int:
    """Returns where a new vector of tables or texts is."""
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    return builder.EndVector()
