"""The secrets of one client in one round, from the keys it makes to the shares it gives away."""

from collections.abc import Container, Mapping

from tacit.core.errors import RemoteProtocolError
from tacit.secagg.agreement import Agree, RememberingAgreement
from tacit.secagg.client_checks import Breach, Group
from tacit.secagg.entropy import Entropy
from tacit.secagg.keys import ChunkTags, RoundKeys, Secret, commitment_of, self_mask_key, vector_key, wipe
from tacit.secagg.masks import Mask
from tacit.secagg.messages import Shares
from tacit.secagg.shamir import SECRET_BYTES, SHARE_BYTES, read_share, split

Given = tuple[tuple[int, bytes], ...]
"""Shares by the position of whose secret they are of."""


class RoundSecrets:
    """Everything that must never leave the device but in the ways below; ``wipe`` overwrites it.

    Args:
        entropy: Where the secrets come from.
        agree: Agrees on X25519 secrets; None: remembers this client's own until they are used.
        post_quantum: Whether ML-KEM joins X25519.
    """

    __slots__ = ("_agree", "_capsules", "_entropy", "_held", "_keys", "_remembered", "_self_secret")

    def __init__(self, entropy: Entropy, agree: Agree | None, *, post_quantum: bool) -> None:
        self._entropy = entropy
        self._remembered = RememberingAgreement()
        # One that remembers nothing yet is falsy.
        self._agree: Agree = self._remembered if agree is None else agree
        self._keys: RoundKeys | None = RoundKeys(entropy.secret, post_quantum=post_quantum)
        self._self_secret: bytearray = Secret()
        self._held: dict[int, Secret] = {}
        self._capsules: dict[int, bytes] = {}

    @property
    def keys(self) -> RoundKeys:
        """The round's keys, until the masked row is on its way."""
        assert self._keys is not None, "the keys have done their work"
        return self._keys

    @property
    def holders(self) -> Mapping[int, object]:
        """The neighbours whose shares are here, by position."""
        return self._held

    @property
    def is_wiped(self) -> bool:
        """Whether nothing secret is left here."""
        held = any(map(any, self._held.values()))
        return not (self._keys or any(self._self_secret) or held or len(self._remembered))

    def deal(self, group: Group) -> Shares:
        """Share the self-mask secret and the mask seed among the neighbours; the message is still unsigned.

        Raises:
            Breach: T551, a neighbour's key is not usable.
        """
        self._self_secret = self._entropy.secret(SECRET_BYTES)
        around = tuple(group.adverts)
        self_shares = split(self._self_secret, group.threshold, around)
        seed_shares = split(self.keys.seed, group.threshold, around)
        sealed = tuple(
            (at, self._seal(group, at, Secret(self_shares[at] + seed_shares[at]))) for at in around
        )
        commitment = commitment_of(self._self_secret, group.session, group.position)
        capsules = tuple(self._capsules.values())
        return Shares(group.session, group.position, commitment, sealed, b"", capsules)

    def open(self, group: Group, dealt: Mapping[int, tuple[bytes, bytes]]) -> tuple[Mask, ...]:
        """Open the shares for this client, and return what its row is to be masked with.

        The seed and the self-mask secret are overwritten: from here on only the neighbours can rebuild them.

        Args:
            dealt: Sealed share and capsule, by the position of who dealt them.

        Raises:
            Breach: T563, a share does not open; T553, it is none; T551, a key or capsule is not usable.
        """
        masks = [Mask(self_mask_key(self._self_secret, group.session, group.position), 1)]
        for at, (sealed, capsule) in dealt.items():
            try:
                self._keep(group, at, sealed, capsule)
                masks.append(self._pair_mask(group, at, capsule))
            except RemoteProtocolError as error:
                raise Breach.of(error, at) from None
        self.keys.wipe()
        wipe(self._self_secret)
        return tuple(masks)

    def tags(self, group: Group, server_key: bytes) -> ChunkTags:
        """Return what proves to the server that a piece of a vector is this client's."""
        return ChunkTags(vector_key(self.keys.share_private, server_key, group.session, group.position))

    def forget_keys(self) -> None:
        """Forget all keys: the row is masked."""
        if self._keys is not None:
            self._keys.wipe()
        self._keys = None
        self._remembered.wipe()

    def give(self, alive: Container[int]) -> tuple[Given, Given]:
        """Return one share of every neighbour that dealt any, and overwrite all: there is no second time.

        Returns:
            Those of the self-mask secret for who is alive, those of the mask seed for who is not.
        """
        held = self._held.items()
        self_shares = tuple((at, bytes(share[:SHARE_BYTES])) for at, share in held if at in alive)
        seed_shares = tuple((at, bytes(share[SHARE_BYTES:])) for at, share in held if at not in alive)
        self.wipe()
        self._held.clear()
        return self_shares, seed_shares

    def wipe(self) -> None:
        """Overwrite every secret."""
        self.forget_keys()
        wipe(self._self_secret)
        for share in self._held.values():
            share.wipe()

    def _seal(self, group: Group, at: int, plaintext: Secret) -> bytes:
        advert, session, own, capsule = group.adverts[at], group.session, group.position, b""
        try:
            if advert.kem_key:
                capsule = self._capsules[at] = self.keys.capsule_for(advert, session, own, at)
            return self.keys.seal_for(advert, session, own, at, plaintext, capsule=capsule, agree=self._agree)
        except RemoteProtocolError as error:
            raise Breach.of(error, at) from None
        finally:
            plaintext.wipe()

    def _keep(self, group: Group, at: int, sealed: bytes, capsule: bytes) -> None:
        share = self._held[at] = self.keys.open_from(
            group.adverts[at], group.session, group.position, at, sealed, capsule=capsule, agree=self._agree
        )
        if len(share) != 2 * SHARE_BYTES:
            raise RemoteProtocolError("T563", "what was sealed is no pair of shares")
        read_share(bytes(share[:SHARE_BYTES]))
        read_share(bytes(share[SHARE_BYTES:]))

    def _pair_mask(self, group: Group, at: int, capsule: bytes) -> Mask:
        advert, own, sent = group.adverts[at], group.position, self._capsules.get(at, b"")
        key = self.keys.pair_key(
            advert, group.session, own, at, sent=sent, received=capsule, agree=self._agree
        )
        return Mask(key, 1 if own < at else -1)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(is_wiped={self.is_wiped})"

    def __reduce__(self) -> str:
        raise TypeError("secrets are not pickled")
