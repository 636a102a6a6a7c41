"""Operators that treat every element by itself."""

from typing import Any

import torch

from tacit.training.executor import UnsupportedError
from tacit.training.export.graph import Value
from tacit.training.export.registry import HANDLERS, Call, Handler, Number, handles

_aten = torch.ops.aten
_UNARY = {
    "abs": "Abs", "acos": "Acos", "asin": "Asin", "atan": "Atan", "ceil": "Ceil", "cos": "Cos", "cosh":
    "Cosh", "erf": "Erf", "exp": "Exp", "floor": "Floor", "isnan": "IsNaN", "log": "Log", "neg": "Neg",
    "reciprocal": "Reciprocal", "relu": "Relu", "round": "Round", "sigmoid": "Sigmoid", "sign": "Sign",
    "sin": "Sin", "sinh": "Sinh", "sqrt": "Sqrt", "tan": "Tan", "tanh": "Tanh",
}  # fmt: skip
_BINARY = {"div": "Div", "mul": "Mul", "pow": "Pow", "maximum": "Max", "minimum": "Min"}
_COMPARED = {"eq": "Equal", "ge": "GreaterOrEqual", "gt": "Greater", "le": "LessOrEqual", "lt": "Less"}
_LOGICAL = {"and": "And", "or": "Or", "xor": "Xor"}


def _unary(operator: str) -> Handler:
    def handler(call: Call, value: Value) -> str:
        dtype = torch.float32 if call.dtype == torch.bool else call.dtype
        return call.add(operator, call.number(value, dtype))

    return handler


def _binary(operator: str) -> Handler:
    def handler(call: Call, left: Value | Number, right: Value | Number) -> str:
        return call.add(operator, call.number(left), call.number(right))

    return handler


def _compared(operator: str) -> Handler:
    def handler(call: Call, left: Value, right: Value | Number) -> str:
        dtype = common(left, right)
        if dtype == torch.bool and operator != "Equal":
            dtype = torch.int32
        return call.add(operator, call.number(left, dtype), call.number(right, dtype))

    return handler


def _logical(operator: str) -> Handler:
    def handler(call: Call, left: Value, right: Value | Number) -> str:
        if call.dtype != torch.bool:
            raise UnsupportedError(f"bitwise {operator.lower()} of whole numbers")
        return call.add(operator, call.number(left, torch.bool), call.number(right, torch.bool))

    return handler


def common(*values: Value | Number) -> torch.dtype:
    """Return the type of number in which values are compared or added, as torch decides it."""
    tensors = [torch.empty([1] * min(len(v.shape), 1), dtype=v.dtype) for v in values if isinstance(v, Value)]
    numbers: list[Any] = [v for v in values if not isinstance(v, Value)]
    found = tensors[0].dtype
    for other in (*tensors[1:], *numbers):
        known = next((t for t in tensors if t.dtype == found), torch.empty(1, dtype=found))
        found = torch.result_type(known, other if isinstance(other, torch.Tensor) else _plain(other))
    return found


def _plain(number: Number) -> bool | int | float:
    if isinstance(number, torch.SymInt):
        return 0
    return 0.0 if isinstance(number, torch.SymFloat) else number


for _name, _operator in _UNARY.items():
    HANDLERS[getattr(_aten, _name).default] = _unary(_operator)
for _name, _operator in _BINARY.items():
    for _overload in ("Tensor", "Scalar", "default", "Tensor_Tensor", "Tensor_Scalar"):
        if hasattr(getattr(_aten, _name), _overload):
            HANDLERS[getattr(getattr(_aten, _name), _overload)] = _binary(_operator)
for _name, _operator in _COMPARED.items():
    HANDLERS[getattr(_aten, _name).Tensor] = HANDLERS[getattr(_aten, _name).Scalar] = _compared(_operator)
for _name, _operator in _LOGICAL.items():
    HANDLERS[getattr(_aten, f"bitwise_{_name}").Tensor] = _logical(_operator)
    HANDLERS[getattr(_aten, f"bitwise_{_name}").Scalar] = _logical(_operator)
    HANDLERS[getattr(_aten, f"logical_{_name}").default] = _logical(_operator)


@handles(_aten.add.Tensor, _aten.add.Scalar)
def _add(call: Call, left: Value, right: Value | Number, alpha: Number = 1) -> str:
    if call.dtype == torch.bool:
        return call.add("Or", call.number(left), call.number(right))
    return call.add("Add", call.number(left), _times(call, right, alpha))


@handles(_aten.sub.Tensor, _aten.sub.Scalar)
def _sub(call: Call, left: Value, right: Value | Number, alpha: Number = 1) -> str:
    return call.add("Sub", call.number(left), _times(call, right, alpha))


@handles(_aten.rsub.Tensor, _aten.rsub.Scalar)
def _rsub(call: Call, left: Value, right: Value | Number, alpha: Number = 1) -> str:
    return call.add("Sub", call.number(right), _times(call, left, alpha))


def _times(call: Call, value: Value | Number, factor: Number) -> str:
    name = call.number(value)
    return name if factor == 1 else call.add("Mul", name, call.number(factor))


@handles(_aten.ne.Tensor, _aten.ne.Scalar)
def _ne(call: Call, left: Value, right: Value | Number) -> str:
    return call.add("Not", str(_compared("Equal")(call, left, right)))


@handles(_aten.logical_not.default, _aten.bitwise_not.default)
def _not(call: Call, value: Value) -> str:
    if call.dtype != torch.bool:
        raise UnsupportedError("bitwise not of whole numbers")
    return call.add("Not", call.number(value, torch.bool))


