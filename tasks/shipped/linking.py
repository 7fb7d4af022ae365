"""Public data for entity linking as knowledge bases and annotated texts, and what is reached on it without any network.

    python -m bert4k.tasks.shipped.linking --data ../shared/data --out runs/linking --results linking.json

For every data set, OUT/NAME/ gets kb.jsonl, train.jsonl and dev.jsonl, as `bert4k train entity_linking` reads them:

    chip2019        a clinical term to the standard term that it stands for (the first of several); the whole text is the mention
    kgclue          a question to the entity that it asks about
    ccks2019_marks  real texts of CCKS2019 with gold mentions but without ids: what can be learnt is where mentions are
    ccks2019_found  the same dev.jsonl, and to learn from 35,000 other real texts with the mentions that another entry in the competition
                    found, by which it was itself trained on 80,000 gold texts: a pupil's notes, not truth
    ccks2019_silver real texts of CCKS2019 with the links of that other entry: agreement with it, not truth

None of them comes with its whole knowledge base. Those of the first two are made of all that the data names, dev files included: every
right answer is there, among fewer wrong ones than in life. That of the next two are the names that the other entry found in those 35,000
texts: were it made of what train.jsonl marks, a dictionary would know all mentions that are learnt from and half of those that are judged.
The last knows what train.jsonl names, and the 801 entities that are public. What is counted on annotations comes from train.jsonl alone.
Where the source has no dev file, every fifth text is kept.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bert4k.checkpoints.stored import replacing
from bert4k.errors import ConfigError, DataError
from bert4k.linking import (
    AnnotationStatistics,
    DictionaryLinker,
    Entity,
    KnowledgeBase,
    LinkedText,
    Mention,
    linking_scores,
    normalised,
    read_texts,
    recall_at,
    write_texts,
)
from bert4k.linking.entities import read_entities
from bert4k.reading import read_text
from bert4k.scores import ClassScore, f1
from bert4k.tasks.shipped import results

CHIP, KGCLUE, CCKS = "el_chip2019_clinical", "el_kgclue", "el_ccks2019"
KS = (1, 5, 10, 20, 50)
# 守望星光（韩玉玲、刘东考演唱歌曲）: a name, and what tells its bearers apart.
DISAMBIGUATED = re.compile(r"(.+?)（(.*)）")


@dataclass
class Prepared:
    """A data set as it is trained and judged on. right: all ids that are right of each text of dev, where they may be several; dropped:
    what could not be used, and why."""

    entities: list[Entity]
    train: list[LinkedText]
    dev: list[LinkedText]
    right: list[set[str]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


# The data sets. ------------------------------------------------------------------------------------------------------


def chip2019(data: Path) -> Prepared:
    """CHIP2019, clinical terms."""
    pairs = {split: [row.split("\t") for row in _lines(data / CHIP / f"{split}.tsv")[1:]] for split in ("train", "dev")}
    told = [standard for rows in pairs.values() for _, standard in rows]
    told += [json.loads(line)["entity"] for name in ("bm25_train.jsonl.gz", "bm25_dev.jsonl") for line in _lines(data / CHIP / name)]
    terms = sorted({term for each in told for term in each.split("##") if term})
    ids = {term: f"T{number}" for number, term in enumerate(terms, 1)}

    def texts(split: str) -> list[LinkedText]:
        return [
            LinkedText(f"{split}-{number}", term, (Mention(0, len(term), term, ids[standard.split("##")[0]]),))
            for number, (term, standard) in enumerate(pairs[split], 1)
        ]

    right = [{ids[each] for each in standard.split("##") if each} for _, standard in pairs["dev"]]
    return Prepared([Entity(key, term) for term, key in ids.items()], texts("train"), texts("dev"), right)


def kgclue(data: Path) -> Prepared:
    """KgCLUE, questions. What is asked of an entity stays out of the knowledge base: no other entity would have such a fact there."""
    prepared = Prepared([], [], [])
    rows = {
        name: [json.loads(line) for line in _lines(data / KGCLUE / name)] for name in ("train.jsonl.gz", "dev.jsonl", "test_public.jsonl")
    }
    titles = sorted({row["answer"].split("|||")[0].strip() for each in rows.values() for row in each})
    ids = {title: f"E{number}" for number, title in enumerate(titles, 1)}
    for title, key in ids.items():
        found = DISAMBIGUATED.fullmatch(title)
        prepared.entities.append(Entity(key, found[1], (title,), found[2]) if found else Entity(key, title))
    names = {entity.id: entity.name for entity in prepared.entities}
    for name, texts in (("train.jsonl.gz", prepared.train), ("dev.jsonl", prepared.dev)):
        for row in rows[name]:
            question, key = row["question"], ids[row["answer"].split("|||")[0].strip()]
            start = question.find(names[key])
            if start < 0:
                prepared.dropped[f"{name}: questions that do not have the entity's name"] += 1
                continue
            mention = Mention(start, start + len(names[key]), names[key], key)
            texts.append(LinkedText(f"{name.partition('.')[0]}-{row['id']}", question, (mention,)))
    return prepared


def ccks2019_marks(data: Path) -> Prepared:
    """CCKS2019, gold mentions as texts, of which the places are found one after the other."""
    prepared = Prepared(_names(_found(data, Counter())), [], [])
    ids = {normalised(entity.name): entity.id for entity in prepared.entities}
    for number, (text, _, gold) in enumerate(_marked(data)):
        mentions, reached = [], 0
        for surface in gold:
            start = text.find(surface, reached)
            if start < 0 or not surface.strip():
                prepared.dropped["mentions that are not in the text" if start < 0 else "blank mentions"] += 1
                continue
            reached = start + len(surface)
            mentions.append(Mention(start, reached, surface, ids.get(normalised(surface))))
        (prepared.train if _is_train(number) else prepared.dev).append(LinkedText(str(number), text, tuple(mentions)))
    return prepared


def ccks2019_found(data: Path) -> Prepared:
    """CCKS2019, what the system whose predictions are in the file of gold mentions finds in other texts."""
    dropped = Counter[str]()
    texts, marked = _found(data, dropped), ccks2019_marks(data)
    ids = {normalised(entity.name): entity.id for entity in marked.entities}
    train = [replace(text, mentions=tuple(replace(each, id=ids.get(normalised(each.surface))) for each in text.mentions)) for text in texts]
    return Prepared(marked.entities, train, marked.dev, dropped=dropped + marked.dropped)


def _found(data: Path, dropped: Counter[str]) -> list[LinkedText]:
    """The texts of the two files of predictions, mentions without ids, but for those that are among the gold ones."""
    gold = {text for text, _, _ in _marked(data)}
    texts = list(read_texts(data / CCKS / "develop_pred_v1.jsonl.gz"))
    rows = csv.DictReader(_lines(data / CCKS / "eval_mentions_pred.tsv.gz"), delimiter="\t")
    for row in rows:
        places = zip(ast.literal_eval(row["mention"]), ast.literal_eval(row["offset"]), strict=True)
        mentions = [Mention(start, start + len(surface), surface) for surface, start in places]
        kept = tuple(each for each in mentions if row["text"][each.start : each.end] == each.surface)
        dropped["mentions that are not where they should be"] += len(mentions) - len(kept)
        texts.append(LinkedText(f"eval-{row['text_id']}", row["text"], kept))
    texts = [replace(text, mentions=tuple(replace(each, id=None) for each in text.mentions)) for text in texts]
    return [text for text in texts if "".join(text.text.lower().split()) not in gold]


def _names(texts: Iterable[LinkedText]) -> list[Entity]:
    """An entity for every name that the texts mention."""
    names = dict.fromkeys(normalised(each.surface) for text in texts for each in text.mentions)
    return [Entity(f"M{number}", name) for number, name in enumerate((each for each in names if each), 1)]


def _is_train(number: int) -> bool:
    return number % 5 != 0


def _marked(data: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Text, predicted mentions and gold mentions of each row. The text is what the word pieces leave of it, without spaces."""
    for line in _lines(data / CCKS / "train_mentions_gold.tsv.gz")[1:]:
        tokens, predicted, gold = (ast.literal_eval(cell) for cell in line.split("\t")[1:])
        yield "".join(token.removeprefix("##") for token in tokens[1:-1]), predicted, gold


