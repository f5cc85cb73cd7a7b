"""ONNX: for ONNX Runtime and all that reads its format; needs the extra ``[onnx]``."""

from __future__ import annotations

import importlib.util
import json

from tlkeras.exporter import UNSTATED, Exporter
from tlkeras.frameworks import tf

# The newest that tf2onnx has tested with; every ONNX Runtime since 1.14 of 2023 reads it.
_OPSET = 18


class ONNX(Exporter, name="onnx"):
    """One file ``model.onnx``, its class names and origin among its metadata.

    It takes ``image`` float32 [b, size, size, 3] in [0, 255], scaling inside, and gives the served
    outputs.
    """

    def validate(self):
        missing = [
            name for name in ("tf2onnx", "onnxruntime") if not importlib.util.find_spec(name)
        ]
        if missing:
            raise ValueError(
                f"The exporter onnx needs {' and '.join(missing)}, which cannot be imported; "
                "run pip install 'tlkeras[onnx]'."
            )

    def files(self):
        return ("model.onnx",)

    def write(self, model, samples, out, origin=UNSTATED):
        import onnx
        import tf2onnx

        shape = [None, *model.full.inputs[0].shape[1:]]
        signature = [tf.TensorSpec(shape, tf.float32, name="image")]
        serve = tf.function(model.served, input_signature=signature)
        converted, _ = tf2onnx.convert.from_function(serve, signature, opset=_OPSET)
        for value in (*converted.graph.input, *converted.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
        labels = json.dumps(model.classes, ensure_ascii=False)
        onnx.helper.set_model_props(converted, {**origin.texts(model), "labels": labels})
        onnx.checker.check_model(converted, full_check=True)
        onnx.save(converted, out / "model.onnx")

    def load(self, out):
        import onnxruntime

        session = onnxruntime.InferenceSession(
            out / "model.onnx", providers=["CPUExecutionProvider"]
        )
        names = [output.name for output in session.get_outputs()]

        def predict(inputs):
            return dict(zip(names, session.run(names, {"image": inputs}), strict=True))

        return predict
