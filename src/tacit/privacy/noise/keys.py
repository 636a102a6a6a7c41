"""Where the keys of noise come from."""

import os
from typing import ClassVar, Protocol, runtime_checkable

from tacit.privacy.noise.keystream import KEY_BYTES, derive


@runtime_checkable
class NoiseKeys(Protocol):
    """Hands out one key, 32 bytes, for each step and purpose."""

    is_private: ClassVar[bool]
    source: ClassVar[str]

    def key(self, step: int, *purpose: str | int) -> bytes:
        """Return the key of one purpose (``"update"``, or ``"local"`` and a client's id) of one step."""
        ...


class SystemKeys:
    """Fresh keys from the operating system: nobody can draw the same noise again without the key itself.

    Two calls never give the same key, also for the same step: who needs a step's noise twice keeps its key.

    >>> SystemKeys().key(0, "update") == SystemKeys().key(0, "update")
    False
    """

    is_private: ClassVar[bool] = True
    source: ClassVar[str] = "operating system"

    def key(self, step: int, *purpose: str | int) -> bytes:
        return os.urandom(KEY_BYTES)


class SeededKeys:
    """Keys that follow from a seed, for simulations and tests. Reproducible, thus not private.

    Who knows the seed, which stands in the job, subtracts the noise.

    >>> SeededKeys(0).key(3, "update") == SeededKeys(0).key(3, "update")
    True
    """

    is_private: ClassVar[bool] = False
    source: ClassVar[str] = "seeded, not private"

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def key(self, step: int, *purpose: str | int) -> bytes:
        return derive(bytes(KEY_BYTES), self._seed, step, *purpose)
