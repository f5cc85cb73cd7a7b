"""YAML: the texts and lists in a file of settings, such as ``data.yaml``.

Of YAML no more is read than such files need.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

# In YAML a quote stands around a word only if it is the first character of it.
_QUOTED = r"""(?:'(?:[^']|'')*'|"(?:[^"\\]|\\.)*")"""
_COMMENT = re.compile(rf"((?:^|[\[{{,:-])\s*{_QUOTED})|(?:^|\s)#.*")
_ITEM = re.compile(rf"\s*(?:\d+\s*:\s*)?{_QUOTED}\s*(?=,|$)|[^,]+")


def lines(text: str) -> list[str]:
    """Returns the lines of a file without comments."""
    return [_COMMENT.sub(r"\1", line).rstrip() for line in text.splitlines()]


def keys(bare: Sequence[str]) -> list[str]:
    """Returns the keys that are within no other, from lines without comments."""
    return [match.group(1) for line in bare if (match := re.match(r"(\w+)\s*:(?:\s|$)", line))]


def values(bare: Sequence[str], key: str) -> list[str]:
    """Returns the words of a key, from lines without comments: its text, or its list.

    A list may be numbered from 0 on; of other numbers there is no word.

    Raises:
        ValueError: A word is not as its quotes want it.
    """
    start = next((i for i, line in enumerate(bare) if re.match(rf"{key}\s*:", line)), None)
    if start is None:
        return []
    first = bare[start].split(":", 1)[1].strip()
    if first.startswith(("[", "{")):
        last = start
        while not first.endswith(("]", "}")) and last + 1 < len(bare):
            last += 1
            first += " " + bare[last].strip()
        items = [each for each in _ITEM.findall(first[1:-1]) if each.strip()]
    elif first:
        return [_plain(first)]
    else:
        items = []
        for line in bare[start + 1 :]:
            if line.strip() and not re.match(r"\s|-", line):
                break  # The next key.
            if line.strip():
                items.append(line.strip().removeprefix("-"))
    if all(re.match(r"\s*\d+\s*:", each) for each in items):
        pairs = sorted((int(key), word) for key, word in (each.split(":", 1) for each in items))
        if [number for number, _ in pairs] != list(range(len(pairs))):
            return []
        items = [word for _, word in pairs]
    return [_plain(each.strip()) for each in items]


def _plain(word: str) -> str:
    """Returns a word without its quotes."""
    if not re.fullmatch(_QUOTED, word):
        return word
    if word[0] == "'":
        return word[1:-1].replace("''", "'")
    try:
        return str(ast.literal_eval(word))
    except SyntaxError:
        raise ValueError(
            f"{word} has a backslash, which begins an escape in double quotes, and this is none; "
            "write single quotes."
        ) from None