def ccks2019_silver(data: Path) -> Prepared:
    """CCKS2019, links of another system. What it links to has the names by which it is linked in train.jsonl, most frequent first."""
    texts = read_texts(data / CCKS / "develop_pred_v1.jsonl.gz")
    train, dev = ([text for number, text in enumerate(texts) if _is_train(number) == learnt] for learnt in (True, False))
    called: dict[str, Counter[str]] = {}
    for text in train:
        for mention in text.mentions:
            called.setdefault(str(mention.id), Counter())[mention.surface] += 1
    entities = {entity.id: entity for entity in _sample(data)}
    for key, counts in called.items():
        if key not in entities:
            name, *aliases = (surface for surface, _ in counts.most_common())
            entities[key] = Entity(key, name, tuple(aliases))
    return Prepared(list(entities.values()), train, dev)


def _sample(data: Path) -> list[Entity]:
    return [entity for _, entity in read_entities(data / CCKS / "kb_data_small.jsonl.gz")]


DATA_SETS: dict[str, Callable[[Path], Prepared]] = {
    each.__name__: each for each in (chip2019, kgclue, ccks2019_marks, ccks2019_found, ccks2019_silver)
}


def _lines(path: Path) -> list[str]:
    return read_text(path).rstrip("\n").split("\n")


