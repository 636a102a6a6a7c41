"""Where the keys of noise come from."""

import numpy as np
import pytest

from tacit.privacy.noise import NoiseKeys, SeededKeys, SystemKeys
from tacit.privacy.noise import keys as module


@pytest.mark.parametrize("keys", [SystemKeys(), SeededKeys(0)])
def test_a_key_has_32_bytes_and_every_step_and_purpose_its_own(keys: NoiseKeys) -> None:
    assert isinstance(keys, NoiseKeys)
    drawn = [
        keys.key(step, *purpose) for step in range(50) for purpose in ((), ("update",), ("local", "ann"))
    ]
    assert {len(key) for key in drawn} == {32}
    assert len(set(drawn)) == len(drawn)


def test_keys_of_the_system_are_fresh_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(module.os, "urandom", lambda size: asked.append(size) or bytes([len(asked)] * size))
    assert SystemKeys().key(0, "update") != SystemKeys().key(0, "update")
    assert asked == [32, 32]


def test_the_bits_of_keys_of_the_system_are_fair() -> None:
    bits = np.unpackbits(np.frombuffer(b"".join(SystemKeys().key(0) for _ in range(2000)), dtype=np.uint8))
    assert abs(bits.mean() - 0.5) < 4.9 * 0.5 / np.sqrt(bits.size)


def test_seeded_keys_are_the_same_in_every_run_and_say_that_they_are_not_private() -> None:
    assert SeededKeys(5).key(3, "update") == SeededKeys(5).key(3, "update")
    assert SeededKeys(5).key(3, "update") != SeededKeys(6).key(3, "update")
    assert SeededKeys(12).key(3) != SeededKeys(1).key(23)
    assert (
        SeededKeys(0).key(3, "update").hex()
        == "61ec807984ea479ceca607ea32927b98a95b47f150cefd4078f2477ee9117380"
    )
    assert not SeededKeys.is_private
    assert SeededKeys.source == "seeded, not private"
    assert SystemKeys.is_private
