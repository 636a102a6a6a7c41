"""A training program: one local step as an ONNX graph, named by its SHA-256, with its signature inside.

Nothing here imports torch: whoever runs or checks a program needs none.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from tacit.core.errors import ConfigError, DataError
from tacit.core.layout import Tensor
from tacit.core.part import Settings, decode, encode

Kind = Literal["step", "stacked"]
"""Whether a program trains one client at a time or many at once, stacked along a first dimension."""
Dtype = Literal["float32", "int64"]
"""What numbers a program is given."""
Name = Annotated[str, Meta(min_length=1, max_length=512)]
_Size = Annotated[int, Meta(ge=0, le=2**40)]
Shape = Annotated[tuple[_Size, ...], Meta(max_length=16)]
CLIENTS, BATCH = "C", "B"
"""Names of the two dimensions that change from call to call: clients, and examples in a batch."""
FACTS_KEY = "tacit.program"
"""The key of the facts among the graph's metadata."""
OPSET = 18
"""Version of ONNX's operators in a program."""
FORMAT: Literal[1] = 1
"""Version of the facts and of the meaning of inputs and outputs."""


class ProgramError(DataError):
    """A file is no program of ours, or one that its owner does not allow; the message names the rule."""


class Values(Settings, frozen=True):
    """What one example brings to an input.

    Attributes:
        shape: Its shape, without the batch dimension.
        dtype: Its numbers.
    """

    shape: Shape
    dtype: Dtype = "float32"


class Port(Settings, frozen=True):
    """An input or output of the graph.

    Attributes:
        name: Its name in the graph.
        dtype: Its numbers.
        shape: Its sizes; ``"B"`` stands for the batch, ``"C"`` for the clients.
    """

    name: str
    dtype: Dtype
    shape: tuple[int | str, ...]


class ProgramFacts(Settings, frozen=True):
    """What a program is and what it wants: its signature.

    Attributes:
        format: Version of the meaning of all this.
        kind: ``"step"`` for one client, ``"stacked"`` for several, each with its own parameters and batch.
        parameters: Names and shapes of the trainable parameters, in the order of the flat vector.
        inputs: What the model is called with.
        target: What it should say.
        draws: Uniform numbers per example that each call of dropout wants, in the order of the calls.
        is_masked: Whether there is an input ``weight`` that tells examples (1) from padding (0). Without it
            every example counts, and a batch must hold nothing else.
        momentum: Whether the step keeps a velocity.
        weight_decay: Whether it has weight decay.
        max_grad_norm: Whether it clips the gradient.
        proximal: Whether it is pulled toward the global model.
        correction: Whether a correction is added to the gradient.
        versions: What wrote it: names of packages and their versions.
    """

    kind: Kind
    parameters: tuple[Tensor, ...]
    inputs: tuple[Values, ...]
    target: Values
    draws: tuple[Shape, ...] = ()
    is_masked: bool = True
    momentum: bool = False
    weight_decay: bool = False
    max_grad_norm: bool = False
    proximal: bool = False
    correction: bool = False
    versions: Mapping[str, str] = {}
    format: Literal[1] = FORMAT

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(size < 0 for tensor in self.parameters for size in tensor.shape):
            raise ValueError("a parameter has a size below zero")

    @property
    def scalars(self) -> tuple[str, ...]:
        """Names of the settings that the graph is given as numbers of shape ()."""
        optional = ("momentum", "weight_decay", "max_grad_norm", "proximal")
        return ("lr", *(name for name in optional if getattr(self, name)))

    def graph_inputs(self) -> tuple[Port, ...]:
        """Return the graph's inputs, in their order."""
        clients: tuple[int | str, ...] = (CLIENTS,) if self.kind == "stacked" else ()
        ports = [*self._each_parameter("parameters.", clients)]
        if self.momentum:
            ports += self._each_parameter("velocity.", clients)
        if self.proximal:
            ports += self._each_parameter("anchor.", ())
        if self.correction:
            ports += self._each_parameter("correction.", ())
        rows = (*clients, BATCH)
        for index, values in enumerate(self.inputs):
            ports.append(Port(name=f"input.{index}", dtype=values.dtype, shape=(*rows, *values.shape)))
        ports.append(Port(name="target", dtype=self.target.dtype, shape=(*rows, *self.target.shape)))
        if self.is_masked:
            ports.append(Port(name="weight", dtype="float32", shape=rows))
        for index, shape in enumerate(self.draws):
            ports.append(Port(name=f"draw.{index}", dtype="float32", shape=(*rows, *shape)))
        ports += [Port(name=name, dtype="float32", shape=()) for name in self.scalars]
        return tuple(ports)

    def graph_outputs(self) -> tuple[Port, ...]:
        """Return the graph's outputs, in their order."""
        clients: tuple[int | str, ...] = (CLIENTS,) if self.kind == "stacked" else ()
        ports = [*self._each_parameter("new.parameters.", clients)]
        if self.momentum:
            ports += self._each_parameter("new.velocity.", clients)
        return (*ports, Port(name="loss", dtype="float32", shape=clients))

    def _each_parameter(self, prefix: str, clients: tuple[int | str, ...]) -> list[Port]:
        return [
            Port(name=prefix + tensor.name, dtype="float32", shape=(*clients, *tensor.shape))
            for tensor in self.parameters
        ]


@dataclass(frozen=True)
class Program:
    """One local step, forward, backward and update, as the bytes of an ONNX graph.

    Attributes:
        data: The file.
        facts: What it says about itself. Only ``check_program`` makes sure that the graph agrees.
    """

    data: bytes
    facts: ProgramFacts

    @cached_property
    def sha256(self) -> str:
        """The program's name: the SHA-256 of its bytes, 64 hexadecimal digits."""
        return hashlib.sha256(self.data).hexdigest()

    @classmethod
    def read(cls, data: bytes) -> "Program":
        """Read a program's facts.

        Raises:
            ProgramError: The bytes are no ONNX graph, or none that tacit wrote.
        """
        return cls(data, facts_of(parse(data)))


def parse(data: bytes) -> Any:
    """Parse the bytes of a graph; nothing in them is followed or run.

    Returns:
        An ``onnx.ModelProto``.

    Raises:
        ProgramError: They are no ONNX graph.
    """
    import onnx  # late: it takes a moment
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, RecursionError, ValueError) as error:
        raise ProgramError(
            "T231", f"not an ONNX graph: {error}", fix="Export the program again with `tacit export`."
        ) from None
    return model


def facts_of(model: Any) -> ProgramFacts:
    """Return what the metadata of an ``onnx.ModelProto`` says about the program.

    Raises:
        ProgramError: It says nothing, or nothing that we understand.
    """
    found = [entry.value for entry in model.metadata_props if entry.key == FACTS_KEY]
    fix = "Export the program with this version of tacit."
    if len(found) != 1:
        what = f"the graph's metadata has {len(found)} entries `{FACTS_KEY}`, where a program has one"
        raise ProgramError("T232", what, fix=fix)
    try:
        return decode(ProgramFacts, msgspec.json.decode(found[0]))
    except (msgspec.MsgspecError, ConfigError, RecursionError, UnicodeDecodeError) as error:
        what = error.what if isinstance(error, ConfigError) else str(error)
        raise ProgramError("T232", f"the facts cannot be read: {what}", where=FACTS_KEY, fix=fix) from None


def facts_json(facts: ProgramFacts) -> str:
    """Return the facts as they are written into the graph: equal facts give equal text."""
    return msgspec.json.encode(encode(facts), order="sorted").decode()
