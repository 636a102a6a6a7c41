"""A client joins an epoch if all of it is right, and lets each update into one sum at most."""

from dataclasses import dataclass, replace
from random import Random

import numpy as np
import pytest

from tacit.codec import Chain, ClipL2, Codec, Discount, OnGrid, Weigh
from tacit.core.errors import LocalProtocolError, RemoteProtocolError
from tacit.core.spec import UpdateSpec
from tacit.core.stage import StageContext
from tacit.secagg.client import SecureClient
from tacit.secagg.epoch_client import EpochClient
from tacit.secagg.epoch_events import CheckedIn, EpochEnded, Offer, OpenEpoch, models_digest
from tacit.secagg.events import (
    ClientEffect,
    ClientEvent,
    GroupFailed,
    Invited,
    Leave,
    Masks,
    RowReady,
    Summed,
)
from tacit.secagg.messages import Roster
from tacit.secagg.ring import LaneGroup, Ring
from tacit.secagg.terms import Terms
from tests.unit.secagg.epoch_setting import WORLD, Setting, model
from tests.unit.secagg.playing import Playing, World, make_world


def offered(setting: Setting, *, versions: int = 4, number: int = 0) -> Offer:
    models = tuple((version, model(version)) for version in range(max(0, versions - 3), versions))
    bound = models_digest(number, models)
    terms = setting.terms(number=number, round=versions - 1, base_round=models[0][0], model_sha256=bound)
    return Offer(number, terms, models)


def member(name: str = WORLD.clients[0], world: World = WORLD, base: int = 2, most: int = 5) -> EpochClient:
    client = EpochClient(lambda terms: world.client(name, terms=terms), max_staleness=most)
    client.trained(base, model(base))
    return client


@dataclass
class Member:
    """Lets `Playing` drive a client into an epoch: it joins where it would be invited."""

    client: EpochClient
    offer: Offer
    staleness: int = -1

    @property
    def complaint(self) -> object:
        return self.client.complaint

    def receive(self, event: ClientEvent) -> tuple[ClientEffect, ...]:
        if isinstance(event, Invited):
            self.staleness, effects = self.client.join(self.offer)
            return effects
        return self.client.receive(event) if self.client.state == "joined" else ()


def play(
    setting: Setting,
    offer: Offer,
    clients: dict[str, EpochClient],
    rows: dict[str, np.ndarray],
    **words: object,
) -> Playing:
    world = replace(
        setting.world,
        clients=tuple(clients),
        terms=offer.terms,
        server_private_key=setting.keys[offer.number],
    )
    members = {name: Member(client, offer) for name, client in clients.items()}
    playing = Playing(world, rows, clients=members, **words)  # type: ignore[arg-type]
    playing.play()
    return playing


def test_a_client_joins_with_the_staleness_that_the_terms_give() -> None:
    client = member(base=1)
    staleness, (effect,) = client.join(offered(Setting(WORLD)))
    assert staleness == 2
    assert client.state == "joined"
    assert effect is not None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"number": 1}, "another epoch"),
        ({"models": ((1, model(1)), (2, model(9)), (3, model(3)))}, "another epoch"),
        ({"models": ((2, model(2)), (3, model(3)))}, "every version"),
        ({"models": ((3, model(3)), (2, model(2)), (1, model(1)))}, "every version"),
    ],
)
def test_an_offer_whose_terms_say_something_else_is_not_accepted(
    change: dict[str, object], words: str
) -> None:
    client = member()
    with pytest.raises(RemoteProtocolError, match=words) as caught:
        client.join(replace(offered(Setting(WORLD)), **change))  # type: ignore[arg-type]
    assert caught.value.code == "T556"
    assert client.state == "waiting"


def test_a_client_that_was_given_a_model_of_its_own_does_not_join() -> None:
    client = EpochClient(lambda terms: WORLD.client(WORLD.clients[0], terms=terms), max_staleness=5)
    client.trained(2, model(77))
    with pytest.raises(RemoteProtocolError, match="the model that the update was trained from"):
        client.join(offered(Setting(WORLD)))


def test_the_device_may_be_stricter_about_staleness_than_the_server() -> None:
    with pytest.raises(RemoteProtocolError, match="2 versions old"):
        member(base=1, most=1).join(offered(Setting(WORLD)))
    assert member(base=2, most=1).join(offered(Setting(WORLD)))[0] == 1


def test_a_client_is_in_one_epoch_at_a_time() -> None:
    setting, client = Setting(WORLD), member()
    client.join(offered(setting))
    with pytest.raises(LocalProtocolError):
        client.join(offered(setting, number=1))
    with pytest.raises(LocalProtocolError):
        client.trained(3, model(3))


def test_an_epoch_that_ends_before_the_vector_leaves_the_update_for_another() -> None:
    setting, client = Setting(WORLD), member()
    client.join(offered(setting))
    client.receive(Leave("the group failed"))
    assert (client.state, client.spent) == ("waiting", -1)
    client.join(offered(setting, number=1))
    with pytest.raises(RemoteProtocolError):
        client.receive(Roster(bytes(32), (), 2, 2, ()))
    assert client.state == "waiting"
    assert client.complaint is not None


class StoppedError(Exception):
    """The driver breaks off."""


