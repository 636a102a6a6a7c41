"""The secure sums that are measured, and what each may cost."""

from dataclasses import dataclass
from typing import Literal

Mode = Literal["semi-honest", "malicious"]


@dataclass(frozen=True)
class Case:
    """One secure sum.

    Attributes:
        clients: Members of the group.
        dimension: Coordinates of a row.
        mode: What the server is trusted with.
        neighbours: Of every member; None: as many as its parameters need.
        dropouts: Share of the members that vanish once they have dealt their shares.
        lane_bits: Width of a lane.
    """

    clients: int
    dimension: int
    mode: Mode = "semi-honest"
    neighbours: int | None = None
    dropouts: float = 0.0
    lane_bits: int = 32

    @property
    def name(self) -> str:
        """What the results are called."""
        graph = "" if self.neighbours is None else f", k={self.neighbours}"
        lanes = "" if self.lane_bits == 32 else f", {self.lane_bits} bits"
        size = f"{self.clients} x {self.dimension:.0e}".replace("e+0", "e")
        return f"{size}, {self.mode}{graph}, {self.dropouts:.0%} lost{lanes}"

    @property
    def arguments(self) -> tuple[str, ...]:
        """The command line that measures it."""
        shown = ["--clients", f"{self.clients}", "--dimension", f"{self.dimension}", "--mode", self.mode]
        shown += ["--dropouts", f"{self.dropouts}", "--lane-bits", f"{self.lane_bits}"]
        return (*shown, *(["--neighbours", f"{self.neighbours}"] if self.neighbours is not None else []))


@dataclass(frozen=True)
class Limits:
    """The most that a case may cost.

    Attributes:
        client_ms: Milliseconds of one client.
        server_seconds: Seconds of the server.
        upload: Bytes that a client sends for each coordinate; None where nothing is asked.
    """

    client_ms: float
    server_seconds: float
    upload: float | None = None

    @property
    def figures(self) -> dict[str, float]:
        """The limits under the names of what they limit."""
        limits = {"client_ms": self.client_ms, "server_seconds": self.server_seconds}
        return limits | ({"upload_bytes_per_coordinate": self.upload} if self.upload is not None else {})


LARGE, LEAST_MASKING = 10**6, 0.75
"""From so many coordinates on, masking runs at this share or more of the rate of the bare cipher."""
MOST_VECTORS, MOST_MORE_MB = 3, 50
"""The server's memory: so many packed vectors and so much more, whatever the group."""

CASES: dict[Case, Limits] = {
    Case(100, 10**6, neighbours=20): Limits(20, 0.10, 4.02),
    Case(100, 10**6, neighbours=20, lane_bits=16): Limits(20, 0.10, 2.02),
    Case(100, 10**6, neighbours=20, dropouts=0.1): Limits(20, 0.20, 4.02),
    Case(100, 10**6, "malicious", dropouts=0.1): Limits(30, 0.30),
    Case(1000, 10**5, dropouts=0.1): Limits(15, 0.80),
    Case(1000, 10**5, "malicious", dropouts=0.1): Limits(30, 1.40),
    Case(20, 10**7, dropouts=0.1): Limits(130, 0.50),
}
