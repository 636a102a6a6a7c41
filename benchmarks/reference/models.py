"""The models of the workloads, and their loss."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.reference.workloads import VOCABULARY, base_of

EMBEDDING, HIDDEN = 96, 256
MODEL_SEED = 7


def make_model(name: str) -> nn.Module:
    """Build the workload's model with its fixed first weights; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(MODEL_SEED)
        return _MODELS[base_of(name)]()


def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of a mini batch, over its examples or over all words of its sequences."""
    return functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())


class CNN(nn.Module):
    """Two convolutions and a dense layer of 128: pfl-research's CIFAR10 benchmark without its dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(3, 32, 3)
        self.c2 = nn.Conv2d(32, 64, 3)
        self.f1 = nn.Linear(64 * 14 * 14, 128)
        self.f2 = nn.Linear(128, 10)
        for layer in (self.c1, self.c2, self.f1, self.f2):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Score images of shape (batch, 3, 32, 32) for ten classes."""
        x = functional.relu(self.c1(x))
        x = functional.max_pool2d(functional.relu(self.c2(x)), 2)
        scores: Tensor = self.f2(functional.relu(self.f1(x.flatten(1))))
        return scores


class MLP(nn.Module):
    """One hidden layer of 64 on thirty columns."""

    def __init__(self) -> None:
        super().__init__()
        self.f1 = nn.Linear(30, 64)
        self.f2 = nn.Linear(64, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Score rows of shape (batch, 30) for two classes."""
        scores: Tensor = self.f2(functional.relu(self.f1(x)))
        return scores


class Keyboard(nn.Module):
    """A GRU that predicts the next word, its embedding tied to its output, as on a phone's keyboard."""

    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(VOCABULARY, EMBEDDING)
        nn.init.normal_(self.emb.weight, std=0.1)
        self.rnn = nn.GRU(EMBEDDING, HIDDEN, batch_first=True)
        self.proj = nn.Linear(HIDDEN, EMBEDDING)
        self.bias = nn.Parameter(torch.zeros(VOCABULARY))

    def forward(self, x: Tensor) -> Tensor:
        """Score every word of the vocabulary at every place of word sequences of shape (batch, 20)."""
        hidden, _ = self.rnn(self.emb(x))
        return functional.linear(self.proj(hidden), self.emb.weight, self.bias)


_MODELS: dict[str, Callable[[], nn.Module]] = {"w1": CNN, "w2": MLP, "w3": Keyboard}
