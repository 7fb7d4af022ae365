"""How good answers are: by characters, and as SogouQA, SQuAD and CMRC 2018 count. All scores are means, from 0 to 1.

Numbers of different rules are not comparable: SogouQA knows spellings that are also right, SQuAD compares bags of words, CMRC the longest
run of words that both have. Chinese "words" are single characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bert4k.answering.questions import Question
from bert4k.errors import DataError
from bert4k.reading import read_text
from bert4k.scores import bag_f1, character_f1, exact, f1, plain


def answer_scores(answers: Sequence[str], questions: Sequence[Question]) -> dict[str, float]:
    """Exact match and F1 of characters, means over all questions, from 0 to 1; "mean" is that of both, by which SogouQA ranks."""
    pairs = list(zip(answers, questions, strict=True))
    right = sum(exact(answer, question.answers) for answer, question in pairs) / len(pairs)
    shared = sum(character_f1(answer, question.answers) for answer, question in pairs) / len(pairs)
    return {"exact": right, "f1": shared, "mean": (right + shared) / 2}


def scores_of_kinds(answers: Sequence[str], questions: Sequence[Question]) -> dict[str, dict[str, float]]:
    """`answer_scores` of all questions ("all"), of those that have an answer ("answerable") and of the others ("unanswerable", for which
    no answer is right), each with how many there are ("questions"); a kind of which there is none is left out."""
    pairs = list(zip(answers, questions, strict=True))
    kinds = {
        "all": pairs,
        "answerable": [pair for pair in pairs if pair[1].answers],
        "unanswerable": [pair for pair in pairs if not pair[1].answers],
    }
    return {
        name: {"questions": len(own), **answer_scores([answer for answer, _ in own], [question for _, question in own])}
        for name, own in kinds.items()
        if own
    }


# SogouQA. ------------------------------------------------------------------------------------------------------------------------

# What the evaluation script of SogouQA takes for punctuation: not quite what Unicode does: 々 and ˉ are, ℃ and ㎡ are not.
_SOGOU_MARKS = (
    "`^~<=>|_-,;:!?/.'\"()[]{}@$*\\&#%+…‰※•—‖‘’“”№←↑→↓∴∨∵∶∩∈∑√∞≯≡≮≤≥≈≌⊥⊙⌒□◆◇◎●★☆♀♂¨°·§¤±"
    "、。〃々〈〉《》「」『』【】〓〔〕〖〗÷×′▲″△∠≠■ˇˉ￣￥＿！＄（），．：；？～﹑￠ \u3000\x7f"
)
_MARKS_TO_BLANKS = dict.fromkeys(map(ord, _SOGOU_MARKS), " ")
_HALF_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}  # it works on bytes, and knows no other capitals
_BLANKS = dict.fromkeys(map(ord, " \t\n\r\f\v"))


class Expanded(NamedTuple):
    """The right answer of a question of SogouQA, parts parted by blanks, and all that counts as right."""

    answer: str
    right: tuple[str, ...]


def read_expanded(path: Path) -> dict[str, Expanded]:
    """SogouQA's file of right answers, `id<TAB>answer<TAB>right|right|...` a line, .gz too, by id.

    Raises `DataError` with the line for what is not as expected, and for an id that stands twice."""
    found: dict[str, Expanded] = {}
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        cells = line.strip().split("\t")
        if len(cells) != 3:
            raise DataError(f"{path}, line {number}: found {len(cells)} columns in {line[:80]!r}; expected 3: id, answer, right|right.")
        if cells[0] in found:
            raise DataError(f"{path}, line {number}: the id {cells[0]!r} was there before. Remove one of the two.")
        found[cells[0]] = Expanded(cells[1], tuple(dict.fromkeys(cells[2].split("|"))))
    if not found:
        raise DataError(f"{path} holds no answer. Expected one a line, id<TAB>answer<TAB>right|right.")
    return found


def sogou_scores(answers: Mapping[str, str], gold: Mapping[str, Expanded]) -> dict[str, float]:
    """The scores of answers by id, "" for none, as the evaluation script of SogouQA has them: "exact", "f1" and "mean", which ranks.

    Right is what is among the right answers in half width, lower case and without its punctuation, or has the same parts as the answer in
    any order; F1 is that of the characters (a multiset), the best of all right answers. Raises `DataError` for an unknown id."""
    if unknown := [name for name in answers if name not in gold]:
        raise DataError(f"{len(unknown):,} of {len(answers):,} ids are in no line of the right answers, {unknown[0]!r} first.")
    if not answers:
        raise DataError('There is no answer to be scored. Give one, or "", for each id.')
    right = sum(_sogou_exact(answer, gold[name]) for name, answer in answers.items()) / len(answers)
    shared = sum(_sogou_f1(answer, gold[name].right) for name, answer in answers.items()) / len(answers)
    return {"exact": right, "f1": shared, "mean": (right + shared) / 2}


def _sogou_plain(text: str) -> str:
    return text.translate(_HALF_WIDTH).translate(_LOWER).translate(_MARKS_TO_BLANKS).translate(_BLANKS)


def _sogou_parts(text: str) -> set[str]:
    return {_sogou_plain(part) for part in text.translate(_MARKS_TO_BLANKS).translate(_LOWER).split(" ")}


def _sogou_exact(answer: str, gold: Expanded) -> bool:
    answer = answer.strip(" \t\n\r\f\v")
    known = {*gold.right, *map(_sogou_plain, gold.right)}
    return bool(answer) and (_sogou_plain(answer) in known or _sogou_parts(answer) == _sogou_parts(gold.answer))


def _sogou_f1(answer: str, right: Collection[str]) -> float:
    return max(bag_f1(_sogou_plain(answer), _sogou_plain(each)) for each in right)


# SQuAD and CMRC 2018. ------------------------------------------------------------------------------------------------------------

# What CMRC's script leaves out: less than all punctuation.
_CMRC_MARKS = dict.fromkeys(map(ord, "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』"))
# A Chinese character; a run of others without blanks, with marks inside numbers and words; any other mark.
_WORD = re.compile(r"[\u4e00-\u9fa5]|(?:(?![\u4e00-\u9fa5])\w)+(?:[.,'](?:(?![\u4e00-\u9fa5])\w)+)*|[^\s\w]")


def words_of(text: str) -> list[str]:
    """A text in lower case as words: Chinese characters singly, words and numbers whole (3.5, it's), marks singly."""
    return _WORD.findall(text.lower())


def squad_scores(answers: Sequence[str], questions: Sequence[Question]) -> dict[str, float]:
    """ "exact" and "f1" as SQuAD's (Rajpurkar et al. 2016, 1606.05250), with Chinese characters for words, as for DRCD and XQuAD: case and
    punctuation do not count, F1 is that of bags of words, the best right answer counts; "" is right where there is none (SQuAD 2)."""

    def shared(answer: str, gold: str) -> float:
        return bag_f1(*([word for word in words_of(text) if plain(word)] for text in (answer, gold)))

    return _means(answers, questions, lambda answer, gold: plain(answer) == plain(gold), shared)


def cmrc_scores(answers: Sequence[str], questions: Sequence[Question]) -> dict[str, float]:
    """ "exact" and "f1" as CMRC 2018 (Cui et al. 2019, 1810.07366) counts them: some punctuation does not count, F1 is that of the longest
    run of words in both, and not of all that they share. Its script cuts English with NLTK, which this does but nearly."""

    def cleaned(text: str) -> str:
        return text.lower().strip().translate(_CMRC_MARKS)

    def shared(answer: str, gold: str) -> float:
        own, other = (words_of(cleaned(text)) for text in (answer, gold))
        return f1(_longest_run(own, other), len(own), len(other)).f1

    return _means(answers, questions, lambda answer, gold: cleaned(answer) == cleaned(gold), shared)


def _means(
    answers: Sequence[str], questions: Sequence[Question], same: Callable[[str, str], bool], shared: Callable[[str, str], float]
) -> dict[str, float]:
    """The means of what the best right answer gives. Where there is none, "" is."""
    pairs = [(answer, question.answers or ("",)) for answer, question in zip(answers, questions, strict=True)]
    if not pairs:
        raise DataError("There is no question to be scored.")
    right = sum(any(same(answer, each) for each in gold) for answer, gold in pairs)
    best = sum(max(float(same(answer, each)) if not each else shared(answer, each) for each in gold) for answer, gold in pairs)
    return {"exact": right / len(pairs), "f1": best / len(pairs)}


def _longest_run(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common run of neighbours."""
    best, before = 0, [0] * (len(other) + 1)
    for word in one:
        now = [0, *(before[at] + 1 if word == against else 0 for at, against in enumerate(other))]
        best, before = max(best, *now), now
    return best
