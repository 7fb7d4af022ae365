"""The command line: `bert4k COMMAND ...`, one function a command.

Results go to standard output, as plain text for people or with --json for programs, one JSON object a line; everything else goes
to standard error. A text of `-` stands for the lines of standard input. Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import reduce
from importlib import import_module
from operator import and_
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bert4k
from bert4k.errors import CheckpointError, ConfigError, DataError, Error, did_you_mean
from bert4k.quiet import import_backend

if TYPE_CHECKING:
    from bert4k.decoding.constraints import Constraint
    from bert4k.decoding.samplers import Sampler


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 2 after an error that is the user's to mend."""
    parser = _parser()
    given = list(sys.argv[1:] if arguments is None else arguments)
    # A recipe reads its settings itself: they may come from a file, too.
    own = {"train": train} | dict.fromkeys(RECIPES, _recipe)
    recipe = given and given[0] in own
    options = argparse.Namespace(command=given[0], run=own[given[0]], arguments=given[1:]) if recipe else parser.parse_args(given)
    if not hasattr(options, "run"):
        parser.print_help()
        return 0
    try:
        options.run(options)
    except Error as error:
        print(f"bert4k {options.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    return 0


# Recipes of bert4k.tasks that are commands, with what they do.
RECIPES = {"pretrain": "Pretrain a transformer on plain text, or go on after it was stopped or killed."}
# Those of one task, for `bert4k train`: a module each with Settings, train, evaluate and predict.
TASKS = tuple(
    """
    classify dgcnn_qa entity_linking generative_qa language_model mlm_qa multiple_choice ner relation_extraction seq2seq similarity
    """.split()
)


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Tells every default but those that only say that an option was not given."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None or action.default is False else super()._get_help_string(action)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "bert4k", description="One pretrained transformer, many machines: the attention mask decides what it is."
    )
    parser.add_argument("--version", action="version", version=f"bert4k {bert4k.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    def command(run: Callable[[Any], None], help: str) -> argparse.ArgumentParser:
        added = commands.add_parser(run.__name__.strip("_"), help=help, description=help, formatter_class=_Help)
        added.set_defaults(run=run)
        return added

    def model(added: argparse.ArgumentParser, mask: str, texts: str = "text") -> None:
        added.add_argument("model", help="folder of a checkpoint, .keras file, or a name that `bert4k list` shows")
        added.add_argument("texts", nargs="+", metavar="TEXT", help=f"{texts}; - reads lines from standard input")
        usual = mask if mask == "lm" else f"{mask}, and lm for GPT and its like"
        how = f"attention mask: a name or an expression such as 'causal & window(64) | source' (default: {usual})"
        added.add_argument("--mask", help=how)
        added.set_defaults(usual_mask=mask)
        added.add_argument("--json", action="store_true", help="one JSON object a line")

    added = command(generate, "Write texts: continue them under the mask lm, answer them under seq2seq.")
    model(added, "seq2seq", "source")
    how = added.add_mutually_exclusive_group()
    how.add_argument("--beam", type=int, metavar="WIDTH", help="beam search of this width (without it or --sample: greedy)")
    how.add_argument("--sample", action="store_true", help="draw tokens at random")
    added.add_argument("--length-penalty", type=float, default=0.0, help="of the beam: scores are divided by length ** penalty")
    added.add_argument(
        "--groups", type=int, default=1, help="of the beam: so many groups that keep away from each other, for texts that differ"
    )
    added.add_argument("--temperature", type=float, default=1.0, help="of sampling: below 1 is bolder")
    added.add_argument("--top-k", type=int, help="of sampling: draw from the k most probable tokens")
    added.add_argument("--top-p", type=float, help="of sampling: draw from the most probable tokens that reach this probability")
    added.add_argument("--min-p", type=float, help="of sampling: draw from tokens with at least this share of the highest probability")
    added.add_argument("--seed", type=int, help="of sampling: the same seed gives the same texts")
    added.add_argument("--count", type=int, default=1, help="texts for each source (beam or sampling)")
    added.add_argument("--max-tokens", type=int, default=64, help="longest text")
    added.add_argument("--min-tokens", type=int, default=0, help="shortest text")
    added.add_argument("--no-repeat-ngram", type=int, default=0, help="no sequence of so many tokens comes twice; 0 is off")
    added.add_argument("--repetition-penalty", type=float, default=1.0, help="above 1 makes tokens written before less likely")
    added.add_argument(
        "--cloze", action="store_true", help="the checkpoint tells a token by a [MASK] in its place (objective seq2seq_cloze)"
    )
    added.add_argument(
        "--prompt-lookup", type=int, default=0, metavar="N", help="propose N tokens a step from the source: same texts, sooner"
    )
    added.add_argument("--one-of", type=Path, metavar="FILE", help="write only texts of this file, one a line")
    added.add_argument("--copy-source", action="store_true", help="write only what stands in the source")
    added.add_argument("--without", type=Path, metavar="FILE", help="write none of the phrases of this file, one a line")
    added.add_argument("--starting-with", metavar="TEXT", help="begin every text so")
    added.add_argument("--stream", action="store_true", help="print each text as it is written")

    added = command(fill, "Fill every [MASK] of a text.")
    model(added, "encoder", "text with [MASK]")
    added.add_argument("--top-k", type=int, default=5, help="candidates for each [MASK]")

    added = command(infill, "Fill the blanks of a text together: [MASK] is one token, [MASK]{3} three, [MASK]{1,6} one to six.")
    model(added, "encoder", "text, or text<TAB>pair, with blanks")
    added.add_argument("--order", default="confidence", help="confidence, left_to_right, right_to_left, or numbers of blanks such as 2,0,1")
    added.add_argument("--iterations", type=int, metavar="N", help="fill all blanks at once, then mend them in N - 1 passes (mask-predict)")
    added.add_argument("--length-penalty", type=float, default=1.0, help="lengths are compared by log-probability / tokens ** penalty")

    added = command(score, "Log-probability of texts (pseudo-log-likelihood under the mask encoder).")
    model(added, "lm", "text, or source<TAB>target for the mask seq2seq")
    added.add_argument("--order", help="of the mask permuted: left_to_right, right_to_left, random, or numbers of tokens such as 2,0,1")

    added = command(embed, "One vector a text.")
    model(added, "encoder", "text, or text<TAB>pair")
    added.add_argument("--pooling", default="mean", help="mean, max, first or pooled")
    added.add_argument("--out", type=Path, help="write a NumPy array [texts, hidden] to this .npy file instead")

    added = command(inspect, "What a checkpoint holds, without loading it.")
    added.add_argument("model", help="folder or prefix of a checkpoint, an .index file, or a name that `bert4k list` shows")
    added.add_argument("--family", help="whose checkpoint it is, where config and tensor names do not tell")
    added.add_argument("--all", action="store_true", help="list every tensor and its fate")
    added.add_argument("--json", action="store_true", help="one JSON object")

    added = command(verify, "Compare with transformers on PyTorch: a checkpoint, layer by layer, or every family on every backend.")
    added.add_argument("model", nargs="?", help="folder or prefix of a checkpoint, or a name that `bert4k list` shows")
    added.add_argument(
        "--all", action="store_true", help="models with random weights, of the size of a base model; prints a Markdown table"
    )
    added.add_argument("--against", default="huggingface", choices=["huggingface"], help="whose computation is compared with")
    added.add_argument("--backends", default="tensorflow,jax,torch", help="of --all, with commas")
    added.add_argument("--no-gradients", action="store_true", help="outputs and hidden states only")
    added.add_argument("--json", action="store_true", help="one JSON object a comparison")

    picture: dict[str, Any] = {"type": Path, "metavar": "FILE", "dest": "picture"}
    picture["help"] = "draw to this .png or .svg file instead of the terminal"
    added = command(mask, "Draw a mask over a text, a source and its target, the turns of a dialogue, or packed texts.")
    added.add_argument(
        "mask", metavar="MASK", help="a name (encoder, lm, seq2seq ...) or an expression such as 'causal & window(3) | source'"
    )
    added.add_argument(
        "texts",
        nargs="+",
        metavar="TEXT",
        help="a source, its target, and so on by turns; texts of their own, or source<TAB>target, when the mask has same_document",
    )
    added.add_argument("--two-stream", action="store_true", help="under permuted: also the [MASK] query of each token, as in XLNet")
    added.add_argument("--png", "--svg", **picture)

    added = command(attention, "How much each token of a text looks at each other one, in a layer of the model.")
    model(added, "encoder", "a text, or a source and its target")
    added.add_argument("--layer", type=int, default=-1, metavar="NUMBER", help="from 0, or from the end: -1 is the last")
    added.add_argument("--head", default="mean", metavar="HEAD", help="a number from 0, mean, or all")
    added.add_argument("--png", "--svg", **picture)

    added = command(convert, "Write a checkpoint in another format.")
    added.add_argument("source", help="folder of a checkpoint, .keras file, or a name that `bert4k list` shows")
    added.add_argument("folder", type=Path, help="new folder to write")
    added.add_argument("--to", required=True, choices=("google", "huggingface", "keras"), help="format to write")

    added = command(
        vocabulary, "Make a vocab.txt from texts: characters, pieces of words of letters and digits, and Chinese words if asked for."
    )
    added.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="UTF-8 texts, gzipped or not, with blank lines between documents"
    )
    added.add_argument("--pairs", nargs="+", type=Path, metavar="FILE", help="files with source<TAB>target in each line")
    added.add_argument("--out", type=Path, required=True, metavar="FILE", help="vocab.txt to write; must not exist")
    added.add_argument("--size", type=int, default=8000, help="the most tokens")
    added.add_argument("--special", nargs="+", metavar="TOKEN", help="tokens that mark something, such as [TRANSLATE]")
    added.add_argument("--words", type=int, default=0, metavar="N", help="how many of the most frequent Chinese words, as jieba finds them")
    added.add_argument("--latin", type=int, metavar="N", help="how many pieces of letters and digits (without it: what the texts warrant)")
    added.add_argument("--minimum-count", type=int, default=5, metavar="N", help="leave out what occurs fewer times")

    for name, help in RECIPES.items():
        commands.add_parser(name, help=help, add_help=False)

    commands.add_parser("train", help=f"Fine-tune a model on a task: {', '.join(TASKS)}.", add_help=False)

    added = command(evaluate, "The scores of a run of `bert4k train` on a file.")
    added.add_argument("model", type=Path, metavar="RUN", help="folder of the run")
    added.add_argument("file", type=Path, help="examples with the right answers, as in training")
    added.add_argument("--json", action="store_true", help="one JSON object")

    added = command(predict, "What a run of `bert4k train` says of texts, as JSON lines.")
    added.add_argument("model", type=Path, metavar="RUN", help="folder of the run")
    added.add_argument("texts", nargs="*", metavar="TEXT", help="text; - reads lines from standard input")
    added.add_argument("--question", metavar="TEXT", help="of a run that answers questions: what is asked")
    added.add_argument("--passages", type=Path, metavar="FILE", help="of --question: a text file, a passage a line")

    added = command(search, "Of the texts of a file, those nearest to each text, by a run of `bert4k train similarity --kind bi`.")
    added.add_argument("model", type=Path, metavar="RUN", help="folder of the run, where the vectors of the file are kept")
    added.add_argument("file", type=Path, help="one text a line (.txt), a table or JSON lines with a column text")
    added.add_argument("texts", nargs="+", metavar="TEXT", help="text; - reads lines from standard input")
    added.add_argument("--nearest", type=int, default=10, metavar="N", help="texts of the file for each text")
    added.add_argument("--json", action="store_true", help="one JSON object a line")

    added = command(ask, "Answer questions from a folder of texts, with the evidence, by a run of dgcnn_qa, generative_qa or mlm_qa.")
    added.add_argument("corpus", type=Path, help="folder of .txt, .md and .gz files, or one file; an index is kept in it")
    added.add_argument("texts", nargs="+", metavar="QUESTION", help="question; - reads lines from standard input")
    added.add_argument("--run", dest="model", type=Path, required=True, metavar="RUN", help="folder of the run")
    added.add_argument("--passages", type=int, default=10, metavar="N", help="passages to look for and to answer from")
    added.add_argument("--index", type=Path, metavar="FOLDER", help="where the index is kept (default: .bert4k-index in the corpus)")
    added.add_argument("--json", action="store_true", help="one JSON object a line")

    added = command(link, "What the mentions in texts mean in a knowledge base, by a run of `bert4k train entity_linking`.")
    added.add_argument("model", type=Path, metavar="RUN", help="folder of the run")
    added.add_argument("texts", nargs="+", metavar="TEXT", help="text; - reads lines from standard input")
    added.add_argument("--kb", type=Path, metavar="FILE", help="a knowledge base that was built, instead of the one of the training")
    added.add_argument("--changed", action="store_true", help="it may hold other entities than in training")
    added.add_argument("--json", action="store_true", help="one JSON object a line")

    added = command(_list, "Checkpoints that can be loaded by name, and whether they are on this machine.")
    added.add_argument("--family", metavar="NAME", help="only those of a family: bert, albert, electra ...")
    added.add_argument("--json", action="store_true", help="one JSON object a line, with all that is known of a checkpoint")

    added = command(download, "Fetch checkpoints by name; what was interrupted goes on. Hugging Face's come from $HF_ENDPOINT.")
    added.add_argument("names", nargs="+", metavar="NAME", help="a name that `bert4k list` shows")
    added.add_argument("--folder", type=Path, help="put it into this new folder (without it: into $BERT4K_HOME, ~/.cache/bert4k)")
    return parser


