"""ONNX: for ONNX Runtime and all that reads its format; needs the extra ``[onnx]``."""

from __future__ import annotations

import importlib.util
import json
import os
from typing import Any

import numpy as np

from tlkeras.exporter import UNSTATED, Exporter, existing, require_fits_one_file
from tlkeras.formats import signature, usage
from tlkeras.frameworks import tf

# The newest that tf2onnx has tested with; every ONNX Runtime since 1.14 of 2023 reads it.
_OPSET = 18

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


class ONNX(Exporter, name="onnx"):
    """One file ``model.onnx``, its class names and origin among its metadata.

    Its inputs are a batch of what `Backbone.preprocess` returns, by their names, and its outputs
    the served ones. Pictures are ``image``, float32 [b, size, size, 3] in [0, 255], scaling inside.
    """

    def validate(self):
        missing = [
            name for name in ("tf2onnx", "onnxruntime") if not importlib.util.find_spec(name)
        ]
        if missing:
            raise ValueError(
                f"The exporter onnx needs {' and '.join(missing)}, which cannot be imported: "
                "pip install 'tlkeras[onnx]'."
            )

    def files(self):
        return ("model.onnx",)

    def fits(self, model):
        require_fits_one_file(self, model)

    def write(self, model, samples, out, origin=UNSTATED):
        out = existing(out)
        import onnx

        self.fits(model)
        specs = signature.specs(model)

        def served(*inputs: Any) -> dict[str, Any]:
            return model.served(
                signature.unnamed(dict(zip(specs, inputs, strict=True)), model.full)
            )

        serve = tf.function(served, input_signature=[*specs.values()])
        _trace_flat(serve)
        converted, _ = _converter().from_function(
            serve, [*specs.values()], opset=_OPSET, custom_op_handlers={"Erfc": (_erfc, [])}
        )
        graph = converted.graph
        # tf2onnx declares constants from outside of the function, such as those of Keras's
        # Normalization, as inputs; it has folded some of them into others.
        inputs = [value for value in graph.input if value.name in specs]
        del graph.input[:]
        graph.input.extend(inputs)
        used = {name for node in graph.node for name in node.input}
        for value, inner in serve.get_concrete_function().graph.captures:
            if inner.name in used and value.dtype != tf.resource:
                graph.initializer.append(onnx.numpy_helper.from_array(value.numpy(), inner.name))
        for value in (*graph.input, *graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
        others = next((each.others for each in model.task.outputs() if each.labelled), ())
        names = [*others, *model.task.named_classes(model.classes)]
        labels = json.dumps(names, ensure_ascii=False)
        onnx.helper.set_model_props(converted, {**origin.texts(model), "labels": labels})
        try:
            onnx.checker.check_model(converted, full_check=True)
        except onnx.checker.ValidationError as error:
            raise ValueError(
                f"{model.backbone.name} cannot be written as ONNX, tf2onnx makes no valid file: "
                f"{' '.join(str(error).split())[:300]}; use another exporter."
            ) from error
        onnx.save(converted, out / "model.onnx")

    def load(self, out):
        return self.load_on(out, 0)  # As many threads as there are cores.

    def load_on(self, out, threads):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(
            out / "model.onnx", options, providers=["CPUExecutionProvider"]
        )
        inputs = [each.name for each in session.get_inputs()]
        outputs = [each.name for each in session.get_outputs()]

        def predict(batch):
            served = session.run(outputs, signature.named(batch, inputs))
            return dict(zip(outputs, served, strict=True))

        return predict

    def usage(self, backbone, task):
        used = usage.of_prepared(backbone, "model.onnx", _USE, _USE_OF_OTHERS)
        return usage.abstaining(usage.labelled(used, task), task)


def _trace_flat(serve: Any) -> None:
    """Traces a function, and those that it calls as a part of it.

    Keras compiles grouped convolutions, such as ConvNeXt's, as functions of their own, which
    tf2onnx cannot read.
    """
    eagerly = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        serve.get_concrete_function()
    finally:
        tf.config.run_functions_eagerly(eagerly)


def _erfc(graph: Any, node: Any, name: str, _: Any) -> None:
    """Writes 1 - erf for what ONNX has no operation of: the exact GELU of ConvNeXt has it."""
    shapes, types = node.output_shapes, node.output_dtypes
    erf = graph.make_node("Erf", node.input, shapes=shapes, dtypes=types)
    one = graph.make_const(f"{name}_one", np.ones([], np.float32))
    graph.remove_node(name)
    graph.make_node(
        "Sub",
        [one.output[0], erf.output[0]],
        name=name,
        outputs=node.output,
        shapes=shapes,
        dtypes=types,
    )


def _converter() -> Any:
    """Returns tf2onnx's converter without the log level of TensorFlow that its import sets."""
    level = os.environ.get(_LEVEL)
    converter = importlib.import_module("tf2onnx.convert")
    if level is None:
        os.environ.pop(_LEVEL, None)
    else:
        os.environ[_LEVEL] = level
    return converter


_USE = """\
import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(FILE)
[tensor] = session.get_inputs()
height, width = tensor.shape[1:3]
picture = Image.fromarray(value).resize((width, height), Image.Resampling.BILINEAR)
served = session.run(None, {tensor.name: np.asarray(picture, "float32")[None]})
for output, value in zip(session.get_outputs(), served, strict=True):
    print(output.name, value)
"""

_USE_OF_OTHERS = """\
import onnxruntime

session = onnxruntime.InferenceSession(FILE)
named = inputs if isinstance(inputs, dict) else {session.get_inputs()[0].name: inputs}
served = session.run(None, {name: tensor.numpy() for name, tensor in named.items()})
for output, value in zip(session.get_outputs(), served, strict=True):
    print(output.name, value)
"""
