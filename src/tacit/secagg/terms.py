"""What a group of clients agrees on before anybody sends anything, and the ids that bind it.

Two ids, since the members are not known when adverts are signed: the *assignment id* is a digest of
the terms, model and settings included; the *session id* adds the members. Every signature, key and
sealed share contains one of them, so that replay, mixing of rounds, a model of its own for every
client (Pasquini et al. 2022, arXiv 2111.07380) and terms of its own for every client all fail.
"""

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

import msgspec

from tacit.core.errors import RemoteProtocolError
from tacit.secagg.framing import digest, framed

DIGEST_BYTES = 32
NONCE_BYTES = 16
MOST_TERMS_BYTES = 1 << 16
"""Terms longer than this are refused unread."""
_VERSION = b"\x01"


class Terms(msgspec.Struct, frozen=True, array_like=True, kw_only=True, forbid_unknown_fields=True):
    """The terms of one group's sum in one round.

    Attributes:
        job: The job's name or digest.
        round: The round whose updates are summed.
        model_sha256: Digest of the model that was sent out.
        settings_sha256: Digest of all that turns an update into lanes: chain, clip, cap of weights, grid.
        group: This group, from 0.
        groups: How many groups the cohort was divided into.
        min_cohort: No sum of fewer survivors is ever opened.
        mode: What the server is trusted with: everything it says (semi_honest) or nothing (malicious).
        corrupt: Share of members that may work together with the server.
        dropout: Share of members that is expected to vanish.
        lanes: For each run of coordinates its size and the bits of its lanes, as ``Ring`` wants them.
        enrolment_root: ``Enrolment.root`` of who vouches for the members; empty where nobody does.
        server_key: The server's X25519 key for this group's vectors, fresh.
        post_quantum: Whether ML-KEM-768 joins X25519 in every key.
        base_round: Round of the model that the updates are relative to.
        deadlines: Seconds that each step may take; empty where nothing is timed.
    """

    job: str
    round: int
    model_sha256: bytes
    settings_sha256: bytes
    group: int
    groups: int
    min_cohort: int
    mode: Literal["malicious", "semi_honest"]
    corrupt: float
    dropout: float
    lanes: tuple[tuple[int, int], ...]
    enrolment_root: bytes
    server_key: bytes
    post_quantum: bool
    base_round: int
    deadlines: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        # An int where a number is meant would be the same terms under another id.
        force = msgspec.structs.force_setattr
        force(self, "corrupt", float(self.corrupt) + 0.0)
        force(self, "dropout", float(self.dropout) + 0.0)
        force(self, "deadlines", tuple(float(seconds) + 0.0 for seconds in self.deadlines))
        force(self, "lanes", tuple((size, bits) for size, bits in self.lanes))
        _check(self)

    @property
    def assignment_id(self) -> bytes:
        """Digest of all of these terms, 32 bytes."""
        return digest("assignment", self.to_bytes())

    @property
    def is_malicious(self) -> bool:
        """Whether members sign and check signatures, since the server is trusted with nothing."""
        return self.mode == "malicious"

    def graph_seed(self, members: Iterable[tuple[str, bytes]]) -> bytes:
        """Return the seed of the graph of neighbours, 32 bytes, from every member's id and nonce in order.

        It holds no key, so that a simulation with nonces of its own has the same graph every time.
        """
        head = (self.job, self.round, self.base_round, self.group, self.groups)
        return digest("graph", framed(*head), *_framed_each(tuple(members)))

    def to_bytes(self) -> bytes:
        """Return the terms' one encoding."""
        return _VERSION + msgspec.msgpack.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Terms":
        """Read the terms' encoding.

        Raises:
            RemoteProtocolError: T552, it is too long; T551, it is none, or not the one that would be written.
        """
        if len(data) > MOST_TERMS_BYTES:
            raise RemoteProtocolError("T552", f"terms of {len(data)} bytes, not at most {MOST_TERMS_BYTES}")
        try:
            terms = msgspec.msgpack.decode(bytes(data[1:]), type=cls)
        except (msgspec.MsgspecError, ValueError, OverflowError):
            raise RemoteProtocolError("T551", "these bytes are no terms") from None
        if terms.to_bytes() != data:
            raise RemoteProtocolError("T551", "the terms are not written the one way they must be")
        return terms


def roster_root(members: Iterable[tuple[str, bytes, bytes]]) -> bytes:
    """Return the digest, 32 bytes, of every member's id, nonce and digest of its advert, in order."""
    return digest("roster", *_framed_each(tuple(members)))


@lru_cache(maxsize=8)  # who plays many clients asks for the same members again and again
def _framed_each(members: tuple[tuple[str | bytes, ...], ...]) -> tuple[bytes, ...]:
    return tuple(framed(*member) for member in members)


def session_id(assignment_id: bytes, root: bytes, clients: int, neighbours: int, threshold: int) -> bytes:
    """Return the id of one group's session, 32 bytes: the terms, the members, and how they share secrets."""
    return digest("session", assignment_id, root, clients, neighbours, threshold)


def _check(terms: Terms) -> None:
    sizes = (terms.model_sha256, terms.settings_sha256, terms.server_key)
    numbers = (terms.corrupt, terms.dropout, *terms.deadlines)
    demands = {
        "digests and keys have 32 bytes": all(len(value) == DIGEST_BYTES for value in sizes),
        "an enrolment root has 32 bytes or none": len(terms.enrolment_root) in (0, DIGEST_BYTES),
        "counts are not negative": min(terms.round, terms.base_round, terms.group) >= 0,
        "numbers are below 2^64": max(terms.round, terms.base_round, terms.groups) < 1 << 64,
        "a group is one of its groups": terms.group < terms.groups,
        "a cohort has at least two": terms.min_cohort >= 2,
        "shares and seconds are finite, and not negative": all(
            math.isfinite(value) and value >= 0 for value in numbers
        ),
        "fewer than half are corrupt, and not all drop out": terms.corrupt < 0.5 and terms.dropout < 1,
        "lanes have 2 to 63 bits and a size": bool(terms.lanes)
        and all(size > 0 and 2 <= bits <= 63 for size, bits in terms.lanes),
    }
    broken = [demand for demand, holds in demands.items() if not holds]
    if broken:
        raise ValueError(f"terms that cannot be: {broken[0]}")
