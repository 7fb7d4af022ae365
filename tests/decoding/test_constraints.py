"""Constrained generation against lists: of every text there is, those that may come are written down, and searched one by one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import cache
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from decoding import reference
from decoding.conftest import SPECIAL, tiny_model
from decoding.test_generation import END, FORBIDDEN, alike, rows_of, same, tokens
from marks import on_backends

import bert4k
from bert4k import ConfigError, DataError, constraints
from bert4k.decoding import generation, languages, loop
from bert4k.decoding.constraints import Constraint

# PyTorch's compiler, once it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")

LIMIT = 4
# Chinese with and without ##, and words of pieces.
WRITABLE = ["一", "二", "##一", "ab", "##c", "d"]
SOURCES = ["一二一", "abc d 二", "二", "d ab", "dx一", "一abcc二"]
SAMPLERS = {
    "greedy": bert4k.greedy(),
    "sample": bert4k.sample(temperature=2.0, seed=3),
    "beam": bert4k.beam(3, length_penalty=0.6, n_best=2),
    "wide beam": bert4k.beam(700, n_best=700),
}
IDS = range(len(SPECIAL), len(SPECIAL) + len(WRITABLE))
TEXTS = [text for length in range(LIMIT + 1) for text in itertools.product(IDS, repeat=length)]

Texts = set[tuple[int, ...]]


@pytest.fixture(scope="module")
def small() -> Any:
    return bert4k.Tokenizer([*SPECIAL, *WRITABLE])


@pytest.fixture(scope="module")
def machine(small: Any) -> Callable[[str], Any]:
    model = tiny_model(len(small), seed=4, layers=1)
    machines = {mask: model.with_mask(mask) for mask in ("lm", "seq2seq")}
    return machines.__getitem__


def ids_of(small: Any, text: str) -> tuple[int, ...]:
    return tuple(small.token_to_id(token) for token in small.tokenize(text))


def goes_on(token: int) -> bool:
    return WRITABLE[token - len(SPECIAL)].startswith("##")


@cache
def members(small: Any, constraint: Constraint, source: str) -> Texts:
    """The texts of a constraint, by the words of its description."""
    match constraint:
        case constraints.Joined(left, right, operator):
            sides = members(small, left, source), members(small, right, source)
            return set.intersection(*sides) if operator == "&" else set.union(*sides)
        case constraints.Not(inner):
            return set(TEXTS) - members(small, inner, source)
        case constraints.Empty():
            return {()}
        case constraints.OneOf(phrases):
            return {ids_of(small, phrase) for phrase in phrases} & set(TEXTS)
        case constraints.StartingWith(phrase):
            prefix = ids_of(small, phrase)
            return {text for text in TEXTS if text[: len(prefix)] == prefix}
        case constraints.Without(phrases):
            surfaces = {text: [WRITABLE[token - len(SPECIAL)].removeprefix("##") for token in text] for text in TEXTS}
            runs = {text: {"".join(parts[i:j]) for i in range(LIMIT) for j in range(i + 1, LIMIT + 1)} for text, parts in surfaces.items()}
            return {text for text in TEXTS if runs[text].isdisjoint(phrase.replace(" ", "") for phrase in phrases)}
        case constraints.SubstringOf(passages):
            found = set()
            for passage in (source,) if passages is None else passages:
                ids = ids_of(small, passage)
                for start, end in itertools.combinations(range(len(ids) + 1), 2):
                    inside = not set(ids[start:end]) & set(FORBIDDEN)
                    if inside and not goes_on(ids[start]) and (end == len(ids) or ids[end] in FORBIDDEN or not goes_on(ids[end])):
                        found.add(ids[start:end])
            return found & set(TEXTS)
    raise AssertionError(constraint)


def within(next_token: reference.Next, texts: Texts, limit: int, min_tokens: int = 0, no_repeat_ngram: int = 0) -> reference.Next:
    """`next_token` with -inf for what leads to none of these texts. Of the other rules, each is kept where it leaves something."""

    def after(written: tuple[int, ...]) -> np.ndarray:
        open_ = {(*text, END)[len(written)] for text in texts if len(text) <= limit and text[: len(written)] == written}
        seen = {written[at : at + no_repeat_ngram] for at in range(len(written) - no_repeat_ngram + 1)}
        begun = written[len(written) - no_repeat_ngram + 1 :]
        for keeps in (
            lambda token: not no_repeat_ngram or (*begun, token) not in seen,
            lambda token: token != END or len(written) >= min_tokens,
        ):
            open_ = {token for token in open_ if keeps(token)} or open_
        values = next_token(written).copy()
        values[[token for token in range(len(values)) if token not in open_]] = -math.inf
        return values

    return after


def expected(model: Any, small: Any, sources: Sequence[str], sampler: Any, each: Sequence[Constraint], **rules: int) -> list[Any]:
    """The hypotheses of each source, as plain Python finds them."""
    bert, rows = reference.Bert(model, str(model.mask)), rows_of(model, small, sources)
    limit = rules.pop("limit", LIMIT)
    uniform = generation.random_numbers(rows, sampler, LIMIT)
    found = []
    for row, source, one, numbers in zip(rows, sources, each, uniform, strict=True):
        after = within(bert.after(row, int("source" in str(model.mask))), members(small, one, source), limit, **rules)
        match sampler:
            case bert4k.decoding.samplers.Beam():
                found.append(reference.beam(after, END, limit, sampler.beams, sampler.length_penalty, sampler.n_best))
            case bert4k.decoding.samplers.Sample():
                found.append([reference.sample(after, END, limit, numbers[0], sampler.temperature)])
            case _:
                found.append([reference.greedy(after, END, limit)])
    return found


KINDS = {
    "one for all": constraints.one_of(["一二", "一", "一二一二", "ab", "abc", "d d", "d d", "二 abc d 一 一 一"]),
    "extracts": constraints.substring_of(),
    "extracts of passages": constraints.substring_of(["abcc一d", "二二"]) | constraints.empty,
    "banned": constraints.without(["一", "abc", "d d"]),
    "prefix": constraints.starting_with("一 ab"),
    "joined": constraints.starting_with("d") & constraints.without(["一", "dd"]) & ~constraints.one_of(["d"]),
    "each its own": [
        constraints.one_of(["二", "二二"]),
        constraints.substring_of(),
        constraints.without(["二"]),
        constraints.starting_with("ab"),
        constraints.substring_of() & constraints.without(["d"]),
        ~(constraints.substring_of() | constraints.empty),
    ],
}


@pytest.mark.backends
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sampler", ("greedy", "sample", "beam"))
def test_generation_equals_a_search_among_the_texts(machine: Any, small: Any, sampler: str, kind: str) -> None:
    each = KINDS[kind] if isinstance(KINDS[kind], list) else [KINDS[kind]] * len(SOURCES)
    model = machine("lm" if sampler == "sample" else "seq2seq")
    found = bert4k.generate(model, small, SOURCES, SAMPLERS[sampler], constraints=KINDS[kind], max_tokens=LIMIT)
    same(found, expected(model, small, SOURCES, SAMPLERS[sampler], each))
    for source, one, constraint in zip(SOURCES, found, each, strict=True):
        assert {each.token_ids for each in (one, *one.alternatives)} <= members(small, constraint, source)


@pytest.mark.parametrize("kind", ("one for all", "extracts of passages", "joined"))
def test_a_beam_wider_than_the_set_finds_all_of_it(machine: Any, small: Any, kind: str) -> None:
    model, source = machine("lm"), SOURCES[1]
    [one] = bert4k.generate(model, small, [source], SAMPLERS["wide beam"], constraints=KINDS[kind], max_tokens=LIMIT)
    hypotheses = [one, *one.alternatives]
    texts = members(small, KINDS[kind], source)
    assert len(hypotheses) == len(texts)
    assert {each.token_ids for each in hypotheses} == texts
    after = within(reference.Bert(model, "causal & real").after(rows_of(model, small, [source])[0], 0), texts, LIMIT)
    best = reference.exhaustive(after, END, LIMIT, 0.0)
    assert tokens(one) == best[0].tokens
    np.testing.assert_allclose([each.score for each in hypotheses], [each.score for each in best], atol=1e-4)


def random_constraint(rng: Any, depth: int = 0) -> Constraint:
    def text(most: int) -> str:
        return " ".join(rng.choice(["一", "二", "ab", "abc", "d", "一二"], rng.integers(1, most + 1)))

    match rng.choice(["one_of", "substring_of", "without", "starting_with", "empty", *["and", "or", "not"] * (depth < 2)]):
        case "one_of":
            return constraints.one_of(text(4) for _ in range(rng.integers(1, 6)))
        case "substring_of":
            return constraints.substring_of(None if rng.random() < 0.5 else [text(6) for _ in range(2)])
        case "without":
            return constraints.without(text(2) for _ in range(rng.integers(1, 4)))
        case "starting_with":
            return constraints.starting_with(text(2))
        case "empty":
            return constraints.empty
        case "not":
            return ~random_constraint(rng, depth + 1)
        case "and":
            return random_constraint(rng, depth + 1) & random_constraint(rng, depth + 1)
    return random_constraint(rng, depth + 1) | random_constraint(rng, depth + 1)


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 12))])
def test_nothing_outside_of_random_sets_comes(machine: Any, small: Any, seed: int) -> None:
    """A constraint of its own for each source, all samplers, and rules that would lead out of the set."""
    rng = np.random.default_rng(seed)
    rules = {"min_tokens": 3, "no_repeat_ngram": 1} if seed % 2 else {}
    each = []
    for source in SOURCES:
        while not members(small, one := random_constraint(rng), source):
            with pytest.raises(DataError, match="Nothing can be written for source 0"):
                bert4k.generate(machine("lm"), small, [source], constraints=one, max_tokens=LIMIT)
        each.append(one)
    for sampler in (SAMPLERS["greedy"], SAMPLERS["sample"], SAMPLERS["beam"]):
        found = bert4k.generate(machine("lm"), small, SOURCES, sampler, constraints=each, max_tokens=LIMIT, **rules)
        for one, constraint, source in zip(found, each, SOURCES, strict=True):
            for text in (one, *one.alternatives):
                assert text.token_ids in members(small, constraint, source), f"{text.text} is not in {constraint}"
        if seed < 2:
            same(found, expected(machine("lm"), small, SOURCES, sampler, each, **rules))


@pytest.mark.parametrize("limit", (1, 2, 3))
def test_a_text_is_whole_at_any_limit(machine: Any, small: Any, limit: int) -> None:
    each = [
        constraints.one_of(["二一二一", "d d d", "ab 一", "二"]),
        constraints.without(["一", "ab"]) & constraints.starting_with("d"),
    ] * 3
    found = bert4k.generate(machine("lm"), small, SOURCES, constraints=each, max_tokens=limit)
    same(found, expected(machine("lm"), small, SOURCES, SAMPLERS["greedy"], each, limit=limit))


@pytest.mark.backends
def test_a_batch_equals_each_source_alone(machine: Any, small: Any) -> None:
    together = bert4k.generate(machine("lm"), small, SOURCES, SAMPLERS["beam"], constraints=KINDS["each its own"], max_tokens=LIMIT)
    for place, source in enumerate(SOURCES):
        own = KINDS["each its own"][place]
        alone = bert4k.generate(machine("lm"), small, [source], SAMPLERS["beam"], constraints=own, max_tokens=LIMIT)
        alike(alone, together[place : place + 1])


@pytest.mark.parametrize("kind", on_backends(("one for all", "extracts", "joined"), "joined"))
def test_a_stream_is_what_generate_writes(machine: Any, small: Any, kind: str) -> None:
    for sampler in (SAMPLERS["greedy"], SAMPLERS["sample"]):
        how = {"constraints": KINDS[kind], "max_tokens": LIMIT}
        [one] = bert4k.generate(machine("lm"), small, SOURCES[1:2], sampler, **how)
        assert "".join(bert4k.stream(machine("lm"), small, SOURCES[1], sampler, **how)) == one.text


# What is compiled. ----------------------------------------------------------------------------------------------------


@pytest.mark.backends
def test_other_phrases_use_the_same_graph(machine: Any, small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[int] = []
    original = loop.Program.step
    monkeypatch.setattr(loop.Program, "step", lambda *args: traced.append(1) or original(*args))
    model = machine("lm").with_mask("lm")
    many = [" ".join(text) for text in itertools.product(["一", "d", "ab"], repeat=4)]
    for phrases in (["一", "二 二"], ["ab", "abc", "d d 一", "二"], many):
        found = bert4k.generate(model, small, SOURCES, constraints=constraints.one_of(phrases), max_tokens=LIMIT)
        assert {ids_of(small, one.text) for one in found} <= {ids_of(small, phrase) for phrase in phrases}
        assert len(traced) == 1
    bert4k.generate(model, small, SOURCES, constraints=constraints.substring_of(), max_tokens=LIMIT)
    assert (len(traced), len(model.programs)) == (1, 1)


def test_without_constraints_there_is_no_automaton(machine: Any, small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("begin", "allowed", "advance"):
        monkeypatch.delattr(languages, name)
    assert len(bert4k.generate(machine("lm").with_mask("lm"), small, SOURCES, max_tokens=LIMIT)) == len(SOURCES)


# Large sets. ----------------------------------------------------------------------------------------------------------


def test_large_sets_are_made_in_seconds(record_property: Callable[[str, object], None]) -> None:
    characters = [chr(code) for code in range(0x4E00, 0x4E00 + 3000)]
    tokenizer = bert4k.Tokenizer([*SPECIAL, *characters, *(f"##{character}" for character in characters)])
    model = tiny_model(len(tokenizer), mask="lm", layers=1)
    rng = np.random.default_rng(0)

    def text(length: int) -> str:
        return "".join(rng.choice(characters, length))

    names, passage = [text(int(rng.integers(2, 6))) for _ in range(10_000)], text(100_000)
    sets = {
        "10,000 names": (constraints.one_of(names), set(names).__contains__),
        "100,000 characters": (constraints.substring_of([passage]), passage.__contains__),
        "10,000 banned": (constraints.without(names), lambda text: not any(name in text for name in names)),
    }
    for name, (constraint, holds) in sets.items():
        began = perf_counter()
        [table] = constraints.tables(constraint, tokenizer, [""], 8)
        seconds = perf_counter() - began
        record_property(name, f"{seconds:.2f} s, {len(table.first)} states, {len(table.token)} arcs")
        assert seconds < 60
        for one in bert4k.generate(model, tokenizer, ["一", "三"], constraints=constraint, max_tokens=8):
            assert holds(one.text)
            assert one.text
    began = perf_counter()
    constraints.tables(sets["10,000 names"][0], tokenizer, [""], 8)
    assert perf_counter() - began < 0.1, "a set that was made is kept"


# Expressions. ---------------------------------------------------------------------------------------------------------


def test_constraints_print_as_expressions() -> None:
    names, banned = constraints.one_of(["北京", "上海"]), constraints.without(["x"])
    assert str(names & banned) == "one_of(['北京', '上海']) & without(['x'])"
    assert repr((names | constraints.empty) & ~banned) == "(one_of(['北京', '上海']) | empty) & ~without(['x'])"
    assert str(~(names & banned) | constraints.starting_with("我")) == "~(one_of(['北京', '上海']) & without(['x'])) | starting_with('我')"
    assert str(constraints.substring_of() & constraints.substring_of(["一" * 99])) == f"substring_of() & substring_of(['{'一' * 20}…'])"
    assert str(constraints.one_of(map(str, range(12_003)))) == "one_of(['0', '1', '2' and 12,000 more])"
    assert constraints.one_of(["北京", "上海"]) == names != constraints.without(["北京", "上海"])


def test_a_text_reads_as_the_tokenizer_writes_it(small: Any, machine: Any) -> None:
    """Case and spaces are the tokenizer's; what is banned is banned in every case."""
    for phrase, written in (("ABC", "abc"), ("AB  D", "ab d"), ("一 二", "一二")):
        [one] = bert4k.generate(machine("lm"), small, ["一"], constraints=constraints.one_of([phrase]), max_tokens=LIMIT)
        assert one.text == written
    for phrase, comes in (("AB", False), ("á b", False), ("abcd", True)):
        banned = constraints.without([phrase])
        [one] = bert4k.generate(machine("lm"), small, ["一"], bert4k.beam(60, n_best=60), constraints=banned, max_tokens=2)
        assert any("ab" in each.text for each in (one, *one.alternatives)) == comes


