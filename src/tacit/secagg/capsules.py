"""The post-quantum half of a pair's keys: ML-KEM-768 (FIPS 203) beside X25519.

Both ends of a pair encapsulate to each other, in the message that carries their shares, since neither can
wait for the other. Each does so twice: to the other's *share* key, which is fresh, for the sealed share;
and to the other's *mask* key, which comes from the mask seed, for the pair's mask. The second goes out as a
**capsule**: the ciphertext, and a copy of its secret sealed under the sender's own mask seed. So the seed of
either end gives both secrets of the pair, and the server can take away the mask of a client that vanished,
whichever end it was.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tacit.core.errors import RemoteProtocolError
from tacit.secagg.framing import framed
from tacit.secagg.messages import CIPHERTEXT_BYTES
from tacit.secagg.secret import Secret, derive

KEM_SEED_BYTES = 64
_ONCE = bytes(12)


def mask_kem_of(seed: bytes | bytearray) -> MLKEM768PrivateKey:
    """Return the ML-KEM mask key that a mask seed stands for."""
    return kem_of(derive(seed, b"", "mask kem", length=KEM_SEED_BYTES))


def kem_of(seed: bytes | bytearray) -> MLKEM768PrivateKey:
    """Return the ML-KEM key of a seed of 64 bytes (FIPS 203: d and z)."""
    return MLKEM768PrivateKey.from_seed_bytes(bytes(seed))


def encapsulate(public: bytes) -> tuple[Secret, bytes]:
    """Return a new secret of 32 bytes, and the ciphertext that only the owner of ``public`` can open.

    Raises:
        RemoteProtocolError: T551, the key is none.
    """
    try:
        secret, ciphertext = MLKEM768PublicKey.from_public_bytes(public).encapsulate()
    except ValueError:
        raise RemoteProtocolError("T551", "a post-quantum key is not usable", where="key") from None
    return Secret(secret), ciphertext


def decapsulate(private: MLKEM768PrivateKey, ciphertext: bytes) -> Secret:
    """Return the secret of a ciphertext; a forged one gives a secret that nobody knows (FIPS 203, 6.3).

    Raises:
        RemoteProtocolError: T551, it has another length.
    """
    if len(ciphertext) != CIPHERTEXT_BYTES:
        raise RemoteProtocolError("T551", f"a ciphertext of {len(ciphertext)} bytes, not {CIPHERTEXT_BYTES}")
    return Secret(private.decapsulate(ciphertext))


def make_capsule(
    seed: bytes | bytearray, mask_kem_public: bytes, session: bytes, sender: int, recipient: int
) -> tuple[Secret, bytes]:
    """Return a new secret for the mask of a pair, and the capsule in which the sender sends it out.

    Args:
        seed: The sender's own mask seed.
        mask_kem_public: The recipient's.
    """
    secret, ciphertext = encapsulate(mask_kem_public)
    copy = _copy_cipher(seed, session, sender, recipient, ciphertext).encrypt(_ONCE, secret, None)
    return secret, ciphertext + copy


def receive_capsule(seed: bytes | bytearray, capsule: bytes) -> Secret:
    """Return the secret of a capsule with the recipient's mask seed; the ciphertext alone is enough.

    Raises:
        RemoteProtocolError: T551, it is too short for a capsule.
    """
    return decapsulate(mask_kem_of(seed), capsule[:CIPHERTEXT_BYTES])


def recall_capsule(
    seed: bytes | bytearray, capsule: bytes, session: bytes, sender: int, recipient: int
) -> Secret:
    """Return the secret of a capsule with its *sender's* mask seed.

    Raises:
        RemoteProtocolError: T563, the copy is not one that this seed sealed for this pair.
    """
    ciphertext, copy = capsule[:CIPHERTEXT_BYTES], capsule[CIPHERTEXT_BYTES:]
    cipher = _copy_cipher(seed, session, sender, recipient, ciphertext)
    try:
        return Secret(cipher.decrypt(_ONCE, copy, None))
    except (InvalidTag, ValueError):
        what = "the sender's copy in a capsule does not open"
        raise RemoteProtocolError("T563", what, where=f"from the member at {sender}") from None


def pair_extra(low_to_high: bytes | bytearray, high_to_low: bytes | bytearray) -> bytes:
    """Return what the two secrets of a pair add to ``pair_key``, the same at both ends."""
    return framed(low_to_high, high_to_low)


def _copy_cipher(
    seed: bytes | bytearray, session: bytes, sender: int, recipient: int, ciphertext: bytes
) -> AESGCM:
    # Every ciphertext is new, and so is the key: a capsule made again repeats no nonce.
    return AESGCM(derive(seed, session, "capsule", sender, recipient, ciphertext, length=32))
