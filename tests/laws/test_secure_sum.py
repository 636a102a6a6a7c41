"""Whatever clients and deadlines do, a group comes to the exact sum of its survivors, or to none."""

from collections import Counter

import pytest
from hypothesis import event, given, settings

from tacit.secagg.events import REASONS, GroupFailed, Summed
from tacit.secagg.parameters import find_parameters
from tests.laws.secure_schedules import MODES, Hasty, Schedule, schedules, sparse


def check(schedule: Schedule) -> Hasty:
    """Play a schedule: the sum is exact, or there is none, and the ideal says which, and whose."""
    playing = schedule.playing()
    result, expected = playing.play(), playing.fate()
    assert not playing.refusals
    assert not result.blamed
    if isinstance(result, Summed):
        rows = [playing.rows[name].tolist() for name in result.survivors]
        assert result.total.tolist() == [sum(lane) for lane in zip(*rows, strict=True)]
        assert len(rows) >= schedule.min_cohort
        assert (expected.reason, result.survivors) == ("", expected.survivors)
    else:
        assert (result.reason, ()) == (expected.reason, expected.survivors)
    finished = [c for c in playing.clients.values() if c.state in ("revealed", "left", "aborted")]
    assert not any(client.holds_secrets for client in finished)
    return playing


@settings(max_examples=300)
@given(schedules())
def test_a_group_has_the_exact_sum_of_its_survivors_or_none(schedule: Schedule) -> None:
    result = check(schedule).result
    event(f"{schedule.mode}: {result.reason if isinstance(result, GroupFailed) else 'a sum'}")


@pytest.mark.slow
@settings(max_examples=10_000)
@given(schedules())
def test_ten_thousand_schedules_have_the_exact_sum_of_their_survivors_or_none(schedule: Schedule) -> None:
    check(schedule)


@pytest.mark.parametrize("mode", MODES)
def test_the_schedules_reach_every_end(mode: str) -> None:
    """Else the laws above would say little."""
    ends, late, survived = Counter[str](), 0, 0
    for seed in range(60):
        schedule = Schedule(
            clients=6 + seed % 7,
            mode=mode,  # type: ignore[arg-type]
            min_cohort=3,
            find=(find_parameters, sparse)[seed % 2],
            size=3,
            largest=1000,
            dropout=0.1,
            leaving=(0.05, 0.2, 0.5)[seed % 3],
            slowness=(0.15, 0.05)[seed % 2],
            haste=(0.0, 0.1)[seed // 2 % 2],
            chunk=16,
            post_quantum=False,
            seed=seed,
        )
        playing = check(schedule)
        result = playing.result
        ends[result.reason if isinstance(result, GroupFailed) else "a sum"] += 1
        if isinstance(result, Summed):
            late += playing.late.total()
            survived += len(result.survivors) < schedule.clients
    assert set(ends) == {"a sum", *REASONS.values()} - (
        {REASONS["signature"]} if mode == "semi_honest" else set()
    )
    assert late > 10
    assert survived > 5