@handles(_aten.div.Tensor_mode, _aten.div.Scalar_mode)
def _rounded_div(call: Call, left: Value, right: Value | Number, rounding_mode: str | None = None) -> str:
    if rounding_mode is None:
        return call.add("Div", call.number(left), call.number(right))
    if call.dtype.is_floating_point:
        quotient = call.add("Div", call.number(left), call.number(right))
        if rounding_mode == "floor":
            return call.add("Floor", quotient)
        return call.add("Mul", call.add("Sign", quotient), call.add("Floor", call.add("Abs", quotient)))
    if rounding_mode == "trunc":
        return call.add("Div", call.number(left), call.number(right))
    # (a - a mod b) / b, whose division leaves no rest; Mod has the divisor's sign, as a floor wants it.
    rest = call.add("Mod", call.number(left), call.number(right))
    return call.add("Div", call.add("Sub", call.number(left), rest), call.number(right))


@handles(_aten.floor_divide.default)
def _floor_divide(call: Call, left: Value, right: Value | Number) -> str:
    return _rounded_div(call, left, right, rounding_mode="floor")  # type: ignore[return-value]


@handles(_aten.remainder.Tensor, _aten.remainder.Scalar)
def _remainder(call: Call, left: Value, right: Value | Number) -> str:
    if not call.dtype.is_floating_point:
        return call.add("Mod", call.number(left), call.number(right))
    whole = call.add("Floor", call.add("Div", call.number(left), call.number(right)))
    return call.add("Sub", call.number(left), call.add("Mul", whole, call.number(right)))


@handles(_aten.fmod.Tensor, _aten.fmod.Scalar)
def _fmod(call: Call, left: Value, right: Value | Number) -> str:
    return call.add("Mod", call.number(left), call.number(right), fmod=1)


@handles(_aten.exp2.default)
def _exp2(call: Call, value: Value) -> str:
    return call.add("Pow", call.number(2), call.number(value))


@handles(_aten.pow.Scalar)
def _pow_of_number(call: Call, base: Number, exponent: Value) -> str:
    return call.add("Pow", call.number(base), call.number(exponent))


@handles(_aten.pow.Tensor_Scalar)
def _pow(call: Call, base: Value, exponent: Number) -> str:
    name = call.number(base)
    if exponent == 2:  # many times faster than the general power
        return call.add("Mul", name, name)
    if exponent == 0.5:
        return call.add("Sqrt", name)
    return call.add("Pow", name, call.number(exponent))


@handles(_aten.rsqrt.default)
def _rsqrt(call: Call, value: Value) -> str:
    return call.add("Reciprocal", call.add("Sqrt", call.number(value)))


@handles(_aten.log1p.default)
def _log1p(call: Call, value: Value) -> str:
    return call.add("Log", call.add("Add", call.number(value), call.number(1)))


@handles(_aten.expm1.default)
def _expm1(call: Call, value: Value) -> str:
    return call.add("Sub", call.add("Exp", call.number(value)), call.number(1))


@handles(_aten.log2.default)
def _log2(call: Call, value: Value) -> str:
    return call.add("Mul", call.add("Log", call.number(value)), call.number(1.4426950408889634))


@handles(_aten.log10.default)
def _log10(call: Call, value: Value) -> str:
    return call.add("Mul", call.add("Log", call.number(value)), call.number(0.4342944819032518))


@handles(_aten.where.self, _aten.where.ScalarSelf, _aten.where.ScalarOther, _aten.where.Scalar)
def _where(call: Call, condition: Value, yes: Value | Number, no: Value | Number) -> str:
    return call.add("Where", call.number(condition, torch.bool), call.number(yes), call.number(no))


@handles(_aten.masked_fill.Scalar, _aten.masked_fill.Tensor)
def _masked_fill(call: Call, value: Value, mask: Value, fill: Value | Number) -> str:
    return call.add("Where", call.number(mask, torch.bool), call.number(fill), call.number(value))


@handles(_aten.clamp.default, _aten.clamp.Tensor)
def _clamp(
    call: Call, value: Value, min: Value | Number | None = None, max: Value | Number | None = None
) -> str:
    name = call.number(value)
    if min is not None:
        name = call.add("Max", name, call.number(min))
    return name if max is None else call.add("Min", name, call.number(max))


@handles(_aten.clamp_min.default, _aten.clamp_min.Tensor)
def _clamp_min(call: Call, value: Value, least: Value | Number) -> str:
    return call.add("Max", call.number(value), call.number(least))


@handles(_aten.clamp_max.default, _aten.clamp_max.Tensor)
def _clamp_max(call: Call, value: Value, largest: Value | Number) -> str:
    return call.add("Min", call.number(value), call.number(largest))


@handles(_aten._to_copy.default)  # noqa: SLF001 - its name
def _to_copy(call: Call, value: Value | Number, **_: Any) -> str:
    return call.number(value)  # ONNX, too, cuts off what is behind the point


@handles(
    _aten.clone.default, _aten.alias.default, _aten.detach.default, _aten.lift_fresh_copy.default,
    _aten.contiguous.default,
)  # fmt: skip
def _same(call: Call, value: Value, **_: Any) -> str:
    return value.name


@handles(_aten.copy.default)
def _copy(call: Call, into: Value, value: Value, non_blocking: bool = False) -> str:
    return call.add("Expand", call.number(value), call.graph.sizes(into.shape))
