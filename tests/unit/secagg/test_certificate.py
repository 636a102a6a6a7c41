import json
from typing import Any

import pytest

from tacit.core.errors import RemoteProtocolError
from tacit.secagg.certificate import MOST_CERTIFICATE_BYTES, RoundCertificate
from tacit.secagg.identity import Identity
from tacit.secagg.messages import SURVIVORS, bitmap_of
from tacit.secagg.terms import Terms

CLIENTS, THRESHOLD = 12, 8
SURVIVED = tuple(position for position in range(CLIENTS) if position not in (2, 9))
IDENTITIES = [Identity.generate() for _ in range(CLIENTS)]
KEYS = {position: identity.public for position, identity in enumerate(IDENTITIES)}


def terms(**changes: Any) -> Terms:
    words: dict[str, Any] = {
        "job": "job",
        "round": 3,
        "model_sha256": bytes([1] * 32),
        "settings_sha256": bytes([2] * 32),
        "group": 0,
        "groups": 1,
        "min_cohort": 10,
        "mode": "malicious",
        "corrupt": 0.1,
        "dropout": 0.1,
        "lanes": ((1000, 32),),
        "enrolment_root": bytes(32),
        "server_key": bytes([4] * 32),
        "post_quantum": False,
        "base_round": 3,
    }
    return Terms(**{**words, **changes})


def certificate(signers: tuple[int, ...] = SURVIVED, **changes: Any) -> RoundCertificate:
    words: dict[str, Any] = {
        "terms": terms(),
        "roster_root": bytes([5] * 32),
        "clients": CLIENTS,
        "neighbours": CLIENTS - 1,
        "threshold": THRESHOLD,
        "bitmap": bitmap_of(SURVIVED, CLIENTS),
        "signatures": (),
        "sum_sha256": bytes([6] * 32),
    }
    unsigned = RoundCertificate(**{**words, **changes})
    if "signatures" in changes:
        return unsigned
    signed = tuple((at, IDENTITIES[at].sign(SURVIVORS, unsigned.session, unsigned.bitmap)) for at in signers)
    return RoundCertificate(**{**words, **changes, "signatures": signed})


def with_words(base: RoundCertificate, **changes: Any) -> RoundCertificate:
    return RoundCertificate(
        **{name: changes.get(name, getattr(base, name)) for name in base.__struct_fields__}
    )


def test_a_certificate_that_the_survivors_signed_is_accepted() -> None:
    certificate().verify(KEYS)
    certificate(signers=SURVIVED[:THRESHOLD]).verify(KEYS)


@pytest.mark.parametrize(
    "change",
    [
        {"terms": terms(model_sha256=bytes(32))},
        {"terms": terms(min_cohort=5)},
        {"terms": terms(round=4)},
        {"roster_root": bytes(32)},
        {"clients": CLIENTS - 0, "neighbours": CLIENTS - 2},
        {"clients": CLIENTS + 1},
        {"threshold": THRESHOLD - 1},
        {"bitmap": bitmap_of(range(CLIENTS), CLIENTS)},
        {"bitmap": bitmap_of([*SURVIVED[1:], 2], CLIENTS), "signatures_from": 1},
    ],
)
def test_no_word_that_was_signed_can_be_changed(change: dict[str, Any]) -> None:
    base = certificate()
    kept = base.signatures[change.pop("signatures_from", 0) :]
    with pytest.raises(RemoteProtocolError) as error:
        with_words(base, **change, signatures=kept).verify(KEYS)
    assert error.value.code == "T561"


def test_fewer_signatures_than_the_threshold_prove_nothing() -> None:
    with pytest.raises(RemoteProtocolError, match="T561"):
        certificate(signers=SURVIVED[: THRESHOLD - 1]).verify(KEYS)
    with pytest.raises(RemoteProtocolError, match="T561"):
        certificate(signers=(), threshold=0).verify(KEYS)


def test_a_signature_of_another_or_of_an_unknown_key_is_wrong() -> None:
    base = certificate()
    keys = {**KEYS, 3: KEYS[4]}
    with pytest.raises(RemoteProtocolError, match="member at 3"):
        base.verify(keys)
    with pytest.raises(RemoteProtocolError, match="member at 5"):
        base.verify({at: key for at, key in KEYS.items() if at != 5})


