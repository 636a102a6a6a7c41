"""Buffered-asynchronous aggregation: who has finished training forms a group, and the group sums at once.

Nobody waits for the slowest. A client trains from whatever version of the model it was given, then checks in.
When enough wait, an *epoch* opens: one group, with terms of its own, whose members have their updates ready,
so that all steps of the secure sum follow each other in seconds. No mask is used for two epochs. After
Nguyen et al. 2022, "Federated learning with buffered asynchronous aggregation" (arXiv 2106.06639), with a
secure sum in the place of its trusted buffer::

    CheckedIn --> waiting --[size wait, or WaitOver and enough do]--> in an epoch --EpochEnded--> counted
        |            |                                                    |
        `-refused    `-[a new version makes it too stale]-refused         `-[not in the sum]-> may come again

What an update is worth that is not fresh is the client's to apply before it masks: `Discount` in its chain.
"""

from collections import deque
from collections.abc import Mapping
from typing import NoReturn, Protocol

from tacit.core.errors import LocalProtocolError
from tacit.secagg.epoch_events import (
    CheckedIn,
    CheckInRefused,
    Committed,
    EpochEffect,
    EpochEnded,
    EpochEvent,
    EpochRules,
    Left,
    Offer,
    OpenEpoch,
    Refusal,
    WaitOver,
    WakeAfterWait,
    models_digest,
)
from tacit.secagg.terms import DIGEST_BYTES, Terms


class EpochTerms(Protocol):
    """Makes the terms of an epoch; every one has a key of the server's of its own."""

    def __call__(self, *, number: int, round: int, base_round: int, model_sha256: bytes) -> Terms: ...


class Epochs:
    """Gathers clients that have finished training into epochs.

    An update goes by its client and the version it was trained from: two updates of one client from one
    version are nearly the same, and two sums with them would show by their difference what else differs.
    So no client is in two open epochs, and once an update is in a sum its client has to train from a newer
    version. The clients' own machines (`EpochClient`) see to that whatever the server does, and go further:
    what was sent is not sent again.

    Args:
        rules: When an epoch opens, and for whom.
        models: Digests of the versions that were sent out, by number without a gap; the last is the newest.
        terms: Makes the terms of an epoch.
        number: Of the first epoch; a server that starts again goes on from where it was.
        counted: For each client the version its last summed update was trained from; likewise.
    """

    def __init__(
        self,
        rules: EpochRules,
        models: Mapping[int, bytes],
        terms: EpochTerms,
        *,
        number: int = 0,
        counted: Mapping[str, int] | None = None,
    ) -> None:
        versions = sorted(models)
        if not versions or versions != list(range(versions[0], versions[-1] + 1)):
            _illegal("models must have a version, and no gap between versions")
        self._rules, self._terms = rules, terms
        self._models = deque((version, _sha256(models[version])) for version in versions)
        self._number = number
        self._counted = dict(counted or {})
        self._waiting: dict[str, int] = {}
        self._open: dict[int, dict[str, int]] = {}
        self._woken = False
        self._forget_old()

    @property
    def version(self) -> int:
        """The newest version of the model."""
        return self._models[-1][0]

    @property
    def number(self) -> int:
        """The epoch that opens next."""
        return self._number

    @property
    def waiting(self) -> Mapping[str, int]:
        """Clients that wait, the first first, and the version each trained from."""
        return dict(self._waiting)

    @property
    def open(self) -> Mapping[int, tuple[str, ...]]:
        """The members of every epoch that is open."""
        return {number: tuple(members) for number, members in self._open.items()}

    @property
    def counted(self) -> Mapping[str, int]:
        """For each client the version of its last summed update, while another could still come from it."""
        return dict(self._counted)

    def receive(self, event: EpochEvent) -> tuple[EpochEffect, ...]:
        """Take one event and return what is to be done.

        Raises:
            LocalProtocolError: T512, the driver says what cannot be; T576, the terms are not the epoch's.
        """
        match event:
            case CheckedIn(client, base):
                return self._check_in(client, base)
            case Left(client):
                self._waiting.pop(client, None)
                return ()
            case Committed(version, sha256):
                return self._commit(version, sha256)
            case WaitOver(number):
                return self._wait_over() if number == self._number else ()
            case EpochEnded(number, survivors):
                return self._end(number, survivors)

    def _check_in(self, client: str, base: int) -> tuple[EpochEffect, ...]:
        refusal = self._refusal(client, base)
        if refusal:
            return (CheckInRefused(client, refusal),)
        self._waiting[client] = base
        if len(self._waiting) >= self._rules.size:
            return (self._open_next(),)
        return self._wake()

    def _refusal(self, client: str, base: int) -> Refusal | None:
        if not 0 <= base <= self.version:
            return "unknown version"
        if base < self._models[0][0]:
            return "too stale"
        if client in self._waiting:
            return "waits already"
        if any(client in members for members in self._open.values()):
            return "in an open epoch"
        return "spent" if base <= self._counted.get(client, -1) else None

    def _wake(self) -> tuple[EpochEffect, ...]:
        if self._woken or not self._waiting:
            return ()
        self._woken = True
        return (WakeAfterWait(self._number),)

    def _wait_over(self) -> tuple[EpochEffect, ...]:
        self._woken = False
        return (self._open_next(),) if len(self._waiting) >= self._rules.least else self._wake()

    def _open_next(self) -> OpenEpoch:
        number, members = self._number, self._waiting
        models = tuple(self._models)
        (oldest, _), (newest, _) = models[0], models[-1]
        bound = models_digest(number, models)
        terms = self._terms(number=number, round=newest, base_round=oldest, model_sha256=bound)
        is_ours = (terms.round, terms.base_round, terms.model_sha256) == (newest, oldest, bound)
        if not is_ours or terms.min_cohort < self._rules.min_cohort:
            raise LocalProtocolError("T576", f"the terms are not those of epoch {number}")
        self._number, self._waiting, self._woken = number + 1, {}, False
        self._open[number] = members
        return OpenEpoch(Offer(number, terms, models), tuple(sorted(members)))

    def _commit(self, version: int, sha256: bytes) -> tuple[EpochEffect, ...]:
        if version != self.version + 1:
            _illegal(f"version {version} cannot follow version {self.version}")
        self._models.append((version, _sha256(sha256)))
        self._forget_old()
        stale = [client for client, base in self._waiting.items() if base < self._models[0][0]]
        for client in stale:
            del self._waiting[client]
        return tuple(CheckInRefused(client, "too stale") for client in stale)

    def _forget_old(self) -> None:
        """Drop versions, and what was counted of them, from which no update is taken any more."""
        oldest = self.version - self._rules.max_staleness
        while self._models[0][0] < oldest:
            self._models.popleft()
        self._counted = {client: base for client, base in self._counted.items() if base >= oldest}

    def _end(self, number: int, survivors: tuple[str, ...]) -> tuple[EpochEffect, ...]:
        members = self._open.get(number)
        if members is None or not members.keys() >= set(survivors):
            _illegal(f"epoch {number} is not open, or has not these members")
        del self._open[number]
        for client in survivors:
            self._counted[client] = members[client]
        return ()


def _sha256(value: bytes) -> bytes:
    if len(value) != DIGEST_BYTES:
        _illegal(f"a digest of {len(value)} bytes")
    return value


def _illegal(what: str) -> NoReturn:
    raise LocalProtocolError("T512", what)
