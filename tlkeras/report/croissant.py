"""Croissant: metadata of the data in JSON-LD, as search engines and loaders of data sets read it.

The form is Croissant 1.0, https://docs.mlcommons.org/croissant/docs/croissant-spec.html, with the
vocabulary of its extension for responsible AI. The files are those of the product `examples` in the
store: TFRecords, of which Croissant has no reader, so the fields are described and not extracted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tlkeras.report import figures
from tlkeras.report.evidence import Evidence

FILE = "croissant.json"

_OWN = (
    *("citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty"),
    *("fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField"),
    *("path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate"),
    *("separator", "source", "subField", "transform"),
)

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    **{name: f"cr:{name}" for name in _OWN},
}
"""The context that the specification gives, and that its readers compare with."""


def croissant(evidence: Evidence) -> dict[str, Any]:
    """Returns the metadata, JSON-ready; what nobody has stated is left out."""
    stated, made = evidence.data_details, evidence.made("examples")
    source = evidence.configuration.get("source", "examples")
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": re.sub(r"[^\w-]+", "-", source.partition("(")[0]) or "examples",
        "description": stated.purpose or f"Examples read from {source}.",
        **_stated(
            {
                "license": stated.licence,
                "creator": {"@type": "Organization", "name": stated.creators}
                if stated.creators
                else None,
                # When these metadata were made: nobody said when the data were published.
                "sdDatePublished": made.get("finished", "")[:10],
                # Equal data have equal versions; as in semantic versioning, none is the next.
                "version": f"0.0.0+{made['digest'][:12]}" if made else "",
                "rai:dataCollection": " ".join(filter(None, [stated.collection, stated.consent])),
                "rai:dataAnnotationProtocol": stated.labelling,
                "rai:dataUseCases": stated.uses,
                "rai:dataReleaseMaintenancePlan": stated.upkeep,
                "rai:personalSensitiveInformation": stated.people,
                "rai:dataPreprocessingProtocol": " ".join(_cleaning(evidence)),
            }
        ),
        "distribution": [*_files(made)],
        "recordSet": [*_records(evidence)],
    }


def _stated(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def _cleaning(evidence: Evidence) -> Iterator[str]:
    yield from evidence.beside
    words, split = figures.cut(evidence.data)
    if words:
        yield f"The examples are {words}{split}."
    if evidence.left_out:
        counted = ", ".join(f"{count:,} of {word}" for word, count in evidence.left_out.items())
        yield f"Left out as unusable: {counted}."


def _files(made: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, digest in made.get("files", {}).items():
        if name.endswith(".tfrecord"):
            yield {
                "@type": "cr:FileObject",
                "@id": name,
                "name": name,
                "contentUrl": f"examples/{name}",
                "encodingFormat": "application/x-tfrecord",
                "sha256": digest,
            }


def _records(evidence: Evidence) -> Iterator[dict[str, Any]]:
    """Yields the sets of records that are whole in the file: the classes, and the splits."""
    if classes := evidence.data.get("classes"):
        yield _enumeration("classes", "Names of the classes, by their numbers.", classes)
    if counts := evidence.counts:
        described = ", ".join(f"{split} has {count:,} examples" for split, count in counts.items())
        yield _enumeration("splits", f"Splits: {described}.", [*counts])


def _enumeration(name: str, description: str, names: Sequence[str]) -> dict[str, Any]:
    fields = {"number": "sc:Integer", "name": "sc:Text"}
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": description,
        "dataType": "sc:Enumeration",
        "key": {"@id": f"{name}/number"},
        "field": [
            {"@type": "cr:Field", "@id": f"{name}/{field}", "name": field, "dataType": kind}
            for field, kind in fields.items()
        ],
        "data": [
            {f"{name}/number": number, f"{name}/name": each} for number, each in enumerate(names)
        ],
    }