def test_an_update_is_spent_before_its_vector_leaves_whatever_becomes_of_the_group() -> None:
    setting, name = Setting(WORLD), WORLD.clients[0]
    clients = {other: member(other) for other in WORLD.clients}
    rows = WORLD.rows(np.random.default_rng(1))
    # Two of five vanish with their answers: the group fails after all vectors are there.
    leaves = dict.fromkeys(WORLD.clients[3:], "unmask")
    failed = play(setting, offered(setting), clients, rows, leaves=leaves).result
    assert isinstance(failed, GroupFailed)
    for client in clients.values():
        assert (client.state, client.spent) == ("idle", 2)
    with pytest.raises(LocalProtocolError):
        clients[name].join(offered(setting, number=1))
    for base in (0, 1, 2):
        with pytest.raises(LocalProtocolError) as caught:
            clients[name].trained(base, model(base))
        assert caught.value.code == "T577"
    clients[name].trained(3, model(3))
    assert clients[name].join(offered(setting, number=1))[0] == 0


@pytest.mark.parametrize("words", [None, np.zeros(1, np.uint64)])
def test_a_vector_that_goes_another_way_or_fails_to_leave_spends_the_update_too(
    words: np.ndarray | None,
) -> None:
    seen = []

    def machine(terms: Terms) -> SecureClient:
        real = WORLD.client(WORLD.clients[0], terms=terms)
        receive = real.receive

        def watched(event: ClientEvent) -> tuple[ClientEffect, ...]:
            if isinstance(event, RowReady):
                seen.append(client.spent)
                raise StoppedError
            return receive(event)

        real.receive = watched  # type: ignore[method-assign]
        return real

    client = EpochClient(machine, max_staleness=5)
    client.trained(2, model(2))
    client.join(offered(Setting(WORLD)))
    with pytest.raises(StoppedError):
        client.receive(RowReady(words))
    assert seen == [2]


# --- all of it ----------------------------------------------------------------------------------------

UPDATE = UpdateSpec.of(parameters=6)
STEP = 2.0**-16
CODEC = Codec(
    Chain(
        (
            ClipL2(bound=1.0),
            Weigh(cap=100),
            Discount(exponent=0.5),
            OnGrid(steps={"parameters": STEP, "weight": STEP}),
        )
    ),
    UPDATE,
)
RING = Ring((LaneGroup(6, 32), LaneGroup(1, 52)))


def test_two_epochs_of_stale_and_fresh_updates_sum_to_what_their_discounts_say() -> None:
    setting = Setting(make_world(12, ring=RING))
    names = setting.world.clients
    bases = {name: index % 3 for index, name in enumerate(names)}
    epochs = setting.epochs(versions=3, size=6)
    rng = np.random.default_rng(3)
    updates = {name: rng.normal(size=6).astype(np.float32) * 0.1 for name in names}
    examples = {name: int(rng.integers(1, 100)) for name in names}
    sums: list[Summed] = []
    for name in names:
        for effect in epochs.receive(CheckedIn(name, bases[name])):
            if isinstance(effect, OpenEpoch):
                sums.append(_epoch(setting, effect, bases, updates, examples))
                epochs.receive(EpochEnded(effect.offer.number, sums[-1].survivors))
    first, second = sums
    assert set(first.survivors).isdisjoint(second.survivors)
    assert len(first.survivors) == len(second.survivors) == 5
    total = (first.total + second.total) * STEP
    there = (*first.survivors, *second.survivors)
    weights = np.array([examples[n] * (1 + 2 - bases[n]) ** -0.5 for n in there])
    mean = weights @ np.stack([updates[n] for n in there]) / weights.sum()
    assert np.allclose(total[:6] / total[6], mean, atol=len(there) * STEP)
    assert total[6] == pytest.approx(weights.sum(), abs=len(there) * STEP)


def _epoch(
    setting: Setting,
    opened: OpenEpoch,
    bases: dict[str, int],
    updates: dict[str, np.ndarray],
    examples: dict[str, int],
) -> Summed:
    """Play an epoch of which one client vanishes before its vector."""
    clients = {name: member(name, setting.world, bases[name]) for name in opened.clients}
    rows = {}
    for name in clients:
        ctx = StageContext(
            UPDATE,
            0,
            opened.offer.terms.round,
            (name,),
            np.array([examples[name]]),
            staleness=opened.offer.terms.round - bases[name],
        )
        sent, _ = CODEC.encode(updates[name][None].copy(), {}, ctx)
        rows[name] = np.round(sent[0].astype(np.float64) / STEP).astype(np.int64)
    playing = play(
        setting, opened.offer, clients, rows, leaves={opened.clients[1]: "vector"}, random=Random(4)
    )
    for name, one in playing.clients.items():
        assert one.staleness == 2 - bases[name]  # type: ignore[attr-defined]
        assert clients[name].spent == bases[name]
    assert isinstance(playing.result, Summed)
    assert np.array_equal(playing.result.total, playing.expected(playing.result.survivors))
    return playing.result


def test_masks_are_handed_out_only_for_an_epoch_that_was_joined() -> None:
    client = member()
    with pytest.raises(LocalProtocolError):
        client.receive(RowReady(None))
    assert client.spent == -1
    _, effects = client.join(offered(Setting(WORLD)))
    assert not any(isinstance(effect, Masks) for effect in effects)
