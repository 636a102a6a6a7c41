"""Plain loop, tacit and other simulators side by side on the workloads W1 to W4, all in two processes.

``python -m benchmarks.peers``; ``--workload w1`` and ``--system pfl`` measure some, and with ``--json`` the
last line is a JSON object. A peer is installed into an environment of its own on first use; one that cannot
be installed, or fails, is reported with its reason, and the others go on.

Data, cohorts, model and local steps are the same everywhere, and the first round, which is not counted, must
end with the plain loop's update (``relative_error``). tacit and the plain loop take turns; a peer plays its
rounds by itself, and the plain loop again behind it: its ratio is to the median of the plain rounds on both
sides.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.environments import PEERS, InstallError, Peer, ready

ROOT = Path(__file__).parent.parent.parent
WORKLOADS = ("w1", "w2", "w3", "w4")
PROCESSES = 2
TIMEOUT_S = 3600.0

Facts = dict[str, Any]


class RunError(Exception):
    """A system did not finish; the message says why."""


def measure(workload: str, systems: Sequence[str], rounds: int | None = None) -> dict[str, Facts]:
    """Measure one workload; ``rounds`` are the counted ones."""
    ours = run_module([sys.executable, "-m", "benchmarks.simulation", "--workload", workload], rounds, 0)
    plain = _plain(ours)
    found = {"plain": plain, "tacit": _tacit(ours)}
    for system in systems:
        peer = PEERS[system]
        try:
            facts = run_module([str(ready(peer)), "-W", "ignore", "-m", peer.module, workload], rounds, 1)
        except (InstallError, RunError) as error:
            found[system] = {"error": str(error)}
            continue
        behind = run_module([sys.executable, "-m", "benchmarks.reference.plain_loop", workload], rounds, 1)
        found[system] = beside(peer, facts, plain, behind)
        plain = {**plain, "round_seconds": behind["round_seconds"][1:]}
    return found


def run_module(command: list[str], rounds: int | None, uncounted: int) -> Facts:
    """Run a module and read the last line it prints; ``uncounted`` rounds are among those it is told."""
    full = [*command, "--processes", str(PROCESSES), "--json"]
    full += [] if rounds is None else ["--rounds", str(rounds + uncounted)]
    process = subprocess.Popen(
        full, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output, errors = process.communicate(timeout=TIMEOUT_S)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)  # with all that it started
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise RunError(f"it took more than {TIMEOUT_S:g} s") from None
        raise
    if process.returncode:
        lines = errors.strip().splitlines()
        raise RunError(lines[-1] if lines else f"exit status {process.returncode}")
    facts: Facts = json.loads(output.splitlines()[-1])
    return facts


def _plain(ours: Facts) -> Facts:
    return {
        "seconds_per_round": ours["reference_seconds_per_round"],
        "ratio": 1.0,
        "peak_mb": ours["reference_peak_mb"],
        "round_seconds": ours["reference_round_seconds"],
    }


def _tacit(ours: Facts) -> Facts:
    kept = (
        "seconds_per_round",
        "ratio",
        "peak_mb",
        "peak_mb_choosing",
        "relative_error",
        "executor",
        "group",
        "round_seconds",
    )
    return {key: ours[key] for key in kept}


def beside(peer: Peer, facts: Facts, before: Facts, behind: Facts) -> Facts:
    """Return a peer's figures with its ratio to the plain rounds on both sides of its own."""
    plain = statistics.median([*before["round_seconds"], *behind["round_seconds"][1:]])
    return {
        "requirements": list(peer.requirements),
        "version": facts["version"],
        "seconds_per_round": facts["seconds_per_round"],
        "plain_seconds_per_round": round(plain, 5),
        "ratio": round(plain / facts["seconds_per_round"], 3),
        "peak_mb": facts["peak_mb"],
        "relative_error": facts["relative_error"],
        "startup_s": facts["startup_s"],
        "round_seconds": facts["round_seconds"][1:],
    }


def table(found: dict[str, dict[str, Facts]]) -> str:
    """Return what was found as lines to read."""
    lines = [f"{'':4s} {'system':8s} {'s/round':>9s} {'vs plain':>9s} {'peak MB':>9s} {'error':>9s}"]
    for workload, systems in found.items():
        for system, facts in systems.items():
            lines.append(f"{workload:4s} {system:8s} {_columns(facts)}")
    return "\n".join(lines)


def _columns(facts: Facts) -> str:
    if "error" in facts:
        return str(facts["error"])
    peak = "?" if facts["peak_mb"] is None else f"{facts['peak_mb']:.0f}"
    error = f"{facts['relative_error']:.1e}" if "relative_error" in facts else ""
    ratio = f"{facts['ratio']:.3g}x"
    return f"{facts['seconds_per_round']:9.4f} {ratio:>9s} {peak:>9s} {error:>9s}".rstrip()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure from the command line."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # no system is left running
    found = {name: measure(name, options.system or list(PEERS), options.rounds) for name in options.workload}
    print(json.dumps(found) if options.json else table(found))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__.splitlines()[0])
    parser.add_argument("--workload", nargs="+", choices=WORKLOADS, default=WORKLOADS)
    parser.add_argument("--system", nargs="+", choices=list(PEERS), help="which peers; all by default")
    parser.add_argument("--rounds", type=int, help="counted rounds, instead of the workload's own number")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser


if __name__ == "__main__":
    main()
