"""Where a fresh model begins, against counting one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from pretraining import tiny
from pretraining.conftest import TOKENIZER, TOKENS

from bert4k.layers import Attention
from bert4k.pretraining import start
from bert4k.pretraining.shards import prepare
from bert4k.pretraining.start import company, count, sinusoids
from bert4k.pretraining.stream import Source
from bert4k.tasks import pretrain as recipe

TEXTS = ("今天天气很好。我们在图书馆看书", "早上我们去北京。大学生喜欢书和天气", "今天好。早上好。书好")


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    made = []
    for place, (text, weight) in enumerate(zip(TEXTS, (1.0, 2.5, 0.0), strict=True)):
        (tmp_path / f"{place}.txt").write_text(text + "\n", encoding="utf-8")
        shards = prepare(tmp_path / str(place), TOKENIZER, [tmp_path / f"{place}.txt"], workers=0)
        made.append(Source(str(place), shards, weight))
    return made


@pytest.mark.parametrize("contexts", [7, 1000])
def test_counts(sources: list[Source], contexts: int) -> None:
    counts = count(sources, len(TOKENS), contexts)
    frequency, near = np.zeros(len(TOKENS)), np.zeros((len(TOKENS), len(TOKENS)))
    for source, text in zip(sources, TEXTS, strict=True):
        ids = TOKENIZER.spans(text)[0]
        for place, token in enumerate(ids):
            frequency[token] += source.weight
            for other, distance in ((place - 2, 2), (place - 1, 1), (place + 1, 1), (place + 2, 2)):
                if 0 <= other < len(ids):
                    near[token, ids[other]] += source.weight / distance
    np.testing.assert_allclose(counts.frequency, frequency)
    np.testing.assert_allclose(counts.near, near[:, counts.contexts], rtol=1e-6)
    assert len(counts.contexts) == min(contexts, len(TOKENS))
    assert frequency[counts.contexts].min() >= np.delete(frequency, counts.contexts).max(initial=0)


def test_pairs_are_counted_where_there_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("今天\t天气\n", encoding="utf-8")
    shards = prepare(tmp_path / "pairs", TOKENIZER, pairs=[tmp_path / "pairs.tsv"], workers=0)
    counts = count([Source("pairs", shards)], len(TOKENS))
    assert {TOKENS[token]: counts.frequency[token] for token in np.flatnonzero(counts.frequency)} == {"今": 1, "天": 2, "气": 1}


def test_tokens_of_like_company_are_alike() -> None:
    """Two kinds of tokens, each beside its own contexts only, and one that never came."""
    near = np.zeros((21, 10), np.float32)
    random = np.random.default_rng(0)
    near[:10, :5], near[10:20, 5:] = random.integers(1, 9, (10, 5)), random.integers(1, 9, (10, 5))
    vectors = company(start.Counts(np.append(near.sum(axis=1), 0), np.arange(10), near), 2)
    assert vectors.shape == (21, 2) and not vectors[20].any()
    np.testing.assert_allclose(np.linalg.norm(vectors[:20], axis=1), 1, atol=1e-5)
    alike = vectors @ vectors.T
    np.testing.assert_allclose(alike[:10, 10:20], 0, atol=1e-5)
    assert alike[:10, :10].min() > 0.99 and alike[10:20, 10:20].min() > 0.99


def test_vectors_are_those_of_the_whole_decomposition() -> None:
    near = np.random.default_rng(1).poisson(2, (60, 50)).astype(np.float32)
    near[near.sum(axis=1) == 0] = 1
    counts = start.Counts(near.sum(axis=1).astype(float), np.arange(50), near)
    context = counts.frequency[:50] ** 0.75
    with np.errstate(divide="ignore"):
        information = np.maximum(np.log(near / (near.sum(axis=1, keepdims=True) * context / context.sum())), 0) * near / (near + 1)
    left, values, _ = np.linalg.svd(information)
    whole = left[:, :8] * np.sqrt(values[:8])
    whole /= np.linalg.norm(whole, axis=1, keepdims=True)
    np.testing.assert_allclose(company(counts, 8) @ company(counts, 8).T, whole @ whole.T, atol=1e-3)


@pytest.mark.parametrize("width", [16, 17])
def test_sinusoids(width: int) -> None:
    table = sinusoids(50, width)
    assert table.shape == (50, width) and table.dtype == np.float32
    assert np.sqrt(np.mean(table**2)) == pytest.approx(1, abs=0.05)
    if width % 2 == 0:  # what two positions have in common depends on their distance alone
        common = table @ table.T
        for distance in range(9):
            np.testing.assert_allclose(np.diagonal(common, distance), common[0, distance], atol=1e-4)
        assert common[0, 1] > common[0, 2] > common[0, 4]


@pytest.mark.backends
@pytest.mark.parametrize(("heads", "width"), [(8, 256), (4, 128), (1, 32)])
def test_heads_look_at_neighbours(heads: int, width: int) -> None:
    """Of positions alone, at the scale that they have where tokens count as much: every head looks most at its neighbour."""
    attention = Attention(heads, width // heads, initializer=keras.initializers.TruncatedNormal(stddev=0.02, seed=1))
    attention.build((None, None, width))
    start.look_at_neighbours(attention)
    x = 0.5**0.5 * sinusoids(40, width)[None]
    scores = ops.convert_to_numpy(ops.matmul(attention.scaled_query(x), ops.transpose(attention.keys_values(x).keys, (0, 1, 3, 2))))[0]
    for head, distance in enumerate(start.NEIGHBOURS[:heads]):
        means = {other: np.mean(np.diagonal(scores[head], other)) for other in range(-8, 9)}
        assert max(means, key=means.__getitem__) == distance
        if heads > 1:  # a single head takes up the long waves, too
            far = np.mean([value for other, value in means.items() if abs(other - distance) > 3])
            assert means[distance] - far == pytest.approx(start.PEAK, rel=0.35)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny.work_in_this_process(monkeypatch.setattr)
    return tiny.write_corpus(tmp_path)


@pytest.mark.backends
def test_a_fresh_model_knows_frequencies(folder: Path, tmp_path: Path) -> None:
    """Before the first step, its loss is about the entropy of single tokens, not the logarithm of the vocabulary's size."""
    settings = tiny.settings(folder, tmp_path / "run")
    model, tokenizer = recipe.build(settings)
    sources, _ = recipe.read(settings, tokenizer)
    before = model.weight_values()
    start.begin(model, sources, tokenizer)
    after = model.weight_values()
    log_probs = after["mlm/bias"]
    frequency = count(sources, len(tokenizer)).frequency
    assert np.exp(log_probs).sum() == pytest.approx(1, abs=1e-5)
    assert np.argmax(log_probs[5:]) == np.argmax(frequency[5:]) and log_probs[tokenizer.sep_id] > log_probs[tokenizer.pad_id] + 2
    for name in ("embeddings/token/embeddings", "embeddings/position/embeddings"):
        assert np.sqrt(np.mean(after[name] ** 2)) == pytest.approx(start.SCALE, rel=0.3)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    local = {f"block_0/attention/{name}/kernel" for name in ("query", "key")}
    assert changed == {"embeddings/token/embeddings", "embeddings/position/embeddings", "mlm/bias"} | local


def test_only_a_fresh_run_is_counted(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one that goes on, nor one that starts from a checkpoint, nor one that asks for chance."""
    counted: list[Any] = []
    begin = start.begin
    monkeypatch.setattr(start, "begin", lambda *args: (counted.append(args), begin(*args)))
    settings = replace(tiny.settings(folder, tmp_path / "run", compiled=False, steps=4), held_out=[])
    assert recipe.pretrain(replace(settings, minutes=0.0)) is None
    assert len(counted) == 1
    first = recipe.pretrain(settings)
    by_chance = replace(settings, run=tmp_path / "chance", model=replace(settings.model, start="random"))
    recipe.pretrain(by_chance)
    recipe.pretrain(replace(settings, run=tmp_path / "on", model=replace(settings.model, init=first)))
    assert len(counted) == 1
