"""The data sets on which the recipes are shown: what each learns from and is judged on, by which recipe and how.

Files that were published as test files are not touched, but where a data set has nothing else, of which a part is then held out. What is
held out, and what is left out of a large file, follows from a checksum of each record: the same on every machine, and of no order.
"""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bert4k.tasks.shipped import corpus
from bert4k.tasks.shipped.tables import PUBLISHED

Records = list[str]  # lines, or the blocks of lines that belong together
Parts = tuple[Records, Records]  # to learn from, to be judged on


@dataclass(frozen=True)
class Row:
    """A data set, the recipe that learns it and how, and by which of the recipe's scores it is told.

    read: from the folder of all data sets to the records of both parts, as the recipe's files of the type `suffix` have them, below the
    line `head` where there is one. most: records of either part. published: a score for context, with its source."""

    recipe: str
    metric: str
    read: Callable[[Path], Parts]
    epochs: int
    settings: dict[str, Any] = field(default_factory=dict)
    suffix: str = ".txt"
    head: str = ""
    most: tuple[int | None, int | None] = (None, None)
    published: str = ""

    def limited(self, most: int | None) -> Row:
        """The same with at most so many records in either part."""
        return self if most is None else replace(self, most=(most, most))

    def prepare(self, data: Path, place: Path) -> tuple[tuple[Path, Path], tuple[int, int]]:
        """The two files, in the folder `place`, and how many records each has."""
        parts = [some(records, most) for records, most in zip(self.read(data), self.most, strict=True)]
        paths = place / f"train{self.suffix}", place / f"dev{self.suffix}"
        for path, records in zip(paths, parts, strict=True):
            path.write_text("".join(f"{record}\n" for record in [self.head] * bool(self.head) + records), encoding="utf-8")
        return paths, (len(parts[0]), len(parts[1]))


# Reading. ----------------------------------------------------------------------------------------------------------------------------


def lines_of(path: Path) -> Records:
    """The lines of a file, plain or gzipped, without one that is empty at its end."""
    with gzip.open(path, "rt", encoding="utf-8-sig") if path.suffix == ".gz" else path.open(encoding="utf-8-sig") as file:
        return file.read().replace("\r\n", "\n").removesuffix("\n").split("\n")


def blocks(lines: Sequence[str]) -> Records:
    """What stands between blank lines, with one blank line after each."""
    return [f"{block}\n" for block in "\n".join(lines).split("\n\n") if block.strip()]


def place_of(record: str) -> int:
    """The place of a record among all others, which has nothing to do with where it stands."""
    return zlib.crc32(record.encode())


def some(records: Records, most: int | None) -> Records:
    """At most so many of the records, always the same, in their order."""
    if most is None or len(records) <= most:
        return records
    kept = sorted(range(len(records)), key=lambda at: (place_of(records[at]), at))[:most]
    return [records[at] for at in sorted(kept)]


def held_out(records: Records, count: int) -> Parts:
    """The records without `count` of the different ones, and these."""
    out = set(some(list(dict.fromkeys(records)), count))
    return [each for each in records if each not in out], [each for each in dict.fromkeys(records) if each in out]


def two_files(train: str, dev: str, change: Callable[[str], str] = str) -> Callable[[Path], Parts]:
    """Two files of lines, each of them changed."""
    return lambda data: ([change(line) for line in lines_of(data / train)], [change(line) for line in lines_of(data / dev)])


def sentences(train: str, dev: str, change: Callable[[str], str] = str) -> Callable[[Path], Parts]:
    """Two files of tagged characters, a line each, with blank lines between sentences."""
    return lambda data: (blocks([change(line) for line in lines_of(data / train)]), blocks([change(line) for line in lines_of(data / dev)]))


def one_file(path: str, change: Callable[[str], str], count: int) -> Callable[[Path], Parts]:
    """A file of lines, each of them changed, of which so many are held out."""
    return lambda data: held_out([change(line) for line in lines_of(data / path)], count)


def cells(line: str, *places: int, between: str = "\t") -> str:
    """A table row of some of the cells of a line."""
    found = line.split(between)
    return "\t".join(found[place].replace("\t", " ").strip("\ufeff ") for place in places)


def without_place(line: str) -> str:
    """`科0<TAB>O`, a character with its place in the word, to `科<TAB>O`."""
    token, tab, tag = line.partition("\t")
    return f"{token[:1]}{tab}{tag}"


def reviews(name: str) -> Callable[[Path], Parts]:
    """Files of `label<TAB>text` below a header, as UER gives them."""

    def read(data: Path) -> Parts:
        train, dev = ([cells(line, 0, 1) for line in lines_of(data / name / f"{part}.tsv.gz")[1:]] for part in ("train", "dev"))
        return train, dev

    return read


def msra(data: Path) -> Parts:
    """The sentences of MSRA's train file, of which some are held out."""
    return held_out(blocks(lines_of(data / "ner_msra/train.txt.gz")), 2000)


