"""Which texts may be generated: sets of texts that combine, as masks do.

    from bert4k import constraints
    cities = constraints.one_of(["北京", "上海", "北京大学"])
    bert4k.generate(model, tokenizer, sources, constraints=cities)
    bert4k.generate(model, tokenizer, sources, constraints=constraints.substring_of() | constraints.one_of(["不知道"]))

A constraint is a set of texts: `&` is what is in both, `|` what is in either, `~` what is not in it. It prints as the expression it is.
What `generate` and `stream` write is in the set, whole, within `max_tokens`: of all continuations only those are open that can still
become a text of the set, so no search ends in a blind alley, and a text longer than `max_tokens` cannot come. `min_tokens` and
`no_repeat_ngram` give way where the set leaves nothing else. Log-probabilities stay the model's own.

A phrase is compared token by token, so a text reads as `tokenizer.decode` writes it: in lower case, say, where the tokenizer folds case.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

from bert4k.decoding import automata
from bert4k.decoding.automata import FAR, Automaton, Table
from bert4k.errors import ConfigError, DataError
from bert4k.tokenizers import Tokenizer
from bert4k.tokenizers.basic import BasicTokenizer, is_cjk


class Constraint:
    """A set of texts. Make constraints from the functions of this module with `&`, `|` and `~`."""

    @property
    def uses_source(self) -> bool:
        """Whether each source has a set of its own."""
        return False

    def automaton(self, tokenizer: Tokenizer, source: str) -> Automaton:
        """The set for one source, as texts of token ids."""
        raise TypeError(f"{type(self).__name__} is no constraint: use the functions of bert4k.constraints.")

    def __and__(self, other: Constraint) -> Constraint:
        return Joined(self, _checked(other, "&"), "&")

    def __or__(self, other: Constraint) -> Constraint:
        return Joined(self, _checked(other, "|"), "|")

    def __invert__(self) -> Constraint:
        return Not(self)

    def __repr__(self) -> str:
        return str(self)


def _checked(other: object, operator: str) -> Constraint:
    if not isinstance(other, Constraint):
        raise ConfigError(
            f"Constraints join with constraints: the right side of {operator} is {other!r}. Use a function of bert4k.constraints."
        )
    return other


@dataclass(frozen=True, repr=False)
class Joined(Constraint):
    """The texts that are in both sets (operator "&"), or in either ("|")."""

    left: Constraint
    right: Constraint
    operator: str

    @property
    def uses_source(self) -> bool:
        return self.left.uses_source or self.right.uses_source

    def automaton(self, tokenizer: Tokenizer, source: str) -> Automaton:
        join = automata.both if self.operator == "&" else automata.either
        return join(_automaton(self.left, tokenizer, source), _automaton(self.right, tokenizer, source))

    def __str__(self) -> str:
        sides = (self.left, self.right)
        other = [isinstance(side, Joined) and side.operator != self.operator for side in sides]
        return f" {self.operator} ".join(f"({side})" if bracket else str(side) for side, bracket in zip(sides, other, strict=True))


@dataclass(frozen=True, repr=False)
class Not(Constraint):
    """The texts that are not in the inner set."""

    inner: Constraint

    @property
    def uses_source(self) -> bool:
        return self.inner.uses_source

    def automaton(self, tokenizer: Tokenizer, source: str) -> Automaton:
        return automata.none_of(_automaton(self.inner, tokenizer, source))

    def __str__(self) -> str:
        return f"~({self.inner})" if isinstance(self.inner, Joined) else f"~{self.inner}"


@dataclass(frozen=True, repr=False)
class OneOf(Constraint):
    """The phrases themselves."""

    phrases: tuple[str, ...]

    def automaton(self, tokenizer: Tokenizer, source: str) -> Automaton:
        return automata.one_of(_written(self.phrases, tokenizer, self))

    def __str__(self) -> str:
        return f"one_of({_shown(self.phrases)})"


@dataclass(frozen=True, repr=False)
class StartingWith(Constraint):
    """The texts that begin with a phrase."""

    phrase: str

    def automaton(self, tokenizer: Tokenizer, source: str) -> Automaton:
        return automata.starting_with(_written([self.phrase], tokenizer, self)[0])

    def __str__(self) -> str:
        return f"starting_with({self.phrase!r})"


@dataclass(frozen=True, repr=False)
class Without(Constraint):
    """The texts in which none of the phrases occurs."""

    phrases: tuple[str, ...]

    def automaton(self, tokenizer: Tokenizer, source: str) -> Automaton:
        if type(tokenizer) is not Tokenizer:  # whose tokens are spelled by other rules, so that a phrase could slip through
            raise ConfigError(
                f"without() knows how the tokens of a vocab.txt are spelled, and this vocabulary is a {type(tokenizer).__name__}."
                " Leave the constraint out, and drop texts that have the phrases afterwards."
            )
        words = BasicTokenizer(tokenizer.lowercase).words
        return automata.without({"".join(words(phrase)) for phrase in self.phrases}, _spelling(tokenizer))

    def __str__(self) -> str:
        return f"without({_shown(self.phrases)})"


@dataclass(frozen=True, repr=False)
class SubstringOf(Constraint):
    """What stands in one of the passages, or in the source (None), from the beginning of a word to the end of one."""

    passages: tuple[str, ...] | None

    @property
    def uses_source(self) -> bool:
        return self.passages is None

    def automaton(self, tokenizer: Tokenizer, source: str) -> Automaton:
        texts = (tokenizer.spans(passage)[0] for passage in ((source,) if self.passages is None else self.passages))
        # What cannot be written, such as [UNK], parts a text in two.
        special = set(tokenizer.special_ids)
        runs = [list(run) for text in texts for odd, run in groupby(text, special.__contains__) if not odd]
        return automata.substring_of((run, [_goes_on(tokenizer.id_to_token(token)) for token in run]) for run in runs)

    def __str__(self) -> str:
        return f"substring_of({'' if self.passages is None else _shown(self.passages)})"


@dataclass(frozen=True, repr=False)
class Empty(Constraint):
    """The empty text alone."""

    def automaton(self, tokenizer: Tokenizer, source: str) -> Automaton:
        return automata.one_of([()])

    def __str__(self) -> str:
        return "empty"


empty: Constraint = Empty()


def one_of(phrases: Iterable[str]) -> Constraint:
    """Only these phrases, such as the names of a list.

    Phrases may be prefixes of one another, and may occur twice. Raises `DataError` for an empty list or phrase (to let the answer be empty,
    join `| constraints.empty`) and, when it meets the tokenizer, for a phrase that cannot be written with the vocabulary.
    """
    return OneOf(_phrases(phrases, "one_of"))


def substring_of(passages: Iterable[str] | None = None) -> Constraint:
    """Only what stands, word for word, in the source of the answer, or in one of these passages: an answer that is an extract.

    A text runs from the beginning of a word to the end of one (a Chinese character is a word) and is not empty; join `| constraints.empty`
    where there may be no answer. It never runs across what the vocabulary lacks ([UNK]).
    """
    return SubstringOf(None if passages is None else _phrases(passages, "substring_of"))


def without(phrases: Iterable[str]) -> Constraint:
    """Only texts in which none of these phrases is written, whatever tokens it is cut into.

    Chinese phrases are found anywhere. Others are found as runs of whole tokens: without "art", "art" and "art ##ist" do not come,
    "artist" as one token does. Case and accents count as for the tokenizer, spaces not at all. What the vocabulary cannot write cannot
    come anyway.
    """
    return Without(_phrases(phrases, "without"))


def starting_with(text: str) -> Constraint:
    """Only texts that begin so; the beginning counts among the text's tokens, and its log-probabilities in the score."""
    return StartingWith(_phrases([text], "starting_with")[0])


