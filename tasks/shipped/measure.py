"""Measure a checkpoint on what was held out from its training: the numbers of its card.

    python -m bert4k.tasks.shipped.measure MODEL --corpus runs/corpus --data ../shared/data --out results.json
    ... --only masked lm          # some of: masked lm translation titles couplets; the others stay as they are in the file

`corpus` is what `tasks.shipped.corpus` wrote; `data` holds s2s_csl/ and s2s_couplet/, which were never trained on. Needs sacrebleu (`pip
install bert4k[pretrain]`). What is drawn at random depends on --seed alone. Samples of translations, titles and couplets are printed, for
eyes only: their texts are data of others, so they are not in the file.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from keras import ops
from numpy.typing import NDArray

from bert4k.backend import compiled
from bert4k.decoding import Sampler, beam, generate, greedy, score
from bert4k.decoding.batches import bucket, by_length, length_bucket, padded
from bert4k.errors import DataError
from bert4k.hub import load, locate
from bert4k.model import Transformer
from bert4k.pretraining import objectives, text
from bert4k.pretraining.annotate import DOCUMENT, LINE, annotate
from bert4k.pretraining.mapped import Stretch, pack_lines, stretch
from bert4k.pretraining.objectives import NOTHING, Example, Special
from bert4k.progress import track
from bert4k.scores import bleu
from bert4k.tasks.shipped import ngrams, results
from bert4k.tasks.shipped.cleaning import clean, opening
from bert4k.tasks.shipped.ngrams import Read, Trigram
from bert4k.tasks.shipped.scores import Pair, comparable, couplet_form, first_clause, rivals, rouge
from bert4k.telling import fitted
from bert4k.tokenizers import Tokenizer
from bert4k.tokenizers.basic import is_cjk

HALF_STOP = str.maketrans({".": "。"})
SHOWN = 20  # samples that are printed


@dataclass(frozen=True)
class Subject:
    """What is measured, on what, and how much of it."""

    model: Transformer  # with the output "mlm"
    tokenizer: Tokenizer
    corpus: Path
    data: Path
    seed: int = 1
    limit: int | None = None  # the most texts of a file, for a quick look
    trigram: Path | None = None  # where the learnt trigram is kept
    machines: dict[str, Transformer] = field(default_factory=dict)

    def under(self, mask: str) -> Transformer:
        """The model under a mask, the same one each time, so that what is compiled for it is compiled once."""
        if mask not in self.machines:
            self.machines[mask] = self.model.with_mask(mask)
        return self.machines[mask]

    def random(self) -> np.random.Generator:
        """Random numbers that do not depend on what was measured before."""
        return np.random.default_rng(self.seed)

    def held_out(self) -> list[Path]:
        """The files of held-out text."""
        return ngrams.text_files(self.corpus / "held_out")

    def some(self, items: list[Any], count: int | None = None) -> list[Any]:
        """A random sample of at most `count` (and `limit`) items, in their order."""
        wanted = min(each for each in (len(items), count, self.limit) if each is not None)
        return [items[place] for place in sorted(self.random().permutation(len(items))[:wanted])]

    @property
    def room(self) -> int:
        """Tokens that fit between [CLS] and [SEP]."""
        return self.model.config.max_position_embeddings - 2


# What a model makes of given tokens. --------------------------------------------------------------------------------


class Answer(NamedTuple):
    """Of the labels of an example, in order: their log-probabilities, and whether each is the likeliest token."""

    log_probs: NDArray[np.float32]
    right: NDArray[np.bool_]


def judge(model: Transformer, examples: Sequence[Example], batch_size: int = 16) -> list[Answer]:
    """What the model makes of the labels of each example, under its own mask; `order` is not looked at, nothing is packed."""
    run = model.programs.setdefault("shipped/judge", compiled(model, _teller(model)))
    places = [np.flatnonzero(example.labels != NOTHING) for example in examples]
    answers: dict[int, Answer] = {}
    batches = list(by_length([len(example.token_ids) for example in examples], batch_size))
    for batch in track(batches, len(batches), "judging"):
        rows = [examples[index] for index in batch]
        count, length = bucket(len(rows)), min(length_bucket(len(rows[0].token_ids)), model.config.max_position_embeddings)
        wanted = bucket(max(len(places[index]) for index in batch))
        log_probs, right = run(
            padded([row.token_ids.tolist() for row in rows], 0, length, count),
            padded([row.segment_ids.tolist() for row in rows], 0, length, count),
            np.arange(length)[None] < padded([[len(row.token_ids)] for row in rows], 0, 1, count),
            padded([places[index].tolist() for index in batch], 0, wanted, count),
            padded([examples[index].labels[places[index]].tolist() for index in batch], 0, wanted, count),
        )
        for index, own, hit in zip(batch, ops.convert_to_numpy(log_probs), ops.convert_to_numpy(right), strict=False):
            size = len(places[index])
            answers[int(index)] = Answer(own[:size], hit[:size])
    return [answers[index] for index in range(len(examples))]


def _teller(model: Transformer) -> Callable[..., tuple[Any, Any]]:
    """Of `labels` [B, P] at the places `at` [B, P]: their log-probabilities and whether each is the likeliest token, both [B, P]."""
    body = model.with_outputs("sequence")

    def told(token_ids: Any, segment_ids: Any, real: Any, at: Any, labels: Any) -> tuple[Any, Any]:
        x = body({"token_ids": token_ids, "segment_ids": segment_ids, "real": real})
        logits = ops.cast(model.head("mlm", ops.take_along_axis(x, at[..., None], axis=1)), "float32")
        own = ops.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
        return own - ops.logsumexp(logits, axis=-1), ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), labels)

    return told


# masked: telling hidden words. --------------------------------------------------------------------------------------


def masked(subject: Subject) -> dict[str, Any]:
    """By domain, how many of the tokens behind [MASK] are told exactly, beside always telling the commonest of them.

    15 % of the tokens, as whole words, are to be told; 80 % of these are hidden, the others (10 % exchanged, 10 % left) are not counted.
    """
    special, model = Special.of(subject.tokenizer), subject.under("encoder")
    domains: dict[str, Any] = {}
    for path in subject.held_out():
        random = subject.random()
        stretches = subject.some(list(raw_stretches(path, subject.tokenizer, subject.room)))
        examples = [objectives.masked(stretch, special, random) for stretch in stretches]
        domains[path.stem] = share_told(examples, judge(model, examples), subject.tokenizer)
    return {"share": 0.15, "whole_words": True, "longest": subject.room, "seed": subject.seed, "domains": domains}


def raw_stretches(path: Path, tokenizer: Tokenizer, limit: int) -> list[Stretch]:
    """The texts of a file as training would cut it into stretches of at most `limit` tokens."""
    joined = "\n\n".join("\n".join(lines) for lines in text.documents([path]))
    ids, flags, *_ = annotate(joined, tokenizer, whole_words=True, pairs=False)
    return [stretch(ids, flags, *row) for row in pack_lines(flags, limit).tolist()]


def share_told(examples: Sequence[Example], answers: Sequence[Answer], tokenizer: Tokenizer) -> dict[str, Any]:
    """Of the labels behind [MASK] but [UNK], which is no text: how many are told, of all and of Chinese characters."""
    labels, right = [], []
    for example, answer in zip(examples, answers, strict=True):
        told = example.labels != NOTHING
        hidden = example.token_ids[told] == tokenizer.mask_id
        labels.append(example.labels[told][hidden])
        right.append(answer.right[hidden])
    label, hit = np.concatenate(labels), np.concatenate(right)
    known = label != tokenizer.unk_id
    chinese = np.array([len(token) == 1 and is_cjk(token) for token in tokenizer.vocabulary])[label]
    shares = {name: _shares(label[which], hit[which]) for name, which in (("tokens", known), ("characters", known & chinese))}
    return {"texts": len(examples), "unknown": int(np.count_nonzero(~known)), **shares}


def _shares(labels: NDArray[np.int32], right: NDArray[np.bool_]) -> dict[str, Any]:
    if not len(labels):
        return {"count": 0, "accuracy": None, "commonest": None}
    return {"count": len(labels), "accuracy": float(right.mean()), "commonest": float(np.bincount(labels).max() / len(labels))}


# lm: the next character. --------------------------------------------------------------------------------------------


def lm(subject: Subject) -> dict[str, Any]:
    """Perplexity per character by domain, left to right, beside the trigram's on the same characters.

    Every text is cut into stretches that fill the positions, and each is told from its own beginning, the first token too. Text and
    characters are those of `ngrams.as_read`; the end of a document is told, and counts as a character. A word that the vocabulary does
    not have pays for [UNK], and for each character one of all that the vocabulary lacks and whether the word ends there: `perplexity`
    is that of a proper distribution over texts, as the trigram is one. `known` leaves these words out, for both.
    """
    trigram = ngrams.learnt(subject.corpus, subject.trigram, subject.tokenizer.lowercase)
    special, model = Special.of(subject.tokenizer), subject.under("lm")
    domains: dict[str, Any] = {}
    for path in subject.held_out():
        texts = [spelt(read, subject.tokenizer) for read in ngrams.read_documents([path], subject.tokenizer.lowercase)]
        texts = subject.some([each for each in texts if len(each.ids)])
        stretches = [stretch for each in texts for stretch in each.stretches(subject.room)]
        answers = judge(model, [objectives.left_to_right(stretch, special) for stretch in stretches])
        told = np.concatenate([np.append(stretch.ids, special.sep) if stretch.ends else stretch.ids for stretch in stretches])
        log_probs = np.concatenate([answer.log_probs for answer in answers])
        domains[path.stem] = {"stretches": len(stretches)} | compare(texts, told, log_probs, trigram, subject.tokenizer)
    return {"longest": subject.room, "trigram_n_grams": [len(level.keys) for level in trigram.levels], "domains": domains}


class Spelt(NamedTuple):
    """A document with its tokens [T], and which of its characters [C] are known: part of a token other than [UNK], or before one."""

    read: Read
    ids: NDArray[np.int32]
    flags: NDArray[np.uint8]
    known: NDArray[np.bool_]

    def stretches(self, limit: int) -> list[Stretch]:
        """As training would cut it."""
        return [stretch(self.ids, self.flags, *row) for row in pack_lines(self.flags, limit).tolist()]


def spelt(read: Read, tokenizer: Tokenizer) -> Spelt:
    """A document as tokens. A character that no token covers, a space, belongs to the token after it."""
    ids, starts, ends = (np.array(each, np.int64) for each in tokenizer.spans(read.text))
    flags = np.zeros(len(ids), np.uint8)
    flags[np.searchsorted(starts, read.line_starts)] |= LINE
    flags[:1] |= DOCUMENT
    known = np.ones(len(read.codes), bool)
    for token in np.flatnonzero(ids == tokenizer.unk_id):
        known[ends[token - 1] if token else 0 : ends[token]] = False
    return Spelt(read, ids.astype(np.int32), flags, known)


def compare(
    texts: Sequence[Spelt], told: NDArray[np.int32], log_probs: NDArray[Any], trigram: Trigram, tokenizer: Tokenizer
) -> dict[str, Any]:
    """The perplexities of a model that gave `log_probs` to the tokens `told` (the ends of documents among them), and the trigram's."""
    unknown = told == tokenizer.unk_id
    by_trigram = [trigram.log_probs(each.read.codes) for each in texts]
    known = np.concatenate([np.append(each.known, True) for each in texts])
    characters = sum(len(each.known) for each in texts)
    # Spaces before an unknown word are not paid for: the tokens say that they are there.
    missing = int(sum(np.count_nonzero(~each.known & (each.read.codes != ord(" "))) for each in texts))
    others = ngrams.UNICODE - sum(len(token) == 1 for token in tokenizer.vocabulary)
    total = log_probs.sum(dtype=np.float64)
    paid = missing * math.log(2 * others)
    of_known = log_probs[~unknown].sum(dtype=np.float64)
    every = np.concatenate(by_trigram)
    return {
        "documents": len(texts),
        "characters": characters,
        "tokens": len(told) - len(texts),
        "unknown_tokens": int(np.count_nonzero(unknown)),
        "unknown_characters": missing,
        "perplexity": ngrams.perplexity(total - paid, len(every)),
        "trigram": ngrams.perplexity(every, len(every)),
        "known": {
            "perplexity": ngrams.perplexity(of_known, int(known.sum())),
            "trigram": ngrams.perplexity(every[known], int(known.sum())),
        },
        "perplexity_per_token": ngrams.perplexity(total, len(told)),
    }


