"""What is trained on in which step: the same in every process, every text once in an epoch, objectives and sources as often as asked."""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pretraining.conftest import SPECIAL, TOKENIZER, Corpus, document

from bert4k.errors import ConfigError, DataError
from bert4k.pretraining import stream as module
from bert4k.pretraining.packing import Batch
from bert4k.pretraining.shards import Shards, prepare
from bert4k.pretraining.stream import OBJECTIVES, ON_PAIRS, Mixture, Shares, Source, Stream, make_example, shuffled

EVERYTHING = Mixture(1, 2, 1, 1, 1, 1, 1, 1, 2, 1)  # every objective


def make(
    corpus: Corpus, mixture: Mixture = EVERYTHING, seed: int = 1, groups: int = 2, rows: int = 3, length: int = 48, **weights: float
) -> Stream:
    sources = [Source(name, getattr(corpus, name), weights.get(name, 1.0)) for name in Corpus._fields]
    return Stream(sources, TOKENIZER, mixture, Shares(), groups, rows, length, seed)


def only(**ratios: float) -> Mixture:
    return Mixture(**(dict.fromkeys(OBJECTIVES, 0.0) | ratios))


def digest(batch: Batch) -> str:
    arrays = {**batch.inputs, **batch.targets}
    return hashlib.sha256(b"".join(name.encode() + arrays[name].tobytes() for name in sorted(arrays))).hexdigest()


