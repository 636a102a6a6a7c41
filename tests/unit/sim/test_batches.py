"""Groups go out in batches: each exactly once, large ones first, and again if they come back."""

from hypothesis import given
from hypothesis import strategies as st

from tacit.sim.batches import Batch, Queue
from tacit.sim.engine import Call


def positions(batch: Batch) -> list[int]:
    return [call.position for group in range(len(batch)) for call in batch.groups.calls(group)]


@given(steps=st.lists(st.integers(0, 1000), max_size=60), workers=st.integers(1, 9))
def test_every_group_goes_out_exactly_once(steps: list[int], workers: int) -> None:
    steps.sort(reverse=True)
    queue = Queue([[Call(number)] for number in range(len(steps))], steps, workers)
    taken: list[int] = []
    while queue:
        left = sum(steps[len(taken) :])
        batch = queue.take()
        assert len(batch) == 1 or sum(steps[i] for i in positions(batch)) <= left / (4 * workers)
        taken += positions(batch)
        assert len(queue) == len(steps) - len(taken)
    assert taken == list(range(len(steps)))


def test_many_small_groups_need_few_batches() -> None:
    queue = Queue([[Call(number)] for number in range(10_000)], [1] * 10_000, 4)
    sizes = []
    while queue:
        sizes.append(len(queue.take()))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1
    assert len(sizes) < 150


def test_what_comes_back_goes_out_before_anything_else() -> None:
    queue = Queue([[Call(1), Call(2)], [Call(3)]], [5, 1], 1)
    first = queue.take()
    queue.put_back([first])
    assert len(queue) == 2
    assert queue.take() is first
    assert positions(queue.take()) == [3]
    assert not queue
