"""A workload on Flower (https://flower.ai), in its simulation runtime: Ray, one actor for each process.

``python -m benchmarks.peers.flower_loop w1`` in an environment that has it; the last line is a JSON object.
Every user is a node of its own, as Flower has it. Its strategy would draw its own cohort; here it is told the
one of all systems, so that its update can be compared. Noise and clipping are those of its server.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAvg
from flwr.simulation import run_simulation

from benchmarks.peers.flower_client import app as client_app
from benchmarks.peers.flower_client import record_of
from benchmarks.peers.record import Record, Vector, options_of, show
from benchmarks.reference.models import make_model
from benchmarks.reference.workloads import WORKLOADS, cohort, load


class WorkloadCohort(FedAvg):  # type: ignore[misc]
    """FedAvg with the cohorts of a workload."""

    def __init__(self, name: str) -> None:
        super().__init__(fraction_evaluate=0.0)
        self._name = name

    def configure_train(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Iterable[Any]:
        nodes = sorted(grid.get_node_ids())
        for user in cohort(self._name, server_round - 1).tolist():
            task = ConfigRecord({"workload": self._name, "user": user})
            content = RecordDict({"arrays": arrays, "config": task})
            yield Message(content, message_type=MessageType.TRAIN, dst_node_id=nodes[user])


def server_app(name: str, rounds: int, record: Record) -> Any:
    """Return what runs on the server: all rounds."""
    app = ServerApp()
    workload, strategy = WORKLOADS[name], strategy_of(name)
    start = record_of(p.detach().numpy() for p in make_model(name).parameters())
    before = [vector_of(start)]

    def after(server_round: int, arrays: Any) -> None:
        if server_round == 0:
            record.begin()
            return
        record.round_over(lambda: vector_of(arrays))
        if np.array_equal(vector_of(arrays), before.pop()):
            raise RuntimeError(f"the model did not move in round {server_round}: its clients failed")
        before.append(vector_of(arrays))
        if workload.clip is not None:  # from the second round on: the first one is compared
            strategy.noise_multiplier = workload.noise_multiplier

    def main(grid: Any, context: Any) -> None:
        while len(list(grid.get_node_ids())) < workload.users:  # they are set up meanwhile
            time.sleep(0.1)
        strategy.start(grid, start, num_rounds=rounds, evaluate_fn=after)

    app.main()(main)
    return app


def strategy_of(name: str) -> Any:
    """Return the strategy of a workload, its noise not yet turned on."""
    workload = WORKLOADS[name]
    plain = WorkloadCohort(name)
    if workload.clip is None:
        return plain
    return DifferentialPrivacyServerSideFixedClipping(plain, 0.0, workload.clip, workload.cohort)


def vector_of(arrays: Any) -> Vector:
    """Return a model as one vector."""
    return np.concatenate([array.reshape(-1) for array in arrays.to_numpy_ndarrays()]).astype(np.float32)


def main(arguments: Sequence[str] | None = None) -> None:
    """Play one workload from the command line."""
    options = options_of("Time Flower on a workload.", arguments)
    torch.set_num_threads(1)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    load(options.workload)  # drawing the data, if this is the first time, belongs to no figure
    with Record() as record:
        run_simulation(
            server_app=server_app(options.workload, options.rounds, record),
            client_app=client_app,
            num_supernodes=WORKLOADS[options.workload].users,
            backend_config={
                # A Ray of its own, whatever else runs on this machine.
                "init_args": {"address": "local", "num_cpus": options.processes, "num_gpus": 0},
                "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            },
        )
    show(record.facts("flwr", options.workload, options.processes))


if __name__ == "__main__":
    main()