def test_only_survivors_sign_each_once() -> None:
    base = certificate()
    twice = (*base.signatures[:1], *base.signatures)
    dead = certificate(signers=tuple(range(CLIENTS)))
    for wrong in (
        with_words(base, signatures=twice),
        with_words(base, signatures=base.signatures[::-1]),
        dead,
    ):
        with pytest.raises(RemoteProtocolError) as error:
            wrong.verify(KEYS)
        assert error.value.code == "T551"


def test_fewer_survivors_than_the_terms_demand_are_refused() -> None:
    few = SURVIVED[:9]
    with pytest.raises(RemoteProtocolError, match="9 survivors, fewer than 10"):
        certificate(signers=few, bitmap=bitmap_of(few, CLIENTS)).verify(KEYS)


def test_semi_honest_certificates_need_no_signature_but_bear_no_wrong_one() -> None:
    plain = certificate(terms=terms(mode="semi_honest"), signatures=())
    plain.verify({})
    with pytest.raises(RemoteProtocolError, match="T561"):
        with_words(plain, signatures=((0, bytes(64)),)).verify(KEYS)


def test_it_tells_who_is_in_the_sum() -> None:
    base = certificate()
    assert base.survivors == SURVIVED
    assert tuple(at for at in range(-3, 40) if base.holds(at)) == SURVIVED


def test_it_reads_back_as_it_was_written_and_every_flipped_byte_shows() -> None:
    base = certificate()
    data = base.to_bytes()
    assert RoundCertificate.from_bytes(data) == base
    for at in range(len(data)):
        for flip in (1, 0x80, 0xFF):
            other = data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
            try:
                assert RoundCertificate.from_bytes(other).digest != base.digest
            except RemoteProtocolError as error:
                assert error.code == "T551"  # noqa: PT017 - either of the two is right


def test_what_is_no_certificate_is_refused_and_what_is_too_long_unread() -> None:
    data = certificate().to_bytes()
    for wrong in (b"", b"\x01", data[:-1], data + b"\0", b"\x02" + data[1:]):
        with pytest.raises(RemoteProtocolError, match="T551"):
            RoundCertificate.from_bytes(wrong)

    class Unread(bytes):
        def __getitem__(self, key: Any) -> Any:
            raise AssertionError("read")

    with pytest.raises(RemoteProtocolError, match="T552"):
        RoundCertificate.from_bytes(Unread(data), limit=len(data) - 1)
    assert 100 * len(data) < MOST_CERTIFICATE_BYTES


@pytest.mark.parametrize(
    "change",
    [
        {"roster_root": bytes(31)},
        {"sum_sha256": b""},
        {"bitmap": bytes(1)},
        {"bitmap": bytes(3)},
        {"clients": -1},
        {"threshold": 1 << 32},
        {"signatures": ((0, bytes(63)),)},
    ],
)
def test_a_certificate_that_cannot_be_is_not_made(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        certificate(**change)


def test_a_line_of_the_log_reads_back_and_its_words_cannot_lie() -> None:
    base = certificate()
    line = base.to_line()
    assert "\n" not in line
    assert RoundCertificate.from_line(line) == base
    entry = json.loads(line)
    assert entry["survivors"] == 10
    for name in entry:
        with pytest.raises(RemoteProtocolError, match="T551"):
            RoundCertificate.from_line(json.dumps({**entry, name: "x"}))
        with pytest.raises(RemoteProtocolError, match="T551"):
            RoundCertificate.from_line(json.dumps({key: entry[key] for key in entry if key != name}))
    with pytest.raises(RemoteProtocolError, match="T551"):
        RoundCertificate.from_line(json.dumps({**entry, "more": 1}))
    for wrong in ("", "[]", "null", "{}", '{"certificate": "AQ=="}'):
        with pytest.raises(RemoteProtocolError, match="T551"):
            RoundCertificate.from_line(wrong)


def test_everything_but_the_sum_changes_what_is_signed_and_the_sum_changes_the_digest() -> None:
    base = certificate()
    other = with_words(base, sum_sha256=bytes(32))
    other.verify(KEYS)  # the clients sign before there is a sum: whoever holds it checks it
    assert other.session == base.session
    assert other.digest != base.digest
