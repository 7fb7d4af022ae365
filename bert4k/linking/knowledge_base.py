"""A knowledge base in one SQLite file: entities, which of them a name may mean, and where names stand in a text.

Every name and alias, `normalised`, is a row of the table `surfaces`, and together they are a trie (marisa-trie, a succinct one: 6 MB for
700,000 names, ready as soon as it is read) that lies in the same file. What is added and deleted later is kept beside the trie, in the same
transaction as the entities, until it is worth building a new one; so the file is whole at any moment, and whoever has it open sees it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bert4k.checkpoints.stored import replacing
from bert4k.errors import ConfigError, DataError
from bert4k.linking.entities import Entity, read_entities
from bert4k.linking.problems import Problems
from bert4k.linking.surfaces import digest, folded, normalised
from bert4k.progress import measured

if TYPE_CHECKING:
    from marisa_trie import Trie

__all__ = ["Entity", "KnowledgeBase", "Match", "folded", "normalised"]

APPLICATION = 0x62346B42  # "b4kB", SQLite's application_id: this file is a knowledge base of ours
FORMAT = 1
PATIENCE = 60  # seconds to wait for another process that writes
# Beyond this share of the trie's names, and this number, changes beside it cost more than a new one (1.4 s for 700,000 names).
WORTH_REBUILDING, LEAST_CHANGES = 0.05, 1000

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE entities (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, record BLOB NOT NULL);
CREATE TABLE surfaces (surface TEXT, number INTEGER, id TEXT, PRIMARY KEY (surface, number)) WITHOUT ROWID;
CREATE TABLE added (surface TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE gone (surface TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_HASHES = 2**256  # that of a knowledge base is the sum of those of its entities: it changes with each of them, whatever their order


class Match(NamedTuple):
    """A place of a raw text, `text[start:end] == surface`, that is called like an entity."""

    start: int
    end: int
    surface: str


class _Index(NamedTuple):
    """All names, for finding them: those of the trie but for the ones that are `gone`, and those `added` since."""

    number: int  # of this trie: which one it is
    trie: Trie
    added: Trie
    gone: frozenset[str]
    longest: int

    def ends(self, window: str) -> list[int]:
        """The lengths of the names with which a piece of folded text begins, shortest first."""
        found = [len(name) for name in self.trie.prefixes(window) if name not in self.gone]
        return sorted({*found, *map(len, self.added.prefixes(window))}) if self.added else found


class KnowledgeBase:
    """An open knowledge base. One object may serve many threads, one file many processes: what one of them changes, all see. While one
    changes it, the other threads wait; the other processes go on with what was there before, and wait only while it is written.

    Raises `DataError` for what is no file of a knowledge base, and `ConfigError` for one whose names were normalised by other rules.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        self._inherited: list[sqlite3.Connection] = []
        self._open()

    # Building. -------------------------------------------------------------------------------------------------------

    @classmethod
    def build(cls, source: str | Path, path: str | Path, problems: Problems | None = None) -> KnowledgeBase:
        """Make a knowledge base of a file as `entities` describes it. It is streamed: memory grows only with the names.

        `path` appears complete or not at all, and replaces a knowledge base that is there; who has that one open keeps it. Raises
        `DataError` with the line for what is wrong in the source, unless the `problems` are to be skipped.
        """
        source, problems = Path(source), problems or Problems()
        total = source.stat().st_size if source.is_file() else None
        with measured(total, f"Building {Path(path).name}", in_bytes=True) as advance:
            entities = ((f"{source}, line {line:,}", entity) for line, entity in read_entities(source, problems, advance))
            return cls._make(entities, Path(path), problems)

    @classmethod
    def of(cls, entities: Iterable[Entity], path: str | Path, problems: Problems | None = None) -> KnowledgeBase:
        """Make a knowledge base of entities, as `build` does of a file."""
        told = ((f"entity {number:,}", entity) for number, entity in enumerate(entities, 1))
        return cls._make(told, Path(path), problems or Problems())

    @classmethod
    def _make(cls, entities: Iterable[tuple[str, Entity]], path: Path, problems: Problems) -> KnowledgeBase:
        with _set_aside(path), replacing(path) as (temporary,):
            temporary.parent.mkdir(parents=True, exist_ok=True)
            with _told(path):
                connection = sqlite3.connect(temporary, isolation_level=None)
                try:
                    _fill(connection, entities, problems)
                finally:
                    connection.close()
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        return cls(path)

    # Reading. --------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return int(self._rows("SELECT COUNT(*) FROM entities")[0][0])

    def __contains__(self, identifier: object) -> bool:
        return isinstance(identifier, str) and bool(self._rows("SELECT 1 FROM entities WHERE id = ?", _storable(identifier)))

    def __repr__(self) -> str:
        return f"KnowledgeBase({str(self.path)!r})"

    def ids(self) -> Iterator[str]:
        """The ids of all entities, in the order in which they were added."""
        last = -1
        while rows := self._rows("SELECT number, id FROM entities WHERE number > ? ORDER BY number LIMIT 10000", last):
            yield from (identifier for _, identifier in rows)
            last = rows[-1][0]

    def entity(self, identifier: str) -> Entity:
        """The entity with an id. Raises `DataError` where there is none."""
        return self.entities([identifier])[0]

    def entities(self, identifiers: Sequence[str]) -> list[Entity]:
        """The entities with these ids, in their order. Raises `DataError` where one is missing."""
        found = self.known(identifiers)
        if missing := [each for each in identifiers if each not in found]:
            raise DataError(f"{self.path} has no entity with the id {missing[0]!r}. Add it, or use the knowledge base that the id is from.")
        return [found[each] for each in identifiers]

    def known(self, identifiers: Sequence[str]) -> dict[str, Entity]:
        """Those of the entities with these ids that are there, by id: one that was found a moment ago may have been deleted since."""
        found: dict[str, Entity] = {}
        for begin in range(0, len(identifiers), 500):
            some = [_storable(each) for each in identifiers[begin : begin + 500]]
            marks = ",".join("?" * len(some))
            rows = self._rows(f"SELECT id, record FROM entities WHERE id IN ({marks})", *some)
            found |= {identifier: _entity(identifier, record) for identifier, record in rows}
        return found

    def candidates(self, surface: str, limit: int | None = None) -> list[str]:
        """The ids of the entities with this name or alias, both `normalised`, in the order in which they were added; at most `limit`."""
        sql = "SELECT id FROM surfaces WHERE surface = ? ORDER BY number LIMIT ?"
        return [identifier for (identifier,) in self._rows(sql, normalised(surface), -1 if limit is None else limit)]

    def matches(self, text: str) -> list[Match]:
        """Every place of a raw text at which the name or alias of an entity stands, by start and then by end; they overlap and nest.

        A name neither begins nor ends inside a word of Latin letters or a number: there is no "art" in "party".
        """
        index, form = self._index_now(), folded(text)
        inside = _inside_words(form)
        return [
            Match(start, start + length, text[start : start + length])
            for start in range(len(form))
            if not inside[start]
            for length in index.ends(form[start : start + index.longest])
            if not inside[start + length]
        ]

    @property
    def fingerprint(self) -> str:
        """A hash of all entities, 64 hexadecimal digits: the same for the same entities in any order, and for no others."""
        return str(self._meta("fingerprint"))

    # Changing. -------------------------------------------------------------------------------------------------------

    def add(self, entities: Iterable[Entity]) -> None:
        """Add entities: all of them or, when anything fails, none. Raises `DataError` for an id that is there already."""
        with self._transaction() as connection:
            for entity in entities:
                self._insert(connection, entity)

    def update(self, entities: Iterable[Entity]) -> None:
        """Put entities in the place of those with the same ids: all or none. Raises `DataError` for an id that is not there."""
        with self._transaction() as connection:
            for entity in entities:
                self._insert(connection, entity, number=self._remove(connection, entity.id))

    def delete(self, identifiers: Iterable[str]) -> None:
        """Delete entities by their ids: all or none. Raises `DataError` for an id that is not there, and for a single text."""
        if isinstance(identifiers, str):  # of "12", entities 1 and 2 would be gone
            raise DataError(f"delete() takes a list of ids; got {identifiers!r}. Put a single one in a list.")
        with self._transaction() as connection:
            for identifier in identifiers:
                self._remove(connection, identifier)

    def _insert(self, connection: sqlite3.Connection, entity: Entity, number: int | None = None) -> None:
        record = _record(entity)
        cursor = connection.execute("INSERT OR IGNORE INTO entities VALUES (?, ?, ?)", (number, _storable(entity.id), record))
        if not cursor.rowcount:
            raise DataError(f"{self.path} has an entity with the id {entity.id!r} already. Use update, or give the new one another id.")
        for surface in _surfaces(entity):
            connection.execute("INSERT INTO surfaces VALUES (?, ?, ?)", (surface, cursor.lastrowid, entity.id))
            if surface in self._index.trie:
                connection.execute("DELETE FROM gone WHERE surface = ?", (surface,))
            else:
                connection.execute("INSERT OR IGNORE INTO added VALUES (?)", (surface,))
        _change_fingerprint(connection, _hash(entity.id, record))

    def _remove(self, connection: sqlite3.Connection, identifier: str) -> int:
        row = connection.execute("SELECT number, record FROM entities WHERE id = ?", (_storable(identifier),)).fetchone()
        if row is None:
            raise DataError(f"{self.path} has no entity with the id {identifier!r}. Use add for a new one.")
        number, record = row
        connection.execute("DELETE FROM entities WHERE number = ?", (number,))
        for surface in _surfaces(_entity(identifier, record)):
            connection.execute("DELETE FROM surfaces WHERE surface = ? AND number = ?", (surface, number))
            if connection.execute("SELECT 1 FROM surfaces WHERE surface = ? LIMIT 1", (surface,)).fetchone():
                continue
            if surface in self._index.trie:
                connection.execute("INSERT OR IGNORE INTO gone VALUES (?)", (surface,))
            else:
                connection.execute("DELETE FROM added WHERE surface = ?", (surface,))
        _change_fingerprint(connection, -_hash(identifier, record))
        return int(number)

    # The file. -------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if not self.path.is_file():
            raise DataError(f"There is no file {self.path}. Build the knowledge base first, or check the path.")
        self._process, self._identity, self._kept = os.getpid(), _identity(self.path), False
        self._connection = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            _check_kind(self._connection, self.path)
            if (rules := self._meta("rules")) != digest():
                raise ConfigError(
                    f"The names of {self.path} were normalised by other rules ({rules}) than those here ({digest()}): another version of"
                    " opencc or of Python. Build the knowledge base again from its source."
                )
            self._index = self._read_index(None)
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file; nothing works after that. Not needed at the end of a program."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> KnowledgeBase:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_connection") and self._process == os.getpid():
            self._connection.close()

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """The connection, for this thread alone. After a fork, which must not happen during a change, the child gets another: SQLite's do
        not survive one."""
        with self._lock, _told(self.path):
            if self._process != os.getpid():
                self._inherited.append(self._connection)  # kept open: closing it would end the locks of the process that it belongs to
                self._open()
            elif self._replaced() and not self._kept and not self._connection.in_transaction:
                self._keep()
            yield self._connection

    def _replaced(self) -> bool:
        """Whether another file has the name of the one that was opened."""
        return _identity(self.path) not in (self._identity, None)

    def _keep(self) -> None:
        """Go on with a copy of what was opened. SQLite knows a journal by its name alone: that of the file which stands here now would be
        rolled back into the one that did, and removed, and whoever is writing there would have nothing to fall back to."""
        copy = sqlite3.connect("", isolation_level=None, check_same_thread=False)  # a file of this connection's own
        with _set_aside(self.path) if os.access(self.path, os.W_OK) else nullcontext():  # no journal is there meanwhile
            self._connection.backup(copy)
        self._connection.close()
        self._connection, self._kept = copy, True

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        with self._connected() as connection:
            return connection.execute(sql, values).fetchall()

    def _meta(self, name: str) -> Any:
        return self._rows("SELECT value FROM meta WHERE name = ?", name)[0][0]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A change as a whole: what fails or is killed within leaves everything as it was."""
        with self._connected() as connection:
            if self._kept or not _begun(connection, self.path, self._identity):
                raise DataError(f"{self.path} was replaced since it was opened: what is changed here would be lost. Open it again.")
            try:
                self._index = self._read_index(self._index)
                yield connection
                changes = connection.execute("SELECT (SELECT COUNT(*) FROM added) + (SELECT COUNT(*) FROM gone)").fetchone()[0]
                if changes > max(LEAST_CHANGES, WORTH_REBUILDING * len(self._index.trie)):
                    _write_trie(connection)
                index = self._read_index(self._index)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk has ended it already
                    connection.execute("ROLLBACK")
                raise
            self._index = index

    def _index_now(self) -> _Index:
        """The names, as another process may have changed them."""
        with self._connected() as connection:
            if connection.execute("PRAGMA data_version").fetchone()[0] != self._version:
                self._index = self._read_index(self._index)
            return self._index

    def _read_index(self, before: _Index | None) -> _Index:
        """The names as they are now; the trie only if it is another than `before`."""
        import marisa_trie

        with self._connected() as connection:
            within = connection.in_transaction
            connection.execute("SAVEPOINT reading")
            try:
                version = connection.execute("PRAGMA data_version").fetchone()[0]
                number, longest = self._meta("trie_number"), self._meta("longest")
                if before and before.number == number:
                    trie = before.trie
                else:
                    content = self._meta("trie")
                    if hashlib.sha256(content).hexdigest() != self._meta("trie_sha256"):  # a broken one may crash the interpreter
                        raise DataError(f"The names in {self.path} are damaged. Build the knowledge base again from its source.")
                    trie = marisa_trie.Trie().frombytes(content)
                added = [surface for (surface,) in connection.execute("SELECT surface FROM added")]
                gone = frozenset(surface for (surface,) in connection.execute("SELECT surface FROM gone"))
            finally:
                connection.execute("RELEASE reading")
            if not within:
                self._version = version
            return _Index(number, trie, marisa_trie.Trie(added), gone, max([longest, *map(len, added)]))


def _inside_words(text: str) -> list[bool]:
    """Whether each place of a text, its end included, is inside a word of Latin letters or a number."""
    alike = ((a + b).isascii() and ((a + b).isalpha() or (a + b).isdigit()) for a, b in pairwise(text))
    return [False, *alike, False] if text else [False]


# What stands in the file. --------------------------------------------------------------------------------------------


def _fill(connection: sqlite3.Connection, entities: Iterable[tuple[str, Entity]], problems: Problems) -> None:
    """A new file's tables. Names are collected beside it and put in sorted: in the order of the source, that would take minutes."""
    # Nothing to fall back to while it is written: what is left of a failure is removed.
    connection.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536; BEGIN; {_TABLES}")
    connection.execute("CREATE TEMP TABLE found (surface TEXT, number INTEGER, id TEXT)")
    total = 0
    for where, entity in entities:
        record = _record(entity)
        cursor = connection.execute("INSERT OR IGNORE INTO entities VALUES (NULL, ?, ?)", (_storable(entity.id), record))
        if not cursor.rowcount:
            problems.found(
                "repeated ids", f"{where}: the id {entity.id!r} ({entity.name!r}) has occurred before. Give every entity its own."
            )
            continue
        connection.executemany(
            "INSERT INTO found VALUES (?, ?, ?)", [(surface, cursor.lastrowid, entity.id) for surface in _surfaces(entity)]
        )
        total += _hash(entity.id, record)
    connection.execute("INSERT INTO surfaces SELECT surface, number, id FROM found ORDER BY surface, number")
    connection.execute("DROP TABLE found")
    meta = {"rules": digest(), "fingerprint": f"{total % _HASHES:064x}", "trie_number": 0}
    connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
    _write_trie(connection)
    connection.execute(f"PRAGMA application_id={APPLICATION}")
    connection.execute(f"PRAGMA user_version={FORMAT}")
    connection.execute("COMMIT")