class Read:
    """Every text that a stream reads, in turn: the objective, the shards and the row of the index."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts: list[tuple[str, Shards, tuple[int, ...]]] = []

        def recording(objective: str, shards: Shards, row: Any, *others: Any) -> Any:
            self.texts.append((objective, shards, tuple(map(int, row))))
            return make_example(objective, shards, row, *others)

        monkeypatch.setattr(module, "make_example", recording)

    def of(self, shards: Shards) -> list[tuple[int, ...]]:
        return [row for _, which, row in self.texts if which is shards]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    return Read(monkeypatch)


# A pure function. ----------------------------------------------------------------------------------------------------------------


def test_a_batch_depends_on_the_step_alone(corpus: Corpus) -> None:
    stream = make(corpus)
    there = [digest(stream.batch(step)) for step in range(12)]
    assert len(set(there)) == 12
    other = make(corpus)
    assert [digest(other.batch(step)) for step in (11, 3, 0, 3, 7)] == [there[step] for step in (11, 3, 0, 3, 7)]
    copy = pickle.loads(pickle.dumps(stream))
    assert digest(copy.batch(9)) == there[9] and digest(copy.batch(200)) == digest(stream.batch(200))
    assert digest(make(corpus, seed=2).batch(0)) != there[0]


IN_ANOTHER_PROCESS = """
import sys
sys.path.insert(0, {tests!r})
from pretraining.conftest import TOKENIZER, Corpus
from pretraining.test_stream import digest, make
from bert4k.pretraining.shards import Shards
print(digest(make(Corpus(*(Shards.open(folder, TOKENIZER) for folder in {folders!r}))).batch(5)))
"""


def test_another_process_makes_the_same_batch(corpus: Corpus) -> None:
    program = IN_ANOTHER_PROCESS.format(tests=str(Path(__file__).parent.parent), folders=[str(shards.folder) for shards in corpus])
    environment = os.environ | {"PYTHONHASHSEED": "123"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == digest(make(corpus).batch(5))


# Epochs. -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mixture", [EVERYTHING, only(masked=1), only(left_to_right=1, pairs=1)], ids=["everything", "masked", "pairs"])
def test_every_text_is_read_once_in_an_epoch(corpus: Corpus, read: Read, mixture: Mixture) -> None:
    stream = make(corpus, mixture)
    read.texts.clear()  # of those that it has looked at
    step, wanted = 0, [shards for shards in corpus if shards is not corpus.pairs or mixture.pairs]
    while any(len(read.of(shards)) < 3 * len(rows_of(shards)) for shards in wanted):
        stream.batch(step)
        step += 1
    for shards in wanted:
        rows, texts = sorted(rows_of(shards)), read.of(shards)
        epochs = [texts[start : start + len(rows)] for start in range(0, 3 * len(rows), len(rows))]
        assert all(sorted(epoch) == rows for epoch in epochs)
        assert epochs[0] != epochs[1] != epochs[2] != epochs[0] and epochs[0] != rows  # each in an order of its own


def rows_of(shards: Shards, limit: int = 45) -> list[tuple[int, ...]]:
    index = shards.pair_index(limit) if shards.counts["pairs"] else shards.stretches(limit)
    return [tuple(map(int, row)) for row in index]


def test_masks_are_drawn_anew(corpus: Corpus) -> None:
    """The same text, met again, has other holes."""
    stream = make(corpus, only(masked=1), rows=8)
    holes: dict[bytes, set[bytes]] = {}
    for step in range(int(stream.epoch_steps * 4)):
        inputs, targets = stream.batch(step).inputs, stream.batch(step).targets
        for group in range(2):
            told = targets["objectives"][group] >= 0
            whole, hidden = inputs["token_ids"][group].copy(), np.zeros(inputs["token_ids"][group].shape, bool)
            rows, places = np.divmod(inputs["positions"][group, told], 48)
            whole[rows, places], hidden[rows, places] = targets["labels"][group, told], True
            for row, document_id in {*zip(*np.nonzero(inputs["document_ids"][group] >= 0), strict=True)}:
                here = inputs["document_ids"][group, row] == inputs["document_ids"][group, row, document_id]
                if here.sum() > 40:
                    holes.setdefault(whole[row, here].tobytes(), set()).add(hidden[row, here].tobytes())
    assert len(holes) > 20 and np.mean([len(each) for each in holes.values()]) > 2.5


def test_the_first_steps_of_a_small_corpus_read_no_text_twice(corpus: Corpus, read: Read) -> None:
    """What is measured on a small held-out file is measured on all of it."""
    stream = make(corpus, only(masked=1, left_to_right=1), groups=1)
    read.texts.clear()
    for step in range(int(stream.epoch_steps)):
        stream.batch(step)
    for shards in (corpus.long, corpus.short):
        counts = Counter(read.of(shards))
        assert set(counts.values()) == {1} and len(counts) > 0.9 * len(rows_of(shards))


def test_epoch_steps(corpus: Corpus, read: Read) -> None:
    stream = make(corpus, only(masked=3, pairs=1))
    read.texts.clear()
    steps = 12 * math.ceil(stream.epoch_steps)
    for step in range(steps):
        stream.batch(step)
    texts = len(read.of(corpus.long)) + len(read.of(corpus.short))
    assert texts / (len(rows_of(corpus.long)) + len(rows_of(corpus.short))) == pytest.approx(steps / stream.epoch_steps, rel=0.1)


# Ratios and weights. -------------------------------------------------------------------------------------------------------------


def test_objectives_and_sources_are_as_often_as_asked(corpus: Corpus, read: Read) -> None:
    stream = make(corpus, short=3.0)
    read.texts.clear()
    for step in range(200):
        stream.batch(step)
    counts = Counter(objective for objective, _, _ in read.texts)
    for objective, ratio in EVERYTHING.ratios().items():
        assert counts[objective] / len(read.texts) == pytest.approx(ratio / 12, rel=0.02), objective
    long, short = (len(read.of(shards)) / len(rows_of(shards)) for shards in (corpus.long, corpus.short))
    assert short / long == pytest.approx(3, rel=0.02)
    assert len(read.of(corpus.pairs)) / len(read.texts) == pytest.approx(3 / 12, rel=0.02)
    # Chance decides which texts: each meets every objective.
    met: dict[tuple[int, ...], set[str]] = {}
    for objective, shards, row in read.texts:
        if shards is corpus.short:
            met.setdefault(row, set()).add(objective)
    kinds = [len(objectives) for objectives in met.values()]  # of eight, in seventeen readings
    assert len(met) == len(rows_of(corpus.short)) and min(kinds) >= 4 and np.mean(kinds) == pytest.approx(7, abs=0.4)


def test_a_source_of_weight_0_is_not_read(corpus: Corpus, read: Read) -> None:
    make(corpus, only(masked=1), short=0.0).batch(0)
    assert {id(shards) for _, shards, _ in read.texts} == {id(corpus.long)}


def test_what_is_told_is_what_the_mixture_asks_for(corpus: Corpus) -> None:
    stream = make(corpus, only(left_to_right=1, masked=2), rows=8)
    for step in range(5):
        targets = stream.batch(step).targets
        assert set(np.unique(targets["objectives"])) == {-1, OBJECTIVES.index("masked"), OBJECTIVES.index("left_to_right")}
        assert targets["weights"].mean() == pytest.approx(1, rel=1e-5)
        for name, share in (("masked", 2 / 3), ("left_to_right", 1 / 3)):
            these = targets["objectives"] == OBJECTIVES.index(name)
            assert targets["weights"][these].sum() / targets["weights"].size == pytest.approx(share, rel=1e-5)


# Packing. ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Documents of several rows of 96 tokens beside single lines, and pairs."""
    import random

    folder, chance = tmp_path_factory.mktemp("large"), random.Random(1)
    texts = {
        "long": "\n\n".join("\n".join(document(chance, chance.randint(5, 30), 6)) for _ in range(150)),
        "short": "\n\n".join("\n".join(document(chance, chance.randint(1, 2), 4)) for _ in range(800)),
    }
    made = []
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
        made.append(prepare(folder / name, TOKENIZER, [folder / f"{name}.txt"], workers=0))
    (folder / "pairs.tsv").write_text(
        "".join(f"{document(chance, 1, 3)[0]}\t{document(chance, 1, 3)[0]}\n" for _ in range(600)), encoding="utf-8"
    )
    return Corpus(made[0], made[1], prepare(folder / "pairs", TOKENIZER, pairs=[folder / "pairs.tsv"], workers=0))