def write(prepared: Prepared, folder: Path) -> None:
    """The three files of a data set."""
    with replacing(folder / "kb.jsonl") as (temporary,), temporary.open("w", encoding="utf-8", newline="\n") as file:
        for entity in prepared.entities:
            values = {"id": entity.id, "name": entity.name, "aliases": entity.aliases, "description": entity.description}
            file.write(json.dumps(values | {"type": entity.types, "facts": entity.facts}, ensure_ascii=False) + "\n")
    write_texts(folder / "train.jsonl", prepared.train)
    write_texts(folder / "dev.jsonl", prepared.dev)


# What needs no learning. ---------------------------------------------------------------------------------------------


def grams(text: str) -> list[str]:
    """The characters of a name and the pairs of neighbours among them."""
    form = normalised(text)
    return [*form, *(form[at : at + 2] for at in range(len(form) - 1))]


def bm25(names: Sequence[str], queries: Sequence[str], k: int) -> list[list[int]]:
    """Which k of the names are most like each query (their places), by BM25 of their `grams` (Robertson & Zaragoza 2009; k1 1.5, b 0.75).

    Raises `ConfigError` without bm25s."""
    try:
        import bm25s
    except ImportError as error:
        raise ConfigError("BM25 is counted by bm25s, which is not installed. Run: pip install bm25s") from error
    engine = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
    engine.index([grams(name) for name in names], show_progress=False)
    found, _ = engine.retrieve([grams(query) for query in queries], k=min(k, len(names)), show_progress=False)
    return [[int(place) for place in row] for row in found]


def _measure_ranking(base: KnowledgeBase, prepared: Prepared) -> dict[str, Any]:
    """The recall among the first k, the whole text being the mention, of the id that dev.jsonl has, and of any that is right."""
    queries = [text.text for text in prepared.dev]
    golds = {"": [{str(mention.id) for mention in text.mentions} for text in prepared.dev], "_of_any_right": prepared.right}
    names = [(entity.name, entity.id) for entity in prepared.entities]
    seen = [(text.text, str(mention.id)) for text in prepared.train for mention in text.mentions]
    ranked = {
        "exact_name": [base.candidates(query) for query in queries],
        "bm25": _ranked(names, queries, max(KS)),
        # What a training text means is one more name of its entity: the nearest neighbour of a mention may be such a one.
        "bm25_and_training_texts": _ranked(names + seen, queries, 20 * max(KS)),
    }
    return {
        name: {f"recall_at_{k}{which}": share for which, gold in golds.items() for k, share in recall_at(rows, gold, KS).items()}
        for name, rows in ranked.items()
    }


