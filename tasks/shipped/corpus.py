"""Make the text that the shipped checkpoint `wenbai` (文白: classical and vernacular Chinese) learns from, and what it is measured on.

    python -m bert4k.tasks.shipped.corpus --data ../shared/data --out runs/corpus

Needs `opencc` (`pip install bert4k[pretrain]`). The sources are those whose licence allows weights to be shipped; all are
turned into simplified characters. Same data, same files, byte for byte: nothing is drawn at random.

    train/         classical.txt modern.txt laws.txt tech.txt novel.txt poems.txt: a line is a sentence or paragraph,
                   blank lines stand between documents
                   translate.tsv title.tsv couplet.tsv: a line is `[MARKER]source<TAB>target`
    held_out/      the same nine files
    sources.json   counts of every file, what was dropped and why, the settings, the sha256 of every input

Whole documents are held out first, by a hash of their name or text; then what the two sides share is dropped from the held-out
side, line by line, or the whole document where too much is shared. The parallel corpus, nine tenths of all text, is streamed;
the rest is held in memory.
"""

import argparse
import gzip
import hashlib
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields
from itertools import starmap, zip_longest
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from bert4k.checkpoints.stored import replacing
from bert4k.chinese import simplified
from bert4k.errors import DataError
from bert4k.progress import track
from bert4k.tasks.shipped.cleaning import (
    ANY_HAN,
    CREDIT,
    ENCODING_GAP,
    GAP,
    NOT_VERSE,
    VERSE_GAP,
    clauses,
    clean,
    clean_article_line,
    clean_classical_line,
    clean_modern_line,
    clean_verse,
    is_statute,
    key,
    opening,
)


def setting(default: Any, text: str) -> Any:
    """A field of `Settings`: its default and the help of its flag."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Settings:
    """Everything besides the data that decides what is written. Each field is a flag of the command."""

    chapters_held_out: float = setting(0.01, "share of the parallel corpus' chapters that is kept from training")
    laws_held_out: float = setting(0.015, "share of the laws that is kept from training")
    articles_held_out: float = setting(0.02, "share of the technical articles that is kept from training")
    novel_held_out: int = setting(2, "chapters of the novel that are kept from training")
    poems_held_out: float = setting(0.01, "share of the poems that is kept from training")
    couplets_held_out: float = setting(0.01, "share of the couplets that is kept from training")
    shared_lines: float = setting(0.3, "a held-out law or article with a larger share of its long lines in training is dropped")
    long_line: int = setting(15, "characters from which on a line of a law or article counts as long")
    repeats: int = setting(2, "laws and articles that a line of eight or more characters is kept in; from then on it is boilerplate")
    shortest_pair: int = setting(4, "characters that either side of a translation has at least")
    longest_pair: int = setting(120, "characters that either side of a translation has at most")
    narrowest: float = setting(0.5, "least ratio of a translation's length to its source's")
    widest: float = setting(4.0, "greatest ratio of a translation's length to its source's")
    shortest_title: int = setting(4, "characters that a title has at least")
    longest_title: int = setting(40, "characters that a title has at most")
    shortest_body: int = setting(60, "characters that the text of an article needs for its title to be asked for")
    opening: int = setting(200, "characters of an article, in whole sentences, that its title is asked for with")
    couplet_variants: float = setting(0.3, "share of the couplets from which one of another length is made, too")


# What is read. ------------------------------------------------------------------------------------------------------

CLASSICAL, MODERN = "s2s_wenyan_baihua/wenyan.src.txt.gz", "s2s_wenyan_baihua/baihua.tgt.txt.gz"
LAWS, ARTICLES, NOVEL = "raw_laws/laws_zh.txt.gz", "raw_lctt_tech/lctt_zh.txt.gz", "raw_vernacular_novels/hongloumeng.txt.gz"
POEMS = tuple(f"raw_poetry/{name}.txt.gz" for name in ("quantangshi_trad", "songci_simp", "yuanqu_simp", "other_classics"))
COUPLETS = "s2s_couplet/poetry_parallel_lines.tsv.gz"
INPUTS = (CLASSICAL, MODERN, LAWS, ARTICLES, NOVEL, *POEMS, COUPLETS)

Pair = tuple[str, str]


class Document(NamedTuple):
    """A law, article, chapter or poem: the text that decides by its hash whether it is held out, and its lines."""

    name: str
    lines: list[str]


Parts = tuple[list[Document], list[Document]]  # training, held out


def raw_documents(path: Path) -> Iterator[list[str]]:
    """The documents of a gzipped file as lists of raw lines: what stands between blank lines. Streamed.

    Raises `DataError` when the file is missing or damaged.
    """
    lines: list[str] = []
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
            for line in file:
                line = line.rstrip("\r\n")
                if line:
                    lines.append(line)
                elif lines:
                    yield lines
                    lines = []
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(
            f"Cannot read {path} ({error}). Expected gzipped UTF-8 text, one of the {len(INPUTS)} files of the training text;"
            " say with --data which folder holds s2s_wenyan_baihua/, raw_laws/ and the others, and fetch the file anew if it is there."
        ) from error
    if lines:
        yield lines


def sha256(path: Path) -> str:
    """The checksum of a file. Raises `DataError` when it is missing."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"Cannot read {path} ({error.strerror}); say with --data which folder holds {path.parent.name}/.") from error


