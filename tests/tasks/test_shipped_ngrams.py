"""The trigram: by hand, against a plain transcription of the formulas, and as a distribution; and text as the tokenizer reads it."""

from __future__ import annotations

import json
import math
import random
from collections import Counter, defaultdict

import numpy as np
import pytest

from bert4k.errors import DataError
from bert4k.tasks.shipped import ngrams
from bert4k.tasks.shipped.ngrams import Trigram, as_read
from bert4k.tokenizers.basic import BasicTokenizer

LETTERS = "猫狗鱼"


def codes(text: str) -> np.ndarray:
    return np.array(list(map(ord, text)), np.uint32)


def probability(trigram: Trigram, context: str, told: str | None) -> float:
    """Of one character, or of the end (None), behind the beginning of a document."""
    return math.exp(trigram.log_probs(codes(context + (told or "")))[len(context)])


def test_a_case_by_hand() -> None:
    # Documents 猫狗 and 猫. Triples: ^猫狗 1, 猫狗$ 1, ^猫$ 1. Pairs, by left neighbours: 猫狗 1, 狗$ 1, 猫$ 1; ^猫 2, as counted.
    # Singles, by left neighbours: 猫 1 (^), 狗 1 (猫), $ 2 (狗, 猫). Every count loses a half; four characters and the end make five.
    trigram = Trigram.learn([codes("猫狗"), codes("猫")], discounts=[[0.5] * 3] * 3, characters=4)
    uniform = 1 / 5
    left = 3 * 0.5 / 4  # three distinct of four in all
    singles = {"猫": 0.5 / 4 + left * uniform, "狗": 0.5 / 4 + left * uniform, None: 1.5 / 4 + left * uniform, "鱼": left * uniform}
    assert probability(trigram, "", "猫") == pytest.approx(1.5 / 2 + 0.5 / 2 * singles["猫"])
    assert probability(trigram, "", "鱼") == pytest.approx(0.5 / 2 * singles["鱼"])
    after_cat = {char: (0.5 / 2 if char in ("狗", None) else 0) + 2 * 0.5 / 2 * singles[char] for char in singles}
    assert probability(trigram, "猫", "狗") == pytest.approx(0.5 / 2 + 2 * 0.5 / 2 * after_cat["狗"])
    assert probability(trigram, "猫", "猫") == pytest.approx(2 * 0.5 / 2 * after_cat["猫"])
    # 狗猫 was never read, so the third level leaves all to the second.
    assert probability(trigram, "狗猫", None) == pytest.approx(after_cat[None])
    assert probability(trigram, "鱼鱼", "狗") == pytest.approx(singles["狗"])


def texts(count: int, seed: int) -> list[str]:
    generator = random.Random(seed)
    return ["".join(generator.choices(LETTERS, [4, 2, 1], k=generator.randint(1, 12))) for _ in range(count)]


def test_everything_that_may_follow_sums_to_one() -> None:
    trigram = Trigram.learn(map(codes, texts(40, 1)), characters=5)
    for context in ("", "猫", "狗猫", "鱼鱼猫", "鸟", "鸟鸟", "猫鸟"):
        total = sum(probability(trigram, context, told) for told in (*LETTERS, "鸟", "牛", None))
        assert total == pytest.approx(1)


def by_the_book(documents: list[str], told: str, characters: int) -> list[float]:
    """Chen & Goodman's formulas with dictionaries; no code in common."""
    triples, firsts = Counter(), Counter()
    for text in documents:
        whole = ["", *text, "$"]
        firsts[whole[1]] += 1
        triples.update(zip(whole, whole[1:], whole[2:], strict=False))
    lefts = defaultdict(set)
    for x, y, z in triples:
        lefts[y, z].add(x)
    pairs = Counter({("", z): count for z, count in firsts.items()}) | Counter({pair: len(left) for pair, left in lefts.items()})
    singles = Counter(z for _, z in pairs)
    levels = [Counter({("", "", z)[-1:]: n for z, n in singles.items()}), pairs, triples]

    def discounts(counts: Counter) -> list[float]:
        n = Counter(counts.values())
        if not (n[1] and n[2] and n[3]):
            return [0, 0.5, 1.0, 1.5]
        y = n[1] / (n[1] + 2 * n[2])
        found = [0, 1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]]
        return found if all(0 <= each <= at for at, each in enumerate(found)) else [0, 0.5, 1.0, 1.5]

    def chance(order: int, context: tuple[str, ...], z: str) -> float:
        if order == 0:
            return 1 / (characters + 1)
        level, taken = levels[order - 1], discounts(levels[order - 1])
        below = chance(order - 1, context[1:], z)
        follow = {key[-1]: count for key, count in level.items() if key[:-1] == context}
        if not follow:
            return below
        total = sum(follow.values())
        count = follow.get(z, 0)
        return (count - taken[min(count, 3)] + sum(taken[min(each, 3)] for each in follow.values()) * below) / total

    whole = ["", *told, "$"]
    return [chance(2, ("",), whole[1]), *(chance(3, (x, y), z) for x, y, z in zip(whole, whole[1:], whole[2:], strict=False))]


