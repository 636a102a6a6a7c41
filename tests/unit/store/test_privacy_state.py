"""What a private run remembers, in a checkpoint: whole, sealed, and bound to its place."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from tacit.core.errors import ConfigError, StoreError
from tacit.privacy.noise import PastKeys, PastVectors, StepKey
from tacit.round import Snapshot
from tacit.round.release import PrivacyState
from tacit.store import load_snapshot, save_snapshot
from tacit.store.privacy_state import opened, sealed

KEYS = PastKeys((StepKey(6, bytes(range(32))), StepKey(5, bytes(range(1, 33)))))
VECTORS = PastVectors((np.linspace(-3, 3, 1000), np.linspace(2, 5, 1000)), 6)
STATE = PrivacyState(
    step=7,
    key=bytes(range(100, 132)),
    cohort_seed=2**127 + 12345,
    clipping_bound=0.1 + 0.2,
    past=KEYS,
    took_part={"ann": 6, "Zoë/ä": 5},
)
STATES = {
    "with keys": STATE,
    "with vectors": replace(STATE, past=VECTORS, clipping_bound=None),
    "at the start": PrivacyState(key=bytes(32)),
    "without vectors yet": replace(STATE, past=PastVectors(), step=0, took_part={}),
}


@pytest.fixture(autouse=True)
def master(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TACIT_MASTER_KEY", str(tmp_path / "key"))
    return tmp_path / "key"


def snapshot(state: PrivacyState) -> Snapshot:
    return Snapshot(9, 7, 0, 1.5, np.arange(5, dtype=np.float32), privacy=state)


def assert_equal(a: PrivacyState, b: PrivacyState) -> None:
    bare = PastKeys()
    assert replace(a, past=bare) == replace(b, past=bare)
    assert type(a.past) is type(b.past)
    assert a.past.step == b.past.step
    if isinstance(a.past, PastVectors) and isinstance(b.past, PastVectors):
        assert [v.tobytes() for v in a.past.vectors] == [v.tobytes() for v in b.past.vectors]
    else:
        assert a.past == b.past


@pytest.mark.parametrize("name", STATES)
def test_what_is_saved_is_loaded(tmp_path: Path, name: str) -> None:
    save_snapshot(tmp_path / "snapshot", snapshot(STATES[name]), "job")
    found = load_snapshot(tmp_path / "snapshot", "job")
    assert found.privacy is not None
    assert_equal(found.privacy, STATES[name])
    assert found.buffers == found.optimizer == {}


def test_nothing_of_it_can_be_read_in_the_file(tmp_path: Path) -> None:
    for state in STATES.values():
        save_snapshot(tmp_path / "snapshot", snapshot(state), "job")
        content = tmp_path.joinpath("snapshot").read_bytes()
        assert state.key not in content
        assert b"ann" not in content
        assert KEYS.keys[0].key not in content
        assert VECTORS.vectors[0][:2].tobytes() not in content
        assert state.cohort_seed is None or f"{state.cohort_seed:x}".encode() not in content


def test_two_seals_of_one_state_differ() -> None:
    a, b = (sealed(STATE, "job")["state"].tobytes() for _ in range(2))
    assert a != b


@pytest.mark.parametrize("name", ["with keys", "with vectors"])
def test_it_opens_in_its_own_place_alone(name: str) -> None:
    found = sealed(STATES[name], "job")
    assert_equal(opened(found, 7, "job"), STATES[name])
    for step, owner in ((8, "job"), (6, "job"), (7, "other"), (7, "")):
        with pytest.raises(ConfigError) as caught:
            opened(found, step, owner)
        assert caught.value.code == "T185"


def test_vectors_cannot_be_exchanged() -> None:
    found = sealed(STATES["with vectors"], "job")
    found["noise/0"], found["noise/1"] = found["noise/1"], found["noise/0"]
    with pytest.raises(ConfigError):
        opened(found, 7, "job")


@pytest.mark.parametrize("place", [0, 1, 5, 20, -1])
@pytest.mark.parametrize("part", ["state", "noise/1"])
def test_a_byte_that_has_changed_is_found(part: str, place: int) -> None:
    found = sealed(STATES["with vectors"], "job")
    found[part] = found[part].copy()
    found[part][place] ^= 1
    with pytest.raises(ConfigError) as caught:
        opened(found, 7, "job")
    assert caught.value.code == "T185"


def test_a_part_that_is_missing_is_a_damaged_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    save_snapshot(path, snapshot(STATES["with vectors"]), "job")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"privacy/noise/1", b"privacy/noise/9"))
    with pytest.raises(StoreError) as caught:
        load_snapshot(path, "job")
    assert caught.value.code == "T402"


def test_another_master_key_does_not_open_it_and_none_is_made(tmp_path: Path, master: Path) -> None:
    save_snapshot(tmp_path / "snapshot", snapshot(STATE), "job")
    master.unlink()
    with pytest.raises(StoreError) as missing:
        load_snapshot(tmp_path / "snapshot", "job")
    assert missing.value.code == "T430"
    assert not master.exists()
    master.write_bytes(bytes(32))
    with pytest.raises(ConfigError) as other:
        load_snapshot(tmp_path / "snapshot", "job")
    assert other.value.code == "T185"


def test_vectors_as_long_as_a_large_model_are_saved(tmp_path: Path) -> None:
    # As text in the header they would be too long for a safetensors file to be read again.
    rng = np.random.default_rng(0)
    past = PastVectors(tuple(rng.standard_normal(1_000_000) for _ in range(13)), 12)
    save_snapshot(tmp_path / "snapshot", snapshot(replace(STATE, past=past)), "job")
    with safe_open(tmp_path / "snapshot", framework="numpy") as file:
        assert len(file.metadata()["facts"]) < 1000
    found = load_snapshot(tmp_path / "snapshot", "job").privacy
    assert found is not None
    assert isinstance(found.past, PastVectors)
    assert found.past.vectors[12].tobytes() == past.vectors[12].tobytes()


def test_a_run_without_privacy_needs_no_master_key(tmp_path: Path, master: Path) -> None:
    save_snapshot(tmp_path / "snapshot", replace(snapshot(STATE), privacy=None))
    assert load_snapshot(tmp_path / "snapshot").privacy is None
    assert not master.exists()
