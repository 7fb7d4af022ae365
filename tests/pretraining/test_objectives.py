"""What each objective asks of a text, written out by hand; that it is what its mask says; and that nothing is told that was seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from decoding import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from pretraining.conftest import SPECIAL, TOKENIZER, TOKENS, ids, make_tiny, some_stretch, stretch

from bert4k.errors import VocabularyError
from bert4k.pretraining import objectives
from bert4k.pretraining.mapped import Pair, Stretch
from bert4k.pretraining.objectives import NOTHING, Example, Special
from bert4k.pretraining.packing import TOKEN_FIELDS, Shape, pack
from bert4k.tokenizers import Tokenizer

TEXT = "今天 天气/很 好 。"


class Rigged:
    """In place of a random generator: the first of everything. luck: what every uniform number is; swap: a yes or no."""

    def __init__(self, luck: float = 0.0, swap: int = 0) -> None:
        self.luck, self.swap = luck, swap

    def random(self, size: int | None = None) -> Any:
        return self.luck if size is None else np.full(size, self.luck)

    def integers(self, low: int, high: int | None = None, size: int | None = None) -> Any:
        return self.swap if size is None and high is None else np.full(size or high, 0 if high is None else low)

    def permutation(self, size: int) -> np.ndarray:
        return np.arange(size)

    def choice(self, values: Sequence[int]) -> int:
        return values[0]


def halves(text: str, ends: bool = True) -> Pair:
    return objectives.halves(stretch(text, ends), Rigged())


def pair(source: str, target: str) -> Pair:
    return Pair(np.array(ids(source), np.int32), np.array(ids(target), np.int32))


# By hand. ------------------------------------------------------------------------------------------------------------------------


HAND = {
    "masked": (
        lambda: objectives.masked(stretch(TEXT), SPECIAL, Rigged(), share=0.45),
        "[CLS] [MASK] [MASK] [MASK] [MASK] 很 好 。 [SEP]",
        "0 0 0 0 0 0 0 0 0",
        "0 0 0 0 0 0 0 0 0",
        "· 今 天 天 气 · · · ·",
    ),
    "a word that is longer than the share": (
        lambda: objectives.masked(stretch("一帆风顺 很 好"), SPECIAL, Rigged(), share=0.15),
        "[CLS] [MASK] [MASK] [MASK] [MASK] 很 好 [SEP]",
        "0 0 0 0 0 0 0 0",
        "0 0 0 0 0 0 0 0",
        "· 一 帆 风 顺 · · ·",
    ),
    "two words together": (
        lambda: objectives.masked(stretch("很 好 的 书 。"), SPECIAL, Rigged(luck=0.95), share=0.4),
        "[CLS] 很 好 的 书 。 [SEP]",  # lucky: left as they are
        "0 0 0 0 0 0 0",
        "0 0 0 0 0 0 0",
        "· 很 好 · · · ·",
    ),
    "sentence order": (
        lambda: objectives.sentence_order(stretch(TEXT), SPECIAL, Rigged(), share=0.6),
        "[CLS] [MASK] [MASK] [MASK] [MASK] [SEP] 很 好 。 [SEP]",
        "0 0 0 0 0 0 1 1 1 1",
        "0 0 0 0 0 0 0 0 0 0",
        "· 今 天 天 气 · · · · ·",
    ),
    "sentence order, exchanged": (
        lambda: objectives.sentence_order(stretch(TEXT), SPECIAL, Rigged(swap=1), share=0.6),
        "[CLS] [MASK] [MASK] [MASK] [SEP] [MASK] [MASK] 天 气 [SEP]",
        "0 0 0 0 0 1 1 1 1 1",
        "0 0 0 0 0 0 0 0 0 0",
        "· 很 好 。 · 今 天 · · ·",
    ),
    "sentence order of one line": (
        lambda: objectives.sentence_order(stretch("今天 很 好"), SPECIAL, Rigged(swap=1)),
        "[CLS] [MASK] [MASK] 很 好 [SEP]",
        "0 0 0 0 0 0",
        "0 0 0 0 0 0",
        "· 今 天 · · ·",
    ),
    "left to right": (
        lambda: objectives.left_to_right(stretch("今天 很 好"), SPECIAL),
        "[CLS] 今 天 很 好 [SEP]",
        "0 0 0 0 0 0",
        "0 1 2 3 4 5",
        "今 天 很 好 [SEP] ·",
    ),
    "left to right, going on": (
        lambda: objectives.left_to_right(stretch("今天 很 好", ends=False), SPECIAL),
        "[CLS] 今 天 很 好 [SEP]",
        "0 0 0 0 0 0",
        "0 1 2 3 4 5",
        "今 天 很 好 · ·",
    ),
    "right to left": (
        lambda: objectives.right_to_left(stretch("今天 很 好"), SPECIAL),
        "[CLS] 今 天 很 好 [SEP]",
        "0 0 0 0 0 0",
        "5 4 3 2 1 0",
        "· · 今 天 很 好",
    ),
    "seq2seq": (
        lambda: objectives.seq2seq(halves(TEXT), SPECIAL),
        "[CLS] 今 天 天 气 [SEP] 很 好 。 [SEP]",
        "0 0 0 0 0 0 1 1 1 1",
        "0 0 0 0 0 0 1 2 3 4",
        "· · · · · 很 好 。 [SEP] ·",
    ),
    "seq2seq, going on": (
        lambda: objectives.seq2seq(halves(TEXT), SPECIAL, ends=False),
        "[CLS] 今 天 天 气 [SEP] 很 好 。 [SEP]",
        "0 0 0 0 0 0 1 1 1 1",
        "0 0 0 0 0 0 1 2 3 4",
        "· · · · · 很 好 。 · ·",
    ),
    "cloze": (
        lambda: objectives.seq2seq_cloze(halves(TEXT), SPECIAL, Rigged()),
        "[CLS] 今 天 天 气 [SEP] [MASK] [MASK] [MASK] [MASK]",
        "0 0 0 0 0 0 1 1 1 1",
        "0 0 0 0 0 0 1 2 3 4",
        "· · · · · · 很 好 。 [SEP]",
    ),
    "cloze, going on": (
        lambda: objectives.seq2seq_cloze(halves(TEXT), SPECIAL, Rigged(), ends=False),
        "[CLS] 今 天 天 气 [SEP] [MASK] [MASK] [MASK] [SEP]",
        "0 0 0 0 0 0 1 1 1 1",
        "0 0 0 0 0 0 1 2 3 4",
        "· · · · · · 很 好 。 ·",
    ),
    "cloze asks for something": (
        lambda: objectives.seq2seq_cloze(pair("书", "很 好"), SPECIAL, Rigged(luck=0.75)),
        "[CLS] 书 [SEP] 很 好 [MASK]",
        "0 0 0 1 1 1",
        "0 0 0 1 2 3",
        "· · · · · [SEP]",
    ),
    "permuted": (
        lambda: objectives.permuted(stretch(TEXT), SPECIAL, Rigged(), share=0.5),
        "[CLS] 今 天 天 气 很 好 。 [SEP] [MASK] [MASK] [MASK] [MASK]",
        "0 0 0 0 0 0 0 0 0 0 0 0 0",
        "0 1 2 3 4 0 0 0 0 0 1 2 3",
        "· · · · · · · · · 今 天 天 气",
    ),
}


@pytest.mark.parametrize("name", HAND)
def test_by_hand(name: str) -> None:
    make, tokens, segments, order, labels = HAND[name]
    example: Example = make()
    if name == "two words together":
        example = example._replace(token_ids=np.where(example.labels >= 0, example.labels, example.token_ids))
    assert [TOKENS[token] for token in example.token_ids] == tokens.split()
    assert " ".join(map(str, example.segment_ids)) == segments
    assert " ".join(map(str, example.order)) == order
    assert example.labels.tolist() == ids(labels)
    queries = len(example.token_ids) - 9 if name == "permuted" else 0
    content = len(example.token_ids) - queries
    assert example.position_ids.tolist() == [*range(content), *range(1, queries + 1)]
    assert example.real.tolist() == [True] * content + [False] * queries
    assert example.swapped == {"sentence order": 0, "sentence order, exchanged": 1}.get(name, NOTHING)
    assert {array.dtype for array in example[:5]} == {np.dtype(np.int32)} and example.real.dtype == bool


def test_a_vocabulary_without_a_mask_is_refused() -> None:
    with pytest.raises(VocabularyError, match=r"\[MASK\]"):
        Special.of(Tokenizer([token for token in TOKENS if token != "[MASK]"]))


# Cloze: how much, which, and what is put there. ----------------------------------------------------------------------------------


def many(make: Callable[[np.random.Generator], Example], count: int = 300) -> list[Example]:
    random = np.random.default_rng(0)
    return [make(random) for _ in range(count)]


@pytest.mark.parametrize("make", [objectives.masked, objectives.sentence_order], ids=["masked", "sentence_order"])
def test_masked_is_15_percent_in_the_proportions_of_bert(make: Callable[..., Example]) -> None:
    text = stretch("/".join(["今天 天气 很 好 。 我们 去 图书馆 看 书 。"] * 6))
    examples = many(lambda random: make(text, SPECIAL, random))
    counts = [np.count_nonzero(example.labels >= 0) for example in examples]
    wanted = round(0.15 * len(text.ids))
    assert wanted - 2 <= min(counts) <= max(counts) <= wanted + 2
    assert np.mean(counts) == pytest.approx(wanted, abs=0.1)
    asked = np.concatenate([example.labels >= 0 for example in examples])
    shown, labels = (np.concatenate([getattr(example, name) for example in examples]) for name in ("token_ids", "labels"))
    assert 0.77 < (shown[asked] == SPECIAL.mask).mean() < 0.83
    others = shown[asked & (shown != SPECIAL.mask) & (shown != labels)]
    assert 0.08 < len(others) / asked.sum() < 0.12
    assert set(others) == set(range(len(TOKENS))) - TOKENIZER.special_ids  # every token but the special ones
    for example in examples:  # the text is there, once the labels are put back
        whole = np.where(example.labels >= 0, example.labels, example.token_ids)
        parts = np.split(whole[1:-1], np.flatnonzero(whole[1:-1] == SPECIAL.sep))
        parts = [part[part != SPECIAL.sep] for part in parts]
        assert np.concatenate(parts[::-1] if example.swapped == 1 else parts).tolist() == text.ids.tolist()
        assert not np.isin(example.labels, [SPECIAL.cls, SPECIAL.sep]).any()
        assert not example.order.any()
    assert len({tuple(example.labels) for example in examples}) > 290  # drawn anew each time
    if make is objectives.sentence_order:
        assert 0.42 < np.mean([example.swapped for example in examples]) < 0.58
        cuts = {int(example.segment_ids.sum()) for example in examples}
        assert len(cuts) > 2  # the middle half of six lines


def words_of(starts_word: Sequence[bool]) -> list[list[int]]:
    words: list[list[int]] = []
    for place, starts in enumerate(starts_word):
        if starts or not words:
            words.append([])
        words[-1].append(place)
    return words


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.floats(0.01, 1), st.integers(0, 2**20))
@settings(max_examples=200)
def test_spans_are_whole_words(starts_word: list[bool], share: float, seed: int) -> None:
    chosen = set(objectives.spans(np.array(starts_word), share, np.random.default_rng(seed)).tolist())
    words = words_of(starts_word)
    taken = [word for word in words if chosen & set(word)]
    assert chosen == {place for word in taken for place in word}
    wanted, longest = max(1, round(share * len(starts_word))), max(map(len, words))
    assert 0 < len(chosen) > wanted - longest
    assert len(chosen) < wanted + longest


@pytest.mark.parametrize(("repeat", "tolerance"), [(2, 0.15), (20, 0.08)])
def test_words_of_every_length_are_chosen_alike_and_the_share_is_met(repeat: int, tolerance: float) -> None:
    text = stretch(" ".join(["一帆风顺", "图书馆", "今天", "很", "好"] * repeat))
    random = np.random.default_rng(0)
    counts = np.zeros(len(text.ids))
    for _ in range(1000):
        counts[objectives.spans(text.starts_word, 0.3, random)] += 1
    assert counts.sum() / 1000 == pytest.approx(round(0.3 * len(text.ids)), rel=0.02)
    by_length = {length: counts[[word[0] for word in words_of(text.starts_word) if len(word) == length]].mean() for length in (1, 2, 3, 4)}
    assert max(by_length.values()) < (1 + tolerance) * min(by_length.values())


def test_one_span_in_five_is_two_or_three_words() -> None:
    random = np.random.default_rng(0)
    lengths: list[int] = []
    for _ in range(300):
        chosen = objectives.spans(np.ones(2000, bool), 0.01, random)  # so few that they seldom meet
        lengths += map(len, np.split(chosen, np.flatnonzero(np.diff(chosen) > 1) + 1))
    shares = np.bincount(lengths, minlength=4)[:4] / len(lengths)
    assert (
        shares[1] == pytest.approx(0.8, abs=0.03)
        and shares[2] == pytest.approx(0.1, abs=0.03)
        and shares[3] == pytest.approx(0.1, abs=0.03)
    )


def test_cloze_hides_the_end_at_the_same_rate() -> None:
    examples = many(lambda random: objectives.seq2seq_cloze(pair("今 天", "天 气 很 好"), SPECIAL, random), 2000)
    rates = np.mean([example.labels >= 0 for example in examples], axis=0)
    assert not rates[:4].any()
    assert rates[4:] == pytest.approx(0.7, abs=0.05)
    shown = np.array([example.token_ids[-1] for example in examples if example.labels[-1] >= 0])
    assert 0.75 < (shown == SPECIAL.mask).mean() < 0.85
    open_end = many(lambda random: objectives.seq2seq_cloze(pair("今 天", "天 气 很 好"), SPECIAL, random, ends=False), 50)
    assert all(example.labels[-1] == NOTHING and example.token_ids[-1] == SPECIAL.sep for example in open_end)


# Pieces. -------------------------------------------------------------------------------------------------------------------------


def test_where_texts_are_cut() -> None:
    random = np.random.default_rng(0)
    assert objectives.split(stretch("今天 天气 很 好"), random) is None
    lines = stretch("很/今天 天气/很 好/我们 去 图书馆/看 书/。")  # lines start at 1, 5, 7, 13, 15 of 16
    assert {objectives.split(lines, random) for _ in range(50)} == {5, 7}
    assert objectives.split(stretch("很/今天 天气 很 好"), random) == 1
    cuts = {len(objectives.halves(stretch("今天 天气 很 好"), random).source) for _ in range(50)}
    assert cuts == {2, 4, 5}
    single = stretch("好")
    assert [part.tolist() for part in objectives.halves(single, random)] == [[], ids("好")]


def test_the_beginning_of_a_text_is_whole_words() -> None:
    text = stretch("今天 天气/图书馆 好")
    assert objectives.beginning(text, 8) is text
    for limit, left in ((7, 7), (6, 4), (5, 4), (4, 4), (3, 2), (2, 2), (1, 1)):  # the first word has to be cut
        short = objectives.beginning(text, limit)
        assert short.ids.tolist() == text.ids[:left].tolist() and not short.ends
        assert len(short.starts_word) == len(short.starts_line) == left
    assert objectives.beginning(text._replace(starts_word=np.zeros(8, bool)), 5).ids.tolist() == text.ids[:5].tolist()


# Gap sentences. ------------------------------------------------------------------------------------------------------------------


def test_gap_sentences_by_hand() -> None:
    # ROUGE-1 of each line against the others. The first: 2 of its 3 tokens are among 7 others, F1 = 2 * (2/3 * 2/7) / (2/3 + 2/7) = 0.4;
    # the second: 3 of 4 among 6, F1 = 0.6; the third: 书 alone, 1 of 3 among 7, F1 = 0.2.
    text = stretch("今 天 去/今 天 书 很/书 好 好")
    scores = objectives.rouge_1_against_rest([text.ids[:3], text.ids[3:7], text.ids[7:]])
    assert scores == pytest.approx([0.4, 0.6, 0.2])
    made = objectives.gap_sentences(text, SPECIAL, np.random.default_rng(0))
    assert made is not None
    assert made.source.tolist() == ids("今 天 去 [MASK] 书 好 好") and made.target.tolist() == ids("今 天 书 很")
    made = objectives.gap_sentences(text, SPECIAL, np.random.default_rng(0), share=0.7)  # two of three, in the order of the text
    assert made is not None
    assert made.source.tolist() == ids("[MASK] [MASK] 书 好 好") and made.target.tolist() == ids("今 天 去 今 天 书 很")
    assert made.source.dtype == made.target.dtype == np.int32


def test_gap_sentences_of_one_sentence_and_of_all() -> None:
    random = np.random.default_rng(0)
    assert objectives.gap_sentences(stretch("今天 天气"), SPECIAL, random) is None
    made = objectives.gap_sentences(stretch("今天/天气"), SPECIAL, random, share=1.0)
    assert made is not None and len(made.source) == 3 and len(made.target) == 2  # never all of them


@pytest.mark.parametrize(("lines", "share", "gone"), [(10, 0.3, 3), (10, 0.29, 2), (3, 0.3, 1), (20, 0.15, 3), (100, 0.57, 57)])
def test_the_share_of_gap_sentences_is_rounded_down(lines: int, share: float, gone: int) -> None:
    made = objectives.gap_sentences(stretch("/".join(["很"] * lines)), SPECIAL, np.random.default_rng(0), share)
    assert made is not None and (made.source == SPECIAL.mask).sum() == len(made.target) == gone


def test_noise_changes_which_sentences_go() -> None:
    text = stretch("/".join(["今天 天气 很 好", "今天 天气 很", "天气 很 好", "我们 今天 好", "书"]))

    def chosen(noise: float) -> set[tuple[int, ...]]:
        pairs = [objectives.gap_sentences(text, SPECIAL, np.random.default_rng(seed), 0.2, noise) for seed in range(30)]
        return {tuple(made.target) for made in pairs if made}

    assert len(chosen(0.0)) == 1 and len(chosen(0.2)) > 1


@given(st.integers(0, 500), st.integers(1, 40), st.floats(0.1, 1))
def test_gap_sentences_stay_within_the_room(seed: int, room: int, share: float) -> None:
    text = some_stretch(seed, lines=8)
    made = objectives.gap_sentences(text, SPECIAL, np.random.default_rng(0), share, room=room)
    if made is None:
        ends = np.flatnonzero(text.starts_line)
        assert len(ends) < 2 or ends[2 % len(ends)] + 1 > room or len(text.ids) + 1 > room
    else:
        assert len(made.source) + len(made.target) <= room


def naive_rouge(sentence: Sequence[int], rest: Sequence[int]) -> float:
    left, common = list(rest), 0
    for token in sentence:
        if token in left:
            left.remove(token)
            common += 1
    if not common:
        return 0.0
    precision, recall = common / len(sentence), common / len(rest)
    return 2 * precision * recall / (precision + recall)


@given(st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=8), min_size=2, max_size=6))
def test_rouge_is_the_naive_one(sentences: list[list[int]]) -> None:
    found = objectives.rouge_1_against_rest([np.array(sentence, np.int32) for sentence in sentences])
    for index, sentence in enumerate(sentences):
        rest = [token for other in sentences[:index] + sentences[index + 1 :] for token in other]
        assert found[index] == pytest.approx(naive_rouge(sentence, rest))


# By order and by mask; nothing is told that was seen. ------------------------------------------------------------------------------


def example_of(objective: str, text: Stretch, random: np.random.Generator) -> Example:
    match objective:
        case "masked":
            return objectives.masked(text, SPECIAL, random, 0.3)
        case "sentence_order":
            return objectives.sentence_order(text, SPECIAL, random, 0.3)
        case "left_to_right":
            return objectives.left_to_right(text, SPECIAL)
        case "right_to_left":
            return objectives.right_to_left(text, SPECIAL)
        case "seq2seq":
            return objectives.seq2seq(objectives.halves(text, random), SPECIAL, text.ends)
        case "seq2seq_cloze":
            return objectives.seq2seq_cloze(objectives.halves(text, random), SPECIAL, random, 0.7, text.ends)
        case "permuted":
            return objectives.permuted(text, SPECIAL, random, 0.4)
    gaps = objectives.gap_sentences(text, SPECIAL, random)
    return objectives.seq2seq(gaps or objectives.halves(text, random), SPECIAL)


# The objectives, and the mask under which a user loads what each has trained.
MASK_OF = {
    "masked": "encoder",
    "sentence_order": "encoder",
    "left_to_right": "lm",
    "right_to_left": "reverse_lm",
    "seq2seq": "seq2seq",
    "seq2seq_cloze": "seq2seq",
    "gap_sentences": "seq2seq",
}
OBJECTIVES = (*MASK_OF, "permuted")


@pytest.fixture(scope="module")
def tiny() -> Any:
    return make_tiny()


def outputs(model: Any, inputs: dict[str, Any]) -> np.ndarray:
    from keras import ops

    return ops.convert_to_numpy(model({name: ops.convert_to_tensor(values) for name, values in inputs.items()}))


@pytest.mark.backends
@pytest.mark.parametrize("objective", MASK_OF)
def test_a_packed_text_is_computed_as_alone_under_the_mask_that_users_load(objective: str, tiny: Any) -> None:
    random = np.random.default_rng(1)
    examples = [example_of(objective, some_stretch(seed), random) for seed in range(8)]
    # Beside permuted texts, whose queries nobody may see.
    beside = [(1, example_of("permuted", some_stretch(seed), random)) for seed in range(8, 12)]
    [batch] = pack([*((0, example) for example in examples), *beside], Shape(1, 6, 60, 400), {0: 1.0, 1: 1.0})
    assert batch.left_out == 0
    names = (*TOKEN_FIELDS, "document_ids")
    packed = outputs(tiny.with_outputs("sequence"), {name: batch.inputs[name][0] for name in names})
    alone = tiny.with_outputs("sequence").with_mask(MASK_OF[objective])
    longest = max(len(example.token_ids) for example in examples)
    inputs = {name: np.zeros((8, longest), np.int32) for name in ("token_ids", "segment_ids")}
    for (name, values), index in product(inputs.items(), range(8)):
        values[index, : len(examples[index].order)] = getattr(examples[index], name)
    for example, padded in zip(examples, outputs(alone, inputs), strict=True):
        size = len(example.token_ids)
        expected = padded[:size]
        found = [
            packed[row, begin : begin + size]
            for row in range(6)
            for begin in range(61 - size)
            if (batch.inputs["token_ids"][0, row, begin : begin + size] == example.token_ids).all()
            and (batch.inputs["segment_ids"][0, row, begin : begin + size] == example.segment_ids).all()
            and len(set(batch.inputs["document_ids"][0, row, begin : begin + size])) == 1
        ]
        assert found
        assert min(np.abs(each - expected).max() for each in found) < 2e-5


@pytest.mark.backends
def test_permuted_is_one_forward_pass_for_each_target_without_what_comes_later(tiny: Any) -> None:
    slow = reference.Bert(tiny)
    for seed in range(4):
        text = some_stretch(seed)
        example = objectives.permuted(text, SPECIAL, np.random.default_rng(seed), 0.4)
        content = len(text.ids) + 2
        inputs = {name: getattr(example, name)[None] for name in TOKEN_FIELDS} | {
            "document_ids": np.zeros((1, len(example.order)), np.int32)
        }
        x = outputs(tiny.with_outputs("sequence"), inputs)[0]
        when = {int(place): int(example.order[place]) for place in range(content)}
        for query in range(content, len(example.order)):
            target = int(example.position_ids[query])
            assert example.labels[query] == text.ids[target - 1] and when[target] > 0
            # What was revealed before the target, and a [MASK] in its place, which sees all of it but not itself.
            left = [place for place in range(content) if when[place] < when[target]]
            allowed = np.array([[when[key] <= when[place] for key in left] + [False] for place in left] + [[True] * len(left) + [False]])
            tokens = [int(example.token_ids[place]) for place in left] + [SPECIAL.mask]
            hidden = slow.sequence(tokens, [0] * len(tokens), [*left, target], allowed)[-1]
            np.testing.assert_allclose(slow.told(x[query].astype("float64")), slow.told(hidden), atol=2e-4)


def sees(objective: str, example: Example, query: int) -> set[int]:
    """What a prediction may depend on, by the words of the docstrings and not by `order`."""
    everything = set(range(len(example.token_ids)))
    match objective:
        case "masked" | "sentence_order":
            return everything
        case "left_to_right":
            return set(range(query + 1))
        case "right_to_left":
            return set(range(query, len(everything)))
        case "permuted":
            real = set(np.flatnonzero(example.real).tolist())
            targets = [int(place) for place in example.position_ids[~example.real]]
            turn = {target: int(example.order[target]) for target in targets}
            later = {target for target in targets if turn[target] >= turn[int(example.position_ids[query])]}
            return real - later | {query}
    source = set(np.flatnonzero(example.segment_ids == 0).tolist())
    return source | set(range(query + 1))


@pytest.mark.backends
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_prediction_depends_on_what_it_may_see_and_on_nothing_else(objective: str, tiny: Any) -> None:
    """Each token in turn is replaced by another. Two layers: nothing leaks through a third token, either."""
    random = np.random.default_rng(5)
    told = 0
    for seed in (1, 2):
        example = example_of(objective, some_stretch(seed + 20, lines=4, words=3), random)
        neighbour = example_of("permuted" if seed == 1 else objective, some_stretch(seed), random)
        size, whole = len(example.token_ids), len(example.token_ids) + len(neighbour.token_ids)
        inputs = {name: np.concatenate([getattr(example, name), getattr(neighbour, name)]) for name in TOKEN_FIELDS}
        inputs["document_ids"] = np.repeat(np.array([0, 1], np.int32), [size, whole - size])
        inputs = {name: np.repeat(values[None], whole, axis=0) for name, values in inputs.items()}
        # Each row is compared with itself: a processor may round the last rows of a batch otherwise than the first.
        before = outputs(tiny.with_outputs("sequence"), inputs)
        for place in range(whole):
            inputs["token_ids"][place, place] = (inputs["token_ids"][place, place] + 3) % len(TOKENS)
        change = np.abs(outputs(tiny.with_outputs("sequence"), inputs) - before).max(axis=-1)  # [changed, looking]
        for query in np.flatnonzero(example.labels != NOTHING):
            seen = sees(objective, example, int(query))
            unseen = set(range(whole)) - seen
            assert change[sorted(unseen), query].max(initial=0) < 1e-6
            assert change[sorted(seen), query].min() > 1e-6
            # What is told is not to be seen: its token is one of the unseen, or was hidden in its own place.
            own = {"left_to_right": query + 1, "right_to_left": query - 1, "seq2seq": query + 1, "gap_sentences": query + 1}
            place = int(example.position_ids[query]) if objective == "permuted" else int(own.get(objective, query))
            assert place in unseen or place == query
            told += 1
    assert told >= 3
