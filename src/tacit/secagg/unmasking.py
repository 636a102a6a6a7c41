"""Rebuild what the survivors' shares open, and turn it into the masks that are still in the sum."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tacit.core.errors import RemoteProtocolError
from tacit.secagg.agreement import Agree
from tacit.secagg.keys import MaskKeys, commitment_of, is_seed_of, self_mask_key
from tacit.secagg.masks import Mask
from tacit.secagg.messages import Advert, Shares, Unmask
from tacit.secagg.shamir import recover

Graph = Sequence[Sequence[int]]
"""The neighbours of every member, by position."""


@dataclass(frozen=True)
class Session:
    """What the server knows of a group once its members are fixed.

    Attributes:
        id: The session's id.
        root: Digest of the members and their adverts.
        clients: The members' ids; a position is an index of these.
        adverts: By position.
        graph: The neighbours of every member.
        threshold: How many shares open a secret.
    """

    id: bytes
    root: bytes
    clients: tuple[str, ...]
    adverts: tuple[Advert, ...]
    graph: Graph
    threshold: int

    @property
    def neighbours(self) -> int:
        """How many neighbours each member has."""
        return len(self.graph[0])


@dataclass
class Rebuilt:
    """The masks to take off, unless ``missing`` says which secret did not come back.

    Attributes:
        masks: With the signs that take them off.
        blamed: Positions of members whose shares do not fit, and which.
        missing: Empty if the sum can be opened.
    """

    masks: list[Mask] = field(default_factory=list, repr=False)
    blamed: dict[int, str] = field(default_factory=dict)
    missing: str = ""


def to_open(session: Session, dealers: Iterable[int], alive: frozenset[int]) -> list[int]:
    """Return the members of whom one secret is needed: the survivors, and the dead whose masks they carry."""
    return [at for at in dealers if at in alive or not alive.isdisjoint(session.graph[at])]


def short_of(session: Session, owners: Iterable[int], holders: Iterable[int]) -> str:
    """Return of whom too few neighbours are among ``holders``, or nothing."""
    there = set(holders)
    for owner in owners:
        count = len(there.intersection(session.graph[owner]))
        if count < session.threshold:
            return f"{count} of at least {session.threshold} neighbours of {session.clients[owner]!r}"
    return ""


def core(session: Session, members: Iterable[int]) -> set[int]:
    """Return the largest part of the members in which everybody has ``threshold`` neighbours."""
    there = set(members)
    while weak := {at for at in there if len(there.intersection(session.graph[at])) < session.threshold}:
        there -= weak
    return there


def rebuild(
    session: Session,
    dealt: Mapping[int, Shares],
    alive: frozenset[int],
    answers: Mapping[int, Unmask],
    agree: Agree,
) -> Rebuilt:
    """Rebuild the self mask of every survivor and the pair masks of the dead from the answers' shares.

    Args:
        dealt: What the members dealt, by position: their commitments, and capsules if post-quantum.
        alive: The survivors.
        answers: By the position of who gave them.
    """
    rebuilt, shares = Rebuilt(), _by_owner(answers)
    for owner in to_open(session, dealt, alive):
        is_right = _right(session, owner, dealt[owner], owner in alive)
        found = recover(shares.get(owner, {}), session.threshold, is_right)
        for liar in found.liars:
            # Nobody but the two knows what was sealed: the shares cannot tell which of them lied.
            words = f"its share of a secret of {session.clients[owner]!r} does not fit: one of the two lied"
            rebuilt.blamed.setdefault(liar, words)
        if found.secret is None:
            rebuilt.missing = f"the secret of {session.clients[owner]!r} does not come out of its shares"
            words = "its shares do not give the secret that it had committed to, or too many neighbours lied"
            rebuilt.blamed.setdefault(owner, words)
        elif owner in alive:
            rebuilt.masks.append(Mask(self_mask_key(found.secret, session.id, owner), -1))
        else:
            _pair_masks(session, owner, found.secret, dealt, alive, agree, rebuilt)
        if rebuilt.missing:
            break
    return rebuilt


def _right(session: Session, owner: int, dealt: Shares, is_alive: bool) -> Callable[[bytes], bool]:
    if is_alive:
        return lambda b: commitment_of(b, session.id, owner) == dealt.commitment
    return lambda seed: is_seed_of(seed, session.adverts[owner].mask_key)


def _pair_masks(
    session: Session,
    owner: int,
    seed: bytes,
    dealt: Mapping[int, Shares],
    alive: frozenset[int],
    agree: Agree,
    rebuilt: Rebuilt,
) -> None:
    """Take off the masks that the survivors among a dead member's neighbours share with it."""
    keys = MaskKeys(seed)
    for at in session.graph[owner]:
        if at not in alive:
            continue
        sent, received = _capsule(dealt[owner], at), _capsule(dealt[at], owner)
        try:
            key = keys.pair_key(
                session.adverts[at], session.id, owner, at, sent=sent, received=received, agree=agree
            )
        except RemoteProtocolError as error:
            rebuilt.missing = f"a mask of {session.clients[owner]!r} does not come out of its seed"
            rebuilt.blamed.setdefault(owner, f"{error.what}, so that its masks stay in the sum")
            break
        # The lower of a pair had added the mask, the higher subtracted it; this takes off what `at` did.
        rebuilt.masks.append(Mask(key, -1 if at < owner else 1))
    keys.wipe()


def _capsule(dealt: Shares, recipient: int) -> bytes:
    """Return the capsule that a member made for another, or nothing where keys are not post-quantum."""
    if not dealt.capsules:
        return b""
    return next(
        capsule for (at, _), capsule in zip(dealt.sealed, dealt.capsules, strict=True) if at == recipient
    )


def _by_owner(answers: Mapping[int, Unmask]) -> dict[int, dict[int, bytes]]:
    """Return the shares by owner and holder; of each owner all are of the same secret."""
    shares: dict[int, dict[int, bytes]] = {}
    for holder, answer in answers.items():
        for given in (answer.self_shares, answer.seed_shares):
            for owner, share in given:
                shares.setdefault(owner, {})[holder] = share
    return shares
