"""What the server makes of clients that lie, vanish or come late: the group goes on, or has no sum."""

import gc
from collections.abc import Callable, Iterable, Mapping

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tacit.core.errors import LocalProtocolError, RemoteProtocolError
from tacit.secagg.channel import ChunkTags
from tacit.secagg.client_secrets import RoundSecrets
from tacit.secagg.events import (
    REASONS,
    Admit,
    DeadlinePassed,
    Gone,
    GroupFailed,
    Invited,
    Masks,
    Opened,
    Received,
    Send,
    Step,
    Summed,
    Unmasked,
)
from tacit.secagg.identity import Authority
from tacit.secagg.intake import VectorIntake
from tacit.secagg.masks import add_masks
from tacit.secagg.messages import (
    Advert,
    Complaint,
    Message,
    Shares,
    Survivors,
    SurvivorSignature,
    Unmask,
    VectorChunk,
    VectorHead,
)
from tacit.secagg.ring import LaneGroup, Ring
from tacit.secagg.server import SecureServer
from tacit.secagg.shamir import split
from tests.unit.secagg.playing import Playing, World, make_world

LIAR = "client-0005"
CLIENTS = 9
change = msgspec.structs.replace
Lie = Callable[[World, Message], Message | Iterable[Message]]


def lying(kind: type[Message], lie: Lie, *, who: str = LIAR, **setting: object) -> Playing:
    """Return a group in which one client's messages of a kind are changed; the others are honest."""
    world = make_world(CLIENTS, **setting)  # type: ignore[arg-type]

    def tell(name: str, message: Message) -> Iterable[Message]:
        if name != who or not isinstance(message, kind):
            return (message,)
        told = lie(world, message)
        return (told,) if isinstance(told, Message) else told

    return Playing(world, world.rows(np.random.default_rng(3)), to_server=tell)


def others_sum(playing: Playing) -> Summed:
    """Play; the sum must be that of all but the liar."""
    result = playing.play()
    assert isinstance(result, Summed)
    assert result.survivors == tuple(name for name in playing.world.clients if name != LIAR)
    assert np.array_equal(result.total, playing.expected(result.survivors))
    return result


def at_first(lie: Callable[[VectorChunk], Message | Iterable[Message]], index: int) -> Lie:
    """Change one piece of a vector."""

    def tell(world: World, message: Message) -> Message | Iterable[Message]:
        assert isinstance(message, VectorChunk)
        return lie(message) if message.index == index else message

    return tell


def flipped(data: bytes | bytearray | memoryview, place: int = 0) -> bytes:
    return bytes(data[:place]) + bytes([data[place] ^ 1]) + bytes(data[place + 1 :])


LAST = 2  # the last of three pieces
EARLY: dict[str, tuple[str, type[Message], Lie]] = {
    "an advert that is not signed": ("T557", Advert, lambda w, m: change(m, signature=bytes(64))),
    "an advert for other terms": ("T557", Advert, lambda w, m: change(m, assignment=bytes(32))),
    "another client's advert": ("T557", Advert, lambda w, m: change(m, client="client-0001")),
    "an advert without a certificate": ("T557", Advert, lambda w, m: change(m, certificate=None)),
    "an advert of one enrolled elsewhere": (
        "T562",
        Advert,
        lambda w, m: change(
            m, certificate=Authority.generate().enrol(LIAR, w.identities[LIAR].public, 30_000)
        ),
    ),
    "an advert with a key that is no key": ("T557", Advert, lambda w, m: change(m, mask_key=bytes(31))),
    "shares of another session": ("T555", Shares, lambda w, m: change(m, session=bytes(32))),
    "shares in another's name": ("T555", Shares, lambda w, m: change(m, sender=0)),
    "shares that are not signed": ("T561", Shares, lambda w, m: change(m, signature=bytes(64))),
    "a commitment that is not signed": ("T561", Shares, lambda w, m: change(m, commitment=bytes(32))),
    "no share for a neighbour": ("T563", Shares, lambda w, m: change(m, sealed=m.sealed[1:])),
    "a sealed share too short": (
        "T563",
        Shares,
        lambda w, m: change(m, sealed=((m.sealed[0][0], b"short"), *m.sealed[1:])),
    ),
    "capsules that nobody wants": ("T563", Shares, lambda w, m: change(m, capsules=(bytes(1136),))),
    "a vector of another length": ("T565", VectorHead, lambda w, m: change(m, words=m.words + 1)),
    "two announcements": ("T565", VectorHead, lambda w, m: (m, m)),
    "a vector in another's name": ("T555", VectorHead, lambda w, m: change(m, sender=0)),
    "a piece that was changed": ("T561", VectorChunk, at_first(lambda m: change(m, body=flipped(m.body)), 0)),
    "a last piece that was changed": (
        "T561",
        VectorChunk,
        at_first(lambda m: change(m, body=flipped(m.body)), LAST),
    ),
    "a tag that was changed": ("T561", VectorChunk, at_first(lambda m: change(m, tag=flipped(m.tag)), 1)),
    "a piece that was left out": ("T565", VectorChunk, at_first(lambda m: (), 0)),
    "a piece that came twice": ("T565", VectorChunk, at_first(lambda m: (m, m), 0)),
    "a piece of another length": ("T565", VectorChunk, at_first(lambda m: change(m, body=m.body[:-8]), 0)),
    "a piece in another's name": ("T555", VectorChunk, at_first(lambda m: change(m, sender=0), 1)),
    "a message that is not due": ("T555", VectorHead, lambda w, m: Unmask(m.session, m.sender, (), ())),
    "a message of the server's": ("T555", VectorHead, lambda w, m: Survivors(m.session, b"")),
}


