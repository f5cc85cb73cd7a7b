"""Words: a sentence as a list of its words."""

from __future__ import annotations

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
        encoded = [word.encode("utf-8", "surrogateescape") for word in value]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))

    def taken(self, held):
        return [word.decode("utf-8", "surrogateescape") for word in held]

    def parsing(self):
        return tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True)

    def same(self, value):
        return "\0".join(value).encode("utf-8", "surrogateescape")

    def summary(self, value, classes):
        return {".count": len(value)}, []

    def given(self, value):
        """Returns string [n], of a list of words or of a text, whose words white space parts."""
        words = value.split() if isinstance(value, str) else value
        return tf.constant(self.checked(words), tf.string, [len(words)])

    def read(self, file):
        return file.read_text(encoding="utf-8-sig", errors="surrogateescape").split()

    def entrances(self):
        """Returns the words, or a text whose words white space parts."""
        text = Entrance("string", (), lambda value: " ".join(value), tf.strings.split)
        return {**super().entrances(), "text": text}

    def sample(self):
        return ["word"]

    def shown(self, value):
        return " ".join(value)

    def reading(self):
        return 'value = "the words of a text".split()\n'
