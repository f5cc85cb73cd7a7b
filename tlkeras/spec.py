"""Spec: a frozen dataclass that is configuration, identity and behaviour at once.

The text of a spec is a Python call, ``tflite(quantize='int8')``. It is the value of a flag, the
entry in a manifest and a part of the cache key. A *family* is an abstract spec that names the
package of its members (``plugins``). A *member* has a ``name`` and is final; a file in that package
registers it. `ast` parses the texts; only literals are allowed.
"""

from __future__ import annotations

import abc
import ast
import dataclasses
import difflib
import functools
import importlib
import math
import pkgutil
import types
import typing
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    Self,
    TypeVar,
    Union,
    cast,
    dataclass_transform,
)

S = TypeVar("S", bound="Spec")


@dataclass_transform(frozen_default=True)
class Spec(abc.ABC):
    """A value with typed fields, validated on construction; subclasses become frozen dataclasses.

    Fields are bool, int, float (finite), str, Path, Literal, specs, and unions and tuples of these.
    """

    member: ClassVar[str]
    """The name of a member in texts."""

    name: ClassVar[str]
    """Equals `member`, unless the member has a field ``name``."""

    plugins: ClassVar[str]
    """The package with the members of a family."""

    def __init_subclass__(cls, *, name: str | None = None, plugins: str | None = None) -> None:
        """Registers a member (``name``), a family (``plugins``) or an abstract spec (neither)."""
        super().__init_subclass__()
        for base in cls.__mro__[1:]:
            if "member" in vars(base):
                raise TypeError(f"{cls.__name__} extends {base.__name__}, which is final.")
        dataclasses.dataclass(frozen=True, repr=False)(cls)
        for field in _dataclass_fields(cls):
            if field.name in {"member", "plugins"} or hasattr(Spec, field.name):
                raise TypeError(f"{cls.__name__}.{field.name} hides what every spec has.")
            for base in cls.__mro__[1:]:
                if field.name in vars(base) and field.name not in _fields_of(base):
                    raise TypeError(f"{cls.__name__}.{field.name} hides what {base.__name__} has.")
        if name is not None:  # Behind the checks: what is refused is no member.
            cls.member = name
            if "name" not in cls.__annotations__:
                cls.name = name
        if plugins is not None:
            cls.plugins = plugins

    def __post_init__(self) -> None:
        """Checks the type of every field, then calls `validate`."""
        if "member" not in vars(type(self)):
            raise TypeError(f"{type(self).__name__} is abstract; make one of its members.")
        for field, annotation in fields(type(self)).items():
            value = _checked(getattr(self, field), annotation, f"{self.member}.{field}")
            object.__setattr__(self, field, value)
        self.validate()

    def validate(self) -> None:  # noqa: B027 (most specs have nothing more to check)
        """Raises ValueError if a value is out of range or fields contradict each other."""

    @classmethod
    def expand(cls, text: str) -> str:
        """Returns the call behind a family's shorthand; most families have none."""
        return text

    def require(self, holds: bool, field: str, expected: str) -> None:
        """Raises ValueError with the field, its value and the expectation, unless `holds`."""
        if not holds:
            value = getattr(self, field)
            raise ValueError(f"{self.member}.{field} is {value!r}, expected {expected}.")

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with other field values."""
        return dataclasses.replace(cast(Any, self), **changes)

    def specs(self) -> Iterator[Spec]:
        """Yields this spec and every spec inside its fields."""
        yield self
        for child in self._children():
            yield from child.specs()

    def fingerprint(self) -> str:
        """Returns a text that changes with the files behind this spec; empty without files."""
        return " ".join(filter(None, (child.fingerprint() for child in self._children())))

    def full(self) -> str:
        """Returns the text with every field, also the defaults; keys and manifests use it."""
        return text(self, everything=True)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the fields alone, without cached properties; `copy.deepcopy` copies them so."""
        return type(self), tuple(getattr(self, field) for field in fields(type(self)))

    def __str__(self) -> str:
        """Returns the shortest text that `parse` reads back as an equal spec."""
        return text(self)

    def __repr__(self) -> str:
        """Returns the same text as `str`."""
        return str(self)

    def _children(self) -> Iterator[Spec]:
        for field in fields(type(self)):
            yield from inside(getattr(self, field))


