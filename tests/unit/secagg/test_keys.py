import hashlib
import hmac
import itertools
import pickle

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tacit.core.errors import RemoteProtocolError
from tacit.secagg import keys
from tacit.secagg.framing import framed
from tacit.secagg.keys import (
    ChunkTags,
    MaskKeys,
    RememberingAgreement,
    RoundKeys,
    Secret,
    channel_key,
    commitment_of,
    derive,
    exchange,
    fresh,
    is_seed_of,
    pair_key,
    seal,
    self_mask_key,
    vector_key,
    wipe,
)
from tacit.secagg.messages import CAPSULE_BYTES, CIPHERTEXT_BYTES, KEM_BYTES, SEALED_BYTES

SESSION, OTHER_SESSION = bytes([7] * 32), bytes([8] * 32)
PLAINTEXT = bytes(range(34))
LOW, HIGH = 3, 12


def ends(post_quantum: bool) -> tuple[RoundKeys, RoundKeys]:
    return RoundKeys(post_quantum=post_quantum), RoundKeys(post_quantum=post_quantum)


def capsules(low: RoundKeys, high: RoundKeys) -> tuple[bytes, bytes]:
    return low.capsule_for(high, SESSION, LOW, HIGH), high.capsule_for(low, SESSION, HIGH, LOW)


def flips(data: bytes) -> list[bytes]:
    return [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(len(data))]


def test_derive_is_hkdf_of_rfc_5869_written_out() -> None:
    secret, salt = b"secret", b"salt" * 8
    info = framed("tacit/secagg/1", 40, salt, "pair", 1, 2)
    extracted = hmac.digest(salt, secret, "sha256")
    first = hmac.digest(extracted, info + b"\x01", "sha256")
    second = hmac.digest(extracted, first + info + b"\x02", "sha256")
    assert derive(secret, salt, "pair", 1, 2, length=40) == (first + second)[:40]


def test_a_hundred_thousand_derivations_are_all_different() -> None:
    labels = ["", "s", "self", "pair", "pai", "r", "channel", "vector", "capsule", "mask key", "mask kem"]
    # HMAC alone takes the first three salts for one; hashing alone takes the last two for one.
    long = b"x" * 65
    salts = [b"", b"\0", b"\0\0", SESSION, SESSION[:-1], b"self", long, hashlib.sha256(long).digest()]
    numbers = [0, 1, 2, 255, 256, 65535]
    tails = [(), (b"",), (b"\0",), ("",), ("a", "bc"), ("ab", "c"), ("abc",), (b"abc",), (0,), (bytes(8),)]
    asked = list(itertools.product([b"one", b"two"], salts, labels, numbers, numbers, tails, [16, 32]))
    made = {
        derive(secret, salt, label, a, b, *tail, length=size)[:16]
        for secret, salt, label, a, b, tail, size in asked
    }
    assert len(asked) > 120_000
    assert len(made) == len(asked)


def test_the_purposes_of_one_secret_do_not_share_a_key() -> None:
    private, other = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    public, raw = other.public_key().public_bytes_raw(), bytes(32)
    made = [self_mask_key(raw, session, at) for session in (SESSION, OTHER_SESSION) for at in range(20)]
    for session, (a, b) in itertools.product((SESSION, OTHER_SESSION), itertools.permutations(range(20), 2)):
        made.append(channel_key(private, public, session, a, b)[:16])
        if a < b:
            made.append(pair_key(private, public, session, a, b))
    made += [vector_key(private, public, SESSION, at)[:16] for at in range(20)]
    assert len(set(made)) == len(made)


def test_numbers_that_do_not_fit_are_refused_rather_than_wrapped() -> None:
    for number in (-1, 1 << 64):
        with pytest.raises(OverflowError):
            derive(b"secret", b"", number)
    with pytest.raises(TypeError):
        derive(b"secret", b"", True)


def test_the_agreement_is_that_of_rfc_7748() -> None:
    private = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    public = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    shared = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    assert exchange(X25519PrivateKey.from_private_bytes(private), public) == shared


@pytest.mark.parametrize("public", [bytes(32), b"\x01" + bytes(31), bytes(31), b""])
def test_a_key_with_which_everybody_agrees_on_zero_is_refused(public: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="T551"):
        exchange(X25519PrivateKey.generate(), public)


