import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.core.errors import RemoteProtocolError
from tacit.secagg.identity import (
    Authority,
    Certificate,
    Enrolment,
    Identity,
    RememberingVerifier,
    Revocation,
    is_signed,
    verify,
)

AUTHORITY, ANN, BEN = Authority.generate(), Identity.generate(), Identity.generate()
TODAY = 20_000
CERTIFICATE = AUTHORITY.enrol("ann", ANN.public, last_day=TODAY)
ENROLMENT = AUTHORITY.enrolment(TODAY)
# RFC 8032, section 7.1, test 1: the empty message.
RFC_PRIVATE = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
RFC_PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
RFC_SIGNATURE = bytes.fromhex(
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595b"
    "be24655141438e7a100b"
)


def refused(certificate: Certificate, client: str, enrolment: Enrolment = ENROLMENT) -> str:
    with pytest.raises(RemoteProtocolError) as error:
        enrolment.check(certificate, client)
    assert error.value.code == "T562"
    return error.value.what


def test_signatures_are_those_of_rfc_8032() -> None:
    assert Identity.from_private_bytes(RFC_PRIVATE).public == RFC_PUBLIC
    assert is_signed(RFC_PUBLIC, RFC_SIGNATURE, b"")
    assert not is_signed(RFC_PUBLIC, RFC_SIGNATURE, b"\0")


def test_an_identity_that_was_kept_is_the_same_one() -> None:
    assert Identity.from_private_bytes(ANN.private_bytes()).public == ANN.public


@settings(max_examples=40, deadline=None)
@given(
    a=st.tuples(st.text(max_size=4), st.lists(st.binary(max_size=4), max_size=3)),
    b=st.tuples(st.text(max_size=4), st.lists(st.binary(max_size=4), max_size=3)),
)
def test_a_signature_holds_for_its_own_label_and_parts_only(
    a: tuple[str, list[bytes]], b: tuple[str, list[bytes]]
) -> None:
    signature = ANN.sign(a[0], *a[1])
    assert verify(ANN.public, signature, b[0], *b[1]) == (a == b)
    assert verify(ANN.public, signature, a[0], *a[1])


def test_parts_cannot_be_shifted_into_one_another() -> None:
    signature = ANN.sign("label", b"ab", b"c")
    assert not verify(ANN.public, signature, "label", b"a", b"bc")
    assert not verify(ANN.public, signature, "label", b"abc")
    assert not verify(ANN.public, signature, "labelab", b"c")


def test_every_flipped_byte_of_a_signature_or_key_makes_it_wrong() -> None:
    signature = ANN.sign("label", b"part")
    for at in range(len(signature)):
        flipped = bytearray(signature)
        flipped[at] ^= 1
        assert not verify(ANN.public, bytes(flipped), "label", b"part")
    for at in range(len(ANN.public)):
        flipped = bytearray(ANN.public)
        flipped[at] ^= 1
        assert not verify(bytes(flipped), signature, "label", b"part")


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33)])
def test_what_is_no_key_or_no_signature_is_wrong_and_no_failure(key: bytes) -> None:
    assert not is_signed(key, bytes(64), b"message")
    assert not is_signed(ANN.public, key, b"message")


def test_a_remembering_verifier_gives_the_plain_answer_and_asks_once() -> None:
    asked: list[bytes] = []

    def counted(public: bytes, signature: bytes, message: bytes, /) -> bool:
        asked.append(message)
        return is_signed(public, signature, message)

    verifier = RememberingVerifier(verifier=counted)
    right, wrong = ANN.sign("label", b"part"), BEN.sign("label", b"part")
    for _ in range(3):
        assert verify(ANN.public, right, "label", b"part", verifier=verifier)
        assert not verify(ANN.public, wrong, "label", b"part", verifier=verifier)
        assert not verify(ANN.public, right, "label", b"other", verifier=verifier)
    assert len(asked) == len(verifier) == 3


