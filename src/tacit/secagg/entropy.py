"""Where a client's secrets and nonces come from."""

import os
from typing import Protocol

from tacit.secagg.secret import fresh


class Entropy(Protocol):
    """Draws what nobody may know, and what nobody may choose.

    A simulation gives nonces of its own, which are public and order the graph, so that a run can be repeated.
    Secrets come from the operating system always.
    """

    def secret(self, size: int, /) -> bytearray: ...
    def nonce(self, size: int, /) -> bytes: ...


class SystemEntropy:
    """The operating system's, for both."""

    def secret(self, size: int, /) -> bytearray:
        return fresh(size)

    def nonce(self, size: int, /) -> bytes:
        return os.urandom(size)


class GivenNonce(SystemEntropy):
    """The operating system's secrets, and a nonce that the simulation has drawn at its address."""

    def __init__(self, nonce: bytes) -> None:
        self._nonce = nonce

    def nonce(self, size: int, /) -> bytes:
        if len(self._nonce) != size:
            raise ValueError(f"a nonce of {len(self._nonce)} bytes was given, and {size} are wanted")
        return self._nonce
