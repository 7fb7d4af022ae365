"""What is known of a mention before anything is read: how often it was linked to whom, and how it compares with the name of an entity.

Counting is the strongest single feature in entity linking, and the easiest to cheat oneself with: a training example has counted itself.
`features` leaves one link out where it is asked of an example that the counts come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log1p

import numpy as np
from numpy.typing import NDArray

from bert4k.linking.entities import Entity
from bert4k.linking.statistics import AnnotationStatistics
from bert4k.linking.surfaces import normalised

# The features, in their order: the entity's share of the links of the surface (those to NIL are among them); how many links that share is
# known from, log(1 + N) / 5; whether the surface is the entity's name, and not another alias; how many candidates there are,
# log(1 + K) / 5.
FEATURES = ("share", "seen", "name", "candidates")


def features(
    statistics: AnnotationStatistics, surface: str, entities: Sequence[Entity], of: int, own: str | None = None, counted: bool = False
) -> NDArray[np.float32]:
    """`FEATURES` of some entities, float32 [len(entities), 4], among `of` candidates of a surface.

    counted: the statistics have counted the link that is asked for, to the id `own` (None: to NIL), and it is to be left out."""
    known, form = statistics.counts(surface), normalised(surface)
    seen = statistics.marked[form] - counted
    # One link more, which goes to each candidate alike, so that nothing is impossible for not having been seen.
    rows = [
        (
            (known[each.id] - (counted and each.id == own) + 1 / of) / (seen + 1),
            log1p(seen) / 5,
            float(normalised(each.name) == form),
            log1p(of) / 5,
        )
        for each in entities
    ]
    return np.array(rows, np.float32).reshape(len(entities), len(FEATURES))