def test_a_remembered_agreement_is_the_plain_one_for_both_ends_and_asked_once() -> None:
    asked: list[bytes] = []

    def counted(private: X25519PrivateKey, public: bytes, /) -> bytes:
        asked.append(public)
        return exchange(private, public)

    a, b, c = (X25519PrivateKey.generate() for _ in range(3))
    remember = RememberingAgreement(agree=counted)
    for one, other in itertools.permutations((a, b, c), 2):
        assert remember(one, other.public_key().public_bytes_raw()) == exchange(
            one, other.public_key().public_bytes_raw()
        )
    assert len(asked) == len(remember) == 3


def test_a_remembered_agreement_is_overwritten_when_it_is_forgotten() -> None:
    left = iter([b"1" * 32, b"2" * 32, b"3" * 32])
    remember = RememberingAgreement(most=2, agree=lambda *_: next(left))
    private = X25519PrivateKey.generate()
    assert remember(private, b"a") == b"1" * 32
    known = remember._known  # noqa: SLF001 - whether it is overwritten shows nowhere else
    (first,) = known.values()
    remember(private, b"b")
    remember(private, b"c")
    assert not any(first)
    kept = list(known.values())
    assert [bytes(secret) for secret in kept] == [b"2" * 32, b"3" * 32]
    remember.wipe()
    assert not len(remember)
    assert not any(itertools.chain(*kept))
    with pytest.raises(TypeError):
        pickle.dumps(remember)


def test_both_ends_of_a_pair_have_one_key_and_nobody_else_has_it() -> None:
    low, high = ends(post_quantum=False)
    key = low.pair_key(high, SESSION, LOW, HIGH)
    assert key == high.pair_key(low, SESSION, HIGH, LOW)
    assert len(key) == 16
    others = {
        low.pair_key(high, OTHER_SESSION, LOW, HIGH),
        low.pair_key(high, SESSION, LOW, HIGH + 1),
        RoundKeys().pair_key(high, SESSION, LOW, HIGH),
    }
    assert key not in others


def test_a_pair_has_two_ends() -> None:
    low, high = ends(post_quantum=False)
    with pytest.raises(ValueError, match="no pair"):
        low.pair_key(high, SESSION, LOW, LOW)


@pytest.mark.parametrize("post_quantum", [False, True])
def test_the_rebuilt_seed_of_either_end_gives_the_key_of_the_pair(post_quantum: bool) -> None:
    low, high = ends(post_quantum)
    up, down = capsules(low, high) if post_quantum else (b"", b"")
    key = low.pair_key(high, SESSION, LOW, HIGH, sent=up, received=down[:CIPHERTEXT_BYTES])
    assert key == high.pair_key(low, SESSION, HIGH, LOW, sent=down, received=up[:CIPHERTEXT_BYTES])
    of_low, of_high = MaskKeys(bytes(low.seed)), MaskKeys(bytes(high.seed))
    assert is_seed_of(of_low.seed, low.mask_public)
    assert of_low.pair_key(high, SESSION, LOW, HIGH, sent=up, received=down) == key
    assert of_high.pair_key(low, SESSION, HIGH, LOW, sent=down, received=up) == key


def test_without_either_post_quantum_secret_the_key_is_another() -> None:
    low, high = ends(post_quantum=True)
    (up, down), (other_up, other_down) = capsules(low, high), capsules(low, high)
    key = low.pair_key(high, SESSION, LOW, HIGH, sent=up, received=down)
    assert key not in {
        low.pair_key(high, SESSION, LOW, HIGH, sent=other_up, received=down),
        low.pair_key(high, SESSION, LOW, HIGH, sent=up, received=other_down),
        # All that X25519 gives: what somebody knows who has broken it.
        pair_key(keys.mask_private_of(low.seed), high.mask_public, SESSION, LOW, HIGH),
    }
    forged = down[:9] + bytes([down[9] ^ 1]) + down[10:]
    assert key != low.pair_key(high, SESSION, LOW, HIGH, sent=up, received=forged)


