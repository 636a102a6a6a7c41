"""Hostile servers that lie about who is in the group, and on what terms.

Each has the interface of `tacit.secagg.server.SecureServer` and goes as far as it can: against clients
that did not check, it would learn what its docstring says. Play them with `play`, then read `learnt`.
"""

from collections.abc import Container, Iterable, Mapping
from typing import Literal

import msgspec

from tacit.secagg.graph import neighbours
from tacit.secagg.identity import Authority, Certificate, Identity
from tacit.secagg.messages import ADVERT, Advert, Roster
from tacit.secagg.parameters import GroupParameters
from tacit.secagg.secret import fresh
from tacit.secagg.terms import NONCE_BYTES, Terms
from tacit.testing.secure_group import TODAY, SecureGroup
from tacit.testing.secure_server import LyingServer


class SplitRoster(LyingServer):
    """Tells some clients of fewer members than the others: two sums that differ in those left out.

    Args:
        apart: Whom it tells of fewer.
        without: Of whom they are not told.
    """

    def __init__(self, group: SecureGroup, apart: Container[str], without: Container[str]) -> None:
        super().__init__(group)
        self._apart, self._without = apart, without

    def adverts_for(self, client: str) -> Mapping[str, Advert]:
        """Return all members, or those that are left."""
        adverts = self.record.adverts
        if client not in self._apart:
            return adverts
        return {other: advert for other, advert in adverts.items() if other not in self._without}


class SmallRoster(LyingServer):
    """Opens a group of few: the fewer rows in a sum, the more it says about each.

    Args:
        members: Who is in it.
    """

    def __init__(self, group: SecureGroup, members: Iterable[str]) -> None:
        super().__init__(group)
        self._members = frozenset(members)

    def adverts_for(self, client: str) -> Mapping[str, Advert]:
        """Return the few."""
        return {other: advert for other, advert in self.record.adverts.items() if other in self._members}


class SubstitutedKeys(LyingServer):
    """Shows one client keys of its own in place of everybody else's, and reads the shares sealed with them.

    Args:
        victim: The client between whom and the others the server stands.
        proof: What it shows for these keys: the others' signatures and certificates as they were
            (``stolen``), or signatures of its own under their certificates (``signed``), or under
            certificates of an authority of its own (``forged``).
    """

    def __init__(
        self, group: SecureGroup, victim: str, proof: Literal["stolen", "signed", "forged"] = "signed"
    ) -> None:
        super().__init__(group)
        self._victim, self._proof, self._authority = victim, proof, Authority.generate()
        self._twins: dict[str, Advert] = {}

    def adverts_for(self, client: str) -> Mapping[str, Advert]:
        """Return the members, to the victim with keys that are the server's."""
        adverts = self.record.adverts
        if client != self._victim:
            return adverts
        return {other: advert if other == client else self._twin(advert) for other, advert in adverts.items()}

    def _twin(self, advert: Advert) -> Advert:
        client = advert.client
        if client not in self._twins:
            identity, certificate = Identity.generate(), advert.certificate
            if self._proof == "forged":
                certificate = self._authority.enrol(client, identity.public, TODAY)
            twin = self.invent(client, identity, certificate)
            stolen = {"signature": advert.signature} if self._proof == "stolen" else {}
            self._twins[client] = msgspec.structs.replace(twin, **stolen)
        return self._twins[client]


class Sybils(LyingServer):
    """Surrounds one client with members that it has invented: the sum less theirs is the client's row.

    Args:
        victim: The client that is alone among them.
        proof: What the invented show: a certificate of an authority of the server's own (``forged``), none
            (``unenrolled``), that of a corrupt member under another id (``duplicated``), or one of theirs
            that has run out (``expired``).
    """

    def __init__(
        self,
        group: SecureGroup,
        victim: str,
        proof: Literal["forged", "unenrolled", "duplicated", "expired"] = "forged",
    ) -> None:
        super().__init__(group)
        self._victim, self._proof, self._authority = victim, proof, Authority.generate()
        self._invented: dict[str, Advert] = {}

    def adverts_for(self, client: str) -> Mapping[str, Advert]:
        """Return the client among the invented."""
        if not self._invented:
            names = (f"sybil-{number:03}" for number in range(len(self.group.clients) - 1))
            self._invented = {name: self.invent(name, *self._shown(name)) for name in names}
        return self._invented | {client: self.record.adverts[client]} if client == self._victim else {}

    def _shown(self, name: str) -> tuple[Identity, Certificate | None]:
        identity = Identity.generate()
        match self._proof:
            case "unenrolled":
                return identity, None
            case "duplicated":
                corrupt = min(self.group.corrupted)
                return self.group.identities[corrupt], self.group.certificate(corrupt)
            case "expired":
                return identity, self.group.authority.enrol(name, identity.public, TODAY - 1)
        return identity, self._authority.enrol(name, identity.public, TODAY)


class WeakParameters(LyingServer):
    """Asks for less than is safe: fewer shares to open a secret, or fewer neighbours.

    Args:
        threshold: By how much the threshold is lower.
        neighbours: By how much the neighbours are fewer.
    """

    def __init__(self, group: SecureGroup, threshold: int = 1, neighbours: int = 0) -> None:
        super().__init__(group)
        self._threshold, self._neighbours = threshold, neighbours

    def parameters_for(self, client: str, clients: int) -> GroupParameters:
        """Return parameters that protect less."""
        found = super().parameters_for(client, clients)
        return GroupParameters(
            clients, found.neighbours - self._neighbours, found.threshold - self._threshold
        )


