"""Who is awaited in a step, who has left, and who is to blame for what."""

from collections.abc import Iterable, Mapping


class Attendance:
    """The server's list of a group's clients.

    Attributes:
        waiting: Those whose message of this step is awaited.
    """

    def __init__(self) -> None:
        self.waiting: set[str] = set()
        self._invited: frozenset[str] = frozenset()
        self._left: dict[str, str] = {}
        self._blamed: dict[str, str] = {}
        self._accusers: dict[str, set[str]] = {}

    def invite(self, clients: Iterable[str]) -> None:
        """Begin with these clients."""
        self._invited = frozenset(clients)

    def await_all(self, clients: Iterable[str]) -> None:
        """Await a message from these clients."""
        self.waiting = set(clients)

    def is_there(self, client: str) -> bool:
        """Tell whether the client takes part and has not left."""
        return client in self._invited and client not in self._left

    def leave(self, client: str, reason: str) -> bool:
        """Do without a client from here on; tell whether it had been there."""
        was_there = self.is_there(client)
        if was_there:
            self._left[client] = reason
            self.waiting.discard(client)
        return was_there

    def miss(self, reason: str) -> None:
        """Do without all who are awaited still."""
        for client in tuple(self.waiting):
            self.leave(client, reason)

    def blame(self, client: str, reason: str) -> None:
        """Note what a client did wrong; the first finding stays."""
        self._blamed.setdefault(client, reason)

    def accuse(self, accused: str, accuser: str, reason: str, may_lie: int) -> None:
        """Note that one client complains of another, who is blamed once one of those who do must be honest.

        Args:
            may_lie: How many members of the group may be corrupt.
        """
        accusers = self._accusers.setdefault(accused, set())
        accusers.add(accuser)
        if len(accusers) > may_lie:
            self.blame(accused, f"{reason}, as {len(accusers)} clients say")

    @property
    def blamed(self) -> Mapping[str, str]:
        """What was found wrong, by client."""
        return dict(sorted(self._blamed.items()))

    @property
    def left(self) -> Mapping[str, str]:
        """Why clients did not stay to the end."""
        return dict(sorted(self._left.items()))