def human_couplets(data: Path) -> Parts:
    """Couplets that people wrote, of which some are held out."""
    sides = [[line.replace(" ", "") for line in lines_of(data / f"s2s_couplet/train1000_{side}.txt")] for side in ("in", "out")]
    return held_out(["\t".join(pair) for pair in zip(*sides, strict=True)], 200)


def translations(data: Path) -> Parts:
    """Pairs of some chapters that the shipped checkpoint was allowed to learn, and of those that were kept from it."""
    found: Parts = ([], [])
    settings, dropped = corpus.Settings(), Counter[str]()
    share = settings.chapters_held_out
    for chapter in corpus.raw_chapters(data):
        out, taken = (corpus.is_held_out(name, share) for name in (chapter.name, f"a row of the results {chapter.name}"))
        if out or taken:
            pairs = [pair for pair in corpus.clean_chapter(chapter, dropped) if corpus.is_translation(pair, settings)]
            found[out].extend("\t".join(pair) for pair in pairs)
    known = set(found[0])
    return found[0], [pair for pair in found[1] if pair not in known]


def novel(data: Path) -> Parts:
    """The chapters of 红楼梦: those that the shipped checkpoint was allowed to learn, and the others."""
    chapters = corpus.read_texts(data / corpus.NOVEL, Counter(), title_lines=1)
    train, dev = (
        ["\n".join(each.lines) + "\n" for each in part] for part in corpus.split_novel(chapters, corpus.Settings().novel_held_out)
    )
    return train, dev


# The rows. ---------------------------------------------------------------------------------------------------------------------------

UER = "{} by UER's RoBERTa miniatures (layers/width; 14 GB of text, best of a grid; github.com/dbiir/UER-py)"
LATTICE = "{} on the test file by Lattice LSTM (Zhang & Yang 2018, arXiv:1805.02023)"

ROWS = {
    "weibo": Row(
        "ner",
        "f1",
        sentences("ner_weibo/weiboNER_2nd_conll.train.gz", "ner_weibo/weiboNER_2nd_conll.dev", without_place),
        8,
        published=LATTICE.format(58.79),
    ),
    "resume": Row("ner", "f1", sentences("ner_resume/train.char.bmes.gz", "ner_resume/dev.char.bmes"), 4, published=LATTICE.format(94.46)),
    "cluener": Row(
        "ner",
        "f1",
        two_files("ner_cluener/train.jsonl.gz", "ner_cluener/dev.jsonl"),
        3,
        suffix=".jsonl",
        most=(5000, None),
        published="79.34 by RoBERTa-wwm-ext-large with a CRF (github.com/hemingkx/CLUENER2020)",
    ),
    "msra": Row("ner", "f1", msra, 2, most=(5000, 1000), published=LATTICE.format(93.18)),
    "couplets": Row(
        "seq2seq", "dev_loss", human_couplets, 4, {"metric": "dev_loss", "prefix": "[COUPLET]", "longest_source": 40, "judged": 20}
    ),
    "lcsts": Row(
        "seq2seq",
        "rouge_l",
        one_file("s2s_lcsts/data_set.txt", lambda line: cells(line, 3, 2), 100),
        6,
        {"prefix": "[TITLE]", "judged": 50},
    ),
    "csl": Row(
        "seq2seq", "rouge_l", one_file("s2s_csl/ts_dev.tsv.gz", lambda line: cells(line, 1, 2), 100), 3, {"prefix": "[TITLE]", "judged": 50}
    ),
    "translation": Row("seq2seq", "bleu", translations, 2, {"metric": "bleu", "prefix": "[TRANSLATE]", "judged": 50}, most=(4000, 200)),
    "sts_b_zh": Row(
        "similarity",
        "spearman",
        two_files("sts_b_zh/cnsd-sts-train.txt.gz", "sts_b_zh/cnsd-sts-dev.txt", lambda line: cells(line, 1, 2, 3, between="||")),
        3,
        {"kind": "bi"},
    ),
    "atec": Row(
        "similarity", "auc", one_file("atec/atec_nlp_sim_train.tsv.gz", lambda line: cells(line, 1, 2, 3), 2000), 2, most=(10_000, None)
    ),
    "thucnews": Row(
        "classify",
        "accuracy",
        two_files("thucnews_headlines/train.txt.gz", "thucnews_headlines/dev.txt.gz"),
        2,
        {"longest": 48},
        ".tsv",
        "text\tlabel",
        most=(10_000, 2000),
    ),
    "chnsenticorp": Row(
        "classify", "accuracy", reviews("chnsenticorp"), 2, most=(4000, None), published=UER.format(PUBLISHED["chnsenticorp"])
    ),
    "book_review": Row(
        "classify", "accuracy", reviews("book_review"), 2, most=(5000, 2000), published=UER.format(PUBLISHED["book_review"])
    ),
    "novel": Row("language_model", "perplexity", novel, 2, most=(40, None)),
}