def generate(options: argparse.Namespace) -> None:
    """bert4k generate"""
    import_backend()
    sampler = _sampler(options)
    settings = ("max_tokens", "min_tokens", "no_repeat_ngram", "repetition_penalty", "cloze", "prompt_lookup")
    how = {name: getattr(options, name) for name in settings}
    how["constraints"] = _constraints(options)
    texts = _texts(options.texts)
    model, tokenizer = _load(options, ("mlm",))
    if options.stream:
        for text in texts:
            for piece in bert4k.stream(model, tokenizer, text, sampler, **how):
                print(piece, end="", flush=True)
            print()
        return
    for source, written in zip(texts, bert4k.generate(model, tokenizer, texts, sampler, **how), strict=True):
        alternatives = [written, *written.alternatives]
        if options.json:
            shown = [{"text": text.text, "score": text.score, "ended": text.ended, "log_probs": text.log_probs} for text in alternatives]
            _print_json({"source": source, **shown[0], "alternatives": shown[1:]})
        else:
            print("\n".join(text.text for text in alternatives))


def _constraints(options: argparse.Namespace) -> Constraint | None:
    """What all of the given options admit; None without any."""
    from bert4k import constraints

    asked = [constraints.one_of(_lines(options.one_of))] if options.one_of else []
    asked += [constraints.substring_of()] if options.copy_source else []
    asked += [constraints.without(_lines(options.without))] if options.without else []
    asked += [constraints.starting_with(options.starting_with)] if options.starting_with is not None else []
    return reduce(and_, asked) if asked else None


