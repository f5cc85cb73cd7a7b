"""TensorFlow and Keras, imported on first use.

The import takes seconds; specs, keys and help do without it. So every module of the project writes
``from tlkeras.frameworks import keras, tf``. The first attribute access imports the real package.
"""

from __future__ import annotations

import collections
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

    keras_hub: Any
    tf: Any
else:

    class _OnFirstUse(types.ModuleType):
        """A proxy that imports its package on the first attribute access."""

        def __getattr__(self, attribute: str) -> Any:
            _require_backend()
            if "tensorflow" not in sys.modules:
                _import_tensorflow()
            value = getattr(importlib.import_module(self.__name__), attribute)
            setattr(self, attribute, value)
            return value

    keras = _OnFirstUse("keras")
    keras_hub = _OnFirstUse("keras_hub")
    tf = _OnFirstUse("tensorflow")

__all__ = [
    "PARALLEL",
    "as_written",
    "counted_afresh",
    "keras",
    "keras_hub",
    "muted",
    "require_channels_last",
    "tf",
    "uncollected",
    "untuned",
    "without_values",
    "writing",
]

F = TypeVar("F", bound=Callable[..., Any])

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"

_COUNTS = "object_name_uids"  # Where Keras 3.15 counts the layers without a name.
_WITHOUT = "uninitialized_variables"  # Where it lists the variables that wait for their values.

# Keras and TensorFlow import these packages for features that no command uses, such as plots or
# wrappers for scikit-learn; they took a fifth of the start.
_UNUSED = ("cv2", "matplotlib", "pandas", "scipy", "sklearn")

PARALLEL = min(os.cpu_count() or 1, 16)
"""Parallel calls of a map over examples; each call holds one picture at full resolution."""

is_command = False
"""Whether this process runs one command; it then skips imports and garbage collection."""


def as_written(function: F) -> F:
    """Returns a function for `tf.data.Dataset.map` that AutoGraph does not rewrite.

    The rewrite takes longer than the trace, for every data set anew.
    """
    return tf.autograph.experimental.do_not_convert(function)


def untuned(dataset: Any) -> Any:
    """Returns a data set without autotuning; its transformations inherit the option.

    The tuner of `tf.data` sleeps longer and longer between its rounds. The end of an epoch may wait
    for it as long as the epoch took (TensorFlow 2.21).
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


@functools.cache
def _require_backend() -> None:
    """Raises ValueError unless Keras is on TensorFlow; where it is not imported yet, it will be."""
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if "keras" in sys.modules:
        backend = sys.modules["keras"].config.backend()
    if backend != "tensorflow":
        raise ValueError(
            f"The backend of Keras is {backend}; tlkeras runs on TensorFlow: set "
            "KERAS_BACKEND=tensorflow."
        )


def require_channels_last() -> None:
    """Raises ValueError if Keras is set to build layers for maps with their channels first."""
    if (order := keras.config.image_data_format()) != "channels_last":
        raise ValueError(
            f"The image data format of Keras is {order}; tlkeras builds networks of channels_last: "
            "set it in keras.json, or by keras.config.set_image_data_format."
        )


def _import_tensorflow() -> None:
    """Imports TensorFlow, without its log unless the user has set a log level."""
    with _without(_UNUSED if is_command else ()), uncollected():
        if _LEVEL in os.environ:
            importlib.import_module("tensorflow")
        else:
            os.environ[_LEVEL] = "2"
            # The libraries log the processor and missing GPUs before they read the level.
            with muted():
                importlib.import_module("tensorflow").config.list_physical_devices()
            del os.environ[_LEVEL]  # Child processes would take it for the user's.
        if is_command:
            # Imported objects are never garbage, and their last collection takes a second at exit.
            # Other processes also hold objects of their user, so they freeze none.
            gc.freeze()
    if is_command:
        # Keras 3.15 writes this cache under one name and reads it under another. So it creates an
        # extra layer, metric or optimizer for each one that it saves or loads.
        saving: Any = importlib.import_module("keras.src.saving.saving_lib")
        saving.get_attr_skipset = functools.cache(saving.get_attr_skipset)


@contextlib.contextmanager
def counted_afresh() -> Iterator[None]:
    """Counts layers without a name from the beginning, as in a new process.

    Keras counts them through the whole process, so a written model would tell what was built
    before it. Layers that are built later do not take these names.
    """
    keras.Model  # noqa: B018 - Its first use imports Keras in the way that is set up here.
    state = _state()
    before = state.get_global_attribute(_COUNTS) or {}
    state.set_global_attribute(_COUNTS, collections.defaultdict(int))
    try:
        yield
    finally:
        own = state.get_global_attribute(_COUNTS)
        for name, count in before.items():
            own[name] = max(own[name], count)


@contextlib.contextmanager
def without_values() -> Iterator[None]:
    """Leaves the variables of networks that are built in this context without values.

    Such a network can only be cloned. Its values would take as much memory as those of the clone,
    and their draw as much time. A build with values may follow at once.
    """
    with keras.StatelessScope(initialize_variables=False):
        before = [*(_state().get_global_attribute(_WITHOUT) or [])]
        try:
            yield
        finally:
            # Keras would draw the new ones at the end of its next scope.
            _state().set_global_attribute(_WITHOUT, before)


def _state() -> Any:
    return importlib.import_module("keras.src.backend.common.global_state")


@contextlib.contextmanager
def _without(packages: Iterable[str]) -> Iterator[None]:
    """Hides packages from the imports in this context, unless they were imported before."""
    hidden: Any = dict.fromkeys({*packages} - sys.modules.keys())
    sys.modules.update(hidden)
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Disables garbage collection while many objects are made that are no garbage."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Captures the error stream of the whole process; prints it after an error."""
    sys.stderr.flush()
    stream = os.dup(2)
    with tempfile.TemporaryFile() as buffer:
        os.dup2(buffer.fileno(), 2)
        try:
            yield
        except BaseException:
            buffer.seek(0)
            with os.fdopen(os.dup(stream), "wb") as file:
                shutil.copyfileobj(buffer, file)
            raise
        finally:
            os.dup2(stream, 2)
            os.close(stream)


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Turns TensorFlow's error of a full disk into the usual `OSError`."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        why = os.strerror(errno.ENOSPC)
        # "{{node}} " may precede the path, and " [Op:Name]" may follow the reason.
        if not (path := re.match(rf"(?:{{{{.*}}}} )?(.*); {why}", error.message)):
            raise
        raise OSError(errno.ENOSPC, why, path[1]) from error
