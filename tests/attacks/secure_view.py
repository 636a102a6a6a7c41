"""What a server, and the clients that work for it, can work out of a secure sum: linear algebra, exactly.

One word of the ring stands for all. Every honest input and every key's stream is an unknown; every masked
vector is an equation; every key that the view gives away is none any more. What is left is a matrix of 1, -1
and 0, and the combinations of vectors in which no unknown stream is left are all that can be learnt:
its left null space. Which masks are in a vector is read off what the client really masked its row with,
and a key counts as known once it has *been derived* from what was sent and what the colluders hold.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tacit.core.errors import RemoteProtocolError
from tacit.secagg.client import SecureClient
from tacit.secagg.entropy import GivenNonce
from tacit.secagg.events import ClientEffect, ClientEvent, Masks
from tacit.secagg.graph import neighbours
from tacit.secagg.keys import MaskKeys, RoundKeys, commitment_of, is_seed_of, self_mask_key
from tacit.secagg.masks import Mask, add_masks
from tacit.secagg.messages import SHARE_BYTES, Advert, Roster, Shares, Unmask, VectorChunk
from tacit.secagg.shamir import combine
from tests.unit.secagg.playing import Playing, Row, World

Matrix = npt.NDArray[np.int64]
Combination = tuple[tuple[int, int], ...]
"""Positions and what their inputs are multiplied by; 0 is left out."""
PRIME = 2**31 - 1


class Noted(GivenNonce):
    """The system's entropy, and a copy of every secret drawn: the test knows what the view may not."""

    def __init__(self, nonce: bytes) -> None:
        super().__init__(nonce)
        self.drawn: list[bytes] = []

    def secret(self, size: int, /) -> bytearray:
        drawn = super().secret(size)
        self.drawn.append(bytes(drawn))
        return drawn


class Watched:
    """A client's machine whose masks and secrets the test sees; it may leave masks out.

    Args:
        world: The group's setting.
        name: The client.
        keep: Which of its masks it uses, the self mask first; a sound client uses all.
    """

    def __init__(self, world: World, name: str, keep: slice = slice(None)) -> None:
        self.entropy = Noted(world.nonces[name])
        self.machine: SecureClient = world.client(name, entropy=self.entropy)
        self.masks: tuple[Mask, ...] = ()
        self._keep = keep

    def receive(self, event: ClientEvent) -> tuple[ClientEffect, ...]:
        return tuple(map(self._noted, self.machine.receive(event)))

    def _noted(self, effect: ClientEffect) -> ClientEffect:
        if not isinstance(effect, Masks):
            return effect
        self.masks = effect.masks[self._keep]
        return Masks(self.masks)

    def __getattr__(self, name: str) -> object:
        return getattr(self.machine, name)


def watched(world: World, keep: Mapping[str, slice] | None = None) -> dict[str, Watched]:
    """Return all clients of a world; ``keep`` says which masks some of them use."""
    return {name: Watched(world, name, (keep or {}).get(name, slice(None))) for name in world.clients}