# Pairs: translation, titles, couplets. ------------------------------------------------------------------------------


def read_pairs(path: Path) -> list[Pair]:
    """The (source, target) of a file, with the marker that the source begins with."""
    return list(text.pairs([path]))


def answers_to(subject: Subject, sources: Sequence[str], sampler: Sampler, max_tokens: int) -> tuple[list[str], dict[str, Any]]:
    """What the model answers under the mask `seq2seq`, and how that went."""
    longest = min(max_tokens, subject.room // 2)
    kept, cut = fitted(subject.tokenizer, sources, subject.room - longest)
    began = time.perf_counter()
    written = generate(subject.under("seq2seq"), subject.tokenizer, kept, sampler, max_tokens=longest)
    about = {
        "sampler": str(sampler),
        "max_tokens": longest,
        "sources_cut": cut,
        "not_ended": sum(not each.ended for each in written),
        "seconds": time.perf_counter() - began,
    }
    return [each.text for each in written], about


def translation(subject: Subject) -> dict[str, Any]:
    """Classical to modern Chinese: BLEU and chrF of a sample of held-out pairs, beside copying the source."""
    pairs = subject.some(read_pairs(subject.corpus / "held_out/translate.tsv"), 500)
    sources, targets = map(list, zip(*pairs, strict=True))
    plain = [source.removeprefix("[TRANSLATE]") for source in sources]
    numbers: dict[str, Any] = {"pairs": len(pairs), "seed": subject.seed, "copying_the_source": bleu(plain, targets)}
    written: list[str] = []
    for name, sampler in (("greedy", greedy()), ("beam_4", beam(4))):
        written, about = answers_to(subject, sources, sampler, 128)
        numbers[name] = bleu(written, targets) | about
    show(subject, "translation", plain, targets, written)
    return numbers


def titles(subject: Subject) -> dict[str, Any]:
    """Titles of held-out articles, and of scientific abstracts of which training had none, beside the text's first clause."""
    sets = {
        "articles": read_pairs(subject.corpus / "held_out/title.tsv"),
        "csl": [("[TITLE]" + as_article(abstract), title) for abstract, title in read_csl(subject.data / "s2s_csl/ts_test.tsv.gz")],
    }
    numbers: dict[str, Any] = {"seed": subject.seed}
    for name, pairs in sets.items():
        sources, targets = map(list, zip(*subject.some(pairs), strict=True))
        plain = [source.removeprefix("[TITLE]") for source in sources]
        written, about = answers_to(subject, sources, beam(4), 48)
        clauses = [first_clause(source) for source in plain]
        numbers[name] = {
            "pairs": len(sources),
            "beam_4": title_scores(written, targets) | about,
            "first_clause": title_scores(clauses, targets),
        }
        show(subject, f"titles: {name}", plain, targets, written)
    return numbers


def title_scores(written: Sequence[str], targets: Sequence[str]) -> dict[str, Any]:
    """ROUGE, BLEU and chrF of titles, all written in the same manner: the model knows one only."""
    return rouge(written, targets) | bleu(list(map(comparable, written)), list(map(comparable, targets)), lowercase=True)


def read_csl(path: Path) -> list[Pair]:
    """(abstract, title) of CSL's title task: lines of task, abstract, title."""
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
            rows = [line.rstrip("\r\n").split("\t") for line in file]
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read {path} ({error}). Say with --data which folder holds s2s_csl/ and s2s_couplet/.") from error
    return [(abstract, title) for _, abstract, title in rows]


def as_article(abstract: str) -> str:
    """An abstract in the manner of the training text: Chinese marks, and the whole sentences of its first 200 characters.

    CSL ends sentences with a half-width stop; one between digits or letters is none."""
    chars = [
        mark.translate(HALF_STOP) if not (before.isascii() and after.isascii()) else mark
        for before, mark, after in zip(" " + abstract, abstract, abstract[1:] + "。", strict=False)
    ]
    return opening([clean("".join(chars))], 200)


def couplets(subject: Subject) -> dict[str, Any]:
    """Second lines: the form of the answers, and whether the true one is likelier than another of its length."""
    folder = subject.data / "s2s_couplet"
    sets = {
        "parallel_lines": (read_pairs(subject.corpus / "held_out/couplet.tsv"), 200),
        "human": ([("[COUPLET]" + upper, lower) for upper, lower in read_human_couplets(folder)], None),
    }
    numbers: dict[str, Any] = {"seed": subject.seed}
    for name, (pairs, sample) in sets.items():
        sources, targets = map(list, zip(*subject.some(pairs, sample), strict=True))
        uppers = [source.removeprefix("[COUPLET]") for source in sources]
        written, about = answers_to(subject, sources, beam(8), 40)
        form = couplet_form(zip(uppers, written, strict=True))
        numbers[name] = {
            "beam_8": form._asdict()
            | {"share_as_long": form.as_long / form.answers, "share_without_repeat": form.without_repeat / max(form.to_differ, 1)}
            | about,
            "preference": preference(subject, subject.some(pairs)),
        }
        show(subject, f"couplets: {name}", uppers, targets, written)
    return numbers


def read_human_couplets(folder: Path) -> list[Pair]:
    """The couplets that people wrote; no training text."""
    try:
        sides = [(folder / f"train1000_{side}.txt").read_text(encoding="utf-8").split("\n") for side in ("in", "out")]
    except OSError as error:
        raise DataError(f"Cannot read {error.filename} ({error.strerror}). Say with --data which folder holds s2s_couplet/.") from error
    pairs = [(upper.replace(" ", ""), lower.replace(" ", "")) for upper, lower in zip(*sides, strict=True)]
    return [pair for pair in pairs if all(pair)]


def preference(subject: Subject, pairs: list[Pair]) -> dict[str, Any]:
    """How often the true second line is likelier than another couplet's of the same length; perplexity per character, the end counted."""
    model = subject.under("seq2seq")
    against = rivals(pairs, subject.random())
    if not against:
        return {"couplets": 0}
    true = score(model, subject.tokenizer, pairs)
    other = score(model, subject.tokenizer, list(against.values()))
    won = [true[index] > rival for index, rival in zip(against, other, strict=True)]
    told = sum(len(lower) + 1 for _, lower in pairs)
    return {
        "couplets": len(won),
        "share_true_likelier": float(np.mean(won)),
        "perplexity": math.exp(-float(true.sum(dtype=np.float64)) / told),
    }


def show(subject: Subject, what: str, sources: Sequence[str], targets: Sequence[str], written: Sequence[str]) -> None:
    """Print some samples: for eyes, not for the file."""
    print(f"\n== {what}")
    for place in sorted(subject.random().permutation(len(sources))[:SHOWN]):
        print(f"source     {sources[place]}\nreference  {targets[place]}\noutput     {written[place]}\n")


# The command. -------------------------------------------------------------------------------------------------------

SECTIONS: dict[str, Callable[[Subject], dict[str, Any]]] = {
    "masked": masked,
    "lm": lm,
    "translation": translation,
    "titles": titles,
    "couplets": couplets,
}


def about(folder: Path, subject: Subject) -> dict[str, Any]:
    """What the numbers are about."""
    config, held_out = subject.model.config, subject.corpus / "held_out"
    return {
        "model": folder.name,
        "files_sha256": results.weights_digest(folder),
        "weights": int(sum(map(math.prod, subject.model.weight_names().values()))),
        "layers": config.num_hidden_layers,
        "width": config.hidden_size,
        "vocabulary": config.vocab_size,
        "positions": config.max_position_embeddings,
        "held_out_sha256": results.weights_digest(held_out) if held_out.is_dir() else None,
        "limit": subject.limit,
    }


def measure(folder: Path, subject: Subject, sections: Sequence[str], out: Path) -> None:
    """Measure section after section, and put each into the file as soon as it is known."""
    what = about(folder, subject)
    results.read(out, what)  # complains before the work, not after it
    lacking = [marker for marker in ("[TRANSLATE]", "[TITLE]", "[COUPLET]") if marker not in subject.tokenizer.vocabulary]
    if lacking and set(sections) & {"translation", "titles", "couplets"}:
        print(f"The vocabulary has no {', '.join(lacking)}: the model was not trained for these tasks.", file=sys.stderr)
    for name in sections:
        began = time.perf_counter()
        numbers = SECTIONS[name](subject)
        numbers |= {"seconds": time.perf_counter() - began, "made": results.provenance()}
        results.keep(out, what, name, results.rounded(numbers))
        print(json.dumps({name: results.rounded(numbers)}, ensure_ascii=False, indent=2), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure a checkpoint folder; print the numbers and put them into a file."""
    parser = argparse.ArgumentParser(prog="python -m bert4k.tasks.shipped.measure", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="folder of the checkpoint, or a name of `bert4k list`")
    parser.add_argument("--corpus", type=Path, required=True, help="folder that tasks.shipped.corpus wrote")
    parser.add_argument("--data", type=Path, required=True, help="folder with s2s_csl/ and s2s_couplet/")
    parser.add_argument("--out", type=Path, required=True, help="file for the numbers (JSON); what is in it already is kept")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="what to measure (everything)")
    parser.add_argument("--trigram", type=Path, help="file to keep the learnt trigram in, or to take it from (.npz)")
    parser.add_argument("--seed", type=int, default=1, help="of masks and samples (%(default)s)")
    parser.add_argument("--limit", type=int, help="at most so many texts of a file, for a quick look")
    parser.add_argument("--dtype", default="float32", help="what the model computes in (%(default)s)")
    flags = parser.parse_args(arguments)
    folder = locate(flags.model)
    model, tokenizer = load(folder, outputs=("mlm",), dtype=flags.dtype)
    subject = Subject(model, tokenizer, flags.corpus, flags.data, flags.seed, flags.limit, flags.trigram)
    measure(folder, subject, flags.only, flags.out)


if __name__ == "__main__":
    main()
