"""Metadata of ``.tflite`` files, for MediaPipe, Android Studio and people.

TFLite Metadata (https://github.com/tensorflow/tflite-support/blob/master/tensorflow_lite_support/
metadata/metadata_schema.fbs) is a flatbuffer of its own: the model's buffer named
``TFLITE_METADATA``. The files that it names are appended to the model as a zip archive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tlkeras.exporter import Origin
from tlkeras.formats import bert_inputs, signature
from tlkeras.formats.flatbuffers import Tables, with_buffer, with_file
from tlkeras.task import Output

if TYPE_CHECKING:
    from tlkeras.model.transfer_model import TransferModel

LABELS = "labels.txt"
"""The attached file: the class names, one a line, in order; it is empty where none is named."""

_NAME = "TFLITE_METADATA"

# The first version of the schema, and that which knows vocabularies.
_PARSER, _PARSER_OF_TEXTS = "1.0.0", "1.1.0"

VOCABULARY = "vocab.txt"
"""The attached file of a text network that MediaPipe can run: the pieces, one a line, in order."""

# Values of enumerations and of the type fields of unions.
_AXIS_LABELS, _VALUE_LABELS = 2, 3
_RGB, _GREY = 1, 2
_FEATURE, _IMAGE, _BOX = 1, 2, 3
_BOUNDARIES = 1
_NORMALIZATION, _SCORES, _BERT = 1, 3, 4
_VOCABULARY = 5


class _Tensor(NamedTuple):
    """The metadata of an input or output: the fields of its `Content` and others."""

    content: Callable[[Tables], dict[str, Any]]
    labels: int = _AXIS_LABELS
    fields: Callable[[Tables], dict[str, Any]] = lambda make: {}


def _feature(make: Tables) -> dict[str, Any]:
    return {
        "content_properties_type": _FEATURE,
        "content_properties": make("FeatureProperties"),
    }


def _feature_of_box(make: Tables) -> dict[str, Any]:
    return {**_feature(make), "range": make("ValueRange", min=2, max=2)}


def _boxes(make: Tables) -> dict[str, Any]:
    """Returns that a box is (top, left, bottom, right), where left comes first in the schema."""
    corners = make(
        "BoundingBoxProperties", index=np.array([1, 0, 3, 2], np.uint32), type=_BOUNDARIES
    )
    return {
        "content_properties_type": _BOX,
        "content_properties": corners,
        "range": make("ValueRange", min=2, max=2),
    }


def _abstaining(make: Tables, threshold: float) -> dict[str, Any]:
    """Returns that lower scores are no answer; MediaPipe leaves such classes out."""
    options = make("ScoreThresholdingOptions", global_score_threshold=threshold)
    return {
        "description": f"If no score is at least {threshold:g}, the answer is unknown.",
        "process_units": [make("ProcessUnit", options_type=_SCORES, options=options)],
    }


def _grey(make: Tables) -> dict[str, Any]:
    return {
        "content_properties_type": _IMAGE,
        "content_properties": make("ImageProperties", color_space=_GREY),
        "range": make("ValueRange", min=1, max=2),
    }


def _colours(make: Tables) -> dict[str, Any]:
    return {
        "content_properties_type": _IMAGE,
        "content_properties": make("ImageProperties", color_space=_RGB),
    }


def _pixels(make: Tables) -> dict[str, Any]:
    """Returns that pixels in [0, 255] are left as they are; scaling is inside the network."""
    options = make("NormalizationOptions", mean=[0.0], std=[1.0])
    return {
        "description": "RGB picture, its sides scaled to those of the tensor.",
        "process_units": [make("ProcessUnit", options_type=_NORMALIZATION, options=options)],
    }


INPUTS = {
    "image": _Tensor(_colours, fields=_pixels),
    "text": _Tensor(_feature),
    "vector": _Tensor(_feature),
    "words": _Tensor(_feature),
}
"""The metadata of an input by its `Kind.meaning`."""

OUTPUTS = {
    "scores": _Tensor(_feature),
    "vector": _Tensor(_feature),
    "mask": _Tensor(_grey),
    "boxes": _Tensor(_boxes),
    "category": _Tensor(_feature_of_box, _VALUE_LABELS),
    "count": _Tensor(_feature),
    "tokens": _Tensor(_feature),
}
"""The metadata of an output by its `Output.meaning`."""

# What MediaPipe's `ObjectDetector` calls the outputs of these meanings, whatever their own names;
# all but the count are one group.
_DETECTION = "detection_result"
_OF_BOXES = {
    "boxes": "location",
    "category": "category",
    "scores": "score",
    "count": "number of detections",
}


def require(model: TransferModel) -> None:
    """Checks that the inputs and outputs of a model have metadata.

    Raises:
        ValueError: One of a meaning without a row in `INPUTS` or `OUTPUTS`.
    """
    for key, kind in model.backbone.raw().items():
        if kind.meaning not in INPUTS:
            raise ValueError(
                f"A .tflite file has no metadata for the input {key!r} of {model.backbone.name}: "
                f"{kind.meaning!r}, expected one of {', '.join(INPUTS)}; take another exporter."
            )
    for output in model.task.outputs():
        if output.meaning not in OUTPUTS:
            raise ValueError(
                f"A .tflite file has no metadata for the output {output.name!r} of "
                f"{model.task.name}: {output.meaning!r}, expected one of {', '.join(OUTPUTS)}; "
                "take another exporter."
            )


def described(file: bytes, model: TransferModel, origin: Origin) -> bytes:
    """Returns a converted ``.tflite`` file with meanings, class names and origin in it.

    Raises:
        ValueError: The file is no model; `require` refuses the model; `Task.outputs` lacks an
            output; an output with class names has not one value for each class.
    """
    from ai_edge_litert import schema_py_generated as schema

    if not schema.Model.ModelBufferHasIdentifier(file, 0):
        raise ValueError("The converter wrote no TFLite model: there is no TFL3 at its beginning.")
    require(model)
    parsed: Any = schema.Model.GetRootAs(file)
    graph, entrance = parsed.Subgraphs(0), parsed.SignatureDefs(0)
    inputs = _names(entrance.Inputs, entrance.InputsLength())
    outputs = _names(entrance.Outputs, entrance.OutputsLength())
    kinds = model.backbone.raw()
    sent = {inputs[graph.Inputs(i)]: graph.Inputs(i) for i in range(graph.InputsLength())}
    served = {outputs[graph.Outputs(i)]: graph.Outputs(i) for i in range(graph.OutputsLength())}
    declared = {output.name: output for output in model.task.outputs()}
    for name, place in served.items():
        if name not in declared:
            raise ValueError(
                f"{model.task.name} serves {name!r} and its outputs() has only "
                f"{', '.join(declared)}."
            )
        values = int(graph.Tensors(place).ShapeAsNumpy()[-1])
        on_axis = OUTPUTS[declared[name].meaning].labels == _AXIS_LABELS
        names = (*declared[name].others, *model.classes)
        if declared[name].labelled and on_axis and values != len(names):
            raise ValueError(
                f"The model has {len(names)} classes, but its output {name!r} ends in "
                f"{values} values; class names belong to an output with one value for each class."
            )
    pieces = (
        bert_inputs.vocabulary(model.backbone, model.task)
        if {*sent} == {*bert_inputs.NAMES}
        else ()
    )
    written = _Metadata(
        {name: kinds[name].meaning if name in kinds else "vector" for name in sent},
        {name: kinds[name].span for name in sent if name in kinds},
        [declared[name] for name in served],
        _descriptions(model, sent),
        bool(pieces),
    )
    whole = with_buffer(file, _NAME, written.packed(origin.texts(model)))
    labels = {LABELS: model.task.named_classes(model.classes)} | {
        _labels(output): (*output.others, *model.classes)
        for output in declared.values()
        if output.others
    }
    if pieces:
        labels[VOCABULARY] = pieces
    for file_name, names in labels.items():
        whole = with_file(whole, file_name, "".join(f"{name}\n" for name in names))
    return whole


def _descriptions(model: TransferModel, sent: Iterable[str]) -> dict[str, str]:
    """Returns what inputs hold, by their names, where the name of a kind does not say so."""
    names = {*sent}
    if names == {*bert_inputs.NAMES}:
        return _OF_BERT
    kinds, own = model.backbone.raw(), model.backbone.name
    pictures = {name for name in names & {*kinds} if kinds[name].meaning == "image"}
    made = f"RGB picture, made a square as {own} does, which is not in the file."
    cut = f"Made of a text by the tokenizer of {own}, which is not in the file."
    return {
        **dict.fromkeys(() if signature.squashes(model.backbone) else pictures, made),
        **dict.fromkeys(names - pictures if model.backbone.tokenizer else (), cut),
    }


_OF_BERT = {
    bert_inputs.IDS: "Pieces of the text, their places in vocab.txt: [CLS] … [SEP], 0 behind.",
    bert_inputs.MASK: "1 at a piece, 0 behind; not read, the network finds it itself.",
    bert_inputs.SEGMENTS: "0 everywhere, as there is one text; not read.",
}


def _labels(output: Output) -> str:
    """Returns the name of the attached file with the names of an output's values."""
    return f"{output.name}_{LABELS}" if output.others else LABELS


