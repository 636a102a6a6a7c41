import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.peers import __main__ as peers
from benchmarks.peers import environments
from benchmarks.peers.environments import PEERS, InstallError, Peer, ready
from benchmarks.peers.record import Record
from benchmarks.reference.plain_loop import PlainLoop


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TACIT_BENCH_PEERS", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("small_workloads")
def test_a_record_compares_the_model_after_the_first_round() -> None:
    with Record() as record, PlainLoop("w2") as loop:
        record.begin()
        for round in range(3):
            loop.play(round)
            record.round_over(loop.vector)
    facts = record.facts("torch", "w2", 1)
    assert facts["relative_error"] == 0.0
    assert len(facts["round_seconds"]) == 3
    assert facts["seconds_per_round"] > 0


@pytest.mark.usefixtures("small_workloads")
def test_another_model_after_the_first_round_is_an_error() -> None:
    with Record() as record, PlainLoop("w2") as loop:
        record.begin()
        loop.play(1)  # another cohort
        record.round_over(loop.vector)
    assert record.facts("torch", "w2", 1)["relative_error"] > 0.1


def test_an_environment_that_is_complete_is_used_as_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[list[str]] = []
    monkeypatch.setattr(environments, "_run", installed.append)
    peer = Peer("some", ("some==1",), "")
    (folder / "some").mkdir()
    python = ready(peer)
    assert len(installed) == 2
    assert "some==1" in installed[1]
    assert ready(peer) == python == folder / "some" / "bin" / "python"
    assert len(installed) == 2
    ready(Peer("some", ("some==2",), ""))
    assert len(installed) == 4


@pytest.mark.slow
def test_what_cannot_be_installed_says_why(folder: Path) -> None:
    missing = folder / "nowhere-1.0-py3-none-any.whl"
    with pytest.raises(InstallError, match="nowhere"):
        ready(Peer("some", (str(missing),), ""))
    with pytest.raises(InstallError):  # and is tried again
        ready(Peer("some", (str(missing),), ""))


def test_a_system_that_fails_says_why() -> None:
    with pytest.raises(peers.RunError, match="broken"):
        peers.run_module([sys.executable, "-c", "raise SystemExit('not so\\nbroken')"], None, 0)


def test_a_system_that_takes_too_long_is_ended_with_all_it_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(peers, "TIMEOUT_S", 3.0)
    note = tmp_path / "child"
    program = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(note)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)"
    )
    with pytest.raises(peers.RunError, match="more than 3 s"):
        peers.run_module([sys.executable, "-c", program], None, 0)
    deadline = time.monotonic() + 10
    while _is_alive(int(note.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_alive(int(note.read_text()))


def _is_alive(pid: int) -> bool:
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(found.stdout.strip()) and not found.stdout.startswith("Z")


def test_a_ratio_is_to_the_plain_rounds_on_both_sides() -> None:
    facts = {
        "version": "1",
        "seconds_per_round": 4.0,
        "peak_mb": 10.0,
        "relative_error": 1e-6,
        "startup_s": 1.0,
        "round_seconds": [9.0, 4.0, 4.0],
    }
    before, behind = {"round_seconds": [1.0, 1.0]}, {"round_seconds": [9.0, 3.0, 3.0]}
    found = peers.beside(PEERS["pfl"], facts, before, behind)
    assert found["ratio"] == 0.5
    assert found["round_seconds"] == [4.0, 4.0]


def test_the_table_has_a_line_for_every_system_the_missing_ones_too() -> None:
    plain = {"seconds_per_round": 2.0, "ratio": 1.0, "peak_mb": 900.0}
    pfl = {"seconds_per_round": 4.0, "ratio": 0.5, "peak_mb": None, "relative_error": 1e-6}
    lines = peers.table({"w1": {"plain": plain, "pfl": pfl, "flower": {"error": "no such version"}}})
    assert [line.split()[:2] for line in lines.splitlines()[1:]] == [
        ["w1", "plain"],
        ["w1", "pfl"],
        ["w1", "flower"],
    ]
    assert "no such version" in lines
    assert "0.5x" in lines
