"""The generated world is what it says: it follows from its seed, its annotations hold, its dial turns."""

import json
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

from linking_world import COMMON, MOST_HOMONYMS, World

from bert4k.linking import KnowledgeBase, read_texts

ROOT = Path(__file__).parent.parent.parent


def test_a_world_follows_from_its_seed() -> None:
    one, same, other = World(200), World(200), World(200, seed=1)
    assert list(map(one.entity, range(200))) == list(map(same.entity, range(200)))
    assert list(one.texts(50)) == list(same.texts(50))
    assert one.entity(3) != other.entity(3) and list(one.texts(5)) != list(one.texts(5, seed=1))


def test_homonyms() -> None:
    world = World(20_000)
    sizes = Counter(Counter(world.names).values())
    assert len(world.names) == len(world.kinds) == 20_000 and set(COMMON) <= set(world.names)
    assert 30 < max(sizes) <= MOST_HOMONYMS and sizes[1] > sizes[2] > sizes[4] > 0


def test_annotations_hold_and_the_dial_turns() -> None:
    world = World(1000)
    nil, called, evidence = {}, {}, {}
    for level in (0.0, 1.0):
        texts = list(world.texts(600, [level]))
        mentions = [mention for text in texts for mention in text.mentions]
        for text in texts:
            assert all(text.text[mention.start : mention.end] == mention.surface for mention in text.mentions)
        entities = {mention.id: world.entity(int(mention.id) - 10_000) for mention in mentions if mention.id}
        assert all(
            mention.surface in (entities[mention.id].name, *(a.strip("《》") for a in entities[mention.id].aliases))
            for mention in mentions
            if mention.id
        )
        nil[level] = sum(mention.id is None for mention in mentions) / len(mentions)
        called[level] = sum(mention.id is not None and mention.surface != entities[mention.id].name for mention in mentions) / len(mentions)
        told = [
            any(what in text.text for _, what in entities[text.mentions[0].id].facts)
            for text in texts
            if text.mentions and text.mentions[0].id
        ]
        evidence[level] = sum(told) / len(told)
    assert nil[0.0] < 0.1 < nil[1.0] < 0.35
    assert called[0.0] < 0.15 < called[1.0]
    assert evidence[1.0] + 0.3 < evidence[0.0]


def test_who_reads_the_facts_finds_it_harder_and_harder() -> None:
    """Given the mentions: of those with the name, the one whose facts stand in the text. What counts without reading is not on the dial."""
    world = World(2000)
    bearers = defaultdict(list)
    for index in range(2000):
        entity = world.entity(index)
        for name in {entity.name, *(each.strip("《》") for each in entity.aliases)}:
            bearers[name].append(entity)
    right: dict[float, float] = {}
    for level in (0.0, 0.5, 1.0):
        told = []
        for text in world.texts(500, [level], seed=4):
            for mention in text.mentions:
                if mention.id and len(bearers[mention.surface]) > 1:
                    best = max(
                        bearers[mention.surface], key=lambda each: sum(what in text.text for what in {what for _, what in each.facts})
                    )
                    told.append(best.id == mention.id)
        right[level] = sum(told) / len(told)
    assert right[0.0] > right[0.5] + 0.1 > right[1.0] + 0.15


def test_the_command(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tests" / "linking_world.py"), "--entities", "60", "--train", "20", "--dev", "15"]
    subprocess.run([*command, "--out", str(tmp_path)], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=True)
    base = KnowledgeBase.build(tmp_path / "kb.jsonl", tmp_path / "kb")
    files = {path.name: read_texts(path, base) for path in sorted(tmp_path.glob("*.jsonl")) if path.name != "kb.jsonl"}
    assert {name: len(texts) for name, texts in files.items()} == {"train.jsonl": 20} | {
        f"dev-{level:.2f}.jsonl": 3 for level in (0, 0.25, 0.5, 0.75, 1)
    }
    ids = [text.id for texts in files.values() for text in texts]
    assert len(ids) == len(set(ids)) and len(base) == 60
    assert json.loads((tmp_path / "kb.jsonl").read_text(encoding="utf-8").split("\n")[0])["subject_id"] == "10000"
