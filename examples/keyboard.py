"""Phones learn to suggest the next word from their owners' messages, which never leave them.

134 people's text messages (the NUS SMS corpus); ten phones a round, and an adaptive server optimizer.
"""

from torch import nn

import tacit

WORDS = 5000


class NextWord(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS + 3, 64)
        self.memory = nn.GRU(64, 128, batch_first=True)
        self.back = nn.Linear(128, 64)

    def forward(self, words):
        hidden, _ = self.memory(self.embedding(words))
        return self.back(hidden) @ self.embedding.weight.T  # one table for words read and words suggested


def population():
    return tacit.data.sms(vocabulary=WORDS).split(holdout=0.1)


job = tacit.Job(
    name="keyboard",
    task=tacit.Task(model=NextWord, loss="cross_entropy", metrics=["accuracy", "top3_accuracy"]),
    algorithm=tacit.FedAvg(
        local=tacit.LocalSGD(lr=1.0, epochs=1, batch_size=16, max_grad_norm=1.0),
        server=tacit.ServerAdam(lr=0.01),
    ),
    cohort=tacit.FixedSize(10),
    rounds=100,
    seed=0,
    evaluation=tacit.Evaluation(every=10, clients=50),
)
