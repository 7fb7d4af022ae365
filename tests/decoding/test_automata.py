"""Automata against the sets that they stand for, written out: every text of few tokens is asked for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from keras import ops

from bert4k.decoding import automata, languages
from bert4k.decoding.automata import FAR, Automaton

Text = tuple[int, ...]
Member = Callable[[Text], bool]

TOKENS = range(5, 10)
# Tokens of one part, of several, and such as spell the same in two ways.
SPELLING = {5: ["a"], 6: ["b"], 7: ["ab"], 8: ["一", "二"], 9: ["二"]}
GOES_ON = {6, 9}
TEXTS = [text for length in range(6) for text in itertools.product(TOKENS, repeat=length)]


def spells(text: Text, phrases: Sequence[str]) -> bool:
    """Whether some run of the parts of these tokens is one of the phrases."""
    parts = [part for token in text for part in SPELLING[token]]
    runs = ("".join(parts[start:end]) for start, end in itertools.combinations(range(len(parts) + 1), 2))
    return any(run in phrases for run in runs)


def extract(text: Text, passage: Text) -> bool:
    """Whether a text stands in the passage between the beginning of a word and the end of one."""
    for start, end in itertools.combinations(range(len(passage) + 1), 2):
        whole = passage[start] not in GOES_ON and (end == len(passage) or passage[end] not in GOES_ON)
        if whole and passage[start:end] == text:
            return True
    return False


def random_text(rng: Any, least: int, most: int) -> Text:
    return tuple(rng.choice(TOKENS, rng.integers(least, most + 1)).tolist())


def random_set(rng: Any, depth: int = 0) -> tuple[Automaton, Member]:
    """An automaton, and the same set as a predicate."""
    kind = rng.choice(["one_of", "starting_with", "substring_of", "without", *["and", "or", "not"] * (depth < 3)])
    match kind:
        case "one_of":
            texts = [random_text(rng, 0, 4) for _ in range(rng.integers(1, 6))]
            return automata.one_of(texts), lambda text: text in texts
        case "starting_with":
            prefix = random_text(rng, 1, 3)
            return automata.starting_with(prefix), lambda text: text[: len(prefix)] == prefix
        case "substring_of":
            passages = [random_text(rng, 0, 8) for _ in range(rng.integers(1, 4))]
            found = automata.substring_of([(passage, [token in GOES_ON for token in passage]) for passage in passages])
            return found, lambda text: any(extract(text, passage) for passage in passages)
        case "without":
            phrases = ["".join(rng.choice(list("ab一二"), rng.integers(1, 5))) for _ in range(rng.integers(1, 4))]
            return automata.without(phrases, SPELLING), lambda text: not spells(text, phrases)
        case "not":
            inner, member = random_set(rng, depth + 1)
            return automata.none_of(inner), lambda text: not member(text)
    left, member = random_set(rng, depth + 1)
    right, other = random_set(rng, depth + 1)
    if kind == "and":
        return automata.both(left, right), lambda text: member(text) and other(text)
    return automata.either(left, right), lambda text: member(text) or other(text)


@pytest.mark.parametrize("seed", range(40))
def test_a_random_expression_is_its_set(seed: int) -> None:
    found, member = random_set(np.random.default_rng(seed))
    members = {text for text in TEXTS if member(text)}
    assert {text for text in TEXTS if found.accepts(text)} == members
    # How far it is to the end of a text, from the beginning of every text.
    far = automata.distances(found, len(TOKENS))
    for begun in TEXTS:
        if len(begun) <= 2:
            more = [len(text) - len(begun) for text in members if text[: len(begun)] == begun]
            state = found.start
            for token in begun:
                state = found.next(state, token)
            assert far[state] == min(more) if more else far[state] > 5 - len(begun)


def test_the_distance_is_known_where_it_is_infinite() -> None:
    everything = automata.starting_with(())
    nothing = automata.both(automata.one_of([(5,)]), automata.one_of([(6,)]))
    for found, expected in ((everything, 0), (nothing, FAR), (automata.none_of(everything), FAR), (automata.none_of(nothing), 0)):
        assert automata.distances(found, len(TOKENS))[found.start] == expected
    # Every token has an arc to nowhere: the default is for none.
    shut = automata.both(automata.starting_with(()), automata.none_of(automata.starting_with(())))
    for token in TOKENS:
        shut = automata.either(shut, automata.both(automata.starting_with((token,)), nothing))
    assert automata.distances(shut, len(TOKENS))[shut.start] == FAR
    single = automata.without(["a", "b", "ab", "一二", "二"], SPELLING)
    longer = automata.both(single, automata.none_of(automata.one_of([()])))
    assert automata.distances(longer, len(TOKENS))[longer.start] == FAR, "every token is banned, and the empty text is left out"
    assert automata.distances(longer, len(TOKENS) + 1)[longer.start] == 1, "but not one that nothing is known of"


@pytest.mark.backends
@pytest.mark.parametrize("seed", range(4))
def test_the_graph_reads_as_the_automaton_does(seed: int) -> None:
    """Rows with sets of their own, every hypothesis in a state of its own, with little and much room left."""
    rng = np.random.default_rng(seed)
    sets = [random_set(rng)[0] for _ in range(3)]
    tables = [automata.table(each, len(TOKENS)) for each in sets]
    rows, width, end, vocabulary = [0, 2, 1, 0], 4, 3, 12
    language = languages.Language(*(ops.convert_to_tensor(x) if len(x) else x for x in languages.language([tables[row] for row in rows])))
    at = languages.begin(language, width)
    states = [[sets[row].start] * width for row in rows]
    for left in (5, 3, 2, 1, 1):
        allowed = ops.convert_to_numpy(languages.allowed(language, at, ops.full(at.shape, left, "int32"), end, vocabulary))
        for row, hypothesis in np.ndindex(len(rows), width):
            own, far = sets[rows[row]], tables[rows[row]].shortest
            state = states[row][hypothesis]
            expected = {token for token in range(vocabulary) if token != end and far[own.next(state, token)] < left}
            assert set(np.flatnonzero(allowed[row, hypothesis]).tolist()) == expected | ({end} if own.accepting[state] else set())
        token = rng.choice(TOKENS, (len(rows), width)).astype("int32")
        at = languages.advance(language, at, ops.convert_to_tensor(token))
        states = [[sets[rows[row]].next(states[row][w], int(token[row, w])) for w in range(width)] for row in range(len(rows))]


def test_sizes_stay_linear() -> None:
    rng = np.random.default_rng(0)
    passage = rng.integers(5, 2000, 20_000).tolist()
    extracts = automata.substring_of([(passage, [False] * len(passage))])
    assert len(extracts) <= 2 * len(passage) + 1
    assert sum(map(len, extracts.arcs)) <= 3 * len(passage)
    phrases = {"".join(map(chr, rng.integers(0x4E00, 0x4E00 + 1500, 4))) for _ in range(2000)}
    spelling = {number: [chr(0x4E00 + number % 1500)] for number in range(3000)}  # each character has two tokens
    banned = automata.without(phrases, spelling)
    assert len(banned) <= 4 * len(phrases) + 2
    assert sum(map(len, banned.arcs)) < 20 * len(phrases) + len(spelling), "states share the arcs that begin a phrase"
    other = automata.both(banned, automata.starting_with([0]))
    assert sum(map(len, other.arcs)) < 20 * len(phrases) + 2 * len(spelling), "and still do in a product"
