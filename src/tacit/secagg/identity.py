"""Who a client is: its signing key, and the authority that vouches for it.

The server of an aggregation must not be able to invent clients: with n - 1 invented ones the sum is
the update of the one that is real. So the keys are vouched for by an authority *apart* from the
server, and every client checks the certificates of its neighbours against what it has pinned itself.

``cryptography`` is imported late throughout: it takes 7 MB of every process.
"""

from collections import OrderedDict
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

import msgspec

from tacit.core.errors import RemoteProtocolError
from tacit.secagg.framing import PROTOCOL, digest, framed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_BYTES = 32
"""Bytes of a public key of Ed25519, and of a private one."""
SIGNATURE_BYTES = 64


class Verifier(Protocol):
    """Tells whether ``signature`` is that of ``message`` under the Ed25519 key ``public``."""

    def __call__(self, public: bytes, signature: bytes, message: bytes, /) -> bool: ...


def is_signed(public: bytes, signature: bytes, message: bytes, /) -> bool:
    """Verify one Ed25519 signature (RFC 8032); anything that is no key or no signature is wrong."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


class RememberingVerifier:
    """Verifies each signature once: for a process that plays many clients, who all check the same ones.

    What is remembered is a SHA-256 of key, signature and message together, so a hit is as good as a check.

    Args:
        most: How many answers are kept; the one unused for longest goes first.
    """

    def __init__(self, most: int = 1 << 16, verifier: Verifier = is_signed) -> None:
        self._most, self._verifier = most, verifier
        self._known: OrderedDict[bytes, bool] = OrderedDict()

    def __call__(self, public: bytes, signature: bytes, message: bytes, /) -> bool:
        name = sha256(framed(public, signature, message)).digest()
        answer = self._known.pop(name, None)
        if answer is None:
            answer = self._verifier(public, signature, message)
        self._known[name] = answer
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return answer

    def __len__(self) -> int:
        return len(self._known)


def signed_message(label: str, *parts: bytes) -> bytes:
    """Return the bytes that are signed: protocol, label and parts, each with its length."""
    return framed(PROTOCOL, "signature", label, *parts)


def verify(
    public: bytes, signature: bytes, label: str, *parts: bytes, verifier: Verifier = is_signed
) -> bool:
    """Tell whether the owner of ``public`` signed exactly these parts under exactly this label."""
    return verifier(public, signature, signed_message(label, *parts))


class Identity:
    """A client's long-lived signing key (Ed25519). It signs, and is never printed.

    >>> ann = Identity.generate()
    >>> verify(ann.public, ann.sign("greeting", b"hello"), "greeting", b"hello")
    True
    """

    __slots__ = ("_private", "public")

    def __init__(self, private: "Ed25519PrivateKey") -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> "Identity":
        """Make a new identity from the operating system's entropy."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_private_bytes(cls, private: bytes | bytearray) -> "Identity":
        """Return the identity whose 32 private bytes were kept on the device."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls(Ed25519PrivateKey.from_private_bytes(private))

    def private_bytes(self) -> bytearray:
        """Return the 32 private bytes, to be kept on the device; wipe them when they are written."""
        return bytearray(self._private.private_bytes_raw())

    def sign(self, label: str, *parts: bytes) -> bytes:
        """Sign the parts, 64 bytes; a signature under one label is worth nothing under another."""
        return self._private.sign(signed_message(label, *parts))

    def __repr__(self) -> str:
        return f"Identity(public={self.public.hex()})"

    def __reduce__(self) -> str:
        raise TypeError("a private key is not pickled")


class Certificate(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """The authority's word that ``key`` is the client's, up to and including a day.

    Attributes:
        client: The client's id.
        key: Its public Ed25519 key.
        last_day: The last day on which it counts, in days since 1970-01-01.
        signature: The authority's, over the three.
    """

    client: str
    key: bytes
    last_day: int
    signature: bytes

    @cached_property
    def signed_part(self) -> bytes:
        """What the authority signs."""
        return framed(self.client, self.key, self.last_day)


class Revocation(msgspec.Struct, frozen=True, array_like=True):
    """A signed list of identity keys that count no more, whatever their certificates say.

    Attributes:
        keys: All that were ever revoked, in order.
        signature: The authority's, over all of them.
    """

    keys: tuple[bytes, ...]
    signature: bytes


class Authority:
    """Enrols clients, and revokes them. It is not the aggregation server, and the server never holds its key.

    >>> authority, ann = Authority.generate(), Identity.generate()
    >>> certificate = authority.enrol("ann", ann.public, last_day=20_000)
    >>> authority.enrolment(day=19_999).check(certificate, "ann")
    """

    __slots__ = ("_identity", "_revoked")

    def __init__(self, identity: Identity, revoked: frozenset[bytes] = frozenset()) -> None:
        self._identity, self._revoked = identity, revoked

    @classmethod
    def generate(cls) -> "Authority":
        """Make a new authority from the operating system's entropy."""
        return cls(Identity.generate())

    @property
    def public(self) -> bytes:
        """The key that clients pin."""
        return self._identity.public

    @property
    def revoked(self) -> frozenset[bytes]:
        """Every key revoked so far."""
        return self._revoked

    def enrol(self, client: str, public: bytes, last_day: int) -> Certificate:
        """Vouch that the key is the client's, up to and including ``last_day``."""
        if len(public) != KEY_BYTES:
            raise ValueError(f"a public key has {KEY_BYTES} bytes, not {len(public)}")
        unsigned = Certificate(client, bytes(public), last_day, b"")
        signature = self._identity.sign("certificate", unsigned.signed_part)
        return Certificate(client, unsigned.key, last_day, signature)

    def revoke(self, *keys: bytes) -> Revocation:
        """Revoke keys, and return the signed list of all that were ever revoked."""
        self._revoked |= set(keys)
        revoked = tuple(sorted(self._revoked))
        return Revocation(revoked, self._identity.sign("revocation", *revoked))

    def enrolment(self, day: int) -> "Enrolment":
        """Return what a client pins that knows of every revocation so far."""
        return Enrolment(self.public, self._revoked, day)

    def __repr__(self) -> str:
        return f"Authority(public={self.public.hex()})"


