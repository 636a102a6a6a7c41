"""Where the data files lie, and a cache that is nobody's own."""

import os
from pathlib import Path

import numpy as np
import pytest

from tacit.data import Table

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def data_folder() -> Path:
    """The folder of data files; without one the test is skipped, under CI it fails."""
    folder = Path(os.environ.get("TACIT_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "mnist").is_dir():
        reason = f"no data files in {folder}: set TACIT_DATA to the folder that holds mnist/, heart/, ..."
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    return folder


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of a user who has never run anything."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("tacit.data.files.cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr("tacit.data.sources.sms.cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def table() -> Table:
    """A hundred rows that know their own number, ten labels, and three sites of 50, 30 and 20 rows."""
    rows = np.arange(100)
    sites = np.array(["basel"] * 50 + ["zurich"] * 30 + ["aarau"] * 20)
    return Table((rows[:, None].astype(np.float32),), rows % 10, {"site": sites})
