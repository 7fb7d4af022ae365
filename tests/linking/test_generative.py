"""Linking by writing a title: what may be written, and how probable it is said to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tiny_runs import TOKENS, checkpoint

import bert4k
from bert4k.linking.entities import Entity
from bert4k.linking.prompts import Asked, Writer
from bert4k.tokenizers import Tokenizer

CANDIDATES = [
    Entity("1", "王明", (), "好书"),
    Entity("2", "王明", (), "坏京", facts=(("义项描述", "在北京的人"),)),
    Entity("3", "龘龘", (), "龘"),  # nothing that this vocabulary has
    Entity("4", "小北", (), "", ("人",)),
]


def test_titles_and_sources() -> None:
    from bert4k.linking.generative import source_of, title

    tokenizer = Tokenizer(TOKENS)
    assert [title(each, tokenizer) for each in CANDIDATES] == ["王明好书", "王明在北京的人", "", "小北人"]
    writer = Writer(tokenizer, 14)
    for before, after in [(0, 0), (3, 2), (20, 1), (1, 20), (20, 20)]:
        source = source_of(Asked("的" * before + "王明" + "书" * after, before, before + 2), writer)
        assert source.count("的") + source.count("书") == min(before + after, 8) and "[MASK]王明[MASK]" in source
        assert len(tokenizer.encode(source).ids) <= 14


def test_ranks_are_probabilities_of_titles(tmp_path: Path) -> None:
    """Those that scoring gives, title by title."""
    from bert4k.linking.generative import build, rank, source_of, title
    from bert4k.tuning import Tuning

    _, network, tokenizer = build(str(checkpoint(tmp_path / "model", ("mlm",))), Tuning())
    writer = Writer(tokenizer, 32)
    asked = [Asked("的王明在京", 1, 3), Asked("小北", 0, 2), Asked("王明", 0, 2)]
    candidates = [CANDIDATES, CANDIDATES[2:3], []]
    found = rank(network, writer, asked, candidates)
    titles = [title(each, tokenizer) for each in CANDIDATES]
    pairs = [(source_of(asked[0], writer), each) for each in titles if each]
    scores = bert4k.score(network, tokenizer, pairs) / [len(each) + 1 for each in titles if each]
    np.testing.assert_allclose(found[0][[0, 1, 3]], np.exp(scores), rtol=1e-3)
    assert found[0][2] == 0 and found[1].tolist() == [0] and found[2].tolist() == []
