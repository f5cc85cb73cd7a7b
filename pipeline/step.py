"""A step: a function that writes one product; steps import only this of the pipeline.

A *product* is the folder of one step's output. A step knows no command line and no store.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar, overload

from tlkeras import files

if TYPE_CHECKING:
    from tlkeras.spec import Spec

T = TypeVar("T")

_RUNTIME, _PLACE = "in no key", "a folder beside the products"

Runtime = Annotated[T, _RUNTIME]
"""The type of a step's parameter that does not change the product; it is in no key."""

Place = Annotated[Path, _PLACE]
"""A folder ``<store>/<name>/`` that all runs of a step share as a cache.

The step has its own keys in it, and the product must be the same with and without it.
"""


_MODULES = "modules.json"


def _nothing(**products: Path) -> dict[str, tuple[Spec, str]]:
    return {}


class NotBlessed(Exception):
    """The model is not good enough: earlier products stay, but nothing is pushed.

    `products` are those of the steps before it in `run`.
    """

    products: Mapping[str, Path] = types.MappingProxyType({})


class Step:
    """A function ``name(out, *, …)`` that writes the product `name` into the existing folder `out`.

    A keyword parameter of type `Path` with the name of an earlier step is its product; one of type
    `Place` is a folder that runs share. Any other is the config field of its name; it is in the key
    unless its type is `Runtime`. ``out / "_scratch"`` exists for the step's progress. With
    ``always`` the step runs even if its product exists, for effects elsewhere. `behind` gets the
    products by name and returns the specs that the step reads in them, each with its fingerprint:
    they are in the key like config fields.

    Of several workers (`tlkeras.hardware`), only the chief runs the steps; the others wait for the
    products. With ``together`` all workers run the step in one folder, and only the chief writes to
    it; after this step the other workers end.
    """

    name: str
    always: bool
    together: bool
    behind: Callable[..., Mapping[str, tuple[Spec, str]]]
    _function: Callable[..., None]

    @overload
    def __new__(cls, function: Callable[..., None]) -> Self: ...
    @overload
    def __new__(
        cls,
        *,
        always: bool = False,
        together: bool = False,
        behind: Callable[..., Mapping[str, tuple[Spec, str]]] = ...,
    ) -> Callable[[Callable[..., None]], Step]: ...
    def __new__(
        cls,
        function: Callable[..., None] | None = None,
        *,
        always: bool = False,
        together: bool = False,
        behind: Callable[..., Mapping[str, tuple[Spec, str]]] = _nothing,
    ) -> Any:
        """Returns a step of a function or, for ``@Step(always=True)``, a decorator."""
        if function is None:
            return functools.partial(cls, always=always, together=together, behind=behind)
        out, *others = inspect.signature(function).parameters.values()
        if out.name != "out" or any(other.kind is not other.KEYWORD_ONLY for other in others):
            raise TypeError(f"The signature of a step is {function.__name__}(out: Path, *, …).")
        self = super().__new__(cls)
        self.name, self._function = function.__name__, function
        self.always, self.together, self.behind = always, together, behind
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
        """The names of the `Place` parameters."""
        return [name for name, kind in self.parameters.items() if _is(_PLACE, kind)]

    @functools.cached_property
    def read(self) -> list[str]:
        """The names of the parameters for config fields and earlier products."""
        return [name for name in self.parameters if name not in self.places]

    @functools.cached_property
    def runtime(self) -> list[str]:
        """The names of the `Runtime` parameters."""
        return [name for name, kind in self.parameters.items() if _is(_RUNTIME, kind)]

    @property
    def module(self) -> str:
        """The name of the function's module."""
        return self._function.__module__

    @property
    def component(self) -> str:
        """The step's name on the command line: its file has the name of the TFX component."""
        return self.module.rpartition(".")[2]

    def run(self, out: Path, **values: Any) -> None:
        """Calls the function, nothing more."""
        self._function(out, **values)


def name_modules(out: Path, modules: Iterable[str]) -> None:
    """Writes the names of the modules behind the texts of specs in a product.

    Their code then belongs to the keys of all products that depend on this one.
    """
    files.write_json(out / _MODULES, sorted(set(modules)))


def modules_named(product: Path) -> list[str]:
    """Returns the modules that a product names; most products name none."""
    path = product / _MODULES
    return files.read_json(path) if path.exists() else []


def _is(mark: str, annotation: Any) -> bool:
    return mark in typing.get_args(annotation)[1:]
