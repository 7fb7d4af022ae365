"""Continue texts in the manner of a small corpus: an author, a kind of text (a language model, by the mask `lm`).

    bert4k train language_model --run runs/novel --train novel.txt.gz
    bert4k evaluate runs/novel other.txt
    bert4k predict runs/novel 话说 -                                      # - reads lines
    bert4k generate runs/novel/network 话说 --mask lm --sample --top-p 0.9  # the checkpoint by itself

Files are plain text in UTF-8, gzipped or not, with blank lines between documents. The lines of a document are packed into rows as long as
the model reads, never those of two documents; rows of similar length share a batch. A small corpus is soon learnt by heart. So a part is
held out (--dev, or --share of the documents), the epoch that tells it best is kept, and --tuning.patience ends the training. That copying
does not pass for style, each epoch says how much of what is written, in runs of --copied tokens, stands in the training text.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bert4k.errors import ConfigError, DataError
from bert4k.recipe import required, setting
from bert4k.tuning import Tuning

if TYPE_CHECKING:
    import keras

    from bert4k.decoding import Generation
    from bert4k.model import Transformer
    from bert4k.pretraining.mapped import Stretch
    from bert4k.telling import ToldBatches
    from bert4k.tokenizers import Tokenizer

Document = list[str]  # its lines
LEAST = 100  # tokens in a corpus: with fewer there is nothing to learn from


@dataclass(frozen=True)
class Sampling:
    """How texts are written, while the run is judged and ever after."""

    temperature: float = setting(0.9, "below 1 is bolder")
    top_p: float = setting(0.9, "draw from the most probable tokens that reach this probability; 1 is all")
    max_tokens: int = setting(100, "longest continuation")
    no_repeat_ngram: int = setting(0, "no sequence of so many tokens comes twice; 0 is off")
    seed: int = setting(1, "the same seed gives the same texts")


@dataclass(frozen=True)
class LanguageTuning(Tuning):
    """How the weights change."""

    epochs: int = setting(20, "times that the corpus is read at most; the epoch with the best score on dev is kept")
    patience: int | None = setting(2, "stop after so many epochs without a better score")


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result."""

    run: Path = required("folder of the run; the same folder again goes on")
    train: list[Path] = required("files to learn from")
    dev: Path | None = setting(None, "file to be judged on after every epoch; without it, a part of the documents to learn from")
    share: float = setting(0.1, "of the characters that is held out, as whole documents, where there is no --dev; of a single one, its end")
    model: str = setting("wenbai", "folder of a checkpoint, or a name that `bert4k list` shows")
    longest: int = setting(256, "tokens of a row")
    copied: int = setting(8, "how many tokens in a row, if they stand in the training text, count as copied")
    shown: int = setting(4, "texts that are written after every epoch, from beginnings of held-out lines")
    sampling: Sampling = field(default_factory=Sampling)
    tuning: LanguageTuning = field(default_factory=LanguageTuning)


def read(paths: Sequence[Path]) -> list[Document]:
    """The documents of files. Raises `DataError`, with the line, for what is not as expected."""
    from bert4k.pretraining.text import documents

    found = list(documents(paths))
    if not found:
        raise DataError(f"{', '.join(map(str, paths))}: there is no text. Expected lines, and blank lines between documents.")
    return found


def split(documents: Sequence[Document], share: float, seed: int) -> tuple[list[Document], list[Document]]:
    """What to learn from, and what is held out: whole documents, drawn by a seed, about `share` of the characters; of a single document,
    its last lines."""
    import numpy as np

    if not 0 < share < 1:
        raise ConfigError(f"--share is {share}; expected a share between 0 and 1, such as 0.1.")
    if len(documents) == 1:
        [lines] = documents
        if len(lines) < 2:
            raise DataError("The text is a single line, of which nothing can be held out. Break it into lines, or give --dev.")
        cut = min(len(lines) - 1, round((1 - share) * len(lines))) or 1
        return [lines[:cut]], [lines[cut:]]
    sizes = [sum(map(len, lines)) for lines in documents]
    out: set[int] = set()
    for place in np.random.default_rng(seed).permutation(len(documents)).tolist():
        # One at least, and then only what leaves the sum at or below its share.
        if not out or sum(sizes[each] for each in (*out, place)) <= share * sum(sizes):
            out.add(place)
    return (
        [document for place, document in enumerate(documents) if place not in out],
        [document for place, document in enumerate(documents) if place in out],
    )


def encode(documents: Sequence[Document], tokenizer: Tokenizer, longest: int) -> list[Stretch]:
    """The documents as rows of at most `longest` tokens, [CLS] and [SEP] among them; a line is cut only where it fills a row alone."""
    from bert4k.pretraining.annotate import annotate
    from bert4k.pretraining.mapped import pack_lines, stretch

    found = annotate("\n\n".join("\n".join(lines) for lines in documents), tokenizer, whole_words=False, pairs=False)
    return [stretch(found.ids, found.flags, *row) for row in pack_lines(found.flags, longest - 2).tolist()]


