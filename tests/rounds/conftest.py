"""One helper that starts runs, and undisturbed runs to compare with."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tacit
from tests.rounds import worlds
from tests.rounds.launcher import Launcher


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """Starts runs in processes of their own."""
    if sys.platform != "linux":
        pytest.skip("looks for processes in /proc")
    launcher = Launcher(tmp_path_factory.mktemp("launcher"))
    yield launcher
    launcher.close()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """What an undisturbed run of a world tells, run once."""
    known: dict[str, dict[str, Any]] = {}

    def of(world: str) -> dict[str, Any]:
        if world not in known:
            folder = tmp_path_factory.mktemp("undisturbed") / world
            tacit.run(getattr(worlds, world)(), worlds.population, folder=folder)
            known[world] = worlds.told(folder)
        return known[world]

    return of


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A place for a run folder, which is checked at the end."""
    place = tmp_path / "run"
    yield place
    if place.is_dir():
        worlds.assert_sound(place)
