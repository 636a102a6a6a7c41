"""What an export leaves alone, what it refuses and why, and what a program does with odd data."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tacit.core.examples import Examples
from tacit.core.local import LocalSGD
from tacit.core.terms import LocalTerms
from tacit.training import Task
from tacit.training.executor import UnsupportedError
from tacit.training.export import export_program, torch_step
from tacit.training.flat import build
from tacit.training.program import Kind, Program
from tests.unit.training.programs import (
    CLASSES,
    WORDS,
    Case,
    Lines,
    Runner,
    largest_difference,
    run,
    stacked_difference,
)

LOCAL = LocalSGD(lr=0.1)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Dropout(0.2), nn.Linear(6, CLASSES))


def words() -> nn.Module:
    return Lines(nn.Linear(6, 5))


def exported(case: Case, kind: Kind = "step", local: LocalSGD = LOCAL) -> Program:
    return export_program(case.task, build(case.task, 0), local, LocalTerms(), case.examples(), kind)


class Forward(nn.Module):
    """A linear layer in front of a function."""

    def __init__(self, function: object, outputs: int = CLASSES) -> None:
        super().__init__()
        self.first, self.function = nn.Linear(4, outputs), function

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.function(self.first(x))  # type: ignore[operator]
        return out


# --- names ---------------------------------------------------------------------------------------


def test_the_same_task_gives_the_same_bytes() -> None:
    case = Case(mlp)
    first, second = exported(case), exported(case)
    assert first.data == second.data
    assert first.sha256 == second.sha256
    # Values of settings and parameters, and how many examples it was shown, are no part of a program.
    other = export_program(
        case.task, build(case.task, 9), LocalSGD(lr=3.0), LocalTerms(), case.examples(1, seed=5)
    )
    assert other.data == first.data


def test_another_step_gives_another_name() -> None:
    case = Case(mlp)
    names = {exported(case, kind, local).sha256 for kind, local in (
        ("step", LOCAL), ("stacked", LOCAL), ("step", LocalSGD(lr=0.1, momentum=0.9)),
        ("step", LocalSGD(lr=0.1, weight_decay=0.1)),
    )}  # fmt: skip
    assert len(names) == 4


_PRINTS_THE_NAME = """
from tests.unit.training.test_export_limits import Case, Lines, exported, nn
case = Case(lambda: Lines(nn.GRU(6, 5, batch_first=True)), (3,), target=(3,), words=True)
print(exported(case).sha256, exported(case, "stacked").sha256)
"""


@pytest.mark.slow
def test_another_process_gives_the_same_bytes() -> None:
    root = Path(__file__).parents[3]
    said = {
        subprocess.run(
            [sys.executable, "-c", _PRINTS_THE_NAME],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            check=True, capture_output=True, text=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(said) == 1


# --- what is left alone --------------------------------------------------------------------------


def test_nothing_of_torch_or_of_the_model_is_changed() -> None:
    model = build(Task(model=mlp), 0)
    model.module.train()
    model.module[2].eval()
    torch.manual_seed(3)

    def state() -> list[object]:
        return [
            torch.get_rng_state().tolist(), torch.is_grad_enabled(), torch.get_num_threads(),
            torch.get_default_dtype(), torch._C._get_mkldnn_enabled(),  # noqa: SLF001 - what is looked at
            torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled(),
            torch.backends.cuda.math_sdp_enabled(),
            [sorted(map(str, o.default.py_kernels)) for o in (torch.ops.aten.dropout, torch.ops.aten.linear)],
            [part.training for part in model.module.modules()], model.vector().tolist(),
            [p.requires_grad for p in model.module.parameters()], [p.grad for p in model.module.parameters()],
        ]  # fmt: skip

    before = state()
    case = Case(mlp)
    for kind in ("step", "stacked"):
        export_program(case.task, model, LOCAL, LocalTerms(), case.examples(), kind)
    failing = Case(lambda: Forward(torch.linalg.det, 4))
    with pytest.raises(UnsupportedError):
        exported(failing)
    assert state() == before
    assert model.flat.data_ptr() == model.parameters[0].data_ptr()


def test_a_model_that_keeps_its_last_input_does_not_keep_the_exports() -> None:
    class Keeping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.last = nn.Linear(4, CLASSES), None

        def forward(self, x: Tensor) -> Tensor:
            self.last = x
            out: Tensor = self.layer(x)
            return out

    model = build(Task(model=Keeping), 0)
    case = Case(Keeping)
    export_program(case.task, model, LOCAL, LocalTerms(), case.examples())
    assert model.module.last is None


# --- refusals ------------------------------------------------------------------------------------


class Batched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(4, CLASSES), nn.BatchNorm1d(CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.layer(x))
        return out


class Looking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out * 2 if x.shape[0] > 40 else out


class Drawing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x + torch.randn_like(x))
        return out


REFUSED = {
    "batch-norm": (Case(Batched), "buffer `norm.running_mean` of BatchNorm1d"),
    "unknown-operator": (Case(lambda: Forward(lambda x: x + torch.linalg.eigvalsh(x.T @ x))), "_linalg_eigh"),
    "size-of-the-batch": (Case(Looking), "by the number of examples .*test_export_limits.py, line"),
    "other-draws": (Case(Drawing), "aten.randn_like.*random numbers other than dropout's"),
    "values-decide": (Case(lambda: Forward(lambda x: x if x.sum() > 0 else -x)), "by what a tensor holds"),
    "number-taken-out": (Case(lambda: Forward(lambda x: x * x.sum().item())), "taken out of a tensor"),
    "chosen-by-values": (
        Case(lambda: Forward(lambda x: x + x[x > 0].sum())),
        "truth values, whose size nobody knows",
    ),
    "embedding-by-frequency": (
        Case(
            lambda: nn.Sequential(
                nn.Embedding(WORDS, 4, scale_grad_by_freq=True), nn.Flatten(), nn.Linear(8, 3)
            ),
            (2,),
            words=True,
        ),
        "scale_grad_by_freq",
    ),
    "fixed-batch": (Case(lambda: Forward(lambda x: x.view(int(x.shape[0]), 3) * 1)), "number of examples"),
    "does-not-fit": (Case(lambda: nn.Linear(9, 2)), "cannot be traced: RuntimeError: mat1 and mat2"),
    "dropout-across-examples": (
        Case(lambda: Forward(lambda x: x * nn.functional.dropout(torch.ones(3), 0.5))),
        r"dropout: it draws \[3\] numbers for 2 examples",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exported_is_named(name: str) -> None:
    case, reason = REFUSED[name]
    with pytest.raises(UnsupportedError, match=reason):
        exported(case)


def test_without_an_example_there_is_no_program() -> None:
    with pytest.raises(UnsupportedError, match="no example"):
        export_program(Case(mlp).task, build(Case(mlp).task, 0), LOCAL, LocalTerms(), Case(mlp).examples(0))


def test_one_example_is_enough_to_notice_that_examples_influence_each_other() -> None:
    centred = Case(lambda: Forward(lambda x: x - x.mean(0)))
    task, model = centred.task, build(centred.task, 0)
    assert not export_program(task, model, LOCAL, LocalTerms(), centred.examples(1)).facts.is_masked
    with pytest.raises(UnsupportedError, match="influence each other"):
        export_program(task, model, LOCAL, LocalTerms(), centred.examples(1), "stacked")


def test_text_is_no_data_for_a_program() -> None:
    examples = Examples.of(np.array([["a"] * 4] * 3), np.zeros(3, int))
    with pytest.raises(UnsupportedError, match="cannot be traced: TypeError"):
        export_program(Case(mlp).task, build(Case(mlp).task, 0), LOCAL, LocalTerms(), examples)


# --- state that stays the same -------------------------------------------------------------------


class Partly(nn.Module):
    """A frozen layer, a constant of the code, and a parameter that plays no part."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.layer = nn.Linear(4, 4).requires_grad_(False), nn.Linear(4, CLASSES)
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0, 4.0]), persistent=False)
        self.spare = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(self.frozen(x) * self.scale)
        return out


