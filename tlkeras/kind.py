"""Kind: what one feature of an example holds.

A kind is the one place that knows how such a value is checked, recorded, parsed, compared, counted,
sent by a client and shown. The *standard form* of a value is what `Kind.checked` returns and what a
record holds: the encoded bytes of a picture, a str, an int, a list.
"""

from __future__ import annotations

import abc
import dataclasses
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tlkeras import wire
from tlkeras.doctor.defects import Unusable
from tlkeras.frameworks import tf
from tlkeras.spec import Spec

SERVING = "serving_default"
"""The entrance that every kind has."""


@dataclasses.dataclass(frozen=True)
class Entrance:
    """One form in which clients send a value to a server.

    Attributes:
        dtype: Of the tensor that holds a batch of them, ``"uint8"`` or ``"string"``.
        shape: Of one value in it; None where its size is not fixed.
        request: From a standard value to what a client sends for it.
        decoded: From the tensor of one value to what `Kind.decoded` gives. None if a batch goes to
            `Backbone.preprocess` as it was sent.
        places: From the tensor of a batch of texts, string [b], to where the words of each begin
            and end, in characters: int32 [b, words, 2]. None if the client sends no whole texts.
        carries: Whether a standard value arrives as it is. None if each does.
    """

    dtype: str
    shape: tuple[int | None, ...]
    request: Callable[[Any], Any]
    decoded: Callable[[Any], Any] | None = None
    places: Callable[[Any], Any] | None = None
    carries: Callable[[Any], bool] | None = None


class Kind(Spec, plugins="tlkeras.kinds"):
    """The form of one feature, from the source to the report."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    """The endings, in lower case, of files that hold one such value; none if no file does."""

    pixelwise: ClassVar[bool] = False
    """Whether it has a value for every pixel of the picture, whose size it must keep."""

    span: ClassVar[tuple[float, float] | None] = None
    """The least and the largest number in a network's input of this kind, where it has bounds."""

    meaning: ClassVar[str] = "vector"
    """What a network's input of this kind is, a key of `litert_metadata.INPUTS`."""

    least_classes: ClassVar[int] = 0
    """How many classes the data need at least; 0 if a value names no class."""

    leaves_out: ClassVar[str] = ""
    """What of a file or value never goes into an example, in a sentence for the datasheet."""

    @property
    def is_ready(self) -> bool:
        """Whether a parsed value is a decoded one already."""
        return type(self).decoded is Kind.decoded

    @abc.abstractmethod
    def checked(self, value: Any) -> Any:
        """Returns the standard form of a value that a source yields.

        Raises:
            ValueError: What is wrong with it, as it follows the name of an example: ``is damaged``.
        """

    def traits(self, value: Any, standard: Any) -> Mapping[str, float | str]:
        """Returns what the doctor of data wants to know of a value; equal values give equal traits.

        Args:
            value: As a source yields it.
            standard: Its standard form.
        """
        return {}

    def examined(self, value: Any) -> tuple[Any, Mapping[str, float | str]]:
        """Returns what `checked` and `traits` do; overridden where one decoding serves both."""
        standard = self.checked(value)
        return standard, self.traits(value, standard)

    def oddities(
        self, traits: Iterable[tuple[str, Mapping[str, float | str]]]
    ) -> Iterator[tuple[str, str, str]]:
        """Yields ``(id, defect, reason)`` of values that are worth a look, in any order.

        Args:
            traits: The id and the traits of every value of the data; it can be iterated again.
        """
        return iter(())

    def copies(self, hashes: np.ndarray) -> Iterator[tuple[int, int, float]]:
        """Yields pairs of near copies: two numbers of rows and how far apart they are.

        Not every pair comes, but enough of them to connect all near copies.

        Args:
            hashes: The trait ``hash`` of every example for each input of this kind, as bytes:
                uint8 [examples, inputs, bytes].
        """
        return iter(())

    @abc.abstractmethod
    def put(self, value: Any) -> bytes:
        """Returns a standard value as an encoded `tf.train.Feature`, see `wire`."""

    @abc.abstractmethod
    def taken(self, held: Sequence[Any]) -> Any:
        """Returns the standard value of the list in a `tf.train.Feature`."""

    @abc.abstractmethod
    def parsing(self) -> Any:
        """Returns what `tf.io.parse_example` reads of a record."""

    def decoded(self, stored: Any, least: int | None = None) -> Any:
        """Returns the tensor of a parsed value, inside any graph.

        `least` is how many pixels a side of a large picture has to keep; None is all.
        """
        return stored

    def classes_in(self, value: Any) -> Sequence[int]:
        """Returns the numbers of the classes that a standard value names."""
        return ()

    def same(self, value: Any) -> bytes | None:
        """Returns what two copies of a standard value share; None if copies mean nothing."""
        return None

    def size(self, value: Any) -> tuple[int, int] | None:
        """Returns the height and width of a standard value in pixels, if it has any."""
        return None

    def sides(self, decoded: Any) -> Any:
        """Returns the height and width of a decoded value or of a batch, int32 [2]; 0 if none."""
        return tf.zeros([2], tf.int32)

    def summary(
        self, value: Any, classes: Sequence[str]
    ) -> tuple[Mapping[str, float], Sequence[str]]:
        """Returns numbers by column of the statistics (``""`` is the feature itself), and words."""
        return {}, []

    def given(self, value: Any) -> Any:
        """Returns the tensor that `decoded` gives, of a value from a Python user.

        Raises:
            ValueError: The value is not of this kind.
        """
        return self.decoded(tf.convert_to_tensor(self.checked(value), self.parsing().dtype))

    def read(self, file: Path) -> Any:
        """Returns the value in a file that has one of the `suffixes`, for `checked`."""
        return file.read_bytes()

    def entrances(self) -> Mapping[str, Entrance]:
        """Returns the forms in which clients send a value, by name, `SERVING` among them."""
        stored = self.parsing()
        is_list = isinstance(stored, tf.io.FixedLenSequenceFeature)
        shape = (*((None,) if is_list else ()), *stored.shape)
        decoded = None if self.is_ready else self.decoded
        return {SERVING: Entrance(stored.dtype.name, shape, lambda value: value, decoded)}

    @abc.abstractmethod
    def sample(self) -> Any:
        """Returns a standard value that is nobody's, by which a server is warmed up."""

    def shown(self, value: Any) -> bytes | str:
        """Returns a standard value for the report: a small PNG or JPEG file, or a text."""
        return str(value)

    def reading(self) -> str:
        """Returns Python code for the card: it sets ``value`` to what ingest makes of a file.

        Empty if a client needs no code to make a value.
        """
        return ""


