"""What the server has of a group: each step's messages, checked as they come, and what follows from them."""

import hashlib
from collections.abc import Iterable

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tacit.core.errors import PlanError, RemoteProtocolError
from tacit.secagg import collecting
from tacit.secagg.adverts import check_advert
from tacit.secagg.agreement import Agree
from tacit.secagg.certificate import RoundCertificate
from tacit.secagg.client_checks import Find, threat_of
from tacit.secagg.events import ServerMessage, Total, Words
from tacit.secagg.identity import Enrolment, Verifier
from tacit.secagg.intake import VectorIntake
from tacit.secagg.keys import ChunkTags, vector_key
from tacit.secagg.messages import (
    Advert,
    Shares,
    Survivors,
    SurvivorSignature,
    Unmask,
    VectorChunk,
    VectorHead,
    bitmap_of,
)
from tacit.secagg.ring import Ring
from tacit.secagg.terms import Terms
from tacit.secagg.unmask import Unmasking
from tacit.secagg.unmasking import Rebuilt, Session, core, rebuild, short_of, to_open

_NOTHING: Words = np.zeros(0, np.uint64)


class ShortageError(Exception):
    """Too little is there to go on; its text says what was missing."""


class Collected:
    """A group's messages so far. Each ``take`` refuses one that is not right, and keeps one that is.

    What ends a step returns the messages that follow, or raises ``ShortageError``. The order of steps, and
    who is awaited, are the server's to know.

    Args:
        terms: What the clients have agreed to.
        ring: How rows lie in words.
        private: Of ``terms.server_key``.
        enrolment: Who vouches for the clients, in malicious mode.
        find: Finds the parameters of a group.
        verifier: Verifies signatures.
        agree: Agrees on X25519 secrets.
        intake: Adds the vectors up.
    """

    def __init__(
        self,
        terms: Terms,
        ring: Ring,
        private: X25519PrivateKey,
        enrolment: Enrolment | None,
        find: Find,
        verifier: Verifier,
        agree: Agree,
        intake: VectorIntake,
    ) -> None:
        self._terms, self._ring, self._private, self._enrolment = terms, ring, private, enrolment
        self._find, self._verifier, self._agree = find, verifier, agree
        self._assignment = terms.assignment_id
        self._adverts: dict[str, Advert] = {}
        self._public_keys: set[bytes] = set()
        self._session: Session | None = None
        self._positions: dict[str, int] = {}
        self._dealt: dict[int, Shares] = {}
        self._in_sum: set[int] = set()
        self._alive, self._bitmap = frozenset[int](), b""
        self._signatures: dict[int, bytes] = {}
        self._answers: dict[int, Unmask] = {}
        self.intake: VectorIntake | None = intake
        self.total = _NOTHING

    # --- one message of a client ------------------------------------------------------------------

    def take_advert(self, client: str, advert: Advert) -> None:
        """Keep an advert; nobody's keys are those of another."""
        check_advert(advert, client, self._assignment, self._terms, self._enrolment, self._verifier)
        keys = {advert.mask_key, advert.share_key}
        if len(keys) < 2 or not self._public_keys.isdisjoint(keys):
            raise RemoteProtocolError("T557", "a key is used twice")
        self._public_keys |= keys
        self._adverts[client] = advert

    def take_shares(self, client: str, shares: Shares) -> None:
        """Keep what a member dealt."""
        session, own = self._of(client)
        collecting.check_shares(shares, session, own, self._terms, self._verifier)
        self._dealt[own] = shares

    def announce(self, client: str, head: VectorHead) -> None:
        """Let a vector wait for its turn."""
        session, own = self._of(client)
        collecting.check_sender(head.session, head.sender, session, own)
        if head.words != self._ring.words or self.vectors.asks(client):
            what = f"a vector of {head.words} words, where one of {self._ring.words} is summed"
            raise RemoteProtocolError("T565", what)
        public = session.adverts[own].share_key
        key = vector_key(self._private, public, session.id, own, agree=self._agree)
        self.vectors.announce(client, ChunkTags(key))

    def take_chunk(self, client: str, chunk: VectorChunk) -> bool:
        """Take a piece of a vector; tell whether the vector is whole now."""
        session, own = self._of(client)
        collecting.check_sender(chunk.session, chunk.sender, session, own)
        is_whole = self.vectors.take(client, chunk)
        if is_whole:
            self._in_sum.add(own)
        return is_whole

    def take_sum(self, clients: Iterable[str], total: Words) -> None:
        """Take the sum of these members' vectors."""
        self.vectors.add(total)
        self._in_sum.update(map(self._positions.__getitem__, clients))

    def take_signature(self, client: str, message: SurvivorSignature) -> None:
        """Keep a survivor's signature of the survivor set."""
        session, own = self._of(client)
        collecting.check_survivor_signature(message, session, own, self._bitmap, self._verifier)
        self._signatures[own] = message.signature

    def take_answer(self, client: str, message: Unmask) -> None:
        """Keep a survivor's shares."""
        session, own = self._of(client)
        collecting.check_answer(message, session, own, self._dealt, self._alive)
        self._answers[own] = message

    # --- the end of a step ------------------------------------------------------------------------

    def fix_members(self) -> dict[str, ServerMessage]:
        """Return a roster for every client whose advert came."""
        self._expect_cohort(len(self._adverts))
        try:
            self._session, blank = collecting.make_session(self._terms, self._adverts, self._find)
        except PlanError as error:
            raise ShortageError(error.what) from None
        self._positions = {client: at for at, client in enumerate(self._session.clients)}
        return dict(collecting.rosters(self._session, blank))

    def leave_out(self) -> list[str]:
        """Leave those out of whom too few neighbours dealt shares, and return them.

        Such a client would refuse to go on, and its masks could not be taken off: it counts as one who dealt
        nothing.
        """
        session, dealt = self.session, self._dealt
        members = core(session, dealt)
        self._dealt = {at: dealt[at] for at in sorted(members)}
        return [session.clients[at] for at in sorted(dealt.keys() - members)]

    def deliver(self) -> dict[str, ServerMessage]:
        """Return what each dealer gets from its neighbours."""
        self._expect_cohort(len(self._dealt))
        return dict(collecting.deliveries(self.session, self._dealt, self._terms))

    def name_survivors(self) -> dict[str, ServerMessage]:
        """Fix whose vectors are in the sum, once and for all, and return the message that says so."""
        session, alive = self.session, frozenset(self._in_sum)
        self.total, self.intake = self.vectors.close(), None
        self._expect_cohort(len(alive))
        self._expect_neighbours(alive, alive)
        self._alive, self._bitmap = alive, bitmap_of(alive, len(session.clients))
        message = Survivors(session.id, self._bitmap)
        return dict.fromkeys(self.survivors, message)

    def confirm(self) -> dict[str, ServerMessage]:
        """Return the neighbours' signatures for each signer that has enough of them."""
        signatures = dict(sorted(self._signatures.items()))
        confirmed = dict(collecting.confirmations(self.session, signatures))
        self._expect_neighbours(self._alive, confirmed)
        return {self.session.clients[at]: message for at, message in confirmed.items()}

    def rebuild(self) -> Rebuilt:
        """Rebuild the masks that are left in the sum."""
        self._expect_neighbours(self._alive, self._answers)
        return rebuild(self.session, self._dealt, self._alive, self._answers, self._agree)

    def unmasking(self, rebuilt: Rebuilt) -> Unmasking:
        """Return the work that takes them off; the shares are needed no more."""
        self._answers.clear()
        return Unmasking(tuple(rebuilt.masks), self._ring.words)

    def finish(self) -> tuple[Total, RoundCertificate]:
        """Return the sum, from which all masks are taken off, and its certificate."""
        session, total = self.session, self._ring.unpack(self.total)
        certificate = RoundCertificate(
            terms=self._terms,
            roster_root=session.root,
            clients=len(session.clients),
            neighbours=session.neighbours,
            threshold=session.threshold,
            bitmap=self._bitmap,
            signatures=tuple(sorted(self._signatures.items())),
            sum_sha256=hashlib.sha256(total.astype("<i8", copy=False).data).digest(),
        )
        return total, certificate

    def discard(self) -> None:
        """Forget vectors and shares."""
        self.intake, self.total = None, _NOTHING
        self._dealt.clear()
        self._answers.clear()

    # --- what is known ----------------------------------------------------------------------------

    @property
    def session(self) -> Session:
        """The group, once its members are fixed."""
        assert self._session is not None, "the members are fixed"
        return self._session

    @property
    def vectors(self) -> VectorIntake:
        """The vectors, until the survivors are named."""
        assert self.intake is not None, "vectors still come"
        return self.intake

    @property
    def vectors_in(self) -> int:
        """How many members' vectors are in the sum."""
        return len(self._in_sum)

    @property
    def survivors(self) -> tuple[str, ...]:
        """Who is in the sum, by id."""
        return tuple(self.session.clients[at] for at in sorted(self._alive))

    def accused(self, position: int) -> tuple[str, int] | None:
        """Return the member at a position, if there is one, and how many of its group may be corrupt."""
        clients = self._session.clients if self._session is not None else ()
        if not 0 <= position < len(clients):
            return None
        return clients[position], threat_of(self._terms).corrupt_members(len(clients))

    def _of(self, client: str) -> tuple[Session, int]:
        return self.session, self._positions[client]

    def _expect_cohort(self, there: int) -> None:
        least = self._terms.min_cohort
        if there < least:
            raise ShortageError(f"{there} of at least {least} clients")

    def _expect_neighbours(self, alive: frozenset[int], holders: Iterable[int]) -> None:
        """Expect that enough neighbours of all whose secrets are needed are among the holders."""
        short = short_of(self.session, to_open(self.session, self._dealt, alive), holders)
        if short:
            raise ShortageError(short)