def _sampler(options: argparse.Namespace) -> Sampler:
    if options.count > 1 and options.beam is None and not options.sample:
        raise ConfigError(f"--count {options.count}: greedy decoding knows one text. Add --sample, or --beam with at least that width.")
    if options.beam is not None:
        return bert4k.beam(options.beam, options.length_penalty, options.count, options.groups)
    if options.sample:
        return bert4k.sample(options.temperature, options.top_k, options.top_p, options.seed, options.count, options.min_p)
    return bert4k.greedy()


def fill(options: argparse.Namespace) -> None:
    """bert4k fill"""
    import_backend()
    texts = _texts(options.texts)
    model, tokenizer = _load(options, ("mlm",))
    for text in texts:
        blanks = bert4k.fill(model, tokenizer, text, options.top_k)
        if options.json:
            _print_json({"text": text, "blanks": [[candidate._asdict() for candidate in blank] for blank in blanks]})
        else:
            for blank in blanks:
                print("  ".join(f"{token} {probability:.3f}" for token, probability in blank))


def infill(options: argparse.Namespace) -> None:
    """bert4k infill"""
    import_backend()
    how = {"order": _order(options.order), "iterations": options.iterations, "length_penalty": options.length_penalty}
    texts = _texts(options.texts)
    model, tokenizer = _load(options, ("mlm",))
    for given, filled in zip(texts, bert4k.infill(model, tokenizer, _pairs(texts), **how), strict=True):
        if options.json:
            best, *others = [{"text": str(one), "fills": one.fills, "score": one.score} for one in (filled, *filled.alternatives)]
            _print_json({"given": given, **best, "log_probs": filled.log_probs, "steps": filled.steps, "alternatives": others})
        else:
            print(filled)


