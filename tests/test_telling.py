"""Batches that tell tokens, and their loss, against BERT in PyTorch by transformers, one example at a time and without padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from tiny_runs import TOKENS, checkpoint

from bert4k import finetuning
from bert4k.pretraining import objectives
from bert4k.pretraining.mapped import Pair, Stretch
from bert4k.pretraining.objectives import NOTHING, Special
from bert4k.telling import Samples, ToldBatches, fitted, judge, log_likelihood, some, teller, told_loss
from bert4k.tokenizers import Tokenizer
from bert4k.tuning import Tuning

SPECIAL = Special.of(Tokenizer(TOKENS))


def ids(length: int, seed: int) -> Any:
    return np.random.default_rng(seed).integers(5, len(TOKENS), length).astype(np.int32)


def shifted(row: int, random: np.random.Generator) -> objectives.Example:
    return objectives.seq2seq(Pair(ids(3 + row, row), ids(1 + 2 * row, row + 50)), SPECIAL, ends=row != 2)


def cloze(row: int, random: np.random.Generator) -> objectives.Example:
    return objectives.seq2seq_cloze(Pair(ids(3 + row, row), ids(1 + 2 * row, row + 50)), SPECIAL, random)


def left_to_right(row: int, random: np.random.Generator) -> objectives.Example:
    own = ids(4 + 3 * row, row)
    return objectives.left_to_right(Stretch(own, np.ones(len(own), bool), np.ones(len(own), bool), row % 2 == 0), SPECIAL)


def masked(row: int, random: np.random.Generator) -> objectives.Example:
    own = ids(4 + 3 * row, row)
    return objectives.masked(Stretch(own, np.ones(len(own), bool), np.ones(len(own), bool), True), SPECIAL, random, 0.4)


def batches(make: Any, tokens: int = 64, **how: Any) -> ToldBatches:
    examples = [make(row, np.random.default_rng(0)) for row in range(7)]
    return ToldBatches([len(each.token_ids) for each in examples], [len(each.token_ids) - 1 for each in examples], make, 0, tokens, **how)


@pytest.mark.parametrize(("mask", "make"), [("seq2seq", shifted), ("seq2seq", cloze), ("lm", left_to_right), ("encoder", masked)])
def test_the_loss_is_that_of_bert(tmp_path: Path, mask: str, make: Any) -> None:
    import torch
    import transformers

    from bert4k.hub import load, load_all, save

    source = checkpoint(tmp_path / "model", ("mlm",))
    save(*load_all(source), tmp_path / "other", "huggingface")
    network, _ = load(source, mask, ("mlm",))
    model, each_epoch = teller(network, mask), batches(make, shuffle=False)
    reference = transformers.BertForMaskedLM.from_pretrained(tmp_path / "other").eval()
    log_probs: list[float] = []
    for row in range(7):
        example = make(row, np.random.default_rng([each_epoch.seed, 0, row]))
        size, order = len(example.token_ids), np.cumsum(example.segment_ids)
        may = {"seq2seq": order[None] <= order[:, None], "lm": np.tri(size, dtype=bool), "encoder": np.ones((size, size), bool)}[mask]
        bias = torch.tensor(np.where(may, 0, -1e9)[None, None], dtype=torch.float32)
        given = {"input_ids": example.token_ids, "token_type_ids": example.segment_ids}
        inputs = {name: torch.tensor(array[None].astype(np.int64)) for name, array in given.items()}
        with torch.no_grad():
            told = reference(**inputs, attention_mask=bias).logits[0].log_softmax(-1).numpy()
        at = np.flatnonzero(example.labels != NOTHING)
        log_probs += told[at, example.labels[at]].tolist()
    total, count = log_likelihood(judge(model), each_epoch)
    assert count == len(log_probs)
    assert total == pytest.approx(sum(log_probs), rel=1e-5)


@pytest.mark.backends
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_batch_is_the_mean_over_what_it_tells(smoothing: float) -> None:
    logits = np.random.default_rng(0).normal(size=(2, 3, 5)).astype("float32")
    labels, weights = np.array([[1, 2, 0], [4, 0, 0]]), np.array([[1, 1, 0], [1, 0, 0]], "float32")
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    right = np.array([log_probs[0, 0, 1], log_probs[0, 1, 2], log_probs[1, 0, 4]])
    every = np.array([log_probs[0, 0].mean(), log_probs[0, 1].mean(), log_probs[1, 0].mean()])
    expected = -((1 - smoothing) * right + smoothing * every).mean()
    assert float(told_loss(smoothing)(labels, logits, weights)) == pytest.approx(expected, rel=1e-5)


def test_batches_hold_every_label_once_and_pad_the_rest() -> None:
    made = batches(shifted, seed=3)
    found = []
    for index in range(len(made)):
        inputs, labels, weights = made[index]
        assert inputs["at"].shape == labels.shape == weights.shape
        assert inputs["token_ids"].shape == inputs["segment_ids"].shape
        told = np.take_along_axis(inputs["token_ids"], inputs["at"] + 1, axis=1)  # shifted: the label is the token after the place
        assert (told == labels)[weights > 0].all()
        found += labels[weights > 0].tolist()
    expected = [label for row in range(7) for label in shifted(row, np.random.default_rng()).labels.tolist() if label != NOTHING]
    assert sorted(found) == sorted(expected)
    assert sorted(made.places.values()) == [made.places[length] for length in sorted(made.places)]


def test_what_is_hidden_follows_from_the_seed_and_the_epoch() -> None:
    def hidden(seed: int, epoch: int) -> bytes:
        made = batches(cloze, seed=seed)
        made.begin(epoch)
        return b"".join(made._arrays([row], int(made.buckets[row]))[0]["token_ids"].tobytes() for row in range(7))

    assert hidden(1, 0) == hidden(1, 0)
    assert len({hidden(1, 0), hidden(1, 1), hidden(2, 0)}) == 3


def test_fit_learns_to_tell(tmp_path: Path) -> None:
    network, _ = finetuning.loaded(str(checkpoint(tmp_path / "model", ("mlm",))), Tuning(), "seq2seq", ("mlm",))
    model, made = teller(network, "seq2seq"), batches(shifted)
    judging = judge(model)
    before, count = log_likelihood(judging, made)
    how = Tuning(epochs=20, learning_rate=0.02, tokens=64)
    finetuning.fit(
        tmp_path / "run",
        model,
        1,
        made,
        told_loss(),
        lambda: {"dev_loss": -log_likelihood(judging, made)[0] / count},
        "dev_loss",
        how,
        mode="min",
        callbacks=[Samples(tmp_path / "run", lambda: ["一", "二"])],
    )
    after, same = log_likelihood(judging, made)
    assert same == count and after > before / 3
    assert (tmp_path / "run/samples/epoch_20.txt").read_text(encoding="utf-8") == "一\n二\n"


def test_texts_are_cut_at_tokens() -> None:
    assert fitted(Tokenizer([*TOKENS, "ab", "##c"]), ["好人abc书", "好"], 4) == (["好人abc", "好"], 1)
    assert fitted(Tokenizer([*TOKENS, "ab", "##c"]), ["好人abc书"], 3) == (["好人ab"], 1)
    # Of a character in several tokens, all are kept or none: 한, whose parts BERT's lower case takes apart.
    korean = Tokenizer([*TOKENS, "\u1112", "##\u1112", "##\u1161", "##\u11ab"])
    for room, left in enumerate(["", "", "", "한", "한", "한", "한한"]):
        assert fitted(korean, ["한한한"], room) == ([left], 1)
        assert len(korean.spans(left)[0]) <= room


def test_some() -> None:
    assert some("abc", 5, 1) == ["a", "b", "c"]
    assert some(range(100), 3, 1) == some(range(100), 3, 1) == sorted(some(range(100), 3, 1))
    assert some(range(100), 3, 1) != some(range(100), 3, 2)


def test_a_teller_shares_the_weights(tmp_path: Path) -> None:
    network, _ = finetuning.loaded(str(checkpoint(tmp_path / "model", ("mlm",))), Tuning(), "lm", ("mlm",))
    assert {id(each) for each in teller(network, "lm", 0.1).trainable_variables} == {id(each) for each in network.trainable_variables}
    assert isinstance(keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(told_loss(0.1))), keras.losses.Loss)
