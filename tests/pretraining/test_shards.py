"""A corpus in shards: every token as the tokenizer gives it, the same bytes however it was made, and nothing lost on the way."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bert4k.errors import DataError, Error, VocabularyError
from bert4k.pretraining import annotate, mapped, segmentation, shards, workers
from bert4k.pretraining.annotate import DOCUMENT, LINE, TARGET, WORD
from bert4k.pretraining.mapped import find_pairs, pack_lines
from bert4k.pretraining.shards import Shards, prepare
from bert4k.tokenizers import Tokenizer

ROOT = Path(__file__).parent.parent.parent

DOCUMENTS = [
    ["早上下了一阵雨，路面还没有干。", "我们等公共汽车，车上人不多。", "到图书馆时刚好九点！"],
    ["Keras和Python3都装好了。"],
    ["他说：“今天的天气预报不准。”", "\u3000\u3000后来果然没有下雨。", "e\u0301te\u0301 [MASK] 龘"],
    ["\u200b", "\u200b\u200b"],  # lines, yet without a token
    ["开始学习机器翻译。", "\u200b", "再学习文本摘要。"],
]
PAIRS = [("[翻译]今天天气很好。", "今日天朗气清。"), ("\u200b", "没有来源"), ("你好", "汝安"), ("只有来源", "\u200b"), ("机器翻译", "MT")]
CHARACTERS = sorted(
    {char for document in DOCUMENTS for char in "".join(document)} | {char for pair in PAIRS for char in "".join(pair)} - {"龘"}
)
VOCABULARY = list(
    dict.fromkeys(
        [
            *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[翻译]", "ker", "##as", "py", "##thon", "##3", "ete", "mt"),
            *(char for char in CHARACTERS if char != "龘" and char.strip() and char not in "\u200b\u0301" and not char.isupper()),
        ]
    )
)
TOKENIZER = Tokenizer(VOCABULARY)


def write_texts(path: Path, documents: Sequence[Sequence[str]]) -> Path:
    path.write_text("\n\n".join(map("\n".join, documents)) + "\n", encoding="utf-8", newline="\n")
    return path


def write_pairs(path: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    path.write_text("".join(f"{source}\t{target}\n" for source, target in pairs), encoding="utf-8", newline="\n")
    return path


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    return write_texts(tmp_path / "texts.txt", DOCUMENTS)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs.tsv", PAIRS)


def contents(folder: Path) -> dict[str, bytes]:
    """Everything that was prepared, without the indices."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(("stretches-", "pairs-0-", "pairs-1")))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def written(stretches: list[mapped.Stretch], tokenizer: Tokenizer = TOKENIZER) -> str:
    """Stretches as a text to read: | starts a word, / a line, and a dot ends a document."""
    shown = ""
    for part in stretches:
        for token, word, line in zip(part.ids, part.starts_word, part.starts_line, strict=True):
            shown += "/" * bool(line) + "|" * bool(word) + tokenizer.vocabulary[token].removeprefix("##")
        shown += " ." if part.ends else " "
    return shown


# What is stored. -----------------------------------------------------------------------------------------------------------------


def test_words_lines_and_documents(tmp_path: Path, texts: Path) -> None:
    made = prepare(tmp_path / "made", TOKENIZER, [texts], workers=0)
    assert written([made.read(row) for row in made.stretches(100)]) == (
        "/|早上|下|了|一阵雨|，|路面|还|没有|干|。/|我们|等|公共汽车|，|车上|人|不|多|。/|到|图书馆|时|刚好|九点|！ ."
        "/|keras|和|python3|都|装|好|了|。 ."
        "/|他|说|：|“|今天|的|天气预报|不准|。|”/|后来|果然|没有|下雨|。/|ete|[MASK]|[UNK] ."
        "/|开始|学习|机器翻译|。/|再|学习|文本|摘要|。 ."
    )
    assert made.counts == {
        "documents": 4,
        "lines": 9,
        "pairs": 0,
        "tokens": sum(len(TOKENIZER.tokenize(line)) for document in DOCUMENTS for line in document),
        "characters": sum(len(line) for document in DOCUMENTS if document != DOCUMENTS[3] for line in document),
        "unknown": 1,
        "empty": 1,
    }


