"""Details: what only the people behind a model can tell of it."""

from __future__ import annotations

from tlkeras.spec import Spec


class Details(Spec, name="details"):
    """What the model card and the exports say of a model; an empty text has not been stated."""

    description: str = ""
    authors: str = ""
    contact: str = ""
    licence: str = ""
    citation: str = ""
    intended_use: str = ""
    out_of_scope: str = ""
    ethics: str = ""
