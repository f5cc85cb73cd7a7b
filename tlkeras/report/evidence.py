"""Evidence: what a run shows of a model and its data, and what people have stated of them.

Datasheet, bill of materials, metadata, duties and summary are made of it; none asks for the task.
"""

from __future__ import annotations

import ast
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tlkeras import spec
from tlkeras.backbone import Backbone
from tlkeras.exporter import Details
from tlkeras.measures.measures import Measures
from tlkeras.report import limits
from tlkeras.report.page import number
from tlkeras.spec import Spec


class DataDetails(Spec, name="data_details"):
    """What the datasheet says of the data that no file tells; an empty text was not stated."""

    purpose: str = ""
    creators: str = ""
    people: str = ""
    collection: str = ""
    consent: str = ""
    labelling: str = ""
    licence: str = ""
    uses: str = ""
    upkeep: str = ""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What is known of one run.

    Attributes:
        name: The model's.
        details: What people have stated of the model.
        data_details: What they have stated of the data.
        configuration: The text of each option, ``{"backbone": "mobilenet_v2", …}``.
        data: `Info.plain` of the examples.
        left_out: How many examples were left out, by the defect.
        noted: How many are worth a look, by the defect.
        beside: What of the files never goes into the examples, in sentences (`Kind.leaves_out`).
        columns: ``(column, least, median, most)`` of the training examples, or its words.
        measures: Of the model, on one split.
        blessing: Whether the model was ``blessed``, and the ``reasons`` if not.
        exports: Rows with ``export``, ``files``, ``bytes`` and the measures of each.
        lineage: The manifests of the products, in the order of their making.
        answers_classes: Whether the model names classes, see `Task`.
    """

    name: str
    details: Details = dataclasses.field(default_factory=Details)
    data_details: DataDetails = dataclasses.field(default_factory=DataDetails)
    configuration: Mapping[str, str] = dataclasses.field(default_factory=dict)
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
    noted: Mapping[str, int] = dataclasses.field(default_factory=dict)
    beside: Sequence[str] = ()
    columns: Sequence[Sequence[Any]] = ()
    measures: Measures | None = None
    blessing: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    exports: Sequence[Mapping[str, Any]] = ()
    lineage: Sequence[Mapping[str, Any]] = ()
    answers_classes: bool = True

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of examples in each split."""
        return self.data.get("counts", {})

    @property
    def limits(self) -> list[str]:
        """What verdict, measures, data and exports say against the model, see `limits`."""
        return limits.found(
            self.measures, self.blessing, self.data, self.exports, self.answers_classes
        )

    @property
    def quality(self) -> str:
        """How many examples were left out and how many findings there are, in a sentence."""
        left, odd = sum(self.left_out.values()), sum(self.noted.values())
        unusable = (
            "1 example was" if left == 1 else f"{number(left) if left else 'No'} examples were"
        )
        findings = "1 finding is" if odd == 1 else f"{number(odd) if odd else 'no'} findings are"
        return f"{unusable} left out as unusable, and {findings} worth a look."

    @property
    def pretrained(self) -> list[str]:
        """The texts of the networks that, wholly or in part, had been trained before.

        Beside the backbone they are those of the recipe, such as one that reads names of classes.
        """
        texts = [self.configuration.get(option, "") for option in ("backbone", "recipe")]
        backbone, recipe = ([ast.parse(text, mode="eval").body] if text else [] for text in texts)
        networks = [*backbone, *(each for top in recipe for each in _networks(top))]
        return [*dict.fromkeys(ast.unparse(each) for each in networks if _is_trained(each))]

    def made(self, step: str) -> Mapping[str, Any]:
        """Returns the last manifest of a step; an empty one if there is none."""
        return manifest(self.lineage, step)


def manifest(lineage: Sequence[Mapping[str, Any]], step: str) -> Mapping[str, Any]:
    """Returns the last manifest of a step; an empty one if there is none."""
    found = [each for each in lineage if each["step"] == step and "finished" in each]
    return found[-1] if found else {}


def duration(made: Mapping[str, Any]) -> str:
    """Returns how long a step took; if it resumed an earlier run, that this is not counted."""
    rest = ", not counting the earlier run that it resumed" if made.get("resumed") else ""
    return f"{number(round(made['seconds']))} seconds{rest}"


def was_judged(blessing: Mapping[str, Any]) -> bool:
    """Returns whether anything was asked of a model: a bound, or to be as good as another one."""
    asked = [name for name in blessing if name.endswith("_bound") or name[:4] == "max_"]
    return any(blessing.get(name) is not None for name in [*asked, "baseline"])


def verdict(blessing: Mapping[str, Any]) -> str:
    """Returns whether a model passed, in a sentence."""
    if blessing["blessed"] and not was_judged(blessing):
        return "No threshold was set, and the model was compared with no earlier version."
    return f"The model {'passed' if blessing['blessed'] else 'did not pass'} its thresholds."


def _networks(part: ast.AST) -> Iterator[ast.expr]:
    """Yields the networks in the text of a spec."""
    name = part.func if isinstance(part, ast.Call) else part
    if isinstance(part, ast.expr) and ast.unparse(name) in spec.names(Backbone):
        yield part
    else:
        for each in ast.iter_child_nodes(part):
            yield from _networks(each)


def _is_trained(network: ast.expr) -> bool:
    """Returns whether the text of a network names weights, or it has its own, or a part of it."""
    given = network.keywords if isinstance(network, ast.Call) else []
    fields = {each.arg: each.value for each in given}
    if parts := [each for each in fields.values() if isinstance(each, ast.Call | ast.Name)]:
        return any(map(_is_trained, parts))
    return "weights" not in fields or ast.literal_eval(fields["weights"]) is not None


def written(value: Any) -> Any:
    """Returns a JSON value whose texts UTF-8 can hold: names of files may be any bytes."""
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
