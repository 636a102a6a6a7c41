"""What a secure sum costs: the time of a client, the time and memory of the server, the bytes that travel.

``python -m benchmarks.secagg --clients 100 --dimension 1000000 --neighbours 20 --dropouts 0.1``; with
``--json`` the last line is a JSON object, and ``--all`` measures every case of ``benchmarks.secagg_cases``.

Server and clients are two processes that send each other the encoded messages, in turns: no time of one is in
that of the other. A client's time is that of its machine (keys, shares, checks, signatures, tags) and of
packing and masking its row; the server's is that of its machine and of taking the masks off, which goes on in
two threads. Reading and writing the bytes of messages is given apart (``codec``). Clients and the machine of
the server, which work in one thread, are timed by the processor (``time.process_time``), which the neighbours
on the machine disturb less; unmasking by the clock. Every sum is compared with the one that is expected.

The masking rate is in bytes of keystream that are added to a row; beside it stand, in turns, the cipher
alone (AES-128-CTR of zeros in a block that stays in the cache) and the addition alone (of two rows).
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from benchmarks.secagg_cases import CASES, LARGE, LEAST_MASKING, MOST_MORE_MB, MOST_VECTORS, Case
from benchmarks.secagg_clients import CORRUPT, DROPOUT, find_for, ring_of
from benchmarks.secagg_server import play
from tacit.secagg.masks import Mask, add_masks
from tacit.secagg.parameters import Threat

_TURNS = 9
_BLOCK_BYTES = 1 << 17
_MB = 2**20


def measure(case: Case, times: int = 3) -> dict[str, Any]:
    """Measure one case: medians of several sums, and the largest memory."""
    threat = Threat(CORRUPT, DROPOUT, "malicious" if case.mode == "malicious" else "semi_honest")
    parameters = find_for(case)(case.clients, threat)
    figures = _together([play(case) for _ in range(times)])
    words = ring_of(case).words
    return {
        "case": case.name,
        "clients": case.clients,
        "dimension": case.dimension,
        "mode": case.mode,
        "dropouts": case.dropouts,
        "lane_bits": case.lane_bits,
        "neighbours": parameters.neighbours,
        "threshold": parameters.threshold,
        **figures,
        "upload_bytes_per_coordinate": figures["upload_bytes"] / case.dimension,
        **rates(words, parameters.neighbours + 1),
        "must": _limits(case, words),
    }


def _limits(case: Case, words: int) -> dict[str, float]:
    must = {"server_peak_mb": MOST_VECTORS * 8 * words / _MB + MOST_MORE_MB}
    if case in CASES:
        must |= CASES[case].figures
    if case.dimension >= LARGE:
        must["masking_ratio"] = LEAST_MASKING
    return must


def _together(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians of several runs; of memory the largest."""
    together: dict[str, Any] = {}
    for key, first in runs[0].items():
        values = [run[key] for run in runs]
        if isinstance(first, dict):
            together[key] = _together(values)
        else:
            together[key] = max(values) if key.endswith("_mb") else statistics.median(values)
    return together


def rates(words: int, masks: int) -> dict[str, float]:
    """Return the rates of masking, of its cipher alone and of an addition alone, GB/s, taken in turns."""
    row, other = np.zeros(words, np.uint64), np.ones(words, np.uint64)
    keys = [Mask(bytes([number % 256]) * 16, 1) for number in range(masks)]
    size = 8 * words * masks
    zeros, output = bytes(_BLOCK_BYTES), bytearray(_BLOCK_BYTES)

    def cipher() -> None:
        stream = Cipher(algorithms.AES128(bytes(16)), modes.CTR(bytes(16))).encryptor()
        for _ in range(-(-size // _BLOCK_BYTES)):
            stream.update_into(zeros, output)

    def add() -> None:
        for _ in range(masks):
            np.add(row, other, out=row)

    works: list[Callable[[], None]] = [lambda: add_masks(row, keys), cipher, add]
    taken: list[list[float]] = [[], [], []]
    for _ in range(_TURNS):
        for times, work in zip(taken, works, strict=True):
            begin = time.process_time()
            work()
            times.append(time.process_time() - begin)
    masking, bare, adding = (size / statistics.median(times) / 1e9 for times in taken)
    ratio = statistics.median(b / m for m, b in zip(taken[0], taken[1], strict=True))
    return {
        "masking_gb_per_s": masking,
        "aes_ctr_gb_per_s": bare,
        "add_gb_per_s": adding,
        "masking_ratio": ratio,
    }


def measure_all(times: int) -> dict[str, Any]:
    """Measure every case, each in a process of its own."""
    found = {}
    for case in CASES:
        command = [sys.executable, "-m", __spec__.name, *case.arguments, "--times", f"{times}", "--json"]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found[case.name] = json.loads(output.splitlines()[-1])
        print(table_line(found[case.name]), flush=True)
    return found


def table_line(figures: dict[str, Any]) -> str:
    """Return a case's figures in one line, each with its limit."""
    must, shown = figures["must"], []
    for key, unit in _COLUMNS.items():
        limit = f"/{must[key]:g}" if key in must else ""
        shown.append(f"{figures[key]:.4g}{limit} {unit}")
    return f"{figures['case']:44s} " + ", ".join(shown)


_COLUMNS = {
    "client_ms": "ms a client",
    "server_seconds": "s server",
    "upload_bytes_per_coordinate": "B/coordinate",
    "server_peak_mb": "MB server",
    "masking_ratio": "of AES",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure from the command line."""
    options = _parser().parse_args(arguments)
    if options.all:
        figures = measure_all(options.times)
    else:
        figures = _rounded(measure(_case(options), options.times))
        print(table_line(figures))
    print(json.dumps(figures) if options.json else json.dumps(figures, indent=2))


def case_of(arguments: Sequence[str]) -> Case:
    """Return the case that a command line asks for."""
    return _case(_parser().parse_args(arguments))


def _case(options: argparse.Namespace) -> Case:
    names = ("clients", "dimension", "mode", "neighbours", "dropouts", "lane_bits")
    return Case(**{name: getattr(options, name) for name in names})


def _rounded(figures: Any) -> Any:
    if isinstance(figures, dict):
        return {key: _rounded(value) for key, value in figures.items()}
    return float(f"{figures:.5g}") if isinstance(figures, float) else figures


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.secagg", description="Measure what a secure sum costs."
    )
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--dimension", type=int, default=10**6, help="coordinates of a row")
    parser.add_argument("--neighbours", type=int, help="of every client; without it as many as it needs")
    parser.add_argument("--mode", choices=("semi-honest", "malicious"), default="semi-honest")
    parser.add_argument("--dropouts", type=float, default=0.0, help="share that vanishes before its vector")
    parser.add_argument("--lane-bits", type=int, default=32)
    parser.add_argument("--times", type=int, default=3, help="how many sums are taken")
    parser.add_argument("--all", action="store_true", help="measure every case that has a limit")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser


if __name__ == "__main__":
    main()
