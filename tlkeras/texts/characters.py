"""Characters: what every code point is to the tokenizers that published networks came with.

Networks are trained and served with the `tokenizers` package of Hugging Face. It goes by Unicode 8
for marks, punctuation and controls, and by Unicode 16 for letters and numbers (version 0.23); what
Python goes by depends on its version. So the differences are listed here. There remain 55 capitals
of Unicode 15 and later, whose small letters Python does not know yet; no vocabulary has them.
"""

from __future__ import annotations

import functools
import string
import unicodedata
from collections.abc import Iterator
from typing import Any

import numpy as np

from tlkeras.frameworks import tf
from tlkeras.texts.tables import POINTS, PointTable

SPACE, PUNCTUATION, LETTER, NUMBER, OTHER = range(5)
"""Kinds of characters. BERT knows the first three, and calls a letter what is neither else."""

_REPLACEMENT = 0xFFFD  # What stands for bytes that are not UTF-8.

_NONE = -(2**30)  # Below 0 still when four times a code point is added.

_SPACES = {*map(ord, "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000")}
_SPACES |= {*range(0x2000, 0x200B)}

# Ideographs, which BERT takes for words. Its own list goes on from 2B820; `tokenizers` has 2B920.
_IDEOGRAPHS = "3400-4DBF 4E00-9FFF F900-FAFF 20000-2A6DF 2A700-2B73F 2B740-2B81F 2B920-2CEAF \
2F800-2FA1F"

# Assigned after Unicode 8, as marks, punctuation or controls.
_YOUNG = "5C8-5C9 61D 7FD 890-891 897-89F 8CA-8E2 9FD-9FE A76 AFA-AFF B53-B55 C04 C3C C77 C84 \
D00 D3B-D3C D81 EBA ECE 180F 1885-1886 1ABF-1AF0 1B4E-1B4F 1B7D-1B7F 1DF6-1DFB 2E43-2E4F \
2E52-2E5D 2E60-2E63 A82C A8C5 A8FF A9BD 10D24-10D27 10D69-10D6E 10EAB-10EAD 10ECB-10ED0 \
10EF0-10EFF 10F46-10F50 10F55-10F59 10F82-10F89 11070 11073-11074 110C2 110CD 111CF 1123E 11241 \
1133B 113BB-113C0 113CE 113D0 113D2 113D4-113D5 113D7-113D8 113E1-113E2 11438-1143F 11442-11444 \
11446 1144B-1144F 1145A-1145B 1145D-1145E 11660-1166C 116B9 1182F-11837 11839-1183B 11938 \
1193B-1193C 1193E 11943-11946 119D4-119D7 119DA-119DB 119E0 119E2 11A01-11A0A 11A33-11A38 \
11A3B-11A47 11A51-11A56 11A59-11A5B 11A8A-11A9C 11A9E-11AA2 11B00-11B09 11B60 11B62-11B64 11B66 \
11BE1 11C30-11C36 11C38-11C3D 11C3F 11C41-11C45 11C70-11C71 11C92-11CA7 11CAA-11CB0 11CB2-11CB3 \
11CB5-11CB6 11D31-11D36 11D3A 11D3C-11D3D 11D3F-11D45 11D47 11D90-11D91 11D95 11D97 11DF0 \
11EF3-11EF4 11EF7-11EF8 11F00-11F01 11F36-11F3A 11F40 11F42-11F4F 11F5A 11FFF 12FF1-12FF2 \
13430-13440 13447-13455 1611E-16129 1612D-1612F 16D6D-16D6F 16E97-16E9A 16F4F 16FE2 16FE4 \
1CF00-1CF2D 1CF30-1CF46 1D127-1D128 1D25B-1D25C 1E000-1E006 1E008-1E018 1E01B-1E021 1E023-1E024 \
1E026-1E02A 1E08F 1E130-1E136 1E2AE 1E2EC-1E2EF 1E4EC-1E4EF 1E5EE-1E5EF 1E5FF 1E6E3 1E6E6 \
1E6EE-1E6EF 1E6F5 1E944-1E94A 1E95E-1E95F"
_OTHERWISE = {0x1734: "Mn", 0x1171E: "Mn", 0x166D: "Po", 0x111C9: "Po"}  # In Unicode 8.

