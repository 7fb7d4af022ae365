"""Sets of texts as automata over token ids: an automaton reads a text token by token and knows what may come next.

Built here in plain Python, by token ids; `constraints` makes them from phrases, `languages` runs them in the compiled loop.

Sources: all substrings of a text in linear size, the suffix automaton (Blumer et al. 1985, doi:10.1016/0304-3975(85)90157-4); what is
banned, after Aho and Corasick (1975, doi:10.1145/360825.360855); intersection, union and complement, Rabin and Scott (1959,
doi:10.1147/rd.32.0114).
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

DEAD = 0  # the state of texts that are not in the set and do not begin a text that is
FAR = 2**30  # the distance of what cannot be reached


class Automaton:
    """A deterministic automaton with few arcs.

    From `state`, a token leads to `arcs[state][token]`; where there is no such arc, to where it leads from `base[state]`; where there is
    none either, to `default[base[state]]`. Most states are their own base. The states of "none of these ten thousand phrases" have one in
    common, the state in which no phrase has begun: each keeps only the few arcs that are its own.
    """

    def __init__(self) -> None:
        self.arcs: list[dict[int, int]] = [{}]
        self.default: list[int] = [DEAD]
        self.base: list[int] = [DEAD]
        self.accepting: list[bool] = [False]
        self.start = DEAD

    def __len__(self) -> int:
        return len(self.arcs)

    def add(self, accepting: bool = False, base: int | None = None) -> int:
        """A new state, from which nothing goes on yet."""
        state = len(self)
        self.arcs.append({})
        self.default.append(DEAD)
        self.base.append(state if base is None else base)
        self.accepting.append(accepting)
        return state

    def next(self, state: int, token: int) -> int:
        """The state after one more token."""
        base = self.base[state]
        own = self.arcs[state].get(token)
        return self.arcs[base].get(token, self.default[base]) if own is None else own

    def closed(self, state: int) -> bool:
        """Whether nothing comes after `state` but what is on an arc."""
        return self.default[self.base[state]] == DEAD

    def known(self, state: int) -> set[int]:
        """The tokens that are on an arc of `state` or of its base."""
        return self.arcs[state].keys() | self.arcs[self.base[state]].keys()

    def accepts(self, tokens: Iterable[int]) -> bool:
        """Whether the set contains this text."""
        state = self.start
        for token in tokens:
            state = self.next(state, token)
        return self.accepting[state]


def one_of(texts: Iterable[Sequence[int]]) -> Automaton:
    """These texts: a trie."""
    trie = Automaton()
    trie.start = trie.add()
    for text in texts:
        state = trie.start
        for token in text:
            if token not in trie.arcs[state]:
                trie.arcs[state][token] = trie.add()
            state = trie.arcs[state][token]
        trie.accepting[state] = True
    return trie


def starting_with(text: Sequence[int]) -> Automaton:
    """All texts that begin like this one."""
    found = one_of([text])
    last = len(found) - 1
    found.default[last] = last
    return found


def substring_of(texts: Iterable[tuple[Sequence[int], Sequence[bool]]]) -> Automaton:
    """What stands in one of these texts, from the beginning of a word to the end of one; not the empty text.

    A text is its tokens and, for each of them, whether it goes on with the word of the token before it.
    """
    found = Automaton()
    arcs = found.arcs
    root = found.start = found.add()
    # A state stands for substrings that end at the same places; `link` is the state of the longest suffix that ends at more.
    longest, link = [0, 0], [DEAD, DEAD]

    def add(length: int) -> int:
        longest.append(length)
        link.append(root)
        return found.add()

    def split(state: int, token: int) -> int:
        """The state of the substring `state`, `token`, which so far has that of longer ones that may end at fewer places."""
        known = arcs[state][token]
        if longest[known] == longest[state] + 1:
            return known
        copy = add(longest[state] + 1)
        arcs[copy].update(arcs[known])
        link[copy], link[known] = link[known], copy
        while state != DEAD and arcs[state].get(token) == known:
            arcs[state][token] = copy
            state = link[state]
        return copy

    def grow(state: int, token: int) -> int:
        """The state of a text that is one token longer than that of `state`."""
        if token in arcs[state]:
            return split(state, token)
        new = add(longest[state] + 1)
        while state != DEAD and token not in arcs[state]:
            arcs[state][token] = new
            state = link[state]
        if state != DEAD:
            link[new] = split(state, token)
        return new

    word_ends: list[int] = []
    inner: set[int] = set()
    for tokens, goes_on in texts:
        state = root
        for place, token in enumerate(tokens):
            state = grow(state, token)
            if place + 1 == len(tokens) or not goes_on[place + 1]:
                word_ends.append(state)
            if goes_on[place]:
                inner.add(token)
    for state in word_ends:
        while state != root and not found.accepting[state]:
            found.accepting[state] = True
            state = link[state]
    for token in inner:
        del arcs[root][token]
    return found


def without(phrases: Collection[str], spelling: Mapping[int, Sequence[str]]) -> Automaton:
    """All texts in which no run of tokens spells one of the phrases, however it is cut into tokens.

    spelling: the parts of every token that can be written. A token of one part matters as a whole: "class" does not hold "ass". One of
    several parts, such as a Chinese word, is read part by part.
    """
    banned = set(phrases)
    begun = {phrase[:end] for phrase in banned for end in range(1, len(phrase) + 1)}
    by_first_part: dict[str, list[int]] = defaultdict(list)
    for token, parts in spelling.items():
        by_first_part[parts[0]].append(token)
    # What has been written of a phrase -> the first parts of the tokens that write more of it.
    more: dict[str, set[str]] = defaultdict(set)
    for prefix in begun:
        for cut in range(1, len(prefix)):
            if prefix[cut:] in by_first_part:
                more[prefix[:cut]].add(prefix[cut:])

    found = Automaton()
    states: dict[frozenset[str], int] = {}  # by all beginnings of phrases that have just been written
    waiting: list[frozenset[str]] = []

    def state_of(written: frozenset[str]) -> int:
        if written not in states:
            states[written] = found.add(accepting=True, base=states.get(frozenset()))
            waiting.append(written)
        return states[written]

    def after(written: frozenset[str], token: int) -> int:
        for part in spelling[token]:
            written = frozenset([part, *(prefix + part for prefix in written)]) & begun
            if written & banned:
                return DEAD
        return state_of(written)

    root = found.start = found.default[1] = state_of(frozenset())
    for token in spelling:
        if (state := after(frozenset(), token)) != root:
            found.arcs[root][token] = state
    while waiting:
        written = waiting.pop()
        firsts = {part for prefix in written for part in more[prefix]}
        found.arcs[states[written]].update({token: after(written, token) for part in firsts for token in by_first_part[part]})
    return found


def both(left: Automaton, right: Automaton) -> Automaton:
    """The texts that are in both sets."""
    return _product(left, right, union=False)


def either(left: Automaton, right: Automaton) -> Automaton:
    """The texts that are in either set."""
    return _product(left, right, union=True)


def _product(left: Automaton, right: Automaton, union: bool) -> Automaton:
    """The automaton that reads with two at once: its states are the pairs of theirs that can be reached."""
    found = Automaton()
    states = {(DEAD, DEAD): DEAD}
    waiting: list[tuple[int, int]] = []

    def state_of(one: int, other: int) -> int:
        if not union and DEAD in (one, other):
            return DEAD
        if (one, other) not in states:
            accepts = left.accepting[one], right.accepting[other]
            states[one, other] = found.add(any(accepts) if union else all(accepts))
            waiting.append((one, other))
        return states[one, other]

    found.start = state_of(left.start, right.start)
    while waiting:
        one, other = waiting.pop()
        state = states[one, other]
        closed = [side.known(at) for side, at in ((left, one), (right, other)) if side.closed(at)]
        if closed and not union:
            tokens = min(closed, key=len)  # nothing else can come
        else:
            tokens = left.arcs[one].keys() | right.arcs[other].keys()
            found.base[state] = state_of(left.base[one], right.base[other])
            if found.base[state] == state:
                found.default[state] = state_of(left.default[one], right.default[other])
        found.arcs[state].update({token: state_of(left.next(one, token), right.next(other, token)) for token in tokens})
    return found


def none_of(inner: Automaton) -> Automaton:
    """The texts that are not in the set."""
    # Every state moves one up: what was dead leads to a member whatever comes, and the new dead state is never reached.
    found = Automaton()
    found.arcs += [{token: state + 1 for token, state in arcs.items()} for arcs in inner.arcs]
    found.default += [state + 1 for state in inner.default]
    found.base += [state + 1 for state in inner.base]
    found.accepting += [not accepting for accepting in inner.accepting]
    found.start = inner.start + 1
    return found


def distances(automaton: Automaton, writable: int) -> list[int]:
    """For each state the fewest tokens that complete a text of the set, FAR where none do. writable: how many different tokens there are.

    Found backwards from the accepting states, breadth first.
    """
    arcs, base = automaton.arcs, automaton.base
    into: list[list[tuple[int, int | None]]] = [[] for _ in arcs]  # (state with the arc, its token, or None for the default)
    heirs = [[state] for state in range(len(automaton))]  # who may use the arcs of a state: those of whom it is the base, too
    for state, own in enumerate(arcs):
        for token, target in own.items():
            into[target].append((state, token))
        if base[state] == state:
            into[automaton.default[state]].append((state, None))
        else:
            heirs[base[state]].append(state)

    def uses(heir: int, state: int, token: int | None) -> bool:
        """Whether the arc of `state` is one of `heir`, which may have another for its token; a default needs a token without an arc."""
        if token is None:
            return len(arcs[state]) + sum(own not in arcs[state] for own in arcs[heir]) < writable
        return heir == state or token not in arcs[heir]

    found = [0 if accepting else FAR for accepting in automaton.accepting]
    queue = deque(state for state, accepting in enumerate(automaton.accepting) if accepting)
    while queue:
        target = queue.popleft()
        for state, read in into[target]:
            waiting = []
            for heir in heirs[state]:
                if found[heir] < FAR:
                    continue
                if uses(heir, state, read):
                    found[heir] = found[target] + 1
                    queue.append(heir)
                else:
                    waiting.append(heir)
            heirs[state] = waiting
    return found


class Table(NamedTuple):
    """An automaton as arrays, int32: one entry a state (S) or an arc (A)."""

    first: np.ndarray  # [S]: the first of a state's arcs
    degree: np.ndarray  # [S]: how many arcs it has
    base: np.ndarray  # [S]
    otherwise: np.ndarray  # [S]: where a token leads that is on no arc of the state and of its base
    shortest: np.ndarray  # [S]: the fewest tokens that complete a text; 0 in accepting states
    token: np.ndarray  # [A]
    to: np.ndarray  # [A]
    start: int


def table(automaton: Automaton, writable: int) -> Table:
    """The automaton as arrays. writable: how many different tokens can be written."""
    degree = np.fromiter(map(len, automaton.arcs), np.int32)
    return Table(
        first=np.cumsum(degree, dtype=np.int32) - degree,
        degree=degree,
        base=np.array(automaton.base, np.int32),
        otherwise=np.array(automaton.default, np.int32)[automaton.base],
        shortest=np.array(distances(automaton, writable), np.int32),
        token=np.fromiter(chain.from_iterable(automaton.arcs), np.int32),
        to=np.fromiter(chain.from_iterable(arcs.values() for arcs in automaton.arcs), np.int32),
        start=automaton.start,
    )