def test_without_whole_words_only_pieces_go_on(tmp_path: Path, texts: Path) -> None:
    made = prepare(tmp_path / "made", TOKENIZER, [texts], whole_words=False, workers=0)
    [_, stretch, *_] = [made.read(row) for row in made.stretches(100)]
    assert written([stretch]) == "/|keras|和|python3|都|装|好|了|。 ."
    assert [array.dtype for array in stretch[:3]] == [np.int32, np.bool_, np.bool_]


def test_words_are_those_of_jieba() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import jieba
    jieba.setLogLevel("ERROR")
    for line in ("".join(document) for document in DOCUMENTS):
        places = [place for place, starts in enumerate(segmentation.word_starts(line)) if starts]
        cuts = set(accumulate(map(len, jieba.cut(line, HMM=False)), initial=0))
        # jieba keeps ASCII letters together as well; their tokens do that here.
        assert [place for place in places if not line[place].isascii()] == [
            place for place in sorted(cuts - {len(line)}) if not line[place].isascii()
        ]


def test_pairs(tmp_path: Path, pairs: Path) -> None:
    made = prepare(tmp_path / "made", TOKENIZER, pairs=[pairs], workers=0)
    rows = made.pair_index(100)
    found = [tuple("".join(TOKENIZER.vocabulary[token] for token in side) for side in made.read_pair(row)) for row in rows]
    assert found == [("[翻译]今天天气很好。", "今日天朗气清。"), ("你好", "汝安"), ("机器翻译", "mt")]
    assert {side.dtype for side in made.read_pair(rows[0])} == {np.dtype(np.int32)}
    assert (made.counts["pairs"], made.counts["empty"], made.counts["documents"], made.counts["lines"]) == (3, 2, 0, 0)
    assert made.counts["characters"] == sum(len(source + target) for source, target in (PAIRS[0], PAIRS[2], PAIRS[4]))
    assert len(made.pair_index(5)) == 2
    assert len(made.pair_index(3)) == 0
    assert len(made.stretches(5)) == 0


def test_files_are_plain_arrays(tmp_path: Path, texts: Path, pairs: Path) -> None:
    made = prepare(tmp_path / "made", TOKENIZER, [texts], [pairs], workers=0)
    assert sorted(path.name for path in made.folder.iterdir()) == [
        *("manifest.json", "pairs-00000.flags.npy", "pairs-00000.tokens.npy", "text-00000.flags.npy", "text-00000.tokens.npy", "tokenizer"),
    ]
    tokens, flags = (np.load(made.folder / f"pairs-00000.{kind}.npy", mmap_mode="r", allow_pickle=False) for kind in ("tokens", "flags"))
    assert (tokens.dtype, flags.dtype, tokens.shape) == (np.uint16, np.uint8, flags.shape)
    assert flags[:3].tolist() == [WORD | LINE | DOCUMENT, WORD, 0]
    assert np.count_nonzero(flags & TARGET) == np.count_nonzero(flags & DOCUMENT) == 3
    assert not set(tokens.tolist()) & {TOKENIZER.cls_id, TOKENIZER.sep_id, TOKENIZER.pad_id}
    assert [row["counts"]["tokens"] for row in made.manifest["shards"]] == [made.counts["tokens"] - len(tokens), len(tokens)]
    assert Tokenizer.from_folder(made.folder / "tokenizer").vocabulary == VOCABULARY


