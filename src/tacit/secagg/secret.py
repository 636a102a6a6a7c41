"""Bytes that nobody else may see, and keys derived from them.

Python cannot promise that a secret leaves memory: buffers are overwritten, copies inside libraries may stay.
"""

import hmac
import os

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tacit.secagg.framing import PROTOCOL, Item, framed


class Secret(bytearray):
    """Secret bytes: never printed, never pickled, compared in constant time, overwritten by ``wipe``.

    >>> Secret(b"0123")
    Secret(4 bytes)
    """

    def wipe(self) -> None:
        """Overwrite the bytes with zeros."""
        wipe(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, bytes | bytearray) and hmac.compare_digest(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None

    def __repr__(self) -> str:
        return f"Secret({len(self)} bytes)"

    __str__ = __repr__

    def __reduce_ex__(self, protocol: object) -> str:
        raise TypeError("a secret is not pickled")


def wipe(secret: bytearray) -> None:
    """Overwrite the bytes in place with zeros."""
    secret[:] = bytes(len(secret))


def fresh(size: int) -> Secret:
    """Return that many bytes from the operating system."""
    return Secret(os.urandom(size))


def derive(secret: bytes | bytearray, salt: bytes, *info: Item, length: int = 16) -> bytes:
    """Derive a key with HKDF-SHA256; another salt, purpose or length gives an unrelated key.

    The salt stands in ``info`` too: HMAC pads its key with zeros, so that HKDF alone would take the salts
    of a byte, and of that byte and a zero, for one.
    """
    about = framed(PROTOCOL, length, salt, *info)
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=about).derive(secret)
