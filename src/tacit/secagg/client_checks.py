"""What a client demands of the server's messages: the rules that keep its row hidden from a server that lies.

Each function reads one message and returns what the client goes on with, or raises a `Breach`. They hold no
secret. A rule that says *neighbour* means the client's own, which it computes itself.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from tacit.core.errors import PlanError, RemoteProtocolError
from tacit.secagg.adverts import check_advert
from tacit.secagg.graph import neighbours_of
from tacit.secagg.identity import Certificate, Enrolment, Verifier, verify
from tacit.secagg.messages import (
    SESSION,
    SURVIVORS,
    Advert,
    Confirmation,
    Delivery,
    Roster,
    Survivors,
    positions_in,
)
from tacit.secagg.parameters import GroupParameters, Threat, weaker_than
from tacit.secagg.ring import Ring
from tacit.secagg.terms import Terms

Find = Callable[[int, Threat], GroupParameters]
"""`find_parameters`, or another that is at least as careful."""


class Breach(RemoteProtocolError):  # noqa: N818 - it is what the caller catches as its base
    """The server, or the member at position ``about``, sent what the client does not accept."""

    about: int = -1

    @classmethod
    def of(cls, error: RemoteProtocolError, about: int) -> "Breach":
        """Return the error as one that is about a member."""
        breach = cls(error.code, error.what, where=error.where, fix=error.fix)
        breach.about = about
        return breach


@dataclass(frozen=True)
class Floor:
    """What a device demands by itself, whatever the terms say.

    Attributes:
        cohort: Least clients in a sum.
        corrupt: Least share of members that the parameters have to withstand.
    """

    cohort: int = 2
    corrupt: float = 0.0


@dataclass(frozen=True)
class Group:
    """The group as one client sees it, checked.

    Attributes:
        session: Its session's id.
        position: The client's own.
        clients: How many members.
        threshold: How many shares open a secret.
        adverts: Of the neighbours, by position, ascending.
    """

    session: bytes
    position: int
    clients: int
    threshold: int
    adverts: Mapping[int, Advert]

    def key_of(self, position: int) -> bytes:
        """Return the identity key that the certificate of a neighbour names."""
        certificate = self.adverts[position].certificate
        assert certificate is not None, "malicious mode has refused adverts without one"
        return certificate.key


def threat_of(terms: Terms) -> Threat:
    """Return what the terms' parameters have to withstand."""
    return Threat(terms.corrupt, terms.dropout, terms.mode)


def check_terms(
    terms: Terms,
    ring: Ring,
    floor: Floor,
    key: bytes,
    certificate: Certificate | None,
    pinned: Enrolment | None,
) -> None:
    """Refuse terms that protect less than the device wants, or that it cannot keep.

    A device that has pinned an enrolment takes part in malicious mode only: else a server that lies would
    simply say that it does not.

    Args:
        key: The client's own public identity key, or nothing.
    """
    if terms.min_cohort < floor.cohort:
        _not_accepted(f"a sum of {terms.min_cohort} may be opened, and the device wants {floor.cohort}")
    if terms.corrupt < floor.corrupt:
        _not_accepted(f"corrupt members: {terms.corrupt} of all, and the device expects {floor.corrupt}")
    if terms.is_malicious != (pinned is not None):
        _not_accepted(f"the mode is {terms.mode}, and the device has {'an' if pinned else 'no'} enrolment")
    if pinned is not None and terms.enrolment_root != pinned.root:
        _not_accepted("they rest on another enrolment than the device has pinned")
    if terms.is_malicious and (certificate is None or certificate.key != key or not key):
        _not_accepted("they want signatures, and the device has no certificate for its identity")
    if terms.lanes != tuple((group.size, group.bits) for group in ring.lanes):
        _not_accepted("their lanes are not those that the device has been set up with")


def read_roster(
    roster: Roster,
    own: Advert,
    terms: Terms,
    pinned: Enrolment | None,
    find: Find,
    verifier: Verifier,
) -> Group:
    """Return the group that the roster describes, once every word of it is right.

    Raises:
        Breach: T557, it is not right; T556, too few members or parameters that are too weak; T564, the
            adverts are not those of the client's neighbours; T562, a neighbour's certificate does not count.
    """
    if roster.assignment != own.assignment:
        raise Breach("T557", "the roster is that of another assignment")
    ids = [client for client, _, _ in roster.members]
    if any(a >= b for a, b in pairwise(ids)):
        raise Breach("T557", "the roster's members are not sorted, or one is there twice")
    if (own.client, own.nonce, own.digest) not in roster.members:
        raise Breach("T557", "the client's own advert is not in the roster as it was sent")
    _check_parameters(roster, terms, find)
    position = ids.index(own.client)
    seed = terms.graph_seed((client, nonce) for client, nonce, _ in roster.members)
    around = neighbours_of(position, len(ids), roster.neighbours, seed)
    if len(roster.adverts) != len(around):
        raise Breach("T564", f"{len(roster.adverts)} adverts for {len(around)} neighbours")
    adverts = dict(zip(around, roster.adverts, strict=True))
    _check_adverts(adverts, roster, terms, pinned, verifier)
    _check_keys(own, adverts)
    return Group(roster.session, position, len(ids), roster.threshold, adverts)


