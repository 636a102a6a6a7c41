"""What two share keys protect: sealed shares between members, tagged chunks on the way to the server."""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tacit.core.errors import RemoteProtocolError
from tacit.secagg.agreement import Agree, exchange
from tacit.secagg.framing import framed
from tacit.secagg.secret import Secret, derive

_ONCE = bytes(12)
"""The nonce of a key that seals one message only."""


def channel_key(
    private: X25519PrivateKey,
    public: bytes,
    session: bytes,
    sender: int,
    recipient: int,
    extra: bytes = b"",
    *,
    agree: Agree = exchange,
) -> bytes:
    """Return the AES-256 key of the one message from ``sender`` to ``recipient``."""
    return derive(agree(private, public), session, "channel", sender, recipient, extra, length=32)


def seal(
    key: bytes, session: bytes, sender: int, recipient: int, plaintext: bytes | bytearray, about: bytes = b""
) -> bytes:
    """Seal the one message of a ``channel_key`` with AES-256-GCM; 16 bytes longer than the plaintext.

    Args:
        about: What else must arrive as it was sent (the capsule of the pair).
    """
    return AESGCM(key).encrypt(_ONCE, plaintext, framed(session, sender, recipient, about))


def open(
    key: bytes, session: bytes, sender: int, recipient: int, sealed: bytes, about: bytes = b""
) -> Secret:
    """Open what ``seal`` has sealed.

    Raises:
        RemoteProtocolError: T563, it is not what the sender sealed with this key for this recipient.
    """
    try:
        return Secret(AESGCM(key).decrypt(_ONCE, sealed, framed(session, sender, recipient, about)))
    except (InvalidTag, ValueError):
        raise _does_not_open(sender) from None


def _does_not_open(sender: int) -> RemoteProtocolError:
    """Return the refusal of a sealed share."""
    return RemoteProtocolError("T563", "a sealed share does not open", where=f"from the member at {sender}")


def vector_key(
    private: X25519PrivateKey, public: bytes, session: bytes, position: int, *, agree: Agree = exchange
) -> bytes:
    """Return the key that tags a client's chunks: its share key with the server's, or the other way round."""
    return derive(agree(private, public), session, "vector", position, length=32)


class ChunkTags:
    """Tags the chunks of one client's vector with GMAC (AES-256-GCM without plaintext), one per index.

    A tag proves to the server, and to nobody else, that the chunk is the advertised client's.
    """

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def tag(self, index: int, body: bytes | bytearray | memoryview) -> bytes:
        """Return the tag of the chunk at an index, 16 bytes; under one key an index has one body."""
        return self._cipher.encrypt(index.to_bytes(12, "big"), b"", body)

    def check(self, index: int, body: bytes | bytearray | memoryview, tag: bytes) -> None:
        """Accept a chunk.

        Raises:
            RemoteProtocolError: T561, the tag is wrong.
        """
        try:
            self._cipher.decrypt(index.to_bytes(12, "big"), tag, body)
        except (InvalidTag, ValueError):
            raise RemoteProtocolError("T561", f"the tag of chunk {index} is wrong") from None
