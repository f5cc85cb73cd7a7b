"""TensorFlow and Keras, imported when first used.

Importing TensorFlow takes seconds. Specs are parsed, keys are computed and help is printed without
it, so every module of the project writes ``from tlkeras.frameworks import keras, tf`` and may be
imported for free; the first attribute that is read imports the real package.
"""

from __future__ import annotations

import importlib
import os
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

    tf: Any
else:

    class _OnFirstUse(types.ModuleType):
        """Stands for a package until one of its attributes is asked for."""

        def __getattr__(self, attribute: str) -> Any:
            # Read by the packages when they are imported; a user's own settings win.
            os.environ.setdefault("KERAS_BACKEND", "tensorflow")
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
            value = getattr(importlib.import_module(self.__name__), attribute)
            setattr(self, attribute, value)
            return value

    keras = _OnFirstUse("keras")
    tf = _OnFirstUse("tensorflow")

__all__ = ["keras", "tf"]
