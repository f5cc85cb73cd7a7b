"""Card: a model card (Mitchell et al. 2019, https://arxiv.org/abs/1810.03993) in Markdown.

It holds what was measured and what the user has stated, and says of the rest that it was not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tlkeras import spec
from tlkeras.measures import classification
from tlkeras.report import limits
from tlkeras.report.page import number

DETAILS = {
    "description": "The model has not been described.",
    "authors": "The authors have not been stated.",
    "contact": "No contact has been stated.",
    "licence": "No licence has been stated.",
    "citation": "No citation has been stated.",
    "intended_use": "The intended use has not been stated.",
    "out_of_scope": "It has not been stated what the model must not be used for.",
    "ethics": "Ethical considerations have not been stated.",
}
"""What only the user knows, and what the card says where the user has not told it."""


def card(
    name: str,
    *,
    details: Mapping[str, str] | None = None,
    configuration: Mapping[str, str] | None = None,
    command: str = "",
    data: Mapping[str, Any] | None = None,
    measures: Mapping[str, Any] | None = None,
    blessing: Mapping[str, Any] | None = None,
    slices: Mapping[str, Mapping[str, Any]] | None = None,
    exports: Sequence[Mapping[str, Any]] = (),
    lineage: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Returns the card; the parts are in the form in which the pipeline keeps them as JSON.

    Args:
        name: The model's.
        details: Some of `DETAILS`, stated by the user; an empty text is not stated.
        configuration: The text of each option, ``{"backbone": "mobilenet_v2", …}``.
        command: The command line that makes the model again.
        data: The `Info` of the examples.
        measures: What the task's `measure` returned, and the ``split`` they are of.
        blessing: Whether the model was ``blessed``, and the ``reasons`` if not.
        slices: The measures of every group.
        exports: Rows with ``export``, ``files``, ``bytes`` and what was measured of each.
        lineage: The manifests of the products, in the order made.

    Raises:
        ValueError: A detail that a card does not have.
    """
    stated, data, measures = details or {}, data or {}, measures or {}
    for key in stated:
        if key not in DETAILS:
            raise ValueError(f"A card has no detail {key!r}; {spec.nearest(key, [*DETAILS])}")
    told = {key: plain(stated[key]) if stated.get(key) else DETAILS[key] for key in DETAILS}
    found = limits.found(measures, blessing or {}, data, exports)
    sections = {
        "Model details": _model(told, configuration or {}, lineage),
        "Intended use": [told["intended_use"], told["out_of_scope"]],
        "Data": _data(data, configuration or {}),
        "Evaluation": _evaluation(measures, blessing or {}),
        "Groups": _slices(slices or {}),
        "Classes": _classes(measures),
        "Limitations": _limitations(found, measures, slices or {}),
        "Ethical considerations": [told["ethics"]],
        "Exports": _exports(exports, data),
        "Reproduction": _reproduction(command),
        "Lineage": _lineage(lineage),
    }
    blocks = [f"# Model card: {plain(name)}"]
    for heading, lines in sections.items():
        if written := [line for line in lines if line]:
            blocks += [f"## {heading}", *written]
    return "\n\n".join(blocks) + "\n"


def plain(text: str) -> str:
    """Returns a text that Markdown shows as it is, on one line."""
    words = " ".join(text.split())
    words = words.encode("utf-8", "replace").decode()  # File names can be any bytes.
    return re.sub(r"([\\`*_\[\]<>#~&])", r"\\\1", words)


def code(text: str) -> str:
    """Returns a text as code within a line."""
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if "`" in text else ""
    return f"{ticks}{pad}{' '.join(text.split())}{pad}{ticks}"


def _model(
    told: Mapping[str, str],
    configuration: Mapping[str, str],
    lineage: Sequence[Mapping[str, Any]],
) -> Iterator[str]:
    yield told["description"]
    told_first = [told[key] for key in ("authors", "contact", "licence", "citation")]
    names = ("Authors", "Contact", "Licence", "Citation")
    yield "\n".join(f"- {name}: {text}" for name, text in zip(names, told_first, strict=True))
    fitted = [made for made in lineage if made["step"] == "model" and "finished" in made]
    if fitted:
        again = (
            ", not counting an earlier run that it went on from"
            if fitted[-1].get("resumed")
            else ""
        )
        yield f"Fitted {fitted[-1]['finished']} in {fitted[-1]['seconds']:.0f} seconds{again}."
    rows = [(plain(option), code(text)) for option, text in configuration.items()]
    yield _table(("option", "value"), rows)


def _data(data: Mapping[str, Any], configuration: Mapping[str, str]) -> Iterator[str]:
    if "source" in configuration:
        yield f"From {code(configuration['source'])}."
    if not data:
        yield "The data was not described."
        return
    if data.get("split"):
        yield f"Cut by {code(data['split'])}."
    counts, by_class = data["counts"], data.get("class_counts") or {}
    rows = [("all", *counts.values())]
    for place, name in enumerate(data.get("classes", ()) if by_class else ()):
        row = (by_class[split][place] if split in by_class else None for split in counts)
        rows.append((plain(name), *row))
    yield _table(("class", *counts), rows)


def _evaluation(measures: Mapping[str, Any], blessing: Mapping[str, Any]) -> Iterator[str]:
    if not measures:
        yield "The model was not evaluated."
        return
    if measures.get("split"):
        examples = f"{measures['count']:,} examples" if "count" in measures else "examples"
        yield f"Measured on the {examples} of the split `{measures['split']}`."
    rows = []
    for name, value in measures.items():
        if isinstance(value, float):
            low, high = measures.get(f"{name}_interval", (None, None))
            spread = "" if low is None else f"{low:.4f} to {high:.4f}"
            rows.append((name.replace("_", " "), value, spread))
    yield _table(("measure", "value", "95 % interval"), rows)
    if guess := limits.guess(measures):
        name, share = guess
        yield f"Always answering the most frequent class, {plain(name)}, would reach {share:.4f}."
    if blessing:
        word = "passed" if blessing["blessed"] else "did not pass"
        yield f"The model {word} its thresholds" + (
            f": {plain('; '.join(blessing['reasons']))}." if blessing.get("reasons") else "."
        )


