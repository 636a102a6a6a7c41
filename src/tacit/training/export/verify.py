"""Run a program beside the step it was made from, before anybody relies on it."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnxruntime
from torch import Tensor

from tacit.core.layout import Vector
from tacit.training.executor import UnsupportedError
from tacit.training.export.examine import sample
from tacit.training.export.step import PureStep
from tacit.training.program import CLIENTS, Program

_SIZES = (1, 3)  # examples in a batch
_UNMASKED_SIZES = (2, 3)  # a layer that takes statistics of a batch wants two at least
_CLIENTS = 2
_TOLERANCE = 1e-4
_ERRORS_ONLY = 4


def verify(
    program: Program, step: PureStep, vector: Vector, inputs: tuple[Tensor, ...], target: Tensor
) -> None:
    """Compare a program with its step: a batch of one example, and one whose last row is padding.

    Raises:
        UnsupportedError: They differ, or the program does not run.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    with _naming_onnxruntime():
        session = onnxruntime.InferenceSession(program.data, options, providers=["CPUExecutionProvider"])
    for size in _SIZES if program.facts.is_masked else _UNMASKED_SIZES:
        _compare(session, program, step, sample(step.facts, vector, inputs, target, size))


@contextmanager
def _naming_onnxruntime() -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # its errors have no base of their own
        raise UnsupportedError(f"onnxruntime: {error}") from error


def _compare(
    session: onnxruntime.InferenceSession, program: Program, step: PureStep, values: tuple[Tensor, ...]
) -> None:
    names = [port.name for port in step.facts.graph_inputs()]
    given = dict(zip(names, values, strict=True))
    if program.facts.is_masked and len(given["weight"]) > 1:
        given["weight"][-1] = 0.0
    wanted = [value.numpy() for value in step(*given.values())]
    feeds = {}
    for port in program.facts.graph_inputs():
        array = given[port.name].numpy()
        feeds[port.name] = np.stack([array] * _CLIENTS) if port.shape[:1] == (CLIENTS,) else array
    with _naming_onnxruntime():
        outputs = session.run(None, feeds)
    for port, found, right in zip(program.facts.graph_outputs(), outputs, wanted, strict=True):
        for one in found if port.shape[:1] == (CLIENTS,) else [found]:
            if not np.allclose(one, right, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True):
                raise UnsupportedError(f"the program is not exact: `{port.name}` differs from torch's")
