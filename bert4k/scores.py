"""How good predictions are: by class, confusion, entities, correlation, written texts, answers; as numbers, as a table, as a picture."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bert4k import canvas
from bert4k.canvas import INK, WHITE
from bert4k.errors import ConfigError


class ClassScore(NamedTuple):
    """Precision, recall and F1, from 0 to 1, and how many examples are of the class."""

    precision: float
    recall: float
    f1: float
    support: int


def f1(right: int, found: int, expected: int) -> ClassScore:
    """Of so many found ones, and so many that there are, so many are right."""
    precision, recall = right / found if found else 0.0, right / expected if expected else 0.0
    return ClassScore(precision, recall, 2 * right / (found + expected) if found + expected else 0.0, expected)


def by_class(predicted: Sequence[Collection[str]], gold: Sequence[Collection[str]], labels: Sequence[str]) -> dict[str, ClassScore]:
    """The score of each label; every example has any number of labels, predicted and right ones."""
    found = {}
    for label in labels:
        own = [(label in mine, label in right) for mine, right in zip(predicted, gold, strict=True)]
        found[label] = f1(sum(a and b for a, b in own), sum(a for a, _ in own), sum(b for _, b in own))
    return found


def overlap(predicted: Sequence[Collection[Hashable]], gold: Sequence[Collection[Hashable]]) -> ClassScore:
    """The score of things, such as (start, end, kind) of entities, in all examples together (micro-average): right is what is in both."""
    pairs = [(set(mine), set(right)) for mine, right in zip(predicted, gold, strict=True)]
    return f1(sum(len(a & b) for a, b in pairs), sum(len(a) for a, _ in pairs), sum(len(b) for _, b in pairs))


# Correlation. --------------------------------------------------------------------------------------------------------------------


def ranks(values: Sequence[float] | NDArray[Any]) -> NDArray[np.float64]:
    """The place of each value in their order, from 1; equal ones share the mean of their places."""
    _, which, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[which]


def pearson(one: Sequence[float] | NDArray[Any], other: Sequence[float] | NDArray[Any]) -> float:
    """The correlation of two lists of numbers, from -1 to 1; 0 where all numbers of one are the same, which go with nothing."""
    a, b = (np.asarray(each, np.float64) - np.mean(each) for each in (one, other))
    lengths = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / lengths if lengths > 1e-12 else 0.0


def spearman(one: Sequence[float] | NDArray[Any], other: Sequence[float] | NDArray[Any]) -> float:
    """The correlation of the ranks (Spearman 1904): 1 where both have the same order."""
    return pearson(ranks(one), ranks(other))


def area_under_curve(scores: Sequence[float] | NDArray[Any], right: Sequence[bool] | NDArray[Any]) -> float:
    """How probable it is that something right scores higher than something wrong (the area under the ROC curve); 0.5 without either."""
    which = np.asarray(right, bool)
    yes, no = int(which.sum()), int((~which).sum())
    return (float(ranks(scores)[which].sum()) - yes * (yes + 1) / 2) / (yes * no) if yes and no else 0.5


# Written texts. ------------------------------------------------------------------------------------------------------------------


def rouge(candidates: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Mean F1 of single characters, of pairs of neighbours and of the longest common subsequence (Lin 2004, W04-1013), in percent:
    "rouge_1", "rouge_2", "rouge_l". In lower case, white space left out. Own code: the packages cut words at spaces, and bring much along.
    """
    scores: dict[str, list[float]] = {"rouge_1": [], "rouge_2": [], "rouge_l": []}
    for candidate, reference in zip(candidates, references, strict=True):
        own, other = ("".join(text.lower().split()) for text in (candidate, reference))
        for size in (1, 2):
            grams = [Counter(text[at : at + size] for at in range(len(text) - size + 1)) for text in (own, other)]
            scores[f"rouge_{size}"].append(f1((grams[0] & grams[1]).total(), grams[0].total(), grams[1].total()).f1)
        scores["rouge_l"].append(f1(common_subsequence(own, other), len(own), len(other)).f1)
    return {name: 100 * float(np.mean(values)) for name, values in scores.items()}


def common_subsequence(one: str, other: str) -> int:
    """Length of the longest common subsequence."""
    before = [0] * (len(other) + 1)
    for char in one:
        now = [0]
        for at, against in enumerate(other):
            now.append(before[at] + 1 if char == against else max(before[at + 1], now[at]))
        before = now
    return before[-1]


