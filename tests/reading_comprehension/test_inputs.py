"""Texts as networks take them: every token's place, long passages in pieces, lessons that are drawn anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_runs import TOKENS

from bert4k.answering import Passage, Question
from bert4k.errors import CheckpointError
from bert4k.reading_comprehension.inputs import Characters, Joint, LessonBatches, Pieces, Representation, Separate, folded, lessons
from bert4k.reading_comprehension.overlap import FEATURES
from bert4k.reading_comprehension.word_vectors import WordVectors
from bert4k.tokenizers import Tokenizer

TOKENIZER = Tokenizer(TOKENS)
VECTORS = WordVectors(["北京"], np.ones((1, 3), np.float32))
QUESTION = Question("谁在北京", (Passage("小明 在北京,王明也在北京", ("北京",)),), ("北京",))


def representations() -> list[Representation]:
    own = [Characters("小明在北京", 6, 8), Characters("小明在", 6, 8, VECTORS), Separate(TOKENIZER, 6, 8), Joint(TOKENIZER, 6, 8)]
    return [*own, Characters("小明在", 6, 8, VECTORS, overlap=True), Separate(TOKENIZER, 6, 8, overlap=True)]


NAMES = ["characters", "words", "separate", "joint", "words with overlap", "separate with overlap"]


@pytest.mark.parametrize("representation", representations(), ids=NAMES)
def test_all_of_a_long_passage_is_read_and_every_token_knows_its_place(representation: Representation) -> None:
    text = "小明在北京的人喜欢好书" * 3
    given = Pieces([Question("谁在北京", (Passage("王"), Passage(text)))], representation)
    assert given.of[0] == (0, 0) and set(given.of[1:]) == {(0, 1)} and len(given.rows) > 5
    seen = set()
    for row, (_, passage) in zip(given.rows, given.of, strict=True):
        whole = representation.text(["王", text][passage])
        told = row.columns[representation.told][row.span]
        for number, (start, end) in zip(told, row.places, strict=True):
            at = int(start)
            assert end == at + 1 and number == next(iter(whole.columns.values()))[at]
            seen.add((passage, at))
    assert seen == {(0, 0), *((1, at) for at in range(len(text)))}
    batch = given.inputs([0, 1], max(given.lengths()))
    assert {len(each) for each in batch.values()} == {2} and max(given.lengths()) == len(given.rows[1].columns[representation.told])


def test_what_is_in_common_with_the_question_stands_where_its_tokens_do() -> None:
    texts, padding = ("谁在北京", "小明 在北京,王明也在北京"), 20
    for own in (Characters("小明在", 6, 8, overlap=True), Separate(TOKENIZER, 6, 8, overlap=True)):
        question, passage = own.question(texts[0]), own.text(texts[1])
        rows = [own.piece(question, passage, part) for part in (slice(0, 8), slice(4, 10))]
        found = own.inputs(rows, padding)["passage_overlap"]
        assert found.dtype == np.float32 and found.shape == (2, padding, FEATURES)
        for row, each in zip(rows, found, strict=True):
            told = [texts[1][start:end] in texts[0] for start, end in row.places]
            assert each[row.span, 0].tolist() == told and sum(told) == each[:, 0].sum() > 0
        assert own.question("小明小明小明在").codes.tolist() == own.question("小明小明小明").codes.tolist()  # as far as it is read
    without = Characters("小", 6, 8)
    assert set(without.inputs([without.piece(without.question("小"), without.text("小明"), slice(0, 2))], 8)) == {"question", "passage"}


def test_characters() -> None:
    assert "".join(map(folded, "Ａa　ﬁ℃\t１İ𠀀")) == "aa ﬁ℃ 1İ𠀀"
    counted = Characters.counted(["ABａbC", "ab x"], 2, 8, 8)
    assert counted.characters == ["a", "b"]
    assert counted.text("Ａ?b").columns[""].tolist() == [2, 1, 3]
    assert Characters("小", 2, 8).question("小明在").columns[""].tolist() == [2, 1]


def test_vectors_of_words_are_inputs() -> None:
    own = Characters("在", 4, 8, VECTORS)
    batch = own.inputs([own.piece(own.question("在"), own.text("在北京"), slice(0, 3))], 5)
    assert {name: each.shape for name, each in batch.items()} == {
        "question": (1, 4),
        "passage": (1, 5),
        "question_words": (1, 4, 3),
        "passage_words": (1, 5, 3),
    }
    assert batch["passage_words"][0, :, 0].tolist() == [0, 1, 1, 0, 0]


def test_kept_in_a_folder(tmp_path: Path) -> None:
    Characters(["的", " ", "\ud83d"], 4, 8, VECTORS).save(tmp_path)
    again = Characters.read(tmp_path, 4, 8)
    assert again.characters == ["的", " ", "\ud83d"] and again.vectors is not None and again.vectors.words == ["北京"]
    (tmp_path / "characters.txt").unlink()
    with pytest.raises(CheckpointError, match=r"characters\.txt is missing"):
        Characters.read(tmp_path, 4, 8)


def test_rows_of_tokens() -> None:
    def shown(row: np.ndarray) -> str:
        return "".join(TOKENS[number] for number in row)

    one, other = Joint(TOKENIZER, 2, 8), Separate(TOKENIZER, 2, 8)
    row = one.piece(one.question("好的书"), one.text("在北京"), slice(1, 3))
    assert shown(row.columns["token_ids"]) == "[CLS]好的[SEP]北京[SEP]" and row.columns["segment_ids"].tolist() == [0] * 4 + [1] * 3
    row = other.piece(other.question("好的书"), other.text("在北京"), slice(1, 3))
    assert [shown(row.columns[name]) for name in ("question", "passage")] == ["[CLS]好的[SEP]", "[CLS]北京[SEP]"]


def test_what_could_not_be_learnt_is_counted() -> None:
    tokenizer = Tokenizer([*TOKENS, "2008"])
    questions = [QUESTION, Question("在的在的在的在", (Passage("2008的", ("08",)), Passage("王", ("北京",))), ("08", "北京"))]
    learn, lost = lessons(questions, Joint(tokenizer, 6, 16))
    assert lost == (1, 1, 1)
    assert [lesson.spans for own in learn for lesson in own] == [((3, 5), (10, 12)), (), ()]


@pytest.mark.parametrize("holding", [None, 0.5, 1.0])
def test_how_often_a_passage_holds_the_answer(holding: float | None) -> None:
    own = Characters("北王", 6, 16)
    answered = Question("哪", (Passage("北", ("北",)), *[Passage("王")] * 9), ("北",))
    learn, _ = lessons([answered] * 400 + [Question("哪", (Passage("王"),))] * 4, own)
    batches = LessonBatches(learn, own, 404, seed=5, holding=holding)
    _, y, _ = batches[0]
    share = y[:, :, 0].sum() / 400
    assert share == 1 if holding == 1 else abs(share - (holding or 0.1)) < 0.06


def test_lessons_are_drawn_anew_and_follow_from_the_seed() -> None:
    own = Characters("小明在北京王也", 6, 16)
    questions = [QUESTION, Question("哪", (Passage("小明在京" * 10 + "北", ("北",)), Passage("王")), ("北",))] * 4
    learn, _ = lessons(questions, own)
    batches = LessonBatches(learn, own, 3, seed=5)
    assert len(batches) == 3 and {length for length, _ in batches.batches} <= {8, 12, 16}
    met = set()
    for epoch in range(20):
        batches.begin(epoch)
        assert sorted(int(number) for _, members in batches.batches for number in members) == list(range(8))
        for at in range(len(batches)):
            x, y, weights = batches[at]
            assert x["question"].shape == (3, 6) and y.shape == (*x["passage"].shape, 2) and weights.shape == x["passage"].shape
            real = weights.sum(axis=1) > 0  # the others only fill the batch
            np.testing.assert_array_equal(weights[real] > 0, x["passage"][real] > 0)
            for row, told in zip(x["passage"], y, strict=True):
                begins, ends = np.flatnonzero(told[:, 0]), np.flatnonzero(told[:, 1])
                met |= {"".join(own.characters[number - 2] for number in row[a : b + 1]) for a, b in zip(begins, ends, strict=True)}
                met.add(len(begins))
    assert met == {0, 1, 2, "北京", "北"}  # the end of the long passage, too
    again = LessonBatches(learn, own, 3, seed=5)
    again.begin(19)
    np.testing.assert_array_equal(again[0][0]["passage"], batches[0][0]["passage"])
