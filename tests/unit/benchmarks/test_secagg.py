import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import secagg, secagg_server
from benchmarks.__main__ import BENCHMARKS
from benchmarks.peak import Peak
from benchmarks.result import FOLDER
from benchmarks.secagg_cases import CASES, Case
from benchmarks.secagg_clients import find_for, ring_of
from benchmarks.secagg_mailbox import Mailbox, post
from tacit.secagg.events import Summed
from tacit.secagg.parameters import Threat

SMALL = Case(clients=12, dimension=40_000, mode="malicious", dropouts=0.25)


def test_a_small_sum_is_played_and_measured() -> None:
    figures = secagg.measure(SMALL, times=1)
    assert figures["survivors"] == 9
    assert figures["neighbours"] == 11
    # Each of the nine has a self mask, and one left over with each of the three that vanished.
    assert figures["server_masks"] == 9 + 3 * 9
    words = ring_of(SMALL).words
    assert 8 * words < figures["upload_bytes"] < 8 * words + 5000
    assert 0 < figures["client_ms"] < 1000
    assert 0 < figures["server_unmask_seconds"] < figures["server_seconds"] < 5
    assert figures["must"] == {"server_peak_mb": pytest.approx(3 * 8 * words / 2**20 + 50)}


def test_lanes_half_as_wide_make_a_vector_half_as_long() -> None:
    wide = secagg_server.play(Case(clients=5, dimension=40_000))
    narrow = secagg_server.play(Case(clients=5, dimension=40_000, lane_bits=16))
    saved = 4 * 40_000 - 2 * 40_000
    assert wide["upload_bytes"] - narrow["upload_bytes"] == pytest.approx(saved, abs=200)


def test_a_sum_that_is_wrong_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    play = secagg_server.Game.play

    def one_too_much(game: secagg_server.Game) -> Summed:
        summed = play(game)
        summed.total[0] += 1
        return summed

    monkeypatch.setattr(secagg_server.Game, "play", one_too_much)
    with pytest.raises(RuntimeError, match="the sum is wrong"):
        secagg_server.play(Case(clients=4, dimension=100))


def test_given_neighbours_are_taken_and_withstand_the_same_threat() -> None:
    case = Case(clients=100, dimension=1, neighbours=20)
    found = find_for(case)(100, Threat(0.1, 0.1, "semi_honest"))
    assert (found.neighbours, found.threshold) == (20, 11)
    strict = find_for(case)(100, Threat(0.1, 0.1, "malicious"))
    assert 2 * strict.threshold > 20 + 10


def test_a_case_is_measured_by_its_own_command_line() -> None:
    (benchmark,) = (benchmark for benchmark in BENCHMARKS if benchmark.name == "secagg")
    assert len(benchmark.commands) == len(CASES)
    for case, (module, *arguments) in zip(CASES, benchmark.commands.values(), strict=True):
        assert module == "benchmarks.secagg"
        assert secagg.case_of(arguments) == case


@pytest.mark.slow
def test_the_last_line_is_json() -> None:
    command = [sys.executable, "-m", "benchmarks.secagg", "--clients", "6", "--dimension", "1000"]
    output = subprocess.run(
        [*command, "--times", "1", "--json"],
        cwd=FOLDER.parent.parent,
        check=True,
        capture_output=True,
        text=True,
    )
    figures = json.loads(output.stdout.splitlines()[-1])
    wanted = {
        "client_ms",
        "server_seconds",
        "upload_bytes_per_coordinate",
        "server_peak_mb",
        "client_peak_mb",
    }
    assert wanted | {"aes_ctr_gb_per_s", "add_gb_per_s", "masking_ratio"} <= figures.keys()


def test_the_peak_is_seen_though_it_is_over() -> None:
    with Peak() as peak:
        np.ones(2**22).sum()  # 32 MB, gone at once
    assert 30 < peak.mb < 60 or not Path("/proc/self/clear_refs").exists()


def test_a_mailbox_gives_what_was_posted_and_is_used_again() -> None:
    buffers: list[bytearray] = []
    with Mailbox() as box:
        for messages in ([b"first", b"", b"a longer one"], [b"another"]):
            post(box.name, messages)
            assert [bytes(message) for message in box.read(buffers)] == messages
        assert list(map(len, buffers)) == [7, 0, 12]
        name = Path(box.name.decode())
        assert name.exists()
    assert not name.exists()
