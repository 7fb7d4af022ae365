"""Make the questions on which the systems of reading comprehension are compared: passages that were searched for, most without the answer.

    python -m bert4k.tasks.shipped.questions --data ../shared/data --out runs/questions

Needs `tantivy` and `opencc` (`pip install 'bert4k[ask,pretrain]'`). The data sets tell for each question the passage that answers it; that
is not the task of a user, who has what a search engine found. So every question gets the passages of *other* questions that a search for it
finds first and in which none of its right answers stands; and a fifth of the questions lose their own passage: they have no answer.

    train_1.jsonl train_2.jsonl train_10.jsonl      each question with so many passages: its own, where it is answerable, and the nearest
    dev_1.jsonl dev_10.jsonl test_1.jsonl test_10.jsonl                                                                  of the others
    counts.json                                     what was read, left out and written; the sha256 of every input

A line is {"id", "source", "question", "passages": [{"passage", "answer": [...]}], "answers": [...]}, as `bert4k.answering` reads it. Same
data, same files. Which question is in which part was drawn once (`--draw`) and stands in question_ids/ beside this file: questions of one
passage, with the same words, or of one article of DRCD are together, and so no passage of one part is in another.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from bert4k.answering import Question, occurrences, read_counted
from bert4k.checkpoints.stored import replacing
from bert4k.errors import DataError
from bert4k.progress import track
from bert4k.retrieval import Engine, Piece
from bert4k.scores import plain
from bert4k.tasks.shipped.corpus import sha256

PARTS = {"train": (1, 2, 10), "dev": (1, 10), "test": (1, 10)}  # with how many passages each is written
IDS = Path(__file__).parent / "question_ids"

LONGEST_ANSWER = 20  # characters: what is longer is an explanation, not a fact
UNANSWERABLE = 0.2  # share of the questions that lose their own passage
HELD_OUT = {"dev": 0.1, "test": 0.1}  # shares of the groups


@dataclass(frozen=True)
class Source:
    """A data set: its files, and where a question searches for its passages: among those of a kind, which give nothing away by style."""

    files: tuple[str, ...]
    pool: str
    traditional: bool = False


SOURCES = {
    "webqa": Source(("mrc_webqa/me_test.ann.json.gz",), "web"),
    "cmrc2018": Source(("mrc_cmrc2018/cmrc2018_dev.json.gz",), "encyclopedia"),
    "drcd": Source(("mrc_drcd/DRCD_dev.json.gz", "mrc_drcd/DRCD_test.json.gz"), "encyclopedia", traditional=True),
    "xquad": Source(("mrc_xquad/xquad.zh.json.gz",), "encyclopedia"),
}


@dataclass(frozen=True)
class Asked:
    """A question of a source, with the one passage that answers it."""

    source: str
    question: Question

    @property
    def passage(self) -> str:
        """The text of its own passage."""
        return self.question.passages[0].text


def read(data: Path, counts: Counter[str]) -> list[Asked]:
    """All questions that have a short answer in their passage, by their sources; counts what is left out."""
    found: dict[str, Asked] = {}
    for name, source in SOURCES.items():
        for file in source.files:
            questions, told = read_counted(data / file, simplified=source.traditional)
            counts.update({f"{name}: {what}": count for what, count in told.items()})
            counts[f"{name}: questions"] += len(questions)
            for question in questions:
                [passage] = question.passages
                right = [answer for answer in question.answers if occurrences(passage.text, answer)]
                if not right:
                    counts[f"{name}: left out, no answer stands in the passage"] += 1
                elif min(map(len, right)) > LONGEST_ANSWER:
                    counts[f"{name}: left out, the shortest answer has more than {LONGEST_ANSWER} characters"] += 1
                elif question.id in found:
                    raise DataError(f"{data / file}: the id {question.id!r} is also one of {found[question.id].source}.")
                else:
                    found[question.id] = Asked(name, question)
    return list(found.values())


# The split. ----------------------------------------------------------------------------------------------------------------------


def groups(questions: Sequence[Asked]) -> list[list[Asked]]:
    """The questions that have to be in one part: they share a passage, all their words, or an article."""
    leader: dict[str, str] = {}

    def find(key: str) -> str:
        while leader.setdefault(key, key) != key:
            leader[key] = leader[leader[key]]
            key = leader[key]
        return key

    for asked in questions:
        article = asked.question.id.partition("-")[0] if asked.source == "drcd" else asked.question.id
        for key in (f"passage {plain(asked.passage)}", f"words {plain(asked.question.text)}", f"article {article}"):
            leader[find(key)] = find(f"id {asked.question.id}")
    found = defaultdict(list)
    for asked in questions:
        found[find(f"id {asked.question.id}")].append(asked)
    return list(found.values())


def draw(questions: Sequence[Asked]) -> dict[str, list[str]]:
    """The ids of each part: groups go by a hash of the first id in them, about the shares of `HELD_OUT` from each source."""
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for group in groups(questions):
        luck, part = zlib.crc32(min(asked.question.id for asked in group).encode()) % 10_000 / 10_000, "train"
        for name, share in HELD_OUT.items():
            if 0 <= luck < share:
                part = name
            luck -= share
        parts[part] += [asked.question.id for asked in group]
    order = {asked.question.id: number for number, asked in enumerate(questions)}
    return {part: sorted(ids, key=order.__getitem__) for part, ids in parts.items()}


def write_ids(folder: Path, parts: dict[str, list[str]]) -> None:
    """The id lists, one id a line."""
    for part, ids in parts.items():
        with replacing(folder / f"{part}.txt") as (temporary,):
            temporary.write_text("".join(f"{name}\n" for name in ids), encoding="utf-8")


def read_ids(folder: Path = IDS) -> dict[str, list[str]]:
    """The ids of each part. Raises `DataError` when a list is missing, or an id is in two of them."""
    parts, seen = {}, dict[str, str]()
    for part in PARTS:
        path = folder / f"{part}.txt"
        try:
            parts[part] = [line for line in path.read_text(encoding="utf-8").split("\n") if line]
        except OSError as error:
            raise DataError(f"Cannot read {path} ({error.strerror}). Get it from the repository.") from error
        for name in parts[part]:
            if seen.setdefault(name, part) != part:
                raise DataError(f"{path}: {name!r} is in {seen[name]}.txt, too. Get both from the repository.")
    return parts


# The passages. -------------------------------------------------------------------------------------------------------------------


def with_passages(questions: Sequence[Asked], most: int) -> Iterator[tuple[Asked, list[str]]]:
    """Each question with `most` passages of the other ones, nearest first, in which none of its answers stands. All are of one pool; when
    the search finds too few, others follow, drawn by the question's id."""
    passages = list(dict.fromkeys(asked.passage for asked in questions))
    engine = Engine()
    for number, text in enumerate(passages):
        engine.replace(str(number), [Piece(text, 0, 1)], known=False)
    engine.commit()
    for asked in track(questions, len(questions), "searching"):
        nearest = (found.text for found in engine.search(asked.question.text, 4 * most))
        drawn = Random(asked.question.id).sample(passages, min(len(passages), 20 * most))
        others = (
            text
            for text in dict.fromkeys((*nearest, *drawn))
            if text != asked.passage and not any(occurrences(text, answer) for answer in asked.question.answers)
        )
        yield asked, [text for text, _ in zip(others, range(most), strict=False)]
    engine.close()


