"""The first driver: a whole federated run in simulation."""

import statistics
import time
import warnings
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tacit.core.errors import ConfigError, RunError, StoreError, TacitError
from tacit.core.part import encode
from tacit.data import Population, Split
from tacit.job import SCHEMA_VERSION, Job, Plan, PopulationLike, headline, make_plan, model_seed
from tacit.job.private import refuse_scaling
from tacit.privacy import Guarantee
from tacit.privacy.ledger import BudgetExceeded
from tacit.round import EvaluationRecord, Run, Snapshot
from tacit.round.messages import RoundClosed
from tacit.round.run import Evaluate, Evaluated, Finish, NoteRound, RunEffect, StartRound
from tacit.round.world import VirtualWorld
from tacit.sim.beginning import Source, begin_run, default_folder, first_info, left_run, now
from tacit.sim.choosing import AUTO, Chosen, check_executor, choose, choose_again
from tacit.sim.engine import Call, Engine
from tacit.sim.interrupt import Interrupted, Interruption, interruption
from tacit.sim.measuring import evaluation_record, measured_clients
from tacit.sim.memory import give_back_memory, keep_freed_memory
from tacit.sim.observer import Observer, Silent
from tacit.sim.pool import InProcess, Trainers, Workers
from tacit.sim.populations import called, holding, open_population
from tacit.sim.result import Result
from tacit.sim.site_spending import SiteSpending, keeper_of
from tacit.sim.spending import NoSpending, Spending
from tacit.sim.timeline import Timeline
from tacit.sim.trial import PROGRAM_EXECUTORS
from tacit.store import CheckpointWriter, FinalMetrics, RunFolder, RunInfo
from tacit.store.run_info import Outcome
from tacit.training.executor import Failure
from tacit.training.flat import FlatModel, build
from tacit.training.functional_device import CPU, Device, open_device

if TYPE_CHECKING:
    from tacit.sim.cluster import RayTrainers