# The sources. -------------------------------------------------------------------------------------------------------

Drops = dict[str, Counter[str]]


class RawChapter(NamedTuple):
    """A chapter of the parallel corpus before cleaning, which takes longer than reading."""

    classical: list[str]
    modern: list[str]

    @property
    def name(self) -> str:
        """What the hash is made of."""
        return "".join(self.classical)


def raw_chapters(data: Path) -> Iterator[RawChapter]:
    """The parallel corpus, streamed. Raises `DataError` when its sides are not line by line parallel."""
    for chapter in starmap(RawChapter, zip_longest(raw_documents(data / CLASSICAL), raw_documents(data / MODERN), fillvalue=[])):
        if len(chapter.classical) != len(chapter.modern):
            raise DataError(
                f"{data / CLASSICAL} and {data / MODERN} are not parallel: a chapter that begins with"
                f" {''.join((chapter.classical or chapter.modern)[0])[:20]!r} has {len(chapter.classical)} lines in the one and"
                f" {len(chapter.modern)} in the other. Fetch both anew, from the same commit."
            )
        yield chapter


def clean_chapter(chapter: RawChapter, drops: Counter[str]) -> list[Pair]:
    """The (classical, modern) lines. A pair with a gap or without Chinese on either side is dropped."""
    classical, modern = (simplified("\n".join(lines)).split("\n") for lines in chapter)
    pairs = []
    for pair in zip(map(clean_classical_line, classical), map(clean_modern_line, modern), strict=True):
        if any(GAP.search(side) for side in pair):
            drops["lines with a gap on either side"] += 1
        elif not all(ANY_HAN.search(side) for side in pair):
            drops["lines without Chinese on either side"] += 1
        else:
            pairs.append(pair)
    return pairs


def read_texts(path: Path, drops: Counter[str], clean_line: Callable[[str], str] = clean, title_lines: int = 0) -> list[Document]:
    """The laws, articles or chapters of the novel, named by their first lines; `title_lines` of these are left out.

    Dropped: lines without Chinese, with a gap, and credits.
    """
    documents = []
    for raw in raw_documents(path):
        lines = []
        for line in map(clean_line, simplified("\n".join(raw[title_lines:])).split("\n")):
            if not ANY_HAN.search(line):
                drops["lines without Chinese"] += 1
            elif ENCODING_GAP.search(line):
                drops["lines with a gap"] += 1
            elif CREDIT.search(line) and len(line) <= 80:
                drops["credits"] += 1
            else:
                lines.append(line)
        if lines:
            documents.append(Document(raw[0], lines))
    return documents


def read_laws(path: Path, drops: Counter[str]) -> list[Document]:
    """The statutes, decrees and judicial interpretations."""
    documents = read_texts(path, drops)
    laws = [document for document in documents if is_statute(*document)]
    drops["documents that are no statute"] += len(documents) - len(laws)
    return laws


