"""The tables of a model card from a file of results, so that nobody copies a number by hand.

python -m bert4k.tasks.shipped.tables pretrained/wenbai/results.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Sequence[str]
STARTS = ("checkpoint", "scratch")
DOMAINS = ("modern", "classical", "poems", "laws", "tech", "novel")


def markdown(head: Row, rows: Sequence[Row]) -> str:
    """A table in Markdown."""
    first, *others = (f"| {' | '.join(row)} |" for row in (head, *rows))
    return "\n".join([first, f"|{'---|' * len(head)}", *others])


def language(results: Mapping[str, Any]) -> str:
    """What is told of hidden tokens and of the next one, by domain."""
    head = (
        "domain",
        "hidden tokens told exactly (by the commonest token)",
        "characters only",
        "perplexity per character, left to right",
        "trigram (Kneser-Ney) on the same training text",
    )
    rows = []
    for domain in DOMAINS:
        masked, following = results["masked"]["domains"][domain], results["lm"]["domains"][domain]
        told = [f"{masked[kind]['accuracy']:.1%} ({masked[kind]['commonest']:.1%})" for kind in ("tokens", "characters")]
        rows.append((domain, *told, f"{following['perplexity']:.0f}", f"{following['trigram']:.0f}"))
    return markdown(head, rows)


def jobs(results: Mapping[str, Any], name: str) -> str:
    """What it does with sources: translations, titles and couplets."""
    translation, titles, couplets = (results[each] for each in ("translation", "titles", "couplets"))
    best, greedy, copied = (translation[each]["bleu"] for each in ("beam_4", "greedy", "copying_the_source"))
    rows = [
        (
            f"translation, {translation['pairs']} pairs of held-out chapters: BLEU (sacrebleu, zh), beam 4",
            f"{best:.1f} (greedy {greedy:.1f})",
            f"{copied:.1f} by copying the source",
        )
    ]
    for key, what in (("articles", "held-out articles"), ("csl", "abstracts of CSL, of which it never saw any")):
        mine, clause = (titles[key][each] for each in ("beam_4", "first_clause"))
        numbers = [f"{each['rouge_l']:.1f}, {each['bleu']:.1f}" for each in (mine, clause)]
        rows.append((f"titles, {titles[key]['pairs']} {what}: ROUGE-L, BLEU", numbers[0], f"{numbers[1]} by the first clause"))
    for key, what in (("parallel_lines", "held-out parallel lines"), ("human", "couplets written by people")):
        lines, preference = couplets[key]["beam_8"], couplets[key]["preference"]
        shares = f"{lines['share_as_long']:.0%}; {lines['share_without_repeat']:.0%}"
        rows.append((f"{lines['answers']} {what}, answered: as long as the first line; no character repeated", shares, ""))
        likelier = f"{preference['share_true_likelier']:.0%} of {preference['couplets']}"
        rows.append(("the true second line likelier than another of its length", likelier, "50% by chance"))
    return markdown(("", name, "for comparison"), rows)


# Of models of the same kind that read 14 GB of text (UER's RoBERTa miniatures: layers / width), on the same dev files; best of a grid.
PUBLISHED = {"chnsenticorp": "91.4 (2/128), 93.7 (4/256)", "book_review": "83.4 (2/128), 85.7 (4/256)"}
TASKS = {"chnsenticorp": "ChnSentiCorp, accuracy", "book_review": "book_review, accuracy", "msra": "MSRA entities, own split, F1"}


def finetuned(results: Mapping[str, Any]) -> str:
    """What tasks gain from starting at the checkpoint, by task; means of the seeds."""
    rows = []
    for name, title in TASKS.items():
        task = results["finetuned"][name]
        metric = task["metric"].split()[0]
        scores = [f"{task[start][metric]:.1f} ({', '.join(f'{each:.1f}' for each in task[start]['of_seeds'])})" for start in STARTS]
        rows.append((title, f"{task['train']:,}; {task['steps']}", *scores, f"{task['gain']:+.1f}", PUBLISHED.get(name, "")))
    return markdown(
        ("dev", "examples; steps", "from the checkpoint (seeds)", "from scratch", "gain", "published, with 14 GB of text"), rows
    )


def main() -> None:
    """Print the tables of a file of results."""
    parser = argparse.ArgumentParser(description="The tables of a model card, in Markdown.")
    parser.add_argument("results", type=Path, help="a file that `python -m bert4k.tasks.shipped.measure` wrote")
    results = json.loads(parser.parse_args().results.read_text(encoding="utf-8"))
    print(f"{language(results)}\n\n{jobs(results, results['about']['model'])}")
    if "finetuned" in results:
        print(f"\n{finetuned(results)}")


if __name__ == "__main__":
    main()