def names(family: type[S]) -> dict[str, type[S]]:
    """Returns the members of a family by name, sorted; imports their package on first use."""
    if "member" in vars(family):
        return {family.member: family}
    if hasattr(family, "plugins"):
        package = importlib.import_module(family.plugins)
        for module in pkgutil.iter_modules(getattr(package, "__path__", ()), f"{family.plugins}."):
            importlib.import_module(module.name)
    members: dict[str, type[S]] = {}
    for cls in _descendants(family):
        if "member" in vars(cls):
            other = members.get(cls.member, cls)
            members[cls.member] = cls  # A notebook cell defines its class anew on every run.
            if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
                raise TypeError(f"{other!r} and {cls!r} are both named {cls.member!r}.")
    return dict(sorted(members.items()))


def usage(member: type[Spec]) -> str:
    """Returns the call of a member with all fields; a required one has the value ``…``."""
    arguments = [
        f"{field.name}={'…' if field.default is dataclasses.MISSING else text(field.default)}"
        for field in _dataclass_fields(member)
    ]
    return f"{member.member}({', '.join(arguments)})" if arguments else member.member


def parse(text: str, family: type[S]) -> S:
    """Returns the spec of a family that a text describes.

    Args:
        text: A name, ``tflite``, or a call with keywords, ``tflite(quantize='int8')``.
        family: The family, or the one member, that is expected.

    Raises:
        ValueError: The text is no such spec; the message has the text and the expectation.
    """
    return parse_value(text, family)


def parse_value(text: str, annotation: Any) -> Any:
    """Returns the value of a text for any field annotation; ``|`` separates a tuple of specs."""
    for family in families(annotation):
        if text not in names(family):
            text = family.expand(text)
    try:
        node = ast.parse(text.strip(), mode="eval").body
        value = _read(node, annotation)
    except SyntaxError as error:
        raise ValueError(f"{text!r} is not a call like name(field=value): {error.msg}.") from None
    except (RecursionError, MemoryError):
        raise ValueError(f"{text[:60]!r}… is nested too deeply.") from None
    return _checked(value, annotation, repr(text))


def text(value: Any, *, everything: bool = False) -> str:
    """Returns the text of any field value; with `everything`, also of fields at their default."""
    if isinstance(value, Spec):
        arguments = [
            f"{field.name}={text(getattr(value, field.name), everything=everything)}"
            for field in _dataclass_fields(type(value))
            if everything or getattr(value, field.name) != field.default
        ]
        return f"{value.member}({', '.join(arguments)})" if arguments else value.member
    if isinstance(value, tuple):
        items = cast("tuple[Any, ...]", value)
        return "[" + ", ".join(text(item, everything=everything) for item in items) + "]"
    return repr(str(value)) if isinstance(value, Path) else repr(value)


def inside(value: Any) -> Iterator[Spec]:
    """Yields the specs of a field value, itself or the items of a tuple, without their children."""
    if isinstance(value, Spec):
        yield value
    elif isinstance(value, tuple):
        for item in cast("tuple[Any, ...]", value):
            yield from inside(item)


def families(annotation: Any) -> list[type[Spec]]:
    """Returns the spec classes that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return [annotation]
    return [family for part in typing.get_args(annotation) for family in families(part)]


@functools.cache
def fields(cls: type[Spec]) -> dict[str, Any]:
    """Returns the annotation of every field of a spec, in order."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in _dataclass_fields(cls)}


def nearest(word: str, known: Sequence[str]) -> str:
    """Returns the end of an error message: the nearest known names, or all of them."""
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(map(repr, close)) + "?"
    return f"there are {listed(known, most=60)}." if known else "there are none."


def listed(names: Sequence[str], most: int = 10, separator: str = ", ") -> str:
    """Returns the first of many names, and how many more there are."""
    more = len(names) - most
    return separator.join([*names[:most], *([f"and {more:,} more"] if more > 0 else [])])


def path(written: str | Path) -> Path:
    """Returns a path with ``~`` replaced by the home folder.

    Raises:
        ValueError: There is no such user.
    """
    try:
        return Path(written).expanduser()
    except RuntimeError as error:
        raise ValueError(f"The path {str(written)!r} has no home folder: {error}") from None


def _dataclass_fields(cls: type[Spec]) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cast(Any, cls))


def _fields_of(base: type) -> Collection[str]:
    """Returns the names of the fields and class variables of a class, which need not be a spec."""
    return getattr(base, "__dataclass_fields__", {})


def _descendants(cls: type[S]) -> Iterator[type[S]]:
    for child in cls.__subclasses__():
        yield child
        yield from _descendants(child)