@dataclass
class View:
    """All that went through the server, and all that the colluders have.

    Attributes:
        members: The members' ids, by position.
        threshold: How many shares open a secret.
        graph: The neighbours of every member.
        session: The session's id.
        adverts: Public keys, by position.
        dealt: What each member dealt.
        answers: Whatever anybody answered to a survivor set.
        vectors: Masked vectors that came whole, late ones too.
        colluders: Positions of the members that work for the server, and the secrets that they drew.
    """

    members: tuple[str, ...]
    threshold: int
    graph: Sequence[Sequence[int]]
    session: bytes
    adverts: dict[int, Advert]
    dealt: dict[int, Shares] = field(default_factory=dict)
    answers: list[Unmask] = field(default_factory=list)
    vectors: dict[int, bytes] = field(default_factory=dict)
    colluders: dict[int, list[bytes]] = field(default_factory=dict)

    @classmethod
    def of(cls, playing: Playing, colluders: Collection[str] = ()) -> "View | None":
        """Return the view of a group that was played with `watched` clients; None: there was no session."""
        roster = next((m for _, _, m in playing.transcript if isinstance(m, Roster)), None)
        if roster is None:
            return None
        members = tuple(client for client, _, _ in roster.members)
        seed = playing.world.terms.graph_seed((client, nonce) for client, nonce, _ in roster.members)
        graph = neighbours(len(members), roster.neighbours, seed)
        at = {client: position for position, client in enumerate(members)}
        view = cls(members, roster.threshold, graph, roster.session, {})
        chunks: dict[int, list[bytes]] = defaultdict(list)
        for client, is_up, message in playing.transcript:
            match message:
                case Advert() if client in at:
                    view.adverts[at[client]] = message
                case Shares():
                    view.dealt[at[client]] = message
                case VectorChunk() if is_up:
                    chunks[at[client]].append(bytes(message.body))
                case Unmask():
                    view.answers.append(message)
        whole = playing.world.ring.words * 8
        joined = {position: b"".join(parts) for position, parts in chunks.items()}
        view.vectors = {position: body for position, body in joined.items() if len(body) == whole}
        view.colluders = {
            at[name]: playing.clients[name].entropy.drawn  # type: ignore[attr-defined]
            for name in colluders
            if name in at
        }
        return view

    @property
    def honest(self) -> tuple[int, ...]:
        """Positions of honest members whose masked vectors are in the view."""
        return tuple(sorted(self.vectors.keys() - self.colluders.keys()))

    def secrets(self) -> tuple[dict[int, bytes], dict[int, bytes]]:
        """Return the self-mask secrets and the mask seeds that can be rebuilt, by position."""
        selves, seeds = self._shares()
        opened = self._rebuilt(
            selves, lambda at, b: commitment_of(b, self.session, at) == self.dealt[at].commitment
        )
        rebuilt = self._rebuilt(seeds, lambda at, seed: is_seed_of(seed, self.adverts[at].mask_key))
        opened |= {at: drawn[-1] for at, drawn in self.colluders.items() if at in self.dealt}
        return opened, rebuilt | {at: drawn[0] for at, drawn in self.colluders.items()}

    def known_keys(self) -> frozenset[bytes]:
        """Return every mask's key that follows from those secrets."""
        selves, seeds = self.secrets()
        keys = {self_mask_key(b, self.session, at) for at, b in selves.items()}
        for own, seed in seeds.items():
            mine = MaskKeys(seed)
            for at in self.graph[own]:
                if own in self.dealt and at in self.dealt:
                    sent, received = self._capsule(own, at), self._capsule(at, own)
                    advert = self.adverts[at]
                    keys.add(mine.pair_key(advert, self.session, own, at, sent=sent, received=received))
        return frozenset(keys)

    def _rebuilt(
        self, shares: Mapping[int, Mapping[int, bytes]], is_right: Callable[[int, bytes], bool]
    ) -> dict[int, bytes]:
        """Return what the shares give; fewer than the threshold are tried too, and ought to be in vain."""
        found = {}
        for owner, held in shares.items():
            first = dict(sorted(held.items())[: self.threshold])
            try:
                secret = combine(first, len(first))
            except RemoteProtocolError:  # what comes out is no secret
                secret = b""
            if secret and is_right(owner, secret):
                found[owner] = secret
            else:
                assert len(first) < self.threshold, "enough shares open a secret"
        return found

    def _shares(self) -> tuple[dict[int, dict[int, bytes]], dict[int, dict[int, bytes]]]:
        selves: dict[int, dict[int, bytes]] = defaultdict(dict)
        seeds: dict[int, dict[int, bytes]] = defaultdict(dict)
        for answer in self.answers:
            for owner, share in answer.self_shares:
                selves[owner][answer.sender] = share
            for owner, share in answer.seed_shares:
                seeds[owner][answer.sender] = share
        for own, drawn in self.colluders.items():
            keys = replayed(drawn)
            for owner, message in self.dealt.items():
                sealed = dict(message.sealed).get(own)
                if sealed is not None:
                    both = keys.open_from(
                        self.adverts[owner],
                        self.session,
                        own,
                        owner,
                        sealed,
                        capsule=self._capsule(owner, own),
                    )
                    selves[owner][own], seeds[owner][own] = (
                        bytes(both[:SHARE_BYTES]),
                        bytes(both[SHARE_BYTES:]),
                    )
        return selves, seeds

    def _capsule(self, sender: int, recipient: int) -> bytes:
        dealt = self.dealt[sender]
        named = [at for at, _ in dealt.sealed]
        return dealt.capsules[named.index(recipient)] if dealt.capsules else b""


