"""BOM: the parts of a model, and its card, as a machine-learning bill of materials.

The form is CycloneDX 1.6 in JSON, https://cyclonedx.org/docs/1.6/json/. What nobody has stated is
left out of it: a scanner takes an absent field for unknown, and a sentence for a statement.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from tlkeras.report import libraries
from tlkeras.report.evidence import Evidence

FILE = "bom.cdx.json"
"""The name that the tools of CycloneDX look for."""

_HASH = "SHA-256"


def bom(evidence: Evidence) -> dict[str, Any]:
    """Returns the bill of materials, JSON-ready; equal evidence gives an equal one."""
    model = evidence.made("model")
    versions = libraries.versions(evidence.lineage)
    parts = [*_libraries(versions)]
    held = [*_files(evidence)]
    described = {
        "bom-ref": "model",
        "type": "machine-learning-model",
        "name": evidence.name,
        **_filled(
            version=model.get("digest", "")[:12],
            description=evidence.details.description,
            authors=_named(evidence.details.authors),
            licenses=_named_licence(evidence.details.licence),
            pedigree=_pedigree(evidence),
            components=held,
        ),
        "modelCard": _card(evidence),
    }
    used = ["data", *(part["bom-ref"] for part in parts)]
    digest = model.get("digest", evidence.name)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'tlkeras:{digest}')}",
        "version": 1,
        "metadata": {
            **_filled(timestamp=model.get("finished", "")),
            "tools": {"components": [_tool(versions)]},
            "component": described,
        },
        "components": [_data(evidence), *parts],
        "dependencies": [
            {"ref": "model", "dependsOn": used},
            *({"ref": part} for part in used),
        ],
    }


def _filled(**fields: Any) -> dict[str, Any]:
    """Returns the fields that are not empty."""
    return {name: value for name, value in fields.items() if value}


def _named(name: str) -> list[dict[str, str]]:
    return [{"name": name}] if name else []


def _named_licence(name: str) -> list[dict[str, Any]]:
    """Returns a licence by the name that people gave it: it need not be one of SPDX's."""
    return [{"license": {"name": name}}] if name else []


def _tool(versions: Mapping[str, str]) -> dict[str, str]:
    version = versions.get("tlkeras", "")
    return {"type": "application", "name": "tlkeras", **_filled(version=version)}


def _pedigree(evidence: Evidence) -> dict[str, Any]:
    """Returns the pretrained networks that the model was made from, if it was from any."""
    kind = "machine-learning-model"
    return _filled(ancestors=[{"type": kind, "name": text} for text in evidence.pretrained])


def _files(evidence: Evidence) -> Iterator[dict[str, Any]]:
    """Yields the files of the exports, with the digests of their manifest."""
    for name, digest in evidence.made("exports").get("files", {}).items():
        hashes = [{"alg": _HASH, "content": digest}]
        yield {"bom-ref": f"file:{name}", "type": "file", "name": name, "hashes": hashes}


def _card(evidence: Evidence) -> dict[str, Any]:
    options = evidence.configuration
    parameters = {
        "datasets": [{"ref": "data"}],
        **_filled(
            task=options.get("task", "").partition("(")[0],
            architectureFamily=options.get("backbone", "").partition("(")[0],
            modelArchitecture=options.get("backbone", ""),
        ),
    }
    properties = [
        {"name": f"tlkeras:option:{name}", "value": text} for name, text in options.items()
    ]
    return {
        "modelParameters": parameters,
        **_filled(
            quantitativeAnalysis=_analysis(evidence),
            considerations=_considerations(evidence),
            properties=properties,
        ),
    }


def _analysis(evidence: Evidence) -> dict[str, Any]:
    if not evidence.measures:
        return {}
    metrics = []
    defined = {name: each for name, each in evidence.measures.scalars.items() if each.is_defined}
    for name, scalar in defined.items():
        metric: dict[str, Any] = {
            "type": name,
            "value": str(scalar.value),
            "slice": evidence.measures.split,
        }
        if scalar.interval:
            low, high = map(str, scalar.interval)
            metric["confidenceInterval"] = {"lowerBound": low, "upperBound": high}
        metrics.append(metric)
    return {"performanceMetrics": metrics}


def _considerations(evidence: Evidence) -> dict[str, Any]:
    details = evidence.details
    return _filled(
        useCases=[details.intended_use] if details.intended_use else [],
        technicalLimitations=[
            *evidence.limits,
            *([details.out_of_scope] if details.out_of_scope else []),
        ],
        ethicalConsiderations=_named(details.ethics),
    )


def _data(evidence: Evidence) -> dict[str, Any]:
    stated, made = evidence.data_details, evidence.made("examples")
    counts = [
        {"name": f"tlkeras:examples:{split}", "value": str(count)}
        for split, count in evidence.counts.items()
    ]
    hashes = [{"alg": _HASH, "content": made["digest"]}] if made else []
    source = evidence.configuration.get("source", "examples")
    custodians = [{"organization": {"name": stated.upkeep}}] if stated.upkeep else []
    described = {
        "type": "dataset",
        "name": source,
        **_filled(
            description=stated.purpose,
            sensitiveData=[stated.people] if stated.people else [],
            contents={"properties": counts} if counts else {},
            governance={"custodians": custodians} if custodians else {},
        ),
    }
    more = _filled(licenses=_named_licence(stated.licence), hashes=hashes)
    return {"bom-ref": "data", "type": "data", "name": source, **more, "data": [described]}


def _libraries(versions: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    declared = libraries.licences(versions)
    for name, version in versions.items():
        # The type pypi of a package URL has names in lower case, with hyphens.
        purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
        licence = declared[name]
        licences: list[dict[str, Any]] = []
        if licence != libraries.UNKNOWN:
            is_spdx = libraries.is_expression(name)
            licences = [{"expression": licence}] if is_spdx else _named_licence(licence)
        yield {
            "bom-ref": purl,
            "type": "library",
            "name": name,
            "version": version,
            "purl": purl,
            **_filled(licenses=licences),
        }
