"""Libraries: the licences of what ran, as the installed packages declare them."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Mapping
from typing import Any

UNKNOWN = "not declared"

# The fields of core metadata that name a licence, best first: an SPDX expression (PEP 639), a
# classifier, and a free text, of which some packages put in the whole licence.
_EXPRESSION = re.compile(r"^License-Expression: (.+)$", re.M)
_CLASSIFIER = re.compile(r"^Classifier: License :: (?:OSI Approved :: )?(.+)$", re.M)
_TEXT = re.compile(r"^License: (.{1,60})$(?!\n )", re.M)
_PATTERNS = (_EXPRESSION, _CLASSIFIER, _TEXT)


def versions(lineage: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Returns the version of every library that made one of the products, by its name, sorted."""
    found: dict[str, str] = {}
    for made in lineage:
        found |= made.get("versions", {})
    return dict(sorted(found.items(), key=lambda each: each[0].lower()))


def licences(of: Mapping[str, str]) -> dict[str, str]:
    """Returns the declared licence of libraries by name, or `UNKNOWN`.

    A library of another version than the installed one, or of another machine, is unknown, too:
    licences change between versions.
    """
    return {name: _licence(name, version) for name, version in of.items()}


def is_expression(name: str) -> bool:
    """Returns whether an installed library declares its licence as an SPDX expression."""
    return bool(_EXPRESSION.search(_declared(name)))


def _licence(name: str, version: str) -> str:
    text = _declared(name)
    if f"\nVersion: {version}\n" not in f"\n{text}\n":
        return UNKNOWN
    named = (" or ".join(dict.fromkeys(pattern.findall(text))) for pattern in _PATTERNS)
    return next(filter(None, named), UNKNOWN)


def _declared(name: str) -> str:
    """Returns the head of a library's metadata; `importlib.metadata` would parse its description.

    The text is empty if the library is not installed.
    """
    try:
        text = importlib.metadata.distribution(name).read_text("METADATA") or ""
    except importlib.metadata.PackageNotFoundError:
        return ""
    return text.partition("\n\n")[0]