@pytest.mark.parametrize("count", [3, 30, 300])
def test_it_is_the_formula(count: int) -> None:
    learnt = texts(count, 2)
    trigram = Trigram.learn(map(codes, learnt), characters=10)
    for text in (*texts(5, 3), "鸟", "猫鸟狗"):
        expected = by_the_book(learnt, text, 10)
        np.testing.assert_allclose(np.exp(trigram.log_probs(codes(text))), expected, rtol=1e-9)


def test_discounts_of_counts_that_are_missing() -> None:
    assert ngrams.estimate_discounts(np.array([1, 1, 2])) == (0.5, 1.0, 1.5)
    n = [1] * 40 + [2] * 20 + [3] * 10 + [4] * 5
    assert ngrams.estimate_discounts(np.array(n)) == pytest.approx((0.5, 1.25, 2.0))


def test_nothing_to_learn_is_an_error() -> None:
    with pytest.raises(DataError, match="no text"):
        Trigram.learn([])


def test_a_saved_trigram_is_the_same(tmp_path) -> None:
    trigram = Trigram.learn(map(codes, texts(40, 1)))
    trigram.save(tmp_path / "new" / "trigram.npz")
    again = Trigram.load(tmp_path / "new" / "trigram.npz")
    np.testing.assert_array_equal(again.log_probs(codes("猫狗鱼鸟")), trigram.log_probs(codes("猫狗鱼鸟")))
    (tmp_path / "wrong.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="learn it anew"):
        Trigram.load(tmp_path / "wrong.npz")


def test_spaces_only_where_words_would_run_together() -> None:
    read = as_read(["Hello  World， 我用 Linux 5.4", "", "ubuntu é 是", "！ a"], BasicTokenizer())
    assert read.text == "hello world，我用linux 5.4 ubuntu e是！a"
    assert [read.text[start:] for start in read.line_starts] == [read.text, "ubuntu e是！a", "！a"]
    assert as_read(["猫", "狗"], BasicTokenizer()).text == "猫狗"
    assert as_read(["", " "], BasicTokenizer()).text == ""


def test_the_text_as_read_has_the_words_of_the_text(root) -> None:
    tokenizer = BasicTokenizer()
    for line in (root / "README.zh.md").read_text(encoding="utf-8").split("\n"):
        read = as_read([line], tokenizer)
        assert tokenizer.words(read.text) == tokenizer.words(line)
        assert as_read([read.text], tokenizer).text == read.text


@pytest.fixture
def corpus(tmp_path):
    for part, documents in (("train", texts(60, 4)), ("held_out", texts(6, 5))):
        (tmp_path / part).mkdir()
        for number, name in enumerate(("cats", "dogs")):
            own = documents[number::2]
            (tmp_path / part / f"{name}.txt").write_text("\n\n".join(own) + "\n", encoding="utf-8")
    return tmp_path


def test_the_command(corpus, capsys) -> None:
    ngrams.main(["--corpus", str(corpus), "--out", str(corpus / "out.json"), "--model", str(corpus / "t.npz")])
    results = json.loads((corpus / "out.json").read_text(encoding="utf-8"))
    assert json.loads(capsys.readouterr().out) == results
    held_out = texts(6, 5)[::2]
    trigram = Trigram.learn(codes(text) for text in texts(60, 4)[::2] + texts(60, 4)[1::2])
    total = sum(trigram.log_probs(codes(text)).sum() for text in held_out)
    count = sum(len(text) + 1 for text in held_out)
    assert results["domains"]["cats"]["perplexity"] == pytest.approx(math.exp(-total / count), abs=1e-4)
    assert results["domains"]["cats"]["characters"] == count - 3
    ngrams.main(["--corpus", str(corpus), "--model", str(corpus / "t.npz")])
    assert json.loads(capsys.readouterr().out)["domains"] == results["domains"]


def test_a_folder_without_text_is_an_error(tmp_path) -> None:
    with pytest.raises(DataError, match="--corpus"):
        ngrams.text_files(tmp_path)
