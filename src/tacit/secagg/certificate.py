"""A round's certificate: which terms, which members, who survived, and the sum that came of it."""

import base64
from collections.abc import Mapping

import msgspec

from tacit.core.errors import RemoteProtocolError
from tacit.secagg.framing import digest
from tacit.secagg.identity import SIGNATURE_BYTES, Verifier, is_signed, verify
from tacit.secagg.messages import SURVIVORS, positions_in
from tacit.secagg.terms import DIGEST_BYTES, MOST_TERMS_BYTES, Terms, session_id

_VERSION = b"\x01"


class RoundCertificate(
    msgspec.Struct, frozen=True, array_like=True, kw_only=True, forbid_unknown_fields=True
):
    """What anybody may check later about one group's sum, without seeing the sum.

    The survivors sign terms, members and bitmap before anything is unmasked; so a certificate that
    ``verify`` accepts was seen by them in exactly these words. The digest of the sum is the server's own
    statement, which whoever gets the sum can check: the clients never see it in time to sign it.

    Attributes:
        terms: What the members agreed on.
        roster_root: Digest of the members and their adverts (``terms.roster_root``).
        clients: How many they were.
        neighbours: Neighbours of each.
        threshold: Shares that rebuild a secret, and signatures that a client asks for before it reveals any.
        bitmap: Bit i, from the lowest: the member at position i is in the sum.
        signatures: Survivors' signatures of the session and the bitmap, by position; none if semi-honest.
        sum_sha256: Digest of the sum, int64 little-endian.
    """

    terms: Terms
    roster_root: bytes
    clients: int
    neighbours: int
    threshold: int
    bitmap: bytes
    signatures: tuple[tuple[int, bytes], ...]
    sum_sha256: bytes

    @property
    def session(self) -> bytes:
        """The id of the session, 32 bytes: what the survivors signed together with the bitmap."""
        return session_id(
            self.terms.assignment_id, self.roster_root, self.clients, self.neighbours, self.threshold
        )

    @property
    def survivors(self) -> tuple[int, ...]:
        """Positions of the members that are in the sum, ascending."""
        return positions_in(self.bitmap, self.clients)

    @property
    def digest(self) -> bytes:
        """Digest of the whole certificate, 32 bytes."""
        return digest("round certificate", self.to_bytes())

    def holds(self, position: int) -> bool:
        """Tell whether the member at a position is in the sum."""
        return 0 <= position < self.clients and bool(self.bitmap[position // 8] >> position % 8 & 1)

    def verify(self, keys: Mapping[int, bytes], *, verifier: Verifier = is_signed) -> None:
        """Accept the certificate, or refuse it.

        Args:
            keys: Identity keys of the members by position, as the checker's own enrolment knows them.

        Raises:
            RemoteProtocolError: T551, it contradicts itself; T561, a signature is wrong or there are too few.
        """
        survivors = set(self.survivors)
        if len(survivors) < self.terms.min_cohort:
            raise _contradicts(f"{len(survivors)} survivors, fewer than {self.terms.min_cohort}")
        signers = [position for position, _ in self.signatures]
        if signers != sorted(set(signers)) or not survivors.issuperset(signers):
            raise _contradicts("who signed is not a part of the survivors, in order")
        if self.terms.is_malicious and len(signers) < max(self.threshold, 1):
            raise _wrong(f"{len(signers)} survivors signed, not {self.threshold}")
        for position, signature in self.signatures:
            key = keys.get(position, b"")
            if not verify(key, signature, SURVIVORS, self.session, self.bitmap, verifier=verifier):
                raise _wrong(f"the signature of the member at {position} is wrong")

    def to_bytes(self) -> bytes:
        """Return the certificate's one encoding."""
        return _VERSION + msgspec.msgpack.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes, *, limit: int | None = None) -> "RoundCertificate":
        """Read a certificate's encoding.

        Raises:
            RemoteProtocolError: T552, it is too long; T551, it is none, or not the one that would be written.
        """
        limit = MOST_CERTIFICATE_BYTES if limit is None else limit
        if len(data) > limit:
            raise RemoteProtocolError("T552", f"a certificate of {len(data)} bytes, not at most {limit}")
        try:
            certificate = msgspec.msgpack.decode(data[1:], type=cls)
            right = certificate.to_bytes() == data
        except (msgspec.MsgspecError, ValueError, OverflowError):
            right = False
        if not right:
            raise RemoteProtocolError("T551", "these bytes are no certificate of a round") from None
        return certificate

    def to_line(self) -> str:
        """Return one line of JSON for a log: what readers look for, and the certificate in base64."""
        return msgspec.json.encode(_plainly(self)).decode()

    @classmethod
    def from_line(cls, line: str | bytes) -> "RoundCertificate":
        """Read a line of a log; its plain words must be those of the certificate in it.

        Raises:
            RemoteProtocolError: T551, they are not, or the line is none.
        """
        try:
            entry = msgspec.json.decode(line, type=dict[str, object])
            certificate = cls.from_bytes(base64.b64decode(str(entry["certificate"]), validate=True))
        except (msgspec.MsgspecError, ValueError, KeyError):
            raise RemoteProtocolError("T551", "this line holds no certificate of a round") from None
        if entry != _plainly(certificate):
            raise _contradicts("its words are not those of the certificate in it")
        return certificate

    def __post_init__(self) -> None:
        digests = (self.roster_root, self.sum_sha256)
        counts = (self.clients, self.neighbours, self.threshold)
        if any(len(value) != DIGEST_BYTES for value in digests) or not all(0 <= n < 1 << 32 for n in counts):
            raise ValueError("a certificate that cannot be: a digest or a count")
        if len(self.bitmap) != -(-self.clients // 8):
            raise ValueError("a certificate that cannot be: its bitmap")
        if any(len(signature) != SIGNATURE_BYTES for _, signature in self.signatures):
            raise ValueError("a certificate that cannot be: a signature")


MOST_CERTIFICATE_BYTES = MOST_TERMS_BYTES + (1 << 23)
"""Certificates longer than this are refused unread: terms, and signatures of 2^16 members and more."""


def _plainly(certificate: RoundCertificate) -> dict[str, object]:
    return {
        "job": certificate.terms.job,
        "round": certificate.terms.round,
        "group": certificate.terms.group,
        "mode": certificate.terms.mode,
        "model_sha256": certificate.terms.model_sha256.hex(),
        "clients": certificate.clients,
        "survivors": len(certificate.survivors),
        "signatures": len(certificate.signatures),
        "sum_sha256": certificate.sum_sha256.hex(),
        "certificate": base64.b64encode(certificate.to_bytes()).decode(),
    }


def _contradicts(what: str) -> RemoteProtocolError:
    return RemoteProtocolError("T551", f"the round's certificate contradicts itself: {what}")


def _wrong(what: str) -> RemoteProtocolError:
    return RemoteProtocolError("T561", f"the round's certificate is not proven: {what}")