def test_a_remembering_verifier_mistakes_no_bytes_of_the_key_for_bytes_of_the_signature() -> None:
    answers = iter([True, False])
    verifier = RememberingVerifier(verifier=lambda *_: next(answers))
    assert verifier(b"ab", b"c", b"") is True
    assert verifier(b"a", b"bc", b"") is False


def test_a_remembering_verifier_stays_within_its_bound() -> None:
    verifier = RememberingVerifier(most=2, verifier=lambda *_: True)
    for message in (b"1", b"2", b"3", b"4"):
        verifier(b"", b"", message)
    assert len(verifier) == 2


def test_a_certificate_counts_up_to_and_including_its_last_day() -> None:
    ENROLMENT.check(CERTIFICATE, "ann")
    assert "run out" in refused(CERTIFICATE, "ann", AUTHORITY.enrolment(TODAY + 1))


def test_a_certificate_is_good_for_its_own_client_only() -> None:
    assert "'ann'" in refused(CERTIFICATE, "ben")


def test_another_authority_vouches_for_nobody() -> None:
    stranger = Authority.generate()
    assert "not signed" in refused(stranger.enrol("ann", ANN.public, TODAY), "ann")
    assert "not signed" in refused(CERTIFICATE, "ann", stranger.enrolment(TODAY))


@pytest.mark.parametrize(
    "change", [{"client": "ben"}, {"key": BEN.public}, {"last_day": TODAY + 1}, {"signature": bytes(64)}]
)
def test_no_word_of_a_certificate_can_be_changed(change: dict[str, object]) -> None:
    words = {name: getattr(CERTIFICATE, name) for name in CERTIFICATE.__struct_fields__}
    changed = Certificate(**{**words, **change})
    assert "not signed" in refused(changed, changed.client)


def test_a_revoked_key_counts_no_more_even_with_a_new_certificate() -> None:
    authority = Authority.generate()
    before = authority.enrolment(TODAY)
    revocation = authority.revoke(ANN.public)
    for enrolment in (authority.enrolment(TODAY), before.revoking(revocation)):
        assert "revoked" in refused(authority.enrol("ann", ANN.public, TODAY + 9), "ann", enrolment)
        enrolment.check(authority.enrol("ben", BEN.public, TODAY), "ben")


def test_a_list_of_revoked_keys_is_the_authoritys_or_refused_and_an_old_one_takes_nothing_back() -> None:
    authority = Authority.generate()
    first, second = authority.revoke(ANN.public), authority.revoke(BEN.public)
    both = authority.enrolment(TODAY).revoking(second)
    assert both.revoking(first) == both == authority.enrolment(TODAY)
    for forged in (Revocation(second.keys[:1], second.signature), Revocation((), bytes(64))):
        with pytest.raises(RemoteProtocolError, match="T562"):
            both.revoking(forged)


def test_the_root_tells_authority_and_revocations_and_not_the_day() -> None:
    a, b = bytes(32), bytes([1] * 32)
    root = Enrolment(AUTHORITY.public, frozenset({a, b}), 1).root
    assert root == Enrolment(AUTHORITY.public, frozenset({b, a}), 2).root
    others = [(AUTHORITY.public, {a}), (AUTHORITY.public, set()), (BEN.public, {a, b})]
    assert root not in {Enrolment(key, frozenset(revoked), 1).root for key, revoked in others}
    assert len(root) == 32


def test_no_private_key_is_printed_or_pickled() -> None:
    secret = ANN.private_bytes()
    assert secret.hex() not in repr(ANN) + str(ANN)
    assert repr(AUTHORITY) == f"Authority(public={AUTHORITY.public.hex()})"
    for holder in (ANN, AUTHORITY):
        with pytest.raises(TypeError):
            pickle.dumps(holder)


def test_only_keys_are_enrolled() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        AUTHORITY.enrol("ann", b"short", TODAY)
