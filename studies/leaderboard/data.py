"""The data of the leaderboard's tasks: scikit-learn's, and text that every Python carries.

Everything is the same in every process: no download, fixed seeds, fixed splits. The text is the
names of the characters of Unicode 3.2, which Python keeps for good.
"""

import unicodedata
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import TensorDataset

Split = tuple[TensorDataset, TensorDataset]
"""Training and validation rows."""


def classes(x: NDArray[Any], y: NDArray[Any]) -> Split:
    """Four fifths and one fifth of labelled rows, with all classes in both."""
    parts = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
    return _split([_floats(p) for p in parts[:2]], [torch.tensor(p).long() for p in parts[2:]])


def numbers(x: NDArray[Any], y: NDArray[Any]) -> Split:
    """Four fifths and one fifth of rows with a numeric target: y float32[rows, outputs]."""
    parts = train_test_split(x, y.reshape(len(y), -1), test_size=0.2, random_state=0)
    return _split([_floats(p) for p in parts[:2]], [_floats(p) for p in parts[2:]])


def standardised(values: NDArray[Any]) -> NDArray[Any]:
    """Columns with mean 0 and deviation 1."""
    return (values - values.mean(axis=0)) / values.std(axis=0)


def digits() -> Split:
    """Images of digits, float32[rows, 64] in [0, 1], and which digit each is."""
    x, y = datasets.load_digits(return_X_y=True)
    return classes(x / 16, y)


def mislabelled(y: NDArray[Any], share: float) -> NDArray[Any]:
    """Labels of which a share was drawn anew from all labels."""
    random = np.random.default_rng(0)
    drawn = random.permutation(y)
    return np.where(random.random(len(y)) < share, drawn, y)


@cache
def names(length: int, rows: int) -> Split:
    """Pieces of Unicode character names, and the same pieces one character on: int64[rows, length].

    The training pieces come from other names than the validation pieces.
    """
    old = unicodedata.ucd_3_2_0
    all_names = [old.name(chr(code), "") for code in range(0x20, 0x3000)]
    known = [name for name in all_names if name]
    order = np.random.default_rng(0).permutation(len(known))
    text = "\n".join(known[i] for i in order)
    index = {symbol: i for i, symbol in enumerate(SYMBOLS)}
    codes = torch.tensor([index[symbol] for symbol in text])
    pieces = codes.unfold(0, length + 1, length)[: rows + rows // 4]
    train, valid = pieces[:rows], pieces[rows:]
    return _split([train[:, :-1], valid[:, :-1]], [train[:, 1:], valid[:, 1:]])


@cache
def words(length: int, rows: int) -> tuple[Split, int]:
    """Pieces of Unicode character names in words, the same one word on, and how many words exist.

    x and y int64[rows, length]; a quarter as many further pieces for validation. Words that occur
    once are all the word 0.
    """
    old = unicodedata.ucd_3_2_0
    known = [name for code in range(0x20, 0x3000) if (name := old.name(chr(code), ""))]
    order = np.random.default_rng(2).permutation(len(known))
    text = [word for i in order for word in [*known[i].split(), "\n"]]
    counts = Counter(text)
    frequent = [word for word, count in counts.most_common() if count > 1]
    index = {word: i for i, word in enumerate(frequent, start=1)}
    codes = torch.tensor([index.get(word, 0) for word in text])
    pieces = codes.unfold(0, length + 1, length)[: rows + rows // 4]
    train, valid = pieces[:rows], pieces[rows:]
    split = _split([train[:, :-1], valid[:, :-1]], [train[:, 1:], valid[:, 1:]])
    return split, len(index) + 1


def kinds_of_names(length: int, rows: int) -> Split:
    """Unicode character names cut to a length, with the kind: letter, mark or number, sign, other.

    x int64[rows, length], padded with line ends; a quarter as many further names for validation.
    """
    old = unicodedata.ucd_3_2_0
    groups = {"L": 0, "M": 1, "N": 1, "P": 2, "S": 2}
    index = {symbol: i for i, symbol in enumerate(SYMBOLS)}
    named = [(old.name(chr(c), ""), old.category(chr(c))[0]) for c in range(0x20, 0x3000)]
    known = [(name[:length].ljust(length, "\n"), kind) for name, kind in named if name]
    order = np.random.default_rng(1).permutation(len(known))[: rows + rows // 4]
    x = torch.tensor([[index[symbol] for symbol in known[i][0]] for i in order])
    y = torch.tensor([groups.get(known[i][1], 3) for i in order])
    return _split([x[:rows], x[rows:]], [y[:rows], y[rows:]])


def signs(length: int, rows: int) -> Split:
    """Pieces of the names of signs, from beyond those of `names`, and the same one character on.

    int64[rows, length]; as many further pieces for validation.
    """
    old = unicodedata.ucd_3_2_0
    known = [name for code in range(0x3000, 0xFFFF) if (name := old.name(chr(code), ""))]
    kept = [name for name in known if not name.startswith(("CJK", "HANGUL SYLLABLE"))]
    order = np.random.default_rng(3).permutation(len(kept))
    text = "\n".join(kept[i] for i in order)
    index = {symbol: i for i, symbol in enumerate(SYMBOLS)}
    codes = torch.tensor([index[symbol] for symbol in text if symbol in index])
    pieces = codes.unfold(0, length + 1, length)[: 2 * rows]
    train, valid = pieces[:rows], pieces[rows:]
    return _split([train[:, :-1], valid[:, :-1]], [train[:, 1:], valid[:, 1:]])


def ratings(users: int, items: int) -> Split:
    """Pairs of a user and an item, and what the user gives it: a matrix of rank 2 with noise."""
    random = np.random.default_rng(0)
    table = random.normal(size=(users, 2)) @ random.normal(size=(2, items))
    table += random.normal(0.0, 0.3, table.shape)
    pairs = np.stack(np.indices(table.shape), axis=-1).reshape(-1, 2)
    x, x_valid, y, y_valid = train_test_split(pairs, table.reshape(-1, 1), random_state=0)
    return _split([torch.tensor(x), torch.tensor(x_valid)], [_floats(y), _floats(y_valid)])


SYMBOLS = "\n -0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""The characters that names are made of."""


def _floats(values: NDArray[Any]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def _split(x: list[Tensor], y: list[Tensor]) -> Split:
    train, valid = (TensorDataset(*pair) for pair in zip(x, y, strict=True))
    return train, valid
