"""Hostile clients: they follow the protocol but for what their docstrings say.

Each has the interface of `tacit.secagg.client.SecureClient`, and stands in its place in `play`. They must be
among the group's corrupt members, for some need the secrets that their machines have drawn. `DishonestDealer`
and `GarbageVector` are for groups without post-quantum keys.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from tacit.secagg.channel import seal
from tacit.secagg.events import ClientEffect, ClientEvent, ClientMessage, Send
from tacit.secagg.identity import Authority, Identity
from tacit.secagg.keys import ChunkTags, channel_key, fresh, vector_key
from tacit.secagg.messages import (
    ADVERT,
    SESSION,
    Advert,
    Complaint,
    Roster,
    Shares,
    Unmask,
    VectorChunk,
    VectorHead,
)
from tacit.secagg.shamir import SECRET_BYTES, SHARE_BYTES, split
from tacit.testing.secure_group import TODAY, OpenEntropy, SecureGroup


class HostileClient:
    """An honest machine whose messages are replaced; a subclass overrides `say`.

    Args:
        group: Its group.
        client: Which of the corrupt members it is.
    """

    def __init__(self, group: SecureGroup, client: str) -> None:
        self.group, self.client = group, client
        self._machine = group.client(client)
        self._roster: Roster | None = None
        self._advert: Advert | None = None

    @property
    def complaint(self) -> Complaint | None:
        """Why the machine left."""
        return self._machine.complaint

    @property
    def holds_secrets(self) -> bool:
        """Whether the machine still holds secrets."""
        return self._machine.holds_secrets

    def receive(self, event: ClientEvent) -> tuple[ClientEffect, ...]:
        """Take one event and return what is to be done."""
        if isinstance(event, Roster):
            self._roster = event
        effects: list[ClientEffect] = []
        for effect in self._machine.receive(event):
            if isinstance(effect, Send):
                effects += map(Send, self.say(effect.message))
            else:
                effects.append(effect)
        return tuple(effects)

    def say(self, message: ClientMessage) -> Iterable[ClientMessage]:
        """Return what is sent in the place of an honest message."""
        return (message,)

    @property
    def _opened(self) -> OpenEntropy:
        return self.group.opened[self.client]


class GarbageShares(HostileClient):
    """Seals garbage for its neighbours, which none can open."""

    def say(self, message: ClientMessage) -> Iterable[ClientMessage]:
        """Return the message, with noise for sealed shares."""
        if isinstance(message, Shares):
            noise = tuple((at, bytes(fresh(len(sealed)))) for at, sealed in message.sealed)
            return (msgspec.structs.replace(message, sealed=noise),)
        return (message,)


class DishonestDealer(HostileClient):
    """Deals shares that belong to no secret, sealed as they must be.

    Args:
        cheated: To how many of its neighbours, the first ones.
    """

    def __init__(self, group: SecureGroup, client: str, cheated: int) -> None:
        super().__init__(group, client)
        self._cheated = cheated

    def say(self, message: ClientMessage) -> Iterable[ClientMessage]:
        """Return the message, with other shares in some of the sealed ones."""
        if not isinstance(message, Shares):
            return (message,)
        sealed = [
            (at, self._other(message, at) if index < self._cheated else was)
            for index, (at, was) in enumerate(message.sealed)
        ]
        return (msgspec.structs.replace(message, sealed=tuple(sealed)),)

    def _other(self, message: Shares, at: int) -> bytes:
        roster, keys = self._roster, self._opened.keys(post_quantum=False)
        assert roster is not None
        (advert,) = [one for one in roster.adverts if one.client == roster.members[at][0]]
        key = channel_key(keys.share_private, advert.share_key, message.session, message.sender, at)
        return seal(key, message.session, message.sender, at, _share() + _share())


class FalseCommitment(HostileClient):
    """Commits to another self-mask secret than the one it shares, and signs that."""

    def say(self, message: ClientMessage) -> Iterable[ClientMessage]:
        """Return the message, with a commitment to nothing."""
        if not isinstance(message, Shares):
            return (message,)
        commitment, identity = bytes(fresh(32)), self.group.identities[self.client]
        signature = identity.sign(SESSION, message.session, commitment)
        return (msgspec.structs.replace(message, commitment=commitment, signature=signature),)


class GarbageVector(HostileClient):
    """Sends noise for its masked vector.

    Args:
        tags: ``right``: as if it were its own, which nobody can tell; ``wrong``: as they were; ``last``: as
            they were, and only the last piece is noise; ``long``: the vector claims another length;
            ``unordered``: the pieces come in another order.
    """

    def __init__(
        self,
        group: SecureGroup,
        client: str,
        tags: Literal["right", "wrong", "last", "long", "unordered"] = "wrong",
    ) -> None:
        super().__init__(group, client)
        self._tags = tags

    def say(self, message: ClientMessage) -> Iterable[ClientMessage]:
        """Return the message, with noise for words."""
        if isinstance(message, VectorHead) and self._tags == "long":
            return (msgspec.structs.replace(message, words=message.words + 1),)
        if not isinstance(message, VectorChunk) or self._tags == "long":
            return (message,)
        if self._tags == "unordered":
            return (msgspec.structs.replace(message, index=message.index ^ 1),)
        body = bytes(fresh(len(message.body)))
        if self._tags == "last" and len(body) == self.group.chunk:
            return (message,)
        if self._tags in ("wrong", "last"):
            return (msgspec.structs.replace(message, body=body),)
        keys, server_key = self._opened.keys(post_quantum=False), self.group.terms.server_key
        tags = ChunkTags(vector_key(keys.share_private, server_key, message.session, message.sender))
        return (msgspec.structs.replace(message, body=body, tag=tags.tag(message.index, body)),)


class LyingAnswer(HostileClient):
    """Answers with shares that it was never given."""

    def say(self, message: ClientMessage) -> Iterable[ClientMessage]:
        """Return the message, with other shares."""
        if not isinstance(message, Unmask):
            return (message,)
        own = tuple((at, _share()) for at, _ in message.self_shares)
        seeds = tuple((at, _share()) for at, _ in message.seed_shares)
        return (msgspec.structs.replace(message, self_shares=own, seed_shares=seeds),)


class AnswersTwice(HostileClient):
    """Sends everything twice."""

    def say(self, message: ClientMessage) -> Iterable[ClientMessage]:
        """Return the message, two times."""
        return (message, message)


class ReplayingClient(HostileClient):
    """Sends old messages of its own first.

    Args:
        recorded: What it sent in another round.
    """

    def __init__(self, group: SecureGroup, client: str, recorded: Sequence[ClientMessage]) -> None:
        super().__init__(group, client)
        self._recorded = recorded

    def say(self, message: ClientMessage) -> Iterable[ClientMessage]:
        """Return the old message of this kind in place of the new one."""
        old = [one for one in self._recorded if type(one) is type(message)]
        return (old[0],) if old else (message,)


class Impersonator(HostileClient):
    """Writes another member's position on its messages.

    Args:
        position: Whose.
    """

    def __init__(self, group: SecureGroup, client: str, position: int) -> None:
        super().__init__(group, client)
        self._position = position

    def say(self, message: ClientMessage) -> Iterable[ClientMessage]:
        """Return the message in the other's name."""
        if isinstance(message, Advert):
            return (message,)
        return (msgspec.structs.replace(message, sender=self._position),)


