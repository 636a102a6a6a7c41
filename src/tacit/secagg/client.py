"""One client of a secure sum: a machine without I/O that guards its row against the server.

::

    idle --Invited--> advertised --Roster--> shared --Delivery--> masking --RowReady--> masked
                                                                                          |
                        revealed <--Confirmation-- signed <-------Survivors---------------'
                            ^--------------------------------(semi-honest: at once)-------'

    any state --a message that is not right, or not legal here--> aborted

SecAgg+ (Bell et al. 2020, eprint 2020/704) with the consistency checks of Bonawitz et al. 2017: the row
goes out under a self mask and one mask per neighbour. The server takes the self masks of the survivors off,
and the pair masks of those who vanished, with shares that the neighbours hold: of one or the other of each
member, never of both, for one survivor set, once.
"""

from typing import Literal

import msgspec
import numpy as np

from tacit.core.errors import LocalProtocolError, TacitError
from tacit.secagg.agreement import Agree
from tacit.secagg.client_checks import (
    Breach,
    Find,
    Floor,
    Group,
    check_confirmation,
    check_terms,
    read_delivery,
    read_roster,
    read_survivors,
)
from tacit.secagg.client_secrets import RoundSecrets
from tacit.secagg.entropy import Entropy, SystemEntropy
from tacit.secagg.events import (
    ClientEffect,
    ClientEvent,
    Closed,
    Invited,
    Leave,
    Masks,
    RowReady,
    Send,
    Words,
)
from tacit.secagg.identity import Certificate, Enrolment, Identity, Verifier, is_signed
from tacit.secagg.messages import (
    ADVERT,
    CHUNK_BYTES,
    SESSION,
    SURVIVORS,
    Advert,
    Complaint,
    Confirmation,
    Delivery,
    Roster,
    Survivors,
    SurvivorSignature,
    Unmask,
    VectorChunk,
    VectorHead,
)
from tacit.secagg.parameters import find_parameters
from tacit.secagg.ring import Ring
from tacit.secagg.terms import NONCE_BYTES, Terms

ClientState = Literal[
    "idle", "advertised", "shared", "masking", "masked", "signed", "revealed", "left", "aborted"
]


