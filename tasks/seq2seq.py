"""Write a text from a text: titles, summaries, translations, second lines of couplets.

    bert4k train seq2seq --run runs/titles --train train.tsv --dev dev.tsv --prefix "[TITLE]"
    bert4k evaluate runs/titles test.tsv
    bert4k predict runs/titles 文章正文…… -                                # - reads lines
    bert4k generate runs/titles/network "[TITLE]文章正文……" --mask seq2seq  # the checkpoint by itself (--cloze after that objective)

Files have a source and a target: `source<TAB>target` lines, a table with a header (.tsv, .csv), or JSON lines (.jsonl) such as
{"source": "...", "target": "..."}.

A BERT is tuned under the mask `seq2seq` (UniLM). A token is told by the one before it (objective `shifted`, as in bert4keras), or by a
[MASK] in its own place (`cloze`, as in UniLM's own code, arXiv:1905.03197): the weights of one are of no use to the other. An
encoder-decoder (T5, mT5, T5-PEGASUS, BART) reads the source, and its decoder tells each token of the target from those before it; its
checkpoint needs no --mask to generate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bert4k.errors import ConfigError, DataError
from bert4k.reading import read_rows
from bert4k.recipe import required, setting
from bert4k.tuning import Tuning

if TYPE_CHECKING:
    import keras

    from bert4k.model import Transformer
    from bert4k.pretraining.mapped import Pair
    from bert4k.telling import ToldBatches
    from bert4k.tokenizers import Tokenizer


@dataclass(frozen=True)
class Decoding:
    """How texts are written, while the run is judged and ever after."""

    beam: int = setting(4, "width of the beam; 1 is greedy")
    length_penalty: float = setting(1.0, "of the beam: scores are divided by length ** penalty; 0 prefers short texts")
    max_tokens: int = setting(64, "longest text")
    no_repeat_ngram: int = setting(0, "no sequence of so many tokens comes twice; 0 is off")


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result."""

    run: Path = required("folder of the run; the same folder again goes on")
    train: list[Path] = required("files to learn from")
    dev: Path = required("file to be judged on after every epoch")
    model: str = setting("wenbai", "folder of a checkpoint, or a name that `bert4k list` shows")
    objective: Literal["shifted", "cloze"] = setting("shifted", "a token is told by the one before it, or by a [MASK] in its place")
    share: float = setting(0.7, "of the objective cloze: share of the target's tokens that are hidden")
    smoothing: float = setting(0.0, "label smoothing; UniLM has 0.1")
    prefix: str = setting("", "stands before every source, such as a [TITLE] that the vocabulary has")
    longest_source: int = setting(180, "tokens of a source; what is longer is cut")
    longest_target: int = setting(64, "tokens of a target; what is longer is cut, and does not end there")
    metric: Literal["dev_loss", "rouge_l", "bleu"] = setting("rouge_l", "by which the best epoch is chosen")
    judged: int = setting(100, "examples of dev, drawn at random, that are written out after every epoch")
    shown: int = setting(3, "of these, how many are printed and kept in samples/")
    decoding: Decoding = field(default_factory=Decoding)
    tuning: Tuning = field(default_factory=Tuning)


@dataclass(frozen=True)
class Example:
    """A source and its target."""

    source: str
    target: str


class Encoded(NamedTuple):
    """An example in tokens, and whether the target ends where its tokens do."""

    pair: Pair
    ends: bool


def read(path: Path) -> list[Example]:
    """The examples of a file. Raises `DataError`, with the line, for what is not as expected."""
    found = []
    for row in read_rows(path, ("source", "target")):
        for name in ("source", "target"):
            text = row.values[name]
            if not isinstance(text, str) or not text.strip():
                raise DataError(
                    f"{path}, line {row.line}: the {name} is {text!r}; expected a text that is not empty. Correct or remove it."
                )
        found.append(Example(row.values["source"], row.values["target"]))
    return found


def sources_of(texts: Sequence[str], tokenizer: Tokenizer, prefix: str, longest: int, what: str = "") -> list[str]:
    """Sources as the model reads them, with their prefix, cut to fit; says how many of `what` were cut."""
    from bert4k.telling import fitted, tell_cuts

    kept, cut = fitted(tokenizer, [prefix + text for text in texts], longest)
    if what:
        tell_cuts(cut, len(kept), what, longest)
    return kept


def encode(examples: Sequence[Example], tokenizer: Tokenizer, settings: Settings, what: str) -> list[Encoded]:
    """Examples of `what` as tokens, cut to fit; says how many were cut. Raises `DataError` for a side of which no token is left."""
    import numpy as np

    from bert4k.pretraining.mapped import Pair
    from bert4k.telling import tell_cuts

    texts = [each.source for each in examples]
    sources = sources_of(texts, tokenizer, settings.prefix, settings.longest_source, f"sources of {what}")
    found = []
    for source, example in zip(sources, examples, strict=True):
        sides = [np.array(tokenizer.spans(text)[0], np.int32) for text in (source, example.target)]
        if not all(len(side) for side in sides):
            raise DataError(f"{example}: one side has characters that are no text, such as control characters. Correct or remove it.")
        pair = Pair(sides[0], sides[1][: settings.longest_target])
        found.append(Encoded(pair, len(sides[1]) <= settings.longest_target))
    tell_cuts(sum(not each.ends for each in found), len(found), f"targets of {what}", settings.longest_target)
    return found


