"""Who trains a run: the executor asked for or recorded, or the fastest that computes what torch does."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import msgspec

from tacit.core.errors import ConfigError, PlanError
from tacit.core.examples import Examples
from tacit.core.part import nearest
from tacit.data import Population
from tacit.job import Plan
from tacit.sim.choice_key import choice_key, program_key, with_length
from tacit.sim.trial import Builder, Trial, torch_group
from tacit.store import RunInfo
from tacit.store.choices import ChoiceCache, KeptChoice
from tacit.training.agreement import Agreement
from tacit.training.calibrate import Calibration
from tacit.training.executor import Choice, Executor, UnsupportedError
from tacit.training.executors import EXECUTORS, ON_DEVICES, PRIVATE, Recipe, build_executor
from tacit.training.flat import FlatModel
from tacit.training.functional_device import Device, device_beside
from tacit.training.program import Kind

AUTO = "auto"
"""Let a calibration choose the executor."""
_KINDS: dict[str, Kind] = {"stacked": "stacked", "onnx": "step"}

# Comparing an executor with torch takes some hundred steps, more than there are to be saved here.
_FEW_STEPS = 500
_SHORT_S = 5.0  # of training: below it nobody waits for the rest, so torch trains
# Of training that is left: above it an export, which takes up to some seconds, may pay. What a program saves
# is what torch does around its kernels; where a step takes long, that is little.
_EXPORT_S, _EXPORT_OF_SLOW_STEPS_S, _SLOW_STEP_S = 4.0, 3600.0, 0.005
_TOO_SHORT = "the run is too short for another executor to pay"
_NOBODY = "no client of the first cohort has data that can be loaded"
_NOT_EXPORTED = "not exported, the run is too short to pay for it"
_CLIPS_EXAMPLES = "record-level privacy clips every example"
_CPU = Device()
_FUNCTIONAL = "functional"  # the executor that computes on the device it is told

Exporter = Callable[[Recipe, Examples, Kind], bytes]
"""Exports a program of a kind for examples like these; raises ``UnsupportedError`` if that cannot be done."""
Listener = Callable[[str], None]
"""Hears that the program of an executor is exported, which takes some seconds."""


@dataclass(frozen=True)
class Chosen:
    """Who trains a run.

    Attributes:
        choice: The executor, the size of its groups, and why.
        programs: The program it runs, if it runs one, by its name.
    """

    choice: Choice
    programs: dict[str, bytes] = field(default_factory=dict)

    @property
    def program(self) -> bytes | None:
        """The program, if the executor runs one."""
        return self.programs.get(self.choice.executor)

    @property
    def program_sha256(self) -> str | None:
        """Its SHA-256."""
        return None if self.program is None else hashlib.sha256(self.program).hexdigest()


def choose(
    plan: Plan,
    population: Population,
    model: FlatModel,
    executor: str = AUTO,
    *,
    exporting: Listener | None = None,
    cache: ChoiceCache | None = None,
    build: Builder = build_executor,
    export: Exporter | None = None,
    device: Device = _CPU,
) -> Chosen:
    """Choose the executor of a run that begins, and how many clients it trains at a time.

    ``"auto"`` takes about a second of this process, and as long as the exports take where these pay; the
    second run of a kind on the same machine finds what the first one found. Whatever is chosen has computed
    the same as plain torch on a few clients of the first cohort. Where single records are protected there is
    one executor that does so, and nothing to choose.

    Args:
        plan: The job and what follows from it.
        population: All clients.
        model: The job's model; it is given its state back.
        executor: ``"auto"``, or the name of one.
        exporting: Hears that a program is exported.
        cache: What was chosen before; by default that of this user.
        build: Builds an executor by its name.
        export: Exports a program.
        device: Where to train. On another one than the processor there is one executor, and if that cannot
            train the task or is no faster, torch does on the processor.

    Raises:
        ConfigError: There is no executor of that name, or not on that device.
        PlanError: The one that was asked for cannot train this task.
    """
    check_executor(executor, device)
    if plan.sites is not None or executor == PRIVATE:
        return _private(plan, Trial(plan, population, model, build, device), executor)
    if executor == "torch":
        return _torch(plan, "asked for")
    if executor == AUTO and _steps_of(plan) < _FEW_STEPS:
        return _torch(plan, _TOO_SHORT)
    told = exporting or _nothing
    kept = cache or ChoiceCache()
    chooser = _Chooser(plan, population, model, kept, build, export or _export, told, device)
    try:
        return chooser.find_out() if executor == AUTO else chooser.asked_for(executor)
    finally:
        chooser.trial.close()


def choose_again(
    plan: Plan,
    population: Population,
    model: FlatModel,
    info: RunInfo,
    program: bytes | None,
    executor: str = AUTO,
    *,
    build: Builder = build_executor,
    device: Device = _CPU,
) -> Chosen:
    """Return the choice that an unfinished run began with.

    Args:
        plan: The job and what follows from it.
        population: All clients.
        model: The job's model; it is given its state back.
        info: The run's record.
        program: The program it began with.
        executor: What was asked for now.
        build: Builds an executor by its name.
        device: Where to train.

    Raises:
        ConfigError: Another executor or device was asked for, or this executor does not work here.
    """
    check_executor(executor, device)
    if executor not in (AUTO, info.executor):
        what = f"the run began with the executor `{info.executor}`, not `{executor}`"
        fix = "Resume without naming an executor, or start a new run."
        raise ConfigError("T142", what, where="executor", fix=fix)
    before = device_beside(info.machine)
    if info.executor == _FUNCTIONAL and before != device.label:
        what = f"the run began on {before or 'the processor'}, not on {device}"
        fix = "Resume with the device it began with (--device), or start a new run."
        raise ConfigError("T142", what, where="device", fix=fix)
    choice = Choice(executor=info.executor, group=info.group or plan.group, reason=info.executor_reason)
    if choice.executor == ("torch" if plan.sites is None else PRIVATE):
        return Chosen(choice)
    chosen = Chosen(choice, {} if program is None else {choice.executor: program})
    objection = "its program is missing or damaged" if chosen.program_sha256 != info.program_sha256 else ""
    if not objection:
        chooser = _Chooser(plan, population, model, ChoiceCache(), build, _export, _nothing, device)
        try:
            objection = chooser.tried(chosen).objection
        finally:
            chooser.trial.close()
    if objection:
        what = f"the run began with the executor `{choice.executor}`, which does not work here: {objection}"
        fix = "Resume it on the machine and with the versions it began with, or start a new run."
        raise ConfigError("T142", what, where="executor", fix=fix)
    return chosen


def check_executor(name: str, device: Device = _CPU) -> None:
    """Refuse the name of an executor that there is not, or not on that device.

    Raises:
        ConfigError: There is none.
    """
    known = (AUTO, *EXECUTORS, PRIVATE)
    if name not in known:
        what = f"there is no executor `{name}`{nearest(name, known)}"
        raise ConfigError("T141", what, where="executor", fix=f"One of: {', '.join(known)}.")
    if not device.is_cpu and name not in (AUTO, *ON_DEVICES):
        what = f"the executor `{name}` trains on the processor alone, not on `{device.name}`"
        raise ConfigError("T109", what, where="executor", fix="Leave out the device, or name `functional`.")


@dataclass
class _Chooser:
    """Finds out who may train, with the clients of the first cohort."""

    plan: Plan
    population: Population
    model: FlatModel
    cache: ChoiceCache
    build: Builder
    export: Exporter
    exporting: Listener
    device: Device

    def __post_init__(self) -> None:
        self.trial = Trial(self.plan, self.population, self.model, self.build, self.device)

    def find_out(self) -> Chosen:
        """Return what was found before, or calibrate."""
        if not self.trial.sample:
            return _torch(self.plan, _NOBODY)
        key = choice_key(self.plan, self.model, self._examples, str(self.device))
        # The same run again gets the same executor, whatever longer or shorter ones have found since.
        lasting = with_length(key, _steps_of(self.plan))
        known = self._kept(lasting)
        if known is not None:
            return known
        calibration = self.trial.calibration()
        seconds = _steps_of(self.plan) * calibration.time_torch()
        if seconds < _SHORT_S:
            chosen = _torch(self.plan, _TOO_SHORT)
            # Far from the limit the next run cannot decide otherwise, and need not be told.
            return chosen if seconds < _SHORT_S / 4 else self._keep(lasting, chosen)
        chosen = self._kept(key) or self._calibrated(calibration)
        if _NOT_EXPORTED not in calibration.refused.values():
            chosen = self._keep(key, chosen)
        return self._keep(lasting, chosen)

    def asked_for(self, executor: str) -> Chosen:
        """Return the choice of an executor whose name was given; it is compared, not timed."""
        if not self.trial.sample:
            raise _unsupported(executor, _NOBODY)
        try:
            programs = {executor: self._program(executor)} if executor in _KINDS else {}
        except UnsupportedError as error:
            raise _unsupported(executor, str(error)) from None
        chosen = Chosen(Choice(executor=executor, group=self.trial.untimed_group), programs)
        found = self.tried(chosen)
        if found.objection:
            raise _unsupported(executor, found.objection)
        reason = f"asked for; {self._where(executor)}equal to torch to {found.error:.0e}"
        return Chosen(msgspec.structs.replace(chosen.choice, reason=reason), programs)

    def tried(self, chosen: Chosen) -> Agreement:
        """Build an executor and compare it with torch."""
        name = chosen.choice.executor
        if name not in EXECUTORS:
            return Agreement(objection="it is unknown here")
        if not self.trial.sample:
            return Agreement(objection=_NOBODY)
        try:
            executor, reference = self.trial.build(name, chosen.programs), self.trial.reference(name)
        except UnsupportedError as error:
            return Agreement(objection=str(error))
        return self.trial.calibration().check(executor, chosen.choice.group, reference)

    @property
    def _examples(self) -> Examples:
        return self.trial.sample[0].examples

    def _calibrated(self, calibration: Calibration) -> Chosen:
        """Time the executors that cost nothing to build, then, if that pays, those that need an export.

        On another device than the processor there is one to time. On the processor it is left out: what it
        does the rules and the programs do with less around it.
        """
        if not self.device.is_cpu:
            return self._calibrated_on_device(calibration)
        calibration.try_out("rules", partial(self.trial.build, "rules", {}), self.trial.groups("rules"))
        programs: dict[str, bytes] = {}
        for name, kind in _KINDS.items():
            calibration.choose()  # finds out who is the best of those that agree with torch
            least_s = _EXPORT_S if calibration.paces[0].step_s < _SLOW_STEP_S else _EXPORT_OF_SLOW_STEPS_S
            pays = calibration.best_s * _steps_of(self.plan) > least_s
            if not pays and self.cache.find_program(self._program_key(kind)) is None:
                calibration.refused[name] = _NOT_EXPORTED
                continue
            build, reference = partial(self._built, name, programs), partial(self.trial.reference, name)
            calibration.try_out(name, build, self.trial.groups(name), reference)
        choice = calibration.choose()
        return Chosen(choice, {name: data for name, data in programs.items() if name == choice.executor})

    def _calibrated_on_device(self, calibration: Calibration) -> Chosen:
        name = _FUNCTIONAL
        build, reference = partial(self.trial.build, name, {}), partial(self.trial.reference, name)
        calibration.try_out(name, build, self.trial.groups(name), reference)
        choice = calibration.choose()
        return Chosen(msgspec.structs.replace(choice, reason=self._where(choice.executor) + choice.reason))

    def _where(self, executor: str) -> str:
        """Return words for where an executor trains, if that is worth a word."""
        if self.device.is_cpu:
            return ""
        return f"on {self.device if executor == _FUNCTIONAL else 'the processor'}, "

    def _built(self, name: str, programs: dict[str, bytes]) -> Executor:
        programs[name] = self._program(name)
        return self.trial.build(name, programs)

    def _program(self, name: str) -> bytes:
        """Return the program of an executor: one that is kept, or a new one, which is kept from now on."""
        kind = _KINDS[name]
        key = self._program_key(kind)
        data = self.cache.find_program(key)
        if data is None:
            self.exporting(name)
            data = self.export(self.trial.recipe({}), self._examples, kind)
            self.cache.keep_program(key, data)
        return data

    def _program_key(self, kind: Kind) -> str:
        return program_key(self.plan, self.model, self._examples, kind)

    def _kept(self, key: str) -> Chosen | None:
        """Return what was chosen before, if it still computes what torch does; otherwise forget it."""
        kept = self.cache.find(key)
        if kept is None:
            return None
        data = None if kept.program_sha256 is None else self.cache.program(kept.program_sha256)
        chosen = Chosen(kept.choice, {} if data is None else {kept.choice.executor: data})
        is_whole = chosen.program_sha256 == kept.program_sha256
        if is_whole and (kept.choice.executor == "torch" or not self.tried(chosen).objection):
            return chosen
        self.cache.forget(key)
        return None

    def _keep(self, key: str, chosen: Chosen) -> Chosen:
        """Keep a choice; return that of another process, if one was quicker."""
        mine = KeptChoice(choice=chosen.choice, program_sha256=chosen.program_sha256)
        return chosen if self.cache.keep(key, mine) == mine else self._kept(key) or chosen


def _steps_of(plan: Plan) -> float:
    """Return the local steps of the whole run, all clients together: its length, whatever trains it."""
    return plan.job.rounds * plan.steps_per_round


def _torch(plan: Plan, reason: str) -> Chosen:
    return Chosen(Choice(executor="torch", group=torch_group(plan), reason=reason))


def _private(plan: Plan, trial: Trial, executor: str) -> Chosen:
    """Return the only executor that protects single records, tried out on one client's shapes."""
    if plan.sites is None:
        raise _unsupported(executor, "it protects single records, and the job promises nothing about these")
    if executor not in (AUTO, PRIVATE):
        raise _unsupported(executor, f"it protects no records; {_CLIPS_EXAMPLES}")
    try:
        trial.build(PRIVATE, {})
    except UnsupportedError as error:
        raise _unsupported(PRIVATE, str(error), fix="Change the model or the loss.") from None
    finally:
        trial.close()
    return Chosen(Choice(executor=PRIVATE, group=torch_group(plan), reason=_CLIPS_EXAMPLES))


def _unsupported(
    executor: str, why: str, fix: str = "Leave the choice to `auto`, or name another."
) -> PlanError:
    what = f"the executor `{executor}` cannot train this task: {why}"
    return PlanError("T158", what, where="executor", fix=fix)


def _export(recipe: Recipe, examples: Examples, kind: Kind) -> bytes:
    from tacit.training.export import export_program  # late: it imports what few runs need

    program = export_program(recipe.task, recipe.model(), recipe.local, recipe.terms, examples, kind)
    return program.data


def _nothing(name: str) -> None:
    """Tell nobody."""