@pytest.mark.parametrize(("code", "kind", "lie"), EARLY.values(), ids=EARLY)
def test_the_group_has_its_sum_without_one_who_sends(code: str, kind: type[Message], lie: Lie) -> None:
    result = others_sum(lying(kind, lie))
    assert set(result.blamed) == {LIAR}
    assert result.blamed[LIAR].startswith(code)
    assert LIAR in result.left


def test_a_key_that_another_has_advertised_is_refused() -> None:
    world = make_world(CLIENTS)
    server = world.server()
    server.receive(Opened(world.clients))
    adverts = []
    for name in world.clients[:2]:
        (sent,) = world.client(name).receive(Invited())
        assert isinstance(sent, Send)
        adverts.append(sent.message)
    first, second = adverts
    copied = change(second, share_key=first.mask_key)
    identity = world.identities[world.clients[1]]
    server.receive(Received(world.clients[0], first))
    copied = change(copied, signature=identity.sign("advert", copied.signed_part))
    server.receive(Received(world.clients[1], copied))
    assert world.clients[1] not in server.waiting
    (failed,) = server.receive(DeadlinePassed("advert"))
    assert isinstance(failed, GroupFailed)
    assert failed.blamed == {world.clients[1]: "T557: a key is used twice"}


def test_a_wrong_signature_of_the_survivors_is_dropped_and_blamed_and_its_row_stays_in_the_sum() -> None:
    playing = lying(SurvivorSignature, lambda w, m: change(m, signature=bytes(64)))
    result = playing.play()
    assert isinstance(result, Summed)
    assert result.survivors == playing.world.clients
    assert np.array_equal(result.total, playing.expected(result.survivors))
    assert result.blamed[LIAR].startswith("T561")
    assert len(result.certificate.signatures) == CLIENTS - 1


def with_wrong_share(world: World, message: Message) -> Message:
    assert isinstance(message, Unmask)
    (owner, share), *rest = message.self_shares
    return change(message, self_shares=((owner, flipped(share, 16)), *rest))


@pytest.mark.parametrize("mode", ["malicious", "semi_honest"])
def test_one_wrong_share_gives_the_right_sum_and_the_right_culprit(mode: str) -> None:
    # The first positions' shares are combined first; one that is not needed would not be looked at.
    for liar in (LIAR, "client-0001"):
        playing = lying(Unmask, with_wrong_share, who=liar, mode=mode)
        result = playing.play()
        assert isinstance(result, Summed)
        assert np.array_equal(result.total, playing.expected(playing.world.clients))
        if liar == "client-0001":
            assert set(result.blamed) == {liar}
            assert "'client-0000'" in result.blamed[liar], "whose secret it is"


ANSWERS: dict[str, tuple[str, Callable[[Unmask], Unmask]]] = {
    "a share too few": ("T553", lambda m: change(m, self_shares=m.self_shares[1:])),
    "a share that is too long": (
        "T553",
        lambda m: change(m, self_shares=((m.self_shares[0][0], bytes(18)), *m.self_shares[1:])),
    ),
    "a share of a survivor's seed": (
        "T553",
        lambda m: change(m, self_shares=m.self_shares[1:], seed_shares=m.self_shares[:1]),
    ),
    "a share of its own": ("T553", lambda m: change(m, self_shares=((5, bytes(17)), *m.self_shares[1:]))),
    "another session": ("T555", lambda m: change(m, session=bytes(32))),
    "another's name": ("T555", lambda m: change(m, sender=0)),
}


