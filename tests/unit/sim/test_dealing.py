"""Who trains which group: dealt out by measured cost, and every group taken by exactly one worker."""

import json
import os
import subprocess
import sys
from itertools import pairwise

import numpy as np

from tacit.sim.dealing import Claims, Dealer
from tacit.sim.engine import Call
from tacit.sim.groups import Cut
from tacit.sim.shared import SharedBlock


def cut_of(*sizes: int) -> Cut:
    ends = np.cumsum([0, *sizes]).tolist()
    return Cut.of([[Call(position) for position in range(a, b)] for a, b in pairwise(ends)])


def steps_of(cut: Cut, *each: int) -> np.ndarray:
    return np.repeat(np.array(each), np.diff(cut.starts, append=len(cut.positions)))


def test_every_group_is_dealt_once_longest_first_and_loads_are_alike() -> None:
    cut = cut_of(*[2] * 7)
    shares = Dealer(14).deal(cut, steps_of(cut, 9, 8, 7, 6, 5, 4, 3), 3)
    assert sorted(group for share in shares for group in share) == list(range(7))
    assert [share[0] for share in shares] == [0, 1, 2]
    assert all(share == sorted(share) for share in shares)
    loads = [sum((9, 8, 7, 6, 5, 4, 3)[group] for group in share) for share in shares]
    assert max(loads) - min(loads) <= 3


def test_more_workers_than_groups_leave_some_without() -> None:
    cut = cut_of(1, 1)
    assert Dealer(2).deal(cut, np.array([4, 4]), 3) == [[0], [1], []]


def test_what_was_measured_counts_for_more_than_steps() -> None:
    dealer, cut = Dealer(8), cut_of(2, 2, 2, 2)
    steps = steps_of(cut, 4, 3, 2, 1)
    dealer.note(cut, steps, np.array([0.1, 0.1, 0.1, 9.0]))
    shares = dealer.deal(cut, steps, 2)
    assert shares[0] == [3]  # by steps it would have come last
    assert sorted(shares[1]) == [0, 1, 2]


def test_a_client_nobody_has_measured_is_taken_for_a_usual_one() -> None:
    dealer, known, cut = Dealer(6), cut_of(1, 1, 1), cut_of(1, 1, 1, 1)
    dealer.note(known, np.array([10, 10, 10]), np.array([1.0, 2.0, 3.0]))
    order = dealer.deal(cut, np.array([10, 10, 10, 11]), 1)[0]
    assert order == [2, 3, 1, 0]  # 3.0, 11 * 0.2, 2.0 and 1.0 seconds


def test_measurements_follow_what_changes() -> None:
    dealer, cut = Dealer(2), cut_of(1, 1)
    steps = np.array([1, 1])
    dealer.note(cut, steps, np.array([1.0, 2.0]))
    assert dealer.deal(cut, steps, 1) == [[1, 0]]
    for _ in range(4):
        dealer.note(cut, steps, np.array([3.0, 2.0]))
    assert dealer.deal(cut, steps, 1) == [[0, 1]]


def claims_of(groups: int) -> Claims:
    return Claims(SharedBlock(Claims.bytes_for(groups)))


def test_one_takes_its_own_groups_first_and_then_those_of_others_from_the_end() -> None:
    claims = claims_of(6)
    assert list(claims.take([0, 3, 5], 6)) == [0, 3, 5, 4, 2, 1]
    assert list(claims.take([1, 2], 6)) == []
    claims.clear()
    mine, yours = claims.take([0, 3], 6), claims.take([1, 2, 4, 5], 6)
    assert [next(mine), next(yours), next(yours), next(mine)] == [0, 1, 2, 3]
    assert [next(mine), next(yours)] == [5, 4]
    assert list(mine) == list(yours) == []


def test_a_round_of_few_groups_takes_no_others() -> None:
    assert list(claims_of(6).take([1], 2)) == [1, 0]


RACER = """
import json, sys
from tacit.sim.dealing import Claims
from tacit.sim.shared import SharedBlock
handle, groups = map(int, sys.argv[1:])
claims = Claims(SharedBlock(Claims.bytes_for(groups), handle))
print("ready", flush=True)
sys.stdin.readline()
print(json.dumps(list(claims.take(range(groups), groups))))
"""


def test_processes_that_race_take_every_group_exactly_once() -> None:
    groups = 300_000
    block = SharedBlock(Claims.bytes_for(groups))
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(block.handle), str(groups)],
            pass_fds=[block.handle],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for _ in range(3)  # all want the same groups first, and so are always at each other's heels
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    taken = [json.loads(racer.communicate(timeout=60)[0]) for racer in racers]
    block.close()
    assert sorted(group for share in taken for group in share) == list(range(groups))
