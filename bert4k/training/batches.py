"""Batches of texts of similar length, as many tokens in each, in few shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from bert4k.decoding.batches import length_bucket
from bert4k.errors import ConfigError, DataError

Collate = Callable[[list[int], int], tuple[Any, ...]]


class LengthBatches(keras.utils.PyDataset):
    """What `fit`, `evaluate` and `predict` take: batches of about `tokens` tokens, padding included.

    `collate(rows, length)` makes a batch of the examples with the numbers `rows`, filled up to `length` tokens: (x, y) or (x, y, weights),
    weights [B] or [B, ...]. lengths: the tokens of each example.

    A batch has one of a few lengths (8, 12, 16, 24, 32 ... and `longest`) and, with it, one number of rows: a backend that compiles by
    shape does so a few times and never again. The last batch of a length is filled up with examples that weigh 0. Under `shuffle`, which
    examples meet changes from epoch to epoch, but follows from `seed`; give `epoch` to go on where a training was interrupted.

    A loss over B rows is their sum over B, whatever their length; so an example counts as much in a batch of many short texts as
    the batch's share in an epoch. Raises `DataError` when there is no example or one is longer than `longest`.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        collate: Collate,
        tokens: int = 4096,
        longest: int | None = None,
        most_rows: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        epoch: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        sizes = np.asarray(lengths, np.int64)
        if not len(sizes):
            raise DataError("There is no example to make batches of. Give at least one.")
        longest = int(sizes.max()) if longest is None else longest
        if sizes.max() > longest:
            raise DataError(f"Example {int(sizes.argmax())} has {sizes.max()} tokens; expected at most {longest}. Cut it, or allow more.")
        if tokens < longest:
            raise ConfigError(f"A batch of {tokens} tokens cannot hold a text of {longest}. Give it more, or cut the texts.")
        self.collate, self.shuffle, self.seed, self.epoch = collate, shuffle, seed, epoch
        self.buckets = np.array([min(length_bucket(int(size)), longest) for size in sizes])
        self.rows = {int(bucket): max(1, min(tokens // int(bucket), most_rows or tokens)) for bucket in np.unique(self.buckets)}
        self._plan()

    def _plan(self) -> None:
        """The batches of this epoch: (their length, the numbers of their examples)."""
        random = np.random.default_rng([self.seed, self.epoch])
        self.batches: list[tuple[int, NDArray[np.int64]]] = []
        for length, count in self.rows.items():
            members = np.flatnonzero(self.buckets == length)
            if self.shuffle:
                members = random.permutation(members)
            self.batches += [(length, members[begin : begin + count]) for begin in range(0, len(members), count)]
        if self.shuffle:
            self.batches = [self.batches[place] for place in random.permutation(len(self.batches))]
        self._unlike_first()

    def _unlike_first(self) -> None:
        """On TensorFlow, Keras takes the shapes of the first two batches for what all have in common: let them be as unlike as any."""
        for place, length in enumerate((min(self.rows), max(self.rows))[: len(self.batches)]):
            found = next((at for at in range(place, len(self.batches)) if self.batches[at][0] == length), place)
            self.batches[place], self.batches[found] = self.batches[found], self.batches[place]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Any, Any, Any]:
        length, members = self.batches[index]
        count = self.rows[length]
        rows = [int(members[min(place, len(members) - 1)]) for place in range(count)]
        x, y, *rest = self.collate(rows, length)
        weights = np.asarray(rest[0], np.float32) if rest else np.ones(count, np.float32)
        real = (np.arange(count) < len(members)).reshape(count, *(1 for _ in weights.shape[1:]))
        return x, y, weights * real.astype(np.float32)

    def begin(self, epoch: int) -> None:
        """Make the batches of an epoch, counted from 0."""
        self.epoch = epoch
        self._plan()

    def on_epoch_end(self) -> None:
        """Keras' hook: the examples of the next epoch meet anew."""
        self.begin(self.epoch + 1)

    def in_order(self, outputs: Any) -> list[Any]:
        """Rows of `outputs`, one array or list a batch (of `predict_on_batch`: their lengths differ), by the numbers of their examples."""
        found: dict[int, Any] = {}
        for (_, members), output in zip(self.batches, outputs, strict=True):
            found.update({int(member): row for member, row in zip(members, output, strict=False)})
        return [found[number] for number in range(len(self.buckets))]