class ForgedAdvert(HostileClient):
    """Joins under its id with keys that the authority has not vouched for.

    Args:
        proof: A certificate of another authority (``forged``), none (``unenrolled``), or the right one with a
            signature by another key (``stolen``).
    """

    def __init__(
        self,
        group: SecureGroup,
        client: str,
        proof: Literal["forged", "unenrolled", "stolen"] = "forged",
    ) -> None:
        super().__init__(group, client)
        self._proof = proof

    def say(self, message: ClientMessage) -> Iterable[ClientMessage]:
        """Return the advert with other proof."""
        if not isinstance(message, Advert):
            return (message,)
        identity, certificate = Identity.generate(), message.certificate
        if self._proof == "forged":
            certificate = Authority.generate().enrol(self.client, identity.public, TODAY)
        elif self._proof == "unenrolled":
            certificate = None
        unsigned = msgspec.structs.replace(message, certificate=certificate)
        return (msgspec.structs.replace(unsigned, signature=identity.sign(ADVERT, unsigned.signed_part)),)


class FalseAccuser(HostileClient):
    """Leaves once it has its shares, and says that a neighbour's were bad.

    Args:
        position: Whom it accuses.
    """

    def __init__(self, group: SecureGroup, client: str, position: int) -> None:
        super().__init__(group, client)
        self._position = position

    def say(self, message: ClientMessage) -> Iterable[ClientMessage]:
        """Return the complaint in the vector's place."""
        if isinstance(message, VectorHead):
            return (Complaint(message.session, message.sender, 563, self._position),)
        return () if isinstance(message, VectorChunk) else (message,)


def _share() -> bytes:
    """Return a share of some other secret."""
    share = split(fresh(SECRET_BYTES), 2, [0, 1])[1]
    assert len(share) == SHARE_BYTES
    return share