class Enrolment(msgspec.Struct, frozen=True):
    """What a client pins: whose word it takes, for whom no more, and on which day it does so.

    Attributes:
        authority: The authority's public key.
        revoked: Identity keys that do not count.
        day: Today, in days since 1970-01-01.
    """

    authority: bytes
    revoked: frozenset[bytes]
    day: int

    @property
    def root(self) -> bytes:
        """A digest of authority and revocations, 32 bytes; the terms of a round name the one they rest on."""
        return digest("enrolment", self.authority, *sorted(self.revoked))

    def revoking(self, revocation: Revocation, *, verifier: Verifier = is_signed) -> "Enrolment":
        """Return the enrolment with more keys revoked; a list that was signed earlier takes none back.

        Raises:
            RemoteProtocolError: T562, the list is not this authority's.
        """
        keys, signature = revocation.keys, revocation.signature
        if not verify(self.authority, signature, "revocation", *keys, verifier=verifier):
            raise _not_accepted("a list of revoked keys is not signed by the enrolment authority", "revoked")
        return Enrolment(self.authority, self.revoked | set(keys), self.day)

    def check(self, certificate: Certificate, client: str, *, verifier: Verifier = is_signed) -> None:
        """Accept a certificate, or refuse it.

        Raises:
            RemoteProtocolError: T562: it is another client's, has run out, was revoked, or another
                authority's.
        """
        if certificate.client != client:
            raise _not_accepted(f"the certificate is that of {certificate.client!r}", client)
        if certificate.last_day < self.day:
            raise _not_accepted("the certificate has run out", client)
        if certificate.key in self.revoked:
            raise _not_accepted("the certificate was revoked", client)
        part, signature = certificate.signed_part, certificate.signature
        if not verify(self.authority, signature, "certificate", part, verifier=verifier):
            raise _not_accepted("the certificate is not signed by the enrolment authority", client)


def _not_accepted(what: str, where: str) -> RemoteProtocolError:
    fix = "Ask the enrolment authority for a new certificate, or for its list of revoked keys."
    return RemoteProtocolError("T562", what, where=where, fix=fix)
