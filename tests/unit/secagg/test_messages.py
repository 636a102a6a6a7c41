import itertools
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.core.errors import LocalProtocolError, RemoteProtocolError
from tacit.secagg.identity import Certificate, Identity, verify
from tacit.secagg.messages import (
    ADVERT,
    CAPSULE_BYTES,
    CIPHERTEXT_BYTES,
    KEM_BYTES,
    SEALED_BYTES,
    Advert,
    Complaint,
    Confirmation,
    Delivery,
    Message,
    Roster,
    Shares,
    Survivors,
    SurvivorSignature,
    Unmask,
    VectorChunk,
    VectorHead,
    bitmap_of,
    decode,
    encode,
    kind_of,
    limit_of,
    positions_in,
    size_of,
)
from tacit.secagg.terms import roster_root, session_id

CLIENTS, NEIGHBOURS, CHUNK = 20, 4, 64
KINDS = list(Message.__subclasses__())


def random_message(kind: type[Message], signed: bool, post_quantum: bool, client: str, first: int) -> Message:
    """Return a message whose bytes are random, and whose positions begin at ``first``."""
    name = f"{client}-{first}"
    around = [first + 4 * step for step in range(NEIGHBOURS)]
    signature = os.urandom(64) if signed else b""
    sealed = tuple((at, os.urandom(SEALED_BYTES + CIPHERTEXT_BYTES * post_quantum)) for at in around)

    def capsules(size: int) -> tuple[bytes, ...]:
        return tuple(os.urandom(size) for _ in around) if post_quantum else ()

    def advert() -> Advert:
        certificate = Certificate(name, os.urandom(32), first, os.urandom(64)) if signed else None
        kem_key = os.urandom(KEM_BYTES) if post_quantum else b""
        keys = [os.urandom(size) for size in (32, 32, 32, 16)]
        return Advert(keys[0], name, keys[1], keys[2], kem_key, keys[3], certificate, signature)

    members = tuple((f"{client}{at:03}", os.urandom(16), os.urandom(32)) for at in range(CLIENTS))
    session = os.urandom(32)
    shares = [(at, os.urandom(17)) for at in (*around, 19)]
    make: dict[type[Message], Callable[[], Message]] = {
        Advert: advert,
        Roster: lambda: Roster(session, members, 4, first, tuple(advert() for _ in around)),
        Shares: lambda: Shares(session, first, os.urandom(32), sealed, signature, capsules(CAPSULE_BYTES)),
        Delivery: lambda: Delivery(
            session,
            sealed,
            tuple((at, os.urandom(32), signature) for at in around),
            capsules(CIPHERTEXT_BYTES),
        ),
        VectorHead: lambda: VectorHead(session, first, 10**first),
        VectorChunk: lambda: VectorChunk(session, first, first, os.urandom(CHUNK), os.urandom(16)),
        Survivors: lambda: Survivors(session, bitmap_of(around, CLIENTS)),
        SurvivorSignature: lambda: SurvivorSignature(session, first, os.urandom(64)),
        Confirmation: lambda: Confirmation(session, tuple((at, os.urandom(64)) for at in around)),
        Unmask: lambda: Unmask(session, first, tuple(shares[: first + 1]), tuple(shares[first + 1 :])),
        Complaint: lambda: Complaint(session, first - 1, 551 + first, -1 if first else 7),
    }
    return make[kind]()


CASES = [
    pytest.param(kind, signed, post_quantum, id=f"{kind.__name__}-{signed}-{post_quantum}")
    for kind, signed, post_quantum in itertools.product(KINDS, (True, False), (True, False))
]


@pytest.mark.parametrize(("kind", "signed", "post_quantum"), CASES)
def test_a_message_reads_back_as_it_was_written(
    kind: type[Message], signed: bool, post_quantum: bool
) -> None:
    for first in range(4):
        message = random_message(kind, signed, post_quantum, "ann", first)
        data = encode(message)
        for form in (data, bytearray(data), memoryview(data)):
            read = decode(form, kind, limit_of(kind, CLIENTS, NEIGHBOURS, CHUNK))
            assert read == message
            assert encode(read) == data
        assert kind_of(data) is kind


