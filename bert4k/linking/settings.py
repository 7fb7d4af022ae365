"""The settings of `bert4k train entity_linking`. Light: `--help` needs no backend."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bert4k.errors import ConfigError
from bert4k.recipe import required, setting
from bert4k.tuning import RecipeSettings

SHORTEST = 8  # tokens, of which three frame a text and an entity, and two mark the mention


@dataclass(frozen=True, kw_only=True)
class Settings(RecipeSettings):
    """Everything that decides the result."""

    kb: Path = required("the knowledge base: one that was built, or a file of entities")
    faults: Literal["stop", "skip"] = setting("stop", "what is wrong with a line of a file: stop there, or count, show and leave it out")
    longest: int = setting(128, "tokens of a text in which mentions are found, longer ones are read in pieces; and of an entity's vector")
    longest_pair: int = setting(192, "tokens of a text and an entity that are read together; what is longer is cut")
    head: Literal["half_pointer", "global_pointer", "dictionary"] = setting(
        "half_pointer",
        "half_pointer: where mentions begin and end; global_pointer: spans, which may overlap and nest; dictionary: the names of the"
        " knowledge base that annotators mark, without a model",
    )
    dictionary: Literal["none", "features", "boundaries"] = setting(
        "features", "what a head knows of these names: nothing; where they begin and end; and that mentions begin and end nowhere else"
    )
    mention_threshold: float | None = setting(
        None, "how probable a mention must be, or each end of it; lower finds more (what is best on dev)"
    )
    candidates: int | None = setting(
        None, "entities that are ranked for a mention: the most often linked (20), or, with retrieval, the nearest (4)"
    )
    least_links: int | None = setting(
        None, "where training links a name to some entities at least so often, only these are candidates (2 in Su's system of CCKS2019)"
    )
    retrieval: bool = setting(False, "train a bi-encoder, too, for the candidates of names that many entities have, and for hard negatives")
    nearest: int = setting(0, "with retrieval: so many entities whose vectors are nearest are candidates, whatever they are called")
    ranker: Literal["cross", "siamese", "bilstm", "generative", "counts"] = setting(
        "cross",
        "cross: text and entity are read as one; siamese: apart, then compared by attention; bilstm: the same without the network of the"
        " checkpoint, by Su's BiLSTM; generative: the title of one of the candidates is written (neither prior nor overlap has"
        " a part in it); counts: who was meant most often, without a model",
    )
    prior: bool = setting(True, "whether how often training linked a name to an entity counts in ranking")
    overlap: bool = setting(True, "whether what the text has in common with what is known of an entity, besides its name, counts, too")
    negatives: int = setting(3, "wrong entities that a mention is compared with in each epoch, of the same name as far as possible")
    hard_negatives: bool = setting(True, "of the same name, then with the nearest vectors; without it, any entities")
    types: bool = setting(False, "learn to tell the type of what a mention means, for those that mean no entity")
    pooling: str = setting("mean", "of the last layer: mean, max, first ([CLS]) or attention")
    judged: int = setting(2000, "mentions of dev, drawn at random, on which ranking is judged after every epoch")

    def __post_init__(self) -> None:
        if self.nearest and not self.retrieval:
            raise ConfigError(f"nearest is {self.nearest}, and entities have no vectors without a bi-encoder. Give --retrieval, too.")
        if self.mention_threshold is not None and not 0 < self.mention_threshold < 1:
            raise ConfigError(f"mention_threshold is {self.mention_threshold}; expected a probability between 0 and 1, or none.")
        if most_candidates(dataclasses.asdict(self)) < 1 or self.negatives < 1 or self.judged < 1 or self.nearest < 0:
            raise ConfigError("Expected at least one of the candidates, of the negatives and of judged, and no fewer than 0 for nearest.")
        if min(self.longest, self.longest_pair) < SHORTEST:
            raise ConfigError(f"longest is {self.longest}, longest_pair {self.longest_pair}; expected {SHORTEST} tokens or more.")


def most_candidates(settings: Mapping[str, Any]) -> int:
    """How many entities of its name are ranked for a mention. Reading text and entity together costs most: what a bi-encoder has chosen
    may be few."""
    return int((4 if settings["retrieval"] else 20) if settings["candidates"] is None else settings["candidates"])
