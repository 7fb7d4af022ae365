"""`bert4k ask`: the answer, its evidence, and what is said when something is missing."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_runs import run

from bert4k import asking
from bert4k.answering import Evidence
from bert4k.commands import finding
from bert4k.errors import ConfigError, DataError
from bert4k.retrieval import Engine, Found, open_corpus

pytest.importorskip("tantivy", reason="passages are found by Tantivy (bert4k[ask])")

TEXT = "珠江是河。\n珠江全长2320公里。\x1b[31m\u202e水\n"


class Reader:
    """Answers with the first number of the passages."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, list[str]]] = []

    def answer(self, question: str, passages: Sequence[str]) -> Evidence:
        self.seen.append((question, list(passages)))
        for number, text in enumerate(passages):
            if "2320公里" in text:
                return Evidence("2320公里", 0.87654, number, text.index("2320"), text.index("2320") + 6)
        return Evidence("", 0.3)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "珠江.txt").write_text("\ufeff山是山。\n\n" * 20 + TEXT, encoding="utf-8")
    (tmp_path / "texts" / "山.txt").write_text("山有水。", encoding="utf-8")
    return tmp_path / "texts"


def test_answers_with_their_evidence(texts: Path) -> None:
    reader = Reader()
    told = list(asking.answered(open_corpus(texts), reader, ["珠江全长多少公里", "山有什么", "ＺＺ"], 1))
    assert [each["answer"] for each in told] == ["2320公里", "", ""] and [each["score"] for each in told] == [0.8765, 0.0, 0.0]
    first = told[0]
    whole = (texts / "珠江.txt").read_text(encoding="utf-8-sig")
    assert whole[first["start"] : first["end"]] == first["evidence"][first["evidence_start"] : first["evidence_end"]] == "2320公里"
    assert whole.split("\n")[first["line"] - 1].startswith("珠江全长") and first["file"] == "珠江.txt"
    assert [(each["file"], each["line"]) for each in first["passages"]] == [("珠江.txt", first["passages"][0]["line"])]
    assert [len(passages) for _, passages in reader.seen] == [1, 1], "where nothing was found, nothing is read"
    assert "file" not in told[1] and told[2]["passages"] == []
    with pytest.raises(DataError, match=r"Question 2 is empty"):
        list(asking.answered(open_corpus(texts), reader, ["山", " "], 1))


def test_an_answer_in_other_words_has_no_evidence(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reader = SimpleNamespace(answer=lambda question, passages: Evidence("很长", 0.5))
    [told] = asking.answered(open_corpus(texts), reader, ["珠江"], 5)
    assert told["answer"] == "很长" and "evidence" not in told
    asking.show(told)
    assert capsys.readouterr().out == "很长  0.50\n  in no passage as it stands\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_is_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = SimpleNamespace(search=lambda question, count: [Found("a\x1b.txt", TEXT, 0, 3, 1.0)])
    [told] = asking.answered(engine, Reader(), ["珠江"], 5)  # type: ignore[arg-type]
    asking.show(told)
    shown = "2320公里  0.88\n  a\ufffd.txt, line 4\n  珠江是河。 珠江全长【2320公里】。\ufffd[31m\ufffd水 \n"
    assert capsys.readouterr().out == shown, "nothing of a file commands the terminal"
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", Terminal())
    asking.show(told)
    assert "珠江全长\x1b[1;7m2320公里\x1b[0m。" in sys.stdout.getvalue()  # type: ignore[attr-defined]
    asking.show({"question": "谁", "answer": "", "score": 0.0, "passages": []})
    assert "no answer in 0 passages" in sys.stdout.getvalue()  # type: ignore[attr-defined]


def test_a_run_that_answers_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"runs/x is a run of ner\. Asking needs one of dgcnn_qa, generative_qa or mlm_qa"):
        asking.reader_of(SimpleNamespace(__name__="bert4k.tasks.ner"), Path("runs/x"))  # type: ignore[arg-type]


def test_the_command(texts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = []
    qa = SimpleNamespace(load=lambda path: loaded.append(path) or Reader())
    monkeypatch.setattr(finding, "task_of", lambda options: SimpleNamespace(__name__="bert4k.tasks.dgcnn_qa", QA=qa))
    shown = run(capsys, "ask", str(texts), "珠江全长多少公里", "--run", "runs/qa")
    assert shown.startswith("2320公里  0.88\n  珠江.txt, line ") and "【2320公里】" in shown and loaded == [Path("runs/qa")]
    monkeypatch.setattr("sys.stdin", io.StringIO("珠江全长多少公里\n山有什么\n"))
    rows = run(capsys, "ask", str(texts), "-", "--run", "runs/qa", "--json", "--passages", "1", "--index", str(texts.parent / "index"))
    assert [json.loads(row)["answer"] for row in rows.removesuffix("\n").split("\n")] == ["2320公里", ""]
    assert (texts.parent / "index" / "files.json").exists()
    assert "0 passages were asked for" in run(capsys, "ask", str(texts), "山", "--run", "runs/qa", "--passages", "0", code=2)
    assert "holds no file" in run(capsys, "ask", str(texts / "nowhere"), "山", "--run", "runs/qa", code=2)


def test_no_run(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is no run of `bert4k train`" in run(capsys, "ask", str(texts), "山", "--run", str(texts), code=2)
    assert not (texts / ".bert4k-index").exists(), "nothing was indexed in vain"
    assert Engine().search("山") == []