@pytest.mark.parametrize(("kind", "signed", "post_quantum"), CASES)
def test_a_size_tells_nothing_but_the_parameters(
    kind: type[Message], signed: bool, post_quantum: bool
) -> None:
    sizes = {
        len(encode(random_message(kind, signed, post_quantum, client, first)))
        for client in ("a", "Zoë", "a-client-with-a-long-name")
        for first in range(4)
    }
    size = size_of(kind, CLIENTS, NEIGHBOURS, CHUNK, signed=signed, post_quantum=post_quantum)
    assert sizes == {size}
    assert size <= limit_of(kind, CLIENTS, NEIGHBOURS, CHUNK)


@pytest.mark.parametrize(("kind", "signed", "post_quantum"), CASES)
def test_every_flipped_byte_is_refused_or_makes_another_message(
    kind: type[Message], signed: bool, post_quantum: bool
) -> None:
    message = random_message(kind, signed, post_quantum, "ann", 1)
    data = encode(message)
    refused = 0
    masks = (1, 0x80, 0xFF) if len(data) < 3000 else (1,)
    for at, flip in itertools.product(range(len(data)), masks):
        other = bytearray(data)
        other[at] ^= flip
        try:
            read = decode(other, kind, limit_of(kind, CLIENTS, NEIGHBOURS, CHUNK))
        except RemoteProtocolError as error:
            assert error.code == "T551"  # noqa: PT017 - either of the two is right
            refused += 1
        else:
            assert read != message
            assert encode(read) == other
    assert refused >= 2 * len(masks)  # version and kind at least


@pytest.mark.parametrize(("kind", "signed", "post_quantum"), CASES)
def test_a_message_cut_short_or_with_more_behind_it_is_refused_or_another(
    kind: type[Message], signed: bool, post_quantum: bool
) -> None:
    message = random_message(kind, signed, post_quantum, "ann", 2)
    data = encode(message)
    for size in {*range(0, len(data), 11), len(data) - 1, *range(min(60, len(data)))}:
        try:
            read = decode(data[:size], kind, len(data))
        except RemoteProtocolError as error:
            assert error.code == "T551"  # noqa: PT017 - either of the two is right
        else:  # what comes last may be shorter: a bitmap, a last chunk; their readers measure them
            assert kind in (Survivors, VectorChunk)
            assert read != message
    for more in (b"\0", b"\0" * 8, data):
        with pytest.raises(RemoteProtocolError) as error:
            decode(data + more, kind, len(data))
        assert error.value.code == "T552"
        if kind not in (Survivors, VectorChunk):
            with pytest.raises(RemoteProtocolError, match="T551"):
                decode(data + more, kind, len(data + more))


def test_a_message_of_another_kind_or_version_is_refused() -> None:
    messages = [random_message(kind, True, False, "ann", 1) for kind in KINDS]
    for message, kind in itertools.product(messages, KINDS):
        if type(message) is not kind:
            with pytest.raises(RemoteProtocolError, match="T551"):
                decode(encode(message), kind, 1 << 20)
    data = encode(messages[0])
    for wrong in (b"", b"\x01", b"\x02" + data[1:], b"\x01\x00" + data[2:], b"\x01\xff" + data[2:]):
        with pytest.raises(RemoteProtocolError, match="T551"):
            kind_of(wrong)
        with pytest.raises(RemoteProtocolError, match="T551"):
            decode(wrong, type(messages[0]), 1 << 20)


def test_the_limit_is_enforced_before_anything_is_read() -> None:
    class Unread(bytes):
        def __getitem__(self, key: Any) -> Any:
            raise AssertionError("read")

    for kind in KINDS:
        limit = limit_of(kind, CLIENTS, NEIGHBOURS, CHUNK)
        with pytest.raises(RemoteProtocolError) as error:
            decode(Unread(limit + 1), kind, limit)
        assert error.value.code == "T552"


@pytest.mark.parametrize(
    ("kind", "at"), [(Roster, 34), (Shares, 68), (Delivery, 34), (Confirmation, 34), (Unmask, 36)]
)
def test_a_count_beyond_the_bytes_that_follow_is_refused(kind: type[Message], at: int) -> None:
    data = bytearray(encode(random_message(kind, True, False, "ann", 1)))
    for count in (1 << 31, (1 << 32) - 1):
        data[at : at + 4] = count.to_bytes(4, "big")
        with pytest.raises(RemoteProtocolError, match="T551"):
            decode(data, kind, len(data))


