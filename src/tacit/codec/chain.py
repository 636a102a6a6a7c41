"""A chain of stages, and the chain bound to what enters it."""

from dataclasses import dataclass, replace
from functools import cached_property

from tacit.core.errors import RemoteProtocolError
from tacit.core.layout import Rows, finite_rows
from tacit.core.spec import UpdateSpec
from tacit.core.stage import Memory, Stage, StageContext, Total


@dataclass(frozen=True)
class Chain:
    """Stages in order: the client encodes first to last, the server decodes last to first.

    A chain obeys the law of a stage, since it is one.

    Attributes:
        stages: The stages, in the client's order.
    """

    stages: tuple[Stage, ...] = ()

    def plan(self, spec: UpdateSpec) -> UpdateSpec:
        """Declare what leaves the last stage when ``spec`` enters the first.

        Raises:
            PlanError: A stage refuses its place.
        """
        return self.specs(spec)[-1]

    def specs(self, spec: UpdateSpec) -> list[UpdateSpec]:
        """Return what enters each stage, and at the end what leaves the last."""
        specs = self._planned.get(spec)
        if specs is None:
            specs = [spec]
            for stage in self.stages:
                specs.append(stage.plan(specs[-1]))
            self._planned[spec] = specs
        return specs

    @cached_property
    def _planned(self) -> dict[UpdateSpec, list[UpdateSpec]]:
        return {}

    def encode(self, rows: Rows, memory: Memory, ctx: StageContext) -> tuple[Rows, Memory]:
        """Encode rows of shape (clients, size), one per client; they may be overwritten."""
        bad = None if ctx.is_bounded else ~finite_rows(rows)
        if bad is not None:
            rows[bad] = 0.0
        for stage, spec in zip(self.stages, self.specs(ctx.spec), strict=False):
            # What is bounded stays so: a stage keeps to the bounds that it declares.
            encoded, memory = stage.encode(rows, memory, replace(ctx, spec=spec))
            ctx = replace(ctx, room=_room_left(ctx.room, rows, encoded))
            rows = encoded
            if bad is not None and not getattr(stage, "adds_noise", False):
                rows[bad] = 0.0  # a stage that made such a row zero has hidden it from those after it
        return rows, memory

    def decode(self, total: Total, sent: UpdateSpec, ctx: StageContext) -> Total:
        """Decode the cohort's sum; ``ctx.spec`` is what entered the chain, ``sent`` what left it."""
        specs = self.specs(ctx.spec)
        for index in reversed(range(len(self.stages))):
            total = self.stages[index].decode(total, specs[index + 1], replace(ctx, spec=specs[index]))
        return total


def _room_left(room: int, rows: Rows, encoded: Rows) -> int:
    """Return how many columns are free behind what a stage made of rows that had so much room."""
    is_same_memory = encoded.strides == rows.strides and encoded.ctypes.data == rows.ctypes.data
    return room + rows.shape[1] - encoded.shape[1] if is_same_memory else 0


@dataclass(frozen=True)
class Codec:
    """A chain bound to the update that enters it: both ends of the wire hold the same one.

    Attributes:
        chain: The stages.
        spec: Declared facts about the update that enters the first.
    """

    chain: Chain
    spec: UpdateSpec

    @cached_property
    def sent(self) -> UpdateSpec:
        """Declared facts about what is sent."""
        return self.chain.plan(self.spec)

    def encode(self, rows: Rows, memory: Memory, ctx: StageContext) -> tuple[Rows, Memory]:
        """Encode rows of shape (clients, spec.size) to rows of shape (clients, sent.size).

        Raises:
            RemoteProtocolError: The rows have another length.
        """
        if rows.ndim != 2 or rows.shape[1] != self.spec.size:
            raise RemoteProtocolError(
                "T501", f"an update has shape {rows.shape}, not (clients, {self.spec.size})"
            )
        return self.chain.encode(rows, memory, ctx)

    def decode(self, total: Total, ctx: StageContext) -> Total:
        """Decode the cohort's sum, shape (sent.size,)."""
        return self.chain.decode(total, self.sent, ctx)