def is_answerable(question: Question) -> bool:
    """Whether a question keeps its own passage; depends on its id alone."""
    return zlib.crc32(f"answerable {question.id}".encode()) % 10_000 >= UNANSWERABLE * 10_000


def row(asked: Asked, others: Sequence[str], count: int) -> dict[str, Any]:
    """A line of a file: a question with `count` passages, in an order drawn by its id."""
    question, keeps = asked.question, is_answerable(asked.question)
    right = [answer for answer in question.answers if keeps and occurrences(asked.passage, answer)]
    passages = [{"passage": asked.passage, "answer": right}] if keeps else []
    passages += [{"passage": text, "answer": []} for text in others[: count - len(passages)]]
    Random(question.id).shuffle(passages)
    return {"id": question.id, "source": asked.source, "question": question.text, "passages": passages, "answers": right}


def write(data: Path, out: Path) -> dict[str, Any]:
    """Read all sources, write all files; returns what counts.json holds."""
    counts: Counter[str] = Counter()
    by_id = {asked.question.id: asked for asked in read(data, counts)}
    parts = read_ids()
    if missing := [name for ids in parts.values() for name in ids if name not in by_id]:
        raise DataError(f"{len(missing):,} of the questions in {IDS} are not in {data}, {missing[0]!r} first. Fetch the data sets anew.")
    written: dict[str, Any] = {}
    for part, numbers in PARTS.items():
        rows: dict[int, list[dict[str, Any]]] = {number: [] for number in numbers}
        for pool in dict.fromkeys(source.pool for source in SOURCES.values()):
            own = [by_id[name] for name in parts[part] if SOURCES[by_id[name].source].pool == pool]
            for asked, others in with_passages(own, max(numbers)):
                for number in numbers:
                    rows[number].append(row(asked, others, number))
        for number, each in rows.items():
            name = f"{part}_{number}.jsonl"
            with replacing(out / name) as (temporary,):
                temporary.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in each), encoding="utf-8")
            written[name] = tally(each)
    inputs = {file: sha256(data / file) for source in SOURCES.values() for file in source.files}
    return {"read": dict(sorted(counts.items())), "written": written, "inputs": inputs}


def tally(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is in a file."""
    passages = [passage for each in rows for passage in each["passages"]]
    return {
        "questions": len(rows),
        "answerable": sum(bool(each["answers"]) for each in rows),
        "by_source": dict(Counter(each["source"] for each in rows)),
        "passages": len(passages),
        "with_an_answer": sum(bool(passage["answer"]) for passage in passages),
        "characters_a_passage": round(sum(len(passage["passage"]) for passage in passages) / max(len(passages), 1), 1),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the files, or draw the split."""
    parser = argparse.ArgumentParser(prog="python -m bert4k.tasks.shipped.questions", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with mrc_webqa/, mrc_cmrc2018/, mrc_drcd/ and mrc_xquad/")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--draw", action="store_true", help="write id lists of a split into the folder, and nothing else")
    flags = parser.parse_args(arguments)
    if flags.draw:
        write_ids(flags.out, draw(read(flags.data, Counter())))
        return
    found = write(flags.data, flags.out)
    with replacing(flags.out / "counts.json") as (temporary,):
        temporary.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, ensure_ascii=False, indent=1), file=sys.stdout)


if __name__ == "__main__":
    main()
