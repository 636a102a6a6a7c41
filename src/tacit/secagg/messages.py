"""The messages of one secure sum, and their bytes: version, kind, then fields of fixed widths.

    client                                     server
      Advert                  ->                       keys, signed
                              <-  Roster               the members, and the adverts of the neighbours
      Shares                  ->                       sealed shares for every neighbour
                              <-  Delivery             those for this client, and who signed the session
      VectorHead, VectorChunk ->                       the masked vector
                              <-  Survivors            who is still there
      SurvivorSignature       ->                       malicious mode: "this is what I was told"
                              <-  Confirmation         malicious mode: the neighbours were told the same
      Unmask                  ->                       one share per neighbour: of its self mask or its seed
      Complaint               ->                       at any time: why the client leaves

A message has exactly one encoding (one width, one order, no bytes left over), so what
decodes is what was signed. A peer's length is checked before anything is read: T552 too long, T551 malformed.
"""

from collections.abc import Iterable
from functools import cached_property
from typing import TypeVar, cast

import msgspec

from tacit.core.errors import RemoteProtocolError
from tacit.secagg.fields import (
    Alike,
    Counts,
    Either,
    Exactly,
    Field,
    Many,
    Maybe,
    Name,
    Number,
    Reader,
    Rest,
    Row,
    malformed,
)
from tacit.secagg.framing import digest, framed
from tacit.secagg.identity import Certificate
from tacit.secagg.terms import roster_root, session_id

VERSION = 1
CHUNK_BYTES = 1 << 18
"""Bytes of every chunk of a masked vector but the last."""
SHARE_BYTES = 17
SEALED_BYTES = 2 * SHARE_BYTES + 16
CIPHERTEXT_BYTES = 1088
CAPSULE_BYTES = CIPHERTEXT_BYTES + 48
KEM_BYTES = 2 * 1184
ADVERT, SESSION, SURVIVORS = "advert", "session", "survivors"
"""What a client signs: ``Advert.signed_part``; session and commitment; session and bitmap."""


class Message(msgspec.Struct, frozen=True, array_like=True):
    """Base of all messages. Its repr tells counts and lengths, never what is in it."""

    def __repr__(self) -> str:
        shown = (f"{name}={_shown(getattr(self, name))}" for name in self.__struct_fields__)
        return f"{type(self).__name__}({', '.join(shown)})"


class Advert(Message, frozen=True, tag="advert", dict=True):
    """A client's public keys for one round. ``kem_key`` is empty unless keys are post-quantum."""

    assignment: bytes
    client: str
    mask_key: bytes
    share_key: bytes
    kem_key: bytes
    nonce: bytes
    certificate: Certificate | None = None
    signature: bytes = b""

    @cached_property
    def signed_part(self) -> bytes:
        """What the client signs, under the label ``ADVERT``."""
        return framed(
            self.assignment, self.client, self.mask_key, self.share_key, self.kem_key, self.nonce
        ) + (framed(self.certificate.key) if self.certificate else b"")

    @cached_property
    def digest(self) -> bytes:
        """Digest of the whole advert, 32 bytes; the roster names it for every member."""
        return digest("advert", encode(self))


class Roster(Message, frozen=True, tag="roster"):
    """The members of a group: id, nonce and advert's digest, sorted by id; a member's position is its index.

    ``adverts`` are those of the recipient's neighbours, in order of position.
    """

    assignment: bytes
    members: tuple[tuple[str, bytes, bytes], ...]
    neighbours: int
    threshold: int
    adverts: tuple[Advert, ...]

    @property
    def session(self) -> bytes:
        """The id of the session that these members form, 32 bytes."""
        root = roster_root(self.members)
        return session_id(self.assignment, root, len(self.members), self.neighbours, self.threshold)


class Shares(Message, frozen=True, tag="shares"):
    """What a client seals for each neighbour: its share of the self-mask secret and of the mask seed.

    ``commitment`` binds the self-mask secret (``keys.commitment_of``). ``capsules`` are empty unless keys are
    post-quantum; then there is one for each of ``sealed``, in the same order.
    """

    session: bytes
    sender: int
    commitment: bytes
    sealed: tuple[tuple[int, bytes], ...]
    signature: bytes = b""
    capsules: tuple[bytes, ...] = ()


class Delivery(Message, frozen=True, tag="delivery"):
    """What the neighbours sealed for this client, and their signatures of session and commitment.

    ``capsules`` are the ciphertexts alone, without the senders' own copies.
    """

    session: bytes
    sealed: tuple[tuple[int, bytes], ...]
    endorsements: tuple[tuple[int, bytes, bytes], ...]
    capsules: tuple[bytes, ...] = ()


