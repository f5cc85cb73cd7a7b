"""TensorFlow and Keras, imported when first used.

Importing TensorFlow takes seconds. Specs are parsed, keys are computed and help is printed without
it, so every module of the project writes ``from tlkeras.frameworks import keras, tf`` and may be
imported for free; the first attribute that is read imports the real package.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import importlib
import os
import re
import shutil
import sys
import tempfile
import types
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import keras

    tf: Any
else:

    class _OnFirstUse(types.ModuleType):
        """Stands for a package until one of its attributes is asked for."""

        def __getattr__(self, attribute: str) -> Any:
            if "tensorflow" not in sys.modules:
                _import_tensorflow()
            value = getattr(importlib.import_module(self.__name__), attribute)
            setattr(self, attribute, value)
            return value

    keras = _OnFirstUse("keras")
    tf = _OnFirstUse("tensorflow")

__all__ = ["PARALLEL", "as_written", "keras", "muted", "tf", "untuned", "writing"]

F = TypeVar("F", bound=Callable[..., Any])

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"

# Packages that Keras and TensorFlow import for what a command never does, such as drawing or
# wrapping networks for scikit-learn; a fifth of the start went into them.
_SPARED = ("cv2", "matplotlib", "scipy", "sklearn")

PARALLEL = min(os.cpu_count() or 1, 16)
"""Parallel calls of a map over examples, each of which holds a picture as large as it was taken."""

is_command = False
"""Whether the process is a command's own: it starts and ends faster, by what it will never need."""


def as_written(function: F) -> F:
    """Returns a function for `tf.data.Dataset.map` that AutoGraph does not rewrite.

    Rewriting takes longer than tracing, and again for every data set.
    """
    return tf.autograph.experimental.do_not_convert(function)


def untuned(dataset: Any) -> Any:
    """Returns a data set, and what is made of it, with parallel calls of fixed numbers.

    The tuner of `tf.data` would choose them, and sleeps longer and longer between its rounds; what
    ends an epoch may have to wait for it to wake up, up to as long again as the epoch has taken
    (TensorFlow 2.21).
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def _import_tensorflow() -> None:
    """Imports TensorFlow, quietly unless the user has set a log level of theirs."""
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if "keras" in sys.modules:
        backend = sys.modules["keras"].config.backend()
    if backend != "tensorflow":
        raise ValueError(
            f"Keras is to run on {backend}, and tlkeras runs on TensorFlow: unset KERAS_BACKEND."
        )
    with _without(_SPARED if is_command else ()), _uncollected():
        if _LEVEL in os.environ:
            importlib.import_module("tensorflow")
        else:
            os.environ[_LEVEL] = "2"
            # The libraries tell of the processor and of missing GPUs before they read the level.
            with muted():
                importlib.import_module("tensorflow").config.list_physical_devices()
            del os.environ[_LEVEL]  # Not handed down to other processes as if the user had set it.
    if is_command:
        # Keras 3.15 keeps what it finds out here under another name than it looks for it, and so
        # makes a layer, metric or optimizer for every one that it saves or loads.
        saving: Any = importlib.import_module("keras.src.saving.saving_lib")
        saving.get_attr_skipset = functools.cache(saving.get_attr_skipset)


@contextlib.contextmanager
def _without(packages: Iterable[str]) -> Iterator[None]:
    """Lets what is imported meanwhile find packages missing that have not been imported before."""
    hidden: Any = dict.fromkeys({*packages} - sys.modules.keys())
    sys.modules.update(hidden)
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Keeps the garbage collector from what is imported meanwhile, in a command up to the end.

    None of it is ever garbage, and looking at it takes a second when the process ends alone. In
    another process what its user holds is not ours to keep.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_command:
            gc.freeze()
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Holds back the error stream of the whole process; after an error it is told."""
    sys.stderr.flush()
    stream = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            with os.fdopen(os.dup(stream), "wb") as file:
                shutil.copyfileobj(held, file)
            raise
        finally:
            os.dup2(stream, 2)
            os.close(stream)


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Turns what TensorFlow raises of a full disk into the `OSError` that all else raises."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        why = os.strerror(errno.ENOSPC)
        # Before the path may stand "{{node}} ", behind the reason " [Op:Name]".
        if not (told := re.match(rf"(?:{{{{.*}}}} )?(.*); {why}", error.message)):
            raise
        raise OSError(errno.ENOSPC, why, told[1]) from error
