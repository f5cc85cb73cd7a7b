"""Options: the settings of a config or a step, and the texts of their values.

The option of a field ``name: Annotated[type, "Help."]`` has its name, type, help and default. Only
texts from the user are parsed, not defaults.
"""

from __future__ import annotations

import dataclasses
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, cast

from pipeline.step import Step
from tlkeras import spec
from tlkeras.spec import Spec

REQUIRED = dataclasses.MISSING
"""The default of a required option."""


@dataclasses.dataclass(frozen=True)
class Option:
    """A named setting, for a flag or for a parameter of an orchestrator."""

    name: str
    annotation: Any
    help: str
    default: Any
    before: Callable[[str], str] = str
    """What becomes of a text before it is read."""

    @classmethod
    def of(cls, config: type[Spec]) -> list[Option]:
        """Returns an option for every field of a config.

        Raises:
            TypeError: No text can represent the type of a field.
        """
        options: list[Option] = []
        defaults = {field.name: field.default for field in dataclasses.fields(cast(Any, config))}
        for name, annotation in spec.fields(config).items():
            texts: Sequence[str] = ()
            if typing.get_origin(annotation) is Annotated:
                annotation, *texts = typing.get_args(annotation)
            if not _supported(annotation):
                raise TypeError(f"{name} is annotated {annotation!r}, which flags do not support.")
            options.append(cls(name, annotation, " ".join(texts), defaults[name]))
        return options

    @classmethod
    def of_product(cls, step: Step, name: str) -> Option:
        """Returns the option of an input product, or of other input files."""
        annotation, *texts = typing.get_args(step.parameters[name]) or [step.parameters[name]]
        if annotation is not Path:
            raise TypeError(f"Step {step.name} has {name!r}, which the config does not have.")
        help = " ".join(texts) or f"The folder of the product {name}."
        return cls(name, Path, help, REQUIRED)

    @classmethod
    def of_place(cls, name: str) -> Option:
        """Returns the option of a step's `Place`."""
        return cls(name, Path | None, f"The folder of {name} that several runs share.", None)

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is REQUIRED

    @property
    def kind(self) -> str:
        """The placeholder of a value in help, ``INT`` or ``wok|grill``."""
        return _kind(self.annotation)

    def read(self, text: str) -> Any:
        """Returns the value of a text; the inverse of `written`.

        Raises:
            ValueError: The text has no value of this type.
        """
        return _value(self.before(text), self.annotation)

    def described(self) -> str:
        """Returns two or more lines of help."""
        default = "required" if self.required else f"default: {written(self.default) or repr('')}"
        indent, described = " " * 6, f"{self.help} ({default})"
        text = textwrap.fill(described, 100, initial_indent=indent, subsequent_indent=indent)
        return f"  --{self.name}={self.kind}\n{text}"


def written(value: Any) -> str:
    """Returns the text of a value; the inverse of `Option.read`."""
    if isinstance(value, tuple):
        return "|".join(map(str, cast("tuple[Any, ...]", value))) or "[]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def usage(options: Iterable[Option]) -> str:
    """Returns the calls of all members of the families in options or in their fields."""
    waiting = [family for option in options for family in spec.families(option.annotation)]
    lines: dict[type[Spec], str] = {}
    while waiting:
        family = waiting.pop(0)
        if family not in lines:
            members = spec.names(family).values()
            ways = "\n".join(
                textwrap.fill(
                    spec.usage(member), 100, initial_indent=" " * 6, subsequent_indent=" " * 10
                )
                for member in members
            )
            lines[family] = f"  {_kind(family)}\n{ways}"
            kinds = [kind for member in members for kind in spec.fields(member).values()]
            waiting += [inner for kind in kinds for inner in spec.families(kind)]
    return "\n".join(
        ["Values, with the defaults of their fields:", *lines.values()] if lines else []
    )


def _supported(annotation: Any) -> bool:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return all(part is type(None) or _supported(part) for part in arguments)
    if origin is tuple:
        return arguments[1:] == (...,) and arguments[0] in spec.families(annotation)
    return origin is Literal or annotation in _SCALARS or annotation in spec.families(annotation)


def _value(text: str, annotation: Any) -> Any:
    if spec.families(annotation):
        return spec.parse_value(text, annotation)
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is Literal:
        known = {str(argument): argument for argument in arguments}
        if text not in known:
            raise ValueError(f"{text!r} is not a choice; {spec.nearest(text, list(known))}")
        return known[text]
    if arguments:
        return _one_of(text, arguments)
    read, kind = _SCALARS[annotation]
    try:
        return read(text)
    except ValueError:
        raise ValueError(f"{text!r} is not {kind}.") from None


def _one_of(text: str, annotations: Sequence[Any]) -> Any:
    if text == "None" and type(None) in annotations:
        return None
    errors: list[str] = []
    for annotation in annotations:
        if annotation is not type(None):
            try:
                return _value(text, annotation)
            except ValueError as error:
                errors.append(str(error))
    raise ValueError(" ".join(errors))


def _truth(text: str) -> bool:
    yes, no = ("true", "t", "1"), ("false", "f", "0")
    if text.lower() not in yes + no:
        raise ValueError
    return text.lower() in yes


_SCALARS: Mapping[Any, tuple[Callable[[str], Any], str]] = {
    bool: (_truth, "true or false"),
    int: (int, "a whole number"),
    float: (float, "a number"),
    str: (str, "a text"),
    Path: (spec.path, "a path of an existing user"),
}


def _kind(annotation: Any) -> str:
    if typing.get_origin(annotation) is tuple:
        return f"{_kind(typing.get_args(annotation)[0])}|…"
    if typing.get_origin(annotation) is Literal:
        return "|".join(map(str, typing.get_args(annotation)))
    if arguments := typing.get_args(annotation):
        return "|".join("None" if part is type(None) else _kind(part) for part in arguments)
    return annotation.__name__.upper()