def _names(tensor_map: Callable[[int], Any], count: int) -> dict[int, str]:
    """Returns the names in a signature by the place of the tensor."""
    entries = [tensor_map(i) for i in range(count)]
    return {entry.TensorIndex(): entry.Name().decode() for entry in entries}


class _Metadata(NamedTuple):
    """The tensors of the graph, in its order: meanings and spans of inputs, and outputs."""

    meanings: Mapping[str, str]
    spans: Mapping[str, tuple[float, float] | None]
    outputs: Sequence[Output]
    descriptions: Mapping[str, str]
    has_vocabulary: bool

    def packed(self, texts: Mapping[str, str]) -> bytes:
        """Returns the flatbuffer, with texts of `Origin.texts`."""
        make = Tables()
        inputs, outputs = [], []
        for name, meaning in self.meanings.items():
            row = INPUTS[meaning]
            fields = row.fields(make)
            if description := self.descriptions.get(name):
                fields["description"] = description
            if span := self.spans.get(name):
                fields["stats"] = make("Stats", max=[span[1]], min=[span[0]])
            content = make("Content", **row.content(make))
            inputs.append(make("TensorMetadata", name=name, content=content, **fields))
        for output in self.outputs:
            row = OUTPUTS[output.meaning]
            fields = row.fields(make)
            if output.labelled:
                labels = make("AssociatedFile", name=_labels(output), type=row.labels)
                fields["associated_files"] = [labels]
            if output.abstains_below:
                fields |= _abstaining(make, output.abstains_below)
            content = make("Content", **row.content(make))
            name = self._name(output)
            outputs.append(make("TensorMetadata", name=name, content=content, **fields))
        graph = make(
            "SubGraphMetadata",
            input_tensor_metadata=inputs,
            output_tensor_metadata=outputs,
            **self._groups(make),
            **self._units(make),
        )
        parser = _PARSER_OF_TEXTS if self.has_vocabulary else _PARSER
        root = make("ModelMetadata", **texts, subgraph_metadata=[graph], min_parser_version=parser)
        return make.finished(root, b"M001")

    def _finds_boxes(self) -> bool:
        return any(output.meaning == "boxes" for output in self.outputs)

    def _name(self, output: Output) -> str:
        names = _OF_BOXES if self._finds_boxes() else {}
        return names.get(output.meaning, output.name)

    def _units(self, make: Tables) -> dict[str, Any]:
        if not self.has_vocabulary:
            return {}
        file = make("AssociatedFile", name=VOCABULARY, type=_VOCABULARY)
        options = make("BertTokenizerOptions", vocab_file=[file])
        return {"input_process_units": [make("ProcessUnit", options_type=_BERT, options=options)]}

    def _groups(self, make: Tables) -> dict[str, Any]:
        if not self._finds_boxes():
            return {}
        grouped = ("boxes", "category", "scores")
        names = [self._name(output) for output in self.outputs if output.meaning in grouped]
        return {"output_tensor_groups": [make("TensorGroup", name=_DETECTION, tensor_names=names)]}