def _slices(slices: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    names = classification.single(slices.values())
    rows = [(plain(group), *map(measures.get, names)) for group, measures in slices.items()]
    yield _table(("group", *(name.replace("_", " ") for name in names)), rows)


def _classes(measures: Mapping[str, Any]) -> Iterator[str]:
    found = measures.get("per_class") or [{}]
    rows = [(plain(row["class"]), *[*row.values()][1:]) for row in found if row]
    yield _table([*found[0]], rows)
    if rows:
        yield "0 where undefined: a class that has no example or is never predicted."


def _limitations(
    found: Iterable[str], measures: Mapping[str, Any], slices: Mapping[str, Any]
) -> Iterator[str]:
    if measures:
        yield "\n".join(f"- {plain(line)}" for line in found)
    yield (
        "Not measured: pictures, texts or other data from elsewhere than the source above"
        + ("." if slices else "; groups of people, devices or places on their own.")
    )


def _exports(exports: Sequence[Mapping[str, Any]], data: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        (
            code(row["export"]),
            code(", ".join(row["files"])),
            row.get("bytes"),
            row.get("value"),
            f"{row['difference']:.1e}" if "difference" in row else "",
            row.get("agreement"),
            f"{row['p50_ms']:.2f}" if "p50_ms" in row else "",
        )
        for row in exports
    ]
    primary = next((row["primary"] for row in exports if "primary" in row), "value")
    columns = ["export", "files", "bytes", primary, "largest difference from Keras"]
    yield _table([*columns, "same class as Keras", "median ms"], rows)
    if "image" in (data.get("features") or {}).values():
        names = dict.fromkeys(name for row in exports for name in row["files"])
        for name in names:
            if use := _USES.get(Path(name).suffix or name):
                language, text = use
                yield f"### Use of {plain(name)}"
                yield f"```{language}\n{text.replace('FILE', json.dumps(name))}```"


def _reproduction(command: str) -> Iterator[str]:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", command)), default=0))
    yield f"{fence}sh\n{command}\n{fence}" if command else "The command was not recorded."


def _lineage(lineage: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    rows = [
        (made["step"], code(made.get("key", "")[:12] or "-"), f"{made['seconds']:.1f}")
        if "seconds" in made
        else (made["step"], "-", "")
        for made in lineage
    ]
    yield _table(("product", "key", "seconds"), rows)
    if commits := dict.fromkeys(made["git"] for made in lineage if made.get("git")):
        yield f"Code: {', '.join(map(code, commits))}."
    versions: dict[str, str] = {}
    for made in lineage:
        versions |= made.get("versions", {})
    yield _table(("library", "version"), sorted(versions.items()))


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Returns a table; none if it has no rows."""
    cells = ([number(cell).replace("|", "\\|") for cell in row] for row in rows)
    lines = [columns, ["---"] * len(columns), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if rows else ""


_USES = {
    "saved_model": (
        "python",
        """\
import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

loaded = tf.saved_model.load(FILE)  # Kept, because the signature needs its variables.
picture = ImageOps.exif_transpose(Image.open("picture.jpg")).convert("RGB")
served = loaded.signatures["serving_default"](image=tf.constant(np.asarray(picture)[None]))
for name, value in served.items():
    print(name, value.numpy())
""",
    ),
    ".tflite": (
        "python",
        """\
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

interpreter = Interpreter(FILE)
[given] = interpreter.get_input_details()
height, width = given["shape"][1:3]
picture = ImageOps.exif_transpose(Image.open("picture.jpg")).convert("RGB")
picture = picture.resize((width, height), Image.Resampling.BILINEAR)
run = interpreter.get_signature_runner("serving_default")
for name, value in run(image=np.asarray(picture, given["dtype"])[None]).items():
    scale, zero = run.get_output_details()[name]["quantization"]
    if scale:  # What the bytes mean.
        value = scale * (value.astype("float32") - zero)
    print(name, value)  # In the order of labels.txt.
""",
    ),
    "try": (
        "sh",
        """\
python -m http.server --bind localhost  # In the folder of this card.
# Then open http://localhost:8000/try/ in a browser.
""",
    ),
    ".keras": (
        "python",
        """\
import keras
import numpy as np
from PIL import Image, ImageOps

network = keras.saving.load_model(FILE)
height, width = network.input_shape[1:3]
picture = ImageOps.exif_transpose(Image.open("picture.jpg")).convert("RGB")
picture = picture.resize((width, height), Image.Resampling.BILINEAR)
for name, value in network(np.asarray(picture, "float32")[None]).items():
    print(name, value.numpy())  # In the order of labels.txt.
""",
    ),
    ".onnx": (
        "python",
        """\
import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(FILE)
[given] = session.get_inputs()
height, width = given.shape[1:3]
picture = ImageOps.exif_transpose(Image.open("picture.jpg")).convert("RGB")
picture = picture.resize((width, height), Image.Resampling.BILINEAR)
served = session.run(None, {given.name: np.asarray(picture, "float32")[None]})
for output, value in zip(session.get_outputs(), served, strict=True):
    print(output.name, value)  # In the order of labels.txt.
""",
    ),
}
"""Language and text of how an export is used, by the end of its name or, of a folder, all of it."""