@pytest.mark.parametrize(
    "mixture", [EVERYTHING, Mixture(), only(permuted=1), only(gap_sentences=1)], ids=["all", "unilm", "permuted", "gaps"]
)
def test_rows_are_full_and_hardly_a_text_is_left_out(large: Corpus, monkeypatch: pytest.MonkeyPatch, mixture: Mixture) -> None:
    stream = make(large, mixture, groups=2, rows=8, length=96)
    packed: list[int] = []
    pack = module.pack
    monkeypatch.setattr(module, "pack", lambda examples, *others: packed.append(len(examples)) or pack(examples, *others))
    batches = [stream.batch(step) for step in range(96)]
    assert np.mean([(batch.inputs["document_ids"] >= 0).mean() for batch in batches]) > 0.9
    assert sum(batch.left_out for batch in batches) < 0.02 * sum(packed)
    if mixture is EVERYTHING or mixture == Mixture():  # else P is what a row may ask at most
        assert np.mean([(batch.targets["objectives"] >= 0).mean() for batch in batches]) > 0.85


@given(st.sampled_from(OBJECTIVES), st.integers(0, 2**20), st.integers(12, 60))
def test_every_objective_fits_a_row(corpus: Corpus, objective: str, seed: int, length: int) -> None:
    random = np.random.default_rng(seed)
    shards = corpus.pairs if objective in ON_PAIRS else corpus.long
    index = shards.pair_index(length - 3) if objective in ON_PAIRS else shards.stretches(length - 3)
    example = make_example(objective, shards, index[random.integers(len(index))], SPECIAL, Shares(), random, length)
    assert len(example.token_ids) <= length
    assert (example.labels >= 0).any()