# Bad input. -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", (constraints.one_of, constraints.without, constraints.substring_of))
def test_lists_that_are_none_are_named(make: Any) -> None:
    for given, words in (("北京", "a single text in a list"), (5, "a list"), ([], "list is empty"), (["一", 3], "number 1 is 3")):
        with pytest.raises(DataError, match=words):
            make(given)
    with pytest.raises(DataError, match="text 1 is empty"):
        make(["一", " "])


@pytest.mark.parametrize(
    ("given", "error", "words"),
    (
        (constraints.one_of(["一", "龘二", "龘"]), DataError, r"2 of 3 texts cannot be written, such as '龘二', which is \[UNK\] 二"),
        (constraints.one_of(["一[MASK]"]), DataError, r"一 \[MASK\]"),
        (constraints.one_of(["\u200b"]), DataError, "no tokens"),
        (constraints.starting_with("龘"), DataError, r"starting_with\('龘'\): 1 of 1 texts cannot be written"),
        (constraints.one_of(["一一一一一", "一一一一一一"]), DataError, "source 0 .* shortest text has 5 tokens, and max_tokens=4"),
        (constraints.one_of(["一"]) & constraints.one_of(["二"]), DataError, "admits no text at all"),
        (constraints.substring_of(["龘"]), DataError, "admits no text at all"),
        (constraints.substring_of(), DataError, "source 1 under substring_of"),
        ("一", ConfigError, "one_of"),
        ([constraints.empty], ConfigError, "1 constraints for 2 sources"),
        ([constraints.empty, "一"], ConfigError, "expected one constraint"),
    ),
)
def test_what_admits_nothing_is_refused(machine: Any, small: Any, given: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        bert4k.generate(machine("lm"), small, ["一", "龘"], constraints=given, max_tokens=LIMIT)


def test_constraints_join_with_constraints_only() -> None:
    with pytest.raises(ConfigError, match="right side of & is 'x'"):
        constraints.empty & "x"
    with pytest.raises(ConfigError, match=r"right side of \| is 3"):
        constraints.empty | 3
