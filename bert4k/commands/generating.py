"""`bert4k generate`, `fill` and `infill`: what a model writes."""

from __future__ import annotations

from functools import reduce
from operator import and_
from pathlib import Path
from typing import TYPE_CHECKING

import bert4k
from bert4k.commands.common import lines_of, load, model_and_texts, order_of, pairs, print_json, texts_of
from bert4k.commands.declared import Namespace, argument, command, either
from bert4k.errors import ConfigError
from bert4k.quiet import import_backend

if TYPE_CHECKING:
    from bert4k.decoding.constraints import Constraint
    from bert4k.decoding.samplers import Sampler

SEARCHED = (
    either(
        argument("--beam", type=int, metavar="WIDTH", help="beam search of this width (without it or --sample: greedy)"),
        argument("--sample", action="store_true", help="draw tokens at random"),
    ),
    argument("--length-penalty", type=float, default=0.0, help="of the beam: scores are divided by length ** penalty"),
    argument("--groups", type=int, default=1, help="of the beam: so many groups that keep away from each other, for texts that differ"),
    argument("--temperature", type=float, default=1.0, help="of sampling: below 1 is bolder"),
    argument("--top-k", type=int, help="of sampling: draw from the k most probable tokens"),
    argument("--top-p", type=float, help="of sampling: draw from the most probable tokens that reach this probability"),
    argument("--min-p", type=float, help="of sampling: draw from tokens with at least this share of the highest probability"),
    argument("--seed", type=int, help="of sampling: the same seed gives the same texts"),
    argument("--count", type=int, default=1, help="texts for each source (beam or sampling)"),
)
WRITTEN = (
    argument("--max-tokens", type=int, default=64, help="longest text"),
    argument("--min-tokens", type=int, default=0, help="shortest text"),
    argument("--no-repeat-ngram", type=int, default=0, help="no sequence of so many tokens comes twice; 0 is off"),
    argument("--repetition-penalty", type=float, default=1.0, help="above 1 makes tokens written before less likely"),
    argument("--cloze", action="store_true", help="the checkpoint tells a token by a [MASK] in its place (objective seq2seq_cloze)"),
    argument("--prompt-lookup", type=int, default=0, metavar="N", help="propose N tokens a step from the source: same texts, sooner"),
)
CONSTRAINED = (
    argument("--one-of", type=Path, metavar="FILE", help="write only texts of this file, one a line"),
    argument("--copy-source", action="store_true", help="write only what stands in the source"),
    argument("--without", type=Path, metavar="FILE", help="write none of the phrases of this file, one a line"),
    argument("--starting-with", metavar="TEXT", help="begin every text so"),
)


@command(
    *model_and_texts("seq2seq", "source"),
    *SEARCHED,
    *WRITTEN,
    *CONSTRAINED,
    argument("--stream", action="store_true", help="print each text as it is written"),
)
def generate(options: Namespace) -> None:
    """Write texts: continue them under the mask lm, answer them under seq2seq."""
    import_backend()
    sampler = _sampler(options)
    settings = ("max_tokens", "min_tokens", "no_repeat_ngram", "repetition_penalty", "cloze", "prompt_lookup")
    how = {name: getattr(options, name) for name in settings}
    how["constraints"] = _constraints(options)
    texts = texts_of(options.texts)
    model, tokenizer = load(options, "seq2seq", ("mlm",))
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
            print_json({"source": source, **shown[0], "alternatives": shown[1:]})
        else:
            print("\n".join(text.text for text in alternatives))


def _constraints(options: Namespace) -> Constraint | None:
    """What all of the given options admit; None without any."""
    from bert4k import constraints

    asked = [constraints.one_of(lines_of(options.one_of))] if options.one_of else []
    asked += [constraints.substring_of()] if options.copy_source else []
    asked += [constraints.without(lines_of(options.without))] if options.without else []
    asked += [constraints.starting_with(options.starting_with)] if options.starting_with is not None else []
    return reduce(and_, asked) if asked else None


def _sampler(options: Namespace) -> Sampler:
    if options.count > 1 and options.beam is None and not options.sample:
        raise ConfigError(f"--count {options.count}: greedy decoding knows one text. Add --sample, or --beam with at least that width.")
    if options.beam is not None:
        return bert4k.beam(options.beam, options.length_penalty, options.count, options.groups)
    if options.sample:
        return bert4k.sample(options.temperature, options.top_k, options.top_p, options.seed, options.count, options.min_p)
    return bert4k.greedy()


@command(
    *model_and_texts("encoder", "text with [MASK]"),
    argument("--top-k", type=int, default=5, help="candidates for each [MASK]"),
)
def fill(options: Namespace) -> None:
    """Fill every [MASK] of a text."""
    import_backend()
    texts = texts_of(options.texts)
    model, tokenizer = load(options, "encoder", ("mlm",))
    for text in texts:
        blanks = bert4k.fill(model, tokenizer, text, options.top_k)
        if options.json:
            print_json({"text": text, "blanks": [[candidate._asdict() for candidate in blank] for blank in blanks]})
        else:
            for blank in blanks:
                print("  ".join(f"{token} {probability:.3f}" for token, probability in blank))


@command(
    *model_and_texts("encoder", "text, or text<TAB>pair, with blanks"),
    argument("--order", default="confidence", help="confidence, left_to_right, right_to_left, or numbers of blanks such as 2,0,1"),
    argument("--iterations", type=int, metavar="N", help="fill all blanks at once, then mend them in N - 1 passes (mask-predict)"),
    argument("--length-penalty", type=float, default=1.0, help="lengths are compared by log-probability / tokens ** penalty"),
)
def infill(options: Namespace) -> None:
    """Fill the blanks of a text together: [MASK] is one token, [MASK]{3} three, [MASK]{1,6} one to six."""
    import_backend()
    how = {"order": order_of(options.order), "iterations": options.iterations, "length_penalty": options.length_penalty}
    texts = texts_of(options.texts)
    model, tokenizer = load(options, "encoder", ("mlm",))
    for given, filled in zip(texts, bert4k.infill(model, tokenizer, pairs(texts), **how), strict=True):
        if options.json:
            best, *others = [{"text": str(one), "fills": one.fills, "score": one.score} for one in (filled, *filled.alternatives)]
            print_json({"given": given, **best, "log_probs": filled.log_probs, "steps": filled.steps, "alternatives": others})
        else:
            print(filled)
