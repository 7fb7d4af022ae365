"""Files for `bert4k train entity_linking` from the public data sets, as far as they have gold annotations; each can show another thing.

    python tests/bench/linking_sets.py ccks2019 /tmp/ccks      # 10,000 texts with gold mention strings: finding mentions, and nothing else
    python tests/bench/linking_sets.py chip2019 /tmp/chip      # 5,000 clinical terms with their standard terms: ranking, and nothing else
    bert4k train entity_linking --run runs/ccks --kb /tmp/ccks/kb.jsonl --train /tmp/ccks/train.jsonl --dev /tmp/ccks/dev.jsonl

ccks2019: its texts were tokenised and have no ids, so every mention string of the training part is an entity of its own, and what only dev
mentions is NIL; every fifth text is dev. What the dictionary knows is then what training mentions, so give --dictionary none. The other
system's mentions in the file are scored, too, on these dev texts. chip2019: the standard terms of train and dev are the knowledge base, the
file's own dev is dev; where there are several standard terms, the first.
"""

from __future__ import annotations

import argparse
import ast
import csv
import gzip
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DATA = Path(os.environ.get("BERT4K_DATA") or Path(__file__).parents[3] / "shared" / "data")


def write(folder: Path, name: str, rows: Iterable[dict[str, Any]]) -> None:
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def located(text: str, names: list[str]) -> list[tuple[int, int]]:
    """Where these strings stand, one after the other as far as they are in order; those that do not stand there are left out."""
    found, at = [], 0
    for name in names:
        start = text.find(name, at)
        start = text.find(name) if start < 0 else start
        if name and start >= 0:
            found.append((start, start + len(name)))
            at = start + len(name)
    return sorted(set(found))


def ccks2019(folder: Path) -> None:
    """Texts with gold mentions."""
    csv.field_size_limit(1 << 24)
    with gzip.open(DATA / "el_ccks2019" / "train_mentions_gold.tsv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = [[ast.literal_eval(cell) for cell in row[1:4]] for row in list(csv.reader(file, delimiter="\t"))[1:]]
    texts = []
    right = told = both = lost = 0
    for number, (tokens, other, gold) in enumerate(rows):
        text = "".join(token.removeprefix("##") if len(token) < 3 or token[0] != "[" else "□" for token in tokens[1:-1])
        places = located(text, gold)
        lost += len(gold) - len(places)
        texts.append((number, text, places))
        if number % 5 == 0:
            found = located(text, other)
            right, told, both = right + len(places), told + len(found), both + len(set(found) & set(places))
    names = sorted({text[start:end] for number, text, places in texts for start, end in places if number % 5})
    write(folder, "kb", ({"id": name, "name": name} for name in names))
    known = set(names)

    def row(number: int, text: str, places: list[tuple[int, int]]) -> dict[str, Any]:
        links = [{"start": a, "end": b, "id": text[a:b] if text[a:b] in known else None} for a, b in places]
        return {"id": str(number), "text": text, "mentions": links}

    for part in ("train", "dev"):
        write(folder, part, (row(*each) for each in texts if (each[0] % 5 == 0) == (part == "dev") and each[1].strip()))
    print(f"{lost} gold mentions do not stand in their text; on dev, the other system's P {both / told:.4f} R {both / right:.4f}")


def chip2019(folder: Path) -> None:
    """Terms as texts that are one mention."""
    terms: dict[str, str] = {}
    for part in ("train", "dev"):
        lines = (DATA / "el_chip2019_clinical" / f"{part}.tsv").read_text(encoding="utf-8").split("\n")[1:]
        pairs = [line.split("\t") for line in lines if line.count("\t") == 1]
        rows = []
        for number, (term, standard) in enumerate(pairs):
            for each in standard.split("##"):
                terms.setdefault(each.strip(), str(len(terms)))
            mention = {"start": 0, "end": len(term), "id": terms[standard.split("##")[0].strip()]}
            rows.append({"id": f"{part}{number}", "text": term, "mentions": [mention]})
        write(folder, part, rows)
    write(folder, "kb", ({"id": id, "name": term} for term, id in terms.items() if term))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", choices=["ccks2019", "chip2019"])
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    {"ccks2019": ccks2019, "chip2019": chip2019}[options.data](options.folder)
