"""Explain: what in each example of a data set a pushed model's predictions rest on.

It is not a step of the pipeline. The network of the export ``keras`` is differentiated; no other
export can be.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np
from PIL import Image

from pipeline import batch, bulk_inferrer, flags
from pipeline.batch import Batch, Example
from pipeline.bulk_inferrer import rounded
from pipeline.step import Step
from tlkeras import terminal
from tlkeras.backbone import Backbone
from tlkeras.explaining import explanation
from tlkeras.explaining.explanation import Explain, Explanation
from tlkeras.exporters.keras import Keras
from tlkeras.images import decoding, heat
from tlkeras.measures import measures
from tlkeras.measures.measures import Gallery
from tlkeras.report import page, views
from tlkeras.report.views import Shown
from tlkeras.spec import Spec

FILE, PAGE = "explanations.jsonl", "explanations.html"

MOST = 3
"""So many numbers of an example are explained: the largest, such as the logits of three classes."""

SHOWN = 100
"""So many examples, the first ones, are on the page."""

_SIDE = 1024  # Pixels; a larger picture is made smaller for its heat.


class Explaining(Spec, name="explaining"):
    """The settings of explanations."""

    batch_size: Annotated[int, "Examples per batch."] = 32

    def validate(self):
        self.require(self.batch_size >= 1, "batch_size", "at least 1")


@Step(behind=bulk_inferrer.behind)
def explanations(
    out: Path,
    *,
    exports: Annotated[Path, "A pushed version, or the product exports, with model.keras."],
    data: Annotated[
        Path, "A folder of files, at any depth, a table of texts, or the product examples."
    ],
    batch_size: int,
) -> None:
    """Writes what the predictions rest on to ``explanations.jsonl``, one object a line.

    Each has an ``id``, as ``predictions.jsonl`` has it, and ``explanations``, that of the largest
    number first: ``of``, the class; ``value``, its logit; and for a picture ``heat``, by how much
    each place speaks for it, rows of columns, for a text ``words``, each with its weight. Heat lies
    over the picture in a PNG file, which ``picture`` names: ``heat/1.jpg.0.png``. An unreadable
    file has ``error`` instead. ``explanations.html`` shows the first hundred examples.
    """
    if why := explanation.unexplained(bulk_inferrer.task_of(exports)):
        raise ValueError(f"Its predictions cannot be explained: {why}.")
    if not (exports / "model.keras").exists():
        raise ValueError(
            f"There is no model.keras in {exports}, the one export that can be differentiated. Run "
            'the pipeline again with --exporters="saved_model|keras"; it trains nothing anew.'
        )
    described = bulk_inferrer.prepared(exports, Keras(), batch_size)
    model = Keras().model(exports, described.backbone, described.task, described.classes)
    explain = explanation.explainer(model, MOST)
    new = batch.of_path(data.absolute(), model.backbone, exports)
    gallery: list[tuple[Shown, Sequence[Explanation]]] = []
    # Bytes of a file name that are not UTF-8 become JSON's own escapes.
    lines = (out / FILE).open("w", encoding="utf-8", errors="backslashreplace")
    with decoding.quiet(), lines as file:
        for example, told in _explained(new, model.backbone, explain, batch_size):
            row = {"error": example.problem} if example.problem else _written(example, told, out)
            file.write(json.dumps({"id": example.identity, **row}, ensure_ascii=False) + "\n")
            if not example.problem and len(gallery) < SHOWN:
                key, kind = next(iter(model.backbone.raw().items()))
                shown = Shown(example.identity, kind.shown(example.values[key]))
                gallery.append((shown, told))
    (out / PAGE).write_text(_page(gallery), encoding="utf-8")


def _explained(
    new: Batch, backbone: Backbone, explain: Explain, batch_size: int
) -> Iterator[tuple[Example, list[Explanation]]]:
    """Yields every example and its explanations, none of one that cannot be read."""
    examples = itertools.chain.from_iterable(
        new.between(backbone, split, 0, count) for split, count in new.counts().items()
    )
    total = sum(new.counts().values())
    shown = iter(terminal.shown(examples, total, "explaining"))
    while some := [*itertools.islice(shown, batch_size)]:
        told = iter(explain([one.values for one in some if not one.problem]))
        for one in some:
            yield one, [] if one.problem else next(told)


def _written(example: Example, told: Sequence[Explanation], out: Path) -> dict[str, Any]:
    """Returns explanations ready for JSON; writes the heat of each over the picture."""
    return {
        "explanations": [
            {"of": one.of, "value": rounded(one.value), **_details(example, one, rank, out)}
            for rank, one in enumerate(told)
        ]
    }


def _details(example: Example, one: Explanation, rank: int, out: Path) -> Mapping[str, Any]:
    if one.heat is None:
        return {"words": [[word, rounded(weight)] for word, weight in one.words]}
    name = f"heat/{example.name}.{rank}.png"
    path = out / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(heat.over(_picture(example), one.heat)).save(path)
    return {"heat": rounded(one.heat), "picture": name}


def _picture(example: Example) -> np.ndarray:
    """Returns the picture of an example, uint8 [h, w, 3], no side longer than `_SIDE`."""
    (encoded,) = example.values.values()
    picture = Image.open(io.BytesIO(encoded)).convert("RGB")
    picture.thumbnail((_SIDE, _SIDE))
    return np.asarray(picture)


def _page(gallery: Sequence[tuple[Shown, Sequence[Explanation]]]) -> str:
    """Returns the page of the first examples."""
    examples = [
        measures.Example(
            number, ", ".join(f"{one.of} {explanation.signed(one.value)}" for one in told)
        )
        for number, (_, told) in enumerate(gallery)
    ]
    known = {number: told for number, (_, told) in enumerate(gallery)}
    view = explanation.gallery(Gallery("Examples", examples, _NOTE), known)
    shown = {number: shown for number, (shown, _) in enumerate(gallery)}
    return page.page("What the predictions rest on", {view.title: views.drawn(view, shown)})


_NOTE = "The number behind a class is a logit; an explanation is of one number."


def command(argv: Sequence[str]) -> NoReturn:
    """Runs ``tlkeras explain``."""
    flags.run_alone(argv, explanations, Explaining)