def read_poems(data: Path, drops: Counter[str]) -> list[Document]:
    """Verse lines without titles, authors and notes. Lines with gaps are dropped, and poems that were read before."""
    documents: dict[str, Document] = {}
    for path in POEMS:
        for raw in raw_documents(data / path):
            verse = simplified("\n".join(raw[2:])).split("\n")
            whole = [line for line in verse if not VERSE_GAP.search(line)]
            drops["lines with a gap"] += len(verse) - len(whole)
            lines = [line for line in map(clean_verse, whole) if line]
            name = "".join(lines)
            drops["poems that occur twice"] += name in documents
            if lines:
                documents.setdefault(name, Document(name, lines))
    return list(documents.values())


def read_couplets(data: Path, drops: Counter[str]) -> list[Pair]:
    """The parallel lines that are equally long and Chinese throughout, each once."""
    pairs = {}
    for raw in raw_documents(data / COUPLETS):
        for line in simplified("\n".join(raw)).split("\n"):
            upper, _, lower = line.partition("\t")
            if len(upper) != len(lower) or not upper or NOT_VERSE.search(upper + lower):
                drops["unequal or not Chinese"] += 1
            elif (upper, lower) in pairs:
                drops["twice"] += 1
            else:
                pairs[upper, lower] = True
    return list(pairs)


# The split. ---------------------------------------------------------------------------------------------------------


def is_held_out(name: str, share: float) -> bool:
    """Whether a document is kept from training; depends on its name and the share alone."""
    return zlib.crc32(name.encode()) % 10_000 < share * 10_000


def split(documents: Iterable[Document], share: float) -> Parts:
    """Training and held-out documents."""
    parts: Parts = ([], [])
    for document in documents:
        parts[is_held_out(document.name, share)].append(document)
    return parts


def split_novel(documents: Sequence[Document], count: int) -> Parts:
    """Like `split`, with the `count` chapters of the lowest hashes held out."""
    ranked = sorted(documents, key=lambda document: zlib.crc32(document.name.encode()))
    chosen = {document.name for document in ranked[:count]}
    return [each for each in documents if each.name not in chosen], [each for each in documents if each.name in chosen]


def without_boilerplate(documents: Iterable[Document], repeats: int, drops: Counter[str]) -> list[Document]:
    """Lines of eight or more characters stay in the first `repeats` documents that have them; a title stays."""
    seen = Counter[str]()
    kept = []
    for name, lines in documents:
        fresh = [line for index, line in enumerate(lines) if index == 0 or len(line) < 8 or seen[key(line)] < repeats]
        seen.update({key(line) for line in lines if len(line) >= 8})
        drops["lines that repeat (boilerplate)"] += len(lines) - len(fresh)
        kept.append(Document(name, fresh))
    return kept


def unseen_texts(held_out: Iterable[Document], training: Iterable[Document], settings: Settings, drops: Counter[str]) -> list[Document]:
    """The held-out laws or articles that training does not know, less the long lines that it does.

    A document is dropped whose title is in training, or too large a share of its long lines: an amended version, a regional copy.
    """
    titles: set[str] = set()
    learnt: set[str] = set()
    for document in training:
        titles.add(key(document.lines[0]).lower())
        learnt.update(key(line) for line in document.lines if len(line) >= settings.long_line)
    kept = []
    for name, lines in held_out:
        long = [line for line in lines if len(line) >= settings.long_line]
        known = {line for line in long if key(line) in learnt}
        if key(lines[0]).lower() in titles:
            drops["held-out documents with a title of training"] += 1
        elif len(long) * settings.shared_lines < sum(line in known for line in long):
            drops["held-out documents that share too many lines with training"] += 1
        else:
            rest = [line for line in lines if line not in known]
            drops["held-out lines that are in training"] += len(lines) - len(rest)
            kept.append(Document(name, rest))
    return kept


class Watch:
    """Notes which of the held-out phrases occur in training text, so that training text need not be kept to be compared."""

    def __init__(self) -> None:
        self.awaited: set[str] = set()
        self.found: set[str] = set()

    def expect(self, phrases: Iterable[str]) -> None:
        """These phrases are held out."""
        self.awaited.update(phrases)

    def see(self, phrases: Iterable[str]) -> None:
        """These phrases are learnt."""
        self.found.update(phrase for phrase in phrases if phrase in self.awaited)


