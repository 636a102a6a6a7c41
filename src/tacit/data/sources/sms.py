"""The NUS SMS corpus: every phone a client that learns its owner's next word."""

import io
import os
import re
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from tacit.core.bounds import Count
from tacit.core.errors import DataError
from tacit.core.part import Part
from tacit.data.files import RemoteFile, cache_folder, find, load, missing
from tacit.data.source import Splittable
from tacit.data.table import Rows, Table

PADDING, START, UNKNOWN = 0, 1, 2
"""Tokens that are no words; words are numbered from 3, the most frequent first."""
FIRST_WORD = 3
IGNORED = -100
"""The target where there is nothing to predict; PyTorch's losses pass over it."""

_FILE = RemoteFile(
    "smsCorpus_en_xml_2015.03.09_all.zip",
    ("https://raw.githubusercontent.com/kite1988/nus-sms-corpus/master/smsCorpus_en_xml_2015.03.09_all.zip",),
    "5211bbee421a8959dd27977191234361ccad4513ad18e837d4e4eac2c2a26aed",
    43_762_621,
    folder="sms",
    aliases=("smsCorpus_en_2015.03.09_all.xml",),
)
_WORD = re.compile(r"[\w']+")
_PARSER = 1  # raise it when parsing changes: the parsed file is then made again


class SMS(Splittable, Part, frozen=True, tag="sms"):
    """The next word in one sender's short messages (NUS SMS corpus, 2015-03-09; Chen and Kan 2013).

    Natural column ``sender``. Words are runs of letters, digits and apostrophes in lower case. The last fifth
    of each sender's messages (rounded up) is the official test set; the vocabulary is counted over the
    others. Inputs are int64 of shape (n, length): ``START``, then a message's words, then ``PADDING``;
    targets the word that comes next, ``IGNORED`` where that is unknown or padding. Tokens go from 0 to
    ``vocabulary + 2``. Words beyond ``length``, and messages without words, are left out.

    The messages are real people's, made anonymous by the corpus: never try to identify anyone.

    Attributes:
        vocabulary: Number of words that have a token of their own.
        length: Words predicted of one message.
        min_messages: Senders with fewer are left out; with 20 there are 134 of 343.
    """

    vocabulary: Annotated[int, Meta(ge=1, le=1_000_000)] = 5000
    length: Count = 20
    min_messages: Annotated[int, Meta(ge=2)] = 20

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        return (_FILE,)

    def load(self, folder: Path) -> Table:
        messages = _cached(folder).of_senders(self.min_messages)
        tested = messages.last_fifth()
        tokens = messages.tokens(~tested, self.vocabulary)
        spoken = messages.lengths > 0
        train, test = (messages.table(tokens, rows & spoken, self.length) for rows in (~tested, tested))
        return Table(train.inputs, train.target, train.groups, test)