def _ranked(named: Sequence[tuple[str, str]], queries: Sequence[str], k: int) -> list[list[str]]:
    """The ids of the k (name, id) that are most like each query, each once."""
    return [list(dict.fromkeys(named[place][1] for place in row)) for row in bm25([name for name, _ in named], queries, k)]


def _measure_dictionary(base: KnowledgeBase, prepared: Prepared) -> dict[str, Any]:
    """Maximum matching, without and with what is counted on the training texts."""
    statistics = AnnotationStatistics.learn(prepared.train, base)
    linkers = {"all_names": DictionaryLinker(base), "counted": DictionaryLinker(base, statistics)}
    scores = {name: linking_scores(linker.link(prepared.dev), prepared.dev) for name, linker in linkers.items()}
    return {name: {of: score._asdict() for of, score in each.items() if score.support} for name, each in scores.items()}


def _measure_marks(base: KnowledgeBase, prepared: Prepared, data: Path) -> dict[str, Any]:
    """Besides places: mentions as texts, with how often each occurs, which is all that the file's own predictions tell."""
    rows = [row for number, row in enumerate(_marked(data)) if not _is_train(number)]
    gold = [row[2] for row in rows]
    linker = DictionaryLinker(base, AnnotationStatistics.learn(prepared.train, base))
    own = [[match.surface for match in linker.matches(text.text)] for text in prepared.dev]
    strings = {"counted": strings_score(own, gold), "predictions_of_the_file": strings_score([row[1] for row in rows], gold)}
    return _measure_dictionary(base, prepared) | {"as_strings": {name: score._asdict() for name, score in strings.items()}}


def strings_score(predicted: Iterable[Sequence[str]], gold: Iterable[Sequence[str]]) -> ClassScore:
    """Of mentions as strings, each as often as it occurs, in all texts together."""
    pairs = [(Counter(mine), Counter(right)) for mine, right in zip(predicted, gold, strict=True)]
    return f1(sum((a & b).total() for a, b in pairs), sum(a.total() for a, _ in pairs), sum(b.total() for _, b in pairs))


def measure(name: str, prepared: Prepared, folder: Path, data: Path) -> dict[str, Any]:
    """The baselines of a data set, on its dev file, and its sizes."""
    with KnowledgeBase.build(folder / "kb.jsonl", folder / "kb.db") as base:
        if name == "chip2019":
            numbers = _measure_ranking(base, prepared)
        elif name in ("ccks2019_marks", "ccks2019_found"):
            numbers = _measure_marks(base, prepared, data)
        else:
            numbers = _measure_dictionary(base, prepared)
        sizes = {"entities": len(base), "train": len(prepared.train), "dev": len(prepared.dev)}
    sizes["mentions_of_dev"] = sum(len(text.mentions) for text in prepared.dev)
    return {"sizes": sizes, "dropped": dict(prepared.dropped), "baselines": numbers}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare data set after data set; with --results, measure the baselines, too."""
    parser = argparse.ArgumentParser(prog="python -m bert4k.tasks.shipped.linking", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help=f"folder with {CHIP}, {KGCLUE} and {CCKS}")
    parser.add_argument("--out", type=Path, required=True, help="folder for the files, outside the repository")
    parser.add_argument("--results", type=Path, help="file for the numbers of the baselines (JSON); what is in it already is kept")
    parser.add_argument("--only", nargs="+", choices=DATA_SETS, default=list(DATA_SETS), help="data sets (all)")
    flags = parser.parse_args(arguments)
    about = {"what": "entity linking on public data"}
    for name in flags.only:
        try:
            prepared = DATA_SETS[name](flags.data)
        except (KeyError, IndexError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"The files of {name} in {flags.data} are not as expected ({error!r}). Take them as their SOURCE.md says."
            ) from error
        write(prepared, flags.out / name)
        if flags.results:
            numbers = results.rounded(measure(name, prepared, flags.out / name, flags.data), 4)
            results.keep(flags.results, about, name, numbers | {"made": results.provenance()})
            print(json.dumps({name: numbers}, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
