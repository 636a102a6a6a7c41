"""What privacy costs: clip, noise, the ledger, and a whole round of W1 beside the same without privacy.

``python -m benchmarks.privacy``; with ``--json`` the last line is a JSON object. For the noise see
``benchmarks.privacy_noise``. *Clip* is the norm of one update, summed in float64, and its scaling. The round
is W1's (a CNN of 1.6 million parameters, 50 of 1000 users, two processes), once as it is and once with an
adaptive clip and central Gaussian noise; the two take turns, and the ledger's reservation and release, each
written durably, are in the private one's time.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import tacit
from benchmarks.privacy_noise import BUDGET_S, SIZES, nanoseconds
from benchmarks.privacy_noise import measure as measure_noise
from tacit.codec import ClipL2
from tacit.core.events import GaussianEvent, PrivacyEvent
from tacit.core.privacy import Adjacency
from tacit.core.spec import UpdateSpec
from tacit.core.stage import StageContext
from tacit.privacy.accounting import epsilon
from tacit.privacy.ledger import Budget, Reserved
from tacit.store.ledger import Ledger, Reservation

LEAST_RATIO = 0.93
_ROUNDS = 6


def measure_clip(size: int) -> float:
    """Return the cost of clipping one update, ns for each coordinate."""
    spec = UpdateSpec.of(parameters=size)
    rows = np.random.default_rng(0).standard_normal((1, size)).astype(np.float32)
    context = StageContext(spec, 0, 1, ("a",), np.array([1]), is_bounded=True)
    norm = float(np.linalg.norm(rows))

    def clip() -> None:
        nonlocal norm
        norm *= 0.999  # a little shorter every time: the row is always scaled
        ClipL2(bound=norm).encode(rows, {}, context)

    return nanoseconds(clip, size)


class LedgerLoop:
    """A ledger that is charged as by a long run.

    Args:
        folder: Where its file lies.
    """

    def __init__(self, folder: str) -> None:
        self._ledger = Ledger(Path(folder) / "ledger.db")
        self._step = 0
        self._last: Reservation | None = None

    def reserve(self) -> None:
        """Charge the next step."""
        self._step += 1
        spend = Reserved(
            job="benchmark",
            run="benchmark",
            step=self._step,
            inputs_sha256=os.urandom(32).hex(),
            plan_sha256="0" * 64,
            unit="user",
            adjacency="zero_out",
            event=GaussianEvent(noise_multiplier=10.0),
        )
        self._last = self._ledger.reserve(
            "everybody",
            spend,
            accountant=_epsilon,
            limit=Budget(epsilon=100.0, delta=1e-5),
            allowance=None if self._last is None else self._last.allowance,
            wanted=10_000,
        )

    def release(self) -> None:
        """Note that it was released."""
        assert self._last is not None
        self._ledger.release(self._last)


def measure_ledger() -> dict[str, float]:
    """Return the median milliseconds of a reservation and of a release, each durable."""
    with tempfile.TemporaryDirectory() as folder:
        loop = LedgerLoop(folder)
        loop.reserve()  # the first one asks the accountant
        loop.release()
        reserve, release = [], []
        began = time.monotonic()
        while time.monotonic() - began < BUDGET_S:
            reserve.append(_seconds(loop.reserve))
            release.append(_seconds(loop.release))
    return {
        "reserve_ms": round(statistics.median(reserve) * 1e3, 2),
        "release_ms": round(statistics.median(release) * 1e3, 2),
    }


def measure_round(processes: int = 2) -> dict[str, Any]:
    """Play rounds of W1 with privacy and without, in turns."""
    from benchmarks.tacit_loop import JobLoop  # late: it imports torch
    from benchmarks.tacit_workloads import make_job, make_population

    plain = msgspec.structs.replace(make_job("w1"), cohort=tacit.FixedSize(50))
    # What noise costs does not depend on how much it is; with enough of it, fifty users train nothing.
    privacy = tacit.Privacy(unit="user", noise_multiplier=0.01, delta=1e-4)
    private = msgspec.structs.replace(plain, privacy=privacy)
    people = make_population("w1")
    without, within = [], []
    with tempfile.TemporaryDirectory() as folder:
        ledger = LedgerLoop(folder)
        with JobLoop(plain, people, processes) as bare, JobLoop(private, people, processes) as kept:

            def charged() -> None:
                ledger.reserve()
                kept.play()
                ledger.release()

            bare.play()
            charged()
            for _ in range(_ROUNDS):
                without.append(bare.play())
                within.append(_seconds(charged))
            executors = [f"{loop.choice.executor}, {loop.choice.group}" for loop in (bare, kept)]
    ratio = statistics.median(without) / statistics.median(within)
    return {
        "seconds_without": round(statistics.median(without), 4),
        "seconds_with": round(statistics.median(within), 4),
        "executors": executors,
        "ratio": round(ratio, 3),
        "must_ratio": LEAST_RATIO,
        "meets_ratio": ratio >= LEAST_RATIO,
    }


def measure() -> dict[str, Any]:
    """Measure everything."""
    return {
        "noise": measure_noise(),
        "clip_ns_per_coordinate": {f"{size:.0e}".replace("+0", ""): measure_clip(size) for size in SIZES},
        "ledger": measure_ledger(),
        "w1_round": measure_round(),
    }


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _epsilon(spent: Mapping[PrivacyEvent, int], delta: float, adjacency: Adjacency) -> float:
    return epsilon(spent, delta, adjacency)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description="Measure what privacy costs.")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    options = parser.parse_args(arguments)
    figures = measure()
    print(json.dumps(figures) if options.json else json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