def test_a_large_vocabulary_takes_wider_numbers(tmp_path: Path, texts: Path) -> None:
    for size, dtype in ((2**16, np.uint16), (2**16 + 1, np.uint32)):
        vocabulary = [*VOCABULARY, *(f"x{index}" for index in range(size - len(VOCABULARY) - 1)), "雪"]
        path = write_texts(tmp_path / "snow.txt", [["雪"]])
        made = prepare(tmp_path / str(size), Tokenizer(vocabulary), [path], workers=0)
        assert np.load(made.folder / "text-00000.tokens.npy").dtype == dtype
        assert made.read(made.stretches(8)[0]).ids.tolist() == [size - 1]


def test_the_tokens_are_those_of_the_tokenizer_word_granularity_too(tmp_path: Path, texts: Path) -> None:
    tokenizer = Tokenizer([*VOCABULARY, "机器翻译", "学习", "没有"], words="jieba")
    made = prepare(tmp_path / "made", tokenizer, [texts], workers=1)
    ids = [token for row in made.stretches(1000) for token in made.read(row).ids]
    assert ids == [token for document in DOCUMENTS for line in document for token in map(tokenizer.token_to_id, tokenizer.tokenize(line))]
    assert "/|开始|学习|机器翻译|。" in written([made.read(row) for row in made.stretches(1000)], tokenizer)


LINES = st.text(st.sampled_from("今天天气预报图书馆机器翻译 aePpyker3,。\u200b\u0301Σ가\u2028"), min_size=1, max_size=12).map(
    lambda line: line + "。"
)


@given(st.lists(st.lists(LINES, min_size=1, max_size=5), min_size=1, max_size=8), st.integers(1, 30), st.integers(1, 40), st.booleans())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_batches_any_shards(monkeypatch: pytest.MonkeyPatch, documents: list[list[str]], batch: int, limit: int, pairs: bool) -> None:
    """However documents are put into batches, blocks and shards, each has the tokens and words that it has alone."""
    monkeypatch.setattr(shards.text, "BATCH", batch)
    monkeypatch.setattr(annotate, "_BLOCK", batch)
    if pairs:
        documents = [[document[0], document[-1]] for document in documents]
    alone = [annotate.annotate("\n".join(document), TOKENIZER, True, pairs) for document in documents]
    batches = [annotate.annotate(request.decode(), TOKENIZER, True, pairs) for request in shards.text.batches(documents)]
    batches = [annotate.Annotated.from_bytes(found.to_bytes()) for found in batches]
    cut = list(shards._cut(batches, limit))
    for name in annotate.Annotated._fields:
        together = np.concatenate([getattr(shard, name) for shard in cut])
        np.testing.assert_array_equal(together, np.concatenate([getattr(document, name) for document in alone]))
    ids = [TOKENIZER.token_to_id(token) for document in documents for line in document for token in TOKENIZER.tokenize(line)]
    assert np.concatenate([shard.ids for shard in cut]).tolist() == ids
    assert np.concatenate([shard.characters for shard in cut]).tolist() == [len("".join(document)) for document in documents]
    for shard, following in zip(cut, [*cut[1:], None], strict=True):
        assert len(shard.ids) <= limit or np.count_nonzero(shard.lengths) == 1
        if following is not None:
            first = following.lengths[following.lengths > 0][0]
            assert len(shard.ids) + first > limit, "a shard is filled before the next is begun"
            assert following.lengths[0] > 0, "and a document without a token fits into any"


# The index. ----------------------------------------------------------------------------------------------------------------------


def packed_plainly(lengths: list[list[int]], limit: int) -> list[list[int]]:
    """The rows of `pack_lines`, one line after another."""
    rows = []
    at = 0
    for document in lengths:
        pieces = [min(limit, length - cut) for length in document for cut in range(0, length, limit)]
        start = at
        for piece in pieces:
            if at + piece - start > limit:
                rows.append([start, at, 0])
                start = at
            at += piece
        rows.append([start, at, 1])
    return rows


