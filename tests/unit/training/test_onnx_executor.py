"""Exported programs train clients as PyTorch does: one at a time (`onnx`), and many at once (`stacked`)."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tacit.core.examples import Examples
from tacit.core.layout import Layout
from tacit.core.layout import Tensor as Place
from tacit.core.local import LocalSGD
from tacit.core.randomness import generator
from tacit.core.terms import LocalTerms
from tacit.training.executor import METRIC_BOUND, UnsupportedError
from tacit.training.executors import Recipe, build_executor
from tacit.training.onnx_executor import OnnxExecutor
from tacit.training.program import Program, ProgramFacts, Values
from tacit.training.program_runner import ProgramRunner
from tacit.training.stacked_executor import StackedExecutor
from tests.unit.training.exported import (
    LOCAL,
    ROUND,
    SEED,
    Unit,
    Words,
    dropout,
    executor,
    mlp,
    program,
    ragged,
    regression,
    rows_of,
    task_of,
    trained,
    words_of,
    work,
)

BOTH = pytest.mark.parametrize("name", ["onnx", "stacked"])


def correction() -> np.ndarray:
    size = task_of(mlp)[1].layout.size
    return np.random.default_rng(5).standard_normal(size).astype(np.float32) / 20


# --- the same as PyTorch -----------------------------------------------------------------------

STEPS = {
    "plain": (LocalSGD(lr=0.1, batch_size=5, shuffle=False), LocalTerms()),
    "shuffled": (LocalSGD(lr=0.1, batch_size=5, epochs=3), LocalTerms()),
    "whole": (LocalSGD(lr=0.1, batch_size="all", epochs=2), LocalTerms()),
    "steps": (LocalSGD(lr=0.1, batch_size=4, steps=6), LocalTerms()),
    "momentum": (LocalSGD(lr=0.05, batch_size=5, epochs=2, momentum=0.9), LocalTerms()),
    "proximal": (LocalSGD(lr=0.1, batch_size=5, epochs=2), LocalTerms(proximal=0.3)),
    "all": (
        LocalSGD(lr=0.05, batch_size=5, epochs=2, momentum=0.8, weight_decay=0.1, max_grad_norm=0.7),
        LocalTerms(proximal=0.2, correction=correction()),
    ),
}


@BOTH
@pytest.mark.parametrize("setting", STEPS)
def test_ragged_clients_end_where_the_torch_executor_ends(name: str, setting: str) -> None:
    local, terms = STEPS[setting]
    expected, found = trained("torch", ragged(), local, terms), trained(name, ragged(), local, terms)
    assert (found.clients, found.examples) == (expected.clients, expected.examples)
    assert not found.failures
    assert found.rows.dtype == np.float32
    assert np.abs(expected.rows).max() > 0.1
    assert np.abs(found.rows - expected.rows).max() < 1e-5
    assert not found.rows[6].any()  # no time for a single step: no update, and no loss


@BOTH
def test_words_are_learned_as_in_torch(name: str) -> None:
    works = [work(f"c{i}", words_of(i, size)) for i, size in enumerate((3, 11, 6))]
    found = trained(name, works, model=Words, words=True)
    assert np.abs(found.rows - trained("torch", works, model=Words).rows).max() < 1e-5


@BOTH
@pytest.mark.parametrize("loss", ["mse", "binary_cross_entropy"])
def test_targets_may_be_numbers_of_either_kind(name: str, loss: str) -> None:
    works = []
    for i, dtype in enumerate((np.float32, np.float64, np.int16, np.bool_)):
        examples = rows_of(i, 4 + 3 * i)
        works.append(work(f"c{i}", replace(examples, target=(examples.target > 0).astype(dtype))))
    found = trained(name, works, model=regression, loss=loss)
    assert not found.failures
    assert np.abs(found.rows - trained("torch", works, model=regression, loss=loss).rows).max() < 1e-5


@BOTH
def test_class_labels_may_be_floats(name: str) -> None:
    as_floats = [work(w.client, replace(w.examples, target=w.examples.target + 0.0)) for w in ragged()[:3]]
    assert np.array_equal(trained(name, as_floats).rows, trained(name, ragged()[:3]).rows)


@BOTH
def test_a_batch_is_never_padded_with_what_the_data_does_not_hold(name: str) -> None:
    found = trained(name, ragged()[:3], model=Unit)
    assert np.abs(found.rows - trained("torch", ragged()[:3], model=Unit).rows).max() < 1e-5


def own_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets) + outputs.square().mean()


def test_a_loss_of_the_users_own_sees_real_examples_only() -> None:
    found = trained("onnx", ragged(), loss=own_loss)
    assert np.abs(found.rows - trained("torch", ragged(), loss=own_loss).rows).max() < 1e-5


@BOTH
def test_the_loss_that_is_sent_is_bounded(name: str) -> None:
    local = LocalSGD(lr=1e-12, batch_size=5)
    huge = work("huge", Examples.of(np.full((6, 6), 1e12, np.float32), np.arange(6) % 3))
    row = trained(name, [huge], local).rows[0]
    assert row[-1] == METRIC_BOUND == trained("torch", [huge], local).rows[0, -1]


@BOTH
def test_memory_may_be_wide_strided_or_read_only(name: str) -> None:
    odd = []
    for client in ragged():
        wide = np.repeat(client.examples.inputs[0].astype(np.float64), 2, axis=1)
        inputs, target = np.asfortranarray(wide)[:, ::2], client.examples.target.astype(np.int8)
        inputs.flags.writeable = target.flags.writeable = False
        odd.append(replace(client, examples=Examples((inputs,), target)))
    assert np.array_equal(trained(name, odd).rows, trained(name, ragged()).rows)


@BOTH
def test_one_executor_does_round_after_round(name: str) -> None:
    local, terms = LocalSGD(lr=0.1, batch_size=5, momentum=0.9), LocalTerms(proximal=0.2)
    runner, vector = executor(name, local, terms)
    for group in (ragged()[:2], ragged(), ragged()[3:4], ragged()[:5]):
        fresh, _ = executor(name, local, terms)
        assert np.array_equal(runner.train(vector, group).rows, fresh.train(vector, group).rows)
        vector = vector + runner.train(vector, group).rows[0, :-1]


# --- dropout -----------------------------------------------------------------------------------


@BOTH
def test_what_dropout_draws_has_an_address_and_nothing_to_do_with_the_neighbours(name: str) -> None:
    together = trained(name, ragged(), model=dropout)
    for index, one in enumerate(ragged()):
        alone = trained(name, [one], model=dropout)
        assert np.abs(alone.rows[0] - together.rows[index]).max() < 1e-6
    other_round = [replace(w, round=ROUND + 1) for w in ragged()]
    renamed = [replace(w, client=f"other-{w.client}") for w in ragged()]
    for changed in (
        trained(name, other_round, LocalSGD(lr=0.1, batch_size=5, shuffle=False), model=dropout),
        trained(name, renamed, LocalSGD(lr=0.1, batch_size=5, shuffle=False), model=dropout),
    ):
        plain = trained(name, ragged(), LocalSGD(lr=0.1, batch_size=5, shuffle=False), model=dropout)
        assert np.abs(changed.rows[:6] - plain.rows[:6]).max(axis=1).min() > 1e-4


def test_both_executors_drop_the_same_elements() -> None:
    one, many = trained("onnx", ragged(), model=dropout), trained("stacked", ragged(), model=dropout)
    assert np.abs(one.rows - many.rows).max() < 1e-5


@BOTH
def test_dropout_is_that_of_a_plain_step_with_the_addressed_numbers(name: str) -> None:
    local = LocalSGD(lr=0.1, batch_size=5, shuffle=False)
    client = work("ann", rows_of(3, 7))
    runner, vector = executor(name, local, model=dropout)
    flat = task_of(dropout)[1]
    flat.load_vector(vector)
    first, _, _, last = flat.module.children()
    rng = generator(SEED, ROUND, "client", "ann", "draw")
    inputs, target = map(torch.from_numpy, (client.examples.inputs[0], client.examples.target))
    for span in (slice(0, 5), slice(5, 7)):
        kept = torch.from_numpy(rng.random((len(target[span]), 8), dtype=np.float32)) >= 0.4
        hidden = functional.relu(first(inputs[span])) * kept / 0.6
        loss = functional.cross_entropy(last(hidden), target[span])
        gradients = torch.autograd.grad(loss, flat.parameters)
        with torch.no_grad():
            for parameter, gradient in zip(flat.parameters, gradients, strict=True):
                parameter -= 0.1 * gradient
    row = runner.train(vector, [client]).rows[0]
    assert np.abs(row[:-1] - (flat.vector() - vector)).max() < 1e-6


# --- failures ----------------------------------------------------------------------------------


def no_number(size: int = 6) -> Examples:
    examples = rows_of(60, size)
    examples.inputs[0][1, 2] = np.nan
    return examples


BAD = {
    "empty": (rows_of(0, 0), "no data"),
    "shape": (Examples.of(np.zeros((3, 99), np.float32), np.zeros(3, int)), "raised MisfitError"),
    "kind": (Examples.of(np.zeros((3, 6), int), np.zeros(3, int)), "raised MisfitError"),
    "inputs": (Examples.of((np.zeros((3, 6)), np.zeros(3)), np.zeros(3, int)), "raised MisfitError"),
    "no inputs": (Examples((), np.zeros(3, int)), "raised MisfitError"),
    "text": (Examples.of(np.array([["a"] * 6] * 3), np.zeros(3, int)), "raised MisfitError"),
    "target": (Examples.of(np.zeros((3, 6), np.float32), np.zeros((3, 2), int)), "raised MisfitError"),
    "nan": (no_number(), None),
    "class": (replace(rows_of(1, 8), target=np.full(8, 3)), None),
    "negative": (replace(rows_of(1, 8), target=np.full(8, -1)), None),
    "no label": (replace(rows_of(1, 8), target=np.full(8, np.nan)), None),
}


@BOTH
@pytest.mark.parametrize("place", [0, 3, 7])
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_client_fails_alone_and_leaves_the_others_as_they_are(name: str, place: int, kind: str) -> None:
    examples, reason = BAD[kind]
    clean, group = trained(name, ragged()), ragged()
    group.insert(place, work("bad", examples))
    found = trained(name, group)
    others = [index for index, client in enumerate(found.clients) if client != "bad"]
    if name == "onnx" or reason is not None:
        assert np.array_equal(found.rows[others], clean.rows)
    # One more client in the stack moves the others in memory, and with that the last bit of an exponential.
    assert np.abs(found.rows[others] - clean.rows).max() < 1e-6
    assert [found.clients[index] for index in others] == [w.client for w in ragged()]
    if reason is None:  # its row says by itself that it is of no use
        assert not np.isfinite(found.rows[found.clients.index("bad")]).all()
        assert found.failures == {}
    else:
        assert {client: failure.reason for client, failure in found.failures.items()} == {"bad": reason}
        assert reason == "no data" or "MisfitError: " in found.failures["bad"].traceback


@BOTH
@pytest.mark.parametrize("word", [-1, 7, 1000, -100])
def test_a_word_that_the_vocabulary_lacks_is_refused_and_read_from_nobody_else(name: str, word: int) -> None:
    sound = [work(f"c{i}", words_of(i, 6)) for i in range(3)]
    bad = words_of(9, 6)
    bad.inputs[0][4, 2] = word
    found = trained(name, [sound[0], work("bad", bad), *sound[1:]], model=Words, words=True)
    clean = trained(name, sound, model=Words, words=True)
    is_bad = np.array([client == "bad" for client in found.clients])
    assert np.abs(found.rows[~is_bad] - clean.rows).max() < 1e-6
    assert "bad" in found.failures or not np.isfinite(found.rows[is_bad]).all()


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_is_refused_by_a_loss_of_the_users_own(label: int) -> None:
    bad = rows_of(1, 8)
    bad.target[4] = label
    found = trained("onnx", [work("bad", bad)], loss=own_loss)
    assert found.failures or not np.isfinite(found.rows).all()


@BOTH
def test_labels_that_are_padding_count_for_nothing(name: str) -> None:
    works = ragged()[:3]
    for client in works:
        client.examples.target[::3] = -100
    found = trained(name, works)
    assert np.isfinite(found.rows).all()
    assert np.abs(found.rows[:2] - trained("torch", works[:2]).rows).max() < 1e-5


@BOTH
def test_nobody_and_nobody_with_data_give_no_rows(name: str) -> None:
    runner, vector = executor(name)
    assert runner.train(vector, []).rows.shape == (0, runner.spec.size)
    found = runner.train(vector, [work("a", rows_of(0, 0)), work("b", rows_of(0, 0))])
    assert found.rows.shape == (0, runner.spec.size)
    assert {client: failure.reason for client, failure in found.failures.items()} == dict.fromkeys(
        "ab", "no data"
    )


@BOTH
def test_too_little_memory_is_this_machines_trouble(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, vector = executor(name)

    def run(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ProgramRunner, "run", run)
    with pytest.raises(MemoryError):
        runner.train(vector, ragged())


# --- programs ----------------------------------------------------------------------------------


def recipe(programs: dict[str, bytes], local: LocalSGD = LOCAL, terms: LocalTerms | None = None) -> Recipe:
    task, flat = task_of(mlp)
    return Recipe(task, flat.layout, local, terms or LocalTerms(), SEED, lambda: flat, programs)


@BOTH
def test_without_a_program_of_its_kind_there_is_no_executor(name: str) -> None:
    with pytest.raises(UnsupportedError, match="there is none"):
        build_executor(name, recipe({}))
    other = program("step" if name == "stacked" else "stacked")
    with pytest.raises(UnsupportedError, match=other.facts.kind):
        build_executor(name, recipe({name: other.data}))


@pytest.mark.parametrize(
    ("local", "terms", "says"),
    [
        (LocalSGD(lr=0.1, momentum=0.5), LocalTerms(), "without `momentum`"),
        (LocalSGD(lr=0.1, weight_decay=0.5), LocalTerms(), "without `weight_decay`"),
        (LocalSGD(lr=0.1, max_grad_norm=0.5), LocalTerms(), "without `max_grad_norm`"),
        (LOCAL, LocalTerms(proximal=0.1), "without `proximal`"),
        (LOCAL, LocalTerms(correction=correction()), "without `correction`"),
    ],
    ids=["momentum", "weight_decay", "max_grad_norm", "proximal", "correction"],
)
def test_a_program_for_other_settings_is_refused(local: LocalSGD, terms: LocalTerms, says: str) -> None:
    with pytest.raises(UnsupportedError, match=says):
        build_executor("onnx", recipe({"onnx": program("step").data}, local, terms))


def test_a_program_with_a_term_that_the_job_lacks_is_refused() -> None:
    found = program("step", proximal=True)
    with pytest.raises(UnsupportedError, match="with `proximal`"):
        build_executor("onnx", recipe({"onnx": found.data}))


def test_a_program_of_another_model_is_refused() -> None:
    found = program("step")
    for layout, says in (
        (Layout.of(parameters={"weight": (2, 3)}), "another model"),
        (Layout.of(parameters={"weight": (2, 3)}, buffers={"mean": (3,)}), "buffers"),
    ):
        with pytest.raises(UnsupportedError, match=says):
            OnnxExecutor(found, layout, LOCAL, LocalTerms(), SEED)


def greedy() -> Program:
    """Return a program that sums up as many numbers as its label says."""
    facts = ProgramFacts(
        kind="step",
        parameters=(Place(name="w", shape=(1,)),),
        inputs=(),
        target=Values(shape=(), dtype="int64"),
        is_masked=False,
    )
    types = {"float32": onnx.TensorProto.FLOAT, "int64": onnx.TensorProto.INT64}
    inputs, outputs = (
        [onnx.helper.make_tensor_value_info(port.name, types[port.dtype], port.shape) for port in ports]
        for ports in (facts.graph_inputs(), facts.graph_outputs())
    )
    nodes = [
        onnx.helper.make_node("Mul", ["parameters.w", "lr"], ["new.parameters.w"]),
        onnx.helper.make_node("Expand", ["parameters.w", "target"], ["many"]),
        onnx.helper.make_node("ReduceSum", ["many"], ["loss"], keepdims=0),
    ]
    graph = onnx.helper.make_graph(nodes, "greedy", inputs, outputs)
    opsets = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return Program(model.SerializeToString(), facts)


@pytest.mark.parametrize("kind", ["onnx", "stacked"])
def test_a_call_without_enough_memory_fails_no_client(kind: str) -> None:
    layout, local = Layout.of(parameters={"w": (1,)}), LocalSGD(lr=0.5, batch_size=1)
    runner = (OnnxExecutor if kind == "onnx" else StackedExecutor)(greedy(), layout, local, LocalTerms(), 0)
    small, large = (work(str(n), Examples((), np.array([n]))) for n in (3, 10**15))
    assert runner.train(np.ones(1, np.float32), [small]).rows.tolist() == [[-0.5, 3.0]]
    with pytest.raises(MemoryError):
        runner.train(np.ones(1, np.float32), [large])


def test_what_onnxruntime_cannot_load_is_refused() -> None:
    found = program("step")
    with pytest.raises(UnsupportedError, match="cannot load"):
        OnnxExecutor(replace(found, data=found.data[:-100]), task_of(mlp)[1].layout, LOCAL, LocalTerms(), 0)


# --- without PyTorch ---------------------------------------------------------------------------

WITHOUT_TORCH = """
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

