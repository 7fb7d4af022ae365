"""`bert4k vocabulary`, `pretrain`, `train`, `evaluate` and `predict`: from texts to a model of one's own, and what it says."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from bert4k.commands.common import RUN, lines_of, print_json, texts_of
from bert4k.commands.declared import Namespace, argument, command
from bert4k.errors import ConfigError, DataError, did_you_mean
from bert4k.quiet import import_backend

# What `bert4k train` knows: a module of bert4k.tasks each, with Settings, train, evaluate and predict.
TASKS = tuple(
    """
    classify dgcnn_qa entity_linking generative_qa language_model mlm_qa multiple_choice ner relation_extraction seq2seq similarity
    """.split()
)


@command(
    argument("files", nargs="*", type=Path, metavar="FILE", help="UTF-8 texts, gzipped or not, with blank lines between documents"),
    argument("--pairs", nargs="+", type=Path, metavar="FILE", help="files with source<TAB>target in each line"),
    argument("--out", type=Path, required=True, metavar="FILE", help="vocab.txt to write; must not exist"),
    argument("--size", type=int, default=8000, help="the most tokens"),
    argument("--special", nargs="+", metavar="TOKEN", help="tokens that mark something, such as [TRANSLATE]"),
    argument("--words", type=int, default=0, metavar="N", help="how many of the most frequent Chinese words, as jieba finds them"),
    argument("--latin", type=int, metavar="N", help="how many pieces of letters and digits (without it: what the texts warrant)"),
    argument("--minimum-count", type=int, default=5, metavar="N", help="leave out what occurs fewer times"),
)
def vocabulary(options: Namespace) -> None:
    """Make a vocab.txt from texts: characters, pieces of words of letters and digits, and Chinese words if asked for."""
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


@command()
def pretrain(options: Namespace) -> None:
    """Pretrain a transformer on plain text, or go on after it was stopped or killed."""
    from bert4k.tasks import pretrain as recipe

    recipe.main(options.arguments)


@command()
def train(options: Namespace) -> None:
    """Fine-tune a model on a task; without one, tells which tasks there are."""
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
        print_json(task.train(settings))


@command(
    RUN,
    argument("file", type=Path, help="examples with the right answers, as in training"),
    argument("--json", action="store_true", help="one JSON object"),
)
def evaluate(options: Namespace) -> None:
    """The scores of a run of `bert4k train` on a file."""
    scores = task_of(options).evaluate(options.model, options.file)
    if options.json:
        print_json(scores)
    else:
        for name, value in scores.items():
            print(f"{name}\t{value:.4f}" if isinstance(value, float) else f"{name}\t{value}")


@command(
    RUN,
    argument("texts", nargs="*", metavar="TEXT", help="text; - reads lines from standard input"),
    argument("--question", metavar="TEXT", help="of a run that answers questions: what is asked"),
    argument("--passages", type=Path, metavar="FILE", help="of --question: a text file, a passage a line"),
)
def predict(options: Namespace) -> None:
    """What a run of `bert4k train` says of texts, as JSON lines."""
    if (options.question is None) != (options.passages is None) or bool(options.texts) == (options.question is not None):
        raise ConfigError("Say what to predict: one TEXT or more, or --question with --passages.")
    if options.question is None:
        texts = texts_of(options.texts)
    else:
        texts = [json.dumps({"question": options.question, "passages": lines_of(options.passages)})]
    for answer in task_of(options).predict(options.model, texts):
        print_json(answer)


def task_of(options: Namespace) -> Any:
    """The recipe that made a run."""
    from bert4k.recipe import recipe_of

    name = recipe_of(options.model, TASKS)
    import_backend()
    return import_module(f"bert4k.tasks.{name}")
