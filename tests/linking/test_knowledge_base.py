"""Knowledge bases: what is found in them, what changes them, and what happens to them."""

import gzip
import json
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from linking_world import World, competition_entity

from bert4k.errors import ConfigError, DataError
from bert4k.linking import Entity, KnowledgeBase, Match, Problems, folded, knowledge_base, normalised

ROOT = Path(__file__).parent.parent.parent
FRUIT = Entity("1", "苹果", ("蘋果", "Apple"), "一种水果", ("Plant",), (("颜色", "红"),))
COMPANY = Entity("2", "苹果公司", ("apple", "《苹果》", " "), "科技公司", ("Organization",))
FILM = Entity("3", "《苹果》", (), "电影\ud800")


@pytest.fixture
def base(tmp_path: Path) -> Iterator[KnowledgeBase]:
    with KnowledgeBase.of([FRUIT, COMPANY, FILM], tmp_path / "kb") as opened:
        yield opened


def slow_matches(entities: list[Entity], text: str) -> list[Match]:
    """Every name tried at every place."""
    names = {normalised(each) for entity in entities for each in (entity.name, *entity.aliases)} - {""}
    form, found = folded(text), []
    for start in range(len(text)):
        for end in range(start + 1, len(text) + 1):
            cuts = False
            for at in (start, end):
                sides = form[at - 1 : at + 1] if 0 < at < len(form) else ""
                cuts |= len(sides) == 2 and sides.isascii() and (sides.isalpha() or sides.isdigit())
            if form[start:end] in names and not cuts:
                found.append(Match(start, end, text[start:end]))
    return found


# Reading. ------------------------------------------------------------------------------------------------------------


def test_entities_come_back(base: KnowledgeBase) -> None:
    assert len(base) == 3 and list(base.ids()) == ["1", "2", "3"]
    assert base.entity("1") == FRUIT and base.entities(["3", "1", "3"]) == [FILM, FRUIT, FILM]
    assert "2" in base and "4" not in base and 2 not in base
    with pytest.raises(DataError, match="no entity with the id '4'"):
        base.entities(["1", "4"])
    with pytest.raises(DataError, match="surrogate"):
        base.entity("\udc00")


@pytest.mark.parametrize(
    ("surface", "ids"),
    [
        ("苹果", ["1", "2", "3"]),
        ("《蘋果》", ["1", "2", "3"]),
        ("ＡＰＰＬＥ", ["1", "2"]),
        ("苹果公司", ["2"]),
        ("梨", []),
        ("", []),
        ("《》", []),
    ],
)
def test_candidates_are_those_with_that_name(base: KnowledgeBase, surface: str, ids: list[str]) -> None:
    assert base.candidates(surface) == ids
    assert base.candidates(surface, limit=1) == ids[:1]


def test_matches_have_places_of_the_raw_text(base: KnowledgeBase) -> None:
    text = "😀蘋果公司的《苹果》\ud800pineapple apples ＡＰＰＬＥ７ apple"
    found = base.matches(text)
    assert found == slow_matches([FRUIT, COMPANY, FILM], text)
    assert [match.surface for match in found] == ["蘋果", "蘋果公司", "苹果", "ＡＰＰＬＥ", "apple"]
    assert base.matches("") == [] and base.matches("。" * 10_000) == []
    assert len(base.matches("苹果" * 5_000)) == 5_000


def test_matches_in_a_world_are_those_of_a_slow_search(tmp_path: Path) -> None:
    world = World(300, seed=3)
    entities = [world.entity(index) for index in range(300)]
    base = KnowledgeBase.of(entities, tmp_path / "kb")
    for text in world.texts(60):
        assert base.matches(text.text) == slow_matches(entities, text.text)
        for mention in text.mentions:
            if mention.id is not None:
                assert mention.id in base.candidates(mention.surface)


def test_numbers_and_words_are_not_cut(tmp_path: Path) -> None:
    base = KnowledgeBase.of([Entity("1", "2012"), Entity("2", "art"), Entity("3", "iphone"), Entity("4", "a")], tmp_path / "kb")
    told = [match.surface for match in base.matches("20121221 2012年 party art展 iphone5s 维生素A片 ab")]
    assert told == ["2012", "art", "iphone", "A"]


