"""A step: a function that makes one product; all that a step imports of the pipeline.

A *product* is a folder made by one step. A step knows no command line and no store.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar, overload

from tlkeras import files

T = TypeVar("T")

_RUNTIME, _PLACE = "in no key", "a folder beside the products"

Runtime = Annotated[T, _RUNTIME]
"""The type of a step's parameter that says how the work is done and not what: it is in no key."""

Place = Annotated[Path, _PLACE]
"""A folder ``<store>/<name>/`` that all runs of a step share, for what saves it time.

The step keys what it keeps there by itself, and promises the same product with and without it.
"""


_MODULES = "modules.json"


class NotBlessed(Exception):
    """The model is worse than it has to be; what was made so far is kept, nothing is pushed.

    `products` are those that `run` had found or made by then.
    """

    products: Mapping[str, Path] = types.MappingProxyType({})


class Step:
    """A function ``name(out, *, …)`` that writes the product `name` into the existing folder `out`.

    A keyword parameter annotated `Path` and named after an earlier step is the product of that
    step, one annotated `Place` a folder that runs share; any other is the config field of its name,
    in the key unless annotated `Runtime`. ``out / "_scratch"`` is there for the step's own
    progress. With ``always`` it runs even if its product is there, for its effects elsewhere.

    Of several workers (`tlkeras.hardware`) the chief alone runs the steps, and the others wait for
    their products. With ``together`` all run it at once, in one folder that the chief alone writes
    to; after it the others are done.
    """

    name: str
    always: bool
    together: bool
    _function: Callable[..., None]

    @overload
    def __new__(cls, function: Callable[..., None]) -> Self: ...
    @overload
    def __new__(
        cls, *, always: bool = False, together: bool = False
    ) -> Callable[[Callable[..., None]], Step]: ...
    def __new__(
        cls,
        function: Callable[..., None] | None = None,
        *,
        always: bool = False,
        together: bool = False,
    ) -> Any:
        """Makes a step of a function or, as ``@Step(always=True)``, what makes one of it."""
        if function is None:
            return functools.partial(cls, always=always, together=together)
        out, *others = inspect.signature(function).parameters.values()
        if out.name != "out" or any(other.kind is not other.KEYWORD_ONLY for other in others):
            raise TypeError(f"A step is written {function.__name__}(out: Path, *, …).")
        self = super().__new__(cls)
        self.name, self._function = function.__name__, function
        self.always, self.together = always, together
        self.__doc__ = function.__doc__
        return self

    @functools.cached_property
    def parameters(self) -> dict[str, Any]:
        """The annotation of every parameter but `out`, in order."""
        hints = typing.get_type_hints(self._function, include_extras=True)
        _, *names = inspect.signature(self._function).parameters
        return {name: hints[name] for name in names}

    @functools.cached_property
    def places(self) -> list[str]:
        """The names of the parameters that are a `Place`."""
        return [name for name, kind in self.parameters.items() if _is(_PLACE, kind)]

    @functools.cached_property
    def read(self) -> list[str]:
        """The names of the parameters that are a config field or an earlier product."""
        return [name for name in self.parameters if name not in self.places]

    @functools.cached_property
    def runtime(self) -> list[str]:
        """The names of the parameters that are a `Runtime`."""
        return [name for name, kind in self.parameters.items() if _is(_RUNTIME, kind)]

    @property
    def module(self) -> str:
        """The name of the module that holds the function."""
        return self._function.__module__

    @property
    def component(self) -> str:
        """What the command line calls the step: the TFX component that its file is named after."""
        return self.module.rpartition(".")[2]

    def run(self, out: Path, **values: Any) -> None:
        """Calls the function, nothing more."""
        self._function(out, **values)


def name_modules(out: Path, modules: Iterable[str]) -> None:
    """Writes into a product which modules its readers run, because it names specs by their texts.

    Their code then belongs to the keys of all products that are made of this one.
    """
    files.write_json(out / _MODULES, sorted(set(modules)))


def modules_named(product: Path) -> list[str]:
    """Returns the modules that a product names; none of most."""
    path = product / _MODULES
    return files.read_json(path) if path.exists() else []


def _is(mark: str, annotation: Any) -> bool:
    return mark in typing.get_args(annotation)[1:]