@pytest.mark.parametrize(("code", "lie"), ANSWERS.values(), ids=ANSWERS)
def test_the_sum_is_opened_without_an_answer_with(code: str, lie: Callable[[Unmask], Unmask]) -> None:
    playing = lying(Unmask, lambda w, m: lie(m))  # type: ignore[arg-type]
    result = playing.play()
    assert isinstance(result, Summed)
    assert np.array_equal(result.total, playing.expected(playing.world.clients))
    assert result.blamed[LIAR].startswith(code)


@pytest.mark.parametrize("leaves", [{}, {LIAR: "vector"}], ids=["and stays", "and vanishes"])
def test_a_group_has_no_sum_if_one_deals_shares_of_other_secrets(
    leaves: Mapping[str, Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    playing = lying(Shares, lambda w, m: m)
    playing.leaves = leaves
    playing.silent = frozenset({LIAR})
    liar, deal = playing.clients[LIAR], RoundSecrets.deal

    def deal_badly(secrets: RoundSecrets, group: object) -> Shares:
        if secrets is not getattr(liar, "_secrets", None):
            return deal(secrets, group)  # type: ignore[arg-type]
        with monkeypatch.context() as patch:
            patch.setattr(
                "tacit.secagg.client_secrets.split",
                lambda secret, threshold, around: split(bytes(16), threshold, around),
            )
            return deal(secrets, group)  # type: ignore[arg-type]

    monkeypatch.setattr(RoundSecrets, "deal", deal_badly)
    result = playing.play()
    assert isinstance(result, GroupFailed)
    assert result.reason == REASONS["unmask"]
    assert set(result.blamed) == {LIAR}
    assert "does not come out" in result.detail
    assert result.error.code == "T566"


def test_who_seals_shares_that_do_not_open_is_blamed_once_more_complain_than_can_lie() -> None:
    def spoil(count: int) -> Lie:
        def tell(world: World, message: Message) -> Message:
            assert isinstance(message, Shares)
            sealed = [
                (at, flipped(data) if i < count else data) for i, (at, data) in enumerate(message.sealed)
            ]
            return change(message, sealed=tuple(sealed))

        return tell

    for count in (1, 2):  # of nine at most one is taken for corrupt
        playing = lying(Shares, spoil(count))
        result = playing.play()
        assert {client for client, reason in result.left.items() if LIAR in reason} == {
            "client-0000",
            "client-0001",
        } - ({"client-0001"} if count == 1 else set())
        assert set(result.blamed) == (set() if count == 1 else {LIAR})
        if isinstance(result, Summed):
            assert np.array_equal(result.total, playing.expected(result.survivors))


def test_a_vector_that_comes_after_the_survivors_were_named_is_dropped() -> None:
    late = list[Message]()

    def keep(world: World, message: Message) -> Iterable[Message]:
        late.append(message)
        return ()

    playing = lying(Message, lambda w, m: keep(w, m) if isinstance(m, VectorHead | VectorChunk) else m)
    told = list[str]()

    def tell(name: str, message: Message) -> Iterable[Message]:
        if isinstance(message, Survivors) and not told:
            told.append(name)
            for kept in late:
                assert playing.server.receive(Received(LIAR, kept)) == ()  # type: ignore[arg-type]
        return (message,)

    playing.to_client = tell
    result = others_sum(playing)
    assert told
    assert len(late) == 4
    assert not result.blamed
    assert result.left == {LIAR: "late with vector"}


def test_messages_that_come_again_change_nothing() -> None:
    def again(name: str, message: Message) -> Iterable[Message]:
        return (message,) if isinstance(message, VectorHead | VectorChunk) else (message, message)

    playing = lying(Advert, lambda w, m: m)
    playing.to_server = again
    result = playing.play()
    assert isinstance(result, Summed)
    assert np.array_equal(result.total, playing.expected(playing.world.clients))
    assert not result.left


def test_who_was_not_invited_is_not_heard() -> None:
    world = make_world(4)
    server = world.server()
    server.receive(Opened(world.clients[:3]))
    (sent,) = world.client(world.clients[3]).receive(Invited())
    assert isinstance(sent, Send)
    assert server.receive(Received(world.clients[3], sent.message)) == ()
    assert server.receive(Received("nobody", Complaint(bytes(32), 0, 557, 0))) == ()
    assert server.receive(Gone("nobody")) == ()
    assert server.waiting == set(world.clients[:3])


def test_a_process_that_plays_several_clients_hands_over_the_sum_of_their_vectors() -> None:
    world = make_world(CLIENTS, mode="semi_honest")
    playing = Playing(world, world.rows(np.random.default_rng(3)))
    together = world.clients[2:6]
    total = np.zeros(world.ring.words, np.uint64)

    def hand_over(name: str, message: Message) -> Iterable[Message]:
        if name not in together or not isinstance(message, VectorHead | VectorChunk):
            return (message,)
        if isinstance(message, VectorChunk):
            body = np.frombuffer(message.body, np.uint64)
            total[message.index * 8 :][: len(body)] += body
            pieces.append(name)
        if len(pieces) == 3 * len(together):
            playing._perform(playing.server.vectors_received(together, total))  # noqa: SLF001
        return ()

    pieces = list[str]()
    playing.to_server = hand_over
    result = playing.play()
    assert isinstance(result, Summed)
    assert result.survivors == world.clients
    assert np.array_equal(result.total, playing.expected(world.clients))


def test_a_sum_of_vectors_is_taken_once_and_only_of_clients_that_are_awaited() -> None:
    world = make_world(4, mode="semi_honest")
    server = until_vectors(world)
    total = np.zeros(world.ring.words, np.uint64)
    one, two, three, _ = world.clients
    for clients, words in (
        (("nobody",), total),
        ((one, one), total),
        ((one,), total[1:]),
        ((one,), total.astype(np.int64)),
    ):
        with pytest.raises(LocalProtocolError, match="T512"):
            server.vectors_received(clients, words)  # type: ignore[arg-type]
    assert server.vectors_received((one, two), total) == ()
    with pytest.raises(LocalProtocolError, match="T512"):
        server.vectors_received((two, three), total)
    assert server.waiting == set(world.clients[2:])


def until_vectors(world: World) -> SecureServer:
    """Return a server that waits for everybody's vector."""
    playing = Playing(world, world.rows(np.random.default_rng(3)))
    playing.to_server = lambda name, m: () if isinstance(m, VectorHead | VectorChunk) else (m,)
    server = playing.server
    receive = server.receive

    def stop(event: object) -> object:
        if isinstance(event, DeadlinePassed):
            raise StopIteration
        return receive(event)  # type: ignore[arg-type]

    server.receive = stop  # type: ignore[method-assign, assignment]
    with pytest.raises(StopIteration):
        playing.play()
    del server.receive  # type: ignore[misc]
    return server


def test_a_failed_group_keeps_neither_vectors_nor_shares() -> None:
    playing = lying(Unmask, lambda w, m: m)
    playing.leaves = dict.fromkeys(playing.world.clients[:5], "unmask")
    result = playing.play()
    assert isinstance(result, GroupFailed)
    assert playing.server.state == "failed"
    seen, todo = set[int](), list[object](vars(playing.server).values())
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, type | World) or callable(thing):
            continue
        seen.add(id(thing))
        assert not isinstance(thing, VectorIntake | Unmask | Shares)
        assert not isinstance(thing, np.ndarray) or thing.size == 0
        todo.extend(gc.get_referents(thing))


def test_what_the_driver_may_not_say_is_a_local_error() -> None:
    world = make_world(3)
    server = world.server()
    for early in (Unmasked(), Gone("client-0000"), Received("client-0000", Complaint(bytes(32), 0, 557))):
        with pytest.raises(LocalProtocolError, match="T512"):
            server.receive(early)
    server.receive(Opened(world.clients))
    for wrong in (Opened(world.clients), Unmasked()):
        with pytest.raises(LocalProtocolError, match="T512"):
            server.receive(wrong)
    assert server.receive(DeadlinePassed("unmask")) == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"server_private_key": X25519PrivateKey.generate()},
        {"enrolment": None},
        {"enrolment": Authority.generate().enrolment(3)},
        {"chunk": 12},
        {"at_once": 0},
    ],
    ids=["another key", "no enrolment", "another enrolment", "a chunk of half a word", "no vector at all"],
)
def test_a_server_is_not_made_for_other_terms_than_its_own(changed: dict[str, object]) -> None:
    with pytest.raises(LocalProtocolError, match="T576"):
        make_world(3).server(**changed)