# The fingerprint. ----------------------------------------------------------------------------------------------------


def test_the_fingerprint_is_that_of_the_content(base: KnowledgeBase, tmp_path: Path) -> None:
    before = base.fingerprint
    with KnowledgeBase.of([FILM, FRUIT, COMPANY], tmp_path / "other") as other:
        assert other.fingerprint == before and len(before) == 64
        other.update([Entity("3", "《苹果》", (), "电影")])
        assert other.fingerprint != before
    base.add([Entity("4", "梨")])
    changed = base.fingerprint
    base.delete(["4"])
    assert changed != before == base.fingerprint == KnowledgeBase(base.path).fingerprint


# Changing. -----------------------------------------------------------------------------------------------------------


def test_random_changes_leave_what_a_new_one_would_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Added, changed and deleted, with the trie built anew from time to time: the same as building once of what is left."""
    monkeypatch.setattr(knowledge_base, "WORTH_REBUILDING", 0.0)
    monkeypatch.setattr(knowledge_base, "LEAST_CHANGES", 40)
    world, rng = World(200, seed=1), random.Random(1)
    texts = [text.text for text in world.texts(25)]
    mine = {entity.id: entity for entity in map(world.entity, range(80))}
    base = KnowledgeBase.of(mine.values(), tmp_path / "kb")
    tries = set()
    for round_ in range(12):
        free = [world.entity(index) for index in range(200) if world.entity(index).id not in mine]
        new = rng.sample(free, 4)
        base.add(new)
        mine |= {entity.id: entity for entity in new}
        changed = [
            Entity(key, rng.choice([mine[key].name, f"新{mine[key].name}"]), (rng.choice(free).name,))
            for key in rng.sample(sorted(mine), 3)
        ]
        base.update(changed)
        mine |= {entity.id: entity for entity in changed}
        gone = rng.sample(sorted(mine), 3)
        base.delete(gone)
        mine = {key: entity for key, entity in mine.items() if key not in gone}
        tries.add(base._index.number)
        if round_ % 4 == 3:
            fresh = KnowledgeBase.of(mine.values(), tmp_path / "fresh")
            for opened in (base, KnowledgeBase(base.path)):
                assert opened.fingerprint == fresh.fingerprint and set(opened.ids()) == set(mine) and len(opened) == len(mine)
                for text in texts:
                    assert opened.matches(text) == fresh.matches(text)
                for entity in mine.values():
                    assert set(opened.candidates(entity.name)) == set(fresh.candidates(entity.name))
    assert 2 < len(tries) < 11


def test_what_is_gone_is_found_no_more(base: KnowledgeBase) -> None:
    """Names that the trie has, and names that came later."""
    base.add([Entity("4", "雪梨"), Entity("5", "雪梨", ("苹果公司",))])
    base.delete(["2", "4"])
    assert [match.surface for match in base.matches("苹果公司和雪梨")] == ["苹果", "苹果公司", "雪梨"]
    base.delete(["5"])
    assert [match.surface for match in base.matches("苹果公司和雪梨")] == ["苹果"]
    base.add([COMPANY, Entity("4", "雪梨")])
    assert [match.surface for match in base.matches("苹果公司和雪梨")] == ["苹果", "苹果公司", "雪梨"]


def test_a_change_is_whole_or_not_at_all(base: KnowledgeBase) -> None:
    before, found = base.fingerprint, base.matches("梨和苹果公司")

    def broken() -> Iterator[Entity]:
        yield Entity("4", "梨")
        raise KeyError("interrupted")

    with pytest.raises(KeyError):
        base.add(broken())
    with pytest.raises(DataError, match="id '1' already"):
        base.add([Entity("4", "梨"), FRUIT])
    with pytest.raises(DataError, match=r"no entity with the id '9'\. Use add"):
        base.update([Entity("2", "梨"), Entity("9", "梨")])
    with pytest.raises(DataError, match="no entity with the id '9'"):
        base.delete(["2", "9"])
    assert base.fingerprint == before and list(base.ids()) == ["1", "2", "3"] and base.matches("梨和苹果公司") == found


def test_an_id_is_no_list_of_ids(base: KnowledgeBase) -> None:
    with pytest.raises(DataError, match="a list of ids"):
        base.delete("12")
    assert len(base) == 3


def test_a_full_disk(base: KnowledgeBase) -> None:
    """SQLite ends such a change by itself; what it had against it is what is told."""
    pages, before = base._connection.execute("PRAGMA page_count").fetchone()[0], base.fingerprint
    base._connection.execute(f"PRAGMA max_page_count={pages + 3}")
    with pytest.raises(DataError, match="disk is full"):
        base.add(Entity(f"新{number}", "梨", (), "长" * 3000) for number in range(100))
    assert base.fingerprint == before and len(base) == 3
    base.add([Entity("4", "梨")])
    assert base.candidates("梨") == ["4"]


# Several at a time. --------------------------------------------------------------------------------------------------


def test_another_process_sees_a_change(base: KnowledgeBase) -> None:
    assert base.matches("雪梨汤") == []
    code = f"from bert4k.linking import Entity, KnowledgeBase; KnowledgeBase({str(base.path)!r}).add([Entity('4', '雪梨')])"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert base.matches("雪梨汤") == [(0, 2, "雪梨")] and base.candidates("雪梨") == ["4"]
    base.add([Entity("5", "汤")])
    assert [match.surface for match in base.matches("雪梨汤")] == ["雪梨", "汤"]


FORK = """
import os, sys
from bert4k.linking import Entity, KnowledgeBase