def _order(text: str) -> str | tuple[int, ...]:
    """The name of an order, or its numbers."""
    numbers = text.replace(",", " ").split()
    return tuple(map(int, numbers)) if all(number.isdecimal() for number in numbers) else text


def score(options: argparse.Namespace) -> None:
    """bert4k score"""
    import_backend()
    texts = _texts(options.texts)
    order = None if options.order is None else _order(options.order)
    model, tokenizer = _load(options, ("mlm",))
    for text, value in zip(texts, bert4k.score(model, tokenizer, _pairs(texts), order=order), strict=True):
        if options.json:
            _print_json({"text": text, "log_probability": float(value)})
        else:
            print(f"{value:.3f}\t{text}")


def embed(options: argparse.Namespace) -> None:
    """bert4k embed"""
    import_backend()
    texts = _texts(options.texts)
    model, tokenizer = _load(options, ("pooled",) if options.pooling == "pooled" else ("sequence",))
    vectors = bert4k.embed(model, tokenizer, _pairs(texts), options.pooling)
    if options.out is None:
        for text, vector in zip(texts, vectors, strict=True):
            numbers = [round(float(value), 6) for value in vector]
            print(json.dumps({"text": text, "vector": numbers}, ensure_ascii=False) if options.json else " ".join(map(str, numbers)))
        return
    import numpy as np

    from bert4k.checkpoints.stored import replacing

    with replacing(options.out) as (temporary,), temporary.open("wb") as file:
        np.save(file, vectors)
    print(f"wrote {vectors.shape[0]} vectors of {vectors.shape[1]} numbers to {options.out}", file=sys.stderr)


