"""What the server checks in its clients' messages, and what it makes of them for the others."""

from collections.abc import Iterator, Mapping

from tacit.core.errors import RemoteProtocolError
from tacit.secagg.client_checks import Find, threat_of
from tacit.secagg.graph import neighbours
from tacit.secagg.identity import Verifier, verify
from tacit.secagg.messages import (
    CAPSULE_BYTES,
    CIPHERTEXT_BYTES,
    SEALED_BYTES,
    SESSION,
    SURVIVORS,
    Advert,
    Confirmation,
    Delivery,
    Roster,
    Shares,
    SurvivorSignature,
    Unmask,
)
from tacit.secagg.shamir import SHARE_BYTES
from tacit.secagg.terms import DIGEST_BYTES, Terms, roster_root, session_id
from tacit.secagg.unmasking import Session

_Inbox = tuple[list[tuple[int, bytes]], list[tuple[int, bytes, bytes]], list[bytes]]


def make_session(terms: Terms, adverts: Mapping[str, Advert], find: Find) -> tuple[Session, Roster]:
    """Fix a group's members, parameters and graph; return them, and a roster that still lacks adverts.

    Raises:
        PlanError: T187, no parameters are safe for so many.
    """
    clients = tuple(sorted(adverts))
    chosen = find(len(clients), threat_of(terms))
    members = tuple((client, adverts[client].nonce, adverts[client].digest) for client in clients)
    graph = neighbours(
        len(clients), chosen.neighbours, terms.graph_seed((client, nonce) for client, nonce, _ in members)
    )
    assignment, root = terms.assignment_id, roster_root(members)
    session = Session(
        id=session_id(assignment, root, len(clients), chosen.neighbours, chosen.threshold),
        root=root,
        clients=clients,
        adverts=tuple(adverts[client] for client in clients),
        graph=graph,
        threshold=chosen.threshold,
    )
    return session, Roster(assignment, members, chosen.neighbours, chosen.threshold, ())


def rosters(session: Session, blank: Roster) -> Iterator[tuple[str, Roster]]:
    """Yield each member's roster, which has its neighbours' adverts."""
    for client, near in zip(session.clients, session.graph, strict=True):
        adverts = tuple(session.adverts[at] for at in near)
        yield client, Roster(blank.assignment, blank.members, blank.neighbours, blank.threshold, adverts)


def check_shares(message: Shares, session: Session, own: int, terms: Terms, verifier: Verifier) -> None:
    """Accept what a member dealt.

    Raises:
        RemoteProtocolError: T555, another session or sender; T563, not one sealed share per neighbour; T561,
            it is not signed.
    """
    check_sender(message.session, message.sender, session, own)
    positions, sealed = zip(*message.sealed, strict=True) if message.sealed else ((), ())
    size = SEALED_BYTES + (CIPHERTEXT_BYTES if terms.post_quantum else 0)
    near = session.graph[own]
    if positions != near or set(map(len, sealed)) != {size}:
        raise RemoteProtocolError("T563", "there is not one sealed share for each neighbour")
    capsules = [CAPSULE_BYTES] * len(near) if terms.post_quantum else []
    if [len(capsule) for capsule in message.capsules] != capsules or len(message.commitment) != DIGEST_BYTES:
        raise RemoteProtocolError("T563", "there is not one capsule for each neighbour, or no commitment")
    if terms.is_malicious:
        _check_signature(session, own, message.signature, SESSION, message.commitment, verifier)


def deliveries(session: Session, dealt: Mapping[int, Shares], terms: Terms) -> Iterator[tuple[str, Delivery]]:
    """Yield what each of those who dealt gets from its neighbours among them.

    Args:
        dealt: By position, ascending.
    """
    is_signed, is_post_quantum = terms.is_malicious, terms.post_quantum
    inboxes: dict[int, _Inbox] = {own: ([], [], []) for own in dealt}
    for at, shares in dealt.items():
        signed = (at, shares.commitment, shares.signature)
        for place, (to, data) in enumerate(shares.sealed):
            if (inbox := inboxes.get(to)) is None:
                continue
            inbox[0].append((at, data))
            if is_signed:
                inbox[1].append(signed)
            if is_post_quantum:
                inbox[2].append(shares.capsules[place][:CIPHERTEXT_BYTES])
    for own, (sealed, endorsements, capsules) in inboxes.items():
        yield (
            session.clients[own],
            Delivery(session.id, tuple(sealed), tuple(endorsements), tuple(capsules)),
        )


def check_survivor_signature(
    message: SurvivorSignature, session: Session, own: int, bitmap: bytes, verifier: Verifier
) -> None:
    """Accept a survivor's signature of the survivor set.

    Raises:
        RemoteProtocolError: T555, another session or sender; T561, it is wrong.
    """
    check_sender(message.session, message.sender, session, own)
    _check_signature(session, own, message.signature, SURVIVORS, bitmap, verifier)


def confirmations(session: Session, signatures: Mapping[int, bytes]) -> Iterator[tuple[int, Confirmation]]:
    """Yield the neighbours' signatures for each signer that enough of its neighbours have joined."""
    for own in signatures:
        near = tuple((at, signatures[at]) for at in session.graph[own] if at in signatures)
        if len(near) >= session.threshold:
            yield own, Confirmation(session.id, near)


def check_answer(
    message: Unmask, session: Session, own: int, dealt: Mapping[int, Shares], alive: frozenset[int]
) -> None:
    """Accept the shape of a survivor's answer; whether the shares are right is seen when they are combined.

    Raises:
        RemoteProtocolError: T555, another session or sender; T553, not the one share of each neighbour.
    """
    check_sender(message.session, message.sender, session, own)
    near = [at for at in session.graph[own] if at in dealt]
    wanted = [at for at in near if at in alive], [at for at in near if at not in alive]
    given = [at for at, _ in message.self_shares], [at for at, _ in message.seed_shares]
    if given != wanted:
        raise RemoteProtocolError("T553", "an answer has not the one share of each neighbour")
    if any(len(share) != SHARE_BYTES for _, share in (*message.self_shares, *message.seed_shares)):
        raise RemoteProtocolError("T553", f"a share has not {SHARE_BYTES} bytes")


def check_sender(session: bytes, sender: int, expected: Session, own: int) -> None:
    """Accept that a message is of this session and names the member that sent it.

    Raises:
        RemoteProtocolError: T555, it is not.
    """
    if session != expected.id:
        raise RemoteProtocolError("T555", "the message is of another session")
    if sender != own:
        raise RemoteProtocolError("T555", f"the message names the member at {sender}, and came from {own}")


def _check_signature(
    session: Session, own: int, signature: bytes, label: str, part: bytes, verifier: Verifier
) -> None:
    certificate = session.adverts[own].certificate
    assert certificate is not None, "malicious mode has refused adverts without one"
    if not verify(certificate.key, signature, label, session.id, part, verifier=verifier):
        raise RemoteProtocolError("T561", f"a signature of the {label} is wrong")
