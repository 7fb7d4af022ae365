"""A knowledge base of CCKS2019's size: seconds and memory to build it, what it answers in a second, and linking without a network.

    python tests/bench/bench_linking.py                     # 400,000 made-up entities, a file of 380 MB; --world for one that is there

The world is that of `tests/linking_world.py`. The peak is the highest resident memory of the process that builds, imports included; how
fast names and entities are found is measured on texts of medium difficulty, on one thread. `counted` learns from the training texts.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bert4k.linking import AnnotationStatistics, DictionaryLinker, Entity, KnowledgeBase, linking_scores, read_texts

TESTS = Path(__file__).parent.parent


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """How long a call takes, and what it gives."""
    start = time.perf_counter()
    found = call()
    return time.perf_counter() - start, found


def measure(world: Path, place: Path) -> None:
    """Measure and print."""
    took, base = seconds(lambda: KnowledgeBase.build(world / "kb.jsonl", place))
    processor = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    sizes = [path.stat().st_size >> 20 for path in (world / "kb.jsonl", place)]
    print(f"build     {took:8.1f} s   of which the processor worked {processor:.1f} s; peak {peak} MB")
    print(f"          {len(base):,} entities, {sizes[0]} MB of JSON lines to {sizes[1]} MB", flush=True)
    took, base = seconds(lambda: KnowledgeBase(place))
    print(f"open      {1000 * took:8.1f} ms")
    texts = read_texts(world / "dev-0.50.jsonl")
    took, found = seconds(lambda: [base.matches(text.text) for text in texts])
    surfaces = [match.surface for row in found for match in row]
    characters = sum(len(text.text) for text in texts) / len(texts)
    print(f"matches   {len(texts) / took:8,.0f} texts/s of {characters:.0f} characters, {len(surfaces) / len(texts):.1f} names in each")
    took, ids = seconds(lambda: [base.candidates(surface) for surface in surfaces])
    print(f"candidates{len(surfaces) / took:8,.0f} names/s, {sum(map(len, ids)) / len(ids):.1f} ids for each, at most {max(map(len, ids))}")
    wanted = [identifier for row in ids for identifier in row[:5]][:20_000]
    print(f"entities  {len(wanted) / seconds(lambda: base.entities(wanted))[0]:8,.0f} a second")
    new = [Entity(f"new {number}", f"新来的{number}") for number in range(10_000)]
    print(
        f"add       {seconds(lambda: base.add(new[:1]))[0] * 1000:8.1f} ms for one, {seconds(lambda: base.add(new[1:]))[0]:.2f} s for 9,999"
    )
    print(f"delete    {seconds(lambda: base.delete(each.id for each in new))[0]:8.2f} s for 10,000", flush=True)
    took, train = seconds(lambda: read_texts(world / "train.jsonl", base))
    print(f"read      {took:8.1f} s   {len(train):,} annotated texts, ids checked")
    took, statistics = seconds(lambda: AnnotationStatistics.learn(train, base))
    print(f"count     {took:8.1f} s\n\n| difficulty | linker | mention P | mention R | F1 of links |\n|---|---|---:|---:|---:|", flush=True)
    for path in sorted(world.glob("dev-*.jsonl")):
        dev = read_texts(path, base)
        for name, learnt in (("all names", None), ("counted", statistics)):
            score = linking_scores(DictionaryLinker(base, learnt).link(dev), dev)
            parts = (score["mentions"].precision, score["mentions"].recall, score["links"].f1)
            print(f"| {path.stem[4:]} | {name} | {' | '.join(f'{100 * part:.1f}' for part in parts)} |", flush=True)


def main() -> None:
    """Make the world unless it is there, and measure."""
    parser = argparse.ArgumentParser(description="A knowledge base of 400,000 entities, and linking without a network.")
    parser.add_argument("--world", type=Path, help="folder that tests/linking_world.py has written (a new one)")
    parser.add_argument("--entities", type=int, default=400_000, help="entities of a new world (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        world = options.world or Path(folder)
        if options.world is None:
            sizes = ["--entities", str(options.entities), "--train", str(options.entities // 5), "--dev", str(options.entities // 40)]
            environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
            command = [sys.executable, str(TESTS / "linking_world.py"), "--out", folder, *sizes]
            print(f"writing the world took {seconds(lambda: subprocess.run(command, env=environment, check=True))[0]:.0f} s", flush=True)
        measure(world, Path(folder) / "knowledge.db")


if __name__ == "__main__":
    main()