@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from(KINDS), number=st.integers(1, 11), data=st.binary(max_size=300))
def test_no_bytes_make_reading_fail_otherwise(kind: type[Message], number: int, data: bytes) -> None:
    whole = bytes([1, number]) + data
    try:
        assert encode(decode(whole, kind, 400)) == whole
    except RemoteProtocolError as error:
        assert error.code == "T551"  # noqa: PT017 - either of the two is right


POSITIONS_OUT_OF_ORDER = [(1, 0), (1, 1), (0, 2, 1)]


@pytest.mark.parametrize("order", POSITIONS_OUT_OF_ORDER)
def test_records_have_one_order_and_none_comes_twice(order: tuple[int, ...]) -> None:
    session, share = bytes(32), bytes(17)
    wrong: list[Message] = [
        Shares(session, 0, bytes(32), tuple((at, bytes(SEALED_BYTES)) for at in order)),
        Delivery(session, tuple((at, bytes(SEALED_BYTES)) for at in order), ()),
        Delivery(session, (), tuple((at, bytes(32), bytes(64)) for at in order)),
        Confirmation(session, tuple((at, bytes(64)) for at in order)),
        Unmask(session, 0, tuple((at, share) for at in order), ()),
        Unmask(session, 0, (), tuple((at, share) for at in order)),
        Roster(session, tuple((str(at), bytes(16), bytes(32)) for at in order), 2, 2, ()),
    ]
    for message in wrong:
        with pytest.raises(LocalProtocolError, match="out of order"):
            encode(message)
    # On the wire: the right order's bytes, with the positions exchanged.
    right = encode(Confirmation(session, tuple((at, bytes(64)) for at in sorted({0, 1, 2})[: len(order)])))
    forged = bytearray(right)
    for index, at in enumerate(order):
        forged[38 + 66 * index : 40 + 66 * index] = at.to_bytes(2, "big")
    with pytest.raises(RemoteProtocolError, match="out of order"):
        decode(forged, Confirmation, len(forged))


@pytest.mark.parametrize(
    "message",
    [
        SurvivorSignature(bytes(31), 0, bytes(64)),
        SurvivorSignature(bytes(32), 0, bytes(63)),
        SurvivorSignature(bytes(32), 1 << 16, bytes(64)),
        SurvivorSignature(bytes(32), -1, bytes(64)),
        Shares(bytes(32), 0, bytes(32), ((1, bytes(SEALED_BYTES + 1)),)),
        Shares(bytes(32), 0, bytes(32), (), bytes(63)),
        Unmask(bytes(32), 0, ((1, bytes(16)),), ()),
        VectorChunk(bytes(32), 0, 0, bytes(7), bytes(16)),
        VectorChunk(bytes(32), 0, 0, b"", bytes(16)),
        VectorChunk(bytes(32), 0, 0, bytes(8), bytes(15)),
        Survivors(bytes(32), b""),
        Complaint(bytes(32), -2, 551),
    ],
)
def test_a_message_that_cannot_be_is_not_written(message: Message) -> None:
    with pytest.raises(LocalProtocolError, match="T571"):
        encode(message)


def test_an_id_is_text_of_at_most_64_bytes() -> None:
    def advert(client: str) -> Advert:
        return Advert(bytes(32), client, bytes(32), bytes(32), b"", bytes(16))

    limit = limit_of(Advert, CLIENTS, NEIGHBOURS)
    for client in ("a", "ß" * 32, "a\0b", "a\0"):
        assert decode(encode(advert(client)), Advert, limit).client == client
    for client in ("", "a" * 65, "ß" * 33):
        with pytest.raises(LocalProtocolError, match="T572"):
            encode(advert(client))
    at = encode(advert("ann")).index(b"ann")
    for text in (b"\xff\xfe\xfd", b"ann\x01"):  # no UTF-8; something where zeros belong
        data = bytearray(encode(advert("ann")))
        data[at : at + len(text)] = text
        with pytest.raises(RemoteProtocolError, match="T551"):
            decode(data, Advert, limit)


