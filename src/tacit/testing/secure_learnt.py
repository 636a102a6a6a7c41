"""What a server has learnt that may lie: every secret it can rebuild, and every sum it can open.

All that a server has are the messages, and the secrets of the corrupt members and of keys that it planted.
A vector is its row under a self mask and one mask per neighbour. A mask is *known* if its secret is; that of
a pair of which no end's seed is known can only cancel against the other end's. So the vectors whose unknown
masks cancel among each other stand or fall together: such a part opens if every self mask in it is known,
and what these parts give is all that any sum or difference of the vectors can give.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from tacit.core.errors import RemoteProtocolError
from tacit.secagg.events import ClientMessage, ServerMessage, Total, Words
from tacit.secagg.keys import MaskKeys, RoundKeys, commitment_of, is_seed_of, self_mask_key
from tacit.secagg.masks import Mask, add_masks
from tacit.secagg.messages import (
    Advert,
    Delivery,
    Roster,
    Shares,
    Survivors,
    SurvivorSignature,
    Unmask,
    VectorChunk,
)
from tacit.secagg.shamir import SHARE_BYTES, recover
from tacit.testing.secure_group import SecureGroup
from tacit.testing.secure_play import words_of

Held = dict[str, dict[int, bytes]]
"""Shares by owner and position of the holder, in the owner's roster."""


@dataclass(frozen=True)
class View:
    """The group as a server has shown it to one client.

    Attributes:
        client: The client.
        advert: Its own advert.
        roster: The roster that it was told.
    """

    client: str
    advert: Advert
    roster: Roster

    @property
    def members(self) -> tuple[str, ...]:
        """Ids of the members that the client was told of, by position."""
        return tuple(client for client, _, _ in self.roster.members)

    @property
    def position(self) -> int:
        """The client's own position."""
        return self.members.index(self.client)

    def position_of(self, client: str) -> int | None:
        """Return the position of another member, or None if this client was not told of it."""
        return self.members.index(client) if client in self.members else None


@dataclass
class Record:
    """Every message of a play as the server had it.

    Attributes:
        adverts: By client, as all that follow: the latest it sent.
        rosters: The first it was told.
        shares: The latest it sent.
        deliveries: The first it was told.
        chunks: All pieces of its vector.
        survivors: The first set it was told.
        signatures: The latest it sent.
        answers: All it gave.
        sent: All messages to clients, in order.
        received: All messages from clients, in order.
    """

    adverts: dict[str, Advert] = field(default_factory=dict)
    rosters: dict[str, Roster] = field(default_factory=dict)
    shares: dict[str, Shares] = field(default_factory=dict)
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    chunks: dict[str, list[VectorChunk]] = field(default_factory=dict)
    survivors: dict[str, Survivors] = field(default_factory=dict)
    signatures: dict[str, SurvivorSignature] = field(default_factory=dict)
    answers: dict[str, list[Unmask]] = field(default_factory=dict)
    sent: list[tuple[str, ServerMessage]] = field(default_factory=list)
    received: list[tuple[str, ClientMessage]] = field(default_factory=list)

    def note_received(self, client: str, message: ClientMessage) -> None:
        """Keep what a client sent."""
        self.received.append((client, message))
        match message:
            case Advert():
                self.adverts[client] = message
            case Shares():
                self.shares[client] = message
            case VectorChunk():
                self.chunks.setdefault(client, []).append(message)
            case SurvivorSignature():
                self.signatures[client] = message
            case Unmask():
                self.answers.setdefault(client, []).append(message)

    def note_sent(self, client: str, message: ServerMessage) -> None:
        """Keep what a client was told."""
        self.sent.append((client, message))
        match message:
            case Roster():
                self.rosters.setdefault(client, message)
            case Delivery():
                self.deliveries.setdefault(client, message)
            case Survivors():
                self.survivors.setdefault(client, message)

    def view(self, client: str) -> View | None:
        """Return the group as a client was shown it, if it was."""
        advert, roster = self.adverts.get(client), self.rosters.get(client)
        return View(client, advert, roster) if advert is not None and roster is not None else None

    def vectors(self, words: int) -> dict[str, Words]:
        """Return the masked vectors that came whole."""
        whole = {client: words_of([chunk.body for chunk in chunks]) for client, chunks in self.chunks.items()}
        return {client: vector for client, vector in whole.items() if len(vector) == words}