def tables(constraints: Any, tokenizer: Tokenizer, sources: Sequence[str], max_tokens: int) -> list[Table]:
    """The set of each source, from one constraint for all or a list with one for each.

    Raises `ConfigError` for anything else, and `DataError` where no text of the set has at most `max_tokens` tokens.
    """
    each = [constraints] * len(sources) if isinstance(constraints, Constraint) else constraints
    if not isinstance(each, Sequence) or not all(isinstance(one, Constraint) for one in each):
        raise ConfigError(
            f"constraints={constraints!r}: expected one constraint for all sources or a list with one for each, such as"
            " bert4k.constraints.one_of(['北京', '上海'])."
        )
    if len(each) != len(sources):
        raise ConfigError(f"There are {len(each)} constraints for {len(sources)} sources. Give one for each, or a single one for all.")
    found = []
    for place, (one, source) in enumerate(zip(each, sources, strict=True)):
        found.append(_table(one, tokenizer, source) if one.uses_source else _known_table(one, tokenizer))
        shortest = int(found[-1].shortest[found[-1].start])
        if shortest > max_tokens:
            why = "it admits no text at all" if shortest == FAR else f"its shortest text has {shortest} tokens, and max_tokens={max_tokens}"
            raise DataError(f"Nothing can be written for source {place} under {one}: {why}. Loosen the constraint or raise the limit.")
    return found