@given(st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=9), min_size=1, max_size=9), st.integers(1, 15))
def test_stretches_are_packed_greedily(lengths: list[list[int]], limit: int) -> None:
    flags = [[LINE | DOCUMENT * (not line), *[WORD] * (length - 1)] for document in lengths for line, length in enumerate(document)]
    rows = pack_lines(np.concatenate(flags).astype(np.uint8), limit)
    assert rows.dtype == np.int64
    assert rows.tolist() == packed_plainly(lengths, limit)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1), st.integers(1, 12))
def test_pairs_that_fit(lengths: list[tuple[int, int]], limit: int) -> None:
    flags = [[DOCUMENT | LINE, *[0] * (source - 1), LINE | TARGET, *[0] * (target - 1)] for source, target in lengths]
    rows = find_pairs(np.concatenate(flags).astype(np.uint8), limit)
    begin = np.cumsum([0, *map(sum, lengths)])
    expected = [[at, at + source, at + source + target] for at, (source, target) in zip(begin[:-1], lengths, strict=True)]
    assert rows.tolist() == [row for row in expected if row[2] - row[0] <= limit]


def test_the_index_covers_every_shard_and_is_kept(tmp_path: Path, texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = prepare(tmp_path / "made", TOKENIZER, [texts], workers=0, shard_tokens=20)
    assert [row["name"] for row in made.manifest["shards"]] == ["text-00000", "text-00001", "text-00002", "text-00003"]
    rows = made.stretches(12)
    assert (rows.dtype, rows.shape[1], isinstance(rows, np.memmap)) == (np.int64, 4, True)
    assert sorted(set(rows[:, 0].tolist())) == [0, 1, 2, 3]
    whole = prepare(tmp_path / "whole", TOKENIZER, [texts], workers=0)
    assert written([made.read(row) for row in rows]) == written([whole.read(row) for row in whole.stretches(12)])
    assert sum(len(made.read(row).ids) for row in rows) == made.counts["tokens"]
    assert all(len(made.read(row).ids) <= 12 for row in rows)
    monkeypatch.setattr(mapped, "_write_rows", None)
    np.testing.assert_array_equal(Shards.open(made.folder, TOKENIZER).stretches(12), rows)
    with pytest.raises(DataError, match="limit is 0 tokens"):
        made.stretches(0)


def test_an_index_of_other_shards_is_not_used(tmp_path: Path, texts: Path) -> None:
    folder = tmp_path / "made"
    before = prepare(folder, TOKENIZER, [texts], workers=0).stretches(12)
    for path in folder.glob("*.json"):
        path.unlink()
    for path in folder.glob("text-*"):
        path.unlink()
    with pytest.raises(DataError, match="holds something else"):
        prepare(folder, TOKENIZER, [texts], workers=0)
    shutil.rmtree(folder / "tokenizer")
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    for path in kept:
        path.unlink()
    new = write_texts(tmp_path / "new.txt", [["今天"], ["天气"]])
    made = prepare(folder, TOKENIZER, [new], workers=0)
    for path, data in kept.items():
        path.write_bytes(data)
    assert len(made.stretches(12)) == 2 != len(before)


def test_many_readers(tmp_path: Path, texts: Path) -> None:
    """Threads, other processes, and more shards than may be open at once."""
    made = prepare(tmp_path / "made", TOKENIZER, [texts], workers=0, shard_tokens=1)
    made._map = mapped.lru_cache(2)(made._load)
    rows = made.stretches(9)
    alone = [made.read(row).ids.tolist() for row in rows]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(20):
            assert [part.ids.tolist() for part in threads.map(made.read, rows)] == alone
    copy = pickle.loads(pickle.dumps(made))
    assert [copy.read(row).ids.tolist() for row in rows] == alone
    assert "4 documents" in repr(copy)


# The same bytes. -----------------------------------------------------------------------------------------------------------------


def story(seed: int, documents: int) -> list[list[str]]:
    """Documents that nobody wrote, of words of the vocabulary."""
    draw = random.Random(seed)
    words = "今天 天气 预报 公共汽车 图书馆 机器翻译 文本 摘要 没有 开始 学习 我们 keras python3 ， 。".split()
    return [["".join(draw.choices(words, k=draw.randint(1, 20))) for _ in range(draw.randint(1, 6))] for _ in range(documents)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Enough text for a dozen batches and shards, and pairs."""
    folder = tmp_path_factory.mktemp("corpus")
    flat = [line for document in story(2, 4000) for line in document]
    return write_texts(folder / "texts.txt", story(1, 8000)), write_pairs(
        folder / "pairs.tsv", list(zip(flat[::2], flat[1::2], strict=False))
    )


OPTIONS = {"whole_words": False, "shard_tokens": 20_000}


@pytest.fixture(scope="module")
def whole(corpus: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an uninterrupted run in one process leaves."""
    texts, pairs = corpus
    made = prepare(tmp_path_factory.mktemp("whole") / "made", TOKENIZER, [texts], [pairs], **OPTIONS, workers=0)
    made.verify()
    assert len(made.manifest["shards"]) > 25
    return contents(made.folder)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_workers_do_not_change_a_byte(processes: int, corpus: tuple[Path, Path], whole: dict[str, bytes], tmp_path: Path) -> None:
    texts, pairs = corpus
    made = prepare(tmp_path / "made", TOKENIZER, [texts], [pairs], workers=processes, **OPTIONS)
    assert contents(made.folder) == whole


def preparing(folder: Path, corpus: tuple[Path, Path], processes: int) -> list[str]:
    """A program that prepares the corpus."""
    code = f"""
from pathlib import Path
from bert4k.pretraining.shards import prepare
from bert4k.tokenizers import Tokenizer
texts, pairs = {[str(path) for path in corpus]!r}
prepare({str(folder)!r}, Tokenizer({VOCABULARY!r}), [texts], [pairs], workers={processes}, **{OPTIONS!r})
"""
    return [sys.executable, "-c", code]


ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("processes", [0, 2])
def test_killed_at_any_moment(processes: int, corpus: tuple[Path, Path], whole: dict[str, bytes], tmp_path: Path) -> None:
    """SIGKILL, again and again, at once when a file appears or a little later; in the end nothing tells of it."""
    folder = tmp_path / "made"
    draw = random.Random(processes)
    kills, states = 0, set()
    while kills < (5 if processes else 12):
        process = subprocess.Popen(preparing(folder, corpus, processes), env=ENVIRONMENT)
        before = {path.name for path in folder.glob("*")}
        # Wait until it has done something, so that each run gets on whatever the load of the machine, then a little longer.
        while process.poll() is None and {path.name for path in folder.glob("*")} <= before | {".lock", "progress.json", "tokenizer"}:
            time.sleep(0.001)
        time.sleep(draw.choice([0, 0, 0.01, 0.03, 0.06]))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        states.add(frozenset(path.name for path in folder.glob("*.npy")))
    assert kills >= 3
    assert len(states) >= 3, "it was killed in different states"
    made = prepare(folder, TOKENIZER, *([path] for path in corpus), workers=0, **OPTIONS)
    made.verify()
    assert contents(folder) == whole


def test_a_shard_that_is_finished_is_not_made_again(corpus: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, int]] = []
    write = shards._write

    def writing(folder: Path, kind: str, number: int, *rest: Any) -> dict[str, Any]:
        if len(made) == 3:
            made.append(("stopped", number))
            raise KeyboardInterrupt
        made.append((kind, number))
        return write(folder, kind, number, *rest)

    monkeypatch.setattr(shards, "_write", writing)
    arguments = (tmp_path / "made", TOKENIZER, [corpus[0]], [corpus[1]])
    with pytest.raises(KeyboardInterrupt):
        prepare(*arguments, workers=1, **OPTIONS)
    with pytest.raises(DataError, match="is not finished"):
        Shards.open(tmp_path / "made", TOKENIZER)
    prepare(*arguments, workers=1, **OPTIONS)
    assert made[:5] == [("text", 0), ("text", 1), ("text", 2), ("stopped", 3), ("text", 3)]
    assert ("pairs", 0) in made
    assert len(made) == len(set(made))
    assert not list((tmp_path / "made").rglob("*.tmp"))


def test_a_finished_folder_is_only_opened(tmp_path: Path, texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare(tmp_path / "made", TOKENIZER, [texts], workers=0)
    monkeypatch.setattr(shards, "ordered", None)
    again = prepare(tmp_path / "made", TOKENIZER, [texts], workers=5)
    assert again.manifest == first.manifest
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = texts.rename(elsewhere / texts.name)
    assert prepare(tmp_path / "made", TOKENIZER, [moved]).counts == first.counts


# Workers. ------------------------------------------------------------------------------------------------------------------------


def shout(argument: str) -> Callable[[bytes], bytes]:
    """For the workers: answers in capitals, dies when it is told to, and chatters where it should not."""

    def answer(request: bytes) -> bytes:
        if request == b"die":
            os.kill(os.getpid(), signal.SIGKILL)
        if request == b"fail":
            raise SystemExit(3)
        if request == b"modules":
            return " ".join(sys.modules).encode()
        os.write(1, b"chatter")
        print("chatter", flush=True)
        return request.upper() + argument.encode()

    return answer


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets workers find this file, as a module of its own name."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setattr(shout, "__module__", "test_shards")


def test_replies_come_in_order(crew: None, capfd: pytest.CaptureFixture[str]) -> None:
    requests = [b"%d" % number * (number % 7 * 1000 + 1) for number in range(50)]
    for processes in (0, 1, 3):
        assert list(workers.ordered(shout, "!", iter(requests), processes)) == [request + b"!" for request in requests]
    assert list(workers.ordered(shout, "!", [], 2)) == []
    assert "chatter" in capfd.readouterr().err


def test_requests_are_taken_as_they_are_needed(crew: None) -> None:
    taken = []
    requests = (taken.append(number) or b"x" for number in range(1000))  # type: ignore[func-returns-value]
    replies = workers.ordered(shout, "", requests, 2)
    next(replies)
    assert len(taken) < 10
    replies.close()


def test_a_worker_that_dies(crew: None) -> None:
    with pytest.raises(Error, match="A worker process was ended by signal 9, perhaps for want of memory"):
        list(workers.ordered(shout, "", [b"a", b"die", b"b"], 2))
    with pytest.raises(Error, match="exit code 3"):
        list(workers.ordered(shout, "", [b"fail"], 1))


def test_workers_load_no_framework_and_no_main_module(tmp_path: Path, texts: Path) -> None:
    """Even when the program that prepares is itself full of them."""
    program = tmp_path / "program.py"
    program.write_text(
        f"""
import sys
from pathlib import Path
sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]
print("main module", flush=True)
from bert4k.pretraining import annotate, workers
import test_shards
[names] = workers.ordered(test_shards.shout, "", [b"modules"], 1)
print(names.decode())
""",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=True, cwd=tmp_path)
    [main, modules] = done.stdout.strip().split("\n")
    assert main == "main module"
    assert not {"keras", "tensorflow", "jax", "torch"} & {name.partition(".")[0] for name in modules.split()}


def test_no_worker_outlives_its_parent(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    process = subprocess.Popen(preparing(tmp_path / "made", corpus, 2), env=ENVIRONMENT, stderr=subprocess.PIPE)
    children: list[int] = []
    while len(children) < 2 and process.poll() is None:
        listed = Path(f"/proc/{process.pid}/task").glob("*/children")
        children = [int(child) for path in listed for child in path.read_text().split()]
        time.sleep(0.01)
    process.kill()
    _, told = process.communicate()  # ends when the last one that has this end of the pipe is gone
    assert len(children) == 2
    assert told == b""
    for _ in range(500):
        if not any(Path(f"/proc/{child}").exists() for child in children):
            break
        time.sleep(0.01)
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    """The largest amount of memory of a process that prepares 2 MB, then of one that prepares 16 MB."""
    code = """
import resource, sys
from bert4k.pretraining.shards import prepare
from bert4k.tokenizers import Tokenizer
vocabulary, texts, folder = sys.argv[1:]
made = prepare(folder, Tokenizer(vocabulary.split()), [texts], whole_words=False, workers=0, shard_tokens=2**18)
made.stretches(64)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, made.counts["tokens"])
"""
    peaks, sizes = [], []
    for times in (1, 8):
        path = write_texts(tmp_path / f"{times}.txt", story(3, 9000) * times)
        command = [sys.executable, "-c", code, " ".join(VOCABULARY), str(path), str(tmp_path / f"made-{times}")]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT)
        peak, tokens = map(int, done.stdout.split())
        peaks.append(peak)
        sizes.append(tokens)
    assert sizes[1] == 8 * sizes[0] > 8 * 2**18
    assert peaks[1] < peaks[0] + 8, f"{peaks} MiB"


# What is wrong. ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def made(tmp_path: Path, texts: Path, pairs: Path) -> Shards:
    return prepare(tmp_path / "made", TOKENIZER, [texts], [pairs], workers=0)


def refused(error: type[Error], action: Callable[[], object], *says: str) -> None:
    with pytest.raises(error) as found:
        action()
    assert "\n" not in str(found.value)
    for part in says:
        assert part in str(found.value)


def test_another_vocabulary(made: Shards, texts: Path, pairs: Path) -> None:
    other = Tokenizer([*VOCABULARY[:-2], *reversed(VOCABULARY[-2:])])
    hashes = [mapped.describe_tokenizer(tokenizer)["vocabulary_sha256"] for tokenizer in (TOKENIZER, other)]
    assert len(set(hashes)) == 2
    for action in (lambda: prepare(made.folder, other, [texts], [pairs]), lambda: Shards.open(made.folder, other)):
        refused(VocabularyError, action, str(made.folder), *hashes, "prepare another folder")


def test_other_settings_and_sources(made: Shards, texts: Path, pairs: Path, tmp_path: Path) -> None:
    folder = made.folder
    cased = Tokenizer(VOCABULARY, lowercase=False)
    refused(DataError, lambda: prepare(folder, cased, [texts], [pairs]), "lowercase = True; now it is False")
    refused(DataError, lambda: Shards.open(folder, cased), "lowercase = True; now it is False")
    refused(DataError, lambda: prepare(folder, TOKENIZER, [texts], [pairs], whole_words=False), "whole_words = 'jieba", "now it is False")
    refused(DataError, lambda: prepare(folder, TOKENIZER, [texts], [pairs], shard_tokens=9), "shard_tokens = 16777216; now it is 9")
    refused(DataError, lambda: prepare(folder, TOKENIZER, [texts]), "the pairs given: there were 1, now there are 0")
    refused(DataError, lambda: prepare(folder, TOKENIZER, [pairs], [pairs]), "the texts given: pairs.tsv is new or has changed")
    before = contents(folder)
    texts.write_text("今天的天气。\n", encoding="utf-8")
    refused(DataError, lambda: prepare(folder, TOKENIZER, [texts], [pairs]), "texts.txt is new or has changed", "prepare another folder")
    assert contents(folder) == before


def test_an_unfinished_folder_is_not_mixed(corpus: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is finished was made with one vocabulary; where nothing is finished, another may begin."""
    write = shards._write
    monkeypatch.setattr(shards, "_write", lambda *given: write(*given) if given[2] < 2 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare(tmp_path / "made", TOKENIZER, [corpus[0]], workers=0, **OPTIONS)
    other = Tokenizer([*VOCABULARY, "雪"])
    refused(VocabularyError, lambda: prepare(tmp_path / "made", other, [corpus[0]], workers=0, **OPTIONS))
    refused(DataError, lambda: prepare(tmp_path / "made", TOKENIZER, [corpus[1]], workers=0, **OPTIONS), "other files")

    monkeypatch.setattr(shards, "_write", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare(tmp_path / "new", TOKENIZER, [corpus[0]], workers=0)
    monkeypatch.undo()
    assert prepare(tmp_path / "new", other, [corpus[0]], workers=0).manifest["tokenizer"]["size"] == len(other)


def test_two_at_once(corpus: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "made"
    process = subprocess.Popen(preparing(folder, corpus, 1), env=ENVIRONMENT)
    while not (folder / ".lock").exists() or not (folder / ".lock").read_text():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGSTOP)
    try:
        arguments = (folder, TOKENIZER, [corpus[0]], [corpus[1]])
        refused(DataError, lambda: prepare(*arguments, **OPTIONS), "by another process", f"id {process.pid}", "Wait for it")
    finally:
        process.kill()
        process.wait()
    assert (folder / ".lock").exists(), "it had no time to remove it"
    (folder / ".lock").write_text(str(os.getpid()))  # whatever a dead process has left there, even the number of a living one
    prepare(*arguments, workers=0, **OPTIONS)
    assert not (folder / ".lock").exists()


def test_files_that_changed_under_it(made: Shards) -> None:
    shard = made.folder / "text-00000.tokens.npy"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    Shards.open(made.folder, TOKENIZER)
    refused(DataError, made.verify, "text-00000.tokens.npy is damaged", "prepare it again")
    shard.write_bytes(data[:-2])
    refused(DataError, lambda: Shards.open(made.folder, TOKENIZER), f"has {len(data) - 2:,} bytes", f"says {len(data):,} bytes")
    shard.unlink()
    refused(DataError, lambda: Shards.open(made.folder, TOKENIZER), "is missing")


def test_manifests_that_cannot_be_read(made: Shards, tmp_path: Path) -> None:
    path = made.folder / "manifest.json"
    values = json.loads(path.read_bytes())
    for content, says in (
        ("{", "is damaged"),
        ("[]", "is damaged"),
        (json.dumps({name: value for name, value in values.items() if name != "shards"}), "is damaged (KeyError('shards'))"),
        (json.dumps(values | {"version": 2}), "is of version 2; this bert4k reads version 1"),
    ):
        path.write_text(content)
        refused(DataError, lambda: Shards.open(made.folder, TOKENIZER), "manifest.json", says)
    refused(DataError, lambda: Shards.open(tmp_path, TOKENIZER), "There is no", "manifest.json")


def test_texts_and_folders_that_will_not_do(tmp_path: Path, texts: Path, pairs: Path) -> None:
    folder = tmp_path / "new"
    refused(DataError, lambda: prepare(folder, TOKENIZER), "no text files")
    refused(DataError, lambda: prepare(folder, TOKENIZER, [tmp_path / "nowhere"]), "nowhere", "No such file")
    refused(DataError, lambda: prepare(folder, TOKENIZER, [texts], workers=-1), "workers -1")
    refused(DataError, lambda: prepare(folder, TOKENIZER, [texts], shard_tokens=0), "shard_tokens is 0")
    assert not folder.exists()
    refused(DataError, lambda: prepare(texts, TOKENIZER, [texts]), "Cannot write to", "File exists")
    refused(DataError, lambda: prepare(tmp_path, TOKENIZER, [texts]), "holds something else")
    refused(DataError, lambda: prepare(folder, TOKENIZER, pairs=[texts], workers=1), "line 1: found no tab")
    refused(
        DataError, lambda: prepare(folder, TOKENIZER, [write_texts(tmp_path / "empty.txt", [["\u200b"]])], workers=0), "There is no text"
    )
    assert prepare(folder, TOKENIZER, [texts], workers=0).counts["documents"] == 4