class VectorHead(Message, frozen=True, tag="vector_head"):
    """A masked vector of so many 64-bit words follows."""

    session: bytes
    sender: int
    words: int


class VectorChunk(Message, frozen=True, tag="vector_chunk"):
    """One piece of a masked vector and its tag (``keys.ChunkTags``); decoded without copying the body."""

    session: bytes
    sender: int
    index: int
    body: bytes | bytearray | memoryview
    tag: bytes


class Survivors(Message, frozen=True, tag="survivors"):
    """Whose vectors are in the sum: bit i, from the lowest, is the member at position i."""

    session: bytes
    bitmap: bytes


class SurvivorSignature(Message, frozen=True, tag="survivor_signature"):
    """A client's signature of session and bitmap, under the label ``SURVIVORS``."""

    session: bytes
    sender: int
    signature: bytes


class Confirmation(Message, frozen=True, tag="confirmation"):
    """The neighbours' signatures of the bitmap, by position."""

    session: bytes
    signatures: tuple[tuple[int, bytes], ...]


class Unmask(Message, frozen=True, tag="unmask"):
    """One share per neighbour: of the self mask of who survived, of the mask seed of who did not."""

    session: bytes
    sender: int
    self_shares: tuple[tuple[int, bytes], ...]
    seed_shares: tuple[tuple[int, bytes], ...]


class Complaint(Message, frozen=True, tag="complaint"):
    """Why a client leaves: the number of an error (563 for T563), and whom it is about.

    ``session`` is the assignment's id as long as there is no session; a position is -1 where there is none.
    """

    session: bytes
    sender: int
    reason: int
    about: int = -1


M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """Return the one encoding of a message.

    Raises:
        LocalProtocolError: T571 or T572, it cannot be: a wrong length, records out of order, an id too long.
    """
    number, layout = _LAYOUTS[type(message)]
    out = bytearray((VERSION, number))
    layout.write(message, out)
    return bytes(out)


def decode(data: bytes | bytearray | memoryview, kind: type[M], limit: int) -> M:
    """Read a message of one kind.

    Args:
        limit: The most bytes it may have, ``limit_of`` the kind; longer ones are refused unread.

    Raises:
        RemoteProtocolError: T552, it is too long; T551, it is of another kind or version, or malformed.
    """
    if len(data) > limit:
        raise RemoteProtocolError("T552", f"a message of {len(data)} bytes, not at most {limit}")
    if kind_of(data) is not kind:
        malformed(f"it is no {_name(kind)}")
    reader = Reader(memoryview(data)[2:])
    message = _LAYOUTS[kind][1].read(reader)
    if reader.left:
        malformed("bytes are left over")
    return cast(M, message)


def kind_of(data: bytes | bytearray | memoryview) -> type[Message]:
    """Return the kind of an encoded message.

    Raises:
        RemoteProtocolError: T551, another version, or no kind at all.
    """
    if len(data) < 2 or data[0] != VERSION or data[1] not in _KINDS:
        malformed("its version or kind is unknown")
    return _KINDS[data[1]]


def size_of(
    kind: type[Message],
    clients: int,
    neighbours: int,
    chunk: int = CHUNK_BYTES,
    *,
    signed: bool = True,
    post_quantum: bool = False,
) -> int:
    """Return the bytes of a message when nobody is missing: no more than the parameters decide it."""
    counts = Counts(clients, neighbours, chunk, signed, post_quantum)
    return 2 + _LAYOUTS[kind][1].size(counts)


def limit_of(kind: type[Message], clients: int, neighbours: int, chunk: int = CHUNK_BYTES) -> int:
    """Return the most bytes that a message of a kind may have in a group, signed and post-quantum."""
    return size_of(kind, clients, neighbours, chunk, signed=True, post_quantum=True)


