"""A group for a secure sum in one process: who its members are, what they agreed on, what each would send.

Everything real: an authority that enrols, Ed25519 identities, X25519 keys, the machines of `tacit.secagg`.
Some members may be *corrupt*: their machines follow the protocol, and a hostile server reads every secret
that they draw, and signs with their identities whatever it likes.
"""

from collections.abc import Iterable, Mapping

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tacit.secagg.agreement import RememberingAgreement
from tacit.secagg.client import SecureClient
from tacit.secagg.client_checks import Find
from tacit.secagg.entropy import Entropy, SystemEntropy
from tacit.secagg.events import Total
from tacit.secagg.identity import Authority, Certificate, Enrolment, Identity, RememberingVerifier
from tacit.secagg.keys import RoundKeys
from tacit.secagg.parameters import Mode, find_parameters
from tacit.secagg.ring import LaneGroup, Ring, lane_share
from tacit.secagg.server import SecureServer
from tacit.secagg.terms import Terms

TODAY = 20_000
"""The day on which the members check certificates, in days since 1970-01-01."""
_RING = Ring((LaneGroup(size=40, bits=32), LaneGroup(size=1, bits=52)))


class OpenEntropy(SystemEntropy):
    """The operating system's entropy, of which somebody keeps a copy: that of a member who is corrupt.

    Attributes:
        drawn: Every secret drawn, in order: mask seed, share keys, self-mask secret.
    """

    def __init__(self, entropy: Entropy | None = None) -> None:
        self._entropy = entropy or SystemEntropy()
        self.drawn: list[bytes] = []

    def secret(self, size: int, /) -> bytearray:
        """Draw a secret, and keep a copy."""
        secret = self._entropy.secret(size)
        self.drawn.append(bytes(secret))
        return secret

    def nonce(self, size: int, /) -> bytes:
        """Draw a nonce."""
        return self._entropy.nonce(size)

    def keys(self, *, post_quantum: bool) -> RoundKeys:
        """Return the keys that the member made of what it drew."""
        drawn = iter(self.drawn)
        return RoundKeys(lambda size: bytearray(next(drawn)), post_quantum=post_quantum)


class SecureGroup:
    """Members, terms and rows of one secure sum.

    Args:
        clients: How many members.
        mode: What the server may do.
        corrupt: Share of members that the parameters have to withstand.
        dropout: Share of members that may vanish.
        min_cohort: Least clients of a sum; None: a majority.
        ring: How a row lies in words.
        post_quantum: Whether ML-KEM joins X25519.
        find: Finds the parameters, for server and clients alike.
        corrupted: Members whose secrets a hostile server reads.
        least_cohort: What every device demands of its own accord.
        entropy: Where members take secrets and nonces from, if not from the operating system.
        round: The round's number.
        like: A group whose members, authority and rows these are too: another round of the same clients.

    Attributes:
        clients: The members' ids, sorted; a member's position is its index.
        terms: What all have agreed to.
        rows: What each would contribute, random, as large as it may be.
        opened: The entropy of the corrupt members.
    """

    def __init__(
        self,
        clients: int = 7,
        *,
        mode: Mode = "malicious",
        corrupt: float = 0.1,
        dropout: float = 0.1,
        min_cohort: int | None = None,
        ring: Ring = _RING,
        post_quantum: bool = False,
        find: Find = find_parameters,
        corrupted: Iterable[str] = (),
        least_cohort: int = 2,
        entropy: Mapping[str, Entropy] | None = None,
        round: int = 1,
        like: "SecureGroup | None" = None,
    ) -> None:
        self.clients = tuple(f"client-{number:03}" for number in range(clients))
        self.ring, self.find, self.chunk = ring, find, 64
        self.authority: Authority = like.authority if like else Authority.generate()
        self.identities: dict[str, Identity] = (
            like.identities if like else {client: Identity.generate() for client in self.clients}
        )
        self.verifier: RememberingVerifier = like.verifier if like else RememberingVerifier()
        self.agree = RememberingAgreement(1 << 16)
        self._private = X25519PrivateKey.generate()
        self._entropy, self._least_cohort = entropy or {}, least_cohort
        self.opened = {client: OpenEntropy(self._entropy.get(client)) for client in corrupted}
        self.rows: dict[str, Total] = like.rows if like else _rows(self.clients, ring)
        signed = mode == "malicious"
        self.enrolment: Enrolment | None = self.authority.enrolment(TODAY) if signed else None
        self.terms = Terms(
            job="attacked",
            round=round,
            model_sha256=bytes(32),
            settings_sha256=bytes(32),
            group=0,
            groups=1,
            min_cohort=min_cohort or clients // 2 + 1,
            mode=mode,
            corrupt=corrupt,
            dropout=dropout,
            lanes=tuple((lanes.size, lanes.bits) for lanes in ring.lanes),
            enrolment_root=self.enrolment.root if self.enrolment else b"",
            server_key=self._private.public_key().public_bytes_raw(),
            post_quantum=post_quantum,
            base_round=round,
        )

    @property
    def corrupted(self) -> frozenset[str]:
        """The members whose secrets a hostile server reads."""
        return frozenset(self.opened)

    def certificate(self, client: str, *, last_day: int = TODAY) -> Certificate | None:
        """Return the authority's word for a member's key, where members sign."""
        if self.enrolment is None:
            return None
        return self.authority.enrol(client, self.identities[client].public, last_day)

    def client(self, client: str, terms: Terms | None = None) -> SecureClient:
        """Return an honest machine for a member; its secrets are read if it is corrupt."""
        return SecureClient(
            client,
            terms or self.terms,
            self.ring,
            identity=self.identities[client] if self.enrolment else None,
            certificate=self.certificate(client),
            enrolment=self.enrolment,
            least_cohort=self._least_cohort,
            entropy=self.opened.get(client) or self._entropy.get(client),
            verifier=self.verifier,
            find=self.find,
            chunk=self.chunk,
        )

    def server(self) -> SecureServer:
        """Return an honest machine for the server."""
        return SecureServer(
            self.terms,
            self.ring,
            server_private_key=self._private,
            enrolment=self.enrolment,
            find=self.find,
            verifier=self.verifier,
            agree=self.agree,
            chunk=self.chunk,
        )

    def other_terms(self, **changed: object) -> Terms:
        """Return terms that differ in some words."""
        return msgspec.structs.replace(self.terms, **changed)

    def sum(self, clients: Iterable[str]) -> Total:
        """Return the sum of some members' rows, in the clear."""
        total: Total = np.sum([self.rows[client] for client in clients], axis=0, dtype=np.int64)
        return total


def _rows(clients: tuple[str, ...], ring: Ring) -> dict[str, Total]:
    draw = np.random.default_rng()
    largest = np.repeat(
        [lane_share(lanes.bits, len(clients)) for lanes in ring.lanes], [lanes.size for lanes in ring.lanes]
    )
    return {client: draw.integers(-largest, largest, endpoint=True) for client in clients}
