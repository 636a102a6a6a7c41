"""The list of all hostile parties of the kit, by the place they take."""

from tacit.testing.secure_clients import (
    AnswersTwice,
    DishonestDealer,
    FalseAccuser,
    FalseCommitment,
    ForgedAdvert,
    GarbageShares,
    GarbageVector,
    Impersonator,
    LyingAnswer,
    ReplayingClient,
)
from tacit.testing.secure_epochs import SecondEpoch
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

SERVER_ATTACKS: tuple[type, ...] = (
    *(SplitRoster, SmallRoster, SubstitutedKeys, TwinKeys, Sybils, DoubledMember),
    *(WeakParameters, BiasedGraph, GroundGraph, OtherTerms, OtherModel),
    *(SplitSurvivors, SmallSum, BothSecrets, LateVector, Replay, SecondEpoch),
)
"""Hostile servers."""

CLIENT_ATTACKS: tuple[type, ...] = (
    *(ForgedAdvert, GarbageShares, DishonestDealer, FalseCommitment, GarbageVector, LyingAnswer),
    *(AnswersTwice, ReplayingClient, Impersonator, FalseAccuser),
)
"""Hostile clients."""

WIRE_ATTACKS: tuple[type, ...] = (FlippedByte, Oversized)
"""Attackers on the wire."""