def run(
    job: Job,
    population: PopulationLike,
    *,
    folder: Path | str | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    executor: str = AUTO,
    device: str = CPU,
    real_masks: bool = False,
    resume: bool = False,
    data: Path | str | None = None,
    observer: Observer | None = None,
    source: Source | None = None,
) -> Result:
    """Simulate a job to its end and return what it gave.

    Ctrl-C and SIGTERM stop it at the next safe point: the result's outcome is then ``"interrupted"``. Asked a
    second time it stops at once.

    Args:
        job: The job.
        population: A source's ``.split(...)``, a ``Population``, a mapping of client id to ``(x, y)``, or a
            function that returns one of them.
        folder: The run folder; by default ``runs/NAME-DATE-TIME``.
        workers: Processes that train; by default 1, or one for each CPU of the cluster. With 1 and no cluster
            this process does it itself. The model does not depend on it.
        cluster: Train on Ray: ``"ray"`` on this machine, ``"ray://HOST:PORT"`` or ``"ray://auto"`` on a
            cluster that it is a node of. The model does not depend on it.
        executor: Who trains in each process: ``"torch"``, ``"rules"``, ``"stacked"``, ``"onnx"`` or
            ``"functional"``; by default the fastest on this machine of those that compute the same as torch.
            A resumed run keeps the one it began with. A job that protects single records has one of its own,
            ``"private"``.
        device: Where to train: ``"cpu"``, ``"cuda"``, ``"cuda:N"``, or ``"auto"`` for a GPU if there is one
            and neither workers nor a cluster are asked for. On a GPU the executor is ``"functional"``, in
            this process; what it cannot train torch trains on the processor.
        real_masks: Take secure sums with every message, key and mask of the protocol. Without, the same
            integers are added up plainly: the model is the same, bit for bit.
        resume: Go on with the unfinished run in ``folder``; ends with the same model, bit for bit.
        data: Where data files lie; by default ``TACIT_DATA`` or the user's cache.
        observer: Is told how the run is going.
        source: Where the job came from, for the record.

    Raises:
        ConfigError: The job, or the way it is run, is wrong; nothing was started.
        DataError: The data is missing or does not fit.
        RunError: The run failed; its folder says why.
        StoreError: The folder cannot be used.
    """
    from tacit.training.threads import borrowed_torch

    if real_masks and job.secure_aggregation is None:
        raise ConfigError(
            "T125",
            "the job has no secure aggregation whose masks could be real",
            where="real_masks",
            fix="Give the job `secure_aggregation`, or leave the option out.",
        )
    if workers is not None and workers < 1:
        raise ConfigError("T103", f"workers must be at least 1, not {workers}", where="workers")
    where = open_device(device, alone=workers in (None, 1) and cluster is None)
    check_executor(executor, where)
    if resume and folder is None:
        raise ConfigError(
            "T131", "resume needs the run folder", where="resume", fix="Name the folder to go on with."
        )
    with ExitStack() as stack:
        stack.enter_context(borrowed_torch())
        keep_freed_memory()  # as the workers do: calibration must time what they will do
        stop = stack.enter_context(interruption())
        # With "auto" the workers may turn out to need none, and it takes a hundred megabytes of each.
        needs_torch = executor not in (AUTO, *PROGRAM_EXECUTORS)
        pool = _pool(workers, cluster, torch=needs_torch)
        if pool is not None:
            stack.enter_context(pool)
        population = called(population)  # once: it may take long
        refuse_scaling(job, population)
        settings = _resolved(job, population)
        population = open_population(population, None if data is None else Path(data))
        if job.secure_aggregation is not None:
            _check_ids(population)
        observer = observer or Silent()
        place = Path(folder) if folder is not None else default_folder(job.name)
        model, plan = _planned(job, population)
        info, vector = first_info(plan, settings, source, pool.count if pool else 1), model.vector()
        left = left_run(place, vector, settings, info) if resume else None
        if left is not None:
            chosen = choose_again(plan, population, model, *left, executor, device=where)
        else:
            chosen = choose(plan, population, model, executor, exporting=observer.exporting, device=where)
        observer.executor_chosen(chosen.choice)
        info = msgspec.structs.replace(_trained_by(info, chosen, where), real_masks=real_masks)
        if pool is not None:
            give_back_memory()  # others train from here on
            population = pool.set_up(plan, population, chosen.choice, chosen.programs)
        engine = Engine(plan, population, model, chosen.choice, chosen.programs, device=where)
        stop.patient = True
        begun = begin_run(place, vector, settings, info, resume=resume, program=chosen.program)
        with begun as (run_folder, state, info):
            trainers: Trainers = pool if pool is not None else InProcess(plan, engine)
            _Driver(plan, population, engine, trainers, run_folder, state, info, stop, observer).drive()
    result = Result(place, job)
    if result.outcome == "failed":
        raise RunError(
            "T304", result.info.reason, where=str(place), fix="The report in the run folder says more."
        )
    return result


def _check_ids(population: Population) -> None:
    """Refuse ids for which the messages of a secure sum have no room, before any round is lost to them."""
    from tacit.secagg.fields import NAME_BYTES

    long = next((client for client in population.ids if len(client.encode()) > NAME_BYTES), None)
    if long is not None:
        what = f"the id of a client is longer than the {NAME_BYTES} bytes that a secure sum's messages have"
        raise ConfigError("T126", what, where=f"client {long!r}", fix="Give it a shorter one.")


def _pool(workers: int | None, cluster: str | None, *, torch: bool) -> "Workers | RayTrainers | None":
    """Start those who train, if they are others than this process."""
    if cluster is not None:
        from tacit.sim.cluster import RayTrainers  # late: Ray is an extra

        return RayTrainers(cluster, workers)
    return Workers(workers, torch=torch) if workers is not None and workers > 1 else None


def _planned(job: Job, population: Population) -> tuple[FlatModel, Plan]:
    """Build the model and plan the job."""
    model = build(job.task, model_seed(job))
    return model, make_plan(job, model.layout, population.sizes)


def _trained_by(info: RunInfo, chosen: Chosen, device: Device) -> RunInfo:
    choice = chosen.choice
    return msgspec.structs.replace(
        info,
        machine=device.beside(info.machine) if choice.executor == "functional" else info.machine,
        executor=choice.executor,
        group=choice.group,
        executor_reason=choice.reason,
        program_sha256=chosen.program_sha256,
    )