def read_delivery(
    delivery: Delivery, group: Group, terms: Terms, verifier: Verifier
) -> dict[int, tuple[bytes, bytes]]:
    """Return the sealed shares and capsules for this client, by sender.

    At least ``threshold`` neighbours must have signed *this* session: the same terms, members and parameters.

    Raises:
        Breach: T555, another session; T558, too few neighbours, or strangers.
    """
    _same_session(delivery.session, group)
    senders = [position for position, _ in delivery.sealed]
    _check_positions(senders, group, "T558")
    if len(senders) < group.threshold:
        raise Breach("T558", f"{len(senders)} neighbours dealt shares, and {group.threshold} are needed")
    if len(delivery.capsules) != (len(senders) if terms.post_quantum else 0):
        raise Breach("T558", "there is not one capsule for each sealed share")
    if terms.is_malicious:
        signers = [position for position, _, _ in delivery.endorsements]
        if signers != senders:
            raise Breach("T558", "those who signed the session are not those who dealt shares")
        valid = (
            verify(group.key_of(at), signature, SESSION, group.session, commitment, verifier=verifier)
            for at, commitment, signature in delivery.endorsements
        )
        _expect_valid(valid, group, "T558", "signed the session")
    elif delivery.endorsements:
        raise Breach("T558", "there are signatures where nobody signs")
    capsules = delivery.capsules or (b"",) * len(senders)
    return {at: (sealed, capsule) for (at, sealed), capsule in zip(delivery.sealed, capsules, strict=True)}


def read_survivors(
    survivors: Survivors, group: Group, dealers: Mapping[int, object], terms: Terms
) -> frozenset[int]:
    """Return the positions of the survivors.

    Args:
        dealers: The neighbours whose shares the client has.

    Raises:
        Breach: T555, another session; T559, the client itself is not among them, or one who dealt no shares,
            or too few of all, or too few of the neighbours; T551, the bitmap is none.
    """
    _same_session(survivors.session, group)
    alive = frozenset(positions_in(survivors.bitmap, group.clients))
    if group.position not in alive:
        raise Breach("T559", "the client is asked to open a sum that it is not in")
    if len(alive) < terms.min_cohort:
        raise Breach("T559", f"a sum of {len(alive)} survivors, and {terms.min_cohort} are the least")
    near = alive.intersection(group.adverts)
    if not near.issubset(dealers):
        raise Breach("T559", "a survivor never dealt shares")
    if len(near) < group.threshold:
        raise Breach("T559", f"{len(near)} neighbours survive, and {group.threshold} are needed")
    return alive


def check_confirmation(
    confirmation: Confirmation, bitmap: bytes, alive: frozenset[int], group: Group, verifier: Verifier
) -> None:
    """Accept that at least ``threshold`` surviving neighbours were told the same survivor set.

    With 2 t > k + t1 no two sets can each get so many signatures around one member: no neighbour of a client
    that accepts a set helps to open its mask seed as that of one who is dead (Bell et al. 2020, section 4).

    Raises:
        Breach: T555, another session; T559, too few signatures.
    """
    _same_session(confirmation.session, group)
    signers = [position for position, _ in confirmation.signatures]
    _check_positions(signers, group, "T559")
    if not alive.issuperset(signers):
        raise Breach("T559", "one who did not survive signs for the survivors")
    valid = (
        verify(group.key_of(at), signature, SURVIVORS, group.session, bitmap, verifier=verifier)
        for at, signature in confirmation.signatures
    )
    _expect_valid(valid, group, "T559", "signed this survivor set")


def _check_parameters(roster: Roster, terms: Terms, find: Find) -> None:
    clients = len(roster.members)
    if clients < terms.min_cohort:
        _not_accepted(f"{clients} members, and {terms.min_cohort} are the least of a sum")
    try:
        required = find(clients, threat_of(terms))
    except PlanError as error:
        raise Breach("T556", error.what) from None
    reason = weaker_than(GroupParameters(clients, roster.neighbours, roster.threshold), required)
    if reason:
        _not_accepted(reason)


def _check_adverts(
    adverts: Mapping[int, Advert],
    roster: Roster,
    terms: Terms,
    pinned: Enrolment | None,
    verifier: Verifier,
) -> None:
    for position, advert in adverts.items():
        client, nonce, digest = roster.members[position]
        if advert.client != client:
            raise Breach(
                "T564", f"the advert is not that of the neighbour at {position}", where=advert.client
            )
        if advert.nonce != nonce or advert.digest != digest:
            raise Breach("T557", "an advert is not the one that the roster names", where=client)
        try:
            check_advert(advert, client, roster.assignment, terms, pinned, verifier)
        except RemoteProtocolError as error:
            raise Breach.of(error, position) from None


def _check_keys(own: Advert, adverts: Mapping[int, Advert]) -> None:
    """Refuse a key that is there twice: two members with one key would have one mask with everybody."""
    seen = {own.mask_key, own.share_key}
    for position, advert in adverts.items():
        if advert.mask_key in seen or advert.share_key in seen or advert.mask_key == advert.share_key:
            raise Breach.of(RemoteProtocolError("T557", "a key is used twice", where=advert.client), position)
        seen |= {advert.mask_key, advert.share_key}


def _same_session(session: bytes, group: Group) -> None:
    if session != group.session:
        raise Breach("T555", "the message is of another session")


def _check_positions(positions: list[int], group: Group, code: str) -> None:
    rising = all(a < b for a, b in pairwise(positions))
    if not rising or not group.adverts.keys() >= set(positions):
        raise Breach(code, "one who is named is no neighbour, or is named twice")


def _expect_valid(valid: Iterator[bool], group: Group, code: str, what: str) -> None:
    """Count valid signatures until there are enough; more would say nothing more."""
    count = 0
    for is_valid in valid:
        count += is_valid
        if count >= group.threshold:
            return
    raise Breach(code, f"{count} neighbours {what}, and {group.threshold} are needed")


def _not_accepted(what: str) -> None:
    raise Breach("T556", f"the terms are not accepted: {what}")
