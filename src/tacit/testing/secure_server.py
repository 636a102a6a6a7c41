"""Servers to make hostile ones from: one keeps what it sees, one tells each client what it likes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from tacit.secagg.events import (
    STEPS,
    Admit,
    DeadlinePassed,
    Opened,
    Received,
    SendTo,
    ServerEffect,
    ServerEvent,
    ServerMessage,
    Step,
    WakeAt,
)
from tacit.secagg.graph import neighbours
from tacit.secagg.identity import Certificate, Identity, verify
from tacit.secagg.keys import RoundKeys, commitment_of, fresh
from tacit.secagg.messages import (
    ADVERT,
    CIPHERTEXT_BYTES,
    SESSION,
    SURVIVORS,
    Advert,
    Confirmation,
    Delivery,
    Roster,
    Survivors,
    VectorHead,
    bitmap_of,
    positions_in,
)
from tacit.secagg.parameters import GroupParameters, Threat
from tacit.secagg.shamir import SECRET_BYTES, split
from tacit.secagg.terms import NONCE_BYTES, Terms
from tacit.testing.secure_group import SecureGroup
from tacit.testing.secure_learnt import Learnt, Record, View, learn


@dataclass(frozen=True)
class Puppet:
    """A member that the server plays: it deals shares to whoever is shown its advert, and signs everything.

    For groups without post-quantum keys: it makes no capsules.

    Attributes:
        identity: Its signing key.
        keys: Its keys of the round, which the server knows.
        advert: What it sent, as it were.
    """

    identity: Identity
    keys: RoundKeys
    advert: Advert

    @classmethod
    def invent(
        cls, group: SecureGroup, client: str, identity: Identity, certificate: Certificate | None
    ) -> "Puppet":
        """Return a member with new keys."""
        keys = RoundKeys(post_quantum=group.terms.post_quantum)
        unsigned = Advert(
            group.terms.assignment_id,
            client,
            keys.mask_key,
            keys.share_key,
            keys.kem_key,
            bytes(fresh(NONCE_BYTES)),
            certificate,
        )
        signature = identity.sign(ADVERT, unsigned.signed_part)
        return cls(identity, keys, msgspec.structs.replace(unsigned, signature=signature))

    def deal(self, view: View) -> tuple[tuple[int, bytes], tuple[int, bytes, bytes]]:
        """Return the sealed shares for a client that has been shown this member, and their endorsement."""
        own, session = view.members.index(self.advert.client), view.roster.session
        first, second = (split(fresh(SECRET_BYTES), 1, [view.position])[view.position] for _ in range(2))
        sealed = self.keys.seal_for(view.advert, session, own, view.position, first + second)
        commitment = commitment_of(fresh(SECRET_BYTES), session, own)
        signature = self.identity.sign(SESSION, session, commitment)
        return (own, sealed), (own, commitment, signature)


class CuriousServer:
    """Follows the protocol, and keeps all that it sees.

    A subclass that overrides `tell` passes on what it likes instead.

    Attributes:
        record: Every message, as this server had it.
        puppets: Members that it plays itself, by their mask keys.
    """

    def __init__(self, group: SecureGroup) -> None:
        self.group, self.record = group, Record()
        self.puppets: dict[bytes, Puppet] = {}
        self._honest = group.server()

    @property
    def learnt(self) -> Learnt:
        """What the server can compute now."""
        return learn(self.group, self.record, [puppet.keys for puppet in self.puppets.values()])

    def invent(
        self, client: str, identity: Identity | None = None, certificate: Certificate | None = None
    ) -> Advert:
        """Return the advert of a member that the server plays, under a name of its choice."""
        puppet = Puppet.invent(self.group, client, identity or Identity.generate(), certificate)
        self.puppets[puppet.advert.mask_key] = puppet
        return puppet.advert

    def receive(self, event: ServerEvent) -> tuple[ServerEffect, ...]:
        """Take one event and return what is to be done."""
        if isinstance(event, Received):
            self.record.note_received(event.client, event.message)
        effects = tuple(self.answer(event))
        for effect in effects:
            if isinstance(effect, SendTo):
                self.record.note_sent(effect.client, effect.message)
        return effects

    def answer(self, event: ServerEvent) -> Iterable[ServerEffect]:
        """Return what the server does about an event."""
        for effect in self._honest.receive(event):
            if isinstance(effect, SendTo):
                for message in self.tell(effect.client, effect.message):
                    yield SendTo(effect.client, message)
            else:
                yield effect

    def tell(self, client: str, message: ServerMessage) -> Iterable[ServerMessage]:
        """Return what a client is told in the place of the honest server's message."""
        return (message,)