class NoTorch(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnxscript"):
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, NoTorch())
import msgspec
import numpy as np
from tacit.core.examples import Examples
from tacit.core.local import LocalSGD
from tacit.core.terms import LocalTerms
from tacit.training import ClientWork, Task
from tacit.training.executors import Recipe, build_executor
from tacit.core.layout import Layout, Tensor as Place
from tacit.training.program import Program, ProgramFacts, Values

folder, name = Path(sys.argv[1]), sys.argv[2]
data = (folder / "program").read_bytes()
shapes = {tensor.name: tensor.shape for tensor in Program.read(data).facts.parameters}
local = LocalSGD(lr=0.1, batch_size=5, epochs=2)
task, layout = Task(model="nobody:knows"), Layout.of(parameters=shapes)
recipe = Recipe(task, layout, local, LocalTerms(), 7, None, {name: data})
executor = build_executor(name, recipe)
arrays = np.load(folder / "data.npz")
works = [ClientWork(f"c{i}", Examples.of(arrays[f"x{i}"], arrays[f"y{i}"]), 3) for i in range(3)]
trained = executor.train(arrays["vector"], works)
assert not trained.failures, trained.failures
np.save(folder / "rows.npy", trained.rows)
assert "torch" not in sys.modules
"""


@BOTH
def test_a_program_trains_where_there_is_no_torch(name: str, tmp_path: Path) -> None:
    local = LocalSGD(lr=0.1, batch_size=5, epochs=2)
    works = [work(f"c{i}", rows_of(i, 4 + 5 * i)) for i in range(3)]
    runner, vector = executor(name, local)
    (tmp_path / "program").write_bytes(program("stacked" if name == "stacked" else "step").data)
    arrays = {f"x{i}": w.examples.inputs[0] for i, w in enumerate(works)}
    arrays |= {f"y{i}": w.examples.target for i, w in enumerate(works)}
    np.savez(tmp_path / "data.npz", vector=vector, **arrays)
    command = [sys.executable, "-W", "error", "-c", WITHOUT_TORCH, str(tmp_path), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.load(tmp_path / "rows.npy"), runner.train(vector, works).rows)


def test_the_facts_name_the_program() -> None:
    found = program("step")
    assert Program.read(found.data) == found
