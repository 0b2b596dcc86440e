"""The file of kind "transformers": a Trainer with a small model, which runs as it is."""

TEMPLATE = '''\
"""A Hugging Face Trainer for lrfinder: which learning rate, and which decay?

    lrfinder find {name}      # the initial learning rate alone
    lrfinder run {name}       # range test, decay studies, comparison, report

Replace the model, the data and the arguments with your own. Afterwards
`lrfinder report DIR --code transformers` prints the answer as TrainingArguments, or as a scheduler.
"""

import tempfile

import torch
from torch.utils.data import Dataset
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    Trainer,
    TrainingArguments,
)

from lrfinder import Task


class Sentences(Dataset):
    """Your data: here words, and whether the first one comes again."""

    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        self.words = torch.randint(1, 12, (count, 10), generator=generator)

    def __len__(self):
        return len(self.words)

    def __getitem__(self, k):
        words = self.words[k]
        return {{"input_ids": words, "labels": int((words[1:] == words[0]).any())}}


def build_model():
    """Your model: here a small one with random weights; from_pretrained(...) for fine-tuning."""
    return DistilBertForSequenceClassification(
        DistilBertConfig(
            vocab_size=12, dim=32, n_layers=2, n_heads=2, hidden_dim=64, max_position_embeddings=10
        )
    )


def accuracy(found):
    return {{"accuracy": (found.predictions.argmax(axis=1) == found.label_ids).mean()}}


def make_task():
    trainer = Trainer(
        model_init=build_model,  # new weights for each seed; or model=..., to start from given ones
        args=TrainingArguments(
            tempfile.mkdtemp(),
            learning_rate=1e-3,
            num_train_epochs=5,
            per_device_train_batch_size=64,
            weight_decay=0.01,
            report_to="none",
        ),
        train_dataset=Sentences(1024, seed=0),
        eval_dataset=Sentences(512, seed=1),
        compute_metrics=accuracy,
    )
    return Task.from_trainer(trainer)
'''
