"""Private runs in folders, and lives of them that are killed at a line of the code that must not be torn."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import tacit
from tacit.core.rule import Partial
from tacit.round.release import PrivacyState, Release, Released
from tests.rounds import worlds
from tests.rounds.private_runs import private

_WATCHED = (
    "/tacit/sim/spending.py",
    "/tacit/sim/simulate.py",
    "/tacit/round/release.py",
    "/tacit/round/run.py",
    "/tacit/store/checkpoint.py",
    "/tacit/store/privacy_state.py",
    "/tacit/store/ledger.py",
    "/tacit/store/run_folder.py",
    "/tacit/store/files.py",
)


def people() -> tacit.Population:
    """Return clients whose data is the same whenever it is asked for."""
    kept = {f"c{number}": worlds.examples(number, 6 + 3 * (number % 5)) for number in range(16)}
    return tacit.Population.of(kept, test=worlds.examples(999, 40))


def job(**settings: Any) -> tacit.Job:
    """Return a private job of 4 rounds on secret Poisson samples."""
    known: dict[str, Any] = {
        "name": "private",
        "cohort": tacit.Poisson(rate=0.5),
        "rounds": 4,
        "privacy": private(),
        "evaluation": tacit.Evaluation(clients=0),
    }
    return worlds.job(**(known | settings))


def seeded() -> tacit.Job:
    return job(privacy=private(clipping=tacit.AdaptiveClipping(initial=0.1)))


def secret() -> tacit.Job:
    return job(privacy=private(randomness="system", clipping=tacit.AdaptiveClipping(initial=0.1)))


def correlated() -> tacit.Job:
    privacy = private(randomness="system", mechanism=tacit.BandedInverse(bands=3), min_separation=2)
    return job(privacy=privacy, cohort=tacit.FixedSize(5), quorum=0.2)


def stored() -> tacit.Job:
    privacy = private(randomness="system", mechanism=tacit.BandedSquareRoot(), min_separation=3)
    return job(privacy=privacy, cohort=tacit.FixedSize(4), quorum=0.2)


def abandoning() -> tacit.Job:
    """Its second, third and sixth round are abandoned."""
    return _vanishing(private(randomness="system"))


def local() -> tacit.Job:
    """The same under local trust, where an abandoned round costs as much as another."""
    return _vanishing(private(randomness="system", trust="local"))


def _vanishing(privacy: tacit.Privacy) -> tacit.Job:
    world = tacit.World(dropout=tacit.RandomDropout(0.2))
    return job(privacy=privacy, cohort=tacit.FixedSize(5), quorum=0.7, world=world, rounds=5, seed=206)


def released(folder: Path) -> list[tuple[int, str]]:
    """Return the step and the digest of every sum that has got its noise, in all lives of a run."""
    lines = _log(folder).read_text().splitlines() if _log(folder).exists() else []
    return [(int(step), digest) for step, digest in map(str.split, lines)]


class Lives:
    """A helper that has imported everything, and forks one process for each life."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.rounds.private_lives"]
        self._helper = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True
        )

    def live(self, job: str, folder: Path, line: int | None = None) -> dict[str, Any]:
        """Run a job, or go on with it; return ``status``, and ``outcome`` and ``lines``, or ``error``.

        Args:
            job: One of the functions above.
            folder: The run folder.
            line: Die at that line, by SIGKILL; None: live to the end.
        """
        assert self._helper.stdin is not None
        assert self._helper.stdout is not None
        self._helper.stdin.write(json.dumps({"job": job, "folder": str(folder), "line": line}) + "\n")
        self._helper.stdin.flush()
        found: dict[str, Any] = json.loads(self._helper.stdout.readline())
        return found

    def close(self) -> None:
        self._helper.communicate(timeout=30)


# --- the helper's side -------------------------------------------------------------------------


def _main() -> None:
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:  # once, so that everything is imported before the first fork
        _run("secret", Path(place) / "run")
        for line in sys.stdin:
            answer = Path(place) / "answer"
            answer.unlink(missing_ok=True)
            pid = os.fork()
            if not pid:
                _live(**json.loads(line), answer=answer)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            said = json.loads(answer.read_text()) if answer.exists() else {}
            sys.stdout.write(json.dumps({"status": status, **said}) + "\n")
            sys.stdout.flush()


def _live(job: str, folder: str, line: int | None, answer: Path) -> NoReturn:
    """Be a life: write down each release the moment it is made, and die at a line if asked to."""
    code, said = 99, {}
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        _write_releases_down(_log(Path(folder)))
        counted = _watch(line)
        outcome = _run(job, Path(folder))
        code, said = 0, {"outcome": outcome, "lines": len(counted)}
    except tacit.TacitError as error:
        code, said = error.exit_code, {"error": error.as_dict()}
    except BaseException:  # noqa: BLE001 - the test reads it
        said = {"error": {"what": traceback.format_exc()}}
    finally:
        answer.write_text(json.dumps(said))
        os._exit(code)


def _run(job: str, folder: Path) -> str:
    made: tacit.Job = globals()[job]()
    resume = folder.exists()
    return tacit.run(made, people, folder=folder, resume=resume, executor="torch").outcome


def _log(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-released.txt")


def _write_releases_down(log: Path) -> None:
    original = Release.release

    def release(self: Release, partial: Partial, state: PrivacyState) -> Released:
        found = original(self, partial, state)
        digest = hashlib.sha256(found.partial.total.tobytes()).hexdigest()
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(handle, f"{found.state.step} {digest}\n".encode())
        os.close(handle)
        return found

    Release.release = release  # type: ignore[method-assign]


def _watch(last: int | None) -> list[None]:
    """Count the lines of the watched files as they are come to, and die at one of them."""
    counted: list[None] = []

    def in_file(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            counted.append(None)
            if len(counted) == last:
                os.kill(os.getpid(), signal.SIGKILL)
        return in_file

    def at_call(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_name == "_write_report":  # all is done, and drawing takes many calls
            sys.settrace(None)
            return None
        return in_file if is_watched(frame.f_code.co_filename) else None

    @cache
    def is_watched(file: str) -> bool:
        return file.endswith(_WATCHED)

    threading.settrace(at_call)
    sys.settrace(at_call)
    return counted


if __name__ == "__main__":
    _main()
