"""Many clients in one call: a group is its clients, whoever is beside whom."""

from dataclasses import replace

import numpy as np
import pytest

from tacit.core.local import LocalSGD
from tacit.training.packing import Packed
from tacit.training.program_runner import ProgramRunner
from tacit.training.stacked_executor import bytes_per_client
from tests.unit.training.exported import dropout, executor, program, ragged, rows_of, trained, work


@pytest.mark.parametrize("shuffle", [False, True])
def test_permuting_a_group_permutes_its_rows(shuffle: bool) -> None:
    local = LocalSGD(lr=0.1, batch_size=5, epochs=2, shuffle=shuffle)
    group = ragged()
    expected = trained("stacked", group, local)
    for order in ([6, 5, 4, 3, 2, 1, 0], [3, 0, 5, 1, 6, 2, 4]):
        found = trained("stacked", [group[i] for i in order], local)
        assert found.clients == tuple(group[i].client for i in order)
        assert found.examples == tuple(len(group[i].examples) for i in order)
        assert np.abs(found.rows - expected.rows[order]).max() < 1e-6


def test_a_group_repeats_to_the_bit() -> None:
    first, again = trained("stacked", ragged(), model=dropout), trained("stacked", ragged(), model=dropout)
    assert np.array_equal(first.rows, again.rows)


def test_a_client_ends_alone_where_it_ends_in_a_group() -> None:
    together = trained("stacked", ragged())
    for index, one in enumerate(ragged()):
        assert np.abs(trained("stacked", [one]).rows[0] - together.rows[index]).max() < 1e-6


def test_a_large_group_is_as_good_as_small_ones() -> None:
    works = [work(f"c{i}", rows_of(i, 1 + (7 * i) % 31)) for i in range(120)]
    assert np.abs(trained("stacked", works).rows - trained("onnx", works).rows).max() < 1e-5


def test_where_the_call_of_a_group_raises_its_clients_are_trained_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clean, run = trained("stacked", ragged()), ProgramRunner.run

    def touchy(self: ProgramRunner, vector: np.ndarray, packed: Packed, rows: np.ndarray) -> None:
        if any(w.client == "bad" for w in packed.works):
            raise RuntimeError("a kernel refuses")
        run(self, vector, packed, rows)

    monkeypatch.setattr(ProgramRunner, "run", touchy)
    group = ragged()
    group[2:2] = [work("bad", rows_of(9, 12)), work("empty", rows_of(0, 0))]
    found = trained("stacked", group)
    assert found.clients == clean.clients
    assert np.abs(found.rows - clean.rows).max() < 1e-6
    reasons = {client: failure.reason for client, failure in found.failures.items()}
    assert reasons == {"bad": "raised RuntimeError", "empty": "no data"}
    assert "a kernel refuses" in found.failures["bad"].traceback


def test_a_group_that_shrinks_and_grows_finds_no_trace_of_the_last() -> None:
    local = LocalSGD(lr=0.1, batch_size=5, momentum=0.9, epochs=2)
    runner, vector = executor("stacked", local)
    expected = runner.train(vector, ragged()[1:3]).rows.copy()
    poison = rows_of(0, 30)
    poison.inputs[0][:] = np.nan
    runner.train(vector, [work(f"nan{i}", poison) for i in range(9)])
    assert np.array_equal(runner.train(vector, ragged()[1:3]).rows, expected)


def test_the_memory_of_a_client_is_its_state_and_gradient_twice_its_row_and_a_batch() -> None:
    plain = program("stacked")
    parameters = sum(tensor.size for tensor in plain.facts.parameters)
    assert bytes_per_client(plain, 0) == 4 * (5 * parameters + 1)
    assert bytes_per_client(plain, 10) - bytes_per_client(plain, 0) == 10 * (6 * 4 + 8 + 4)
    momentum = program("stacked", local=LocalSGD(lr=0.1, batch_size=5, momentum=0.5))
    assert bytes_per_client(momentum, 0) - bytes_per_client(plain, 0) == 4 * 2 * parameters
    drops = program("stacked", dropout)
    more = bytes_per_client(drops, 10) - bytes_per_client(drops, 0)
    assert more == 10 * (6 * 4 + 8 + 4 + 8 * 4)


def test_a_straggler_stops_where_its_time_is_up() -> None:
    local = LocalSGD(lr=0.1, batch_size=5, shuffle=False)
    late = [replace(w, max_steps=1) for w in ragged()]
    short = [replace(w, examples=w.examples.take(slice(0, 5)), max_steps=None) for w in ragged()]
    assert np.abs(trained("stacked", late, local).rows - trained("stacked", short, local).rows).max() < 1e-6
