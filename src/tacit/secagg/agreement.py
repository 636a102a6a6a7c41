"""What two X25519 keys agree on, once per pair or once per ask."""

from collections import OrderedDict
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from tacit.core.errors import RemoteProtocolError
from tacit.secagg.secret import Secret


class Agree(Protocol):
    """Returns what a private and a public X25519 key agree on, 32 bytes."""

    def __call__(self, private: X25519PrivateKey, public: bytes, /) -> bytes: ...


def exchange(private: X25519PrivateKey, public: bytes, /) -> bytes:
    """X25519 (RFC 7748).

    Raises:
        RemoteProtocolError: T551, the public key is none, or one with which everybody agrees on zero.
    """
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise RemoteProtocolError("T551", "a public key is not usable", where="key") from None


class RememberingAgreement:
    """Agrees once per pair of keys: for a process that plays both ends, and would compute it twice.

    It holds secrets of every client it plays; ``wipe`` when the group is done.

    Args:
        most: How many pairs are kept; the one unused for longest goes first.
    """

    def __init__(self, most: int = 1 << 15, agree: Agree = exchange) -> None:
        self._most, self._agree = most, agree
        self._known: OrderedDict[tuple[bytes, bytes], Secret] = OrderedDict()
        self._own: dict[X25519PrivateKey, bytes] = {}

    def __call__(self, private: X25519PrivateKey, public: bytes, /) -> bytes:
        own = self._own.get(private) or self._own.setdefault(private, private.public_key().public_bytes_raw())
        pair = (own, public) if own < public else (public, own)
        secret = self._known.pop(pair, None)
        if secret is None:
            secret = Secret(self._agree(private, public))
        self._known[pair] = secret
        if len(self._known) > self._most:
            self._known.popitem(last=False)[1].wipe()
        return bytes(secret)

    def wipe(self) -> None:
        """Overwrite and forget every secret."""
        for secret in self._known.values():
            secret.wipe()
        self._known.clear()
        self._own.clear()

    def __len__(self) -> int:
        return len(self._known)

    def __reduce__(self) -> str:
        raise TypeError("secrets are not pickled")