def inspect(options: argparse.Namespace) -> None:
    """bert4k inspect"""
    import_backend(light=True)
    found = bert4k.inspect(options.model, options.family)
    summary, report = found.summary, found.report
    if options.json:
        tensors = [{"name": t.name, "shape": t.shape, "dtype": str(t.dtype), "fate": t.fate} for t in summary.tensors]
        fits = report and {name: getattr(report, name) for name in ("matched", "missing", "misshapen", "unused", "optimizer", "ignored")}
        about = {name: getattr(summary, name) for name in ("path", "layout", "family", "layers", "parameters", "nbytes")}
        config = found.config and found.config.to_dict()
        _print_json(
            {**about, "vocabulary": found.vocabulary, "config": config, "report": fits, "problem": found.problem, "tensors": tensors}
        )
        return
    layers = f", {summary.layers} layers" if summary.layers else ""
    print(f"{summary.path}\n{summary.layout} layout, family {summary.family}{layers}")
    print(f"{len(summary.tensors)} tensors, {summary.parameters:,} parameters, {summary.nbytes / 2**20:.1f} MiB")
    if found.config:
        print("config: " + ", ".join(f"{name}={value}" for name, value in found.config.to_dict().items()))
    if found.vocabulary is not None:
        print(f"vocabulary: {found.vocabulary:,} tokens")
    if report:
        kinds = ("matched", "missing", "misshapen", "unused", "optimizer", "ignored")
        print("as a model with every output: " + ", ".join(f"{len(getattr(report, kind))} {kind}" for kind in kinds))
        for ours, stored in report.missing.items():
            print(f"  missing    {ours} (looked for {stored})")
        for ours, expected, shape in report.misshapen:
            print(f"  misshapen  {ours}: {shape} in the checkpoint, {expected} in the model")
        for name in report.unused:
            print(f"  unused     {name}")
    if found.problem:
        print(f"not loadable by this version: {found.problem}")
    if options.all:
        for tensor in summary.tensors:
            print(f"  {tensor.fate:9}  {tensor.dtype!s:8}  {'x'.join(map(str, tensor.shape)) or 'scalar':>12}  {tensor.name}")