class BiasedGraph(LyingServer):
    """Gives one client neighbours of the server's choice: those that are corrupt, as far as they go.

    Args:
        victim: The client.
    """

    def __init__(self, group: SecureGroup, victim: str) -> None:
        super().__init__(group)
        self._victim = victim

    def roster_for(self, client: str) -> Roster | None:
        """Return the roster, to the victim with the adverts of the corrupt first."""
        roster = super().roster_for(client)
        if roster is None or client != self._victim:
            return roster
        others = [advert for other, advert in sorted(self.record.adverts.items()) if other != client]
        chosen = sorted(others, key=lambda advert: advert.client not in self.group.corrupted)
        near = sorted(chosen[: len(roster.adverts)], key=lambda advert: advert.client)
        return msgspec.structs.replace(roster, adverts=tuple(near))


class GroundGraph(LyingServer):
    """Tells one client a false nonce of a stranger, ground until the graph puts corrupt members round it.

    Args:
        victim: The client.
        tries: How many nonces are tried.
    """

    def __init__(self, group: SecureGroup, victim: str, tries: int = 200) -> None:
        super().__init__(group)
        self._victim, self._tries = victim, tries

    def roster_for(self, client: str) -> Roster | None:
        """Return the roster, to the victim with the nonce that suits best."""
        roster = super().roster_for(client)
        if roster is None or client != self._victim:
            return roster
        return max((self._ground(roster) for _ in range(self._tries)), key=self._corrupt_near)

    def _ground(self, roster: Roster) -> Roster:
        ids = [client for client, _, _ in roster.members]
        own, stranger = ids.index(self._victim), 0 if ids[0] != self._victim else 1
        members = list(roster.members)
        members[stranger] = (members[stranger][0], bytes(fresh(NONCE_BYTES)), members[stranger][2])
        seed = self.group.terms.graph_seed((client, nonce) for client, nonce, _ in members)
        near = neighbours(len(ids), roster.neighbours, seed)[own]
        if stranger in near:
            return roster  # whose advert would show another nonce
        adverts = tuple(self.record.adverts[ids[at]] for at in near)
        return msgspec.structs.replace(roster, members=tuple(members), adverts=adverts)

    def _corrupt_near(self, roster: Roster) -> int:
        return sum(advert.client in self.group.corrupted for advert in roster.adverts)


class TwinKeys(LyingServer):
    """Has a corrupt member go by the keys of an honest one, so that both have the same masks with everybody.

    Args:
        victim: Whose keys they are.
    """

    def __init__(self, group: SecureGroup, victim: str) -> None:
        super().__init__(group)
        self._victim = victim

    def adverts_for(self, client: str) -> Mapping[str, Advert]:
        """Return the members, a corrupt one with the keys of the victim and a signature that is right."""
        adverts, twin = dict(self.record.adverts), min(self.group.corrupted)
        copied = adverts[self._victim]
        unsigned = msgspec.structs.replace(
            adverts[twin], mask_key=copied.mask_key, share_key=copied.share_key, kem_key=copied.kem_key
        )
        signature = self.group.identities[twin].sign(ADVERT, unsigned.signed_part)
        return adverts | {twin: msgspec.structs.replace(unsigned, signature=signature)}


class DoubledMember(LyingServer):
    """Puts one member on the roster twice, so that few look like many.

    Args:
        member: Which.
    """

    def __init__(self, group: SecureGroup, member: str) -> None:
        super().__init__(group)
        self._member = member

    def roster_for(self, client: str) -> Roster | None:
        """Return the roster with one member twice, at the last one's cost."""
        roster = super().roster_for(client)
        if roster is None:
            return None
        (doubled,) = [member for member in roster.members if member[0] == self._member]
        members = sorted((*roster.members[:-1], doubled))
        return msgspec.structs.replace(roster, members=tuple(members))


class OtherTerms(LyingServer):
    """Invites some clients on other terms. Play it with ``terms=server.told``.

    Args:
        victims: Who is told other terms.
        words: The words of the terms that differ.

    Attributes:
        told: Their terms.
    """

    def __init__(self, group: SecureGroup, victims: Iterable[str], **words: object) -> None:
        super().__init__(group)
        self.told: Mapping[str, Terms] = dict.fromkeys(victims, group.other_terms(**words))

    def terms_for(self, client: str) -> Terms:
        """Return the terms that this client is invited on."""
        return self.told.get(client, self.group.terms)


class OtherModel(OtherTerms):
    """Sends some clients another model, whose updates it can tell from the rest in any sum.

    Pasquini, Francati and Ateniese, "Eluding secure aggregation in federated learning via model
    inconsistency", CCS 2022 (arXiv 2111.07380). Play it with ``terms=server.told``.

    Args:
        victims: Who gets the other model.
    """

    def __init__(self, group: SecureGroup, victims: Iterable[str]) -> None:
        super().__init__(group, victims, model_sha256=bytes(31) + b"\x01")