def test_frozen_layers_and_constants_are_part_of_the_program() -> None:
    case = Case(Partly)
    assert largest_difference(case) <= 1e-5
    assert stacked_difference(case) <= 1e-5
    assert [tensor.name for tensor in exported(case).facts.parameters] == [
        "spare",
        "layer.weight",
        "layer.bias",
    ]


def test_several_inputs_of_several_types_are_told_apart() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.layer = nn.Embedding(5, 3), nn.Linear(7, 1)

        def forward(self, word: Tensor, numbers: Tensor, known: Tensor) -> Tensor:
            assert known.dtype == torch.float32
            out: Tensor = self.layer(torch.cat([self.words(word), numbers * known, numbers], dim=1))
            return out

    rng = np.random.default_rng(0)
    inputs = (rng.integers(0, 5, 6).astype(np.int16), rng.random((6, 2)), rng.random((6, 2)) > 0.5)
    examples = Examples.of(inputs, rng.random((6, 1)))
    task = Task(model=Two, loss="mse")
    program = export_program(task, build(task, 0), LOCAL, LocalTerms(), examples)
    assert [(x.shape, x.dtype) for x in program.facts.inputs] == [
        ((), "int64"),
        ((2,), "float32"),
        ((2,), "float32"),
    ]


# --- odd data ------------------------------------------------------------------------------------


def test_a_batch_of_nothing_but_padding_changes_nothing() -> None:
    case = Case(lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, CLASSES)))
    for kind in ("step", "stacked"):
        model = build(case.task, 0)
        local = LocalSGD(lr=0.1, momentum=0.9, max_grad_norm=1.0)
        program = export_program(case.task, model, local, LocalTerms(), case.examples(), kind)
        runner = Runner(program, model, local, LocalTerms())
        rows = runner.rows(case.examples(3), 3, [])
        rows["weight"][:] = 0
        if kind == "stacked":
            rows = {name: np.stack([value, value]) for name, value in rows.items()}
        start = runner.begin(2 if kind == "stacked" else None)
        after, loss = runner.step(start, rows)
        assert not loss.any()
        for name, value in after.items():
            assert np.array_equal(value, start[name])