def _write_trie(connection: sqlite3.Connection) -> None:
    """A trie of all names; there is nothing beside it then."""
    try:
        import marisa_trie
    except ImportError as error:
        raise ConfigError(
            "The names of a knowledge base are found by marisa-trie, which is missing. Run: pip install 'bert4k[linking]'"
        ) from error
    names = (surface for (surface,) in connection.execute("SELECT DISTINCT surface FROM surfaces"))
    content = marisa_trie.Trie(names).tobytes()
    values = {"trie": content, "trie_sha256": hashlib.sha256(content).hexdigest()}
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())
    connection.execute("INSERT OR REPLACE INTO meta SELECT 'longest', COALESCE(MAX(LENGTH(surface)), 0) FROM surfaces")
    connection.execute("UPDATE meta SET value = value + 1 WHERE name = 'trie_number'")
    connection.execute("DELETE FROM added")
    connection.execute("DELETE FROM gone")


def _change_fingerprint(connection: sqlite3.Connection, amount: int) -> None:
    before = int(connection.execute("SELECT value FROM meta WHERE name = 'fingerprint'").fetchone()[0], 16)
    connection.execute("UPDATE meta SET value = ? WHERE name = 'fingerprint'", (f"{(before + amount) % _HASHES:064x}",))


def _surfaces(entity: Entity) -> list[str]:
    return sorted({normalised(each) for each in (entity.name, *entity.aliases)} - {""})


