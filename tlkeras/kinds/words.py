"""Words: a sentence as a list of its words."""

from __future__ import annotations

import re
from typing import Any

from tlkeras import wire
from tlkeras.frameworks import tf
from tlkeras.kind import Entrance, Kind, require_unicode


class Words(Kind, name="words"):
    """The words of a sentence, a list of str. Decoded: their UTF-8, string [n].

    In a batch [b, n], empty strings fill the rows of shorter sentences.
    """

    suffixes = (".txt",)
    meaning = "words"

    def checked(self, value):
        if isinstance(value, (str, bytes)):
            raise ValueError(f"has {value!r} where a list of words is expected")
        words = [*value]
        for word in words:
            if not isinstance(word, str) or not word:
                raise ValueError(f"has {word!r} where a word is expected")
        require_unicode(" ".join(words))
        return words

    def put(self, value):
        return wire.bytes_feature([word.encode("utf-8", "surrogateescape") for word in value])

    def taken(self, held):
        return [word.decode("utf-8", "surrogateescape") for word in held]

    def parsing(self):
        return tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True)

    def same(self, value):
        return "\0".join(value).encode("utf-8", "surrogateescape")

    def summary(self, value, classes):
        return {".count": len(value)}, []

    def given(self, value):
        """Returns string [n], of a list of words or of a text, whose words white space parts.

        It is that of ASCII everywhere: a no-break space stays in its word.
        """
        words = _words(value) if isinstance(value, str) else value
        return tf.constant(self.checked(words), tf.string, [len(words)])

    def read(self, file):
        return _words(file.read_text(encoding="utf-8-sig", errors="surrogateescape"))

    def entrances(self):
        """Returns the words, or a text whose words white space parts and have none in them."""
        text = Entrance(
            "string",
            (),
            request=" ".join,
            decoded=tf.strings.split,
            places=_places,
            carries=lambda value: _words(" ".join(value)) == value,
        )
        return {**super().entrances(), "text": text}

    def sample(self):
        return ["word"]

    def shown(self, value):
        """Returns the words, parted by white space; that within a word is a middle dot."""
        return " ".join("·".join(word.split()) or "·" for word in value)

    def reading(self):
        return 'value = "the words of a text".split()\n'


def _words(text: str) -> list[str]:
    """Returns the words that white space of ASCII parts, those of `tf.strings.split`."""
    return [word for word in re.split(r"[ \t\n\v\f\r]+", text) if word]


def _places(texts: Any) -> Any:
    """Returns where the words of each text begin and end, int32 [b, words, 2]; 0 behind the last.

    Words are those of `tf.strings.split`: white space of ASCII parts them. Characters are those of
    Unicode, as Python counts them.
    """
    points = tf.strings.unicode_decode(texts, "UTF-8")
    rows, points = points.row_splits, points.values
    inside = ~((points == 0x20) | ((points >= 0x09) & (points <= 0x0D)))
    # A row's end parts words, too.
    bounds = tf.scatter_nd(rows[:, None], tf.ones_like(rows), tf.size(points, tf.int64)[None] + 1)
    apart = tf.concat([[False], inside], 0), tf.concat([inside, [False]], 0)
    begins = apart[1] & (~apart[0] | (bounds > 0))
    ends = apart[0] & (~apart[1] | (bounds > 0))
    starts, stops = tf.where(begins)[:, 0], tf.where(ends)[:, 0]
    counts = tf.cumsum(tf.cast(begins, tf.int64), exclusive=True)
    splits = tf.gather(counts, rows)
    first = tf.repeat(rows[:-1], splits[1:] - splits[:-1])
    found = tf.cast(tf.stack([starts - first, stops - first], axis=1), tf.int32)
    return tf.RaggedTensor.from_row_splits(found, splits, validate=False).to_tensor()
