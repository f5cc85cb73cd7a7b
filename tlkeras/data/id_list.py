"""IdList: ids of examples in a text file of the user's, such as those that people take back."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tlkeras import folders
from tlkeras.spec import Spec


class IdList(Spec, name="id_list"):
    """A text file with one id a line, in UTF-8; a bare path stands for it.

    Empty lines do not count, and neither do lines that begin with ``#`` and a blank: an id may
    begin with ``#`` alone. Blanks within and around an id belong to it.
    """

    path: Path

    def validate(self):
        if not self.path.is_file():
            raise ValueError(f"{folders.missing(self.path)} It should be a text file of ids.")

    @classmethod
    def expand(cls, text: str) -> str:
        """Returns the call for a bare path."""
        is_call = text == "None" or text.startswith(f"{cls.member}(")
        return text if is_call else f"{cls.member}(path={text!r})"

    def ids(self) -> list[str]:
        """Returns the ids in the order of the file, each once.

        Raises:
            ValueError: The file cannot be read.
        """
        try:
            # The name of a file may hold bytes that are no UTF-8.
            text = self.path.read_text(encoding="utf-8-sig", errors="surrogateescape")
        except OSError as error:
            raise ValueError(f"{self.path} cannot be read: {error.strerror}.") from None
        lines = (line.rstrip("\r") for line in text.split("\n"))
        counting = (line for line in lines if line.strip() and not f"{line} ".startswith("# "))
        return list(dict.fromkeys(counting))

    def fingerprint(self) -> str:
        """Returns the digest of the ids; comments and the order do not change it."""
        text = "\n".join(sorted(self.ids()))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
