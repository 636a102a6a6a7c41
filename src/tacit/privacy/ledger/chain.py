"""The hash chain: every entry names the digest of the one before it.

Whoever changes, removes or moves an entry would have to write all later ones anew, and even then the head
would be another one than the marks kept in run folders, checkpoints and assignments.
"""

import hashlib
from typing import Literal

import msgspec

from tacit.core.errors import StoreError
from tacit.core.part import Record
from tacit.privacy.ledger.facts import Fact, Mark, Name, Sha256


class Entry(Record, frozen=True):
    """One entry of a population's chain.

    Attributes:
        population: Whose chain.
        sequence: Its number, from 1.
        date: When it was written, ISO 8601.
        previous: The digest of the entry before; of the population's name for the first.
        fact: What it states.
    """

    population: Name
    sequence: int
    date: str
    previous: Sha256
    fact: Fact


class Line(Record, frozen=True):
    """An entry as it is kept: the very bytes that were hashed, so that later versions find the same digest.

    Attributes:
        text: The entry as canonical JSON: sorted keys, no spaces.
        sha256: Its digest.
    """

    text: str
    sha256: str


class Finding(Record, frozen=True):
    """What is wrong with a chain.

    Attributes:
        kind: ``torn``: an entry that cannot be read. ``edited``: one that was changed. ``missing``: a hole.
            ``truncated``: the chain ends before a known mark. ``forked``: it has another entry there, as a
            backup has that was restored and written to.
        sequence: Where.
        what: The finding in words.
    """

    kind: Literal["torn", "edited", "missing", "truncated", "forked"]
    sequence: int
    what: str

    def as_error(self, population: str) -> StoreError:
        """Return the error that a ledger in this state is refused with."""
        fix = (
            "Put back the newest copy of the ledger; what stays lost is charged when its run is resumed."
            if self.kind in ("truncated", "forked")
            else "Put back the newest whole copy of the ledger, its -wal file included, and never edit one."
        )
        return StoreError("T421", self.what, where=f"population {population}", fix=fix)


def genesis(population: str) -> Mark:
    """Return the mark before the first entry: it binds the chain to its population."""
    return Mark(sequence=0, sha256=_digest("tacit ledger: " + population))


def append(after: Mark, population: str, fact: Fact, date: str) -> Line:
    """Return the line that continues a chain.

    Raises:
        StoreError: The line could not be read again: a name is empty or longer than names may be.

    >>> from tacit.privacy.ledger.facts import Budget
    >>> line = append(genesis("ward"), "ward", Budget(epsilon=2.0, delta=1e-6), "2026-01-01T12:00:00Z")
    >>> examine(line, genesis("ward"), "ward").fact.epsilon
    2.0
    """
    entry = Entry(
        population=population, sequence=after.sequence + 1, date=date, previous=after.sha256, fact=fact
    )
    text = msgspec.json.encode(entry, order="sorted").decode()
    line = Line(text=text, sha256=_digest(text))
    unreadable = examine(line, after, population)
    if isinstance(unreadable, Finding):
        fix = "Choose a population's name of 1 to 256 characters."
        raise StoreError("T429", f"cannot be written down: {unreadable.what}", fix=fix)
    return line


def examine(line: Line, after: Mark, population: str) -> Entry | Finding:
    """Return the entry in a line, or why the line does not continue a chain."""
    place = after.sequence + 1
    try:
        entry = _DECODER.decode(line.text)
    except (msgspec.MsgspecError, ValueError) as error:
        return Finding(kind="torn", sequence=place, what=f"entry {place} cannot be read: {error}")
    if line.sha256 != _digest(line.text):
        return Finding(kind="edited", sequence=place, what=f"entry {place} is not what was written")
    if entry.population != population:
        return Finding(kind="edited", sequence=place, what=f"entry {place} belongs to another population")
    if entry.sequence > place:
        return Finding(
            kind="missing", sequence=place, what=f"after entry {place - 1} comes entry {entry.sequence}"
        )
    if entry.sequence != place or entry.previous != after.sha256:
        return Finding(
            kind="edited", sequence=place, what=f"entry {place} does not follow from the one before"
        )
    return entry


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


_DECODER = msgspec.json.Decoder(Entry)