def batches(stretches: Sequence[Stretch], tokenizer: Tokenizer, tuning: Tuning, shuffle: bool = True) -> ToldBatches:
    """`[CLS] text [SEP]`, every token told by the one before it; [SEP] only where a document ends."""
    from bert4k.pretraining import objectives
    from bert4k.telling import ToldBatches

    special = objectives.Special.of(tokenizer)
    lengths = [len(each.ids) + 2 for each in stretches]
    most = [len(each.ids) + each.ends for each in stretches]

    def make(row: int, random: Any) -> objectives.Example:
        return objectives.left_to_right(stretches[row], special)

    return ToldBatches(lengths, most, make, tokenizer.pad_id, tuning.tokens, tuning.seed, shuffle)


def build(settings: Settings) -> tuple[keras.Model, Transformer, Tokenizer]:
    """The model that is trained: logits [B, P, V] of the next token; the network that writes; its tokenizer."""
    from bert4k.finetuning import loaded
    from bert4k.telling import teller

    network, tokenizer = loaded(settings.model, settings.tuning, "lm", ("mlm",))
    positions = network.config.max_position_embeddings
    if not 8 <= settings.longest <= positions or not 1 <= settings.sampling.max_tokens <= positions - 8:
        raise ConfigError(
            f"--longest is {settings.longest} and --sampling.max_tokens {settings.sampling.max_tokens}; {settings.model} has {positions}"
            f" positions. Expected 8 to {positions}, and 1 to {positions - 8}."
        )
    return teller(network, "lm", settings.tuning.dropout), network, tokenizer


def prompts_of(texts: Sequence[str], tokenizer: Tokenizer, room: int) -> list[str]:
    """Beginnings as the model reads them: of those that are too long, the last `room` tokens; says how many were cut."""
    from bert4k.telling import tell_cuts

    kept, cut = [], 0
    for text in texts:
        ids, starts, _ = tokenizer.spans(text)
        cut += len(ids) > room
        kept.append(text[starts[-room] :] if len(ids) > room else text)
    tell_cuts(cut, len(kept), "beginnings", room)
    return kept


def answers(network: Transformer, tokenizer: Tokenizer, beginnings: Sequence[str], sampling: Sampling) -> list[Generation]:
    """How each beginning, which `prompts_of` has made fit, goes on."""
    from bert4k.decoding import generate, sample

    sampler = sample(sampling.temperature, top_p=sampling.top_p if sampling.top_p < 1 else None, seed=sampling.seed)
    how: dict[str, Any] = {"max_tokens": sampling.max_tokens, "no_repeat_ngram": sampling.no_repeat_ngram}
    return generate(network, tokenizer, beginnings, sampler, **how) if beginnings else []


class Corpus:
    """The tokens of a training text, to look up what stands in it."""

    def __init__(self, stretches: Sequence[Stretch]) -> None:
        # A character a token: Python's own search for a part of a text is fast.
        self.text = "".join(_as_text(each.ids) + ("\uffff" if each.ends else "") for each in stretches)

    def share_copied(self, rows: Iterable[Iterable[int]], size: int) -> float:
        """Of all runs of `size` tokens in `rows`, the share that stands in the corpus, from 0 to 1; 0 where there is none."""
        runs = [text[at : at + size] for text in map(_as_text, rows) for at in range(len(text) - size + 1)]
        return sum(run in self.text for run in runs) / max(len(runs), 1)


def _as_text(ids: Iterable[int]) -> str:
    return "".join(chr(int(token) + 0x10000) for token in ids)


def score(log_likelihood: float, documents: Sequence[Document]) -> dict[str, float]:
    """Perplexity per character: the end of a document counts as one, white space does not."""
    characters = sum(len("".join(line.split())) for lines in documents for line in lines)
    return {"perplexity": exp(-log_likelihood / (characters + len(documents)))}


# The commands. -------------------------------------------------------------------------------------------------------------------


