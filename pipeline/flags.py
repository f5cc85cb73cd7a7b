"""Flags: one for each option of a config or of one step; only this module uses absl.

Help lists the members of the options' families.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NoReturn, ParamSpec, TypeVar, cast

from absl import app, flags, logging

from pipeline import store
from pipeline.option import REQUIRED, Option, usage, written
from pipeline.step import NotBlessed, Step
from tlkeras import frameworks, hardware, spec, terminal
from tlkeras.spec import Spec

P = ParamSpec("P")
T = TypeVar("T")

_HELP = {"--help", "-help", "-h", "-?", "--helpshort"}


def run(
    argv: Sequence[str],
    main: Callable[..., int | None],
    *configs: type[Spec],
    steps: Sequence[Step] = (),
    without: Collection[str] = (),
    more: str = "",
    example: str = "",
    before: Mapping[str, Callable[[str], str]] = MappingProxyType({}),
) -> NoReturn:
    """Calls `main` with the configs of the command line; exits with its return value.

    With `steps`, the flags of the first config are ``root`` and the options of these steps, and
    help describes the last step. A ValueError is the user's error: it is printed as one line, with
    exit status 1. So is a PermissionError, with the name of the file, and `NotBlessed`, with status
    2. Any other error has its traceback; ``--verbosity=1`` shows all tracebacks.

    Args:
        argv: The command for the help text, ``tlkeras gain``, then the flags.
        main: The program.
        configs: The classes of its configs.
        steps: The steps that it runs, if not all.
        without: Options of these steps that change nothing here; they have no flag.
        more: The end of the help text.
        example: Flags of the example in the help text, if the required ones are not enough.
        before: By flag, what becomes of its text before it is read.
    """

    def on_hardware(values: tuple[Any, ...]) -> int | None:
        with hardware.used(str(cast(Any, flags.FLAGS[_STRATEGY.name]).value)):
            return main(*values)

    parse = parser(
        *configs, steps=steps, without=without, more=more, example=example, before=before
    )
    _start(argv, on_hardware, parse)


def run_alone(argv: Sequence[str], step: Step, config: type[Spec]) -> NoReturn:
    """Runs one step from its own command line, as an orchestrator does, and exits.

    Every parameter is a flag. `config` has the help and the defaults of its fields; any other
    parameter is the folder of a product. `argv` is as in `run`.
    """

    def main(values: dict[str, Any]) -> None:
        out, strategy = values.pop("out"), values.pop(_STRATEGY.name)
        fields = {name: value for name, value in values.items() if name in spec.fields(config)}
        fields |= {name: values[name] for name in step.places if values[name] is not None}
        inputs = {name: values[name] for name in step.read if name not in fields}
        with hardware.used(strategy):
            store.make(step, out, fields, inputs, lambda text: print(f"{step.name}   {text}"))

    _start(argv, main, step_parser(step, config))


def plainly(function: Callable[P, T]) -> Callable[P, T]:
    """Returns a function that turns a user's error into one line and an exit status."""

    @functools.wraps(function)
    def plain(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except (ValueError, flags.Error, NotBlessed) as error:
            logging.debug("This is where the error was raised.", exc_info=True)
            first, *others = terminal.printable(f"{error}").splitlines() or [""]
            # Below a colon each line is a fault of its own, elsewhere a long sentence goes on.
            mark = "; " if first.endswith(":") else " "
            print(f"{first} {mark.join(map(str.strip, others))}".strip(), file=sys.stderr)
            sys.exit(2 if isinstance(error, NotBlessed) else 1)
        except PermissionError as error:
            logging.debug("This is where the error was raised.", exc_info=True)
            if error.filename is None:
                raise
            advice = "permission denied; change its permissions, or name another file or folder."
            print(terminal.printable(f"{error.filename}: {advice}"), file=sys.stderr)
            sys.exit(1)
        except BrokenPipeError:
            # The reader of the output has ended, such as `head`. What is left goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except KeyboardInterrupt:
            print("Stopped; the same command resumes.", file=sys.stderr)
            sys.exit(130)

    return plain


def _start(
    argv: Sequence[str],
    main: Callable[[Any], int | None],
    parse: Callable[[Sequence[str]], Any],
) -> NoReturn:
    frameworks.is_command = True
    with contextlib.suppress(AttributeError):  # Whoever replaced it writes its lines as they like.
        cast(Any, sys.stdout).reconfigure(line_buffering=True)
    app.run(plainly(main), argv=[*argv], flags_parser=parse)


def parser(
    *configs: type[Spec],
    steps: Sequence[Step] = (),
    without: Collection[str] = (),
    more: str = "",
    example: str = "",
    before: Mapping[str, Callable[[str], str]] = MappingProxyType({}),
    values: flags.FlagValues = flags.FLAGS,
) -> Callable[[Sequence[str]], tuple[Any, ...]]:
    """Returns a `flags_parser` for `absl.app.run`: it maps arguments to a config of each class."""
    first, *others = ([*Option.of(config)] for config in configs)
    if steps:
        read = read_by(steps) - {*without}
        first = [option for option in first if option.name in read]
    options = [
        dataclasses.replace(option, before=before.get(option.name, str))
        for option in [*first, *(option for each in others for option in each)]
    ]
    example = example or " ".join(f"--{each.name}=…" for each in options if each.required)
    about = inspect.getdoc(steps[-1] if steps else configs[0]) or ""

    def parse(argv: Sequence[str]) -> tuple[Any, ...]:
        described = _described(about, argv[0], example)
        parsed = _parsed(argv, [*options, _STRATEGY], described, values, more)
        return tuple(
            _config(config, {name: parsed[name] for name in spec.fields(config) if name in parsed})
            for config in configs
        )

    return plainly(parse)


def read_by(steps: Sequence[Step]) -> set[str]:
    """Returns ``root`` and the names of all inputs of the steps."""
    return {"root", *(name for step in steps for name in step.read)}


def step_parser(
    step: Step, config: type[Spec], values: flags.FlagValues = flags.FLAGS
) -> Callable[[Sequence[str]], dict[str, Any]]:
    """Returns a `flags_parser` for one step; it returns parameters, ``out`` and ``strategy``."""
    fields = {option.name: option for option in Option.of(config)}
    places = [Option.of_place(name) for name in step.places]
    products = [Option.of_product(step, name) for name in step.read if name not in fields]
    options = [*products, *(_alone(fields[name]) for name in step.parameters if name in fields)]
    out = Option("out", Path, "The folder of the product, whole or not at all.", REQUIRED)
    needed = [*(option for option in options if option.required), out]
    example = " ".join(
        f"--{each.name}={step.name if each is out else each.name}" for each in needed
    )
    about = inspect.getdoc(step) or ""

    def parse(argv: Sequence[str]) -> dict[str, Any]:
        described = _described(about, argv[0], example)
        parsed = _parsed(argv, [*options, *places, out, _STRATEGY], described, values)
        given = {name: value for name, value in parsed.items() if name in fields}
        return {**parsed, **_completed(config, given)}

    return plainly(parse)


def _alone(option: Option) -> Option:
    """Returns the option of a field for a step alone, with a required name.

    The pipeline replaces an empty name by that of the source; a later step does not know it.
    """
    return dataclasses.replace(option, default=REQUIRED) if option.name == "name" else option


def step_values(
    step: Step, texts: Mapping[str, str], config: type[Spec]
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Returns the config fields and the products of a step from the texts of its flags."""
    fields = {option.name: option for option in Option.of(config)}
    inputs = {name: Path(texts[name]) for name in step.read if name not in fields}
    values = {name: fields[name].read(texts[name]) for name in step.read if name in fields}
    return _completed(config, values), inputs


def _completed(config: type[Spec], values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields as a config of the default source has them, unless a required one misses.

    A step that reads no source judges the fields in `_OF_SOURCE` by its examples.

    Raises:
        ValueError: What the pipeline says of them.
    """
    if values.get("name") == "":  # See `_alone`.
        raise ValueError("--name is empty; set the name of the pushed model.")
    if all(option.name in values or not option.required for option in Option.of(config)):
        left = () if "source" in values else _OF_SOURCE
        known = {name: value for name, value in values.items() if name not in left}
        made = _config(config, known)
        return {**values, **{name: getattr(made, name) for name in known}}
    return dict(values)


_OF_SOURCE = ("max_gap",)
"""The fields that a config compares with its source."""


def _config(config: type[Spec], values: Mapping[str, Any]) -> Spec:
    """Returns a config; its errors name the flag in place of the field."""
    try:
        return config(**values)
    except ValueError as error:
        raise ValueError(
            re.sub(rf"\b{config.member}\.(\w+) is ", r"--\1 is ", f"{error}")
        ) from None


_STRATEGY = Option(
    "strategy",
    Literal[hardware.NAMES],
    "The devices of training, see BUILD.md; they do not change the products.",
    "auto",
)
"""A flag of the run and no field of the config: it is in no key."""


class _Parser(flags.ArgumentParser[Any]):
    """Reads an option's value from its text; a default is already a value."""

    def __init__(self, option: Option) -> None:
        super().__init__()
        self.option = option

    def parse(self, argument: Any) -> Any:
        return self.option.read(argument) if isinstance(argument, str) else argument

    def flag_type(self) -> str:
        return self.option.kind


class _Serializer(flags.ArgumentSerializer[Any]):
    """Writes an option's value as `_Parser` reads it."""

    def serialize(self, value: Any) -> str:
        return written(value)


def _described(about: str, program: str, example: str) -> str:
    return f"{about}\n\nExample:\n  {program} {example}".rstrip()


def _parsed(
    argv: Sequence[str],
    options: Sequence[Option],
    about: str,
    values: flags.FlagValues,
    more: str = "",
) -> dict[str, Any]:
    """Returns the value of every option by its field, or prints help and exits."""
    if _HELP.intersection(argv[1:]):
        last = "--flagfile=FILE reads flags from a file; --helpfull lists the flags of absl, too."
        described = "Flags:\n" + "\n".join(option.described() for option in options)
        print(*filter(None, [about, described, usage(options), more, last]), sep="\n\n")
        sys.exit(0)
    defined: dict[str, flags.Flag[Any]] = {}
    for option in options:
        flag = defined[option.name] = flags.Flag(
            _Parser(option),
            _Serializer(),
            option.name,
            None if option.required else option.default,
            option.help,
            boolean=option.annotation is bool,
        )
        flags.DEFINE_flag(flag, values)
    _, *rest = values(argv)
    if "verbosity" in values and not values["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # TensorFlow's Python code logs details as INFO.
    if rest:
        raise ValueError(f"{rest[0]!r} is not a flag; write --name=value.")
    for option in options:
        if option.required and not defined[option.name].present:
            raise ValueError(f"flag --{option.name} is missing: {option.help}")
    return {name: flag.value for name, flag in defined.items()}
