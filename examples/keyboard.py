"""Phones learn to suggest the next word from their owners' messages, which never leave them.

134 people's text messages (the NUS SMS corpus), ten phones a round, and an adaptive server optimizer. A
hundred rounds take a few minutes and are a beginning: with --set rounds=1000 it goes on learning.
"""

from torch import nn

import tacit

WORDS = 2000


class NextWord(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS + 3, 64)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.memory = nn.GRU(64, 128, batch_first=True)
        self.suggestion = nn.Linear(128, WORDS + 3)

    def forward(self, words):
        return self.suggestion(self.memory(self.embedding(words))[0])


def population():
    return tacit.data.sms(vocabulary=WORDS, length=12).split(holdout=0.1)


job = tacit.Job(
    name="keyboard",
    task=tacit.Task(model=NextWord, loss="cross_entropy", metrics=["accuracy", "top3_accuracy"]),
    algorithm=tacit.FedAvg(
        # Some people write a hundred times as much as others: the same number of steps for everybody.
        local=tacit.LocalSGD(lr=3.0, steps=20, batch_size=16, max_grad_norm=1.0),
        server=tacit.ServerAdam(lr=0.02),
    ),
    cohort=tacit.FixedSize(10),
    rounds=100,
    seed=0,
    evaluation=tacit.Evaluation(every=20, clients=50),
)