class SecureClient:
    """Takes part in one group's sum of one round, and in no other: a new machine for every round.

    Whatever is not right ends its part: it overwrites its secrets, says why (``complaint``) and answers
    nothing more. Python cannot promise that no copy of a secret stays in memory.

    Args:
        client: The client's id.
        terms: What it has agreed to.
        ring: How its row lies in words; the terms' lanes.
        identity: Its signing key, in malicious mode.
        certificate: The authority's word for that key.
        enrolment: What the device has pinned. A device that has one refuses semi-honest terms.
        least_cohort: The device's own floor on the clients of a sum.
        least_corrupt: The device's own floor on the share of members that the parameters withstand.
        entropy: Where secrets and nonces come from.
        verifier: Verifies signatures; a process that plays many clients shares one that remembers.
        agree: Agrees on X25519 secrets; None: remembers this client's own until they are used.
        find: Finds the least parameters that the client accepts.
        chunk: Bytes of a chunk of the masked vector.
    """

    def __init__(
        self,
        client: str,
        terms: Terms,
        ring: Ring,
        *,
        identity: Identity | None = None,
        certificate: Certificate | None = None,
        enrolment: Enrolment | None = None,
        least_cohort: int = 2,
        least_corrupt: float = 0.0,
        entropy: Entropy | None = None,
        verifier: Verifier = is_signed,
        agree: Agree | None = None,
        find: Find = find_parameters,
        chunk: int = CHUNK_BYTES,
    ) -> None:
        self.client, self._terms, self._ring, self._chunk = client, terms, ring, chunk
        self._identity, self._certificate, self._enrolment = identity, certificate, enrolment
        self._floor = Floor(least_cohort, least_corrupt)
        self._entropy, self._verifier, self._find = entropy or SystemEntropy(), verifier, find
        self._agree = agree
        self._state: ClientState = "idle"
        self._complaint: Complaint | None = None
        self._secrets: RoundSecrets | None = None
        self._advert: Advert | None = None
        self._group: Group | None = None
        self._bitmap, self._alive = b"", frozenset[int]()

    @property
    def state(self) -> ClientState:
        """Where the machine stands."""
        return self._state

    @property
    def complaint(self) -> Complaint | None:
        """Why the client left, for the server; None unless something was not right."""
        return self._complaint

    @property
    def holds_secrets(self) -> bool:
        """Whether a secret of this round is still in the machine's memory."""
        return self._secrets is not None and not self._secrets.is_wiped

    def receive(self, event: ClientEvent) -> tuple[ClientEffect, ...]:
        """Take one event and return what is to be done.

        Raises:
            RemoteProtocolError: What came is not right: the client has left the round for good. The reason is
                in its code (T551 to T564), and ``complaint`` holds it for the server.
            LocalProtocolError: T512, our own side asked for what is not legal in this state.
        """
        if isinstance(event, Leave):
            return self._leave(event.reason)
        own = "idle" if isinstance(event, Invited) else "masking"
        if isinstance(event, Invited | RowReady) and self._state != own:
            what = f"{type(event).__name__} is not legal while the client is {self._state}"
            raise LocalProtocolError("T512", what)
        try:
            return self._take(event)
        except BaseException as error:
            self._abort(error)
            raise

    def _take(self, event: ClientEvent) -> tuple[ClientEffect, ...]:
        match event, self._state:
            case Invited(), "idle":
                return self._join()
            case Roster(), "advertised":
                return self._deal(event)
            case Delivery(), "shared":
                return self._open(event)
            case RowReady(), "masking":
                return self._hand_over(event.words)
            case Survivors(), "masked":
                return self._survive(event)
            case Confirmation(), "signed":
                return self._confirm(event)
            case (Survivors(), "signed" | "revealed") | (Confirmation(), "revealed"):
                # The attack on every such protocol: two sums that differ in one member.
                raise Breach("T560", "a second answer is asked for: there is one survivor set per round")
        raise Breach("T555", f"{type(event).__name__} is not legal while the client is {self._state}")

    def _join(self) -> tuple[ClientEffect, ...]:
        terms, identity = self._terms, self._identity
        key = identity.public if identity else b""
        check_terms(terms, self._ring, self._floor, key, self._certificate, self._enrolment)
        secrets = RoundSecrets(self._entropy, self._agree, post_quantum=terms.post_quantum)
        unsigned = Advert(
            assignment=terms.assignment_id,
            client=self.client,
            mask_key=secrets.keys.mask_key,
            share_key=secrets.keys.share_key,
            kem_key=secrets.keys.kem_key,
            nonce=self._entropy.nonce(NONCE_BYTES),
            certificate=self._certificate if terms.is_malicious else None,
        )
        signature = self._sign(ADVERT, unsigned.signed_part)
        self._secrets, self._advert = secrets, msgspec.structs.replace(unsigned, signature=signature)
        self._state = "advertised"
        return (Send(self._advert),)

    def _deal(self, roster: Roster) -> tuple[ClientEffect, ...]:
        assert self._advert is not None, "the client has joined"
        assert self._secrets is not None, "the client has joined"
        group = self._group = read_roster(
            roster, self._advert, self._terms, self._enrolment, self._find, self._verifier
        )
        unsigned = self._secrets.deal(group)
        signature = self._sign(SESSION, group.session, unsigned.commitment)
        self._state = "shared"
        return (Send(msgspec.structs.replace(unsigned, signature=signature)),)

    def _open(self, delivery: Delivery) -> tuple[ClientEffect, ...]:
        group, secrets = self._known()
        dealt = read_delivery(delivery, group, self._terms, self._verifier)
        masks = secrets.open(group, dealt)
        self._state = "masking"
        return (Masks(masks),)

    def _hand_over(self, words: Words | None) -> tuple[ClientEffect, ...]:
        effects = () if words is None else self._vector(words)
        self._known()[1].forget_keys()
        self._state = "masked"
        return effects

    def _vector(self, words: Words) -> tuple[ClientEffect, ...]:
        if words.dtype != np.uint64 or words.shape != (self._ring.words,):
            raise LocalProtocolError("T512", f"a masked row has {self._ring.words} words of 64 bits")
        group, secrets = self._known()
        tags, session, own = secrets.tags(group, self._terms.server_key), group.session, group.position
        body = np.ascontiguousarray(words, dtype="<u8").data.cast("B")
        effects = [Send(VectorHead(session, own, len(words)))]
        for index, begin in enumerate(range(0, len(body), self._chunk)):
            part = body[begin : begin + self._chunk]
            effects.append(Send(VectorChunk(session, own, index, tag=tags.tag(index, part), body=part)))
        return tuple(effects)

    def _survive(self, survivors: Survivors) -> tuple[ClientEffect, ...]:
        group, secrets = self._known()
        self._alive = read_survivors(survivors, group, secrets.holders, self._terms)
        if not self._terms.is_malicious:
            return self._reveal()
        self._bitmap = bytes(survivors.bitmap)
        self._state = "signed"
        signature = self._sign(SURVIVORS, group.session, self._bitmap)
        return (Send(SurvivorSignature(group.session, group.position, signature)),)

    def _confirm(self, confirmation: Confirmation) -> tuple[ClientEffect, ...]:
        group, _ = self._known()
        check_confirmation(confirmation, self._bitmap, self._alive, group, self._verifier)
        return self._reveal()

    def _reveal(self) -> tuple[ClientEffect, ...]:
        group, secrets = self._known()
        self_shares, seed_shares = secrets.give(self._alive)
        self._state = "revealed"
        return (Send(Unmask(group.session, group.position, self_shares, seed_shares)), Closed())

    def _sign(self, label: str, *parts: bytes) -> bytes:
        if not self._terms.is_malicious:
            return b""
        assert self._identity is not None, "the terms were checked"
        return self._identity.sign(label, *parts)

    def _known(self) -> tuple[Group, RoundSecrets]:
        assert self._group is not None, "the roster was read"
        assert self._secrets is not None, "the client has joined"
        return self._group, self._secrets

    def _leave(self, reason: str) -> tuple[ClientEffect, ...]:
        self._wipe()
        if self._state in ("revealed", "left", "aborted"):
            return ()
        self._state = "left"
        return (Closed(reason),)

    def _abort(self, error: BaseException) -> None:
        self._wipe()
        if self._state != "aborted" and isinstance(error, TacitError):
            about = error.about if isinstance(error, Breach) else -1
            where = self._group.session if self._group else self._terms.assignment_id
            sender = self._group.position if self._group else -1
            self._complaint = Complaint(where, sender, int(error.code[1:]), about)
        self._state = "aborted"

    def _wipe(self) -> None:
        if self._secrets is not None:
            self._secrets.wipe()