def batches(
    encoded: Sequence[Encoded], network: Transformer, tokenizer: Tokenizer, settings: Settings, shuffle: bool = True
) -> ToldBatches:
    """`[CLS] source [SEP] target [SEP]`, of which the target is told; of an encoder-decoder, sources and targets apart. Without `shuffle`,
    the same tokens are hidden each time."""
    import numpy as np

    from bert4k.decoding.generation import end_token, start_tokens
    from bert4k.pretraining import objectives
    from bert4k.telling import ToldBatches, Written, WrittenBatches

    if network.config.num_decoder_layers:
        end = np.array([end_token(network, tokenizer)], np.int32)
        written = [
            Written(np.array(tokenizer.frame.around([pair.source.tolist()]), np.int32), np.concatenate([pair.target, end[: int(ends)]]))
            for pair, ends in encoded
        ]
        start, tuning = start_tokens(network, tokenizer), settings.tuning
        return WrittenBatches(written, start, tokenizer.pad_id, tuning.tokens, tuning.seed, shuffle)
    special = objectives.Special.of(tokenizer)

    def make(row: int, random: Any) -> objectives.Example:
        pair, ends = encoded[row]
        if settings.objective == "cloze":
            return objectives.seq2seq_cloze(pair, special, random, settings.share, ends)
        return objectives.seq2seq(pair, special, ends)

    lengths = [len(pair.source) + len(pair.target) + 3 for pair, _ in encoded]
    most = [len(pair.target) + ends for pair, ends in encoded]
    return ToldBatches(lengths, most, make, tokenizer.pad_id, settings.tuning.tokens, settings.tuning.seed, shuffle)


def build(settings: Settings) -> tuple[keras.Model, Transformer, Tokenizer]:
    """The model that is trained: logits [B, P, V] where the target is told; the network that writes; its tokenizer."""
    from bert4k import hub
    from bert4k.encoder_decoder import EncoderDecoder
    from bert4k.finetuning import loaded
    from bert4k.telling import teller

    if issubclass(hub.machine(settings.model), EncoderDecoder):
        return _build_encoder_decoder(settings)
    network, tokenizer = loaded(settings.model, settings.tuning, "seq2seq", ("mlm",))
    longest, positions = settings.longest_source + settings.longest_target + 3, network.config.max_position_embeddings
    if longest > positions or settings.longest_source + settings.decoding.max_tokens + 2 > positions:
        raise ConfigError(
            f"A source of {settings.longest_source} tokens, a target of {settings.longest_target} (or, written,"
            f" {settings.decoding.max_tokens}) and 3 marks do not fit the {positions} positions of {settings.model}."
            " Lower --longest_source, --longest_target or --decoding.max_tokens."
        )
    return teller(network, "seq2seq", settings.tuning.dropout), network, tokenizer


def _build_encoder_decoder(settings: Settings) -> tuple[keras.Model, Transformer, Tokenizer]:
    from bert4k.decoding.generation import start_tokens
    from bert4k.finetuning import loaded
    from bert4k.telling import decoder_teller

    if settings.objective != "shifted" or settings.tuning.layer_decay != 1:
        raise ConfigError(
            f"{settings.model} is an encoder-decoder: its decoder tells a token by those before it, and layer_decay knows one stack of"
            " layers only. Leave out --objective cloze and --tuning.layer_decay."
        )
    network, tokenizer = loaded(settings.model, settings.tuning, "encoder", ("logits",))
    start, positions = len(start_tokens(network, tokenizer)), network.config.max_position_embeddings
    longest = settings.longest_source + tokenizer.frame.size(1), start + max(settings.longest_target, settings.decoding.max_tokens)
    if max(longest) > positions:
        raise ConfigError(
            f"A source of {settings.longest_source} tokens makes {longest[0]}, and a target of {settings.longest_target} (or, written,"
            f" {settings.decoding.max_tokens}) {longest[1]}; {settings.model} has {positions} positions for each."
            " Lower --longest_source, --longest_target or --decoding.max_tokens."
        )
    return decoder_teller(network, start, settings.tuning.dropout), network, tokenizer


def answers(network: Transformer, tokenizer: Tokenizer, sources: Sequence[str], decoding: Decoding, objective: str) -> list[str]:
    """The text that is written for each source, which `sources_of` has made fit."""
    from bert4k.decoding import beam, generate, greedy

    if not sources:
        return []
    sampler = beam(decoding.beam, decoding.length_penalty) if decoding.beam > 1 else greedy()
    how: dict[str, Any] = {"max_tokens": decoding.max_tokens, "no_repeat_ngram": decoding.no_repeat_ngram}
    return [each.text for each in generate(network, tokenizer, sources, sampler, cloze=objective == "cloze", **how)]