def verify(options: argparse.Namespace) -> None:
    """bert4k verify"""
    if options.all == bool(options.model):
        raise ConfigError("Say what to verify: the folder or name of a checkpoint, or --all for every family with random weights.")
    import_backend(light=options.all)  # of all, each comparison has a process of its own
    from bert4k import fidelity

    gradients = not options.no_gradients
    backends = [backend.strip() for backend in options.backends.split(",")]
    found = fidelity.compare_all(backends) if options.all else [fidelity.compare(options.model, gradients)]
    if options.json:
        for each in found:
            _print_json(each.to_dict())
    elif options.all:
        print(fidelity.table(found))
    else:
        print(fidelity.report(found[0]))
    if wrong := [(each, first) for each in found if (first := each.departs())]:
        each, first = wrong[0]
        raise CheckpointError(
            f"{each.family} on {each.backend} departs from transformers, first at {first.name}: by {first.difference:.1e} of"
            f" {first.size:.3g}, where rounding explains {fidelity.OUTPUT_TOLERANCE:.0e} ({fidelity.GRADIENT_TOLERANCE:.0e} of a gradient)."
        )


def mask(options: argparse.Namespace) -> None:
    """bert4k mask"""
    # A random order depends on the backend that draws it, so it is the one that models run on.
    import_backend(light="permuted(" not in options.mask.replace(" ", ""))
    from bert4k import masks, pictures

    drawn = masks.get(options.mask)
    picture = pictures.MaskPicture.of(drawn, _texts(options.texts), options.two_stream)
    if options.picture is None:
        print(f"{masks.title(drawn)}\n{picture.text()}")
    else:
        picture.save(options.picture, masks.title(drawn))
        print(f"wrote {options.picture}", file=sys.stderr)


def attention(options: argparse.Namespace) -> None:
    """bert4k attention"""
    texts = _texts(options.texts)
    if len(texts) > 2:
        raise DataError(f"Got {len(texts)} texts; attention is shown over one, or over a source and its target. Put quotes round each.")
    text = (texts[0], texts[1]) if len(texts) == 2 else _pairs(texts)[0]
    if options.picture is not None:
        from bert4k import canvas

        canvas.check_target(options.picture)  # rather now than after the model has run
    import_backend()
    model, tokenizer = _load(options, ("sequence",))
    maps = bert4k.attention(model, tokenizer, text)
    which = (options.layer, int(options.head) if options.head.removeprefix("-").isdecimal() else options.head)
    if options.picture is not None:
        maps.save(options.picture, *which)
        print(f"wrote {options.picture}", file=sys.stderr)
    elif options.json:
        chosen = maps.select(*which)
        layer = range(len(maps.probabilities))[options.layer]
        for head, probabilities in chosen.items():
            rows = [[round(float(value), 6) for value in row] for row in probabilities]
            _print_json({"tokens": maps.tokens, "mask": maps.mask, "layer": layer, "head": head, "probabilities": rows})
    else:
        print(f"{maps.mask}\n{maps.text(*which)}")


def convert(options: argparse.Namespace) -> None:
    """bert4k convert"""
    import_backend()
    from bert4k import hub

    path = hub.locate(options.source)
    hub.check_target(options.folder)
    model, tokenizer = hub.load_all(path)
    bert4k.save(model, tokenizer, options.folder, options.to)
    print(f"wrote {len(model.weight_names())} weights in the {options.to} layout to {options.folder}", file=sys.stderr)


