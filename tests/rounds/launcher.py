"""Runs in processes of their own, within milliseconds: a helper imports everything once, then forks.

Each run is the leader of its own session, so that everything it started can be found, and killed.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
LONGEST_S = 120.0


@dataclass
class Started:
    """A run in a process of its own.

    Attributes:
        pid: The process, and its session.
        answer: The file in which it says how it ended.
        log: What it and its workers printed.
    """

    launcher: "Launcher"
    pid: int
    answer: Path
    log: Path

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def wait(self) -> dict[str, Any]:
        """Return how it ended: ``status`` (negative: the signal), and ``outcome`` or ``error``."""
        status = self.launcher.ask({"wait": self.pid})
        said = self.answer.read_text() if self.answer.exists() else ""
        found = json.loads(said) if said else {"log": self.log.read_text()}
        return {"status": status, **found}

    def family(self) -> list[int]:
        """Return the processes of its session that are alive."""
        return [pid for pid in _processes() if _session(pid) == self.pid]

    def workers(self) -> list[int]:
        """Return its worker processes."""
        return [pid for pid in self.family() if pid != self.pid]

    def until_alone(self) -> None:
        """Wait until nothing of its session is left."""
        _until(lambda: not self.family(), "processes are left")


class Launcher:
    """Starts runs; ``worlds:NAME`` says which."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._count = folder, 0
        self._helper = subprocess.Popen(
            [sys.executable, "-m", "tests.rounds.launcher"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            text=True,
        )

    def ask(self, request: dict[str, Any]) -> Any:
        assert self._helper.stdin is not None
        assert self._helper.stdout is not None
        self._helper.stdin.write(json.dumps(request) + "\n")
        self._helper.stdin.flush()
        return json.loads(self._helper.stdout.readline())

    def start(
        self,
        world: str,
        folder: Path,
        *,
        workers: int = 1,
        resume: bool = False,
        pause_s: float = 0.0,
        **extra: Any,
    ) -> Started:
        """Start a run.

        Args:
            world: A function of ``worlds`` that returns the job.
            folder: The run folder.
            workers: Worker processes.
            resume: Whether to go on.
            pause_s: How long loading one client's data takes.
            extra: ``most_bytes``: limit on file sizes; ``die_at``: kill -9 at that step on the disk;
                ``count_steps``: count them; ``code``: run this text instead; ``user``: run as that user.
        """
        self._count += 1
        answer, log = self.folder / f"answer-{self._count}", self.folder / f"log-{self._count}"
        request = {"world": world, "folder": str(folder), "workers": workers, "resume": resume}
        request |= {"pause_s": pause_s, "answer": str(answer), "log": str(log), **extra}
        return Started(self, self.ask(request), answer, log)

    def run(self, world: str, folder: Path, **settings: Any) -> dict[str, Any]:
        """Start a run, wait for its end, and return how it ended."""
        return self.start(world, folder, **settings).wait()

    def close(self) -> None:
        self._helper.communicate(timeout=30)


def until(condition: Callable[[], bool], what: str = "it did not happen") -> None:
    """Wait until something holds."""
    _until(condition, what)


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LONGEST_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _session(pid: int) -> int | None:
    try:
        state, _, _, session = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else int(session)


# --- the helper's side ----------------------------------------------------------------------------


def _main() -> None:
    import torch

    torch.set_num_threads(1)
    _warm_up()
    for line in sys.stdin:
        request = json.loads(line)
        answer = _waited(request["wait"]) if "wait" in request else _forked(request)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _warm_up() -> None:
    """Run once, so that everything is imported and every font found before the first fork."""
    import tacit
    from tests.rounds import worlds

    with tempfile.TemporaryDirectory() as folder:
        tacit.run(worlds.plain(), worlds.population, folder=Path(folder) / "run")


def _waited(pid: int) -> int:
    deadline = time.monotonic() + LONGEST_S
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.002)


def _forked(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        os.setsid()
        log = os.open(request["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = _perform(request)
    except BaseException:  # noqa: BLE001 - the test reads it in the log
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _perform(request: dict[str, Any]) -> int:
    from tests.rounds import worlds

    os.environ[worlds.PAUSE] = str(request["pause_s"])
    answer = os.open(request["answer"], os.O_CREAT | os.O_WRONLY, 0o666)
    steps = _watch_disk(request)
    if "user" in request:
        os.setgroups([])
        os.setgid(request["user"])
        os.setuid(request["user"])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (request.get("most_bytes", limits[0]), limits[1]))
    code, said = _ended(request)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    os.write(answer, json.dumps({**said, "steps": len(steps)}).encode())
    return code


def _ended(request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Perform the run and return its exit code, and how it ended."""
    import tacit
    from tests.rounds import worlds

    try:
        if "code" in request:
            space = {"__name__": "__main__", "request": request}
            exec(compile(request["code"], "<cell>", "exec"), space)
            return 0, {"found": space["found"]}
        job = getattr(worlds, request["world"])()
        result = tacit.run(
            job,
            worlds.population,
            folder=request["folder"],
            workers=request["workers"],
            resume=request["resume"],
        )
    except tacit.TacitError as error:
        return error.exit_code, {"error": error.as_dict()}
    except KeyboardInterrupt:
        return 130, {"outcome": "stopped"}
    return (130 if result.outcome == "interrupted" else 0), {"outcome": result.outcome}


def _watch_disk(request: dict[str, Any]) -> list[str]:
    """Count what changes the run folder, and kill this process just before one such step."""
    steps: list[str] = []
    if not {"die_at", "count_steps"} & request.keys():
        return steps
    folder = request["folder"]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("open", "os.rename", "os.mkdir", "os.remove") or folder not in str(arguments[0]):
            return
        steps.append(event)
        if len(steps) - 1 == request.get("die_at"):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return steps


if __name__ == "__main__":
    _main()