def test_a_capsule_whose_copy_was_touched_or_is_anothers_does_not_open() -> None:
    low, high = ends(post_quantum=True)
    up, down = capsules(low, high)
    changed = [up[:-1], up[:CIPHERTEXT_BYTES], *flips(up)[:: CAPSULE_BYTES // 12], flips(up)[-1], down]
    for capsule in changed:
        with pytest.raises(RemoteProtocolError, match="T563"):
            low.pair_key(high, SESSION, LOW, HIGH, sent=capsule, received=down)
    for session, own, other in [
        (OTHER_SESSION, LOW, HIGH),
        (SESSION, LOW, HIGH + 1),
        (SESSION, LOW + 1, HIGH),
    ]:
        with pytest.raises(RemoteProtocolError, match="T563"):
            low.pair_key(high, session, own, other, sent=up, received=down)
    with pytest.raises(RemoteProtocolError, match="T551"):
        low.pair_key(high, SESSION, LOW, HIGH, sent=up, received=down[: CIPHERTEXT_BYTES - 1])


@pytest.mark.parametrize("post_quantum", [False, True])
def test_what_is_sealed_for_a_member_opens_there_and_has_the_messages_size(post_quantum: bool) -> None:
    low, high = ends(post_quantum)
    capsule = capsules(low, high)[0] if post_quantum else b""
    sealed = low.seal_for(high, SESSION, LOW, HIGH, PLAINTEXT, capsule=capsule)
    opened = high.open_from(low, SESSION, HIGH, LOW, sealed, capsule=capsule[:CIPHERTEXT_BYTES])
    assert isinstance(opened, Secret)
    assert bytes(opened) == PLAINTEXT
    assert len(sealed) == SEALED_BYTES + CIPHERTEXT_BYTES * post_quantum
    assert len(low.kem_key) == KEM_BYTES * post_quantum


@pytest.mark.parametrize("post_quantum", [False, True])
def test_a_sealed_share_opens_unchanged_and_in_its_own_place_only(post_quantum: bool) -> None:
    low, high = ends(post_quantum)
    capsule = capsules(low, high)[0] if post_quantum else b""
    sealed = low.seal_for(high, SESSION, LOW, HIGH, PLAINTEXT, capsule=capsule)
    wrong: list[tuple[bytes, int, int, bytes]] = [(SESSION, HIGH, LOW, flip) for flip in flips(sealed)[-80:]]
    wrong += [(SESSION, HIGH, LOW, sealed[:-1]), (OTHER_SESSION, HIGH, LOW, sealed)]
    wrong += [
        (SESSION, HIGH + 1, LOW, sealed),
        (SESSION, HIGH, LOW + 1, sealed),
        (SESSION, LOW, HIGH, sealed),
    ]
    for session, own, sender, data in wrong:
        with pytest.raises(RemoteProtocolError, match="T563"):
            high.open_from(low, session, own, sender, data, capsule=capsule)
    with pytest.raises(RemoteProtocolError, match="T563"):  # a capsule swapped under it
        high.open_from(low, SESSION, HIGH, LOW, sealed, capsule=bytes(CIPHERTEXT_BYTES))
    with pytest.raises(RemoteProtocolError, match=r"T563|T551"):
        high.open_from(low, SESSION, HIGH, LOW, b"", capsule=capsule)


def test_the_two_directions_of_a_channel_have_keys_of_their_own() -> None:
    low, high = ends(post_quantum=False)
    there, back = (
        channel_key(low.share_private, high.share_key, SESSION, *ends) for ends in ((LOW, HIGH), (HIGH, LOW))
    )
    assert there == channel_key(high.share_private, low.share_key, SESSION, LOW, HIGH)
    assert there != back
    assert len(there) == 32


@pytest.mark.parametrize("post_quantum", [False, True])
def test_a_rebuilt_mask_seed_opens_no_sealed_share(post_quantum: bool) -> None:
    low, high = ends(post_quantum)
    sealed = low.seal_for(high, SESSION, LOW, HIGH, PLAINTEXT)
    thief = RoundKeys(post_quantum=post_quantum)
    # All that the seed gives, in place of the share keys: mask key and ML-KEM mask key.
    thief.share_private = keys.mask_private_of(high.seed)
    if post_quantum:
        from tacit.secagg.capsules import mask_kem_of

        thief.share_kem = mask_kem_of(high.seed)
    with pytest.raises(RemoteProtocolError, match="T563"):
        thief.open_from(low, SESSION, HIGH, LOW, sealed)
    if post_quantum:
        # Not even together with the classical half: what somebody has who has broken X25519.
        thief.share_private = high.share_private
        with pytest.raises(RemoteProtocolError, match="T563"):
            thief.open_from(low, SESSION, HIGH, LOW, sealed)
        thief.share_kem = high.share_kem
        assert bytes(thief.open_from(low, SESSION, HIGH, LOW, sealed)) == PLAINTEXT


def test_the_seed_alone_decides_the_mask_keys_and_no_other() -> None:
    drawn = iter([b"s" * 16, b"1" * 32, b"k" * 64, b"s" * 16, b"2" * 32, b"l" * 64])
    one, two = (RoundKeys(lambda _: bytearray(next(drawn)), post_quantum=True) for _ in range(2))
    assert one.mask_public == two.mask_public
    assert one.kem_key[: KEM_BYTES // 2] == two.kem_key[: KEM_BYTES // 2] == MaskKeys(b"s" * 16).kem_public()
    assert one.share_public != two.share_public
    assert one.kem_key[KEM_BYTES // 2 :] != two.kem_key[KEM_BYTES // 2 :]


def test_a_commitment_binds_the_secret_to_its_session_and_position() -> None:
    b = fresh(16)
    asked = itertools.product([bytes(b), bytes(16)], [SESSION, OTHER_SESSION], [LOW, HIGH])
    assert len({commitment_of(*words) for words in asked}) == 8
    assert commitment_of(b, SESSION, LOW) == commitment_of(bytes(b), SESSION, LOW)


def test_client_and_server_tag_chunks_with_one_key() -> None:
    server, client = X25519PrivateKey.generate(), RoundKeys()
    key = vector_key(client.share_private, server.public_key().public_bytes_raw(), SESSION, LOW)
    assert key == vector_key(server, client.share_public, SESSION, LOW)
    body = bytearray(b"chunk of words, 24 bytes")
    tag = ChunkTags(key).tag(5, body)
    ChunkTags(key).check(5, memoryview(body), tag)
    wrong = [(4, bytes(body), tag), (5, bytes(body) + b"\0", tag), (5, bytes(body), tag[:-1])]
    wrong += [(5, flip, tag) for flip in flips(bytes(body))] + [(5, bytes(body), flip) for flip in flips(tag)]
    for index, data, mark in wrong:
        with pytest.raises(RemoteProtocolError, match="T561"):
            ChunkTags(key).check(index, data, mark)
    with pytest.raises(RemoteProtocolError, match="T561"):
        ChunkTags(vector_key(server, client.share_public, SESSION, HIGH)).check(5, body, tag)


def test_the_buffers_that_keys_were_drawn_into_are_overwritten() -> None:
    drawn: list[bytearray] = []

    def secret(size: int) -> bytearray:
        drawn.append(fresh(size))
        assert any(drawn[-1])
        return drawn[-1]

    client = RoundKeys(secret, post_quantum=True)
    assert [len(buffer) for buffer in drawn] == [16, 32, 64]
    assert not any(itertools.chain(*drawn))
    assert any(client.seed)
    client.wipe()
    assert not any(client.seed)


def test_a_secret_is_wiped_in_place_and_neither_printed_nor_pickled() -> None:
    secret = Secret(b"do not print me.")
    view = memoryview(secret)
    assert f"{secret} {secret!r} {[secret]}" == "Secret(16 bytes) Secret(16 bytes) [Secret(16 bytes)]"
    assert secret == b"do not print me."
    assert secret != b"do not print me!"
    assert secret != "text"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        hash(secret)
    secret.wipe()
    assert bytes(view) == bytes(16)
    plain = bytearray(b"plain")
    wipe(plain)
    assert plain == bytes(5)


def test_no_key_of_a_round_is_printed_or_pickled() -> None:
    client = RoundKeys(post_quantum=True)
    secrets = [bytes(client.seed), client.share_private.private_bytes_raw()]
    assert not any(secret.hex() in repr(client) or repr(secret) in repr(client) for secret in secrets)
    with pytest.raises(TypeError):
        pickle.dumps(client)


def test_fresh_keys_are_never_the_same() -> None:
    seen = {bytes(fresh(16)) for _ in range(1000)} | {RoundKeys().mask_public for _ in range(50)}
    assert len(seen) == 1050


def test_a_key_that_is_no_ml_kem_key_is_refused() -> None:
    low, high = ends(post_quantum=True)
    high.kem_key = b"\xff" * KEM_BYTES  # coefficients beyond the modulus: FIPS 203, section 7.2
    with pytest.raises(RemoteProtocolError, match="T551"):
        low.capsule_for(high, SESSION, LOW, HIGH)
    with pytest.raises(RemoteProtocolError, match="T551"):
        low.seal_for(high, SESSION, LOW, HIGH, PLAINTEXT)


def test_sealing_checks_what_stands_beside_the_plaintext() -> None:
    key = bytes(32)
    sealed = seal(key, SESSION, LOW, HIGH, PLAINTEXT, b"beside")
    assert bytes(keys.open(key, SESSION, LOW, HIGH, sealed, b"beside")) == PLAINTEXT
    for session, sender, recipient, beside in [
        (OTHER_SESSION, LOW, HIGH, b"beside"),
        (SESSION, HIGH, LOW, b"beside"),
        (SESSION, LOW, HIGH, b""),
    ]:
        with pytest.raises(RemoteProtocolError, match="T563"):
            keys.open(key, session, sender, recipient, sealed, beside)
