"""Prompt lookup: what comes next is often what came next before (Saxena 2023, github.com/apoorvumang/prompt-lookup-decoding).

A text that answers another copies from it: names, numbers, whole clauses. The last tokens written are looked up in the source
and in what has been written, and what followed there is proposed. One step checks all proposals; a wrong one costs nothing but
its row in a matrix product.
"""

from __future__ import annotations

from typing import Any

from keras import ops

LONGEST = 3  # tokens that are compared


def proposed(source_ids: Any, real: Any, tokens: Any, length: Any, count: int) -> Any:
    """What may come next, int32 [B, W, count]: what followed the earliest of the longest matches of the last tokens.

    source_ids int32 and real bool [B, S]; tokens int32 [B, W, T], of which the first `length` [B, W] are written, at least one. Where
    nothing matches, the proposals mean nothing.
    """
    rows, width, slots = tokens.shape
    before = source_ids.shape[1] + 1
    # What is written does not follow on the source: between them stands what is no token.
    source = ops.concatenate([source_ids, ops.full((rows, 1), -1, "int32")], axis=1)
    text = ops.concatenate([ops.broadcast_to(source[:, None], (rows, width, before)), tokens], axis=2)
    newest = before + length[..., None] - 1  # where the last token stands, [B, W, 1]
    place = ops.arange(before + slots, dtype="int32")
    # A match is known by its last token. Something must follow it: for the source, a token of its own.
    follows = ops.concatenate([real[:, 1:], ops.zeros((rows, 2), "bool")], axis=1)
    follows = ops.concatenate([ops.broadcast_to(follows[:, None], (rows, width, before)), ops.ones(tokens.shape, "bool")], axis=2)
    same, matched = ops.logical_and(follows, place < newest), ops.zeros(text.shape, "int32")
    for back in range(LONGEST):
        earlier = text if back == 0 else ops.concatenate([ops.full((rows, width, back), -1, "int32"), text[..., :-back]], axis=2)
        recent = ops.take_along_axis(text, ops.maximum(newest - back, 0), axis=2)
        same = ops.logical_and(same, ops.logical_and(ops.equal(earlier, recent), newest - back >= before))
        matched = matched + ops.cast(same, "int32")
    best = ops.cast(ops.argmax(matched, axis=2), "int32")[..., None]
    following = ops.take_along_axis(text, ops.minimum(best + 1 + ops.arange(count, dtype="int32"), before + slots - 1), axis=2)
    return ops.maximum(following, 0)