def replayed(drawn: Sequence[bytes]) -> RoundKeys:
    """Make the round's keys again of a client whose draws are known."""
    draws = iter(drawn)
    return RoundKeys(lambda size: bytearray(next(draws)), post_quantum=len(drawn) > 2 and len(drawn[2]) == 64)


def learnt(view: View, masks: Mapping[str, Sequence[Mask]]) -> set[Combination]:
    """Return a basis of all that the view says about honest inputs.

    Args:
        view: The view.
        masks: What each client masked its row with, which the adversary knows but for the keys.
    """
    known, honest = view.known_keys(), view.honest
    used = {at: [mask for mask in masks[view.members[at]] if mask.key not in known] for at in honest}
    column = {key: i for i, key in enumerate(dict.fromkeys(m.key for at in honest for m in used[at]))}
    streams = np.zeros((len(honest), len(column)), np.int64)
    for row, at in enumerate(honest):
        for mask in used[at]:
            streams[row, column[mask.key]] += mask.sign
    basis = left_null(streams, PRIME)
    # No more is learnt about a number's lowest bit, as it would be if a stream were in a vector twice.
    assert len(left_null(streams, 2)) == len(basis)
    return {_named(row, honest) for row in basis}


def left_null(matrix: Matrix, prime: int) -> Matrix:
    """Return the reduced basis of all rows ``v`` with ``v @ matrix = 0`` modulo a prime below 2^31.

    What is independent modulo a prime is so over the rationals: no combination is overlooked.
    """
    rows, columns = matrix.shape
    both = np.concatenate([matrix % prime, np.eye(rows, dtype=np.int64)], axis=1)
    rank = _reduce(both, columns, prime)
    null = both[rank:, columns:].copy()
    _reduce(null, rows, prime)
    return null


def _reduce(matrix: Matrix, columns: int, prime: int) -> int:
    """Bring a matrix into reduced echelon form in its first columns, in place; return its rank there."""
    rank = 0
    for column in range(columns):
        candidates = np.flatnonzero(matrix[rank:, column])
        if not len(candidates):
            continue
        pivot = rank + candidates[0]
        matrix[[rank, pivot]] = matrix[[pivot, rank]]
        matrix[rank] = matrix[rank] * pow(int(matrix[rank, column]), -1, prime) % prime
        others = np.flatnonzero(matrix[:, column])
        others = others[others != rank]
        matrix[others] = (matrix[others] - matrix[others, column][:, None] * matrix[rank]) % prime
        rank += 1
    return rank


def _named(row: Matrix, honest: Sequence[int]) -> Combination:
    signed = [int(c) - PRIME if c > PRIME // 2 else int(c) for c in row]
    return tuple((at, c) for at, c in zip(honest, signed, strict=True) if c)


def sum_of(positions: Iterable[int]) -> Combination:
    """Return the plain sum of some inputs."""
    return tuple((at, 1) for at in sorted(positions))


def parts(view: View, survivors: Iterable[str]) -> list[set[int]]:
    """Return the connected parts of the honest survivors, as the graph joins them."""
    left = {view.members.index(name) for name in survivors} - view.colluders.keys()
    found = []
    while left:
        part, front = set[int](), {min(left)}
        while front:
            part |= front
            front = {at for own in front for at in view.graph[own] if at in left} - part
        left -= part
        found.append(part)
    return found


def check_equations(
    view: View, world: World, rows: Mapping[str, Row], clients: Mapping[str, Watched]
) -> None:
    """Check: the vectors that went out are the rows plus exactly the masks that the equations are made of."""
    for at, body in view.vectors.items():
        name = view.members[at]
        words = world.ring.pack(rows[name])
        add_masks(words, clients[name].masks)
        assert words.astype("<u8").tobytes() == body


def view_of(playing: Playing, colluders: Collection[str] = ()) -> View:
    """Return the view of a group that had a session, whose vectors are what is said of them."""
    view = View.of(playing, colluders)
    assert view is not None, "the group had a session"
    check_equations(view, playing.world, playing.rows, playing.clients)  # type: ignore[arg-type]
    return view


def told(view: View, playing: Playing) -> set[Combination]:
    """Return all that the view says about honest inputs."""
    return learnt(view, {name: client.masks for name, client in playing.clients.items()})  # type: ignore[attr-defined]