def test_lanes_other_than_those_of_the_terms_are_refused() -> None:
    world = make_world(3)
    with pytest.raises(LocalProtocolError, match="T576"):
        make_world(3, ring=Ring((LaneGroup(4, 32),)), lanes=world.terms.lanes).server()


def test_only_so_many_vectors_are_on_their_way_at_a_time() -> None:
    rng, tags = np.random.default_rng(0), ChunkTags(bytes(32))
    vectors = {f"c{i}": rng.integers(0, 2**64, 20, np.uint64) for i in range(9)}
    intake, order, most = VectorIntake(words=20, chunk=64, at_once=2), list(vectors), 0
    for client in order:
        intake.announce(client, tags)
    under_way = list(intake.admit())
    assert under_way == ["c0", "c1"]
    with pytest.raises(RemoteProtocolError, match="T555"):
        intake.take("c5", VectorChunk(bytes(32), 0, 0, body=bytes(64), tag=bytes(16)))
    intake.drop("c1")
    intake.drop("c7")
    added = []
    while under_way := [*[c for c in under_way if c not in (*added, "c1")], *intake.admit()]:
        most = max(most, len(under_way))
        client = under_way[0]
        body = vectors[client].tobytes()
        for index in range(3):
            part = body[64 * index :][:64]
            whole = intake.take(
                client, VectorChunk(bytes(32), 0, index, body=part, tag=tags.tag(index, part))
            )
        assert whole
        added.append(client)
    assert most == 2
    assert added == ["c0", "c2", "c3", "c4", "c5", "c6", "c8"]
    assert np.array_equal(intake.close(), sum((vectors[c] for c in added), np.zeros(20, np.uint64)))