def _read(node: ast.expr, annotation: Any) -> Any:
    """Returns the value of a literal or a call; raises ValueError for anything else."""
    known = families(annotation)
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=word) | ast.Call(func=ast.Name(id=word)) if known:
            return _call(word, node, known)
        case ast.Name(id=word):
            return word
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return tuple(_read(item, annotation) for item in items)
        case ast.BinOp(op=ast.BitOr()) if known:
            return tuple(_read(item, annotation) for item in alternatives(node))
        case _:
            raise ValueError(
                f"{ast.unparse(node)!r} is neither a literal nor a known call; write paths and "
                "other texts in quotes."
            )


def alternatives(node: ast.expr) -> Iterator[ast.expr]:
    """Yields the expressions that ``|`` separates."""
    match node:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            yield from alternatives(left)
            yield right
        case _:
            yield node


def _call(word: str, node: ast.expr, kinds: Sequence[type[Spec]]) -> Spec:
    known = {name: cls for family in kinds for name, cls in names(family).items()}
    if word not in known:
        kind = " or ".join(family.__name__ for family in kinds)
        article = "an" if kind[0] in "AEIOU" else "a"
        raise ValueError(f"{word!r} is not {article} {kind}; {nearest(word, list(known))}")
    member = known[word]
    arguments = node.args if isinstance(node, ast.Call) else []
    keywords = node.keywords if isinstance(node, ast.Call) else []
    if arguments:
        raise ValueError(
            f"{ast.unparse(node)}: write every field of {word} with its name; "
            f"there are {', '.join(fields(member)) or 'none'}."
        )
    values: dict[str, Any] = {}
    for keyword in keywords:
        field = keyword.arg or "**"
        if field not in fields(member):
            raise ValueError(
                f"{word} has no field {field!r}; {nearest(field, list(fields(member)))}"
            )
        if field in values:
            raise ValueError(f"{word} has the field {field} twice.")
        values[field] = _read(keyword.value, fields(member)[field])
    for field in _dataclass_fields(member):
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and field.name not in values:
            raise ValueError(f"{word} needs {field.name}=…")
    return member(**values)


def _checked(value: Any, annotation: Any, where: str) -> Any:
    """Returns the value; converts int to float, list to tuple and str to Path as annotated."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _checked(value, arguments[0], where)
    if origin in (Union, types.UnionType):
        return _checked_union(value, arguments, where)
    if origin is tuple:
        return _checked_tuple(value, annotation, arguments, where)
    if annotation is float and type(value) is int:
        value = float(value)
    if annotation is Path and isinstance(value, (str, Path)):
        value = path(value)
    if origin is Literal:
        is_valid = any(type(value) is type(known) and value == known for known in arguments)
    elif annotation is float:
        is_valid = type(value) is float and math.isfinite(value)
    elif annotation in (bool, int, str, type(None)):
        is_valid = type(value) is annotation  # Python's bool is an int, but epochs=True is a slip.
    elif annotation is Path or families(annotation):
        is_valid = isinstance(value, annotation)
    else:
        raise TypeError(f"{where} is annotated {annotation!r}, which specs do not support.")
    if not is_valid:
        raise ValueError(f"{where} is {value!r}, expected {_readable(annotation)}.")
    return value


def _checked_union(value: Any, arguments: Sequence[Any], where: str) -> Any:
    for argument in arguments:
        try:
            return _checked(value, argument, where)
        except ValueError:
            continue
    expected = " or ".join(map(_readable, arguments))
    raise ValueError(f"{where} is {value!r}, expected {expected}.")


def _checked_tuple(value: Any, annotation: Any, arguments: Sequence[Any], where: str) -> Any:
    if isinstance(value, Spec):  # A single item needs no brackets.
        value = (value,)
    if not isinstance(value, (tuple, list)):
        raise ValueError(f"{where} is {value!r}, expected {_readable(annotation)}.")
    items = cast("Sequence[Any]", value)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = [arguments[0]] * len(items)
    if len(arguments) != len(items):
        raise ValueError(f"{where} has {len(items)} items, expected {len(arguments)}.")
    pairs = enumerate(zip(items, arguments, strict=True))
    return tuple(_checked(item, kind, f"{where}[{i}]") for i, (item, kind) in pairs)


def _readable(annotation: Any) -> str:
    if annotation is type(None):
        return "None"
    if annotation is float:
        return "a finite float"
    if typing.get_origin(annotation) is tuple:
        parts = [_readable(part) for part in typing.get_args(annotation) if part is not Ellipsis]
        return f"a list of {', '.join(parts)}"
    return (
        annotation.__name__
        if isinstance(annotation, type)
        else str(annotation).replace("typing.", "")
    )