def _resolved(job: Job, population: PopulationLike) -> dict[str, Any]:
    """Return the settings as ``job.toml`` holds them."""
    tree: dict[str, Any] = {"schema_version": SCHEMA_VERSION, **encode(job)}
    if isinstance(population, Split):
        tree["population"] = encode(population)
    return tree


@dataclass
class _Driver:
    """Performs the effects of the run machine: the only place that knows processes, clocks and files."""

    plan: Plan
    population: Population
    engine: Engine
    trainers: Trainers
    folder: RunFolder
    state: Snapshot
    info: RunInfo
    stop: Interruption
    observer: Observer
    _shown: set[str] = field(default_factory=set)

    def drive(self) -> None:
        """Drive the run to its end; whatever that is, the folder says it."""
        self._began = time.monotonic()
        self._run = Run(self.plan.run_settings(), self.state)
        world = VirtualWorld(self.plan.job.world, self.plan.sizes, self.plan.job.seed)
        self._timeline = Timeline(
            self.plan,
            self.population,
            world,
            self.trainers,
            self._run,
            self.stop.check,
            real_masks=self.info.real_masks,
        )
        self._measured = measured_clients(self.plan.job, self.population)
        self._round_seconds: list[float] = [r.seconds for r in self.folder.rounds() if r.seconds is not None]
        self.observer.started(self.plan, str(self.folder.path), self.state.committed)
        self._spending: Spending | NoSpending | SiteSpending = NoSpending()
        try:
            self._spending = keeper_of(self.plan, self.population, self.folder)
            self._spending.reconcile(self.state.ledger)
            finish = self._perform_all()
            self._end(finish.outcome, finish.reason)
        except BudgetExceeded as refusal:
            self._end("exhausted", refusal.what)
        except (Interrupted, KeyboardInterrupt):
            self._end("interrupted", "somebody asked it to stop")
        except BaseException as error:
            self._try_to_end(error)
            raise
        finally:
            self._spending.close()
        self._write_report()
        self.observer.finished(self.info)

    def _perform_all(self) -> Finish:
        name = self.plan.job.name
        with CheckpointWriter(self.folder.checkpoint, self.folder.sync, name) as writer:
            pending: list[RunEffect] = list(self._run.begin())
            while True:
                effect = pending.pop(0)
                if isinstance(effect, Finish):
                    return effect
                pending += self._perform(effect)
                if not pending or isinstance(pending[0], StartRound | Finish):
                    self.state = replace(self._run.snapshot(), ledger=self._spending.head)
                    writer.offer(self.state)
                    if self.plan.private is not None:
                        writer.flush()  # so that a crash repeats the next step with the very same noise

    def _perform(self, effect: RunEffect) -> tuple[RunEffect, ...]:
        match effect:
            case StartRound():
                self.stop.check()
                self._spending.reserve(self._run)
                head = self._spending.head
                effect.server.ledger = None if head is None else head.mark
                closed = self._play(effect)
                effects = self._run.receive(closed)
                self._spending.settle(is_released=closed.partial is not None)
                return effects
            case Evaluate():
                return self._run.receive(Evaluated(self._evaluate(effect)))
            case NoteRound():
                spend = effect.privacy
                if isinstance(self._spending, SiteSpending):
                    spend = self._spending.noted(effect.record)
                self.folder.note_round(effect.record, spend)
                if spend.epsilon is not None:
                    self.observer.spent(spend)
                self.observer.round_closed(effect.record)
        return ()

    def _play(self, start: StartRound) -> RoundClosed:
        began = time.monotonic()
        closed = self._timeline.play(start.server, start.vector)
        seconds = time.monotonic() - began
        self._show(self._timeline.failures)
        if closed.partial is not None:
            self._round_seconds.append(seconds)
        for certificate in closed.certificates:
            self.folder.note_certificate(certificate)
        return replace(closed, record=msgspec.structs.replace(closed.record, seconds=seconds))

    def _show(self, failures: Mapping[str, Failure]) -> None:
        """Tell of each kind of failure once: a hundred equal tracebacks help nobody."""
        for client, failure in failures.items():
            if failure.traceback and failure.reason not in self._shown:
                self._shown.add(failure.reason)
                self.observer.client_failed(client, failure)

    def _evaluate(self, effect: Evaluate) -> EvaluationRecord:
        # Where buffers stay with the clients there is no one model that could be measured centrally.
        test = None if self.engine.model.is_local else self.population.test
        central = self.engine.measure(effect.vector, test) if test is not None else {}
        ids = self.population.ids
        calls = [Call(position, None, self._run.buffers_of(ids[position])) for position in self._measured]
        found, failures = (
            self.trainers.measure_clients(effect.vector, calls, self.stop.check) if calls else ({}, {})
        )
        self._show(failures)
        # In the order of the population, whoever measured: a mean's last bit depends on it.
        found = {ids[p]: found[ids[p]] for p in self._measured if ids[p] in found}
        record = evaluation_record(effect.round, central, found)
        if self.plan.secure is not None:  # what one client's update did may show in what was measured on it
            record = msgspec.structs.replace(record, per_client={})
        self.folder.note_evaluation(record)
        self.observer.evaluated(record)
        return record

    def _try_to_end(self, error: BaseException) -> None:
        """Note a failure; a disk that is full must not hide the error under way."""
        # An error of the user's own code may quote data: its words go to the screen, not into a file.
        what = error.what if isinstance(error, TacitError) else f"raised {type(error).__name__}"
        with suppress(Exception):
            self._end("failed", what)
            self._write_report()
            self.observer.finished(self.info)

    def _end(self, outcome: Outcome, reason: str) -> None:
        state = self.state  # not the machine's: what it has of a round under way will be repeated
        last = state.history[-1] if state.history else EvaluationRecord(round=0)
        is_done = outcome in ("completed", "exhausted")
        digest_of_model = self._write_model(state) if is_done else None
        guarantee = self._promised(state)
        self.info = msgspec.structs.replace(
            self.info,
            outcome=outcome,
            reason=reason,
            ended=now(),
            seconds=self.info.seconds + time.monotonic() - self._began,
            rounds=state.committed,
            attempts=state.round,
            seconds_per_round=statistics.median(self._round_seconds) if self._round_seconds else None,
            metrics=FinalMetrics(central=last.central, clients=last.clients),
            model_sha256=digest_of_model,
            privacy=self.plan.privacy if guarantee is None else headline(guarantee),
            guarantee=guarantee,
            epsilon=None if guarantee is None else guarantee.epsilon,
            ledger=state.ledger,
            population=holding(self.population) if self._may_say_who_has_what else None,
        )
        self.folder.write_info(self.info)

    @property
    def _may_say_who_has_what(self) -> bool:
        """Whether counts may be written down: privacy hides them, and a secure sum weighs by them."""
        return self.plan.guarantee is None and self.plan.secure is None

    def _promised(self, state: Snapshot) -> Guarantee | None:
        """Return what is promised after what was released so far."""
        if isinstance(self._spending, SiteSpending):
            return self._spending.statement()
        if self.plan.private is None:
            return None
        steps = 0 if state.privacy is None else state.privacy.step
        guarantee, charged = self.plan.private.statement(steps), None
        with suppress(StoreError):  # a ledger that is broken was the end of the run, and its outcome says so
            charged = self._spending.epsilon(steps)
        if charged is None or charged <= guarantee.epsilon:
            return guarantee
        return msgspec.structs.replace(guarantee, epsilon=charged)  # a retry or a lost ledger counts, too

    def _write_report(self) -> None:
        from tacit.report import write_report  # late: it draws, and drawing takes a second to import

        try:
            write_report(self.folder)
        except TacitError:
            raise
        except Exception as error:  # noqa: BLE001 - a picture that cannot be drawn does not undo the run
            warnings.warn(f"the report could not be drawn: {error!r}", RuntimeWarning, stacklevel=2)

    def _write_model(self, state: Snapshot) -> str:
        self.engine.model.load_vector(state.vector)
        return self.folder.write_model(self.engine.model.state())