def test_the_body_of_a_chunk_is_not_copied() -> None:
    data = encode(VectorChunk(bytes(32), 1, 2, bytes(range(16)), bytes(16)))
    body = decode(data, VectorChunk, len(data)).body
    assert isinstance(body, memoryview)
    assert body.obj is data
    assert bytes(body) == bytes(range(16))


def test_a_chunk_may_be_a_view_of_words() -> None:
    np = pytest.importorskip("numpy")
    words = np.arange(4, dtype="<u8")
    data = encode(VectorChunk(bytes(32), 1, 2, memoryview(words), bytes(16)))
    assert bytes(decode(data, VectorChunk, len(data)).body) == words.tobytes()


def test_every_word_of_an_advert_is_signed_and_in_its_digest() -> None:
    ann = Identity.generate()
    base = random_message(Advert, True, True, "ann", 1)
    assert isinstance(base, Advert)
    assert base.certificate is not None
    words = {name: getattr(base, name) for name in base.__struct_fields__}
    other_key = Certificate("ann-1", os.urandom(32), 1, base.certificate.signature)
    changes: list[dict[str, Any]] = [
        {name: os.urandom(len(words[name]))}
        for name in ("assignment", "mask_key", "share_key", "kem_key", "nonce")
    ]
    changes += [{"client": "ben"}, {"kem_key": b""}, {"certificate": other_key}, {"certificate": None}]
    signature = ann.sign(ADVERT, base.signed_part)
    signed = Advert(**{**words, "signature": signature})
    assert verify(ann.public, signature, ADVERT, signed.signed_part)
    assert len(signed.digest) == 32
    for change in changes:
        changed = Advert(**{**words, "signature": signature, **change})
        assert not verify(ann.public, signature, ADVERT, changed.signed_part)
        assert changed.digest != signed.digest
    assert base.digest != signed.digest


def test_a_rosters_session_holds_all_that_the_members_must_agree_on() -> None:
    roster = random_message(Roster, True, False, "ann", 3)
    assert isinstance(roster, Roster)
    root = roster_root(roster.members)
    assert roster.session == session_id(roster.assignment, root, CLIENTS, 4, 3)


def test_members_that_stand_in_many_rosters_are_written_in_each_as_they_are() -> None:
    rosters = [random_message(Roster, True, False, "ann", first) for first in (0, 1, 2, 3) * 2]
    for first, second in itertools.product(rosters, repeat=2):
        assert isinstance(first, Roster)
        assert isinstance(second, Roster)
        mixed = Roster(second.assignment, first.members, 4, second.threshold, second.adverts)
        data = encode(mixed)
        assert decode(data, Roster, len(data)) == mixed
        assert (data == encode(second)) == (first is second)
    turned = Roster(mixed.assignment, mixed.members[::-1], 4, 3, ())
    for _ in range(2):  # a refusal is not forgotten
        with pytest.raises(LocalProtocolError, match="T571"):
            encode(turned)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 70).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))))
def test_a_bitmap_and_its_positions_are_two_forms_of_one_set(case: tuple[int, set[int]]) -> None:
    clients, positions = case
    bitmap = bitmap_of(positions, clients)
    assert positions_in(bitmap, clients) == tuple(sorted(positions))
    assert len(bitmap) == -(-clients // 8)


def test_a_bitmap_of_another_length_or_naming_a_stranger_is_refused() -> None:
    for bitmap in (b"\x01", b"\x01\x00\x00", b"\x00\x04", b"\x00\x80", b""):
        with pytest.raises(RemoteProtocolError, match="T551"):
            positions_in(bitmap, 10)
    assert positions_in(b"\xff\x03", 10) == tuple(range(10))
    for position in (-1, 10):
        with pytest.raises(ValueError, match="no position"):
            bitmap_of([position], 10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_repr_shows_no_bytes(kind: type[Message]) -> None:
    message = random_message(kind, True, False, "ann", 1)
    text = repr(message)
    for value in (getattr(message, name) for name in message.__struct_fields__):
        if isinstance(value, bytes) and value:
            assert repr(value) not in text
            assert value.hex() not in text
        if isinstance(value, tuple) and value:
            assert repr(value[0]) not in text
    assert len(text) < 500