@dataclass(frozen=True, eq=False)
class Messages:
    """Messages as numbers of words.

    Attributes:
        senders: Sender of each message, text of shape (messages,).
        offsets: Message ``i`` is ``words[offsets[i]:offsets[i + 1]]``; shape (messages + 1,).
        words: Numbers of words, in the order in which words first appear in the corpus.
    """

    senders: npt.NDArray[np.str_]
    offsets: Rows
    words: Rows

    @classmethod
    def parse(cls, xml: bytes) -> "Messages":
        """Read the corpus, element by element.

        Raises:
            DataError: It is no such corpus.
        """
        from xml.etree import ElementTree as ET

        senders, lengths, words = [], [0], []
        numbers: dict[str, int] = {}
        try:
            for _, element in ET.iterparse(io.BytesIO(xml)):  # noqa: S314 - its checksum is known
                if element.tag == "message":
                    found = _WORD.findall((element.findtext("text") or "").lower())
                    words += [numbers.setdefault(word, len(numbers)) for word in found]
                    lengths.append(len(found))
                    senders.append(element.findtext("source/userProfile/userID") or "")
                    element.clear()
        except ET.ParseError:
            fix = "Fetch the file again."
            raise DataError("T208", "the corpus is no XML", where=_FILE.name, fix=fix) from None
        return cls(np.array(senders, np.str_), np.cumsum(lengths), np.array(words, np.int64))

    @property
    def lengths(self) -> Rows:
        """Words of each message."""
        return np.diff(self.offsets)

    def of_senders(self, min_messages: int) -> "Messages":
        """Return the messages of those who sent at least so many.

        Raises:
            DataError: Nobody did.
        """
        _, sender, counts = np.unique(self.senders, return_inverse=True, return_counts=True)
        kept = counts[sender] >= min_messages
        if not kept.any():
            what, where = f"nobody sent {min_messages} messages", "$.population.source.min_messages"
            raise DataError("T202", what, where=where, fix="Lower min_messages.")
        words = self.words[np.repeat(kept, self.lengths)]
        return Messages(self.senders[kept], np.concatenate([[0], np.cumsum(self.lengths[kept])]), words)

    def last_fifth(self) -> npt.NDArray[np.bool_]:
        """Return which messages are among the last fifth of their sender's, rounded up."""
        _, sender, counts = np.unique(self.senders, return_inverse=True, return_counts=True)
        order = np.argsort(sender, kind="stable")
        rank = np.empty(len(sender), np.int64)
        rank[order] = np.arange(len(sender)) - np.repeat(np.cumsum(counts) - counts, counts)
        return rank >= counts[sender] * 4 // 5

    def tokens(self, counted: npt.NDArray[np.bool_], vocabulary: int) -> Rows:
        """Return the words as tokens, the most frequent of messages ``counted`` first (ties: first seen)."""
        size = int(self.words.max(initial=-1)) + 1
        seen = np.bincount(self.words[np.repeat(counted, self.lengths)], minlength=size)
        frequent = np.argsort(-seen, kind="stable")[:vocabulary]
        frequent = frequent[seen[frequent] > 0]
        token = np.full(size, UNKNOWN, np.int64)
        token[frequent] = np.arange(len(frequent)) + FIRST_WORD
        return token[self.words]

    def table(self, tokens: Rows, chosen: npt.NDArray[np.bool_], length: int) -> Table:
        """Lay the chosen messages out in rows."""
        rows = np.flatnonzero(chosen)
        position = self.offsets[rows][:, None] + np.arange(length)
        inside = position < self.offsets[rows + 1][:, None]
        following = np.where(inside, tokens[np.minimum(position, len(tokens) - 1)], PADDING)
        before = np.where(inside[:, 1:], following[:, :-1], PADDING)
        x = np.concatenate([np.full((len(rows), 1), START), before], axis=1)
        y = np.where(following >= FIRST_WORD, following, IGNORED)
        return Table((x,), y, {"sender": self.senders[rows]})


def _cached(folder: Path) -> Messages:
    """Return the parsed corpus; it is parsed once for each user of this computer.

    Raises:
        DataError: The file is missing or damaged.
    """
    if find(_FILE, folder) is None:
        raise missing([_FILE], folder)
    # Named by the corpus's checksum: what was parsed from it was checked then.
    path = cache_folder() / "parsed" / f"sms-{_PARSER}-{_FILE.sha256[:16]}.npz"
    known = _restore(path)
    if known is not None:
        return known
    messages = Messages.parse(load(_FILE, folder))
    _keep(path, messages)
    return messages


def _restore(path: Path) -> Messages | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Messages(arrays["senders"], arrays["offsets"], arrays["words"].astype(np.int64))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):  # made again
        return None


def _keep(path: Path, messages: Messages) -> None:
    """Write the parsed corpus in one step; where nothing can be written, it is parsed again next time."""
    arrays: dict[str, Any] = {"senders": messages.senders, "offsets": messages.offsets}
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            np.savez(file, **arrays, words=messages.words.astype(np.int32))
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