def _record(entity: Entity) -> bytes:
    values = [entity.name, entity.aliases, entity.description, entity.types, entity.facts]
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _entity(identifier: str, record: bytes) -> Entity:
    name, aliases, description, types, facts = json.loads(record.decode("utf-8", "surrogatepass"))
    return Entity(identifier, name, tuple(aliases), description, tuple(types), tuple((predicate, what) for predicate, what in facts))


def _hash(identifier: str, record: bytes) -> int:
    return int.from_bytes(hashlib.sha256(json.dumps(identifier).encode() + record).digest(), "big")


def _storable(identifier: str) -> str:
    """An id as SQLite takes it. Raises `DataError` for one with half of a surrogate pair."""
    try:
        identifier.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"The id {identifier!r} holds half of a surrogate pair. Expected Unicode text.") from error
    return identifier


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _check_kind(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `DataError` unless this is a knowledge base of this format."""
    try:
        application, form = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    except sqlite3.DatabaseError as error:
        raise DataError(f"{path} is not a knowledge base ({error}). Give a file that KnowledgeBase.build has made.") from error
    if application != APPLICATION or form != FORMAT:
        what = f"a knowledge base of format {form}" if application == APPLICATION else "another kind of database"
        raise DataError(f"{path} is {what}; expected a knowledge base of format {FORMAT}. Build it again from its source.")


@contextmanager
def _set_aside(path: Path) -> Iterator[None]:
    """Let nobody write to a knowledge base that is about to be replaced: a journal that was left beside it would belong to the new one.

    Raises `DataError` for a file that is something else."""
    if not path.exists():
        yield
        return
    with _told(path):
        while True:
            identity = _identity(path)
            connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
            try:
                _check_kind(connection, path)
                if _begun(connection, path, identity):  # those who read go on
                    yield
                    return
            finally:
                connection.close()


def _begun(connection: sqlite3.Connection, path: Path, identity: tuple[int, int] | None) -> bool:
    """Begin to write to a file, once nobody else does; or not, where another file has its name by then. Asked for again and again: SQLite,
    while it waits, would take the journal of that other file for one of this."""
    until = time.monotonic() + PATIENCE
    connection.execute("PRAGMA busy_timeout=0")
    try:
        while _identity(path) == identity:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(0.01)
                continue
            if _identity(path) == identity:
                return True
            connection.execute("ROLLBACK")
        return False
    finally:
        connection.execute(f"PRAGMA busy_timeout={round(1000 * PATIENCE)}")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What SQLite has against a file, as a `DataError`."""
    try:
        yield
    except sqlite3.Error as error:
        raise DataError(
            f"SQLite cannot work on {path}: {error}. Check that the disk has room, that the file may be written and that no other process"
            " keeps it locked; a damaged file is built again from its source."
        ) from error