base = KnowledgeBase(sys.argv[1])
inherited = base._connection
if not (child := os.fork()):
    base.add([Entity("乙", "名乙")])
    os._exit(base._connection is inherited)
base.add([Entity("甲", "名甲")])
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert base._connection is inherited and [match.surface for match in base.matches("名甲和名乙")] == ["名甲", "名乙"]
"""


def test_a_fork_may_go_on_with_it(base: KnowledgeBase) -> None:
    subprocess.run([sys.executable, "-c", FORK, str(base.path)], cwd=ROOT, check=True)
    assert len(base) == 5 and base.matches("名乙") == [(0, 2, "名乙")]


def test_threads_may_share_it(base: KnowledgeBase) -> None:
    faults: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(20):
                base.add([Entity(f"{number}-{turn}", f"词{number}{turn}x")])
                assert base.candidates("苹果") == ["1", "2", "3"]
                assert Match(0, 2, "苹果") in base.matches("苹果公司")
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults and len(base) == 83


WRITER = """
import sys, time
from bert4k.linking import Entity, KnowledgeBase

base = KnowledgeBase(sys.argv[1])
base._connection.execute("PRAGMA cache_size=1")  # so that what is not committed reaches the file

def many():
    for number in range(3000):
        yield Entity(f"new {number}", f"新名{number}", (), "长" * 300)
    print("half", flush=True)
    time.sleep(60)