def vocabulary(options: argparse.Namespace) -> None:
    """bert4k vocabulary"""
    if options.out.exists():
        raise DataError(f"{options.out} exists, and a vocabulary that a model has learnt cannot be replaced. Choose another --out.")
    from bert4k.checkpoints.stored import replacing
    from bert4k.pretraining.vocabulary import choose_tokens, count_words, coverage

    special = options.special or ()
    counts = count_words(options.files, options.pairs or (), special_tokens=special, chinese=options.words > 0)
    limits = {name: getattr(options, name) for name in ("size", "minimum_count", "latin", "words")}
    tokens = choose_tokens(counts, special_tokens=special, **limits)
    with replacing(options.out) as (temporary,):
        temporary.write_bytes("".join(f"{token}\n" for token in tokens).encode())
    found = coverage(tokens, counts)
    print(
        f"wrote {len(tokens):,} tokens to {options.out}; they cover {found.covered / found.characters:.3%}"
        f" of {found.characters:,} characters; {found.left_out:,} different characters were left out",
        file=sys.stderr,
    )


def train(options: argparse.Namespace) -> None:
    """bert4k train"""
    from bert4k.recipe import alone, parse_settings, same_settings

    name, *arguments = options.arguments or ["--help"]
    if name not in TASKS:
        usage = f"bert4k train TASK ... trains on a task: {', '.join(TASKS)}. `bert4k train {TASKS[0]} --help` lists settings."
        if name in ("-h", "--help"):
            print(usage)
            return
        raise ConfigError(f"There is no task {name!r}.{did_you_mean(name, TASKS)} {usage}")
    task = import_module(f"bert4k.tasks.{name}")
    settings = parse_settings(
        task.Settings, arguments, f"bert4k train {name}", str(task.__doc__).partition("\n")[0], "--run FOLDER --train FILE --dev FILE ..."
    )
    import_backend()
    with alone(settings.run):
        if not any(settings.run.glob("**/metrics.jsonl")):  # nothing was trained yet: a setting that was wrong may be corrected
            (settings.run / "settings.json").unlink(missing_ok=True)
        same_settings(settings, settings.run / "settings.json", ("run",), recipe=name)
        if (settings.run / getattr(task, "LAST", "model.keras")).exists():  # what is written at the end
            raise ConfigError(
                f"{settings.run} is finished. `bert4k predict {settings.run} TEXT` uses it; give another --run to train anew."
            )
        _print_json(task.train(settings))


def evaluate(options: argparse.Namespace) -> None:
    """bert4k evaluate"""
    scores = _task_of(options).evaluate(options.model, options.file)
    if options.json:
        _print_json(scores)
    else:
        for name, value in scores.items():
            print(f"{name}\t{value:.4f}" if isinstance(value, float) else f"{name}\t{value}")


def predict(options: argparse.Namespace) -> None:
    """bert4k predict"""
    if (options.question is None) != (options.passages is None) or bool(options.texts) == (options.question is not None):
        raise ConfigError("Say what to predict: one TEXT or more, or --question with --passages.")
    if options.question is None:
        texts = _texts(options.texts)
    else:
        texts = [json.dumps({"question": options.question, "passages": _lines(options.passages)})]
    for answer in _task_of(options).predict(options.model, texts):
        _print_json(answer)


def search(options: argparse.Namespace) -> None:
    """bert4k search"""
    task = _task_of(options)
    if not hasattr(task, "search"):
        raise ConfigError(f"{options.model} is a run of {task.__name__.rpartition('.')[2]}. Searching needs one of similarity, kind bi.")
    for answer in task.search(options.model, options.file, _texts(options.texts), options.nearest):
        if options.json:
            _print_json(answer)
            continue
        print(answer["text"])
        for found in answer["nearest"]:
            print(f"{found['alike']:.4f}\t{found['line']}\t{found['text']}")


def ask(options: argparse.Namespace) -> None:
    """bert4k ask"""
    from bert4k import asking
    from bert4k.retrieval import open_corpus

    questions = _texts(options.texts)
    asking.check(questions, options.passages)
    task = _task_of(options)
    index = open_corpus(options.corpus, options.index)
    for told in asking.answered(index, asking.reader_of(task, options.model), questions, options.passages):
        if options.json:
            _print_json(told)
        else:
            asking.show(told)


