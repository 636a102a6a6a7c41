"""One round as the server sees it: a machine without I/O."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from tacit.core.cohort import Cohort
from tacit.core.errors import LocalProtocolError, PlanError, RemoteProtocolError
from tacit.core.randomness import generator
from tacit.core.rule import Partial, Rule
from tacit.privacy.floor import Offer
from tacit.privacy.ledger import Mark
from tacit.privacy.mechanisms import Separation
from tacit.round.group_events import LATE, VANISHED, GroupEffect, GroupEvent, VectorsReceived
from tacit.round.messages import (
    Assignment,
    ClientFailed,
    ClientsDropped,
    DeadlinePassed,
    Opened,
    RoundClosed,
    Seconds,
    SendAssignment,
    ServerEffect,
    ServerEvent,
    UpdatesReceived,
    WakeAt,
)
from tacit.round.policy import RoundPolicy
from tacit.round.record import RoundRecord

if TYPE_CHECKING:
    from tacit.round.secure import SecureSums
    from tacit.secagg.certificate import RoundCertificate

_EVERY_STEP = Separation(min_separation=1)
Phase = Literal["new", "collecting", "committed", "abandoned"]


@dataclass
class RoundServer:
    """Selects a cohort, collects its updates, and commits or abandons the round.

    ::

        new --Opened--> collecting --quorum reached at the close--> committed
                            `-------quorum missed at the close----> abandoned

    It closes when the wanted number of updates is in, when nobody is left who could answer, or when
    the deadline has passed. What arrives later is noted and never folded. Where single updates may not be
    seen, it closes when every group of the cohort has its secure sum, or has failed; at the deadline no more
    vectors are awaited. Where clients have to keep apart,
    it asks nobody who took part at too near a step, whoever is available.

    Attributes:
        job: The job's name.
        number: The round's number, part of the address of every draw.
        seed: Seed of the draw of cohorts: the job's, or a secret of the server.
        cohort: How the cohort is drawn.
        policy: When to close, and whether it counts.
        rule: How partial sums merge.
        size: Number of coordinates of a partial sum; None: as many as the first one has.
        clipping_bound: The bound that clients clip to in this round, where it moves from round to round.
        step: Which step of a private run the round is to release, from 0; None where nothing is promised.
        separation: How far apart two steps of one client are at least.
        took_part: The last step at which each client took part, as far as it still matters.
        ledger: The last entry of the ledger in which the round is charged; the driver says so.
        offer: What is promised about the round's privacy; None: nothing.
        secure: The secure sums of the cohort's groups, where no single update may be seen; the driver's.
        phase: Where the machine stands.
    """

    job: str
    number: int
    seed: int = field(repr=False)
    cohort: Cohort
    policy: RoundPolicy
    rule: Rule
    size: int | None = None
    clipping_bound: float | None = None
    step: int | None = None
    separation: Separation = _EVERY_STEP
    took_part: Mapping[str, int] = field(default_factory=dict, repr=False)
    ledger: Mark | None = None
    offer: Offer | None = None
    secure: "SecureSums | None" = field(default=None, repr=False)
    phase: Phase = "new"
    _invited: tuple[str, ...] = ()
    _waiting: set[str] = field(default_factory=set)
    _answered: list[str] = field(default_factory=list)
    _partial_work: list[str] = field(default_factory=list)
    _failed: dict[str, str] = field(default_factory=dict)
    _dropped: list[str] = field(default_factory=list)
    _late: list[str] = field(default_factory=list)
    _blamed: dict[str, str] = field(default_factory=dict)
    _certificates: "list[RoundCertificate]" = field(default_factory=list)
    _sum: Partial | None = None
    _wanted: int = 0
    _opened_s: Seconds = 0.0

    @property
    def missing(self) -> int:
        """How many more updates the round can take before it closes."""
        return self._wanted - len(self._answered) if self.phase == "collecting" else 0

    @property
    def _is_closed(self) -> bool:
        return self.phase in ("committed", "abandoned")

    def receive(self, event: ServerEvent, now: Seconds) -> tuple[ServerEffect, ...]:
        """Take one event at a time and return what is to be done.

        Raises:
            LocalProtocolError: The event is not legal in this phase.
            RemoteProtocolError: A client sent something illegal; the round goes on without it.
        """
        match event:
            case Opened() if self.phase == "new":
                return self._open(event, now)
            case UpdatesReceived() if self.phase == "collecting" and self.secure is None:
                return self._collect(event, now)
            case GroupEvent() | VectorsReceived() if self.phase == "collecting" and self.secure is not None:
                effects = self.secure.receive(event)
                if self.secure.vectors >= self._wanted:
                    effects += self.secure.close_vectors()
                return self._follow(effects, now)
            case ClientFailed() if self.phase == "collecting":
                return self._gone(
                    (event.client,), now, lambda: self._failed.update({event.client: event.reason})
                )
            case ClientsDropped() if self.phase == "collecting":
                return self._gone(event.clients, now, lambda: self._dropped.extend(event.clients))
            case DeadlinePassed() if self.phase == "collecting" and self.secure is not None:
                return self._follow(self.secure.close_vectors(), now)
            case DeadlinePassed() if self.phase == "collecting":
                return self._close(now)
            case UpdatesReceived() | ClientFailed() | GroupEvent() | VectorsReceived() if self._is_closed:
                raise RemoteProtocolError("T511", f"round {self.number} is closed: the message is late")
            case DeadlinePassed() if self._is_closed:
                return ()  # the call-back it had asked for; it needs it no more
        raise LocalProtocolError(
            "T512", f"{type(event).__name__} is not legal while the round is {self.phase}"
        )

    def _open(self, event: Opened, now: Seconds) -> tuple[ServerEffect, ...]:
        positions = self._drawn(event.available)
        self._invited = tuple(map(event.available.__getitem__, positions))
        self._waiting = set(self._invited)
        self._wanted = self.cohort.wanted(len(positions))
        self._opened_s, self.phase = now, "collecting"
        if not positions:
            return self._close(now)
        deadline = None if self.policy.deadline_s is None else now + self.policy.deadline_s
        wake = () if deadline is None else (WakeAt(deadline),)
        nested = () if self.secure is None else self._follow(self.secure.open(self._invited), now)
        return (SendAssignment(tuple(positions), self._invited, self._assignment(deadline)), *wake, *nested)

    def _drawn(self, available: Sequence[str]) -> list[int]:
        """Return the positions of the clients to invite; all that may be asked, if they are too few."""
        if self.separation.min_separation == 1 or self.step is None:
            return drawn(self.cohort, len(available), self.seed, self.number)
        step, last, allows = self.step, self.took_part, self.separation.allows
        may = [place for place, client in enumerate(available) if allows(step, last.get(client))]
        try:
            return [may[place] for place in drawn(self.cohort, len(may), self.seed, self.number)]
        except PlanError:  # the plan has seen to it that the whole population is large enough
            return may

    def _assignment(self, deadline: Seconds | None) -> Assignment:
        return Assignment(
            self.job,
            self.number,
            deadline,
            self.policy.partial_work,
            self.clipping_bound,
            self.step,
            self.separation.min_separation,
            self.ledger,
            self.offer,
        )

    def _collect(self, event: UpdatesReceived, now: Seconds) -> tuple[ServerEffect, ...]:
        if event.partial.clients != len(event.clients):
            raise RemoteProtocolError(
                "T513",
                f"a partial sum of {event.partial.clients} updates claims {len(event.clients)} clients",
            )
        if self.size is not None and event.partial.total.shape != (self.size,):
            raise RemoteProtocolError(
                "T501", f"a partial sum of length {len(event.partial.total)}, not {self.size}"
            )
        if not set(event.clients).issuperset(event.partial_work):
            raise RemoteProtocolError("T513", "partial work is claimed for a client that is not in the sum")
        self._check_waiting(event.clients)
        if len(event.clients) > self.missing:
            raise RemoteProtocolError("T514", f"{len(event.clients)} updates where {self.missing} are wanted")
        self._add(event.clients, event.partial)
        self._partial_work.extend(event.partial_work)
        return self._close(now) if not self.missing or not self._waiting else ()

    def _add(self, clients: tuple[str, ...], partial: Partial) -> None:
        self._sum = partial if self._sum is None else self.rule.merge(self._sum, partial)
        self._waiting.difference_update(clients)
        self._answered.extend(clients)

    def _follow(self, effects: Iterable[GroupEffect], now: Seconds) -> tuple[ServerEffect, ...]:
        """Note what became of groups, and return what else is to be done for them."""
        from tacit.secagg.events import GroupFailed, Summed  # late: only who sums securely needs them

        assert self.secure is not None
        left: list[ServerEffect] = []
        for nested in effects:
            match nested.effect:
                case Summed() as summed:
                    self._blamed |= summed.blamed
                    self._add(summed.survivors, Partial(summed.total, len(summed.survivors)))
                    self._unsay_gone(set(summed.survivors))
                    self._certificates.append(summed.certificate)
                    self._partial_work.extend(self.secure.partial_work.intersection(summed.survivors))
                    self._note_left(summed.left, summed.blamed)
                case GroupFailed() as failed:
                    self._blamed |= failed.blamed
                    self._note_left(failed.left, failed.blamed)
                    late = {client for client, reason in failed.left.items() if reason == LATE}
                    others = self._waiting.intersection(self.secure.members(nested.group)) - late
                    self._failed |= dict.fromkeys(others, f"its group has no sum: {failed.reason}")
                    self._waiting -= others
                case _:
                    left.append(nested)
        return (*left, *self._close(now)) if self.secure.is_done else tuple(left)

    def _unsay_gone(self, survivors: set[str]) -> None:
        """Forget that somebody broke off whose vector had come before: it is in the sum all the same."""
        self._dropped = [client for client in self._dropped if client not in survivors]
        self._failed = {client: why for client, why in self._failed.items() if client not in survivors}

    def _note_left(self, left: Mapping[str, str], blamed: Mapping[str, str]) -> None:
        """Note who left a group, and why; who is late stays awaited until the round closes."""
        for client, reason in {**left, **blamed}.items():
            if client not in self._waiting or reason == LATE:
                continue
            self._waiting.discard(client)
            if reason == VANISHED:
                self._dropped.append(client)
            else:
                self._failed[client] = reason

    def _gone(
        self, clients: tuple[str, ...], now: Seconds, note: Callable[[], None]
    ) -> tuple[ServerEffect, ...]:
        self._check_waiting(clients)
        self._waiting.difference_update(clients)
        note()
        if self.secure is not None:
            secure = self.secure
            nested = [effect for client in clients for effect in secure.gone(client, VANISHED)]
            return self._follow(nested, now)
        return self._close(now) if not self._waiting else ()

    def _check_waiting(self, clients: tuple[str, ...]) -> None:
        if len(set(clients)) != len(clients) or not self._waiting.issuperset(clients):
            stranger = next((c for c in clients if c not in self._waiting), clients[0])
            raise RemoteProtocolError(
                "T515", "the client was not invited or has answered already", where=f"client {stranger!r}"
            )

    def _close(self, now: Seconds) -> tuple[ServerEffect, ...]:
        least = self.policy.least(self._wanted)
        committed = len(self._answered) >= least
        self.phase = "committed" if committed else "abandoned"
        # Who is still awaited at the close has vanished or is late; nobody can tell which.
        self._late.extend(client for client in self._invited if client in self._waiting)
        reason = "" if committed else self._why(least)
        partial = self._partial() if committed else None
        return (RoundClosed(self._record(reason, now), partial, tuple(self._certificates)),)

    def _partial(self) -> Partial:
        """Return the cohort's sum, which is zero where nobody has answered and none was needed."""
        assert self._sum is not None or self.size is not None, "an empty sum has a size"
        return self._sum or Partial(np.zeros(self.size or 0, dtype=np.int64), clients=0)

    def _why(self, least: int) -> str:
        if not self._invited:
            return "nobody was invited"
        return f"{len(self._answered)} of at least {least} clients answered"

    def _record(self, reason: str, now: Seconds) -> RoundRecord:
        return RoundRecord(
            round=self.number,
            outcome="abandoned" if reason else "committed",
            reason=reason,
            invited=self._invited,
            answered=tuple(sorted(self._answered)),
            partial_work=tuple(sorted(self._partial_work)),
            failed=dict(sorted(self._failed.items())),
            dropped=tuple(sorted(self._dropped)),
            late=tuple(sorted(self._late)),
            blamed=dict(sorted(self._blamed.items())),
            opened_s=self._opened_s,
            closed_s=now,
        )


def drawn(cohort: Cohort, available: int, seed: int, number: int) -> list[int]:
    """Return the positions of the clients that a round invites."""
    positions: list[int] = cohort.sample(available, generator(seed, number, "cohort")).tolist()
    return positions
