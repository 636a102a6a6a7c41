"""The executor of record-level privacy: DP-SGD inside a site, one client after the other."""

import traceback
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from tacit.core.layout import Layout, Vector
from tacit.core.local import LocalSGD
from tacit.core.record_level import RecordLevel, expected_batch, sampling_rate
from tacit.core.spec import UpdateSpec
from tacit.core.terms import LocalTerms
from tacit.training.executor import ClientWork, Failure, Trained, UnsupportedError, update_spec
from tacit.training.flat import FlatModel
from tacit.training.losses import loss_of
from tacit.training.per_example import PerExampleGradients
from tacit.training.private_clip import Total, add_clipped, add_noise
from tacit.training.private_draws import RecordDraws
from tacit.training.step import Stepper
from tacit.training.task import Task
from tacit.training.tensors import tensors_of


class PrivateExecutor:
    """Trains clients by DP-SGD (Abadi et al. 2016, algorithm 1) with Poisson batches.

    A step draws its records, clips the gradient of each, adds noise to the sum and divides by the expected
    batch size; an empty batch is a step of noise alone. What follows (momentum, weight decay, the
    algorithm's terms) sees nothing but the noisy mean. The number of steps follows from the site's public
    size. A row holds no metrics, and buffers do not move: an update is made of noisy means only.

    ``RecordLevel`` says what this guarantees; ``events_of`` says what a round costs.

    Args:
        task: What is learned.
        model: The task's model; its state is overwritten.
        local: Settings of local training; the order of ``shuffle`` gives way to Poisson batches.
        terms: What the algorithm adds to the local step.
        record: Noise multiplier and clipping bound; or those of every site that has so many records.
        draws: The secret draws.

    Raises:
        UnsupportedError: The model mixes the examples of a batch, as batch norm does.
    """

    def __init__(
        self,
        task: Task,
        model: FlatModel,
        local: LocalSGD,
        terms: LocalTerms,
        record: RecordLevel | Mapping[int, RecordLevel],
        draws: RecordDraws,
    ) -> None:
        self._model, self._local, self._record, self._draws = model, local, record, draws
        self._gradients = PerExampleGradients(model, loss_of(task.loss))
        self._stepper = Stepper(model.parameters, local, terms)
        self._spec = private_spec(model.layout)

    @property
    def spec(self) -> UpdateSpec:
        return self._spec

    def check(self, work: ClientWork) -> None:
        """Try the model on made-up examples of the shapes that a client has.

        Raises:
            UnsupportedError: Model or loss cannot be trained example by example.
        """
        self._gradients.check(*tensors_of(work.examples))

    def train(self, vector: Vector, group: Sequence[ClientWork]) -> Trained:
        rows = np.empty((len(group), self._spec.size), dtype=np.float32)
        start = torch.from_numpy(vector)
        done: list[ClientWork] = []
        failures: dict[str, Failure] = {}
        self._model.module.train()
        for work in group:
            failure = self._train_one(start, work, rows[len(done)])
            if failure is None:
                done.append(work)
            else:
                failures[work.client] = failure
        sizes = tuple(len(work.examples) for work in done)
        return Trained(tuple(work.client for work in done), rows[: len(done)], sizes, failures)

    def _train_one(self, start: Tensor, work: ClientWork, row: Vector) -> Failure | None:
        """Train one client and write its update into ``row``; return why that failed, if it did."""
        if not len(work.examples):
            return Failure("no data")
        record = self._record_of(work)
        if record is None:
            return Failure("holds another number of records than its noise was made for")
        try:
            self._model.load(start, work.buffers)
            inputs, target = tensors_of(work.examples)
            self._gradients.check(inputs, target)
            buffers = [buffer.clone() for buffer in self._model.module.buffers()]
            self._run_steps(start, work, record, inputs, target)
        except MemoryError:
            raise  # this machine's trouble, not the client's
        except UnsupportedError as error:
            return Failure(str(error))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a client's code may raise anything, and fails alone
            return Failure(f"raised {type(error).__name__}", traceback.format_exc())
        if not all(map(torch.equal, self._model.module.buffers(), buffers)):
            return Failure("a buffer moved with the examples")  # and later gradients with it, past the clip
        row[:] = 0.0
        size = self._model.parameter_count
        torch.sub(self._model.flat[:size], start[:size], out=torch.from_numpy(row[:size]))
        return None

    def _record_of(self, work: ClientWork) -> RecordLevel | None:
        """Return what protects a site's records; None if nobody has found out which noise does."""
        return self._record if isinstance(self._record, RecordLevel) else self._record.get(len(work.examples))

    def _run_steps(
        self, start: Tensor, work: ClientWork, record: RecordLevel, inputs: tuple[Tensor, ...], target: Tensor
    ) -> None:
        torch.default_generator.manual_seed(self._draws.model_seed(work.round, work.client))
        self._stepper.begin(start)
        divisor = expected_batch(self._local, len(target))
        for step, members in enumerate(self._batches(work)):
            total = np.zeros(self._model.parameter_count)
            batch = tuple(x.index_select(0, members) for x in inputs), target.index_select(0, members)
            for gradients in self._gradients.chunks(*batch):
                add_clipped(total, gradients, record.clipping_bound)
            normals = self._draws.noise(work.round, work.client, step, len(total))
            noisy = add_noise(total, normals, record.noise_std)
            # By a public constant: the number that was drawn is as private as the records themselves.
            self._stepper.step(self._as_parameters(noisy / divisor))

    def _batches(self, work: ClientWork) -> Iterator[Tensor]:
        """Yield the positions of the records that take part in each step."""
        records = len(work.examples)
        steps = self._local.total_steps(records)
        if work.max_steps is not None:
            steps = min(steps, work.max_steps)
        rate = sampling_rate(self._local, records)
        for step in range(steps):
            members = self._draws.membership(work.round, work.client, step, records, rate)
            assert members.shape == (records,)
            yield torch.from_numpy(np.flatnonzero(members))

    def _as_parameters(self, mean: Total) -> list[Tensor]:
        parameters = self._model.parameters
        sizes = [p.numel() for p in parameters]
        parts = torch.split_with_sizes(torch.from_numpy(mean.astype(np.float32)), sizes)
        return [part.view(p.shape) for part, p in zip(parts, parameters, strict=True)]


def private_spec(layout: Layout) -> UpdateSpec:
    """Declare a row: the model's own segments, and no metrics, which would tell of the records untouched."""
    return update_spec(layout, metrics=False)
