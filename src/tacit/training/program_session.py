"""A program in onnxruntime, in memory that is bound once: what one step writes, the next one reads."""

from collections.abc import Iterable, Mapping

import numpy as np
import onnxruntime

from tacit.core.examples import Array
from tacit.training.executor import UnsupportedError
from tacit.training.program import Program

_FATAL = 4  # the level of onnxruntime's log at which it says nothing of a client that fails
_OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate memory")


class ProgramSession:
    """Runs the steps of a program in one thread.

    Args:
        program: The program, already checked.
        constants: Inputs that are the same in every step, by name; their memory is read in every step.

    Raises:
        UnsupportedError: The program cannot be loaded.

    Attributes:
        loss: The loss of each client in the last step, shape (room,).
    """

    def __init__(self, program: Program, constants: Mapping[str, Array]) -> None:
        self._facts, self._constants = program.facts, constants
        try:
            self._session = onnxruntime.InferenceSession(
                program.data, _options(), providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise UnsupportedError(f"onnxruntime cannot load the program: {error}") from error
        self.reserve(1)

    @property
    def state(self) -> dict[str, Array]:
        """What the next step starts from: ``parameters.*`` and ``velocity.*``, each of shape (room, ...)."""
        return self._states[self._turn]

    def reserve(self, clients: int) -> None:
        """Make room for that many clients, whatever the state was."""
        ports = self._facts.graph_outputs()[:-1]
        shapes = {tensor.name: tensor.shape for tensor in self._facts.parameters}
        names = [port.name.removeprefix("new.") for port in ports]
        sizes = {name: (clients, *shapes[name.partition(".")[2]]) for name in names}
        # Two sets of memory that take turns.
        self._states = [{name: np.empty(size, np.float32) for name, size in sizes.items()} for _ in range(2)]
        self.loss = np.empty(clients, dtype=np.float32)
        self._written = [
            [(f"new.{name}", memory, memory.ctypes.data) for name, memory in state.items()]
            + [("loss", self.loss, self.loss.ctypes.data)]
            for state in reversed(self._states)
        ]
        self._turn, self._bound = 0, [0, 0]
        self._bindings = [self._session.io_binding() for _ in range(2)]
        for binding in self._bindings:
            for name, value in self._constants.items():
                binding.bind_cpu_input(name, value)

    def step(self, clients: int, feed: Iterable[tuple[str, Array]]) -> None:
        """Move the state of the first ``clients`` clients by one step.

        Args:
            clients: How many these are; one, unless the program is a stacked one.
            feed: What this step is given, by name, C-contiguous and of shape (clients, ...).

        Raises:
            MemoryError: There is not enough memory.
        """
        if self._bound[self._turn] != clients:
            self._bind(clients)
        binding = self._bindings[self._turn]
        for name, array in feed:
            binding.bind_cpu_input(name, self._as_wanted(array))
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:
            if any(sign in str(error) for sign in _OUT_OF_MEMORY):
                raise MemoryError(f"no memory for a step of {clients} clients") from error
            raise
        self._turn = 1 - self._turn

    def _bind(self, clients: int) -> None:
        """Let this turn's steps read one set of memory and write the other, both for so many clients."""
        binding = self._bindings[self._turn]
        for name, memory in self.state.items():
            binding.bind_cpu_input(name, self._as_wanted(memory[:clients]))
        for name, memory, address in self._written[self._turn]:
            binding.bind_output(name, "cpu", 0, np.float32, self._as_wanted(memory[:clients]).shape, address)
        self._bound[self._turn] = clients

    def _as_wanted(self, array: Array) -> Array:
        """Return a view as the graph wants it: a step program knows of no clients."""
        return array if self._facts.kind == "stacked" else array.reshape(array.shape[1:])


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.use_deterministic_compute = True
    # It would keep a plan of its memory for every shape of batch that ever occurs.
    options.enable_mem_pattern = False
    options.log_severity_level = _FATAL
    return options
