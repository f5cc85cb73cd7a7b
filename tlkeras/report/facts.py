"""Facts: by name, sentences that are true of a run, for the rows of ``duties.json``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from tlkeras.report import figures, libraries
from tlkeras.report.evidence import Evidence, duration, verdict
from tlkeras.report.page import number


def _use(evidence: Evidence) -> Iterator[str]:
    stated = evidence.details
    yield _said("The intended use is stated", stated.intended_use, "intended use")
    if stated.out_of_scope:
        yield f"What it must not be used for is stated: “{stated.out_of_scope}”"


def _said(before: str, text: str, what: str) -> str:
    return f"{before}: “{text}”" if text else f"Nobody stated the {what}."


def _purpose(evidence: Evidence) -> Iterator[str]:
    text = evidence.data_details.purpose
    yield _said("Why the data were gathered is stated", text, "purpose of the data")


def _people(evidence: Evidence) -> Iterator[str]:
    text = evidence.data_details.people
    yield _said("Of people in the data it is stated", text, "people whom the data are about")


def _consent(evidence: Evidence) -> Iterator[str]:
    text = evidence.data_details.consent
    yield _said("Of consent it is stated", text, "consent of people concerned, or another ground")


def _upkeep(evidence: Evidence) -> Iterator[str]:
    text = evidence.data_details.upkeep
    yield _said("Who keeps the data, and how long, is stated", text, "time for which data are kept")


def _features(evidence: Evidence) -> Iterator[str]:
    if features := evidence.data.get("features"):
        yield f"Of each example the store keeps its id and: {', '.join(features)}."


def _beside(evidence: Evidence) -> Iterator[str]:
    yield from evidence.beside


def _unsearched(evidence: Evidence) -> Iterator[str]:
    if features := evidence.data.get("features"):
        yield f"Nothing searched the content of {', '.join(features)} for it."


def _excluded(evidence: Evidence) -> Iterator[str]:
    if (listed := evidence.configuration.get("exclude_ids", "None")) != "None":
        yield f"The examples listed by {listed} were excluded."


def _quality(evidence: Evidence) -> Iterator[str]:
    yield evidence.quality


def _erasure(evidence: Evidence) -> Iterator[str]:
    yield (
        "tlkeras forget removes every product that was made of an example from the store, marks "
        "the pushed versions that saw it, and writes a certificate. The data themselves, and what "
        "a model has learnt, stay until people remove them and train again."
    )


def _lineage(evidence: Evidence) -> Iterator[str]:
    yield "tlkeras lineage names every product and pushed version that saw an example, by its id."


def _records(evidence: Evidence) -> Iterator[str]:
    made = [each for each in evidence.lineage if "finished" in each]
    if made:
        yield (
            f"{len(made)} products are recorded with their options, inputs, digests, versions of "
            "libraries and times; log.jsonl of the store has a line for each."
        )


def _integrity(evidence: Evidence) -> Iterator[str]:
    yield (
        "A pushed version holds the digest of each of its files; tlkeras verify compares them, and "
        "tells whether somebody signed them."
    )


def _measures(evidence: Evidence) -> Iterator[str]:
    if found := evidence.measures:
        name = found.primary.replace("_", " ")
        text = f"{name} is {figures.value(found.score)}"
        if found.score.interval:
            low, high = map(number, found.score.interval)
            text += f", with 95 % confidence from {low} to {high}"
        yield f"On {number(found.count)} examples of the {found.split or 'measured'} split {text}."


def _bounds(evidence: Evidence) -> Iterator[str]:
    if evidence.blessing:
        yield verdict(evidence.blessing)


def _groups(evidence: Evidence) -> Iterator[str]:
    views = evidence.measures.views if evidence.measures else ()
    if not any(view.title.startswith("Groups") for view in views):
        yield "Nothing was measured by groups of people, devices or places."
    else:
        yield "Measures were taken by group."


def _limits(evidence: Evidence) -> Iterator[str]:
    yield "The weaknesses that the measures show are listed."


def _description(evidence: Evidence) -> Iterator[str]:
    yield _said("The model is described", evidence.details.description, "description of the model")
    network, recipe = (evidence.configuration.get(name) for name in ("backbone", "recipe"))
    if network:
        yield f"Its network is {network}."
    if recipe:
        yield "Its recipe and every other option are recorded."


def _parts(evidence: Evidence) -> Iterator[str]:
    if count := len(libraries.versions(evidence.lineage)):
        yield f"{count} libraries are listed with their versions and declared licences."


def _exports(evidence: Evidence) -> Iterator[str]:
    if evidence.exports:
        files = ", ".join(name for row in evidence.exports for name in row["files"])
        yield f"It is shipped as {files}, each with code that uses it."


def _computing(evidence: Evidence) -> Iterator[str]:
    fitted = evidence.made("model")
    if fitted:
        yield f"The training took {duration(fitted)}. Its energy was not measured."
    if platform := fitted.get("platform"):
        yield f"It ran on {platform}."


def _data(evidence: Evidence) -> Iterator[str]:
    if counts := evidence.counts:
        told = ", ".join(f"{number(count)} {split}" for split, count in counts.items())
        yield f"The data are described: {told} examples."


def _drift(evidence: Evidence) -> Iterator[str]:
    yield "tlkeras validate compares new data with those on which the model was measured."


def _repeat(evidence: Evidence) -> Iterator[str]:
    yield "The command that makes the model again is recorded, with the digest of the code."


SHOWN: Mapping[str, Callable[[Evidence], Iterator[str]]] = {
    "use": _use,
    "purpose": _purpose,
    "people": _people,
    "consent": _consent,
    "upkeep": _upkeep,
    "features": _features,
    "beside": _beside,
    "unsearched": _unsearched,
    "excluded": _excluded,
    "quality": _quality,
    "erasure": _erasure,
    "lineage": _lineage,
    "records": _records,
    "integrity": _integrity,
    "measures": _measures,
    "bounds": _bounds,
    "groups": _groups,
    "limits": _limits,
    "description": _description,
    "parts": _parts,
    "exports": _exports,
    "computing": _computing,
    "data": _data,
    "drift": _drift,
    "repeat": _repeat,
}
"""By the names in ``duties.json``, the sentences that are true of a run."""
