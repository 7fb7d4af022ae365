"""The search engine: Tantivy, which ranks passages by BM25 and commits what changes atomically."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

from bert4k.errors import ConfigError, DataError
from bert4k.retrieval.terms import asked_terms, terms

Result = TypeVar("Result")

_MEMORY = 64_000_000  # bytes of what is not yet written
MOST_WORDS = 64
"""Of a question, so many words are looked for: of a whole page that was pasted, the first ones."""


class Piece(NamedTuple):
    """A part of a file: its text, where it starts in that of the file, and in which line, from 1."""

    text: str
    start: int
    line: int


class Found(NamedTuple):
    """A passage that was found: its file, text, start and line as in `Piece`, and its score by BM25."""

    file: str
    text: str
    start: int
    line: int
    score: float


class Engine:
    """An index of passages in a folder, or in memory: `replace` the passages of files, `commit`, `search`.

    Raises `ConfigError` when Tantivy is not installed, and `DataError` for a folder with a damaged index."""

    def __init__(self, folder: Path | None = None) -> None:
        self._tantivy, self._folder = engine_module(), folder
        build = self._tantivy.SchemaBuilder()
        build.add_text_field("terms", tokenizer_name="whitespace", index_option="freq")
        build.add_text_field("file", tokenizer_name="raw", index_option="basic", stored=True)
        build.add_bytes_field("text", stored=True)
        for name in ("start", "line"):
            build.add_unsigned_field(name, stored=True)
        self._schema = build.build()
        self._writer: Any = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._index = self._asked(lambda: self._tantivy.Index(self._schema, path=None if folder is None else str(folder)))

    def replace(self, file: str, pieces: Iterable[Piece], known: bool = True) -> None:
        """The passages of a file, in place of those that it had. known: it may have had some. The words of its name are theirs, too."""
        if known:
            self._writing().delete_documents_by_term("file", file)
        name = terms(Path(file).name.partition(".")[0])
        for piece in pieces:
            document = self._tantivy.Document()
            document.add_text("terms", " ".join((*name, *terms(piece.text))))
            document.add_text("file", file)
            document.add_bytes("text", piece.text.encode())
            document.add_unsigned("start", piece.start)
            document.add_unsigned("line", piece.line)
            self._writing().add_document(document)

    def files(self) -> set[str]:
        """The files that have passages."""
        everything = self._tantivy.Query.all_query()  # without it, those that were replaced are counted, too
        return {name for name, _ in self._asked(lambda: self._index.searcher().terms_with_prefix("file", "", filter_query=everything))}

    def commit(self) -> None:
        """From now on, all that was replaced is found, and nothing of it before: after a crash, it is as at the last commit."""
        if self._writer is not None:
            self._asked(self._writer.commit)
            self._index.reload()

    def close(self) -> None:
        """Let others write; what was not committed is gone."""
        if self._writer is not None:
            self._writer.rollback()
            self._writer.wait_merging_threads()
            self._writer = None

    def search(self, question: str, count: int = 10) -> list[Found]:
        """The `count` passages that go best with the words of a question, best first, those with the same text once. Fewer, or none, when
        no others share a word with it. Raises `DataError` for a count below 1."""
        if count < 1:
            raise DataError(f"{count} passages were asked for. Ask for 1 or more.")
        words = asked_terms(question)[:MOST_WORDS]
        return self._asked(lambda: self._best(words, count)) if words else []

    def _best(self, words: Sequence[str], count: int) -> list[Found]:
        query, should = self._tantivy.Query, self._tantivy.Occur.Should
        any_of = query.boolean_query([(should, query.term_query(self._schema, "terms", word, "freq")) for word in words])
        searcher, found, seen, step = self._index.searcher(), dict[str, Found](), 0, 2 * count
        while len(found) < count:
            hits = searcher.search(any_of, step, count=False, offset=seen).hits
            for score, address in hits:
                stored = searcher.doc(address)
                text = bytes(stored["text"][0]).decode()
                found.setdefault(text, Found(stored["file"][0], text, stored["start"][0], stored["line"][0], float(score)))
            seen += step
            if len(hits) < step:
                break
        return list(found.values())[:count]

    def _writing(self) -> Any:
        """The writer, of which there is one at a time."""
        if self._writer is None:
            try:
                # One thread, so that the same passages are the same index, and equal scores keep their order.
                self._writer = self._index.writer(heap_size=_MEMORY, num_threads=1)
            except ValueError as error:
                if "LockBusy" not in str(error):
                    raise DataError(f"Cannot write to the index {self._folder} ({error}). Choose another folder with --index.") from error
                raise DataError(f"Another process is writing the index {self._folder}. Wait for it, and ask again.") from error
        return self._writer

    def _asked(self, ask: Callable[[], Result]) -> Result:
        """What the engine answers, its complaints as ours."""
        try:
            return ask()
        except ValueError as error:
            raise DataError(f"The index {self._folder} cannot be used ({error}). Remove this folder; it will be made anew.") from error


def engine_module() -> ModuleType:
    """Tantivy. Raises `ConfigError` when it is not installed."""
    try:
        import tantivy
    except ImportError as error:
        raise ConfigError(
            "Passages are found by the search engine Tantivy, which is not installed. Run: pip install 'bert4k[ask]'"
        ) from error
    return tantivy