base.delete(["1"])
base.add(many())
"""


def test_killed_while_it_changes(base: KnowledgeBase) -> None:
    """What was committed stays; of what was not, nothing is left, though half of it had been written."""
    with KnowledgeBase.of([COMPANY, FILM], base.path.with_name("expected")) as expected:
        before, size = expected.fingerprint, base.path.stat().st_size
    with subprocess.Popen([sys.executable, "-c", WRITER, str(base.path)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout and child.stdout.readline() == "half\n"
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert base.path.stat().st_size > 2 * size and base.path.with_name("kb-journal").stat().st_size, "nothing was written: the test is void"
    with KnowledgeBase(base.path) as opened:
        assert opened.fingerprint == before and list(opened.ids()) == ["2", "3"] and opened.matches("新名1") == []
        assert opened._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        opened.add([FRUIT])
    assert len(base) == 3 and base.candidates("苹果") == ["2", "3", "1"] or base.candidates("苹果") == ["1", "2", "3"]


def test_a_journal_that_was_left_does_not_spoil_a_new_one(base: KnowledgeBase) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(base.path)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout and child.stdout.readline() == "half\n"
        child.send_signal(signal.SIGKILL)
    assert base.path.with_name("kb-journal").exists()
    with KnowledgeBase.of([Entity("9", "梨")], base.path) as fresh:
        assert not base.path.with_name("kb-journal").exists()
        assert list(fresh.ids()) == ["9"] and fresh._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# Building. -----------------------------------------------------------------------------------------------------------


def test_built_from_a_file(tmp_path: Path) -> None:
    world = World(120)
    entities = [world.entity(index) for index in range(120)]
    with gzip.open(tmp_path / "kb.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(competition_entity(entity) + "\n" for entity in entities)
    built = KnowledgeBase.build(tmp_path / "kb.jsonl.gz", tmp_path / "folder" / "kb")
    assert built.fingerprint == KnowledgeBase.of(entities, tmp_path / "direct").fingerprint
    assert built.entities(list(built.ids())) == entities
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["kb"]


def test_an_id_that_is_repeated(tmp_path: Path) -> None:
    source = tmp_path / "kb.jsonl"
    source.write_text("".join(json.dumps({"id": "7", "name": name}) + "\n" for name in ("甲", "乙")), encoding="utf-8")
    with pytest.raises(DataError, match=r"kb.jsonl, line 2: the id '7' \('乙'\) has occurred before"):
        KnowledgeBase.build(source, tmp_path / "kb")
    assert [path.name for path in tmp_path.iterdir()] == ["kb.jsonl"], "something was left"
    problems = Problems("skip")
    built = KnowledgeBase.build(source, tmp_path / "kb", problems)
    assert built.entity("7").name == "甲" and built.candidates("乙") == [] and problems.counts == {"repeated ids": 1}


def test_a_failed_build_leaves_the_old_one(base: KnowledgeBase) -> None:
    def broken() -> Iterator[Entity]:
        yield FRUIT
        raise KeyError("interrupted")

    before = base.fingerprint
    with pytest.raises(KeyError):
        KnowledgeBase.of(broken(), base.path)
    assert KnowledgeBase(base.path).fingerprint == before
    assert [path.name for path in base.path.parent.iterdir()] == ["kb"]


def test_an_alias_of_thousands_and_an_empty_one(tmp_path: Path) -> None:
    many = (Entity(str(number), f"名字{number}", ("大家", "", " 《》 ")) for number in range(3000))
    base = KnowledgeBase.of(many, tmp_path / "kb")
    assert len(base.candidates("大家")) == 3000 and base.candidates("大家", limit=3) == ["0", "1", "2"]
    assert base.matches("大家 ") == [(0, 2, "大家")] and base.candidates("") == []


def test_an_empty_one(tmp_path: Path) -> None:
    base = KnowledgeBase.of([], tmp_path / "kb")
    assert len(base) == 0 and base.matches("苹果") == [] and list(base.ids()) == []
    base.add([FRUIT])
    assert base.matches("苹果") == [(0, 2, "苹果")]


# What is refused. ----------------------------------------------------------------------------------------------------


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        KnowledgeBase(tmp_path / "absent")
    (tmp_path / "text").write_text("苹果" * 1000, encoding="utf-8")
    sqlite3.connect(tmp_path / "other").executescript("CREATE TABLE t (x)").connection.close()
    for name, told in (("text", "not a knowledge base"), ("other", "another kind of database")):
        with pytest.raises(DataError, match=told):
            KnowledgeBase(tmp_path / name)
        with pytest.raises(DataError, match=told):
            KnowledgeBase.of([FRUIT], tmp_path / name)
    assert (tmp_path / "text").read_text(encoding="utf-8").startswith("苹果")


def test_a_damaged_one(base: KnowledgeBase) -> None:
    content = bytearray(base.path.read_bytes())
    content[4096 * 2 :] = random.Random(0).randbytes(len(content) - 4096 * 2)
    path = base.path.with_name("damaged")
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"built again|Build the knowledge base again"), KnowledgeBase(path) as opened:
        opened.entities(list(opened.ids()))


def test_other_rules_of_normalising(base: KnowledgeBase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knowledge_base, "digest", lambda: "other")
    with pytest.raises(ConfigError, match="Build the knowledge base again"):
        KnowledgeBase(base.path)


def test_one_that_was_replaced(base: KnowledgeBase) -> None:
    KnowledgeBase.of([FILM], base.path)
    assert len(base) == 3  # who reads it goes on with what it opened
    with pytest.raises(DataError, match="was replaced since it was opened"):
        base.add([Entity("4", "梨")])


def test_the_journal_of_one_that_replaced_it_is_left_alone(base: KnowledgeBase) -> None:
    """SQLite finds a journal by its name: that of the new file was rolled back into the old one, and then removed."""
    text, entities = "苹果公司和名10和新名7", [Entity(str(number), f"名{number}", (), "短" * 100) for number in range(500)]
    before, matches, found = base.fingerprint, base.matches(text), []  # type: str, list[Match], list[Match]
    with KnowledgeBase.of(entities, base.path) as fresh:
        after = fresh.fingerprint
    code = WRITER.replace('base.delete(["1"])\nbase.add', "base.update").replace("new {", "{").replace("3000", "500")
    with subprocess.Popen([sys.executable, "-c", code, str(base.path)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout and child.stdout.readline() == "half\n"
        assert base.path.with_name("kb-journal").stat().st_size
        reader = threading.Thread(target=lambda: found.extend(base.matches(text)))
        reader.start()
        reader.join(0.5)
        child.send_signal(signal.SIGKILL)
    reader.join()
    with KnowledgeBase(base.path) as opened:
        assert opened.fingerprint == after and opened.entities(list(opened.ids())) == entities
    assert found == matches and base.fingerprint == before and base.entity("1") == FRUIT
    with pytest.raises(DataError, match="was replaced since it was opened"):
        base.add([Entity("4", "梨")])


def test_one_that_is_being_replaced(base: KnowledgeBase, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read and opened while another one is built, which takes minutes; what would change it waits, and is told."""
    monkeypatch.setattr(knowledge_base, "PATIENCE", 0.2)
    reader, begun, goes_on, faults = KnowledgeBase(base.path), threading.Event(), threading.Event(), []  # type: ignore[var-annotated]

    def slowly() -> Iterator[Entity]:
        yield FILM
        begun.set()
        goes_on.wait()

    def change() -> None:
        try:
            base.add([Entity("4", "梨")])
        except DataError as fault:
            faults.append(str(fault))

    threads = [threading.Thread(target=work) for work in (lambda: KnowledgeBase.of(slowly(), base.path).close(), change)]
    threads[0].start()
    begun.wait()
    try:
        assert len(reader) == 3 and KnowledgeBase(base.path).candidates("苹果") == ["1", "2", "3"]
        threads[1].start()
        time.sleep(0.1)
    finally:
        goes_on.set()
    for thread in threads:
        thread.join()
    assert "was replaced since it was opened" in faults[0] and list(KnowledgeBase(base.path).ids()) == ["3"]


