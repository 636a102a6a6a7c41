import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.core.errors import RemoteProtocolError
from tacit.secagg.terms import MOST_TERMS_BYTES, Terms, roster_root, session_id

TERMS = Terms(
    job="job",
    round=3,
    model_sha256=bytes([1] * 32),
    settings_sha256=bytes([2] * 32),
    group=1,
    groups=4,
    min_cohort=10,
    mode="malicious",
    corrupt=0.1,
    dropout=0.2,
    lanes=((1000, 32), (3, 52)),
    enrolment_root=bytes([3] * 32),
    server_key=bytes([4] * 32),
    post_quantum=False,
    base_round=2,
    deadlines=(5.0, 10.0),
)
CHANGES: list[dict[str, Any]] = [
    {"job": "jo"},
    {"round": 4},
    {"model_sha256": bytes([9] * 32)},
    {"settings_sha256": bytes([9] * 32)},
    {"group": 2},
    {"groups": 5},
    {"min_cohort": 9},
    {"mode": "semi_honest"},
    {"corrupt": 0.05},
    {"dropout": 0.1},
    {"lanes": ((1000, 33), (3, 52))},
    {"lanes": ((1000, 32), (2, 52))},
    {"lanes": ((1000, 32),)},
    {"enrolment_root": b""},
    {"server_key": bytes([9] * 32)},
    {"post_quantum": True},
    {"base_round": 1},
    {"deadlines": (5.0, 10.5)},
    {"deadlines": ()},
]
MEMBERS = (("ann", bytes([1] * 16)), ("ben", bytes([2] * 16)), ("cat", bytes([3] * 16)))
ROSTER = tuple((client, nonce, bytes([at] * 32)) for at, (client, nonce) in enumerate(MEMBERS))


def changed(**words: Any) -> Terms:
    return Terms(**{name: words.get(name, getattr(TERMS, name)) for name in TERMS.__struct_fields__})


def test_every_word_of_the_terms_is_in_the_assignment_id() -> None:
    assert {name for change in CHANGES for name in change} == set(TERMS.__struct_fields__)
    ids = {changed(**change).assignment_id for change in CHANGES} | {TERMS.assignment_id}
    assert len(ids) == len(CHANGES) + 1
    assert len(TERMS.assignment_id) == 32


def test_terms_read_back_as_they_were_written() -> None:
    for terms in [TERMS, *(changed(**change) for change in CHANGES)]:
        assert Terms.from_bytes(terms.to_bytes()) == terms


def test_terms_that_are_equal_have_one_id() -> None:
    mixed = changed(corrupt=0, dropout=-0.0, deadlines=[5, 10], lanes=[[1000, 32], [3, 52]])
    plain = changed(corrupt=0.0, dropout=0.0)
    assert mixed == plain
    assert mixed.assignment_id == plain.assignment_id


def test_no_flipped_byte_of_terms_goes_unnoticed() -> None:
    data = TERMS.to_bytes()
    for at in range(len(data)):
        for flip in (1, 2, 4, 8, 16, 32, 64, 128, 255):
            other = data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
            try:
                assert Terms.from_bytes(other).assignment_id != TERMS.assignment_id
            except RemoteProtocolError as error:
                assert error.code == "T551"  # noqa: PT017 - either of the two is right


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x01\x90", b"\x01\xc0", b"\x02" + TERMS.to_bytes()[1:]])
def test_what_is_no_terms_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="T551"):
        Terms.from_bytes(data)
    with pytest.raises(RemoteProtocolError, match="T551"):
        Terms.from_bytes(TERMS.to_bytes() + b"\0")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_make_reading_terms_fail_otherwise(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="T551"):
        Terms.from_bytes(b"\x01" + data)


def test_terms_written_in_another_way_are_refused() -> None:
    words = [getattr(TERMS, name) for name in TERMS.__struct_fields__]
    at = TERMS.__struct_fields__.index("deadlines")
    assert b"\x01" + msgspec.msgpack.encode(words) == TERMS.to_bytes()
    words[at] = (5, 10)  # whole numbers where floats belong: the same terms, other bytes
    with pytest.raises(RemoteProtocolError, match="the one way"):
        Terms.from_bytes(b"\x01" + msgspec.msgpack.encode(words))


def test_terms_that_are_too_long_are_refused_unread() -> None:
    class Unread(bytes):
        def __getitem__(self, key: Any) -> Any:
            raise AssertionError("read")

    with pytest.raises(RemoteProtocolError, match="T552"):
        Terms.from_bytes(Unread(MOST_TERMS_BYTES + 1))


@pytest.mark.parametrize(
    "change",
    [
        {"model_sha256": bytes(31)},
        {"settings_sha256": b""},
        {"server_key": bytes(33)},
        {"enrolment_root": bytes(16)},
        {"round": -1},
        {"base_round": -1},
        {"round": 1 << 64},
        {"group": 4},
        {"group": -1},
        {"min_cohort": 1},
        {"corrupt": 0.5},
        {"corrupt": -0.1},
        {"corrupt": math.nan},
        {"dropout": 1.0},
        {"deadlines": (math.inf,)},
        {"lanes": ()},
        {"lanes": ((0, 32),)},
        {"lanes": ((1, 64),)},
        {"lanes": ((1, 1),)},
    ],
)
def test_terms_that_cannot_be_are_not_made(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="terms that cannot be"):
        changed(**change)


def test_the_graph_depends_on_every_nonce_and_on_no_key() -> None:
    seed = TERMS.graph_seed(MEMBERS)
    assert seed == changed(server_key=bytes(32), model_sha256=bytes(32)).graph_seed(iter(MEMBERS))
    others = [
        changed(job="other").graph_seed(MEMBERS),
        changed(round=4).graph_seed(MEMBERS),
        changed(base_round=1).graph_seed(MEMBERS),
        changed(group=2).graph_seed(MEMBERS),
        changed(groups=5).graph_seed(MEMBERS),
        TERMS.graph_seed(MEMBERS[::-1]),
        TERMS.graph_seed(MEMBERS[:2]),
        TERMS.graph_seed([(MEMBERS[0][0] + "b", MEMBERS[0][1]), *MEMBERS[1:]]),
        TERMS.graph_seed([*MEMBERS[:2], (MEMBERS[2][0], bytes(16))]),
    ]
    assert seed not in others
    assert len(set(others)) == len(others)


def test_the_root_of_a_roster_depends_on_everything_in_it() -> None:
    others = [
        ROSTER[::-1],
        ROSTER[:2],
        (("ann", ROSTER[0][1], bytes([9] * 32)), *ROSTER[1:]),
        (("ann", bytes([9] * 16), ROSTER[0][2]), *ROSTER[1:]),
        (("anna", ROSTER[0][1], ROSTER[0][2]), *ROSTER[1:]),
    ]
    roots = {roster_root(members) for members in [ROSTER, *others]}
    assert len(roots) == 1 + len(others)


def test_a_session_depends_on_terms_members_and_how_secrets_are_shared() -> None:
    a, b = bytes(32), bytes([1] * 32)
    asked = [(a, b, 10, 9, 7), (b, a, 10, 9, 7), (a, b, 11, 9, 7), (a, b, 10, 8, 7), (a, b, 10, 9, 6)]
    assert len({session_id(*words) for words in asked}) == len(asked)
