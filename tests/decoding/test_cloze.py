"""Decoding of checkpoints that tell a token by a [MASK] in its own place, against one text at a time in plain Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from decoding import cloze_reference, reference
from decoding.conftest import SOURCES, SPECIAL, tiny_model
from decoding.test_generation import END, FORBIDDEN, LIMIT, MASKS, SAMPLERS, alike, rows_of, same
from marks import on_backends

import bert4k
from bert4k import VocabularyError
from bert4k.decoding import generation

# PyTorch's compiler, once it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")


def expected(model: Any, tokenizer: Any, sources: Sequence[str], sampler: Any, limit: int = LIMIT) -> list[list[reference.Found]]:
    """The hypotheses of each source, as plain Python finds them."""
    bert, rows = reference.Bert(model, str(model.mask)), rows_of(model, tokenizer, sources)
    uniform = generation.random_numbers(rows, sampler, limit)
    found = []
    for place, row in enumerate(rows):
        after = cloze_reference.after(bert, row, int("source" in str(model.mask)), tokenizer.mask_id)
        after = reference.constrained(after, END, FORBIDDEN)
        match sampler:
            case bert4k.decoding.samplers.Beam():
                found.append(reference.beam(after, END, limit, sampler.beams, sampler.length_penalty, sampler.n_best))
            case bert4k.decoding.samplers.Sample():
                cut = (sampler.temperature, sampler.top_k, sampler.top_p)
                found.append([reference.sample(after, END, limit, uniform[place, 0], *cut)])
            case _:
                found.append([reference.greedy(after, END, limit)])
    return found


@pytest.mark.parametrize(
    ("mask", "sampler"),
    on_backends(
        [("lm", "greedy"), ("lm", "beam"), ("seq2seq", "greedy"), ("seq2seq", "sample cut"), ("seq2seq", "beam"), (MASKS[2], "beam")],
        ("lm", "beam"),
        ("seq2seq", "sample cut"),
    ),
)
def test_cached_equals_uncached(under: Callable[[str], Any], tokenizer: Any, mask: str, sampler: str) -> None:
    ours = bert4k.generate(under(mask), tokenizer, SOURCES, SAMPLERS[sampler], max_tokens=LIMIT, cloze=True)
    same(ours, expected(under(mask), tokenizer, SOURCES, SAMPLERS[sampler]))
    shifted = bert4k.generate(under(mask), tokenizer, SOURCES, SAMPLERS[sampler], max_tokens=LIMIT)
    assert [one.text for one in ours] != [one.text for one in shifted], "the two kinds of checkpoint are asked alike"


def test_a_batch_equals_each_source_alone_and_a_stream(under: Callable[[str], Any], tokenizer: Any) -> None:
    model = under("seq2seq")
    together = bert4k.generate(model, tokenizer, SOURCES, max_tokens=LIMIT, cloze=True)
    for place, source in enumerate(SOURCES[:4]):
        alike(bert4k.generate(model, tokenizer, [source], max_tokens=LIMIT, cloze=True), [together[place]])
        assert "".join(bert4k.stream(model, tokenizer, source, max_tokens=LIMIT, cloze=True)) == together[place].text


def test_every_position_of_the_model_can_be_used(under: Callable[[str], Any], tokenizer: Any) -> None:
    source, limit = "一二三四五六七八九十" * 4, 48 - 41
    [one] = bert4k.generate(under("lm"), tokenizer, [source], max_tokens=limit, min_tokens=limit, cloze=True)
    assert len(one.token_ids) == limit
    assert np.isfinite(one.log_probs).all()


def test_only_cloze_needs_a_mask_token() -> None:
    small = bert4k.Tokenizer([*(token for token in SPECIAL if token != "[MASK]"), "一", "二"])
    model = tiny_model(len(small), mask="lm", layers=1)
    assert len(bert4k.generate(model, small, ["一"], max_tokens=2, min_tokens=2)[0].token_ids) == 2
    with pytest.raises(VocabularyError, match="MASK"):
        bert4k.generate(model, small, ["一"], max_tokens=2, cloze=True)
