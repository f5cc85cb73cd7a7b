"""ModelCard: the report and the model card, written from the products before it."""

from __future__ import annotations

import ast
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline import option, product
from pipeline.step import Step
from tlkeras.data import records
from tlkeras.data.records import Records
from tlkeras.exporter import Details
from tlkeras.report import card as cards
from tlkeras.report import report

_THUMBNAIL = 144  # Pixels.


@Step
def card(
    out: Path,
    *,
    examples: Path,
    anomalies: Path,
    model: Path,
    evaluation: Path,
    infra_blessing: Path,
    name: str,
    details: Details,
) -> None:
    """Writes ``report.html``, everything to look at, and ``card.md``, the model card."""
    measures, blessing = (_read(evaluation / f"{name}.json") for name in ("metrics", "blessing"))
    info = dataclasses.asdict(records.info(examples))
    exported = _read(infra_blessing / "infra.json")
    lineage = _lineage(anomalies, infra_blessing)
    options = _options(lineage) | {"baseline": blessing["baseline"] or "none"}
    # Where the baseline lay is of this machine, and what it changes is the blessing alone.
    asked = options | {"baseline": "none"}
    words = ["tlkeras", *(f"--{key}={text}" for key, text in asked.items())]
    command = option.quoted(words)
    contents = report.Report(
        title=name,
        measures=measures,
        blessing=blessing,
        logs=_read(model / "logs.json"),
        exports=exported,
        mistakes=_mistakes(examples, measures["split"], _read(evaluation / "mistakes.json")),
        data=info,
        command=command,
        lineage=lineage,
    )
    report.write(out / "report.html", contents)
    text = cards.card(
        name,
        details={key: getattr(details, key) for key in cards.DETAILS},
        configuration=options,
        command=command,
        data=info,
        measures=measures,
        blessing=blessing,
        exports=exported,
        lineage=lineage,
    )
    (out / "card.md").write_text(text, encoding="utf-8")


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _mistakes(examples: Path, split: str, kept: list[dict[str, Any]]) -> list[report.Mistake]:
    """Returns the mistakes with small versions of their pictures."""
    rows = Records(examples, split)
    found = []
    for told in kept:
        index = told.pop("index")
        held = records.values(rows.read([index])[0])
        (identity,), (encoded,) = held["id"], held["image"]
        with Image.open(io.BytesIO(encoded)) as picture:
            small = picture.convert("RGB")
        small.thumbnail((_THUMBNAIL, _THUMBNAIL))
        small.info.clear()  # A comment in the picture need not be for all who see the report.
        file = io.BytesIO()
        small.save(file, "JPEG", quality=85)
        found.append(report.Mistake(file.getvalue(), id=identity.decode(errors="replace"), **told))
    return found


def _lineage(*products: Path) -> list[dict[str, Any]]:
    """Returns the manifests of products and of all they were made of, each once, oldest first.

    Of a product that was removed from the store since there is none.
    """
    made = [entry for entry in product.lineage(*products) if "asked" in entry]
    return sorted(made, key=lambda entry: entry["started"])


def _options(lineage: list[dict[str, Any]]) -> dict[str, str]:
    """Returns the text of every option that the products depend on, in full."""
    fields: dict[str, str] = {}
    for entry in lineage:
        if entry["step"] == "resolved":
            continue  # Found again by its contents: another run may have asked for it otherwise.
        fields |= {name: told["value"] for name, told in entry["asked"]["fields"].items()}
    return {
        name: ast.literal_eval(text) if text[0] in "'\"" else text for name, text in fields.items()
    }
