"""What cannot be a cluster, or cannot be reached, is refused with a number, and soon."""

import socket
import sys
import time
from pathlib import Path

import pytest

import tacit
from tacit.core.errors import ConfigError, RunError
from tacit.sim import ray_session
from tests.rounds import worlds


def attempt(folder: Path, cluster: str) -> None:
    tacit.run(worlds.plain(), worlds.population, folder=folder, cluster=cluster)


@pytest.mark.parametrize(
    "cluster",
    ["", "dask", "10.0.0.1:6379", "ray://", "ray://head", "ray://head:x", "ray://:1", "ray://a:99999"],
)
def test_only_ray_and_its_addresses_are_clusters(tmp_path: Path, cluster: str) -> None:
    with pytest.raises(ConfigError, match="T136"):
        attempt(tmp_path / "run", cluster)
    assert not (tmp_path / "run").exists()


def test_without_ray_the_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="T137") as caught:
        attempt(tmp_path / "run", "ray")
    assert "pip install 'tacit[ray]'" in caught.value.fix


def test_a_closed_port_is_told_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(RunError, match=r"T311.*refused"):
        attempt(tmp_path / "run", f"ray://127.0.0.1:{port}")
    assert time.monotonic() - began < 20
    assert not (tmp_path / "run").exists()


def test_something_that_listens_but_is_not_ray_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_session, "_ANSWER_S", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        cluster = f"ray://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(RunError, match=r"T311.*nothing answers"):
            attempt(tmp_path / "run", cluster)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_auto_looks_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(RunError, match="T311"):
        attempt(tmp_path / "run", "ray://auto")