@dataclass(frozen=True)
class Learnt:
    """All that a hostile server can compute about the honest members.

    Attributes:
        self_secrets: The self-mask secrets that it has rebuilt.
        seeds: The mask seeds that it has rebuilt.
        sums: Every smallest sum of rows that it can open, by whose rows are in it.
        residuals: The vectors of the honest, less every mask that it knows: what it holds of each.
    """

    self_secrets: Mapping[str, bytes] = field(repr=False)
    seeds: Mapping[str, bytes] = field(repr=False)
    sums: Mapping[frozenset[str], Total] = field(repr=False)
    residuals: Mapping[str, Words] = field(repr=False)

    @property
    def both(self) -> frozenset[str]:
        """The members of whom it has both secrets, so that nothing hides their rows."""
        return frozenset(self.self_secrets.keys() & self.seeds.keys())

    @property
    def opened(self) -> frozenset[frozenset[str]]:
        """Of whom it has sums, as small as it can make them."""
        return frozenset(self.sums)


def learn(group: SecureGroup, record: Record, planted: Iterable[RoundKeys] = ()) -> Learnt:
    """Return all that a server can compute from what it has.

    Args:
        planted: Keys of its own that it passed off as a member's, or with which it invented members.
    """
    return _Analysis(group, record, planted).learnt()


