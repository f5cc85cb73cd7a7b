"""Texts as the doctor sees them: their traits, and which are odd."""

from __future__ import annotations

import array
import functools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tlkeras.doctor import sketches
from tlkeras.doctor.traits import Traits

# A tag of HTML or XML, and an entity.
_MARKUP = re.compile(r"</?[A-Za-z][^<>]{0,500}>|<!--.*?-->|&(?:[A-Za-z]\w{1,30}|#\d{1,7});", re.S)

# No text needs these: control characters, and the sign in place of a lost one.
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]")

# A shorter text, or one less sure, may be of any language: with these, py3langid 0.4 takes none of
# 3,286 English sentences and messages for another one.
_TELLING, _SURE = 40, 0.9
_READ = 1_000  # Characters that are enough to tell a language.

_MARKED = 0.02  # The least share of markup that counts.
_ENOUGH = 20  # Texts that tell what a usual length is.
_TIMES = 4.0  # A long text has so many times the characters of three in four others.

_DIGITS = 4


def traits(text: str) -> dict[str, float | str]:
    """Returns the traits of a text.

    ``characters`` and ``words`` are counts, ``markup`` is the share of the characters in tags and
    entities, ``controls`` counts control characters and those that were lost, ``language`` is a
    code of ISO 639-1 or an empty text, and ``hash`` is that of its sketch, in hexadecimal.
    """
    inside = sum(match.end() - match.start() for match in _MARKUP.finditer(text))
    return {
        "characters": len(text),
        "words": len(text.split()),
        "markup": round(inside / len(text), _DIGITS),
        "controls": len(_CONTROLS.findall(text)),
        "language": _language(text),
        "hash": sketches.sketch(text),
    }


def oddities(traits: Iterable[tuple[str, Traits]]) -> Iterator[tuple[str, str, str]]:
    """Yields ``(id, defect, reason)`` of the texts that are worth a look; see `Kind.oddities`.

    Markup that most texts have is no defect, nor is the language of most texts.
    """
    lengths, marked = array.array("d"), 0
    languages: Counter[str] = Counter()
    for _, each in traits:
        lengths.append(float(each["characters"]))
        marked += float(each["markup"]) >= _MARKED
        languages[str(each["language"])] += 1
    del languages[""]
    usual, count = max(languages.items(), key=lambda item: item[1], default=("", 0))
    if 2 * count <= languages.total():
        usual = ""
    most, is_usual = _longest(lengths), 2 * marked > len(lengths)
    median = np.median(lengths) if lengths else 0.0
    for identity, each in traits:
        if (length := float(each["characters"])) > most:
            yield (
                identity,
                "over-long",
                f"has {length:,.0f} characters, where {median:,.0f} are usual",
            )
        if (share := float(each["markup"])) >= _MARKED and not is_usual:
            yield identity, "markup", f"has {share:.0%} of its characters in tags and entities"
        if usual and (language := str(each["language"])) not in ("", usual):
            yield (
                identity,
                "another language",
                f"is in the language {language!r}, where {count:,} others are in {usual!r}",
            )
        if controls := int(each["controls"]):
            yield (
                identity,
                "control characters",
                f"has {controls:,} control characters or signs in place of lost ones",
            )


def _language(text: str) -> str:
    """Returns the code of the language of a text, or an empty text where it is not sure."""
    if len(text) < _TELLING:
        return ""
    language, share = _identifier().classify(text[:_READ])
    return language if share >= _SURE else ""


@functools.cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _longest(lengths: Sequence[float]) -> float:
    """Returns the length beyond which a text is longer than nearly all others.

    That is Tukey's outer fence of the logarithms, as lengths are skewed.
    """
    if len(lengths) < _ENOUGH:
        return np.inf
    low, high = np.percentile(np.log(lengths), [25, 75])
    return float(np.exp(max(high + 3 * (high - low), high + np.log(_TIMES))))
