"""A server that has all messages, and colluders' secrets, learns sums over all honest survivors, no more."""

from collections.abc import Collection, Mapping, Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tacit.secagg.client_checks import Find
from tacit.secagg.client_secrets import Given, RoundSecrets
from tacit.secagg.events import Summed
from tacit.secagg.messages import (
    Survivors,
)
from tacit.secagg.parameters import GroupParameters, Mode, Threat, find_parameters
from tests.attacks.secure_view import (
    PRIME,
    View,
    left_null,
    parts,
    sum_of,
    told,
    view_of,
    watched,
)
from tests.laws.secure_schedules import MODES, Hasty, Schedule, schedules
from tests.unit.secagg.playing import Playing, make_world


def check(playing: Playing, colluders: Collection[str]) -> list[set[int]]:
    """Check: the view says no more than the sums over all honest survivors that hang together."""
    result, view = playing.result, view_of(playing, colluders)
    survivors = result.survivors if isinstance(result, Summed) else named_in(playing, view)
    whole = parts(view, survivors)
    found, sums = told(view, playing), {sum_of(part) for part in whole}
    assert found == sums if isinstance(result, Summed) else found <= sums
    assert all(len(part) > 1 for part in whole)
    return whole


def named_in(playing: Playing, view: View) -> list[str]:
    """Return the survivors that the server named, in a group that failed later."""
    bitmaps = {m.bitmap for _, _, m in playing.transcript if isinstance(m, Survivors)}
    assert len(bitmaps) <= 1
    return [view.members[at] for b in bitmaps for at in range(len(view.members)) if b[at // 8] >> at % 8 & 1]


def most_colluders(view: View, random: Random) -> list[str]:
    """Draw colluders until one more would open a secret: around nobody are there as many as it takes."""
    chosen: set[int] = set()
    for at in random.sample(range(len(view.members)), len(view.members)):
        if all(len(chosen.union([at]).intersection(near)) < view.threshold for near in view.graph):
            chosen.add(at)
    return [view.members[at] for at in sorted(chosen)]


# --- what may be learnt --------------------------------------------------------------------------------


def check_schedule(schedule: Schedule, share: float) -> None:
    playing = schedule.playing()
    playing.clients = watched(playing.world)  # type: ignore[assignment]
    result, view = playing.play(), View.of(playing)
    if view is None:
        return
    most = most_colluders(view, playing.random)
    whole = check(playing, most[: round(share * len(most))])
    event(f"{schedule.mode}, {type(result).__name__}: {min(len(whole), 2)} parts")


@settings(max_examples=150)
@given(schedules(24), st.sampled_from((0.0, 0.5, 1.0, 1.0)))
def test_a_view_says_nothing_but_sums_of_all_honest_survivors(schedule: Schedule, share: float) -> None:
    check_schedule(schedule, share)


@pytest.mark.slow
@settings(max_examples=3000)
@given(schedules(), st.sampled_from((0.0, 0.5, 1.0, 1.0)))
def test_thousands_of_views_say_nothing_but_sums(schedule: Schedule, share: float) -> None:
    check_schedule(schedule, share)


@pytest.mark.parametrize(("clients", "mode"), [(60, "malicious"), (100, "semi_honest")])
def test_in_a_sparse_graph_as_it_is_really_drawn_all_honest_survivors_hang_together(
    clients: int, mode: Mode
) -> None:
    random, world = Random(clients), make_world(clients, mode=mode, seed=1)
    leaves = {
        name: random.choice(["shares", "vector"]) for name in random.sample(world.clients, clients // 10)
    }
    rows = world.rows(np.random.default_rng(0))
    playing = Hasty(world, rows, leaves, random=random, clients=watched(world))  # type: ignore[arg-type]
    assert isinstance(playing.play(), Summed)
    view = view_of(playing)
    assert len(view.graph[0]) < clients - 1
    corrupt = random.sample(world.clients, clients // 10)
    assert len(check(playing, corrupt)) == 1


# --- that the oracle can find something ------------------------------------------------------------------

VICTIM = "client-0003"
ALONE = ((3, 1),)
"""The victim's input by itself."""


def played(
    clients: int = 8,
    mode: Mode = "malicious",
    *,
    is_late: bool = False,
    keep: Mapping[str, slice] | None = None,
    find: Find = find_parameters,
    leaves: Sequence[str] = (),
) -> Hasty:
    """Play a group of which the victim's vector may be late: it comes when the survivors have been named."""
    world = make_world(clients, mode=mode, find=find)
    playing = Hasty(
        world,
        world.rows(np.random.default_rng(0)),
        dict.fromkeys(leaves, "vector"),
        clients=watched(world, keep),  # type: ignore[arg-type]
        slow={VICTIM: "vector"} if is_late else {},
    )
    playing.play()
    return playing


def weak(clients: int, threat: Threat) -> GroupParameters:
    """Return parameters that two who collude are enough to break."""
    return GroupParameters(clients, clients - 1, 2)


@pytest.mark.parametrize("mode", MODES)
def test_a_late_vector_shows_its_row_if_the_self_mask_was_left_out_and_else_not(mode: Mode) -> None:
    sound, bare = (played(mode=mode, is_late=True, keep=keep) for keep in (None, {VICTIM: slice(1, None)}))
    for playing in (sound, bare):
        assert isinstance(playing.result, Summed)
        assert VICTIM not in playing.result.survivors
        assert VICTIM in {view_of(playing).members[at] for at in view_of(playing).vectors}
    assert ALONE not in told(view_of(sound), sound)
    assert ALONE in told(view_of(bare), bare)


@pytest.mark.parametrize("mode", MODES)
def test_a_row_shows_if_the_pair_masks_were_left_out_and_else_not(mode: Mode) -> None:
    sound, bare = (played(mode=mode, keep=keep) for keep in (None, {VICTIM: slice(1)}))
    assert ALONE not in told(view_of(sound), sound)
    assert ALONE in told(view_of(bare), bare)


def test_of_two_honest_survivors_each_shows_without_the_one_mask_that_they_share() -> None:
    gone = {"client-0000": slice(0, -1), "client-0007": slice(0, 1)}  # its last mask is that with the other
    colluders = [f"client-000{i}" for i in range(1, 5)]  # one fewer than open a secret
    leaves = ["client-0005", "client-0006"]
    sound, bare = (played(keep=keep, leaves=leaves) for keep in (None, gone))
    assert told(view_of(sound, colluders), sound) == {sum_of([0, 7])}
    assert told(view_of(bare, colluders), bare) == {sum_of([0]), sum_of([7])}


@pytest.mark.parametrize("mode", MODES)
def test_every_row_shows_if_both_secrets_are_given_away(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    give = RoundSecrets.give

    def both(self: RoundSecrets, alive: Collection[int]) -> tuple[Given, Given]:
        held = {at: bytes(share) for at, share in self._held.items()}
        give(self, alive)
        return (
            tuple((at, share[:17]) for at, share in held.items()),
            tuple((at, share[17:]) for at, share in held.items()),
        )

    monkeypatch.setattr(RoundSecrets, "give", both)
    playing = played(mode=mode)
    assert told(view_of(playing), playing) == {sum_of([at]) for at in range(8)}


@pytest.mark.parametrize("mode", MODES)
def test_every_row_shows_if_the_threshold_is_no_more_than_the_colluders(mode: Mode) -> None:
    colluders = ["client-0000", "client-0001"]
    sound, low = (played(mode=mode, find=find) for find in (find_parameters, weak))
    assert told(view_of(sound, colluders), sound) == {sum_of(range(2, 8))}
    assert told(view_of(low, colluders[:1]), low) == {sum_of(range(1, 8))}
    assert told(view_of(low, colluders), low) == {sum_of([at]) for at in range(2, 8)}


# --- the algebra -----------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.integers(-1, 1), min_size=4, max_size=4), min_size=1, max_size=6))
def test_the_null_space_is_as_large_as_the_rank_leaves_it_and_maps_to_nothing(
    entries: list[list[int]],
) -> None:
    matrix = np.array(entries, np.int64)
    null = left_null(matrix, PRIME)
    assert len(null) == len(matrix) - np.linalg.matrix_rank(matrix)
    assert not (null @ matrix % PRIME).any()


def test_a_stream_that_is_there_twice_shows_modulo_two() -> None:
    twice = np.array([[2, 0], [0, 1]])
    assert len(left_null(twice, PRIME)) == 0
    assert left_null(twice, 2).tolist() == [[1, 0]]