class _Analysis:
    def __init__(self, group: SecureGroup, record: Record, planted: Iterable[RoundKeys]) -> None:
        self._group, self._record = group, record
        drawn = [opened for opened in group.opened.values() if opened.drawn]
        read = [opened.keys(post_quantum=group.terms.post_quantum) for opened in drawn]
        self._readable = {keys.mask_public: keys for keys in (*read, *planted)}
        honest = [client for client in group.clients if client not in group.corrupted]
        self._views = {client: view for client in group.clients if (view := record.view(client)) is not None}
        self_shares, seed_shares = self._held()
        self._self_secrets = self._rebuilt(self_shares, honest, self._is_self_secret)
        self._seeds = self._rebuilt(seed_shares, honest, self._is_seed)
        rebuilt = {keys.mask_public: keys for keys in map(MaskKeys, self._seeds.values())}
        self._known: Mapping[bytes, MaskKeys] = self._readable | rebuilt

    def learnt(self) -> Learnt:
        vectors = self._record.vectors(self._group.ring.words)
        selves = self._self_secrets | {
            client: opened.drawn[-1] for client, opened in self._group.opened.items() if opened.drawn
        }
        part_of = {client: client for client in vectors}
        closed: set[str] = set()
        for client, vector in vectors.items():
            known, open_to = self._terms_of(client)
            add_masks(vector, known)
            if client in selves:
                view = self._views[client]
                key = self_mask_key(selves[client], view.roster.session, view.position)
                add_masks(vector, [Mask(key, -1)])
            else:
                closed.add(client)
            for other in open_to:
                if other in vectors and self._cancels(client, other):
                    _join(part_of, client, other)
                else:
                    closed.add(client)
        sums = {
            part: self._group.ring.unpack(
                np.sum([vectors[client] for client in part], axis=0, dtype=np.uint64)
            )
            for part in _parts(part_of)
            if not part & closed and not part & self._group.corrupted
        }
        residuals = {client: vectors[client] for client in vectors if client not in self._group.corrupted}
        return Learnt(self._self_secrets, self._seeds, sums, residuals)

    def _held(self) -> tuple[Held, Held]:
        """Return every share that the server has been given, or that a corrupt member can open."""
        self_shares: Held = {}
        seed_shares: Held = {}
        for holder, answers in self._record.answers.items():
            for answer in answers:
                self._give(self_shares, holder, answer.self_shares)
                self._give(seed_shares, holder, answer.seed_shares)
        for owner, view in self._views.items():
            for advert in view.roster.adverts:
                at = view.position_of(advert.client)
                share = self._opened(view, advert, at)
                if share and at is not None:
                    self_shares.setdefault(owner, {})[at] = share[:SHARE_BYTES]
                    seed_shares.setdefault(owner, {})[at] = share[SHARE_BYTES:]
        return self_shares, seed_shares

    def _give(self, held: Held, holder: str, shares: Sequence[tuple[int, bytes]]) -> None:
        told = self._views[holder].members
        for position, share in shares:
            owner = told[position]
            at = self._views[owner].position_of(holder) if owner in self._views else None
            if at is not None:
                held.setdefault(owner, {})[at] = share

    def _opened(self, view: View, advert: Advert, at: int | None) -> bytes:
        """Return the two shares that a member sealed for this neighbour, if the server has its keys."""
        keys, dealt = self._readable.get(advert.mask_key), self._record.shares.get(view.client)
        sealed = dict(dealt.sealed).get(at) if dealt is not None and at is not None else None
        if keys is None or sealed is None or at is None:
            return b""
        capsule, session = self._capsule(view.client, advert.client), view.roster.session
        try:
            return bytes(keys.open_from(view.advert, session, at, view.position, sealed, capsule=capsule))
        except RemoteProtocolError:
            return b""

    def _rebuilt(
        self, held: Held, honest: Iterable[str], is_right: Callable[[str, bytes], bool]
    ) -> dict[str, bytes]:
        secrets = {}
        for owner in honest:
            if owner not in self._views or owner not in held:
                continue
            threshold = self._views[owner].roster.threshold
            found = recover(held[owner], threshold, partial(is_right, owner))
            if found.secret is not None:
                secrets[owner] = found.secret
        return secrets

    def _is_self_secret(self, owner: str, secret: bytes) -> bool:
        dealt, view = self._record.shares.get(owner), self._views[owner]
        right = None if dealt is None else dealt.commitment
        return commitment_of(secret, view.roster.session, view.position) == right

    def _is_seed(self, owner: str, secret: bytes) -> bool:
        return is_seed_of(secret, self._views[owner].advert.mask_key)

    def _terms_of(self, client: str) -> tuple[list[Mask], list[str]]:
        """Return what takes a client's known pair masks off its vector, and whose pair masks are unknown."""
        view, known, unknown = self._views[client], [], []
        for other, advert in self._masked_with(client):
            key = self._pair_key(view, other, advert)
            if key is None:
                unknown.append(other)
            else:
                low = view.position < view.members.index(other)
                known.append(Mask(key, -1 if low else 1))
        return known, unknown

    def _masked_with(self, client: str) -> Iterator[tuple[str, Advert]]:
        """Yield the neighbours that a client masked its row with, and the adverts it was given for them."""
        view, delivery = self._views[client], self._record.deliveries.get(client)
        adverts = {advert.client: advert for advert in view.roster.adverts}
        for position, _ in delivery.sealed if delivery is not None else ():
            other = view.members[position]
            yield other, adverts[other]

    def _pair_key(self, view: View, other: str, advert: Advert) -> bytes | None:
        at, session = view.members.index(other), view.roster.session
        there, back = self._capsule(view.client, other), self._capsule(other, view.client)
        try:
            if view.advert.mask_key in self._known:
                keys = self._known[view.advert.mask_key]
                return keys.pair_key(advert, session, view.position, at, sent=there, received=back)
            if advert.mask_key in self._known:
                keys = self._known[advert.mask_key]
                return keys.pair_key(view.advert, session, at, view.position, sent=back, received=there)
        except RemoteProtocolError:
            return None
        return None

    def _capsule(self, owner: str, holder: str) -> bytes:
        dealt = self._record.shares.get(owner)
        if dealt is None or not dealt.capsules or owner not in self._views:
            return b""
        at = self._views[owner].position_of(holder)
        there = dict(zip((position for position, _ in dealt.sealed), dealt.capsules, strict=True))
        return there.get(at, b"") if at is not None else b""

    def _cancels(self, client: str, other: str) -> bool:
        """Tell whether two members' masks for each other are the same stream."""
        one, two = self._views[client], self._views[other]
        met = {name for name, _ in self._masked_with(other)}
        shown = {advert.client: advert.mask_key for advert in two.roster.adverts}
        return (
            client in met
            and one.roster.session == two.roster.session
            and shown.get(client) == one.advert.mask_key
        )


def _join(part_of: dict[str, str], one: str, two: str) -> None:
    """Put two into the same part, and with them all who are in theirs."""
    old, new = part_of[two], part_of[one]
    for client, part in part_of.items():
        if part == old:
            part_of[client] = new


def _parts(part_of: Mapping[str, str]) -> Iterator[frozenset[str]]:
    for name in set(part_of.values()):
        yield frozenset(client for client, part in part_of.items() if part == name)
