"""Prompt lookup against plain Python, and texts with and without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from decoding.conftest import SOURCES, tiny_model
from decoding.test_generation import LIMIT, SAMPLERS, alike
from keras import ops
from marks import on_backends

import bert4k
from bert4k import ConfigError, constraints
from bert4k.decoding import lookup, loop

# PyTorch's compiler, once it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")


def followers(source: Sequence[int], written: Sequence[int]) -> list[int] | None:
    """What followed the earliest of the longest matches of the last tokens written, up to the end of all; None without a match."""

    def matched(text: Sequence[int], last: int) -> int:
        pairs = zip(reversed(text[: last + 1]), reversed(written), range(lookup.LONGEST), strict=False)
        count = 0
        for ours, theirs, _ in pairs:
            if ours != theirs:
                break
            count += 1
        return count

    places = [(matched(source, last), source[last + 1 :]) for last in range(len(source) - 1)]
    places += [(matched(written, last), written[last + 1 :]) for last in range(len(written) - 1)]
    best = max((count for count, _ in places), default=0)
    return next((list(rest) for count, rest in places if count == best), None) if best else None


@pytest.mark.backends
def test_what_followed_before_is_proposed() -> None:
    rng = np.random.default_rng(0)
    rows, width, room, slots, count = 40, 3, 9, 7, 3
    source = rng.integers(5, 9, (rows, room)).astype("int32")
    lengths = rng.integers(1, room + 1, rows)
    real = np.arange(room) < lengths[:, None]
    source = np.where(real, source, 0).astype("int32")
    tokens = rng.integers(5, 9, (rows, width, slots)).astype("int32")
    length = rng.integers(1, slots + 1, (rows, width)).astype("int32")
    found = ops.convert_to_numpy(lookup.proposed(*map(ops.convert_to_tensor, (source, real, tokens, length)), count))
    assert found.shape == (rows, width, count)
    compared = 0
    for row, hypothesis in np.ndindex(rows, width):
        expected = followers(source[row, : lengths[row]].tolist(), tokens[row, hypothesis, : length[row, hypothesis]].tolist())
        if expected:
            compared += 1
            assert found[row, hypothesis, : len(expected[:count])].tolist() == expected[:count]
    assert compared > rows


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often a decoder that goes step by step has done so."""
    seen: list[int] = []
    original = loop.Decoder.steps

    def counted(self: Any, request: Any) -> Any:
        for state in original(self, request):
            seen.append(1)
            yield state

    monkeypatch.setattr(loop.Decoder, "steps", counted)
    return seen


@pytest.mark.parametrize(
    ("mask", "sampler", "proposals"),
    on_backends(product(("lm", "seq2seq"), ("greedy", "sample", "sample cut"), (1, 4)), ("lm", "greedy", 4), ("seq2seq", "sample cut", 1)),
)
def test_texts_stay_the_same(under: Callable[[str], Any], tokenizer: Any, mask: str, sampler: str, proposals: int) -> None:
    model, sampled = under(mask), SAMPLERS[sampler]
    plain = bert4k.generate(model, tokenizer, SOURCES, sampled, max_tokens=12)
    alike(bert4k.generate(model, tokenizer, SOURCES, sampled, max_tokens=12, prompt_lookup=proposals), plain)


def test_texts_stay_the_same_under_rules_and_constraints(under: Callable[[str], Any], tokenizer: Any) -> None:
    settings: dict[str, Any] = {"max_tokens": 10, "min_tokens": 5, "no_repeat_ngram": 2, "repetition_penalty": 1.3}
    settings["constraints"] = constraints.substring_of() & constraints.starting_with("上")
    sources = ["上下左右上下中", "东上西南上北", "上"]
    for sampler in (bert4k.greedy(), bert4k.sample(seed=2, count=3)):
        plain = bert4k.generate(under("seq2seq"), tokenizer, sources, sampler, **settings)
        alike(bert4k.generate(under("seq2seq"), tokenizer, sources, sampler, **settings, prompt_lookup=3), plain)


def test_every_position_of_the_model_can_be_used(under: Callable[[str], Any], tokenizer: Any) -> None:
    source, limit = "一二三四五六七八九十" * 4, 48 - 41
    plain = bert4k.generate(under("lm"), tokenizer, [source], max_tokens=limit, min_tokens=limit)
    alike(bert4k.generate(under("lm"), tokenizer, [source], max_tokens=limit, min_tokens=limit, prompt_lookup=6), plain)


@pytest.mark.backends
def test_a_text_that_repeats_comes_in_fewer_steps(tokenizer: Any, steps: list[int]) -> None:
    """A model that always writes the same token: after two of them each proposal is right."""
    model = tiny_model(mask="lm", layers=1)
    model.parts["mlm"].bias.assign(np.eye(model.config.vocab_size)[9] * 1000.0)
    written = "".join(bert4k.stream(model, tokenizer, "上下", max_tokens=23))
    assert len(written) == 23
    plain = len(steps)
    del steps[:]
    assert "".join(bert4k.stream(model, tokenizer, "上下", max_tokens=23, prompt_lookup=4)) == written
    assert plain == 23
    # One token from the source, one by which the second is known, and then five at a time, as far as what is proposed was written already.
    assert len(steps) < 14


@pytest.mark.parametrize(
    ("settings", "words"),
    (
        ({"prompt_lookup": -1}, "prompt_lookup=-1"),
        ({"prompt_lookup": True}, "prompt_lookup=True"),
        ({"prompt_lookup": 2, "sampler": bert4k.beam(2)}, "a beam follows several"),
        ({"prompt_lookup": 2, "cloze": True}, "cloze=True"),
    ),
)
def test_what_does_not_go_together_is_named(under: Callable[[str], Any], tokenizer: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        bert4k.generate(under("lm"), tokenizer, ["上"], max_tokens=LIMIT, **settings)
