"""kill -9 at any line of a private run: never less charged than was released, and no noise drawn twice."""

import json
import signal
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tacit.core.events import CorrelatedEvent
from tests.attacks.privacy_checks import charged
from tests.rounds.private_lives import Lives, released
from tests.rounds.worlds import told

STEPS = 4


@pytest.fixture(scope="module")
def lives() -> Iterator[Lives]:
    made = Lives()
    yield made
    made.close()


def assert_charged_for_what_was_released(folder: Path) -> None:
    steps = {step for step, _ in released(folder)}
    if not steps:
        return
    charges = charged(folder)
    if isinstance(charges[0].event, CorrelatedEvent):
        assert len(charges) == 1
    else:
        assert steps <= {charge.step for charge in charges}


def assert_nothing_was_released_twice(folder: Path) -> None:
    """Check that a step that was repeated has given the very same numbers: the same sum, the same noise."""
    digests = defaultdict[int, set[str]](set)
    for step, digest in released(folder):
        digests[step].add(digest)
    assert {step: len(found) for step, found in digests.items()} == dict.fromkeys(range(1, STEPS + 1), 1)


def lines_to_die_at(lives: Lives, folder: Path, job: str, count: int) -> Iterator[int]:
    ended = lives.live(job, folder)
    lines = ended["lines"]
    yield from range(lines // count // 2, lines, max(1, lines // count))


def assert_survives(lives: Lives, folder: Path, job: str, *lines: int) -> None:
    for line in lines:
        assert lives.live(job, folder, line)["status"] in (-signal.SIGKILL, 0, 5)
        if (folder / "ledger.db").exists():
            assert_charged_for_what_was_released(folder)
    ended = lives.live(job, folder)
    assert ended.get("outcome", "completed") == "completed", ended
    assert ended["status"] in (0, 5)  # 5: killed when all was done
    assert_charged_for_what_was_released(folder)
    assert_nothing_was_released_twice(folder)
    assert json.loads((folder / "run.json").read_text())["outcome"] == "completed"


@pytest.mark.parametrize(("job", "charges"), [("secret", STEPS), ("correlated", 1), ("stored", 1)])
def test_a_kill_at_a_line_charges_once_and_repeats_the_same_noise(
    lives: Lives, tmp_path: Path, job: str, charges: int
) -> None:
    for line in lines_to_die_at(lives, tmp_path / "whole", job, 6):
        folder = tmp_path / f"run-{line}"
        assert_survives(lives, folder, job, line)
        assert len(charged(folder)) == charges


@pytest.mark.slow
@pytest.mark.parametrize(("job", "charges"), [("secret", STEPS), ("correlated", 1), ("stored", 1)])
def test_kills_at_many_lines_and_while_resuming_change_nothing(
    lives: Lives, tmp_path: Path, job: str, charges: int
) -> None:
    for line in lines_to_die_at(lives, tmp_path / "whole", job, 120):
        folder = tmp_path / f"run-{line}"
        assert_survives(lives, folder, job, line, 1 + (37 * line) % 1200)
        assert len(charged(folder)) == charges


def test_a_seeded_run_that_was_killed_ends_as_if_it_had_not_been(lives: Lives, tmp_path: Path) -> None:
    lines = list(lines_to_die_at(lives, tmp_path / "whole", "seeded", 5))
    expected = told(tmp_path / "whole")
    for line in lines:
        folder = tmp_path / f"run-{line}"
        assert_survives(lives, folder, "seeded", line)
        assert told(folder) == expected
