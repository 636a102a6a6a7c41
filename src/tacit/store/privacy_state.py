"""What a private run remembers, sealed for the disk."""

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from tacit.core.part import Record
from tacit.privacy.noise import KeyContext, PastKeys, PastVectors, StepKey, seal, unseal
from tacit.round.release import PrivacyState
from tacit.store.master_key import master_key

Sealed = npt.NDArray[np.uint8]
"""Sealed bytes, shape (bytes,)."""
_STATE, _NOISE = "state", "noise/"


class _Secrets(Record, frozen=True):
    """All of the state but vectors of noise, which are sealed one by one: they may be as long as a model."""

    key: bytes
    cohort_seed: str | None
    clipping_bound: float | None
    took_part: dict[str, int]
    past_step: int
    past_keys: tuple[tuple[int, bytes], ...]
    past_vectors: int | None


def sealed(state: PrivacyState, owner: str) -> dict[str, Sealed]:
    """Seal a state: encrypted with the server's master key, and bound to its run and step.

    Args:
        state: The state.
        owner: Whose it is: the job's name.

    Raises:
        StoreError: The master key cannot be made or read.
    """
    past = state.past
    keys, vectors = (past.keys, None) if isinstance(past, PastKeys) else ((), past.vectors)
    secrets = _Secrets(
        key=state.key,
        cohort_seed=None if state.cohort_seed is None else f"{state.cohort_seed:x}",
        clipping_bound=state.clipping_bound,
        took_part=dict(state.took_part),
        past_step=past.step,
        past_keys=tuple((k.step, k.key) for k in keys),
        past_vectors=None if vectors is None else len(vectors),
    )
    texts = {_STATE: msgspec.msgpack.encode(secrets)}
    texts |= {f"{_NOISE}{index}": vector.tobytes() for index, vector in enumerate(vectors or ())}
    master = master_key()
    return {
        name: np.frombuffer(seal(text, master, _context(owner, state.step, name)), np.uint8)
        for name, text in texts.items()
    }


def opened(found: Mapping[str, Sealed], step: int, owner: str) -> PrivacyState:
    """Open what ``sealed`` has sealed.

    Args:
        found: What was sealed.
        step: How many steps were released.
        owner: Whose it is: the job's name.

    Raises:
        ConfigError: The master key is another, or a byte has changed (T185).
        StoreError: The master key cannot be read.
        KeyError: A part is missing.
    """
    master = master_key(make=False)

    def text(name: str) -> bytes:
        return unseal(found[name].tobytes(), master, _context(owner, step, name))

    secrets = msgspec.msgpack.decode(text(_STATE), type=_Secrets)
    past: PastKeys | PastVectors
    if secrets.past_vectors is None:
        past = PastKeys(tuple(StepKey(step, key) for step, key in secrets.past_keys))
    else:
        vectors = (np.frombuffer(text(f"{_NOISE}{i}"), np.float64) for i in range(secrets.past_vectors))
        past = PastVectors(tuple(vectors), secrets.past_step)
    return PrivacyState(
        step=step,
        key=secrets.key,
        cohort_seed=None if secrets.cohort_seed is None else int(secrets.cohort_seed, 16),
        clipping_bound=secrets.clipping_bound,
        past=past,
        took_part=secrets.took_part,
    )


def _context(owner: str, step: int, name: str) -> KeyContext:
    return KeyContext(population=owner, job=owner, step=step, purpose=f"checkpoint {name}")
