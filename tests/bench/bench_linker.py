"""Short texts against a knowledge base of CCKS2019's size: texts a second and memory of a linker with all its networks, part by part.

    python tests/linking_world.py --out world
    KERAS_BACKEND=torch python tests/bench/bench_linker.py --world world --run runs/bench

Mentions are found by half pointers, of many candidates a bi-encoder chooses the nearest, and a cross-encoder ranks these. What is measured
is speed: unless RUN is finished, it is trained on a few hundred texts, which takes the bi-encoder through all entities once; and since it
finds few mentions then, those that the texts have are ranked in place of those that were found. The peak is the highest resident memory of
the process that links (VmHWM), imports and all models included; processor seconds tell what the machine did for this process where others
work beside it.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bert4k.linking import KnowledgeBase, Linker, read_texts
from bert4k.linking.prompts import Asked

LEARNT = 400  # texts
MADE = ["--retrieval", "true", "--longest", "64", "--tuning.epochs", "1", "--tuning.dtype", "mixed_bfloat16"]


def seconds(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """How long a call takes, how long processors work on it, and what it gives."""
    wall, processor = time.perf_counter(), time.process_time()
    found = call()
    return time.perf_counter() - wall, time.process_time() - processor, found


def peak() -> int:
    """The highest resident memory so far, MiB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line for line in status.split("\n") if line.startswith("VmHWM")).split()[1]) >> 10


def trained(world: Path, run: Path, settings: list[str]) -> None:
    """Train the run on the first texts of the world, in a process of its own, unless it is finished."""
    if (run / "linker.json").exists():
        return
    base, few = world / "knowledge.db", run.with_name(f"{run.name}-texts")
    if not base.exists():
        KnowledgeBase.build(world / "kb.jsonl", base)
    few.mkdir(parents=True, exist_ok=True)
    for name, source, count in (("train", "train", LEARNT), ("dev", "dev-0.50", LEARNT // 8)):
        with (world / f"{source}.jsonl").open(encoding="utf-8") as lines:
            (few / f"{name}.jsonl").write_text("".join(line for line, _ in zip(lines, range(count), strict=False)), encoding="utf-8")
    files = ["--run", str(run), "--kb", str(base), "--train", str(few / "train.jsonl"), "--dev", str(few / "dev.jsonl")]
    subprocess.run([sys.executable, "-m", "bert4k", "train", "entity_linking", *files, *MADE, *settings], check=True)


def measure(run: Path, path: Path, count: int) -> None:
    """Measure and print."""
    from bert4k.linking.mentions import Span

    wall, _, linker = seconds(lambda: Linker.load(run))
    settings = json.loads((run / "settings.json").read_text(encoding="utf-8"))
    told = {name: settings[name] for name in ("longest", "longest_pair", "candidates", "head", "ranker")} | {
        "dtype": settings["tuning"]["dtype"]
    }
    print(f"{os.environ.get('KERAS_BACKEND')}, {told}\nload       {wall:6.1f} s   {peak()} MiB", flush=True)
    annotated = read_texts(path)
    places = {text.text: [Span(each.start, each.end, 1.0) for each in text.mentions] for text in annotated}
    texts, finder = [text.text for text in annotated], linker.finder

    def finds(texts: Sequence[str]) -> list[list[Span]]:
        finder(texts)
        return [places[text] for text in texts]

    linker.finder = finds
    linker.link(texts[count : count + 200])  # what is compiled or read once
    texts = texts[:count]

    def part(name: str, call: Callable[[], Any]) -> Any:
        wall, processor, found = seconds(call)
        print(f"{name:10} {wall:6.1f} s   {processor:6.1f} s of a processor", flush=True)
        return found

    spans = part("mentions", lambda: linker.finder(texts))
    asked = [Asked(text, each.start, each.end) for text, own in zip(texts, spans, strict=True) for each in own]
    entities = part("candidates", lambda: linker.candidates.entities(asked))
    part("ranking", lambda: linker.ranker(asked, entities))
    print(f"           {len(asked) / count:.2f} mentions a text, {sum(map(len, entities)) / count:.2f} pairs a text")
    wall, processor, _ = seconds(lambda: linker.link(texts))
    print(f"link       {count / wall:6.1f} texts/s; {count / processor:.1f} in a second of one processor; peak {peak()} MiB", flush=True)


def main() -> None:
    """Train unless that is done, and measure."""
    parser = argparse.ArgumentParser(description="Texts a second and memory of a linker.")
    parser.add_argument("--world", type=Path, required=True, help="folder that tests/linking_world.py has written")
    parser.add_argument("--run", type=Path, required=True, help="folder for the run, or of one that is finished")
    parser.add_argument("--texts", type=int, default=1000, help="texts that are linked (%(default)s)")
    options, settings = parser.parse_known_args()
    trained(options.world, options.run, settings)
    measure(options.run, options.world / "dev-0.50.jsonl", options.texts)


if __name__ == "__main__":
    main()
