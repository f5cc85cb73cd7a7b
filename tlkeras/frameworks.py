"""TensorFlow and Keras, imported when first used.

Importing TensorFlow takes seconds. Specs are parsed, keys are computed and help is printed without
it, so every module of the project writes ``from tlkeras.frameworks import keras, tf`` and may be
imported for free; the first attribute that is read imports the real package.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import re
import shutil
import sys
import tempfile
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

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

__all__ = ["keras", "muted", "tf", "writing"]

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def _import_tensorflow() -> None:
    """Imports TensorFlow, quietly unless the user has set a log level of theirs."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if _LEVEL in os.environ:
        importlib.import_module("tensorflow")
        return
    os.environ[_LEVEL] = "2"
    # The libraries tell of the processor and of missing GPUs before they read the level.
    with muted():
        importlib.import_module("tensorflow").config.list_physical_devices()
    del os.environ[_LEVEL]  # Not handed down to other processes as if the user had set it.


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
