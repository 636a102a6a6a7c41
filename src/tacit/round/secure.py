"""The secure sums nested in a round: one machine for each group of its cohort."""

from collections.abc import Callable, Iterator, Sequence

from tacit.core.errors import RemoteProtocolError
from tacit.round.group_events import LATE, VANISHED, GroupEffect, GroupEvent, VectorsReceived
from tacit.secagg.events import (
    Gone,
    GroupFailed,
    Opened,
    Received,
    Summed,
)
from tacit.secagg.server import SecureServer

__all__ = ["LATE", "VANISHED", "GroupEffect", "GroupEvent", "Groups", "SecureSums", "VectorsReceived"]

_UNTIL_VECTORS = ("advert", "shares", "vector")

Groups = tuple[tuple[str, ...], ...]
"""A cohort divided; the clients of each group."""


class SecureSums:
    """The groups of one round's cohort, each with a machine of its own; one may fail without the others.

    Args:
        divide: Divides the cohort.
        machine: Builds the machine of a group, from its number and how many groups there are.

    Attributes:
        groups: The groups, once the cohort is known.
        partial_work: Clients that said so of what they sent.
    """

    def __init__(
        self, divide: Callable[[Sequence[str]], Groups], machine: Callable[[int, int], SecureServer]
    ) -> None:
        self._divide, self._machine = divide, machine
        self.groups: Groups = ()
        self.partial_work: set[str] = set()
        self._machines: list[SecureServer] = []
        self._group_of: dict[str, int] = {}
        self._under_way: set[int] = set()

    @property
    def is_done(self) -> bool:
        """Whether every group has its sum, or has failed."""
        return not self._under_way

    def is_under_way(self, group: int) -> bool:
        """Whether a group has neither a sum yet nor failed."""
        return group in self._under_way

    @property
    def vectors(self) -> int:
        """How many clients' vectors are in the sums, of all groups."""
        return sum(machine.vectors for machine in self._machines)

    def open(self, clients: Sequence[str]) -> list[GroupEffect]:
        """Divide a cohort, and begin."""
        self.groups = self._divide(clients)
        self._machines = [self._machine(number, len(self.groups)) for number in range(len(self.groups))]
        self._group_of = {client: number for number, group in enumerate(self.groups) for client in group}
        self._under_way = set(range(len(self.groups)))
        return [
            effect
            for number, group in enumerate(self.groups)
            for effect in self.receive(GroupEvent(number, Opened(group)))
        ]

    def receive(self, event: GroupEvent | VectorsReceived) -> list[GroupEffect]:
        """Hand an event to its group's machine.

        Raises:
            RemoteProtocolError: A client of another group speaks, or the machine refuses it.
        """
        machine = self._machines[event.group]
        if isinstance(event, VectorsReceived):
            effects = machine.vectors_received(event.clients, event.words)
            self.partial_work.update(event.partial_work)
        else:
            self._check_member(event)
            effects = machine.receive(event.event)
        if any(isinstance(effect, Summed | GroupFailed) for effect in effects):
            self._under_way.discard(event.group)
        return [GroupEffect(event.group, effect) for effect in effects]

    def gone(self, client: str, reason: str) -> list[GroupEffect]:
        """Note that nothing more will come from a client."""
        group = self._group_of[client]
        return self.receive(GroupEvent(group, Gone(client, reason))) if group in self._under_way else []

    def close_vectors(self) -> list[GroupEffect]:
        """Wait for no more vectors, in any group: those who owe one, or what comes before it, are late."""
        return [effect for group in sorted(self._under_way) for effect in self._no_more(group)]

    def members(self, group: int) -> tuple[str, ...]:
        """Return the clients of a group."""
        return self.groups[group]

    def _no_more(self, group: int) -> Iterator[GroupEffect]:
        machine = self._machines[group]
        while machine.state in _UNTIL_VECTORS and machine.waiting:
            for client in sorted(machine.waiting):
                yield from self.receive(GroupEvent(group, Gone(client, LATE)))

    def _check_member(self, event: GroupEvent) -> None:
        speaker = getattr(event.event, "client", None)
        if isinstance(event.event, Received | Gone) and self._group_of.get(speaker or "") != event.group:
            raise RemoteProtocolError(
                "T515", "the client is not in this group of the cohort", where=f"client {speaker!r}"
            )