def train(settings: Settings) -> dict[str, Any]:
    """`bert4k train language_model`: train, keep the best epoch, write the run folder; returns the scores on what was held out."""
    from bert4k import finetuning
    from bert4k.telling import Samples, judge, log_likelihood, told_loss

    texts, tuning = read(settings.train), settings.tuning
    learnt, out = split(texts, settings.share, tuning.seed) if settings.dev is None else (texts, read([settings.dev]))
    model, network, tokenizer = build(settings)
    learn, held_out = (encode(part, tokenizer, settings.longest) for part in (learnt, out))
    if (tokens := sum(len(each.ids) for each in learn)) < LEAST or not held_out:
        raise DataError(f"The text to learn from has {tokens} tokens, and {len(held_out)} rows are held out; expected {LEAST} and 1.")
    on_dev, judging, corpus = batches(held_out, tokenizer, tuning, False), judge(model), Corpus(learn)
    beginnings = some_beginnings(out, tokenizer, settings.shown, tuning.seed)
    written: list[Generation] = []
    before = score(log_likelihood(judging, on_dev)[0], out)["perplexity"]  # nothing is restored yet, even where a run goes on
    print(f"before training: perplexity {before:.2f}", file=sys.stderr)

    def judged() -> dict[str, float]:
        total, count = log_likelihood(judging, on_dev)
        written[:] = answers(network, tokenizer, beginnings, settings.sampling)
        copied = corpus.share_copied([each.token_ids for each in written], settings.copied)
        return {"dev_loss": -total / count, **score(total, out), "copied": copied}

    def shown() -> list[str]:
        return [f"{beginning}|{text}" for beginning, text in zip(beginnings, written, strict=True)]

    best = finetuning.fit(
        settings.run,
        model,
        network.config.num_hidden_layers,
        batches(learn, tokenizer, tuning),
        told_loss(),
        judged,
        "dev_loss",
        tuning,
        mode="min",
        callbacks=[Samples(settings.run, shown)],
    )
    scores = judged() | {
        "perplexity_before": before,
        "copied_by_held_out": corpus.share_copied([each.ids for each in held_out], settings.copied),
    }
    report(settings.run, learn, held_out, tokenizer, settings.copied, scores, shown())
    finetuning.finish(settings.run, network, network, tokenizer, ())
    return {"run": str(settings.run), "epoch": best["epoch"], **scores}


def some_beginnings(documents: Sequence[Document], tokenizer: Tokenizer, count: int, seed: int, tokens: int = 6) -> list[str]:
    """The first tokens of some lines, drawn by a seed, that go on after them; or of any, where none does."""
    from bert4k.telling import fitted, some

    lines = [line for document in documents for line in document]
    long = [line for line in lines if len(line) > 2 * tokens] or lines
    return fitted(tokenizer, some(long, count, seed), tokens)[0]


def report(
    folder: Path, learn: Sequence[Stretch], out: Sequence[Stretch], tokenizer: Tokenizer, copied: int, scores: Any, shown: Sequence[str]
) -> None:
    """report.md: what was learnt from, how well held-out text is told, what was written and how much of it is copied."""
    from bert4k.finetuning import write_text

    lines = ["| | documents | tokens | unknown |", "|---|---:|---:|---:|"]
    for name, part in (("learnt", learn), ("held out", out)):
        unknown = sum(int((each.ids == tokenizer.unk_id).sum()) for each in part)
        lines.append(f"| {name} | {sum(each.ends for each in part):,} | {sum(len(each.ids) for each in part):,} | {unknown:,} |")
    lines += [
        "",
        f"Held out: perplexity per character {scores['perplexity']:.2f} ({scores['perplexity_before']:.2f} before training), loss per token"
        f" {scores['dev_loss']:.4f}.",
        f"Of runs of {copied} tokens, {scores['copied']:.1%} of those written and {scores['copied_by_held_out']:.1%} of those held out"
        " stand in the text that was learnt from.",
        "",
        *(f"    {line}" for line in shown),
    ]
    write_text(folder / "report.md", f"# {folder.name}\n\n" + "\n".join(lines) + "\n")


def evaluate(run: Path, path: Path) -> dict[str, Any]:
    """`bert4k evaluate RUN FILE`: the perplexity of a file."""
    from bert4k import finetuning
    from bert4k.telling import judge, log_likelihood, teller

    network, tokenizer, _, settings = finetuning.finished(run, "language_model")
    documents = read([path])
    stretches = encode(documents, tokenizer, settings["longest"])
    if not stretches:
        raise DataError(f"{path} holds no text that the tokenizer reads. Expected lines of text.")
    total, count = log_likelihood(
        judge(teller(network, "lm")), batches(stretches, tokenizer, LanguageTuning(**settings["tuning"]), shuffle=False)
    )
    return {"file": str(path), "documents": len(documents), "tokens": count, "loss": -total / count, **score(total, documents)}


def predict(run: Path, texts: Sequence[str]) -> list[dict[str, Any]]:
    """`bert4k predict RUN TEXT...`: how each text goes on."""
    from bert4k import finetuning

    network, tokenizer, _, settings = finetuning.finished(run, "language_model")
    sampling = Sampling(**settings["sampling"])
    room = network.config.max_position_embeddings - sampling.max_tokens - 1
    written = answers(network, tokenizer, prompts_of(texts, tokenizer, room), sampling)
    return [{"text": text, "continuation": each.text} for text, each in zip(texts, written, strict=True)]