def link(options: argparse.Namespace) -> None:
    """bert4k link"""
    import_backend()
    from bert4k.linking import command

    command.link(options.model, _texts(options.texts), options.kb, options.changed, options.json)


def _task_of(options: argparse.Namespace) -> Any:
    """The recipe that made a run."""
    from bert4k.recipe import recipe_of

    name = recipe_of(options.model, TASKS)
    import_backend()
    return import_module(f"bert4k.tasks.{name}")


def _recipe(options: argparse.Namespace) -> None:
    """bert4k pretrain"""
    import_module(f"bert4k.tasks.{options.command}").main(options.arguments)


def _list(options: argparse.Namespace) -> None:
    """bert4k list"""
    from bert4k.download import local_copy
    from bert4k.pretrained import catalogue

    rows = list(catalogue().values())
    families = {row["family"] for row in rows}
    if options.family is not None:
        if options.family not in families:
            raise ConfigError(f"There is no family {options.family!r} in the catalogue.{did_you_mean(options.family, families)}")
        rows = [row for row in rows if row["family"] == options.family]
    if options.json:
        for row in rows:
            folder = local_copy(row["name"])
            _print_json(row | {"folder": str(folder) if folder else None})
        return
    table = [("name", "family", "layers", "parameters", "megabytes", "licence", "here", "")]
    for row in rows:
        megabytes = sum(file["megabytes"] or 0 for file in row["files"])
        layers = f"{row['layers']} x {row['hidden_size'] or '?'}" if row["layers"] else "?"
        parameters = f"{row['parameters']:,}" if row["parameters"] else "?"
        size, here = f"{megabytes:,.0f}" if megabytes else "?", "yes" if local_copy(row["name"]) else "no"
        table.append((row["name"], row["family"], layers, parameters, size, row["licence"] or "not stated", here, row["title"]))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        print(
            "  ".join(
                cell.rjust(width) if 1 < at < 5 else cell.ljust(width) for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ).rstrip()
        )


def download(options: argparse.Namespace) -> None:
    """bert4k download"""
    from bert4k import download as downloads

    if options.folder is not None and len(options.names) > 1:
        raise ConfigError(f"--folder takes one checkpoint, and {len(options.names)} were named. Fetch them one after another.")
    for name in options.names:
        print(downloads.download(name, options.folder))


def _load(options: argparse.Namespace, outputs: tuple[str, ...]) -> tuple[Any, Any]:
    """The model that the command asks for, without --mask under the usual one of the command, unless its family is one machine only. An
    encoder-decoder calls its output layer "logits"."""
    from bert4k.hub import machine

    kind = machine(options.model)
    outputs = tuple(kind.vocabulary_output if name == "mlm" else name for name in outputs)
    if kind.vocabulary_output == "logits":
        return bert4k.load(options.model, options.mask, outputs)
    model, tokenizer = bert4k.load(options.model, options.mask or options.usual_mask, outputs)
    if options.mask is None and model.config.mask != "encoder":
        model = model.with_mask(model.config.mask)
    return model, tokenizer


def _texts(texts: Sequence[str]) -> list[str]:
    """The texts of the command line, `-` replaced by the lines of standard input."""
    found: list[str] = []
    for text in texts:
        try:
            found += [line.rstrip("\r\n") for line in sys.stdin] if text == "-" else [text]
        except UnicodeDecodeError as error:
            raise DataError(
                f"Standard input is not {error.encoding.upper()} ({error}). Convert it first, for example with iconv."
            ) from error
    if not found:
        raise DataError("Standard input holds no line. Give one text a line.")
    return found


def _lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file that are not blank."""
    try:
        return [line for line in path.read_text("utf-8-sig").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read {path}: {error}. Expected a UTF-8 file with one text a line.") from error


def _pairs(texts: Sequence[str]) -> list[Any]:
    """A text with a tab as a pair."""
    return [tuple(text.split("\t", 1)) if "\t" in text else text for text in texts]


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))


if __name__ == "__main__":
    sys.exit(main())
