"""`bert4k search`, `ask` and `link`: what a run of `bert4k train` finds in files, folders and knowledge bases."""

from __future__ import annotations

from pathlib import Path

from bert4k.commands.common import JSON_LINES, RUN, TEXTS, print_json, texts_of
from bert4k.commands.declared import Namespace, argument, command
from bert4k.commands.learning import task_of
from bert4k.errors import ConfigError
from bert4k.quiet import import_backend


@command(
    argument("model", type=Path, metavar="RUN", help="folder of the run, where the vectors of the file are kept"),
    argument("file", type=Path, help="one text a line (.txt), a table or JSON lines with a column text"),
    TEXTS,
    argument("--nearest", type=int, default=10, metavar="N", help="texts of the file for each text"),
    JSON_LINES,
)
def search(options: Namespace) -> None:
    """Of the texts of a file, those nearest to each text, by a run of `bert4k train similarity --kind bi`."""
    task = task_of(options)
    if not hasattr(task, "search"):
        raise ConfigError(f"{options.model} is a run of {task.__name__.rpartition('.')[2]}. Searching needs one of similarity, kind bi.")
    for answer in task.search(options.model, options.file, texts_of(options.texts), options.nearest):
        if options.json:
            print_json(answer)
            continue
        print(answer["text"])
        for found in answer["nearest"]:
            print(f"{found['alike']:.4f}\t{found['line']}\t{found['text']}")


@command(
    argument("corpus", type=Path, help="folder of .txt, .md and .gz files, or one file; an index is kept in it"),
    argument("texts", nargs="+", metavar="QUESTION", help="question; - reads lines from standard input"),
    argument("--run", dest="model", type=Path, required=True, metavar="RUN", help="folder of the run"),
    argument("--passages", type=int, default=10, metavar="N", help="passages to look for and to answer from"),
    argument("--index", type=Path, metavar="FOLDER", help="where the index is kept (default: .bert4k-index in the corpus)"),
    JSON_LINES,
)
def ask(options: Namespace) -> None:
    """Answer questions from a folder of texts, with the evidence, by a run of dgcnn_qa, generative_qa or mlm_qa."""
    from bert4k import asking
    from bert4k.retrieval import open_corpus

    questions = texts_of(options.texts)
    asking.check(questions, options.passages)
    task = task_of(options)
    index = open_corpus(options.corpus, options.index)
    for told in asking.answered(index, asking.reader_of(task, options.model), questions, options.passages):
        if options.json:
            print_json(told)
        else:
            asking.show(told)


@command(
    RUN,
    TEXTS,
    argument("--kb", type=Path, metavar="FILE", help="a knowledge base that was built, instead of the one of the training"),
    argument("--changed", action="store_true", help="it may hold other entities than in training"),
    JSON_LINES,
)
def link(options: Namespace) -> None:
    """What the mentions in texts mean in a knowledge base, by a run of `bert4k train entity_linking`."""
    import_backend()
    from bert4k.commands import links

    links.link(options.model, texts_of(options.texts), options.kb, options.changed, options.json)
