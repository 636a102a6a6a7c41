"""Shakespeare's plays: every role a client that learns how it goes on, character by character."""

import re
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from tacit.core.bounds import Count
from tacit.core.errors import DataError
from tacit.core.part import Part
from tacit.data.files import RemoteFile, load
from tacit.data.source import Splittable
from tacit.data.sources.plays import PLAYS
from tacit.data.table import Table

ALPHABET = "\n !$&',-.:;?0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""The 74 characters; a character's number is its position here."""
IGNORED = -100
"""The target where there is nothing to predict; PyTorch's losses pass over it."""

_URL = "https://raw.githubusercontent.com/martin-gorner/tensorflow-rnn-shakespeare/master/shakespeare/"
_HEADING = re.compile(r"(ACT|SCENE)\b")
_DIRECTION = re.compile(r"\[[^\[\]]*\]")  # stage directions, over several lines too
_UNCLOSED = re.compile(r"\[.*")
_CODES = np.full(256, -1, np.int64)
_CODES[np.frombuffer(ALPHABET.encode("ascii"), np.uint8)] = np.arange(len(ALPHABET))


class Shakespeare(Splittable, Part, frozen=True, tag="shakespeare"):
    """The next character in the speeches of one role of one play (after McMahan et al. 2017).

    Natural column ``role``, for example ``hamlet/OPHELIA``: those whose names stand in capitals, so that the
    many messengers and first lords are left out. A role's speeches, joined by line ends and without stage
    directions, are cut into windows. Inputs are int64 of shape (n, length), numbers of ``ALPHABET``; targets
    the same one character later, ``IGNORED`` after the end of a role's last window.

    Attributes:
        length: Characters in a window.
        min_characters: Roles that say less are left out; with 500 there are 613 of them.
    """

    length: Count = 80
    min_characters: Annotated[int, Meta(ge=2)] = 500

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        return tuple(
            RemoteFile(f"{play}.txt", (f"{_URL}{play}.txt",), sha256, size, folder="shakespeare")
            for play, (sha256, size) in PLAYS.items()
        )

    def load(self, folder: Path) -> Table:
        inputs, targets, roles = [], [], []
        for file in self.files:
            spoken = speeches(load(file, folder).decode("ascii"))
            for role, text in sorted(spoken.items()):
                if len(text) >= self.min_characters:
                    x, y = _windows(text, self.length)
                    inputs.append(x)
                    targets.append(y)
                    roles += [f"{file.name.removesuffix('.txt')}/{role}"] * len(x)
        if not roles:
            what = f"no role says {self.min_characters} characters"
            fix = "Lower min_characters."
            raise DataError("T202", what, where="$.population.source.min_characters", fix=fix)
        return Table((np.concatenate(inputs),), np.concatenate(targets), {"role": np.array(roles)})


def speeches(play: str) -> dict[str, str]:
    r"""Return what each role in capitals says.

    >>> speeches("\tHAMLET\n\nACT I\n\nGHOST\tMark me.\n\n\t[Exit]\n\nHAMLET\tI will.\n\nGHOST\tMy hour")
    {'GHOST': 'Mark me.\nMy hour', 'HAMLET': 'I will.'}
    """
    roles: dict[str, list[str]] = {}
    speaker, above = "", ""
    for name, text in _scenes(play):
        if text is None:  # the first line of a long name, an empty line or a heading
            speaker, above = (speaker, name) if not _HEADING.match(name) else ("", "")
            continue
        speaker, above = (f"{above} {name}".strip() if name else speaker), ""
        if speaker and speaker == speaker.upper() and not _HEADING.match(speaker):
            roles.setdefault(speaker, []).append(text)
    return {role: said for role, lines in roles.items() if (said := _clean("\n".join(lines)))}


def _scenes(play: str) -> list[tuple[str, str | None]]:
    """Return the lines from the first act on, (name, what follows its tab), without the pages' titles."""
    lines = play.splitlines()
    title = next((line.strip() for line in lines if line.strip()), "")
    start = next((i for i, line in enumerate(lines) if line.startswith("ACT I")), len(lines))
    parted = (line.partition("\t") for line in lines[start:] if line.strip() != title)
    return [(name.strip(), text if tab else None) for name, tab, text in parted]


def _clean(text: str) -> str:
    text = _UNCLOSED.sub("", _DIRECTION.sub("", text)).replace("]", "").replace("|", " ")
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def _windows(text: str, length: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Cut a text of n characters into ceil((n - 1) / length) windows and what follows each character."""
    codes = _CODES[np.frombuffer(text.encode("ascii"), np.uint8)]
    count = -(-(len(codes) - 1) // length)
    x = np.zeros(count * length, np.int64)
    y = np.full(count * length, IGNORED, np.int64)
    x[: len(codes) - 1], y[: len(codes) - 1] = codes[:-1], codes[1:]
    return x.reshape(count, length), y.reshape(count, length)
