"""A small GPT on characters, step by step with get_batch, in the style of nanoGPT.

    lrfinder find studies/examples/character_model_loop.py
    lrfinder run studies/examples/character_model_loop.py --families cosine --warmup 1 --per batch

There is no epoch here; `steps_per_epoch` says after how many updates the loss is evaluated.
"""

from pydoc_data.topics import topics  # 700 kB of English that come with Python

import torch
from torch import nn

import lrfinder

BLOCK, BATCH, WIDTH = 32, 16, 64
text = "".join(topics.values())
alphabet = sorted(set(text))
numbers = {character: number for number, character in enumerate(alphabet)}
tokens = torch.tensor([numbers[character] for character in text])
SPLITS = {"train": tokens[: len(tokens) * 9 // 10], "valid": tokens[len(tokens) * 9 // 10 :]}


def get_batch(split):
    data = SPLITS[split]
    starts = torch.randint(len(data) - BLOCK, (BATCH,))
    x = torch.stack([data[start : start + BLOCK] for start in starts])
    y = torch.stack([data[start + 1 : start + 1 + BLOCK] for start in starts])
    return x, y


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.place = nn.Embedding(len(alphabet), WIDTH), nn.Embedding(BLOCK, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, 0.1, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, len(alphabet))
        self.mask = nn.Transformer.generate_square_subsequent_mask(BLOCK)

    def forward(self, x, y):
        hidden = self.token(x) + self.place(torch.arange(BLOCK))
        logits = self.head(self.layers(hidden, mask=self.mask, is_causal=True))
        return nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())


@torch.no_grad()
def estimate_loss(model):
    model.eval()
    losses = [model(*get_batch("valid")) for _ in range(4)]
    model.train()
    return {"valid_loss": torch.stack(losses).mean()}


def train(training):
    model = GPT()
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95))
    training.drive(optimizer)
    training.measure(lambda: estimate_loss(model))

    for _ in range(training.updates):
        loss = model(*get_batch("train"))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        training.log(loss)


loop = lrfinder.Loop(train, epochs=10, steps_per_epoch=50)

if __name__ == "__main__":
    print(lrfinder.range_test(loop).suggest())