@pytest.mark.parametrize("label", [CLASSES, -1, 10**12])
def test_a_label_that_is_no_class_spoils_one_client_alone(label: int) -> None:
    _spoils_one_alone(Case(lambda: nn.Linear(4, CLASSES)), "target", label)


@pytest.mark.parametrize("word", [WORDS, -1, 10**12])
def test_a_word_that_is_not_known_spoils_one_client_alone(word: int) -> None:
    _spoils_one_alone(Case(words, (5,), target=(5,), words=True), "input.0", word)


def _spoils_one_alone(case: Case, place: str, value: int) -> None:
    model = build(case.task, 0)
    program = export_program(case.task, model, LOCAL, LocalTerms(), case.examples(), "stacked")
    runner = Runner(program, model, LOCAL, LocalTerms())
    each = [runner.rows(case.examples(4, seed), 4, []) for seed in range(3)]
    rows = {name: np.stack([one[name] for one in each]) for name in each[0]}
    clean, _ = runner.step(runner.begin(3), rows)
    rows[place] = rows[place].copy()
    rows[place][1, 2] = value
    found, loss = runner.step(runner.begin(3), rows)
    assert np.isfinite(loss).tolist() == [True, False, True]
    for name, after in found.items():
        assert np.array_equal(after[[0, 2]], clean[name][[0, 2]])
    assert any(np.isnan(after[1]).any() for after in found.values())


def test_targets_that_are_padding_count_nothing() -> None:
    case = Case(words, (5,), target=(5,), words=True)
    model = build(case.task, 0)
    program = export_program(case.task, model, LOCAL, LocalTerms(), case.examples())
    runner = Runner(program, model, LOCAL, LocalTerms())
    examples = case.examples(4)
    examples.target[:, 3:] = -100
    examples.target[0] = -100
    after, loss = runner.step(runner.begin(), runner.rows(examples, 6, []))
    logits = model.module(torch.from_numpy(examples.inputs[0]))
    right = nn.functional.cross_entropy(
        logits.reshape(-1, CLASSES), torch.from_numpy(examples.target).reshape(-1)
    )
    assert float(loss) == pytest.approx(right.item(), abs=1e-6)
    gradient = torch.autograd.grad(right, model.module.out.weight)[0]
    moved = model.module.out.weight.detach() - 0.1 * gradient
    np.testing.assert_allclose(after["parameters.out.weight"], moved.numpy(), atol=1e-6)


def test_images_with_a_class_for_every_pixel_have_the_classes_second() -> None:
    case = Case(lambda: nn.Conv2d(2, CLASSES, 3, padding=1), (2, 4, 4), target=(4, 4))
    assert largest_difference(case, steps=5) <= 1e-5


def test_more_classes_than_a_matrix_of_labels_is_worth() -> None:
    case = Case(lambda: nn.Linear(4, 100), (4,))
    assert largest_difference(case, steps=5) <= 1e-5


def test_dropout_keeps_what_is_drawn_at_or_above_its_rate() -> None:
    case = Case(lambda: nn.Sequential(nn.Dropout(0.25), nn.Linear(4, 1, bias=False)), loss="mse", target=(1,))
    model = build(case.task, 0)
    program = export_program(case.task, model, LOCAL, LocalTerms(), case.examples())
    assert program.facts.draws == ((4,),)
    runner = Runner(program, model, LOCAL, LocalTerms())
    examples = Examples.of(np.ones((1, 4), np.float32), np.zeros((1, 1), np.float32))
    draws = np.array([[0.0, 0.2499, 0.25, 0.99]], np.float32)
    _, loss = runner.step(runner.begin(), runner.rows(examples, 1, [draws]))
    kept = model.module[1].weight.detach()[0, 2:].sum().item() / 0.75
    assert float(loss) == pytest.approx(kept**2, rel=1e-5)


def test_the_step_in_torch_takes_the_same_inputs_in_the_same_order() -> None:
    case = Case(mlp)
    model = build(case.task, 0)
    step = torch_step(case.task, model, LOCAL, LocalTerms(), case.examples())
    program = exported(case)
    assert step.facts == program.facts
    runner = Runner(program, model, LOCAL, LocalTerms())
    draws = [np.random.default_rng(0).random((3, 6), dtype=np.float32)]
    given = {**runner.begin(), **runner.rows(case.examples(3), 3, draws), **runner.constants}
    found = step(*(torch.from_numpy(given[port.name]) for port in step.facts.graph_inputs()))
    for port, value, other in zip(
        step.facts.graph_outputs(), found, run(runner.session, given).values(), strict=True
    ):
        np.testing.assert_allclose(value.detach().numpy(), other, atol=1e-6, err_msg=port.name)
