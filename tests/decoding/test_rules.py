"""Rules on random texts, against the same rules in plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from decoding import reference
from keras import ops

from bert4k.decoding.rules import Rules
from bert4k.decoding.samplers import LOST

END, VOCABULARY, SLOTS = 3, 7, 9


@pytest.mark.backends
@pytest.mark.parametrize(
    "rules",
    (
        {},
        {"forbidden": (0, 5)},
        {"min_tokens": 4},
        {"no_repeat_ngram": 1},
        {"no_repeat_ngram": 2},
        {"no_repeat_ngram": 3},
        {"no_repeat_ngram": SLOTS + 1},
        {"repetition_penalty": 1.7},
        {"repetition_penalty": 0.5, "no_repeat_ngram": 2, "min_tokens": 9, "forbidden": (0, 1, 2)},
        {"no_repeat_ngram": 1, "min_tokens": 9, "forbidden": (0, 1, 2)},
    ),
)
def test_rules_equal_those_in_plain_python(rules: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    log_probs = np.log(rng.dirichlet(np.ones(VOCABULARY), (4, 3))).astype("float32")
    # Few different tokens, so that sequences do repeat; what stands behind the slot is no text.
    tokens = rng.choice([4, 5, 6], (4, 3, SLOTS)).astype("int32")
    for slot in range(SLOTS):
        found = ops.convert_to_numpy(Rules(**rules)(*map(ops.convert_to_tensor, (log_probs, tokens, np.full((4, 3), slot, "int32"))), END))
        for place in np.ndindex(4, 3):
            after = reference.constrained(lambda _, values=log_probs[place]: values, END, **rules)
            expected = after(tuple(tokens[place][:slot].tolist()))
            assert (found[place] < LOST).tolist() == np.isinf(expected).tolist()
            possible = np.isfinite(expected)
            np.testing.assert_allclose(found[place][possible], expected[possible], rtol=1e-5)


@pytest.mark.backends
@pytest.mark.parametrize("rules", ({"no_repeat_ngram": 1}, {"no_repeat_ngram": 2, "min_tokens": 9}, {"min_tokens": 9, "forbidden": (0, 5)}))
def test_what_is_allowed_comes_before_what_is_asked_for(rules: dict[str, Any]) -> None:
    """Repeating and ending early are open where nothing else is allowed; what is not allowed never is."""
    rng = np.random.default_rng(3)
    log_probs = np.log(rng.dirichlet(np.ones(VOCABULARY), (9, 5))).astype("float32")
    tokens = rng.choice([4, 5, 6], (9, 5, SLOTS)).astype("int32")
    allowed = rng.random((9, 5, VOCABULARY)) < 0.3
    allowed[..., 4] |= ~allowed[..., [1, 2, 3, 4, 6]].any(-1)  # something that can come
    outcomes = set()
    for slot in range(SLOTS):
        length = np.full((9, 5), slot, "int32")
        found = ops.convert_to_numpy(
            Rules(**rules)(*map(ops.convert_to_tensor, (log_probs, tokens, length)), END, ops.convert_to_tensor(allowed))
        )
        for place in np.ndindex(9, 5):
            hard = allowed[place] & ~np.isin(np.arange(VOCABULARY), rules.get("forbidden", ()))
            possible = hard
            for soft in ({"no_repeat_ngram": rules.get("no_repeat_ngram", 0)}, {"min_tokens": rules.get("min_tokens", 0)}):
                after = reference.constrained(lambda _: np.zeros(VOCABULARY), END, **soft)
                fewer = possible & np.isfinite(after(tuple(tokens[place][:slot].tolist())))
                outcomes.add((bool(fewer.any()), bool((fewer < possible).any())))
                possible = fewer if fewer.any() else possible
            assert (found[place] > LOST).tolist() == possible.tolist()
            np.testing.assert_allclose(found[place][possible], log_probs[place][possible], rtol=1e-6)
    assert outcomes == {(True, False), (True, True), (False, True)}