class LyingServer(CuriousServer):
    """Checks nothing, waits for whoever will come, and makes up what each client is told on its own.

    It goes on from whatever it has got, in the way that gives it most; as it stands it tells no lie. A
    subclass overrides what it lies about.
    """

    def answer(self, event: ServerEvent) -> Iterable[ServerEffect]:
        """Return what the server does: it takes everything, and speaks once nobody else does."""
        match event:
            case Opened():
                return (WakeAt("advert"),)
            case Received(client, VectorHead()):
                return (Admit(client),)
            case DeadlinePassed(step):
                return self._close(step)
        return ()

    def terms_for(self, client: str) -> Terms:
        """Return the terms that a client is invited on."""
        return self.group.terms

    def adverts_for(self, client: str) -> Mapping[str, Advert]:
        """Return the members, with their adverts, that a client is told of."""
        return self.record.adverts

    def parameters_for(self, client: str, clients: int) -> GroupParameters:
        """Return the parameters that a client is told."""
        terms = self.terms_for(client)
        return self.group.find(clients, Threat(terms.corrupt, terms.dropout, terms.mode))

    def roster_for(self, client: str) -> Roster | None:
        """Return the roster that a client gets."""
        adverts, terms = self.adverts_for(client), self.terms_for(client)
        ids = tuple(sorted(adverts))
        if client not in ids:
            return None
        members = tuple((other, adverts[other].nonce, adverts[other].digest) for other in ids)
        chosen = self.parameters_for(client, len(ids))
        seed = terms.graph_seed((other, nonce) for other, nonce, _ in members)
        near = neighbours(len(ids), chosen.neighbours, seed)[ids.index(client)]
        shown = tuple(adverts[ids[at]] for at in near)
        return Roster(terms.assignment_id, members, chosen.neighbours, chosen.threshold, shown)

    def delivery_for(self, view: View) -> Delivery | None:
        """Return the shares that a client gets: all that were dealt to it in its own session."""
        sealed, endorsements = [], []
        capsules: list[bytes] = []
        for advert in view.roster.adverts:
            dealt, other = self.record.shares.get(advert.client), self.record.view(advert.client)
            puppet, index = self._puppet(advert), -1
            if dealt is not None and other is not None and dealt.session == view.roster.session:
                given = [to for to, _ in dealt.sealed]
                at = other.position_of(view.client)
                index = given.index(at) if at in given else -1
            if dealt is not None and other is not None and index >= 0:
                sealed.append((other.position, dealt.sealed[index][1]))
                endorsements.append((other.position, dealt.commitment, dealt.signature))
                capsules.extend(capsule[:CIPHERTEXT_BYTES] for capsule in dealt.capsules[index : index + 1])
            elif puppet is not None and advert.client in view.members:
                share, endorsement = puppet.deal(view)
                sealed.append(share)
                endorsements.append(endorsement)
        signed = tuple(endorsements) if self.group.terms.is_malicious else ()
        return Delivery(view.roster.session, tuple(sealed), signed, tuple(capsules))

    def _puppet(self, advert: Advert) -> Puppet | None:
        """Return who plays a member, if it is the server's to play: invented, or corrupt."""
        opened = self.group.opened.get(advert.client)
        if advert.mask_key in self.puppets or opened is None:
            return self.puppets.get(advert.mask_key)
        keys = opened.keys(post_quantum=self.group.terms.post_quantum)
        return Puppet(self.group.identities[advert.client], keys, advert)

    def alive_for(self, client: str) -> Iterable[str]:
        """Return the survivors that a client is told of: all whose vectors came, and its own."""
        return {
            *self.record.vectors(self.group.ring.words),
            *(one.advert.client for one in self.puppets.values()),
        }

    def survivors_for(self, view: View) -> Survivors | None:
        """Return the survivor set that a client is told."""
        alive = {view.position_of(client) for client in self.alive_for(view.client)}
        silent = {view.position_of(advert.client) for advert in view.roster.adverts}
        silent -= {at for at, _ in self.record.deliveries[view.client].sealed}  # it would refuse these alive
        there = [at for at in alive - silent if at is not None]
        return Survivors(view.roster.session, bitmap_of(there, len(view.members)))

    def confirmation_for(self, view: View) -> Confirmation | None:
        """Return the signatures that a client gets: all there are of what it was told, or can be made."""
        told = self.record.survivors[view.client]
        alive = set(positions_in(told.bitmap, len(view.members)))
        signatures = []
        for advert in view.roster.adverts:
            at, signature = view.position_of(advert.client), self._signature(advert, told)
            if signature and at is not None and at in alive:
                signatures.append((at, signature))
        return Confirmation(told.session, tuple(signatures))

    def _signature(self, advert: Advert, told: Survivors) -> bytes:
        puppet = self._puppet(advert)
        if puppet is not None:
            return puppet.identity.sign(SURVIVORS, told.session, told.bitmap)
        sent, certificate = self.record.signatures.get(advert.client), advert.certificate
        if sent is None or certificate is None:
            return b""
        right = verify(certificate.key, sent.signature, SURVIVORS, told.session, told.bitmap)
        return sent.signature if right else b""

    def _close(self, step: Step) -> tuple[ServerEffect, ...]:
        sent = tuple(SendTo(client, message) for client, message in self._messages(step))
        later = STEPS[STEPS.index(step) + 1 :]
        if not self.group.terms.is_malicious:
            later = tuple(one for one in later if one != "signature")
        return (*sent, WakeAt(later[0])) if later else sent

    def _messages(self, step: Step) -> Iterable[tuple[str, ServerMessage]]:
        for client in self.group.clients:
            message = self._message(step, client)
            if message is not None:
                yield client, message

    def _message(self, step: Step, client: str) -> ServerMessage | None:
        """Return what a client that has come so far is told at the end of a step."""
        record = self.record
        if step == "advert":
            return self.roster_for(client) if client in record.adverts else None
        view = record.view(client)
        if view is None:
            return None
        match step:
            case "shares" if client in record.shares:
                return self.delivery_for(view)
            case "vector" if client in record.chunks:
                return self.survivors_for(view)
            case "signature" if client in record.signatures:
                return self.confirmation_for(view)
        return None