class Watches(NamedTuple):
    """What is watched: clauses of classical text and verse, and whole lines of either side of the parallel corpus."""

    clauses: Watch
    classical: Watch
    modern: Watch

    def knows(self, pair: Pair) -> bool:
        """Whether training has either side of a held-out pair, or (in another book) most of the classical side's clauses."""
        source, target = pair
        if key(source) in self.classical.found or key(target) in self.modern.found:
            return True
        parts = list(clauses([source]))
        return 2 * sum(len(part) for part in parts if part in self.clauses.found) > sum(map(len, parts))


# Pairs. -------------------------------------------------------------------------------------------------------------


def is_translation(pair: Pair, settings: Settings) -> bool:
    """Whether both sides are of sensible lengths and differ."""
    source, target = map(len, pair)
    return (
        settings.shortest_pair <= min(source, target)
        and max(source, target) <= settings.longest_pair
        and settings.narrowest <= target / source <= settings.widest
        and key(pair[0]) != key(pair[1])
    )


def title_pairs(article: Document, settings: Settings, windows: int) -> list[Pair]:
    """Up to `windows` openings of an article, each with its title: the opening, half as much of it, what follows the first paragraph."""
    title, *body = article.lines
    if not settings.shortest_title <= len(title) <= settings.longest_title or title.endswith("。"):
        return []
    texts = (opening(body, settings.opening), opening(body, settings.opening // 2), opening(body[1:], settings.opening))
    return [(text, title) for text in dict.fromkeys(texts[:windows]) if len(text) >= settings.shortest_body and text != title]


def couplet_variants(couplets: Sequence[Pair], share: float) -> list[Pair]:
    """For a share of the couplets one of another length: the part before or after the caesura, or two joined by a comma.

    Parallel lines are parallel character by character, so their parts are, too; the caesura is three characters from the end.
    """
    variants = []
    for couplet, following in zip(couplets, [*couplets[1:], *couplets[:1]], strict=True):
        luck = zlib.crc32(f"variant {couplet[0]}".encode())
        if luck % 1000 >= share * 1000 or len(couplet[0]) < 5:
            continue
        match luck // 1000 % 4:
            case 0:
                parts = [[half[:-3]] for half in couplet]
            case 1:
                parts = [[half[-3:]] for half in couplet]
            case 2 if len(couplet[0]) > 5:
                parts = [[half[:-3], other] for half, other in zip(couplet, following, strict=True)]
            case _:
                parts = [list(halves) for halves in zip(couplet, following, strict=True)]
        variants.append(("，".join(parts[0]), "，".join(parts[1])))
    return list(dict.fromkeys(variants))


def split_couplets(
    couplets: Iterable[Pair], learnt: set[str], kept_secret: set[str], settings: Settings, drops: Counter[str]
) -> tuple[list[Pair], list[Pair]]:
    """Training and held-out couplets: none of training has a half in a held-out poem, none of the held-out one in training text."""
    parts: tuple[list[Pair], list[Pair]] = ([], [])
    for couplet in couplets:
        held_out = is_held_out(couplet[0], settings.couplets_held_out)
        if not set(couplet) & (learnt if held_out else kept_secret):
            parts[held_out].append(couplet)
        else:
            drops["held-out couplets in training text" if held_out else "training couplets in held-out poems"] += 1
    lowers = {lower for _, lower in parts[0]}
    unseen = [couplet for couplet in parts[1] if couplet[1] not in lowers]
    drops["held-out couplets with a second half of training"] += len(parts[1]) - len(unseen)
    return parts[0], unseen


# Writing. -----------------------------------------------------------------------------------------------------------

TEXTS = ("classical", "modern", "laws", "tech", "novel", "poems")
PAIRS = ("translate", "title", "couplet")
FILES = tuple(f"{part}/{name}" for part in ("train", "held_out") for name in (*(f"{n}.txt" for n in TEXTS), *(f"{n}.tsv" for n in PAIRS)))


class Output:
    """The files, open, and the counts of what went into them."""

    def __init__(self, files: dict[str, TextIO]) -> None:
        self.files = files
        self.counts = {name: Counter[str]() for name in files}

    def text(self, name: str, lines: Sequence[str]) -> None:
        """Add a document to the .txt file `name`."""
        if lines:
            self.files[name].write("\n".join(lines) + "\n\n")
            self.counts[name].update(documents=1, lines=len(lines), characters=sum(map(len, lines)))

    def pair(self, name: str, pair: Pair) -> None:
        """Add a pair to the .tsv file `name`, its task as a marker in front."""
        marker = f"[{name.partition('/')[2].removesuffix('.tsv').upper()}]"
        self.files[name].write(f"{marker}{pair[0]}\t{pair[1]}\n")
        self.counts[name].update(pairs=1, source_characters=len(pair[0]), target_characters=len(pair[1]))


def write_corpus(data: Path, output: Output, settings: Settings) -> Drops:
    """Read everything, split it, write it; returns what was dropped."""
    drops: Drops = defaultdict(Counter)
    laws = split(read_laws(data / LAWS, drops["laws"]), settings.laws_held_out)
    articles = split(read_texts(data / ARTICLES, drops["tech"], clean_article_line), settings.articles_held_out)
    write_texts("laws", laws, output, settings, drops["laws"])
    write_titles(write_texts("tech", articles, output, settings, drops["tech"]), output, settings, drops["title"])
    novel = split_novel(read_texts(data / NOVEL, drops["novel"], title_lines=1), settings.novel_held_out)
    poems = split(read_poems(data, drops["poems"]), settings.poems_held_out)
    couplets = read_couplets(data, drops["couplet"])
    chapters, total = held_out_chapters(data, settings, drops["parallel"])
    watches = Watches(Watch(), Watch(), Watch())
    expect(watches, chapters, poems[1], couplets)
    for name, training in (("novel", novel[0]), ("poems", poems[0])):
        for document in training:
            output.text(f"train/{name}.txt", document.lines)
            watches.clauses.see(clauses(document.lines))
            watches.classical.see(map(key, document.lines))
    write_training_chapters(track(raw_chapters(data), total, "parallel corpus"), watches, output, settings, drops)
    write_held_out_chapters(chapters, watches, output, settings, drops)
    unseen = [poem for poem in poems[1] if watches.clauses.found.isdisjoint(clauses(poem.lines))]
    drops["poems"]["held-out poems with a line of training text"] += len(poems[1]) - len(unseen)
    for name, held_out in (("novel", novel[1]), ("poems", unseen)):
        for document in held_out:
            output.text(f"held_out/{name}.txt", document.lines)
    write_couplets(couplets, unseen, watches, output, settings, drops["couplet"])
    return drops


def write_texts(name: str, parts: Parts, output: Output, settings: Settings, drops: Counter[str]) -> Parts:
    """The laws or the articles; returns what is left of them after dropping what repeats."""
    training = without_boilerplate(parts[0], settings.repeats, drops)
    held_out = unseen_texts(without_boilerplate(parts[1], 1, drops), parts[0], settings, drops)
    for part, documents in (("train", training), ("held_out", held_out)):
        for document in documents:
            output.text(f"{part}/{name}.txt", document.lines)
    return training, held_out


def write_titles(articles: Parts, output: Output, settings: Settings, drops: Counter[str]) -> None:
    """Three openings of every article of training, one of every other."""
    for part, documents, windows in (("train", articles[0], 3), ("held_out", articles[1], 1)):
        for document in documents:
            pairs = title_pairs(document, settings, windows)
            drops[f"{part} articles without a usable title or opening"] += not pairs
            for pair in pairs:
                output.pair(f"{part}/title.tsv", pair)


def held_out_chapters(data: Path, settings: Settings, drops: Counter[str]) -> tuple[list[list[Pair]], int]:
    """The held-out chapters of the parallel corpus, cleaned, and how many chapters there are in all."""
    chapters, total = [], 0
    for chapter in raw_chapters(data):
        total += 1
        if is_held_out(chapter.name, settings.chapters_held_out):
            chapters.append(clean_chapter(chapter, drops))
    return chapters, total


def expect(watches: Watches, chapters: Iterable[list[Pair]], poems: Iterable[Document], couplets: Iterable[Pair]) -> None:
    """Watch for all that is held out, and for every couplet: which of them are held out is decided last."""
    for pairs in chapters:
        watches.clauses.expect(clauses(source for source, _ in pairs))
        watches.classical.expect(key(source) for source, _ in pairs)
        watches.modern.expect(key(target) for _, target in pairs)
    for poem in poems:
        watches.clauses.expect(clauses(poem.lines))
    for couplet in couplets:
        watches.clauses.expect(couplet)


def write_training_chapters(chapters: Iterable[RawChapter], watches: Watches, output: Output, settings: Settings, drops: Drops) -> None:
    """Both sides of the parallel corpus as text, and the translations among its pairs, each once."""
    known: set[bytes] = set()
    for chapter in chapters:
        if is_held_out(chapter.name, settings.chapters_held_out):
            continue
        pairs = clean_chapter(chapter, drops["parallel"])
        sources, targets = ([pair[side] for pair in pairs] for side in (0, 1))
        output.text("train/classical.txt", sources)
        output.text("train/modern.txt", targets)
        watches.clauses.see(clauses(sources))
        watches.classical.see(map(key, sources))
        watches.modern.see(map(key, targets))
        for pair in pairs:
            digest = hashlib.blake2b("\t".join(pair).encode(), digest_size=8).digest()
            if digest in known:
                drops["translate"]["pairs that occur twice"] += 1
            elif not is_translation(pair, settings):
                drops["translate"]["pairs of unsuitable lengths, or that do not differ"] += 1
            else:
                output.pair("train/translate.tsv", pair)
            known.add(digest)


def write_held_out_chapters(chapters: Iterable[list[Pair]], watches: Watches, output: Output, settings: Settings, drops: Drops) -> None:
    """What training has not seen of the held-out chapters."""
    for pairs in chapters:
        unseen = [pair for pair in pairs if not watches.knows(pair)]
        drops["parallel"]["held-out lines that are in training on either side"] += len(pairs) - len(unseen)
        for side, name in enumerate(("classical", "modern")):
            output.text(f"held_out/{name}.txt", [pair[side] for pair in unseen])
        for pair in dict.fromkeys(unseen):
            if is_translation(pair, settings):
                output.pair("held_out/translate.tsv", pair)


def write_couplets(
    couplets: Iterable[Pair], poems: Iterable[Document], watches: Watches, output: Output, settings: Settings, drops: Counter[str]
) -> None:
    """The couplets, given the held-out poems; training has couplets of other lengths, too."""
    kept_secret = {clause for poem in poems for clause in clauses(poem.lines)}
    training, held_out = split_couplets(couplets, watches.clauses.found, kept_secret, settings, drops)
    for couplet in training + couplet_variants(training, settings.couplet_variants):
        output.pair("train/couplet.tsv", couplet)
    for couplet in held_out:
        output.pair("held_out/couplet.tsv", couplet)


def make(data: Path, out: Path, settings: Settings) -> dict[str, Any]:
    """Write all files, or none, into the folder `out`; returns what sources.json says.

    Raises `DataError` when an input is missing or damaged, `CheckpointError` when the folder cannot be written to.
    """
    report: dict[str, Any] = {"settings": asdict(settings), "inputs": {name: sha256(data / name) for name in INPUTS}}
    targets = [out / name for name in (*FILES, "sources.json")]
    with replacing(*targets) as temporary, ExitStack() as stack:
        *texts, last = (stack.enter_context(path.open("w", encoding="utf-8", newline="\n")) for path in temporary)
        output = Output(dict(zip(FILES, texts, strict=True)))
        drops = write_corpus(data, output, settings)
        report["files"] = output.counts
        report["dropped"] = {name: {why: count for why, count in counts.items() if count} for name, counts in drops.items()}
        last.write(json.dumps(report, ensure_ascii=False, indent=2) + "\n")
    return report


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the files and print their counts."""
    parser = argparse.ArgumentParser(prog="python -m bert4k.tasks.shipped.corpus", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with s2s_wenyan_baihua/, raw_laws/ and the other sources")
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    for each in fields(Settings):
        text = f"{each.metadata['help']} (%(default)s)"
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=type(each.default), default=each.default, help=text)
    flags = vars(parser.parse_args(arguments))
    data, out = flags.pop("data"), flags.pop("out")
    print(json.dumps(make(data, out, Settings(**flags)), ensure_ascii=False, indent=2))


if __name__ == "__main__":
    main()
