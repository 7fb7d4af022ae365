"""Made-up texts, their tokenizer and shards, and a tiny model with uneven distributions."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from decoding.conftest import randomise

from bert4k.pretraining.mapped import Stretch
from bert4k.pretraining.objectives import Special
from bert4k.pretraining.shards import Shards, prepare
from bert4k.tokenizers import Tokenizer

# Words of jieba's dictionary with one, two, three and four characters.
WORDS = "今天 天气 我们 学习 图书馆 北京 喜欢 汽车 早上 大学生 一帆风顺 的 很 好 在 去 书 看 和 人".split()
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[翻译]", "，", "。", *sorted(set("".join(WORDS)))]
TOKENIZER = Tokenizer(TOKENS, special_tokens=["[翻译]"])
SPECIAL = Special.of(TOKENIZER)


def ids(tokens: str) -> list[int]:
    """The ids of tokens parted by spaces; · is nothing to tell."""
    return [-1 if token == "·" else TOKENS.index(token) for token in tokens.split()]


def stretch(text: str, ends: bool = True) -> Stretch:
    """A text whose words are parted by spaces and whose lines by slashes."""
    words = [(line == 0, word) for words in text.split("/") for line, word in enumerate(words.split())]
    starts = [(starts_line and place == 0, place == 0) for starts_line, word in words for place in range(len(word))]
    starts_line, starts_word = np.array(starts, bool).reshape(-1, 2).T
    return Stretch(np.array(ids(" ".join("".join(word for _, word in words))), np.int32), starts_word, starts_line, ends)


def some_stretch(seed: int, lines: int = 3, words: int = 4) -> Stretch:
    """Up to so many lines of up to so many words."""
    chance = random.Random(seed)
    count = chance.randint(1, lines)
    return stretch("/".join(" ".join(chance.choices(WORDS, k=chance.randint(1, words))) for _ in range(count)), chance.random() < 0.5)


def document(chance: random.Random, lines: int, words: int) -> list[str]:
    """Lines of about so many words."""
    return ["".join(chance.choices(WORDS, k=chance.randint(1, 2 * words - 1))) + "。" for _ in range(lines)]


class Corpus(NamedTuple):
    """Two corpora of running text, a small one of short documents, and pairs."""

    long: Shards
    short: Shards
    pairs: Shards


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder, chance = tmp_path_factory.mktemp("corpus"), random.Random(0)

    def write(name: str, text: str) -> Path:
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
        return folder / name

    long = [document(chance, chance.randint(1, 12), 5) for _ in range(120)]
    short = [document(chance, 1, 3) for _ in range(50)]
    pairs = [("[翻译]" + "".join(document(chance, 1, 3)), "".join(document(chance, 1, 3))) for _ in range(150)]
    texts = {name: write(f"{name}.txt", "\n\n".join(map("\n".join, lines))) for name, lines in (("long", long), ("short", short))}
    tsv = write("pairs.tsv", "".join(f"{source}\t{target}\n" for source, target in pairs))
    return Corpus(
        *(prepare(folder / name, TOKENIZER, [path], workers=0) for name, path in texts.items()),
        prepare(folder / "pairs", TOKENIZER, pairs=[tsv], workers=0),
    )


def make_tiny(sentence_order: bool = True, layers: int = 2, dtype: str | None = None) -> Any:
    """A transformer as `pretrain` makes it, with large weights, so that what comes out depends on all that was seen."""
    from bert4k.config import Config
    from bert4k.pretraining.trainer import make_transformer

    shape = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 64}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = make_transformer(Config(len(TOKENIZER), num_hidden_layers=layers, **shape, **dropout), sentence_order, dtype)
    randomise(model, 3)
    return model