def test_a_client_alone_knows_its_masks() -> None:
    """The masks that a client is told to add are not in what the server sees before it opens the sum."""
    world = make_world(4)
    playing = Playing(world, world.rows(np.random.default_rng(1)))
    client, told = playing.clients["client-0002"], list[Masks]()
    receive = client.receive

    def note(event: object) -> object:
        effects = receive(event)  # type: ignore[arg-type]
        told.extend(effect for effect in effects if isinstance(effect, Masks))
        return effects

    client.receive = note  # type: ignore[method-assign, assignment]
    playing.play()
    (masks,) = told
    bodies = [
        m.body for who, _, m in playing.transcript if who == "client-0002" and isinstance(m, VectorChunk)
    ]
    words = np.frombuffer(b"".join(bytes(body) for body in bodies), np.uint64).copy()
    assert not np.array_equal(world.ring.unpack(words), playing.rows["client-0002"])
    add_masks(words, [mask._replace(sign=-mask.sign) for mask in masks.masks])
    assert np.array_equal(world.ring.unpack(words), playing.rows["client-0002"])
    assert len(masks.masks) == 4, "its own, and one per neighbour"
    for mask in masks.masks:
        assert mask.key.hex() not in repr(masks)


def test_the_server_admits_the_next_vector_when_one_on_its_way_breaks_off() -> None:
    world = make_world(5, mode="semi_honest")
    server = until_vectors(world)
    session = server._collected.session.id  # noqa: SLF001
    admitted = []
    for at, name in enumerate(world.clients[:4]):
        head = VectorHead(session, at, world.ring.words)
        admitted += server.receive(Received(name, head))
    assert admitted == [Admit(world.clients[0]), Admit(world.clients[1])]
    assert server.receive(Gone(world.clients[1])) == (Admit(world.clients[2]),)
    assert server.receive(Gone(world.clients[3])) == ()


def test_a_piece_that_comes_before_its_turn_drops_its_client() -> None:
    world = make_world(5, mode="semi_honest")
    server = until_vectors(world)
    session, name = server._collected.session.id, world.clients[2]  # noqa: SLF001
    piece = VectorChunk(session, 2, 0, body=bytes(64), tag=bytes(16))
    server.receive(Received(name, piece))
    assert name not in server.waiting


def test_a_vector_that_breaks_off_in_silence_is_not_in_the_sum_when_the_deadline_has_passed() -> None:
    playing = lying(VectorChunk, lambda w, m: () if getattr(m, "index", 0) else m)
    result = others_sum(playing)
    assert result.left == {LIAR: "late with vector"}
    assert not result.blamed
