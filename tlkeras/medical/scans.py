"""Scans: the DICOM files of a data set, listed by their headers before any pixel is read."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tlkeras import folders, spec
from tlkeras.doctor import defects
from tlkeras.medical import confidentiality, dicom_file, dicom_picture
from tlkeras.medical.dicom_file import NoPicture, Scan
from tlkeras.medical.labels import Found

# What goes before a text of a header in its digest, so that a table of digests of bare numbers, of
# which people have made many, tells nothing.
_SALTS = {"picture": "tlkeras dicom picture\0", "patient": "tlkeras dicom patient\0"}

_DIGITS = 16  # Hexadecimal digits of a digest.

# What names a patient in a file's name has so many letters or digits; less names anything. But in
# scripts other than these, Latin, Greek and Cyrillic, names may have one.
_LEAST = 3
_LONG = re.compile(r"[\W\d_\u0000-\u052f\u1e00-\u1fff]*")

_NAMED = 20  # Files that a message names.

# What a header may say of its pixels that no removal of attributes changes.
_IN_PIXELS = ("BurnedInAnnotation", "RecognizableVisualFeatures")

Labelled = Callable[[Path, Sequence[str], Sequence[str]], Found | None]
"""From a file, what may name it and what may name its patient to what is known of it, if it is."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One file that is an example, or several if it has frames.

    Attributes:
        file: Where it is.
        shown: The name of the file, without the patient's.
        identity: A digest of its SOPInstanceUID, or of its path if it has none.
        patient: A digest of its PatientID, or of its study if it has none, or its own id.
        frames: How many pictures it holds.
        is_ranged: Whether it needs the range of the whole data, as it has no window.
        target: What is to be predicted.
        classes: The numbers of its classes.
        problem: Why it cannot be used, or an empty text.
        defect: The stable word for it.
    """

    file: Path
    shown: str
    identity: str
    patient: str
    frames: int = 1
    is_ranged: bool = False
    target: Any = None
    classes: Sequence[int] = ()
    problem: str = ""
    defect: str = ""


class Listing:
    """All files of a data set.

    Attributes:
        entries: Those that are examples, in order.
        left_out: The name of each other file, a stable word and a reason; see `Source.left_out`.
    """

    def __init__(self, files: Iterable[Path], top: Path, labelled: Labelled) -> None:
        """Reads the header of every file.

        Args:
            files: In the order of the examples.
            top: The folder of the data.
            labelled: Finds the target of a file.
        """
        dicom_file.library()  # Its absence is no fault of the files.
        self.entries: list[Entry] = []
        self.left_out: list[tuple[str, str, str]] = []
        self._top, self._labelled = top, labelled
        self._removed: collections.Counter[str] = collections.Counter()
        self._told: dict[str, list[str]] = collections.defaultdict(list)
        self._seen: dict[str, str] = {}
        for file in files:
            self._add(file)

    def remarks(self) -> Iterator[str]:
        """Yields messages: files by their discreet names, attributes by name, never a value."""
        for told, names in self._told.items():
            yield f"{len(names):,} files {told}: {spec.listed(names, most=_NAMED)}."
        if self._removed:
            found = sorted(self._removed.items(), key=lambda pair: (-pair[1], pair[0]))
            yield (
                "Only pixels go into the examples. Left out with all else of the headers is what "
                "DICOM PS3.15, annex E, calls identifying, with the number of files: "
                + spec.listed([f"{name} ({count:,})" for name, count in found], most=len(found))
                + "."
            )
        patients = {entry.patient for entry in self.entries}
        if len(patients) == 1 and len(self.entries) > 1:
            yield (
                f"All {len(self.entries):,} files are of one patient, by PatientID, and stay in "
                "one split. If that is not so, cut each by itself: --split=\"split(group='.+')\"."
            )

    def _add(self, file: Path) -> None:
        inside = file.relative_to(self._top).as_posix()
        names = [inside, file.name, file.stem]
        patients: list[str] = []
        # A header that cannot be read does not say which words of the name to leave out.
        shown = file.name
        try:
            with dicom_file.opened(file) as scan:
                shown = _discreet(file.name, scan)
                entry = self._entry(scan, file, inside, shown)
                names, patients = [scan.text("SOPInstanceUID"), *names], [scan.text("PatientID")]
        except NoPicture:
            self._leave(_digest("picture", inside), "no picture", "holds no picture")
            self._told["hold no picture and are left out"].append(shown)
            return
        except ValueError as error:
            identity, defect = _digest("picture", inside), defects.word(error)
            entry = Entry(file, shown, identity, identity, problem=f"{error}", defect=defect)
        if entry is not None:
            self._add_entry(entry, [*filter(None, names)], [*filter(None, patients)])

    def _leave(self, shown: str, defect: str, reason: str) -> None:
        self.left_out.append((shown, defect, f"is left out: it {reason}"))

    def _entry(self, scan: Scan, file: Path, inside: str, shown: str) -> Entry | None:
        """Returns what a file is but for its target; None if it is another one again."""
        frames = scan.frames  # What is no picture counts for nothing below.
        uid, patient = scan.text("SOPInstanceUID"), scan.text("PatientID")
        identity = _digest("picture", uid or inside)
        if first := self._seen.get(identity):
            self._leave(shown, "copy", f"has the SOPInstanceUID of {first}")
            self._told["repeat the SOPInstanceUID of another and are left out"].append(
                f"{shown} = {first}"
            )
            return None
        self._seen[identity] = shown
        self._removed.update(confidentiality.named(scan.header))
        if not patient:
            self._told["have no PatientID, so each study is a patient"].append(shown)
        for keyword in _IN_PIXELS:
            if scan.text(keyword).upper() == "YES":
                self._told[
                    f"say {keyword} YES, so their pixels may show who it is; look at them"
                ].append(shown)
        group = _digest("patient", patient or scan.text("StudyInstanceUID") or identity)
        problem, defect, is_ranged = "", "", False
        try:
            voi = dicom_picture.offered(scan, 0)
            is_ranged = dicom_picture.is_grey(scan) and not voi.windows and not voi.tables
        except ValueError as error:
            problem, defect = f"{error}", defects.word(error)
        return Entry(
            *(file, shown, identity, group, frames, is_ranged),
            problem=problem,
            defect=defect,
        )

    def _add_entry(self, entry: Entry, names: Sequence[str], patients: Sequence[str]) -> None:
        if (found := self._labelled(entry.file, names, patients)) is None:
            # A header that cannot be read does not say which words of the name to leave out.
            name = entry.identity if entry.problem else entry.shown
            self._leave(name, "no row", "has no row in the table")
            self._told["have no row in the table and are left out"].append(entry.shown)
            return
        if entry.problem:
            told = f"{entry.shown} ({entry.identity}) {entry.problem}"
            self._told["cannot be used"].append(told)
        self.entries.append(dataclasses.replace(entry, target=found.target, classes=found.classes))


def found(top: Path, folder: Path) -> Iterator[Path]:
    """Yields the files in and below a folder that are DICOM by their ending or their first bytes.

    Args:
        top: The folder of the whole data.
        folder: Where to look.
    """
    for file in folders.walk(folder, top):
        if file.is_file() and is_dicom(file):
            yield file


def is_dicom(file: Path) -> bool:
    """Returns whether a file is DICOM by its ending or its first bytes.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        return file.suffix.lower() in dicom_file.SUFFIXES or dicom_file.is_marked(file)
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}.") from None


def _digest(salt: str, text: str) -> str:
    content = (_SALTS[salt] + text).encode("utf-8", "surrogateescape")
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def _discreet(name: str, scan: Scan) -> str:
    """Returns the name of a file without the words by which its header names the patient."""
    said = f"{scan.text('PatientName')} {scan.text('PatientID')}"
    said, name = (unicodedata.normalize("NFC", text) for text in (said, name))
    for word in sorted({*re.findall(r"\w+", said)}, key=len, reverse=True):
        if len(word) >= _LEAST or not _LONG.fullmatch(word):
            name = re.sub(re.escape(word), "…", name, flags=re.IGNORECASE)
    return name
