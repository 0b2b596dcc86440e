"""Skip-grams with negative samples: sparse gradients of large embeddings."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder import Task

WORDS, TOPICS = 400, 8


def pairs(count, seed):
    """A word, one of its topic beside it, and five others."""
    generator = torch.Generator().manual_seed(seed)
    word = torch.randint(WORDS, (count,), generator=generator)
    steps = torch.randint(WORDS // TOPICS, (count,), generator=generator)
    near = (word + steps * TOPICS) % WORDS  # words of one topic are TOPICS apart
    return TensorDataset(word, near, torch.randint(WORDS, (count, 5), generator=generator))


class SkipGram(nn.Module):
    def __init__(self):
        super().__init__()
        self.word = nn.Embedding(WORDS, 16, sparse=True)
        self.context = nn.Embedding(WORDS, 16, sparse=True)
        nn.init.normal_(self.word.weight, std=0.1)
        nn.init.normal_(self.context.weight, std=0.1)

    def forward(self, word, others):
        return (self.word(word)[:, None] * self.context(others)).sum(2)


def loss(model, batch):
    word, near, far = batch
    logits = model(word, torch.cat([near[:, None], far], 1))
    target = torch.zeros_like(logits)
    target[:, 0] = 1
    return nn.functional.binary_cross_entropy_with_logits(logits, target)


def make_task():
    return Task(
        model=SkipGram,
        train=DataLoader(pairs(6000, 0), batch_size=64, shuffle=True),
        valid=DataLoader(pairs(1000, 1), batch_size=200),
        loss=loss,
        optimizer=lambda model, lr: torch.optim.SparseAdam(list(model.parameters()), lr),
        epochs=3,
    )
