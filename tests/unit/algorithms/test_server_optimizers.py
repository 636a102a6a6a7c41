"""Server optimizers against Reddi et al. 2021 (algorithm 2) and Hsu et al. 2019, written out in float64."""

import numpy as np
import pytest

from tacit.algorithms import FedAvg, ServerAdagrad, ServerAdam, ServerOptimizer, ServerSGD, ServerYogi
from tacit.core.local import LocalSGD

ROUNDS, SIZE = 5, 200


def updates() -> np.ndarray:
    rng = np.random.default_rng(3)
    scale = 10.0 ** rng.uniform(-4, 0, (ROUNDS, SIZE))  # both sides of v and of tau^2
    return (rng.standard_normal((ROUNDS, SIZE)) * scale).astype(np.float32)


def start() -> np.ndarray:
    return np.random.default_rng(4).standard_normal(SIZE).astype(np.float32)


def walked(optimizer: ServerOptimizer) -> np.ndarray:
    vector, state = start(), {}
    for update in updates():
        vector, state = optimizer.step(vector, update, state)
    return vector


def reddi(kind: str, lr: float, beta1: float, beta2: float, tau: float) -> np.ndarray:
    x, m, v = start().astype(np.float64), 0.0, tau**2
    for delta in updates().astype(np.float64):
        m = beta1 * m + (1 - beta1) * delta
        match kind:
            case "adagrad":
                v = v + delta**2
            case "yogi":
                v = v - (1 - beta2) * delta**2 * np.sign(v - delta**2)
            case "adam":
                v = beta2 * v + (1 - beta2) * delta**2
        x = x + lr * m / (np.sqrt(v) + tau)
    return x


@pytest.mark.parametrize(("lr", "beta1", "beta2", "tau"), [(0.1, 0.9, 0.99, 1e-3), (0.03, 0.5, 0.7, 1e-2)])
@pytest.mark.parametrize(
    ("kind", "part"), [("adagrad", ServerAdagrad), ("yogi", ServerYogi), ("adam", ServerAdam)]
)
def test_adaptive_optimizers_follow_algorithm_2(
    kind: str, part: type[ServerAdam], lr: float, beta1: float, beta2: float, tau: float
) -> None:
    decay = {} if part is ServerAdagrad else {"beta2": beta2}
    found = walked(part(lr=lr, beta1=beta1, tau=tau, **decay))
    np.testing.assert_allclose(found, reddi(kind, lr, beta1, beta2, tau), rtol=1e-5, atol=1e-6)


def test_adagrad_has_no_first_moment_unless_it_is_asked_for() -> None:
    np.testing.assert_allclose(
        walked(ServerAdagrad(lr=0.1)), reddi("adagrad", 0.1, 0.0, 0.0, 1e-3), atol=1e-6
    )


@pytest.mark.parametrize(("lr", "momentum"), [(1.0, 0.9), (0.3, 0.5), (2.0, 0.0)])
def test_momentum_is_fedavgm(lr: float, momentum: float) -> None:
    x, m = start().astype(np.float64), 0.0
    for delta in updates().astype(np.float64):
        m = momentum * m + delta
        x = x + lr * m
    np.testing.assert_allclose(walked(ServerSGD(lr=lr, momentum=momentum)), x, rtol=1e-5, atol=1e-6)


def test_by_default_the_mean_update_is_simply_added() -> None:
    optimizer = FedAvg(local=LocalSGD(lr=0.1)).server
    moved, state = optimizer.step(start(), updates()[0], {})
    assert np.array_equal(moved, start() + updates()[0])
    assert state == {}


def test_fedavg_adds_nothing_to_the_local_step() -> None:
    terms = FedAvg(local=LocalSGD(lr=0.1)).terms()
    assert (terms.proximal, terms.correction) == (0.0, None)