def score(written: Sequence[str], examples: Sequence[Example]) -> dict[str, float]:
    """ROUGE-1, -2 and -L of characters, BLEU of characters and chrF, all from 0 to 100."""
    from bert4k.scores import bleu, rouge

    targets = [example.target for example in examples]
    found = bleu(written, targets)
    return rouge(written, targets) | {"bleu": found["bleu"], "chrf": found["chrf"]}


# The commands. -------------------------------------------------------------------------------------------------------------------


def train(settings: Settings) -> dict[str, Any]:
    """`bert4k train seq2seq`: train, keep the best epoch, write the run folder; returns the scores on dev."""
    from bert4k import finetuning
    from bert4k.scores import sacrebleu_metrics
    from bert4k.telling import Samples, judge, log_likelihood, some, told_loss

    sacrebleu_metrics()
    if not 0 < settings.share <= 1:
        raise ConfigError(f"--share is {settings.share}; expected a share above 0, such as 0.7.")
    examples, dev = [example for path in settings.train for example in read(path)], read(settings.dev)
    model, network, tokenizer = build(settings)
    learn, judge_by = encode(examples, tokenizer, settings, "train"), encode(dev, tokenizer, settings, "dev")
    on_dev = batches(judge_by, network, tokenizer, settings, shuffle=False)
    chosen, judging, decoding = some(dev, max(settings.judged, 1), settings.tuning.seed), judge(model), settings.decoding
    sources = sources_of([example.source for example in chosen], tokenizer, settings.prefix, settings.longest_source)
    written: list[str] = []

    def judged() -> dict[str, float]:
        total, count = log_likelihood(judging, on_dev)
        written[:] = answers(network, tokenizer, sources, decoding, settings.objective)
        return {"dev_loss": -total / count, **score(written, chosen)}

    best = finetuning.fit(
        settings.run,
        model,
        network.config.num_hidden_layers,
        batches(learn, network, tokenizer, settings),
        told_loss(settings.smoothing),
        judged,
        settings.metric,
        settings.tuning,
        mode="min" if settings.metric == "dev_loss" else "max",
        callbacks=[Samples(settings.run, lambda: shown(chosen[: settings.shown], written))],
    )
    scores = judged()
    report(settings.run, settings.dev, len(dev), scores, chosen, written)
    finetuning.finish(settings.run, network, network, tokenizer, ())
    return {"run": str(settings.run), "epoch": best["epoch"], "judged": len(chosen), **scores}


def shown(examples: Sequence[Example], written: Sequence[str]) -> list[str]:
    """Lines that show what was written, beside the source and the target."""
    rows = zip(examples, written, strict=False)
    return [
        line for example, text in rows for line in (f"source  {example.source[:80]}", f"target  {example.target}", f"written {text}", "")
    ]


def report(folder: Path, path: Path, of: int, scores: dict[str, float], examples: Sequence[Example], written: Sequence[str]) -> None:
    """report.md, the scores and some texts, and texts.jsonl, all that was written."""
    import json

    from bert4k.finetuning import write_text

    names = " | ".join(scores)
    numbers = " | ".join(f"{value:.2f}" for value in scores.values())
    lines = [f"# {path.name}: {len(examples):,} of {of:,} examples", "", f"| {names} |", f"|{'---:|' * len(scores)}", f"| {numbers} |", ""]
    texts = "\n".join(f"    {line}".rstrip() for line in shown(examples[:20], written))
    write_text(folder / "report.md", "\n".join([*lines, texts]))
    rows = [vars(example) | {"written": text} for example, text in zip(examples, written, strict=True)]
    write_text(folder / "texts.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def evaluate(run: Path, path: Path) -> dict[str, Any]:
    """`bert4k evaluate RUN FILE`: the scores on a file; writes evaluation/NAME/ with its report."""
    from bert4k.scores import sacrebleu_metrics

    sacrebleu_metrics()
    examples = read(path)
    written = [each["target"] for each in predict(run, [example.source for example in examples])]
    scores = score(written, examples)
    folder = run / "evaluation" / path.name.split(".")[0]
    folder.mkdir(parents=True, exist_ok=True)
    report(folder, path, len(examples), scores, examples, written)
    return {"file": str(path), "examples": len(examples), **scores}


def predict(run: Path, texts: Sequence[str]) -> list[dict[str, Any]]:
    """`bert4k predict RUN TEXT...`: the text that is written for each, nothing for one that is blank."""
    from bert4k import finetuning

    network, tokenizer, _, settings = finetuning.finished(run, "seq2seq")
    given = [text for text in texts if text.strip()]
    sources = sources_of(given, tokenizer, settings["prefix"], settings["longest_source"], "sources")
    written = iter(answers(network, tokenizer, sources, Decoding(**settings["decoding"]), settings["objective"]))
    return [{"source": text, "target": next(written) if text.strip() else ""} for text in texts]
