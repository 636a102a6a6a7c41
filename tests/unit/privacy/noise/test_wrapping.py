"""Keys at rest open with their master key, in their place, untouched, and never otherwise."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.core.errors import ConfigError
from tacit.privacy.noise import KeyContext, PastKeys, SeededKeys, StepKey, seal, unseal, unwrap, wrap

MASTER = bytes(range(32))
CONTEXT = KeyContext(population="ward-7", job="digits", step=8)
PAST = PastKeys(tuple(StepKey(step, SeededKeys(0).key(step)) for step in (8, 7, 6)))


def refused(blob: bytes, master_key: bytes = MASTER, **changed: object) -> None:
    with pytest.raises(ConfigError) as caught:
        unwrap(blob, master_key, msgspec.structs.replace(CONTEXT, **changed))
    assert caught.value.code == "T185"


def test_wrapped_keys_come_back_and_nothing_of_them_is_in_the_blob() -> None:
    blob = wrap(PAST, MASTER, CONTEXT)
    assert unwrap(blob, MASTER, CONTEXT) == PAST
    for key in PAST.keys:
        assert key.key not in blob
        assert key.key[:8] not in blob


def test_the_same_keys_are_never_sealed_the_same_way() -> None:
    assert wrap(PAST, MASTER, CONTEXT) != wrap(PAST, MASTER, CONTEXT)


@pytest.mark.parametrize(
    "changed",
    [
        {"population": "ward-8"},
        {"job": "other"},
        {"step": 7},
        {"purpose": "vector 0"},
        {"population": "ward-7digits", "job": ""},
    ],
)
def test_a_blob_in_another_place_is_refused(changed: dict[str, object]) -> None:
    refused(wrap(PAST, MASTER, CONTEXT), **changed)


def test_another_master_key_does_not_open_it() -> None:
    refused(wrap(PAST, MASTER, CONTEXT), bytes(32))


@given(position=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_byte_that_has_changed_is_found(position: int, flip: int) -> None:
    blob = bytearray(wrap(PAST, MASTER, CONTEXT))
    blob[position % len(blob)] ^= flip
    refused(bytes(blob))


@given(length=st.integers(0, 10_000))
def test_a_torn_blob_is_refused(length: int) -> None:
    blob = wrap(PAST, MASTER, CONTEXT)
    refused(blob[: length % len(blob)])


def test_keys_are_sealed_as_those_of_their_newest_step_only() -> None:
    with pytest.raises(ConfigError, match="T185"):
        wrap(PAST, MASTER, msgspec.structs.replace(CONTEXT, step=9))


@given(secret=st.binary(max_size=100))
def test_any_secret_can_be_sealed(secret: bytes) -> None:
    assert unseal(seal(secret, MASTER, CONTEXT), MASTER, CONTEXT) == secret


def test_a_master_key_may_have_another_use() -> None:
    # The cipher's key is derived: what the master key itself encrypts does not open here, nor the other way.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    bound = b"\x01" + msgspec.msgpack.encode(("ward-7", "digits", 8, "keys"))
    with pytest.raises(ConfigError):
        unseal(b"\x01" + bytes(12) + AESGCM(MASTER).encrypt(bytes(12), b"secret", bound), MASTER, CONTEXT)