def test_who_waits_leaves_the_journal_of_the_new_one_alone(base: KnowledgeBase) -> None:
    """Who waits to change it while it is replaced, and another process changes the new one at once."""
    KnowledgeBase.of([FILM, FRUIT], base.path.with_name("new")).close()
    holder, told = sqlite3.connect(base.path, isolation_level=None), []  # type: ignore[var-annotated]
    holder.execute("BEGIN IMMEDIATE")

    def change() -> None:
        try:
            base.add([Entity("4", "梨")])
        except DataError as fault:
            told.append(str(fault))

    waiting = threading.Thread(target=change)
    waiting.start()
    time.sleep(0.3)
    base.path.with_name("new").rename(base.path)
    with subprocess.Popen([sys.executable, "-c", WRITER, str(base.path)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout and child.stdout.readline() == "half\n"
        holder.close()
        waiting.join()
        child.send_signal(signal.SIGKILL)
    assert "was replaced since it was opened" in told[0] and base.path.with_name("kb-journal").exists()
    with KnowledgeBase(base.path) as opened:
        assert list(opened.ids()) == ["3"] and opened._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_one_that_stays_locked(base: KnowledgeBase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knowledge_base, "PATIENCE", 0.1)
    other = KnowledgeBase(base.path)
    base._connection.execute("BEGIN IMMEDIATE")
    start = time.monotonic()
    with pytest.raises(DataError, match="locked"):
        other.add([Entity("4", "梨")])
    with pytest.raises(DataError, match="locked"):  # what is being written would be lost
        KnowledgeBase.of([FILM], base.path)
    assert time.monotonic() - start < 10 and other.candidates("苹果") == ["1", "2", "3"]
    base._connection.execute("ROLLBACK")