class Encoded(Kind):
    """A kind whose standard values are bytes, such as those of a picture file."""

    def put(self, value: bytes) -> bytes:
        return wire.bytes_feature([value])

    def taken(self, held: Sequence[Any]) -> bytes:
        (value,) = held
        return value

    def parsing(self) -> Any:
        return tf.io.FixedLenFeature([], tf.string)


class Written(Kind):
    """A kind whose standard values are str; decoded they are UTF-8, string []."""

    def put(self, value: str) -> bytes:
        return wire.bytes_feature([value.encode("utf-8", "surrogateescape")])

    def taken(self, held: Sequence[Any]) -> str:
        (value,) = held
        return value.decode("utf-8", "surrogateescape")

    def parsing(self) -> Any:
        return tf.io.FixedLenFeature([], tf.string)


def require_unicode(text: str) -> None:
    """Raises ValueError if a text has bytes that are not UTF-8 or halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code, line = ord(text[error.start]), text.count("\n", 0, error.start) + 1
        is_byte = 0xDC80 <= code <= 0xDCFF  # As Python's "surrogateescape" has them.
        what = f"the byte 0x{code - 0xDC00:02x}" if is_byte else "half of a character"
        raise Unusable(
            "not UTF-8", f"has {what} in line {line}, which is not UTF-8; save it in UTF-8"
        ) from None


LARGEST = (2 - 2**-23) * 2.0**127
"""The largest number of float32, in which records have them."""


def finite(value: Any) -> float:
    """Returns a number as a float.

    Raises:
        ValueError: It is no finite number, also not in float32.
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, (str, bytes)) or not abs(number) <= LARGEST:
        raise ValueError(f"has {value!r} where a finite number is expected")
    return number


def whole(value: Any) -> int:
    """Returns a whole number as an int.

    Raises:
        ValueError: It is none.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"has {value!r} where a whole number is expected") from None