def bitmap_of(positions: Iterable[int], clients: int) -> bytes:
    """Return the bitmap of some of a group's positions.

    >>> bitmap_of([0, 9], clients=10).hex()
    '0102'
    """
    bits = bytearray(-(-clients // 8))
    for position in positions:
        if not 0 <= position < clients:
            raise ValueError(f"no position {position} among {clients}")
        bits[position // 8] |= 1 << position % 8
    return bytes(bits)


def positions_in(bitmap: bytes, clients: int) -> tuple[int, ...]:
    """Return the positions of a bitmap, ascending.

    Raises:
        RemoteProtocolError: T551, it has another length, or names who is no member.
    """
    named = int.from_bytes(bitmap, "little")
    if len(bitmap) != -(-clients // 8) or named >> clients:
        malformed(f"a bitmap that is none of {clients} members")
    return tuple(position for position in range(clients) if bitmap[position // 8] >> position % 8 & 1)


# --- below: how each message is written ---------------------------------------------------------

_DIGEST, _KEY, _SIGNATURE = Exactly(32), Exactly(32), Exactly(64)
_POSITION = Number(2)
_SIGNED = Maybe(_SIGNATURE, b"", lambda counts: counts.signed)


def _row(kind: type[msgspec.Struct], *fields: Field) -> Row:
    return Row(fields, build=kind, names=kind.__struct_fields__)


def _of_neighbours(*fields: Field) -> Many:
    return Many(Row(fields), lambda counts: counts.neighbours)


def _capsules(size: int) -> Many:
    return Many(Exactly(size), lambda counts: counts.neighbours * counts.post_quantum, ordered=False)


_CERTIFICATE = _row(Certificate, Name(), _KEY, Number(4), _SIGNATURE)
_KEM = Maybe(Exactly(KEM_BYTES), b"", lambda counts: counts.post_quantum)
_ENROLLED = Maybe(_CERTIFICATE, None, lambda counts: counts.signed)
_ADVERT = _row(Advert, _DIGEST, Name(), _KEY, _KEY, _KEM, Exactly(16), _ENROLLED, _SIGNED)
_MEMBERS = Alike(Many(Row((Name(), Exactly(16), _DIGEST)), lambda counts: counts.clients))
_ADVERTS = Many(_ADVERT, lambda counts: counts.neighbours, ordered=False)
_SEALED = _of_neighbours(_POSITION, Either(SEALED_BYTES, CIPHERTEXT_BYTES + SEALED_BYTES))
_ENDORSEMENTS = _of_neighbours(_POSITION, _DIGEST, _SIGNED)
_SIGNATURES = _of_neighbours(_POSITION, _SIGNATURE)
_OWN_SHARES = Many(Row((_POSITION, Exactly(SHARE_BYTES))), lambda counts: counts.neighbours + 1)
_NO_SHARES = Many(Row((_POSITION, Exactly(SHARE_BYTES))), lambda counts: 0)
_BITMAP = Rest(lambda counts: -(-counts.clients // 8))
_BODY = Rest(lambda counts: counts.chunk, multiple=8, copied=False)
_CHUNK = Row(
    (_DIGEST, _POSITION, Number(4), Exactly(16), _BODY),
    build=VectorChunk,
    names=("session", "sender", "index", "tag", "body"),
)
_WHOM = Number(4, least=-1)

# The number of a kind stands in its bytes: it is never given to another.
_LAYOUTS: dict[type[Message], tuple[int, Row]] = {
    Advert: (1, _ADVERT),
    Roster: (2, _row(Roster, _DIGEST, _MEMBERS, Number(2), Number(2), _ADVERTS)),
    Shares: (
        3,
        _row(Shares, _DIGEST, _POSITION, _DIGEST, _SEALED, _SIGNED, _capsules(CAPSULE_BYTES)),
    ),
    Delivery: (4, _row(Delivery, _DIGEST, _SEALED, _ENDORSEMENTS, _capsules(CIPHERTEXT_BYTES))),
    VectorHead: (5, _row(VectorHead, _DIGEST, _POSITION, Number(8))),
    VectorChunk: (6, _CHUNK),
    Survivors: (7, _row(Survivors, _DIGEST, _BITMAP)),
    SurvivorSignature: (8, _row(SurvivorSignature, _DIGEST, _POSITION, _SIGNATURE)),
    Confirmation: (9, _row(Confirmation, _DIGEST, _SIGNATURES)),
    Unmask: (10, _row(Unmask, _DIGEST, _POSITION, _OWN_SHARES, _NO_SHARES)),
    Complaint: (11, _row(Complaint, _DIGEST, _WHOM, Number(2), _WHOM)),
}
_KINDS = {number: kind for kind, (number, _) in _LAYOUTS.items()}


def _name(kind: type[Message]) -> str:
    return str(kind.__struct_config__.tag)


def _shown(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, tuple):
        return f"<{len(value)} of them>"
    return f"<{type(value).__name__}>" if isinstance(value, msgspec.Struct) else repr(value)
