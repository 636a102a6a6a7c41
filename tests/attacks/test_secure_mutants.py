"""A weaker secure sum is found: each fault is put into the real code, and the check for it must fail.

The checks are those that the other tests hold the real code against; here they pass once without a fault.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from tacit.core.errors import RemoteProtocolError
from tacit.secagg import adverts, client, client_checks, collecting, messages, unmasking
from tacit.secagg.attendance import Attendance
from tacit.secagg.client import SecureClient
from tacit.secagg.client_secrets import RoundSecrets
from tacit.secagg.epoch_client import EpochClient
from tacit.secagg.identity import Enrolment
from tacit.secagg.intake import VectorIntake
from tacit.secagg.keys import ChunkTags
from tacit.secagg.messages import Roster, Survivors
from tacit.secagg.shamir import SHARE_BYTES, Recovery, combine
from tacit.secagg.terms import Terms
from tacit.testing import (
    ForgedAdvert,
    GarbageVector,
    Impersonator,
    LyingAnswer,
    secure_play,
)
from tests.attacks import secure_checks as checks
from tests.attacks.secure_checks import FIRST

Patch = pytest.MonkeyPatch


# --- the checks, each of what suits it ---------------------------------------------------------


def stolen_keys() -> None:
    checks.substituted_keys("stolen", "T557")


def signed_keys() -> None:
    checks.substituted_keys("signed", "T557")


def forged_keys() -> None:
    checks.substituted_keys("forged", "T562")


def forged_sybils() -> None:
    checks.sybils("forged", "T562")


def unenrolled_sybils() -> None:
    checks.sybils("unenrolled", "T557")


def duplicated_sybils() -> None:
    checks.sybils("duplicated", "T562")


def expired_sybils() -> None:
    checks.sybils("expired", "T562")


def fewer_neighbours() -> None:
    checks.weak_parameters(0, 2)


def asked_while_signed() -> None:
    checks.both_secrets("signed")


def asked_once_revealed() -> None:
    checks.both_secrets("revealed")


def many_splits() -> None:
    for seed in range(40):
        checks.any_split(5 + seed % 5, 0, seed)


def few_bad_shares() -> None:
    checks.dealer_corrected(2)


def lies_together() -> None:
    checks.lying_together(LyingAnswer)


def wrong_tag() -> None:
    checks.dropped(lambda group, name: GarbageVector(group, name, "wrong"), "T561")


def wrong_last_tag() -> None:
    checks.dropped(lambda group, name: GarbageVector(group, name, "last"), "T561")


def unordered_pieces() -> None:
    checks.dropped(lambda group, name: GarbageVector(group, name, "unordered"), "T565")


def other_length() -> None:
    checks.dropped(lambda group, name: GarbageVector(group, name, "long"), "T565")


def impersonator() -> None:
    checks.dropped(lambda group, name: Impersonator(group, name, 0), "T555")


def unenrolled_client() -> None:
    checks.dropped(lambda group, name: ForgedAdvert(group, name, "unenrolled"), "T557")


def stolen_certificate() -> None:
    checks.dropped(lambda group, name: ForgedAdvert(group, name, "stolen"), "T557")


def lying_answer() -> None:
    checks.corrected(LyingAnswer, [FIRST], FIRST)


def lying_answers() -> None:
    """Again and again: three times in four what wrong shares make is too large for a secret, and shows so."""
    for _ in range(20):
        lying_answer()


def flipped_vector() -> None:
    for index in (60, 100):
        checks.flipped(messages.VectorChunk, index)


def oversized_roster() -> None:
    checks.oversized(Roster)


# --- the faults --------------------------------------------------------------------------------


def certificates_are_not_checked(patch: Patch) -> None:
    patch.setattr(Enrolment, "check", lambda *args, **named: None)


def certificates_never_run_out(patch: Patch) -> None:
    original = Enrolment.check

    def check(self: Enrolment, certificate: Any, name: str, **named: Any) -> None:
        original(msgspec.structs.replace(self, day=0), certificate, name, **named)

    patch.setattr(Enrolment, "check", check)


def certificates_count_for_anybody(patch: Patch) -> None:
    original = Enrolment.check
    patch.setattr(
        Enrolment,
        "check",
        lambda self, certificate, name, **named: original(self, certificate, certificate.client, **named),
    )


def adverts_are_not_checked(patch: Patch) -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith("tacit.secagg.") and hasattr(module, "check_advert"):
            patch.setattr(module, "check_advert", lambda *args: None)


def advert_signatures_are_not_verified(patch: Patch) -> None:
    patch.setattr(adverts, "verify", lambda *args, **named: True)


def parameters_are_not_checked(patch: Patch) -> None:
    patch.setattr(client_checks, "_check_parameters", lambda *args: None)


def weaker_parameters_pass(patch: Patch) -> None:
    patch.setattr(client_checks, "weaker_than", lambda *args: "")


def terms_are_not_checked(patch: Patch) -> None:
    patch.setattr(client, "check_terms", lambda *args: None)


def keys_may_be_there_twice(patch: Patch) -> None:
    patch.setattr(client_checks, "_check_keys", lambda *args: None)


def members_may_be_there_twice(patch: Patch) -> None:
    """Read a roster as if its order were right: its doubles renamed, so that they ascend."""
    original = client.read_roster

    def read(roster: Roster, *rest: Any) -> Any:
        ids = [name for name, _, _ in roster.members]
        renamed = [
            (name + "+" * ids[:at].count(name), nonce, digest)
            for at, (name, nonce, digest) in enumerate(roster.members)
        ]
        return original(msgspec.structs.replace(roster, members=tuple(renamed)), *rest)

    patch.setattr(client, "read_roster", read)


def the_graph_is_the_servers(patch: Patch) -> None:
    original = client.read_roster

    def read(roster: Roster, *rest: Any) -> Any:
        ids = [name for name, _, _ in roster.members]
        shown = tuple(ids.index(advert.client) for advert in roster.adverts)
        patch.setattr(client_checks, "neighbours_of", lambda *args: shown)
        return original(roster, *rest)

    patch.setattr(client, "read_roster", read)


def the_model_is_not_in_the_terms_id(patch: Patch) -> None:
    original = Terms.assignment_id.fget  # type: ignore[attr-defined]
    patch.setattr(
        Terms,
        "assignment_id",
        property(lambda self: original(msgspec.structs.replace(self, model_sha256=bytes(32)))),
    )


def a_few_endorsements_are_enough(patch: Patch) -> None:
    original = client_checks.read_delivery
    patch.setattr(
        client,
        "read_delivery",
        lambda delivery, group, *rest: original(delivery, _with_threshold(group, 1), *rest),
    )


def _with_threshold(group: Any, threshold: int) -> Any:
    return type(group)(group.session, group.position, group.clients, threshold, group.adverts)


def survivors_are_not_confirmed(patch: Patch) -> None:
    patch.setattr(client, "check_confirmation", lambda *args: None)


def a_signature_less_is_enough(patch: Patch) -> None:
    original = client_checks.check_confirmation
    patch.setattr(
        client,
        "check_confirmation",
        lambda message, bitmap, alive, group, verifier: original(
            message, bitmap, alive, _with_threshold(group, max(1, group.threshold - 2)), verifier
        ),
    )


def survivor_signatures_are_not_verified(patch: Patch) -> None:
    patch.setattr(client_checks, "verify", lambda *args, **named: True)


def any_number_may_survive(patch: Patch) -> None:
    original = client.read_survivors

    def read(survivors: Survivors, group: Any, holders: Any, terms: Terms) -> Any:
        least = msgspec.structs.replace(terms, min_cohort=2)
        return original(survivors, _with_threshold(group, 1), holders, least)

    patch.setattr(client, "read_survivors", read)
    patch.setattr(client, "check_confirmation", lambda *args: None)


def a_second_survivor_set_is_signed(patch: Patch) -> None:
    original: Any = vars(SecureClient)["_take"]

    def take(self: Any, event: Any) -> Any:
        if isinstance(event, Survivors) and self._state == "signed":
            self._state = "masked"
        return original(self, event)

    patch.setattr(SecureClient, "_take", take)


def a_second_answer_is_given(patch: Patch) -> None:
    original: Any = vars(SecureClient)["_take"]

    def take(self: Any, event: Any) -> Any:
        if isinstance(event, Survivors) and self._state == "revealed":
            self._alive = client.read_survivors(event, self._group, self._secrets.holders, self._terms)
            return self._reveal()
        return original(self, event)

    patch.setattr(SecureClient, "_take", take)
    patch.setattr(RoundSecrets, "give", _given_without_wiping)


def _given_without_wiping(self: Any, alive: Any) -> Any:
    held = self._held.items()
    return (
        tuple((at, bytes(share[:SHARE_BYTES])) for at, share in held if at in alive),
        tuple((at, bytes(share[SHARE_BYTES:])) for at, share in held if at not in alive),
    )


def both_secrets_are_given(patch: Patch) -> None:
    def give(self: Any, alive: Any) -> Any:
        held = self._held.items()
        both = (
            tuple((at, bytes(share[:SHARE_BYTES])) for at, share in held),
            tuple((at, bytes(share[SHARE_BYTES:])) for at, share in held),
        )
        self.wipe()
        return both

    patch.setattr(RoundSecrets, "give", give)


def secrets_are_not_overwritten(patch: Patch) -> None:
    patch.setattr(SecureClient, "_wipe", lambda self: None)


def no_self_mask(patch: Patch) -> None:
    original = RoundSecrets.open
    patch.setattr(RoundSecrets, "open", lambda self, group, dealt: original(self, group, dealt)[1:])


def no_masks_but_the_own(patch: Patch) -> None:
    original = RoundSecrets.open
    patch.setattr(RoundSecrets, "open", lambda self, group, dealt: original(self, group, dealt)[:1])


def sessions_are_not_compared(patch: Patch) -> None:
    patch.setattr(client_checks, "_same_session", lambda *args: None)


def updates_are_not_spent(patch: Patch) -> None:
    def receive(self: Any, event: Any) -> Any:
        return self._machine.receive(event)

    patch.setattr(EpochClient, "receive", receive)


def tags_are_not_checked(patch: Patch) -> None:
    patch.setattr(ChunkTags, "check", lambda *args: None)


def broken_vectors_stay_in_the_sum(patch: Patch) -> None:
    patch.setattr(VectorIntake, "drop", lambda self, name: self._arriving.pop(name, None) and None)


def pieces_come_in_any_order(patch: Patch) -> None:
    original = VectorIntake.take

    def take(self: Any, name: str, chunk: Any) -> bool:
        due = len(self._arriving[name].parts)
        patch.setattr(ChunkTags, "check", lambda *args: None)
        return original(self, name, msgspec.structs.replace(chunk, index=due))

    patch.setattr(VectorIntake, "take", take)


def senders_are_not_checked(patch: Patch) -> None:
    patch.setattr(collecting, "check_sender", lambda *args: None)
    patch.setattr(collecting, "_check_signature", lambda *args: None)


def rebuilt_secrets_are_not_compared(patch: Patch) -> None:
    patch.setattr(unmasking, "_right", lambda *args: lambda secret: True)


def liars_are_not_looked_for(patch: Patch) -> None:
    def recover(shares: Mapping[int, bytes], threshold: int, is_right: Any) -> Recovery:
        try:
            secret = combine(shares, threshold)
        except RemoteProtocolError:
            return Recovery(None)
        return Recovery(secret if is_right(secret) else None)

    patch.setattr(unmasking, "recover", recover)


def one_accuser_is_believed(patch: Patch) -> None:
    original = Attendance.accuse
    patch.setattr(Attendance, "accuse", lambda self, *args: original(self, *args[:-1], 0))


def what_comes_twice_counts_twice(patch: Patch) -> None:
    original = VectorIntake.take

    def take(self: Any, name: str, chunk: Any) -> bool:
        words = np.frombuffer(chunk.body, "<u8")
        whole = original(self, name, chunk)
        self._place(chunk.index)[...] += words
        return whole

    patch.setattr(VectorIntake, "take", take)


def sealed_shares_are_not_authenticated(patch: Patch) -> None:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    from tacit.secagg import keys
    from tacit.secagg.secret import Secret

    def read(key: bytes, session: bytes, sender: int, to: int, sealed: bytes, about: bytes = b"") -> Secret:
        counter = bytes(12) + (2).to_bytes(4, "big")
        return Secret(Cipher(algorithms.AES256(key), modes.CTR(counter)).decryptor().update(sealed[:-16]))

    patch.setattr(keys, "open", read)


def lengths_are_not_limited(patch: Patch) -> None:
    original = messages.decode
    patch.setattr(secure_play, "decode", lambda data, kind, limit: original(data, kind, len(data)))


class Fault(NamedTuple):
    """A fault, and the check that must find it."""

    put: Callable[[Patch], None]
    check: Callable[[], None]

    @property
    def name(self) -> str:
        return f"{self.put.__name__}-{self.check.__name__}"


FAULTS = [
    Fault(certificates_are_not_checked, forged_keys),
    Fault(certificates_are_not_checked, forged_sybils),
    Fault(certificates_are_not_checked, duplicated_sybils),
    Fault(certificates_never_run_out, expired_sybils),
    Fault(certificates_count_for_anybody, duplicated_sybils),
    Fault(adverts_are_not_checked, stolen_keys),
    Fault(adverts_are_not_checked, signed_keys),
    Fault(adverts_are_not_checked, unenrolled_sybils),
    Fault(adverts_are_not_checked, unenrolled_client),
    Fault(advert_signatures_are_not_verified, stolen_keys),
    Fault(advert_signatures_are_not_verified, signed_keys),
    Fault(advert_signatures_are_not_verified, stolen_certificate),
    Fault(parameters_are_not_checked, checks.small_roster),
    Fault(parameters_are_not_checked, checks.weak_parameters),
    Fault(weaker_parameters_pass, checks.weak_parameters),
    Fault(weaker_parameters_pass, fewer_neighbours),
    Fault(terms_are_not_checked, checks.own_floor),
    Fault(terms_are_not_checked, checks.weaker_terms),
    Fault(keys_may_be_there_twice, checks.twin_keys),
    Fault(members_may_be_there_twice, checks.doubled_member),
    Fault(the_graph_is_the_servers, checks.biased_graph),
    Fault(a_few_endorsements_are_enough, checks.ground_graph),
    Fault(the_model_is_not_in_the_terms_id, checks.other_model),
    Fault(a_few_endorsements_are_enough, checks.split_roster),
    Fault(a_few_endorsements_are_enough, checks.split_roster_with_a_majority),
    Fault(survivors_are_not_confirmed, checks.split_survivors),
    Fault(survivors_are_not_confirmed, many_splits),
    Fault(a_signature_less_is_enough, many_splits),
    Fault(survivor_signatures_are_not_verified, checks.split_survivors),
    Fault(survivor_signatures_are_not_verified, many_splits),
    Fault(any_number_may_survive, checks.small_sum),
    Fault(a_second_survivor_set_is_signed, asked_while_signed),
    Fault(a_second_answer_is_given, asked_once_revealed),
    Fault(both_secrets_are_given, checks.honest_server),
    Fault(secrets_are_not_overwritten, checks.split_survivors),
    Fault(secrets_are_not_overwritten, forged_keys),
    Fault(no_self_mask, checks.late_vector),
    Fault(no_masks_but_the_own, checks.late_vector),
    Fault(sessions_are_not_compared, checks.replays_of_another_round),
    Fault(a_second_survivor_set_is_signed, checks.replays_of_this_round),
    Fault(updates_are_not_spent, checks.second_epoch),
    Fault(tags_are_not_checked, wrong_tag),
    Fault(tags_are_not_checked, flipped_vector),
    Fault(broken_vectors_stay_in_the_sum, wrong_last_tag),
    Fault(pieces_come_in_any_order, unordered_pieces),
    Fault(senders_are_not_checked, impersonator),
    Fault(rebuilt_secrets_are_not_compared, lying_answers),
    Fault(liars_are_not_looked_for, lying_answer),
    Fault(liars_are_not_looked_for, few_bad_shares),
    Fault(rebuilt_secrets_are_not_compared, checks.dealer_stopped),
    Fault(rebuilt_secrets_are_not_compared, checks.false_commitment),
    Fault(adverts_are_not_checked, checks.replaying_client),
    Fault(senders_are_not_checked, checks.replaying_client),
    Fault(one_accuser_is_believed, checks.false_accuser),
    Fault(both_secrets_are_given, lies_together),
    Fault(what_comes_twice_counts_twice, checks.sent_twice),
    Fault(sealed_shares_are_not_authenticated, checks.garbage_shares),
    Fault(lengths_are_not_limited, oversized_roster),
]


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_weaker_protection_is_found(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault.put(monkeypatch)
    with pytest.raises((AssertionError, RemoteProtocolError)):
        fault.check()


@pytest.mark.parametrize("check", sorted({fault.check for fault in FAULTS}, key=lambda check: check.__name__))
def test_the_checks_pass_without_a_fault(check: Callable[[], None]) -> None:
    check()