def test_a_small_corpus_is_a_batch_all_the_same(corpus: Corpus) -> None:
    """Fewer texts than a batch holds: it is read several times."""
    small = Corpus(corpus.short, corpus.short, corpus.pairs)
    stream = make(small, only(masked=1), groups=1, rows=16, length=64)
    assert (stream.batch(0).inputs["document_ids"] >= 0).mean() > 0.6


# What makes no sense. ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [-1.0, math.nan, math.inf])
def test_a_ratio_that_is_none(ratio: float) -> None:
    with pytest.raises(ConfigError, match="ratio of permuted"):
        Mixture(permuted=ratio)


def test_a_mixture_of_nothing() -> None:
    with pytest.raises(ConfigError, match="nothing to train"):
        only()


def test_an_objective_without_a_source(corpus: Corpus) -> None:
    with pytest.raises(DataError, match="pairs_cloze, and there is no pair"):
        Stream([Source("long", corpus.long)], TOKENIZER, only(masked=1, pairs_cloze=1), Shares(), 1, 2, 48, 0)
    with pytest.raises(DataError, match="masked, and there is no text"):
        Stream([Source("pairs", corpus.pairs)], TOKENIZER, only(masked=1, pairs=1), Shares(), 1, 2, 48, 0)
    with pytest.raises(DataError, match="no text"):
        make(corpus, only(masked=1), long=0.0, short=0.0)
    with pytest.raises(DataError, match="no text"):
        Stream([], TOKENIZER, only(masked=1), Shares(), 1, 2, 48, 0)


@pytest.mark.parametrize("shape", [{"length": 7}, {"rows": 0}, {"groups": 0}])
def test_a_batch_without_room(corpus: Corpus, shape: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="no batch"):
        make(corpus, **shape)


def test_pairs_that_are_all_too_long(corpus: Corpus) -> None:
    with pytest.raises(DataError, match="no pair of at most 5 tokens"):
        make(corpus, only(pairs=1), length=8)


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_a_weight_that_is_none(corpus: Corpus, weight: float) -> None:
    with pytest.raises(ConfigError, match="weight of long"):
        make(corpus, long=weight)


def test_a_seed_below_0(corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match="seed"):
        make(corpus, seed=-1)


# Order without a table. ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [*range(1, 70), 255, 256, 257, 1000, 4096, 10007])
def test_shuffled_is_a_permutation(size: int) -> None:
    for seed in (0, 1, 10**20):
        assert sorted(shuffled(place, size, seed) for place in range(size)) == list(range(size))


def test_shuffled_of_billions() -> None:
    size = 3_000_000_019
    places = [shuffled(place, size, 7) for place in range(2000)]
    assert len(set(places)) == 2000 and min(places) >= 0 and max(places) < size
    assert np.mean(places) == pytest.approx(size / 2, rel=0.05)
    assert abs(np.corrcoef(places[:-1], places[1:])[0, 1]) < 0.08


@pytest.mark.parametrize("size", [2, 3, 5, 12])
def test_every_place_is_as_likely(size: int) -> None:
    rounds = 3000
    counts = np.zeros((size, size))
    for seed in range(rounds):
        for place in range(size):
            counts[place, shuffled(place, size, seed)] += 1
    expected = rounds / size
    statistic = ((counts - expected) ** 2 / expected).sum()
    freedom = (size - 1) ** 2
    assert statistic < freedom + 5 * math.sqrt(2 * freedom) + 5


def test_orders_look_random() -> None:
    """Of 1,000 places, as many stay where they are, and as many neighbours stay neighbours, as in a random order: one, and two."""
    orders = [np.array([shuffled(place, 1000, seed) for place in range(1000)]) for seed in range(60)]
    assert 0.4 < np.mean([(order == np.arange(1000)).sum() for order in orders]) < 1.6
    assert 1.2 < np.mean([(np.abs(np.diff(order)) == 1).sum() for order in orders]) < 2.8
    assert abs(np.mean([np.corrcoef(orders[n], orders[n + 1])[0, 1] for n in range(59)])) < 0.02
