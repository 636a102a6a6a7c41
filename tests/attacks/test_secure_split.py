"""A server that tells one half of a group that a client survived, and the other half that it did not.

Bonawitz et al. 2017, section 4: with shares of both of its secrets the server takes all masks off its vector.
"""

from collections.abc import Collection
from random import Random

import numpy as np
import pytest

from tacit.core.errors import RemoteProtocolError
from tacit.secagg.client_checks import Find
from tacit.secagg.events import Send
from tacit.secagg.messages import (
    SURVIVORS,
    Confirmation,
    Message,
    Survivors,
    SurvivorSignature,
    Unmask,
    bitmap_of,
)
from tacit.secagg.parameters import GroupParameters, Mode, Threat, find_parameters
from tests.attacks.secure_view import sum_of, told, view_of, watched
from tests.unit.secagg.playing import Playing, World, make_world


def unnamed(client: str, message: Message) -> tuple[Message, ...]:
    """Keep back who survived."""
    return () if isinstance(message, Survivors) else (message,)


class Split:
    """A group at the point where every vector is in and nobody knows who survived; and a server that lies.

    Attributes:
        playing: The group.
        view: What the server and its colluders have of it.
        refused: Why clients gave up.
    """

    def __init__(self, world: World, victim: int, colluders: Collection[str], random: Random) -> None:
        rows = world.rows(np.random.default_rng(0))
        self.playing = Playing(world, rows, clients=watched(world), to_client=unnamed)  # type: ignore[arg-type]
        self.playing.play()
        self.view = view_of(self.playing, colluders)
        self.refused: set[str] = set()
        self._victim = victim
        members = set(range(len(self.view.members)))
        self._bitmaps = [bitmap_of(said, len(members)) for said in (members, members - {victim})]
        honest = sorted(members - self.view.colluders.keys() - {victim})
        random.shuffle(honest)
        first = {victim, *honest[: len(honest) // 2]}
        self._side = {at: 0 if at in first else 1 for at in [victim, *honest]}
        self._signed: list[dict[int, bytes]] = [{}, {}]

    def attack(self) -> None:
        """Tell each half its own story, and have the colluders sign both."""
        world, view = self.playing.world, self.view
        for at, side in self._side.items():
            self._tell(at, Survivors(view.session, self._bitmaps[side]))
        if not world.terms.is_malicious:
            return
        for own in view.colluders:
            for signed, bitmap in zip(self._signed, self._bitmaps, strict=True):
                signed[own] = world.identities[view.members[own]].sign(SURVIVORS, view.session, bitmap)
        for at, side in self._side.items():
            # What is missing on one side is filled up with signatures of the other story.
            signed = self._signed[1 - side] | self._signed[side]
            told = {own for own in signed if own != at and (side == 0 or own != self._victim)}
            self._tell(at, Confirmation(view.session, tuple((own, signed[own]) for own in sorted(told))))

    def _tell(self, at: int, message: Survivors | Confirmation) -> None:
        try:
            effects = self.playing.clients[self.view.members[at]].receive(message)
        except RemoteProtocolError as error:
            self.refused.add(error.code)
            return
        for effect in effects:
            match effect:
                case Send(SurvivorSignature(signature=signature)):
                    self._signed[self._side[at]][at] = signature
                case Send(Unmask() as answer):
                    self.view.answers.append(answer)


def narrow(clients: int, threat: Threat) -> GroupParameters:
    """Return a threshold that no server reaches who follows the protocol, and a liar twice."""
    return GroupParameters(clients, clients - 1, 4)


@pytest.mark.parametrize(
    ("mode", "find", "is_safe"),
    [
        ("semi_honest", find_parameters, False),
        ("malicious", narrow, False),
        ("malicious", find_parameters, True),
    ],
)
def test_two_survivor_sets_show_a_row_unless_signatures_and_threshold_forbid_it(
    mode: Mode, find: Find, is_safe: bool
) -> None:
    world = make_world(10, mode=mode, find=find)
    split = Split(world, 3, ["client-0009"], Random(0))
    split.attack()
    assert (sum_of([3]) in told(split.view, split.playing)) is not is_safe
    assert split.refused == ({"T559"} if is_safe else set())


@pytest.mark.parametrize("seed", range(20))
def test_however_the_survivors_are_split_no_row_shows(seed: int) -> None:
    random = Random(seed)
    clients = random.randrange(5, 21)
    world = make_world(clients, corrupt=0.2, dropout=0.0, seed=seed)
    corrupt = Threat(0.2, 0.0, "malicious").corrupt_members(clients)
    colluders = random.sample(world.clients, corrupt)
    honest = [at for at, name in enumerate(world.clients) if name not in colluders]
    split = Split(world, random.choice(honest), colluders, random)
    split.attack()
    assert told(split.view, split.playing) <= {sum_of(honest)}
