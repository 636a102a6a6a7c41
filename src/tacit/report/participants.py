"""The one place where a report names clients.

Who took part in which round may be the operator's business alone. Whatever would show a client's name
asks here, and says whether it may be shown.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tacit.report.words import MISSING, clean
from tacit.round import RoundRecord

_NAME = 18  # characters of a client's name beside a figure


@dataclass(frozen=True)
class Failure:
    """A client that could not answer.

    Attributes:
        round: The round; None where failures are only counted.
        client: The client's name, or a dash where names are not shown.
        reason: Why.
        times: How often.
    """

    round: int | None
    client: str
    reason: str
    times: int = 1


def names(ids: Sequence[str], *, show_participants: bool) -> tuple[str, ...]:
    """Return what to call clients: their ids, or numbers that say nothing about them.

    >>> names(["ann", "bob"], show_participants=False)
    ('client 1', 'client 2')
    """
    if show_participants:
        return tuple(clean(client, _NAME) for client in ids)
    return tuple(f"client {position}" for position in range(1, len(ids) + 1))


def failures(rounds: Iterable[RoundRecord], *, show_participants: bool) -> list[Failure]:
    """Return who could not answer and why, oldest first; without names, how often each reason was given."""
    told = [
        Failure(record.round, clean(client, 80), clean(reason))
        for record in rounds
        for client, reason in record.failed.items()
    ]
    if show_participants:
        return told
    counts = Counter(failure.reason for failure in told)
    return [Failure(None, MISSING, reason, times) for reason, times in counts.most_common()]
