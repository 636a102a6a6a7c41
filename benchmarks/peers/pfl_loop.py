"""A workload on pfl (Apple's pfl-research, https://github.com/apple/pfl-research), in its PyTorch backend.

``python -m benchmarks.peers.pfl_loop w1`` in an environment that has pfl; the last line is a JSON object. The
cohorts are those of all systems. pfl shares a cohort out by the users' sizes, and reduces the workers' sums
with gloo; the first worker is this process and starts the others.
"""

import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from benchmarks.peers.record import Record, flat, options_of, show
from benchmarks.reference.models import loss_fn, make_model
from benchmarks.reference.workloads import WORKLOADS, Workload, cohort, load

RANK, ADDRESSES = "PFL_WORKER_RANK", "PFL_WORKER_ADDRESSES"


def play(name: str, rounds: int, record: Record) -> None:
    """Play rounds in this process, together with the other workers if there are any."""
    # Late, all of them: pfl meets its other workers when it is imported.
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
    from pfl.model.pytorch import PyTorchModel

    workload, module = WORKLOADS[name], make_model(name)
    module.loss = lambda x, y: loss_fn(module(x), y)  # type: ignore[assignment]
    module.metrics = lambda x, y: {}  # type: ignore[assignment]
    model = PyTorchModel(
        model=module,
        local_optimizer_create=torch.optim.SGD,
        central_optimizer=torch.optim.SGD(module.parameters(), lr=1.0),
    )
    data = _dataset(name)
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=rounds,
            evaluation_frequency=rounds,
            train_cohort_size=workload.cohort,
            val_cohort_size=0,
        ),
        backend=SimulatedBackend(data, data, postprocessors=_postprocessors(workload)),
        model=model,
        model_train_params=NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=workload.lr, local_batch_size=workload.batch_size
        ),
        model_eval_params=NNEvalHyperParams(local_batch_size=workload.batch_size),
        callbacks=[_callback(record)],
        send_metrics_to_platform=False,
    )


def _dataset(name: str) -> Any:
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.pytorch import PyTorchTensorDataset

    data = load(name)

    def dataset_of(user: int) -> Any:
        tensors = tuple(torch.from_numpy(np.array(part)) for part in data.user(user))
        return PyTorchTensorDataset(tensors, user_id=str(user))

    users = itertools.chain.from_iterable(cohort(name, round).tolist() for round in itertools.count())
    sizes = dict(enumerate(data.sizes().tolist()))
    return FederatedDataset(dataset_of, lambda: next(users), user_id_to_weight=sizes)


def _postprocessors(workload: Workload) -> list[Any]:
    from pfl.aggregate.weighting import WeightByDatapoints, WeightByUser
    from pfl.privacy.gaussian_mechanism import GaussianMechanism
    from pfl.privacy.privacy_mechanism import CentrallyAppliedPrivacyMechanism

    if workload.clip is None:
        return [WeightByDatapoints()]

    class LaterNoise(GaussianMechanism):  # type: ignore[misc]
        """Leaves the first round without noise, so that it can be compared."""

        is_first = True

        def add_noise(self, statistics: Any, *arguments: Any, **named: Any) -> Any:
            from pfl.metrics import Metrics

            if self.is_first:
                self.is_first = False
                return statistics, Metrics()
            return super().add_noise(statistics, *arguments, **named)

    noise = LaterNoise(workload.clip, workload.noise_multiplier)
    return [WeightByUser(), CentrallyAppliedPrivacyMechanism(noise)]


def _callback(record: Record) -> Any:
    from pfl.callback.base import TrainingProcessCallback
    from pfl.metrics import Metrics

    class Watch(TrainingProcessCallback):  # type: ignore[misc]
        def on_train_begin(self, *, model: Any) -> Any:
            record.begin()
            return Metrics()

        def after_central_iteration(
            self, aggregate_metrics: Any, model: Any, *, central_iteration: int
        ) -> tuple[bool, Any]:
            record.round_over(lambda: flat(model.pytorch_model))
            return False, Metrics()

    return Watch()


@contextmanager
def workers(processes: int, arguments: Sequence[str]) -> Iterator[None]:
    """Start the other workers, unless this is one of them, and wait for them at the end."""
    others = []
    if processes > 1 and RANK not in os.environ:
        os.environ[ADDRESSES] = ",".join(f"localhost:{port}" for port in _free_ports(processes))
        for rank in range(1, processes):
            command = [sys.executable, "-m", "benchmarks.peers.pfl_loop", *arguments]
            others.append(subprocess.Popen(command, env={**os.environ, RANK: str(rank)}, stdout=sys.stderr))
        os.environ[RANK] = "0"
    yield
    for other in others:
        other.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def main(arguments: Sequence[str] | None = None) -> None:
    """Play one workload from the command line."""
    options = options_of("Time pfl on a workload.", arguments)
    torch.set_num_threads(1)
    np.random.seed(0)  # noqa: NPY002 - pfl's workers draw from NumPy's own generator, all alike
    load(options.workload)  # drawing the data, if this is the first time, belongs to no figure
    is_first = RANK not in os.environ
    others = workers(options.processes, sys.argv[1:] if arguments is None else arguments)
    with Record() as record, others:
        play(options.workload, options.rounds, record)
    if is_first:
        show(record.facts("pfl", options.workload, options.processes))


if __name__ == "__main__":
    main()
