"""Laws that every part of a kind obeys, for tacit's own parts and for those of other packages.

Needs the extra ``testing`` (Hypothesis). In a test suite::

    from tacit.testing import check, samples

    @pytest.mark.parametrize("part", [MyStage(strength=2.0)], ids=repr)
    def test_my_stage_obeys_the_laws(part):
        check(part)

And hostile servers and clients of a secure sum, to be played against real machines::

    from tacit.testing import SecureGroup, SplitSurvivors, play

    group = SecureGroup(7, corrupted=["client-006"])
    server = SplitSurvivors(group, {"client-001": group.clients[1:]})
    played = play(group, server)
    assert played.codes["client-001"] == "T559"
    assert not server.learnt.both
"""

from tacit.testing.laws import check, laws_of
from tacit.testing.samples import samples
from tacit.testing.secure_attacks import CLIENT_ATTACKS, SERVER_ATTACKS, WIRE_ATTACKS
from tacit.testing.secure_clients import (
    AnswersTwice,
    DishonestDealer,
    FalseAccuser,
    FalseCommitment,
    ForgedAdvert,
    GarbageShares,
    GarbageVector,
    HostileClient,
    Impersonator,
    LyingAnswer,
    ReplayingClient,
)
from tacit.testing.secure_epochs import EpochParty, SecondEpoch
from tacit.testing.secure_group import OpenEntropy, SecureGroup
from tacit.testing.secure_learnt import Learnt, Record, View, learn
from tacit.testing.secure_play import ClientParty, Played, ServerParty, Wire, play
from tacit.testing.secure_server import CuriousServer, LyingServer, Puppet
from tacit.testing.secure_servers import (
    BiasedGraph,
    DoubledMember,
    GroundGraph,
    OtherModel,
    OtherTerms,
    SmallRoster,
    SplitRoster,
    SubstitutedKeys,
    Sybils,
    TwinKeys,
    WeakParameters,
)
from tacit.testing.secure_survivors import BothSecrets, LateVector, Replay, SmallSum, SplitSurvivors
from tacit.testing.secure_wire import FlippedByte, Oversized

__all__ = [
    "CLIENT_ATTACKS", "SERVER_ATTACKS", "WIRE_ATTACKS",
    "AnswersTwice", "BiasedGraph", "BothSecrets", "ClientParty", "CuriousServer", "DishonestDealer",
    "DoubledMember", "EpochParty", "FalseAccuser", "FalseCommitment", "FlippedByte", "ForgedAdvert",
    "GarbageShares", "GarbageVector", "GroundGraph", "HostileClient", "Impersonator", "LateVector", "Learnt",
    "LyingAnswer", "LyingServer", "OpenEntropy", "OtherModel", "OtherTerms", "Oversized", "Played", "Puppet",
    "Record", "Replay", "ReplayingClient", "SecondEpoch", "SecureGroup", "ServerParty", "SmallRoster",
    "SmallSum", "SplitRoster", "SplitSurvivors", "SubstitutedKeys", "Sybils", "TwinKeys", "View",
    "WeakParameters", "Wire",
    "check", "laws_of", "learn", "play", "samples",
]  # fmt: skip
