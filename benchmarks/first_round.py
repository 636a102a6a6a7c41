"""How long one waits for the first round of a run: from the start of the process to the round's end.

``python -m benchmarks.first_round``; with ``--json`` the last line is a JSON object. The run is that of
``benchmarks/w2_job.py`` with two workers, by ``tacit.run``: imports, data, model, choice of the executor,
workers, run folder, first measurement and first round. The job is a long one (a thousand rounds), so that the
choice takes all the care it can take. The data itself was drawn before.

* *torch*: plain torch trains; nothing is tried out.
* *cold*: an empty cache: executors are tried out, and exported where that pays.
* *cached*: the same once more, with what the run before has kept.
* *program, cold* and *program, cached*: an exported program trains. Its workers never import torch.

Each figure is the median over fresh processes, every time with an empty cache of their own.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.memory import PROC, family
from benchmarks.simulation import CACHE

ROOT = Path(__file__).parent.parent
JOB = ROOT / "benchmarks" / "w2_job.py"
WORKERS = 2
CASES = {"torch": "torch", "cold": "auto", "cached": "auto", "program, cold": "stacked"}
CASES |= {"program, cached": "stacked"}
"""Executor of every case, in their order: one that says "cached" uses what the case before it has kept."""


def measure(times: int = 3) -> dict[str, Any]:
    """Measure all cases."""
    from benchmarks.reference.workloads import load

    load("w2")  # draw the data, if this is the first time
    found: dict[str, list[dict[str, Any]]] = {case: [] for case in CASES}
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            for number, (case, executor) in enumerate(CASES.items()):
                cache = Path(folder) / str(number - 1 if case.endswith("cached") else number)
                found[case].append(once(executor, cache))
    return {"workers": WORKERS, "cases": {case: _summary(runs) for case, runs in found.items()}}


def once(executor: str, cache: Path) -> dict[str, Any]:
    """Start a run in a process of its own and return what it told after its first round."""
    began = time.monotonic()  # the same clock in all processes
    command = [sys.executable, "-m", "benchmarks.first_round", "--began", repr(began), "--executor", executor]
    environment = {**os.environ, CACHE: str(cache)}
    output = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    told: dict[str, Any] = json.loads(output.stdout.splitlines()[-1])
    return told


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    last = {key: value for key, value in runs[-1].items() if key != "seconds"}
    return {
        "seconds": round(statistics.median(run["seconds"] for run in runs), 2),
        "all_seconds": [round(run["seconds"], 2) for run in runs],
        **last,
    }


def first_round(executor: str, began: float) -> dict[str, Any]:
    """Run the job in this process until its first round has ended, and stop it as Ctrl-C does."""
    import tacit
    from tacit.job import load_job
    from tacit.round import RoundRecord
    from tacit.sim.observer import Silent
    from tacit.training.executor import Choice

    told: dict[str, Any] = {}

    class Watch(Silent):
        def executor_chosen(self, choice: Choice) -> None:
            told.update(executor=choice.executor, group=choice.group, reason=choice.reason)

        def round_closed(self, record: RoundRecord) -> None:
            told.setdefault("seconds", time.monotonic() - began)
            told.setdefault("workers_with_torch", _workers_with_torch())
            os.kill(os.getpid(), signal.SIGINT)

    loaded = load_job(JOB)
    with tempfile.TemporaryDirectory() as folder:
        tacit.run(
            loaded.job,
            loaded.population,
            folder=Path(folder) / "run",
            workers=WORKERS,
            executor=executor,
            observer=Watch(),
        )
    return told


def _workers_with_torch() -> int | None:
    """Count the worker processes that have loaded torch; None where the system does not tell."""
    if not PROC.exists():
        return None
    workers = family(os.getpid())[1:]
    return sum("libtorch" in (PROC / str(pid) / "maps").read_text() for pid in workers)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure from the command line."""
    options = _parser().parse_args(arguments)
    if options.executor:
        print(json.dumps(first_round(options.executor, options.began)))
        return
    figures = measure(options.times)
    print(json.dumps(figures) if options.json else json.dumps(figures, indent=2))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure how long the first round of a run is waited for.")
    parser.add_argument("--times", type=int, default=3, help="processes for each figure")
    parser.add_argument("--executor", help="play one first round with it in this process")
    parser.add_argument("--began", type=float, default=time.monotonic(), help="when that process was started")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser


if __name__ == "__main__":
    main()
