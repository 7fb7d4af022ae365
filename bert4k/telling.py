"""What recipes share that train the output layer over the vocabulary: a model that tells tokens at chosen places, batches for it, its loss.

    model = teller(network, "seq2seq", dropout=0.1)
    batches = ToldBatches(lengths, most, lambda row, random: objectives.seq2seq(pairs[row], special), pad_id, tokens=4096)
    trainer.compile(optimizer, told_loss()); trainer.fit(batches)
    total, count = log_likelihood(judge(model), batches)                # natural logarithm, of all that is told

Which token tells which is the objective's matter: examples are those of `bert4k.pretraining.objectives`. Of an encoder-decoder, what its
decoder reads tells the token after it: `decoder_teller` and `WrittenBatches` take the places of the first two.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from bert4k.checkpoints.stored import replacing
from bert4k.decoding.batches import padded
from bert4k.encoder_decoder import EncoderDecoder
from bert4k.losses import SmoothedCrossentropy
from bert4k.masks import Mask
from bert4k.model import Transformer
from bert4k.pretraining.objectives import NOTHING, Example
from bert4k.tokenizers import Tokenizer
from bert4k.training import LengthBatches


class Written(NamedTuple):
    """An example of an encoder-decoder."""

    token_ids: NDArray[np.int32]  # of the source, as the encoder reads it
    labels: NDArray[np.int32]  # the target, and its end unless it was cut


Make = Callable[[int, np.random.Generator], Example | Written]
Arrays = tuple[dict[str, NDArray[np.int32]], list[NDArray[np.int32]]]


def teller(network: Transformer, mask: str | Mask, dropout: float = 0.0) -> keras.Model:
    """The network under a mask, with the same weights: "token_ids" and "segment_ids" [B, L] and "at" [B, P], places in the rows, to logits
    [B, P, V], float32, of these places alone. dropout: of what the output layer reads. The network needs the output "mlm"."""
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "segment_ids", "at")}
    body = network.with_mask(mask).with_outputs("sequence")
    x = body({name: inputs[name] for name in ("token_ids", "segment_ids")})
    x = keras.layers.Dropout(dropout)(ops.take_along_axis(x, inputs["at"][..., None], axis=1))
    return keras.Model(inputs, ops.cast(network.head("mlm", x), "float32"))


def decoder_teller(network: EncoderDecoder, start: int, dropout: float = 0.0) -> keras.Model:
    """An encoder-decoder, with the same weights: "token_ids" [B, S] and "decoder_ids" [B, start + P - 1], so many start tokens and the
    labels but for the last, to the logits of the labels [B, P, V], float32. dropout: of what the output layer reads. The network needs the
    output "logits"."""
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "decoder_ids")}
    x = network.with_outputs("decoder")(inputs)[:, start - 1 :]
    return keras.Model(inputs, ops.cast(network.head("logits", keras.layers.Dropout(dropout)(x)), "float32"))


def told_loss(label_smoothing: float = 0.0) -> keras.losses.Loss:
    """Cross-entropy, a mean over all that a batch tells, however many places it has."""
    reduction = "mean_with_sample_weight"
    if label_smoothing:
        return SmoothedCrossentropy(label_smoothing, reduction=reduction)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)


class ToldBatches(LengthBatches):
    """Batches for `teller`: its inputs, labels [B, P] and their weights [B, P], 1 where something is told.

    lengths: the tokens of each example; most: how many of them may be told. `make(row, random)` gives the example of that number; its
    random numbers follow from the seed, the epoch and the row, so a run that goes on meets the same ones. tokens, seed, shuffle: see
    `LengthBatches`."""

    def __init__(
        self, lengths: Sequence[int], most: Sequence[int], make: Make, pad_id: int, tokens: int, seed: int = 0, shuffle: bool = True
    ) -> None:
        super().__init__(lengths, self._arrays, tokens, seed=seed, shuffle=shuffle)
        self.make, self.pad_id = make, pad_id
        # Never fewer for longer rows: so the first two batches, the shortest and the longest, show whether it varies (see `_plan`).
        told = [max(each for each, bucket in zip(most, self.buckets, strict=True) if bucket == length) for length in self.rows]
        self.places = dict(zip(self.rows, np.maximum.accumulate(told).tolist(), strict=True))

    def _arrays(self, rows: Sequence[int], length: int) -> tuple[Any, ...]:
        examples = [self.make(row, np.random.default_rng([self.seed, self.epoch, row])) for row in rows]
        wide = self.places[length]
        inputs, labels = self._told(examples, length, wide)
        weights = np.arange(wide) < np.array([len(each) for each in labels])[:, None]
        return inputs, padded(labels, 0, wide, len(rows)), weights.astype(np.float32)

    def _told(self, examples: Sequence[Any], length: int, wide: int) -> Arrays:
        """The inputs, and what each example tells in the first of its `wide` places."""
        at = [np.flatnonzero(example.labels != NOTHING).astype(np.int32) for example in examples]
        inputs = {
            "token_ids": padded([example.token_ids for example in examples], self.pad_id, length, len(at)),
            "segment_ids": padded([example.segment_ids for example in examples], 0, length, len(at)),
            "at": padded(at, 0, wide, len(at)),
        }
        return inputs, [example.labels[places] for example, places in zip(examples, at, strict=True)]


class WrittenBatches(ToldBatches):
    """Batches for `decoder_teller`: its inputs, labels and weights, as of `ToldBatches`; all of a target is told.

    start: the tokens that a decoder is given before a text. A batch has at most `tokens` tokens on either side."""

    def __init__(
        self, examples: Sequence[Written], start: Sequence[int], pad_id: int, tokens: int, seed: int = 0, shuffle: bool = True
    ) -> None:
        self.start = np.array(start, np.int32)
        most = [len(each.labels) for each in examples]
        lengths = [max(len(each.token_ids), len(start) + told - 1) for each, told in zip(examples, most, strict=True)]
        super().__init__(lengths, most, lambda row, random: examples[row], pad_id, tokens, seed, shuffle)

    def _told(self, examples: Sequence[Any], length: int, wide: int) -> Arrays:
        read = [np.concatenate([self.start, each.labels[:-1]]) for each in examples]
        inputs = {
            "token_ids": padded([each.token_ids for each in examples], self.pad_id, length, len(read)),
            "decoder_ids": padded(read, self.pad_id, len(self.start) + wide - 1, len(read)),
        }
        return inputs, [each.labels for each in examples]


def judge(model: keras.Model) -> keras.Model:
    """A `teller` that also takes "labels" [B, P], and gives their log-probabilities (natural) [B, P] instead of logits [B, P, V], which
    would fill memory."""
    labels = keras.Input((None,), dtype="int32", name="labels")
    own = ops.take_along_axis(ops.log_softmax(model.output, axis=-1), labels[..., None], axis=-1)[..., 0]
    return keras.Model({**model.input, "labels": labels}, own)


def log_likelihood(judging: keras.Model, batches: ToldBatches) -> tuple[float, int]:
    """The sum of the log-probabilities of all labels under a `judge`, and how many there are."""
    total, count = 0.0, 0
    for index in range(len(batches)):
        inputs, labels, weights = batches[index]
        log_probs = np.asarray(judging.predict_on_batch({**inputs, "labels": labels}), np.float64)
        total, count = total + float((log_probs * weights).sum()), count + int(weights.sum())
    return total, count


def fitted(tokenizer: Tokenizer, texts: Sequence[str], room: int) -> tuple[list[str], int]:
    """Texts of at most `room` tokens, cut at their ends where need be, between characters; and how many were cut."""
    kept, cut = [], 0
    for text in texts:
        ids, starts, ends = tokenizer.spans(text)
        if len(ids) > room:
            cut, last = cut + 1, room
            while last and starts[last] < ends[last - 1]:  # a character of several tokens, as bytes and decomposed ones are
                last -= 1
            text = text[: ends[last - 1]] if last else ""
        kept.append(text)
    return kept, cut


def tell_cuts(cut: int, of: int, what: str, room: int) -> None:
    """Say, on standard error, how many texts were cut, if any."""
    if cut:
        print(f"{cut:,} of {of:,} {what} are longer than {room} tokens and were cut", file=sys.stderr)


class Samples(keras.callbacks.Callback):
    """After every epoch, the lines that `write()` gives, for eyes: on standard error, and in samples/epoch_N.txt of the run folder."""

    def __init__(self, run: Path, write: Callable[[], Sequence[str]]) -> None:
        super().__init__()
        self.folder, self.write = run / "samples", write

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        lines = self.write()
        print(*(f"  {line}" for line in lines), sep="\n", file=sys.stderr, flush=True)
        self.folder.mkdir(exist_ok=True)
        with replacing(self.folder / f"epoch_{epoch + 1}.txt") as (temporary,):
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def some(items: Sequence[Any], count: int, seed: int) -> list[Any]:
    """At most so many items, drawn by a seed, in their order."""
    order: NDArray[np.int64] = np.random.default_rng(seed).permutation(len(items))
    return [items[place] for place in sorted(order[:count])]