# Assigned after Unicode 14, the version of the oldest Python, and not after 16.
_NEW_LETTERS = "1C89-1C8A A7CB-A7CD A7DA-A7DC 105C0-105F3 10D4A-10D65 10D6F-10D85 10EC2-10EC4 \
1123F-11240 11380-11389 1138B 1138E 11390-113B5 113B7 113D1 113D3 11BC0-11BE0 11F02 11F04-11F10 \
11F12-11F33 1342F 13441-13446 13460-143FA 16100-1611D 16D40-16D6C 18CFF 1B132 1B155 1DF25-1DF2A \
1E030-1E06D 1E4D0-1E4EB 1E5D0-1E5ED 1E5F0 2B739 2EBF0-2EE5D 31350-323AF"
_NEW_NUMBERS = "10D40-10D49 116D0-116E3 11BF0-11BF9 11F50-11F59 16130-16139 16D70-16D79 \
1CCF0-1CCF9 1D2C0-1D2D3 1E4F0-1E4F9 1E5F1-1E5FA"


def decoded(texts: Any) -> tuple[Any, Any]:
    """Returns all code points of texts, int32 [n], and the text of each, int32 [n]."""
    points = tf.strings.unicode_decode(texts, "UTF-8", replacement_char=_REPLACEMENT)
    return points.values, tf.cast(points.value_rowids(), tf.int32)


def normalized(points: Any, lowercase: bool, strip_accents: bool, spaced: bool) -> Any:
    """Returns what BERT makes of each character: up to three, int32 [n, 3], the rest below 0.

    Each is a code point times 4 plus its kind. NFD may be taken a character at a time, since the
    marks that it would sort are stripped.

    Args:
        points: Code points, int32 [n].
        lowercase: Whether letters are made small.
        strip_accents: Whether letters lose their marks.
        spaced: Whether every ideograph is a word.
    """
    return _changes(lowercase, strip_accents, spaced)(points) + points[:, None] * 4


def kinds(points: Any) -> Any:
    """Returns the kind of each character, int32 [n], for networks that read bytes."""
    return _kinds()(points)


@functools.cache
def _changes(lowercase: bool, strip_accents: bool, spaced: bool) -> PointTable:
    """Returns what to add to a code point times 4, which most pages have in common."""
    categories = _categories()
    kinds = np.full([POINTS], LETTER)
    kinds[np.char.startswith(categories, "P")] = PUNCTUATION
    kinds[[*map(ord, string.punctuation)]] = PUNCTUATION
    kinds[ord(" ")] = SPACE
    marks = {chr(point) for point in np.flatnonzero(categories == "Mn")}
    ideographs = [*ranges(_IDEOGRAPHS)] if spaced else []

    def normal(character: str) -> str:
        if strip_accents:
            split = unicodedata.normalize("NFD", character)
            character = "".join(c for c in split if c not in marks)
        return "".join(map(str.lower, character)) if lowercase else character

    result = np.full([POINTS, 3], -1)
    result[:, 0] = np.arange(POINTS)
    assigned = ~np.isin(categories, ["Cn", "Co", "Cs"])
    assigned[ideographs] = True
    for point in np.flatnonzero(assigned).tolist():
        character = chr(point)
        # Most stay as they are, and the rest takes longer.
        is_split = character in marks or not unicodedata.is_normalized("NFD", character)
        if is_split or character.lower() != character:
            result[point] = [*map(ord, normal(character)), -1, -1, -1][:3]
    result[ideographs, 1] = result[ideographs, 0]
    result[ideographs, ::2] = ord(" ")
    result[[*_SPACES]] = ord(" "), -1, -1
    controls = np.isin(categories, ["Cc", "Cf", "Co", "Cs"])
    controls[[0, _REPLACEMENT]] = True
    controls[[*map(ord, "\t\n\r")]] = False
    result[controls] = -1
    changes = result * 4 + kinds[result] - 4 * np.arange(POINTS)[:, None]
    return PointTable(np.where(result < 0, _NONE, changes).astype(np.int32))


@functools.cache
def _kinds() -> PointTable:
    categories = _categories()
    kinds = np.full([POINTS], OTHER, np.int32)
    kinds[np.char.startswith(categories, "L")] = LETTER
    kinds[np.char.startswith(categories, "N")] = NUMBER
    kinds[[*_SPACES]] = SPACE
    return PointTable(kinds)


@functools.cache
def _categories() -> Any:
    """Returns the category of every code point, "Lu" and so on, as `tokenizers` sees it."""
    result = np.fromiter(map(unicodedata.category, map(chr, range(POINTS))), "U2", POINTS)
    for points, category in ((_YOUNG, "Cn"), (_NEW_LETTERS, "Lo"), (_NEW_NUMBERS, "Nd")):
        result[[*ranges(points)]] = category
    for point, category in _OTHERWISE.items():
        result[point] = category
    return result


def ranges(text: str) -> Iterator[int]:
    """Yields the code points of ranges written as hexadecimals, the last inclusive."""
    for word in text.split():
        first, _, last = word.partition("-")
        yield from range(int(first, 16), int(last or first, 16) + 1)