def bleu(candidates: Sequence[str], references: Sequence[str], lowercase: bool = False) -> dict[str, Any]:
    """BLEU with sacrebleu's Chinese tokenisation (characters) and chrF, in percent, each with the signature that says how it was computed:
    "bleu", "chrf", "signatures". Raises `ConfigError` without sacrebleu."""
    BLEU, CHRF = sacrebleu_metrics()
    metrics = BLEU(tokenize="zh", lowercase=lowercase), CHRF(lowercase=lowercase)
    scores = [metric.corpus_score(list(candidates), [list(references)]).score for metric in metrics]
    return {"bleu": scores[0], "chrf": scores[1], "signatures": [str(metric.get_signature()) for metric in metrics]}


def sacrebleu_metrics() -> tuple[Any, Any]:
    """The classes BLEU and CHRF of sacrebleu. Raises `ConfigError` when it is not installed: better before a training than after it."""
    try:
        from sacrebleu.metrics import BLEU, CHRF
    except ImportError as error:
        raise ConfigError("BLEU and chrF are counted by sacrebleu, which is not installed. Run: pip install sacrebleu") from error
    return BLEU, CHRF


# Answers. ------------------------------------------------------------------------------------------------------------------------


def plain(answer: str) -> str:
    """An answer as it is compared: half-width, in lower case, without punctuation and white space."""
    return "".join(char for char in unicodedata.normalize("NFKC", answer).lower() if unicodedata.category(char)[0] not in "PZC")


def exact(answer: str, gold: Collection[str]) -> bool:
    """Whether an answer is one of the right ones, all as `plain`; none, "", is right where there is none."""
    return plain(answer) in ({plain(each) for each in gold} or {""})


def character_f1(answer: str, gold: Collection[str]) -> float:
    """F1 of the characters of an answer (as a multiset) and those of the right one that it is likest to, all as `plain`, from 0 to 1."""
    if not gold:
        return float(not plain(answer))
    return max(bag_f1(plain(answer), plain(each)) for each in gold)


def bag_f1(one: Iterable[str], other: Iterable[str]) -> float:
    """F1 of two multisets, of characters or words, from 0 to 1."""
    own, others = Counter(one), Counter(other)
    return f1((own & others).total(), own.total(), others.total()).f1


# Tables and pictures. ------------------------------------------------------------------------------------------------------------


def table(scores: dict[str, ClassScore], title: str = "class") -> str:
    """Scores as a Markdown table, in percent."""
    lines = [f"| {title} | precision | recall | F1 | examples |", "|---|---:|---:|---:|---:|"]
    for name, each in scores.items():
        shown = name.replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {shown} | {100 * each.precision:.2f} | {100 * each.recall:.2f} | {100 * each.f1:.2f} | {each.support:,} |")
    return "\n".join(lines)


def confusion(predicted: Sequence[str], gold: Sequence[str], labels: Sequence[str]) -> NDArray[np.int64]:
    """How often each label (row) was taken for each (column): [C, C]."""
    number = {label: place for place, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(counts, ([number[each] for each in gold], [number[each] for each in predicted]), 1)
    return counts


def draw_confusion(counts: NDArray[np.int64], labels: Sequence[str], path: str | Path, title: str) -> None:
    """`confusion` as a picture, .png or .svg: the darker a cell, the larger its share of its row. Raises `DataError` as `canvas.save` does,
    and for more labels than a picture shows."""
    canvas.check_count(len(labels))
    canvas.save(lambda: _figure(counts, labels, title), path)


def _figure(counts: NDArray[np.int64], labels: Sequence[str], title: str) -> Any:
    from matplotlib.figure import Figure

    cell = min(0.7, max(0.2, 9 / len(labels)))  # inches
    figure = Figure(figsize=(cell * len(labels), cell * len(labels)), facecolor=WHITE)
    axes = figure.add_axes((0, 0, 1, 1))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1.1, edgecolors=WHITE, linewidth=1)
    axes.invert_yaxis()
    names = [(label, INK) for label in labels]
    canvas.name_sides(axes, cell, names, names)
    if cell >= 0.3:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = WHITE if shares[row, column] > 0.6 else INK
                axes.text(column + 0.5, row + 0.5, str(count), ha="center", va="center", color=colour, fontsize=14 * cell)
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("told", labelpad=8, color=INK)
    axes.set_ylabel("right", labelpad=8, color=INK)
    axes.set_title(title, pad=14, fontsize=14)
    return figure
