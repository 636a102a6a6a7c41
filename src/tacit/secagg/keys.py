"""The keys of one client in one round, and everything that is derived from them.

    mask seed (16 bytes, shared among the neighbours)
      |-- X25519 mask key     pair keys: one mask per neighbour, added by one end, subtracted by the other
      `-- ML-KEM mask key     post-quantum: a second secret of every pair, which the seed gives as well
    share key (X25519, fresh)     seals the shares for each neighbour; tags the chunks for the server
    ML-KEM share key (fresh)      post-quantum: a second secret of every sealed share

All that the server may one day rebuild (a vanished client's masks) comes from the mask seed, and nothing
else does: a rebuilt seed opens no sealed share, now or to a quantum computer. Keys come from HKDF-SHA256
(RFC 5869) with the session's id as salt and the purpose and positions in ``info``.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tacit.secagg.agreement import Agree, RememberingAgreement, exchange
from tacit.secagg.channel import ChunkTags, channel_key, open, seal, vector_key
from tacit.secagg.framing import digest
from tacit.secagg.messages import CIPHERTEXT_BYTES, KEM_BYTES
from tacit.secagg.secret import Secret, derive, fresh, wipe

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

__all__ = [
    "Agree", "ChunkTags", "MaskKeys", "PublicKeys", "RememberingAgreement", "RoundKeys", "Secret",
    "channel_key", "commitment_of", "derive", "exchange", "fresh", "mask_private_of", "open", "pair_key",
    "seal", "self_mask_key", "vector_key", "wipe",
]  # fmt: skip

SEED_BYTES = 16
PUBLIC_BYTES = 32
_KEM = KEM_BYTES // 2


class PublicKeys(Protocol):
    """The public keys of a member: its advert, or anything with the same three."""

    @property
    def mask_key(self) -> bytes: ...
    @property
    def share_key(self) -> bytes: ...
    @property
    def kem_key(self) -> bytes: ...


class MaskKeys:
    """All that one mask seed stands for: at its client, and at the server that has rebuilt it.

    Attributes:
        seed: The seed, wiped by ``wipe``.
        mask_public: The public mask key; a rebuilt seed is right if it is the one that was advertised.
    """

    __slots__ = ("_private", "mask_public", "seed")

    def __init__(self, seed: bytes | bytearray) -> None:
        self.seed = Secret(seed)
        self._private = mask_private_of(self.seed)
        self.mask_public = self._private.public_key().public_bytes_raw()

    def kem_public(self) -> bytes:
        """Return the public ML-KEM mask key, 1184 bytes."""
        from tacit.secagg import capsules

        return capsules.mask_kem_of(self.seed).public_key().public_bytes_raw()

    def capsule_for(self, other: PublicKeys, session: bytes, own: int, position: int) -> bytes:
        """Make the capsule for the member at ``position``; the seed alone tells later what is in it."""
        from tacit.secagg import capsules

        secret, capsule = capsules.make_capsule(self.seed, other.kem_key[:_KEM], session, own, position)
        secret.wipe()
        return capsule

    def pair_key(
        self,
        other: PublicKeys,
        session: bytes,
        own: int,
        position: int,
        *,
        sent: bytes = b"",
        received: bytes = b"",
        agree: Agree = exchange,
    ) -> bytes:
        """Return the key of the mask of ``own``, this seed's member, and the one at ``position``.

        Args:
            sent: Post-quantum: the capsule that this member made for the other, copy included.
            received: Post-quantum: the other's for this one; its copy may be left out.

        Raises:
            RemoteProtocolError: T551 or T563, a capsule or key is unusable.
        """
        low, high = min(own, position), max(own, position)
        extra = b""
        if other.kem_key:
            from tacit.secagg import capsules

            mine = capsules.recall_capsule(self.seed, sent, session, own, position)
            theirs = capsules.receive_capsule(self.seed, received)
            extra = capsules.pair_extra(*((mine, theirs) if own == low else (theirs, mine)))
        return pair_key(self._private, other.mask_key, session, low, high, extra, agree=agree)

    def wipe(self) -> None:
        """Overwrite the seed; the keys made from it go with this object."""
        self.seed.wipe()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(mask_public={self.mask_public.hex()})"

    def __reduce__(self) -> str:
        raise TypeError("secret keys are not pickled")


class RoundKeys(MaskKeys):
    """All keys of one client in one round; new ones for every round.

    Attributes:
        share_private: The X25519 share key, which no seed gives.
        share_public: Its public half.
        share_kem: The ML-KEM share key, which no seed gives either, or None.
        kem_key: The two public ML-KEM keys, or nothing where keys are not post-quantum.
    """

    __slots__ = ("kem_key", "share_kem", "share_private", "share_public")

    def __init__(self, secret: Callable[[int], bytearray] = fresh, *, post_quantum: bool = False) -> None:
        seed, share = secret(SEED_BYTES), secret(PUBLIC_BYTES)
        super().__init__(seed)
        self.share_private = X25519PrivateKey.from_private_bytes(share)
        self.share_public = self.share_private.public_key().public_bytes_raw()
        self.share_kem: MLKEM768PrivateKey | None = None
        self.kem_key = b""
        wipe(seed)
        wipe(share)
        if post_quantum:
            from tacit.secagg import capsules

            drawn = secret(capsules.KEM_SEED_BYTES)
            self.share_kem = capsules.kem_of(drawn)
            self.kem_key = self.kem_public() + self.share_kem.public_key().public_bytes_raw()
            wipe(drawn)

    @property
    def mask_key(self) -> bytes:
        """The public mask key, under the name that an advert gives it."""
        return self.mask_public

    @property
    def share_key(self) -> bytes:
        """The public share key, under the name that an advert gives it."""
        return self.share_public

    def seal_for(
        self,
        other: PublicKeys,
        session: bytes,
        own: int,
        position: int,
        plaintext: bytes | bytearray,
        *,
        capsule: bytes = b"",
        agree: Agree = exchange,
    ) -> bytes:
        """Seal the one message for the member at ``position``, which ``open_from`` opens there.

        Args:
            capsule: Post-quantum: the pair's, which must arrive unchanged for the message to open.
        """
        extra, ciphertext = b"", b""
        if other.kem_key:
            from tacit.secagg import capsules

            secret, ciphertext = capsules.encapsulate(other.kem_key[_KEM:])
            extra = bytes(secret)
        key = channel_key(self.share_private, other.share_key, session, own, position, extra, agree=agree)
        about = ciphertext + capsule[:CIPHERTEXT_BYTES]
        return ciphertext + seal(key, session, own, position, plaintext, about)

    def open_from(
        self,
        other: PublicKeys,
        session: bytes,
        own: int,
        position: int,
        sealed: bytes,
        *,
        capsule: bytes = b"",
        agree: Agree = exchange,
    ) -> Secret:
        """Open what the member at ``position`` sealed for this one, which is at ``own``.

        Raises:
            RemoteProtocolError: T563, it does not open; T551, a key or ciphertext is unusable.
        """
        extra, ciphertext = b"", b""
        if self.share_kem is not None:
            from tacit.secagg import capsules

            ciphertext, sealed = sealed[:CIPHERTEXT_BYTES], sealed[CIPHERTEXT_BYTES:]
            extra = bytes(capsules.decapsulate(self.share_kem, ciphertext))
        key = channel_key(self.share_private, other.share_key, session, position, own, extra, agree=agree)
        return open(key, session, position, own, sealed, ciphertext + capsule[:CIPHERTEXT_BYTES])


def mask_private_of(seed: bytes | bytearray) -> X25519PrivateKey:
    """Return the mask key of a seed; a rebuilt seed is right if the public key is the advertised one."""
    return X25519PrivateKey.from_private_bytes(derive(seed, b"", "mask key", length=32))


def is_seed_of(seed: bytes | bytearray, mask_public: bytes) -> bool:
    """Tell whether a rebuilt seed is the one whose public mask key was advertised."""
    return mask_private_of(seed).public_key().public_bytes_raw() == mask_public


def commitment_of(b: bytes | bytearray, session: bytes, position: int) -> bytes:
    """Return what binds a client to its self-mask secret, 32 bytes; a rebuilt one is checked by it."""
    return digest("commitment", session, position, b)


def pair_key(
    private: X25519PrivateKey,
    public: bytes,
    session: bytes,
    low: int,
    high: int,
    extra: bytes = b"",
    *,
    agree: Agree = exchange,
) -> bytes:
    """Return the AES-128 key of the mask of the pair at positions ``low`` < ``high``; both ends get the same.

    Args:
        extra: ``pair_extra`` of the pair's two ML-KEM secrets, where keys are post-quantum.
    """
    if not 0 <= low < high:
        raise ValueError(f"no pair: {low} and {high}")
    return derive(agree(private, public), session, "pair", low, high, extra)


def self_mask_key(b: bytes | bytearray, session: bytes, position: int) -> bytes:
    """Return the AES-128 key of a client's self mask, from the secret that its neighbours share."""
    return derive(b, session, "self", position)
