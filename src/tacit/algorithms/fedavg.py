"""Federated averaging."""

from typing import Protocol, runtime_checkable

from tacit.algorithms.server import ServerOptimizer, ServerSGD
from tacit.core.local import LocalSGD
from tacit.core.part import Part
from tacit.core.terms import LocalTerms


@runtime_checkable
class Algorithm(Protocol):
    """What is computed locally, and how the server moves: two separate values."""

    @property
    def local(self) -> LocalSGD:
        """Settings of local training."""
        ...

    @property
    def server(self) -> ServerOptimizer:
        """How the mean update moves the global model."""
        ...

    def terms(self) -> LocalTerms:
        """Return what the algorithm adds to the local step."""
        ...


class FedAvg(Part, frozen=True, tag="fedavg"):
    """Average the updates of locally trained models (McMahan et al. 2017).

    Attributes:
        local: What each client does with the model.
        server: How the mean update moves the global model; by default it is simply added.
    """

    local: LocalSGD
    server: ServerOptimizer = ServerSGD()

    def terms(self) -> LocalTerms:
        return LocalTerms()