def _automaton(constraint: Constraint, tokenizer: Tokenizer, source: str) -> Automaton:
    return constraint.automaton(tokenizer, source) if constraint.uses_source else _known_automaton(constraint, tokenizer)


# Lists of many thousand phrases are used again and again.
@lru_cache(maxsize=8)
def _known_automaton(constraint: Constraint, tokenizer: Tokenizer) -> Automaton:
    return constraint.automaton(tokenizer, "")


@lru_cache(maxsize=8)
def _known_table(constraint: Constraint, tokenizer: Tokenizer) -> Table:
    return _table(constraint, tokenizer, "")


def _table(constraint: Constraint, tokenizer: Tokenizer, source: str) -> Table:
    return automata.table(_automaton(constraint, tokenizer, source), len(tokenizer) - len(set(tokenizer.special_ids)))


def _phrases(phrases: Any, name: str) -> tuple[str, ...]:
    """The phrases given to the function of that name, checked as far as can be without a tokenizer."""
    if isinstance(phrases, str) or not isinstance(phrases, Iterable):
        raise DataError(f"{name}() takes a list of texts, got {phrases!r}. Put a single text in a list.")
    found = tuple(phrases)
    if not found:
        raise DataError(f"{name}() has no texts: the list is empty. Give at least one.")
    for place, phrase in enumerate(found):
        if not isinstance(phrase, str):
            raise DataError(f"{name}() takes texts, and number {place} is {phrase!r}. Give strings.")
        if not phrase.strip():
            raise DataError(f"{name}(): text {place} is empty. Leave it out; an answer may be empty with `| constraints.empty`.")
    return found


def _written(phrases: Sequence[str], tokenizer: Tokenizer, constraint: Constraint) -> list[list[int]]:
    """The token ids of phrases that have to be written; `DataError` for those that cannot be."""
    special = set(tokenizer.special_ids)
    found = [tokenizer.spans(phrase)[0] for phrase in phrases]
    bad = [phrase for phrase, ids in zip(phrases, found, strict=True) if not ids or not special.isdisjoint(ids)]
    if bad:
        as_tokens = " ".join(tokenizer.tokenize(bad[0])) or "no tokens"
        raise DataError(
            f"{constraint}: {len(bad):,} of {len(phrases):,} texts cannot be written, such as {bad[0]!r}, which is {as_tokens}: special"
            " tokens are never written. Leave them out, spell them otherwise, or use a vocabulary that has them."
        )
    return found


@lru_cache(maxsize=2)
def _spelling(tokenizer: Tokenizer) -> dict[int, list[str]]:
    """The parts of every token that can be written: a token with a Chinese character is read character by character."""
    special = set(tokenizer.special_ids)
    tokens = ((number, token) for number, token in enumerate(tokenizer.vocabulary) if number not in special)
    texts = {number: token[2:] if _goes_on(token) else token for number, token in tokens}
    return {number: list(text) if any(map(is_cjk, text)) else [text] for number, text in texts.items()}


def _goes_on(token: str) -> bool:
    """Whether a token goes on with the word of the token before it."""
    return token.startswith("##") and len(token) > 2


def _shown(phrases: Sequence[str]) -> str:
    """A list of phrases, the first few if they are many, the beginnings of long ones."""
    shown = [repr(phrase if len(phrase) <= 20 else f"{phrase[:20]}…") for phrase in phrases[:3]]
    return f"[{', '.join(shown)}{f' and {len(phrases) - 3:,} more' if phrases[3:] else ''}]"
