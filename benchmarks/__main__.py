"""Run every benchmark, each in a process of its own, print a table and keep the results.

``python -m benchmarks`` runs all but the peers, ``python -m benchmarks --only overhead peers`` those that are
named. Every result is written to ``benchmarks/results/NAME.json`` with date, machine and commit. It takes
about half an hour; the peers, which are installed first, take as much again.
"""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.result import FOLDER, Result
from benchmarks.secagg_cases import CASES

Row = tuple[str, float | None, str, float, bool]
"""What was measured, its value, ``<=`` or ``>=``, the limit, and whether it holds."""


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Attributes:
        name: Its name, and that of the file of its results.
        commands: The modules' command lines, by what their figures are called.
        rows: How its figures read as rows of the table.
        is_usual: Whether it runs unless others are named.
    """

    name: str
    commands: dict[str, tuple[str, ...]]
    rows: Callable[[dict[str, Any]], Iterator[Row]]
    is_usual: bool = True

    def run(self) -> dict[str, Any]:
        """Run it and return its figures; those of several commands by their names."""
        figures = {key: _figures(command) for key, command in self.commands.items()}
        return figures if len(figures) > 1 else figures[self.name]


def _figures(command: Sequence[str]) -> dict[str, Any]:
    """Run a module and read the last line it prints."""
    full = [sys.executable, "-m", *command, "--json"]
    output = subprocess.run(full, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def _at_most(what: str, value: float | None, limit: float) -> Row:
    return what, value, "<=", limit, value is not None and value <= limit


def _at_least(what: str, value: float | None, limit: float) -> Row:
    return what, value, ">=", limit, value is not None and value >= limit


def _simulation_rows(figures: dict[str, Any]) -> Iterator[Row]:
    for key, found in figures.items():
        least = found.get("must_ratio", 1.0 if found["processes"] == 1 else 0.0)
        yield _at_least(f"{key}: speed against the plain loop", found["ratio"], least)
        if "must_mb" in found:
            yield _at_most(f"{key}: peak memory, MB", found["peak_mb"], found["must_mb"])
        yield _at_most(f"{key}: relative error of an update", found["relative_error"], 0.01)


def _exactness_rows(figures: dict[str, Any]) -> Iterator[Row]:
    for found in figures.values():
        key = f"{found['workload']}, {found['executor']}"
        yield _at_most(f"{key}: relative error in float64", found["float64_error"], 1e-7)


def _scaling_rows(figures: dict[str, Any]) -> Iterator[Row]:
    yield _at_least("w2: two processes against one", figures["workers"]["speedup"], 1.0)
    limit = None
    for found in figures["cohorts"]:
        cost = found["us_per_client"]
        yield _at_most(f"cohort of {found['cohort']}: us a client", cost, limit or cost)
        limit = round(1.1 * cost, 1)  # not dearer than in the cohort before, the noise of a machine aside
    yield _at_most("memory: bytes a client", figures["population"]["bytes_per_client"], 200)


def _first_round_rows(figures: dict[str, Any]) -> Iterator[Row]:
    for case, found in figures["cases"].items():
        yield _at_most(f"{case}: seconds to the first round's end", found["seconds"], math.inf)


def _peers_rows(figures: dict[str, Any]) -> Iterator[Row]:
    for workload, systems in figures.items():
        for system, found in systems.items():
            # For comparison: no bar of ours, and a peer that does not install here misses none.
            yield f"{workload}, {system}: speed against the plain loop", found.get("ratio"), ">=", 0.0, True


def _overhead_rows(figures: dict[str, Any]) -> Iterator[Row]:
    for key in ("small_model", "large_model"):
        found = figures[key]
        yield _at_most(f"{found['weights']} weights: ms a round", found["median_ms"], found["limit_ms"])
    yield _at_most("memory: bytes a client", figures["memory"]["bytes_per_client"], 200)


def _startup_rows(figures: dict[str, Any]) -> Iterator[Row]:
    for key, limit in figures["limits_s"].items():
        yield _at_most(f"{key}: seconds", figures["seconds"][key], limit)


def _privacy_rows(figures: dict[str, Any]) -> Iterator[Row]:
    noise = figures["noise"]
    for size, found in noise["ns_per_coordinate"].items():
        yield _at_most(f"noise of {size} coordinates, ns each", found["noise"], noise["limit_ns"])
    for size, found in figures["clip_ns_per_coordinate"].items():
        yield _at_most(f"clip of {size} coordinates, ns each", found, math.inf)
    for what, found in figures["ledger"].items():
        yield _at_most(f"ledger: {what}", found, math.inf)
    yield _at_least("w1, private: speed against without", figures["w1_round"]["ratio"], 0.93)


def _secagg_rows(figures: dict[str, Any]) -> Iterator[Row]:
    for case, found in figures.items():
        for key, limit in found["must"].items():
            row = _at_least if key == "masking_ratio" else _at_most
            yield row(f"{case}: {_SECAGG[key]}", found[key], limit)


_SECAGG = {
    "client_ms": "ms a client",
    "server_seconds": "server, seconds",
    "upload_bytes_per_coordinate": "bytes sent for a coordinate",
    "server_peak_mb": "server's peak memory, MB",
    "masking_ratio": "masking against AES-CTR",
}


def _secure_run_rows(figures: dict[str, Any]) -> Iterator[Row]:
    for model, found in figures.items():
        # A dense network of 2,410 weights is next to no work: beside it any key exchange is long.
        limit = found["must_ratio"] if model == "convolutional" else math.inf
        yield _at_most(f"{model}: real masks against none, whole run", found["ratio"], limit)
        difference = abs(found["accuracy"]["real"] - found["accuracy"]["plain"])
        yield _at_most(f"{model}: accuracy lost by secure sums", difference, found["must_accuracy"])


def _accuracy_rows(figures: dict[str, Any]) -> Iterator[Row]:
    yield _at_most("rounds to 97 %, mean", figures["mean_rounds"], figures["limit_rounds"])
    difference = figures["largest_difference_after_3_rounds"]
    yield _at_most("largest difference of a weight", difference, figures["tolerance"])
    private = figures.get("private", {})  # results kept from before have none
    for name in ("thousand_users", "hundred_users", "heart_record"):
        if name in private:
            yield _at_least(f"private, {name}: accuracy", private[name]["mean"], private[name]["must"])
    if "correlated" in private:
        found = private["correlated"]
        yield _at_least("private, gain of correlated noise", found["gain"], found["must_gain"])


def _workload(name: str, processes: int) -> tuple[str, ...]:
    return "benchmarks.simulation", "--workload", name, "--processes", str(processes)


BENCHMARKS = (
    Benchmark("startup", {"startup": ("benchmarks.startup",)}, _startup_rows),
    Benchmark("overhead", {"overhead": ("benchmarks.overhead",)}, _overhead_rows),
    Benchmark(
        "simulation",
        {
            f"{name}, {processes} process{'es' if processes > 1 else ''}": _workload(name, processes)
            for processes in (1, 2)
            for name in ("w1", "w2", "w3", "w4")
        },
        _simulation_rows,
    ),
    Benchmark(
        "exactness",
        {name: ("benchmarks.exactness", "--workload", name) for name in ("w1", "w3")},
        _exactness_rows,
    ),
    Benchmark("scaling", {"scaling": ("benchmarks.scaling",)}, _scaling_rows),
    Benchmark("first_round", {"first_round": ("benchmarks.first_round",)}, _first_round_rows),
    Benchmark("privacy", {"privacy": ("benchmarks.privacy",)}, _privacy_rows),
    Benchmark(
        "secagg",
        {case.name: ("benchmarks.secagg", *case.arguments) for case in CASES},
        _secagg_rows,
    ),
    Benchmark(
        "secure_run",
        {
            "convolutional": ("benchmarks.secure_run", "--epochs", "20"),
            "dense": ("benchmarks.secure_run", "--model", "dense"),
        },
        _secure_run_rows,
    ),
    Benchmark("accuracy", {"accuracy": ("benchmarks.accuracy",)}, _accuracy_rows),
    Benchmark("peers", {"peers": ("benchmarks.peers",)}, _peers_rows, is_usual=False),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run benchmarks from the command line."""
    options = _parser().parse_args(arguments)
    chosen = [b for b in BENCHMARKS if (b.name in options.only if options.only else b.is_usual)]
    for benchmark in chosen:
        print(benchmark.name, flush=True)
        figures = benchmark.run()
        for row in benchmark.rows(figures):
            print(_line(row), flush=True)
        path = Result.of(benchmark.name, figures).write(options.results)
        print(f"  -> {path}", flush=True)


def _line(row: Row) -> str:
    what, value, sign, limit, holds = row
    shown = "none" if value is None else f"{value:.3g}"
    return f"  {what:44s} {shown:>9s}  {sign} {limit:<7g} {'' if holds else 'MISSED'}".rstrip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run every benchmark.")
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser.add_argument("--only", nargs="+", choices=names, default=[], metavar="NAME", help=", ".join(names))
    parser.add_argument("--results", type=Path, default=FOLDER, help="the folder to write to")
    return parser


if __name__ == "__main__":
    main()
