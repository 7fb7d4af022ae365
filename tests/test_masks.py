"""bert4k.masks against the plain references, the published forms, and the laws of the algebra."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import reference_masks as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from bert4k import masks
from bert4k.errors import ConfigError

pytestmark = pytest.mark.backends

ONE_TURN = [(0, True)] * 4 + [(1, True)] * 3
PADDED = [*ONE_TURN, (0, False), (0, False)]
GAPS = [(0, True), (0, False), (0, True), (0, False), (0, False), (1, True), (1, False), (1, True), (0, False)]
LEADING = [(0, False), (0, False), (0, True), (0, True), (1, True), (1, True)]
DIALOGUE = [(0, True)] * 3 + [(1, True)] * 2 + [(0, True)] * 2 + [(1, True)] * 3
ROWS = {"one turn": ONE_TURN, "padded": PADDED, "gaps": GAPS, "leading": LEADING, "dialogue": DIALOGUE}


def tokens(mask: masks.Mask, row: reference.Row, **others: Any) -> masks.Tokens:
    segments, real = np.array([[segment for segment, _ in row]]), np.array([[real for _, real in row]])
    return mask.tokens(segments, real, **{name: np.array([values]) for name, values in others.items()})


def matrix(mask: masks.Mask, row: reference.Row, **others: Any) -> np.ndarray:
    """bool [L, L] of one row."""
    return evaluate(mask, tokens(mask, row, **others))[0]


def evaluate(mask: masks.Mask, queries: masks.Tokens, keys: masks.Tokens | None = None) -> np.ndarray:
    allowed = ops.convert_to_numpy(mask(queries, queries if keys is None else keys))
    assert allowed.dtype == bool and allowed.ndim == 4 and allowed.shape[1] == 1
    return allowed[:, 0]


def triangle(length: int, strict: bool = False) -> np.ndarray:
    return np.tri(length, k=-1 if strict else 0, dtype=bool)


# Each part against its reference.


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
@pytest.mark.parametrize(
    ("mask", "rule"),
    [
        (masks.real, reference.real),
        (masks.causal, reference.causal),
        (masks.source, reference.source),
        (masks.window(1), reference.window(1)),
        (masks.window(2), reference.window(2)),
        (masks.window(99), reference.real),
        (masks.seq2seq, reference.seq2seq),
        (masks.encoder, reference.real),
        (masks.lm, reference.causal),
    ],
    ids=lambda value: str(value) if isinstance(value, masks.Mask) else value.__name__,  # the same in every test process
)
def test_parts_agree_with_the_reference(mask: masks.Mask, rule: reference.Rule, row: reference.Row) -> None:
    np.testing.assert_array_equal(matrix(mask, row), reference.matrix(rule, row))


def test_reverse_lm_is_the_mirrored_lm() -> None:
    np.testing.assert_array_equal(matrix(masks.reverse_lm, ONE_TURN), triangle(7).T)
    # Where tokens follow each other without gaps; padding is seen by nobody.
    expected = reference.matrix(lambda row, i, j: reference.place(row, j) >= reference.place(row, i), PADDED)[:7]
    np.testing.assert_array_equal(matrix(masks.reverse_lm, PADDED)[:7], expected)


# What the issue asks of seq2seq.


@pytest.mark.parametrize("length", [1, 2, 7])
def test_seq2seq_is_lm_for_targets_and_encoder_for_sources(length: int) -> None:
    targets, sources = [(1, True)] * length, [(0, True)] * length
    np.testing.assert_array_equal(matrix(masks.seq2seq, targets), matrix(masks.lm, targets))
    np.testing.assert_array_equal(matrix(masks.seq2seq, sources), matrix(masks.encoder, sources))


@pytest.mark.parametrize("form", [reference.unilm_blocks, reference.unilm_cumulative])
@pytest.mark.parametrize("sources", [1, 4])
@pytest.mark.parametrize("targets", [0, 1, 3])
@pytest.mark.parametrize("pads", [0, 2])
def test_seq2seq_is_both_published_forms_once_padding_is_joined_in(form: reference.Rule, sources: int, targets: int, pads: int) -> None:
    row = [(0, True)] * sources + [(1, True)] * targets + [(0, False)] * pads
    rows = slice(sources + targets)
    np.testing.assert_array_equal(matrix(masks.seq2seq, row)[rows], reference.matrix(form, row)[rows])


def test_a_dialogue_does_not_leak_later_sources() -> None:
    ours = matrix(masks.seq2seq, DIALOGUE)
    np.testing.assert_array_equal(ours, reference.matrix(reference.dialogue, DIALOGUE))
    assert not ours[:5, 5:].any()
    # Both published forms do leak, or this test would show nothing.
    assert reference.matrix(reference.unilm_blocks, DIALOGUE)[:5, 5:].any()
    assert reference.matrix(reference.unilm_cumulative, DIALOGUE)[:5, 5:].any()


def test_any_segment_but_the_first_is_target() -> None:
    twos = [(2 * segment, real) for segment, real in GAPS]
    np.testing.assert_array_equal(matrix(masks.seq2seq, twos), matrix(masks.seq2seq, GAPS))


# Permuted masks.


def test_permuted_identity_is_lm() -> None:
    np.testing.assert_array_equal(matrix(masks.permuted(range(7)) & masks.real, ONE_TURN), triangle(7))
    np.testing.assert_array_equal(matrix(masks.permuted(range(7), strict=True), ONE_TURN), triangle(7, strict=True))
    np.testing.assert_array_equal(matrix(masks.permuted(), ONE_TURN, order=range(7)), triangle(7))


def test_an_order_says_when_each_position_is_revealed() -> None:
    order = [0, 3, 1, 2]
    row = [(0, True)] * 4
    expected = np.array([[order[j] <= order[i] for j in range(4)] for i in range(4)])
    np.testing.assert_array_equal(matrix(masks.permuted(order), row), expected)
    np.testing.assert_array_equal(matrix(masks.permuted(), row, order=order), expected)
    np.testing.assert_array_equal(matrix(masks.permuted(order, strict=True), row), expected & ~np.eye(4, dtype=bool))
    assert not matrix(masks.permuted(order, strict=True), row)[0].any(), "the first token revealed has nothing to look at"


def test_ties_see_each_other_and_negative_times_are_context() -> None:
    row = [(0, True)] * 5
    order = [-1, -1, 0, 0, 1]
    content, query = matrix(masks.permuted(), row, order=order), matrix(masks.permuted(strict=True), row, order=order)
    np.testing.assert_array_equal(content.sum(axis=1), [2, 2, 4, 4, 5])
    np.testing.assert_array_equal(query.sum(axis=1), [0, 0, 2, 2, 4])
    assert content[:, :2].all()


def drawn(mask: masks.Mask, batch: int, length: int, pads: int = 0) -> np.ndarray:
    real = np.arange(length)[None] < np.full((batch, 1), length - pads)
    return ops.convert_to_numpy(mask.tokens(np.zeros((batch, length), "int32"), real).rank)


def test_drawn_orders() -> None:
    ranks = drawn(masks.permuted(seed=3), 16, 12)
    assert (np.sort(ranks, axis=1) == np.arange(12)).all(), "each row is a permutation"
    assert (ranks[:, 0] == 0).all(), "the first token comes first"
    assert len({tuple(row) for row in ranks}) == 16, "rows differ"
    np.testing.assert_array_equal(ranks, drawn(masks.permuted(seed=3), 16, 12))
    assert (ranks != drawn(masks.permuted(seed=4), 16, 12)).any()
    assert (drawn(masks.permuted(seed=0), 4, 12) != np.arange(12)).any(), "a seed of 0 is a seed"


def test_drawn_orders_are_uniform() -> None:
    ranks = drawn(masks.permuted(seed=1), 4000, 4)[:, 1:]
    counts = np.array([(ranks == np.array(order)).all(axis=1).sum() for order in itertools.permutations((1, 2, 3))])
    assert counts.sum() == 4000 and (abs(counts - 4000 / 6) < 150).all(), counts


def test_content_and_query_stream_of_one_mask_share_one_order() -> None:
    both = masks.permuted(seed=5) & ~masks.permuted(seed=5, strict=True)
    np.testing.assert_array_equal(matrix(both, ONE_TURN), np.eye(7, dtype=bool))


def test_two_orders_in_one_mask_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"permuted\(seed=1\) \| permuted\(seed=2\) draws several orders.*share one order or one seed"):
        tokens(masks.permuted(seed=1) | masks.permuted(seed=2), ONE_TURN)


def test_a_missing_or_short_order_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"needs to know the order.*input 'order'"):
        tokens(masks.permuted(), ONE_TURN)
    with pytest.raises(ConfigError, match="names 3 positions, the batch has 7"):
        tokens(masks.permuted([0, 1, 2]), ONE_TURN)
    with pytest.raises(ConfigError, match="expected each of 0 to 2 once"):
        masks.permuted([0, 1, 1])
    with pytest.raises(ConfigError, match="an order or a seed, not both"):
        masks.permuted([0, 1], seed=1)


# Padding, packing, single rows.


def test_padding_anywhere_changes_nothing_for_real_tokens() -> None:
    for row in (GAPS, LEADING, PADDED):
        kept = [k for k, (_, real) in enumerate(row) if real]
        bare = [row[k] for k in kept]
        for mask in (
            masks.encoder,
            masks.lm,
            masks.reverse_lm,
            masks.seq2seq,
            masks.window(2),
            masks.causal & masks.window(2) | masks.source,
        ):
            full = matrix(mask, row)
            np.testing.assert_array_equal(full[np.ix_(kept, kept)], matrix(mask, bare), err_msg=str(mask))
            assert not np.delete(full, kept, axis=1).any(), "padding is seen by nobody"


def test_a_gap_within_a_source_does_not_split_it() -> None:
    row = [(0, True), (0, False), (0, True), (1, True)]
    assert matrix(masks.seq2seq, row)[0].tolist() == [True, False, True, False]


def test_a_negated_mask_does_not_show_padding() -> None:
    assert not matrix(~masks.causal, PADDED)[:, 7:].any()
    assert not matrix(~masks.real, PADDED).any()


def test_same_document() -> None:
    documents = [1, 1, 2, 2, 2, 1, 3]
    expected = np.equal.outer(documents, documents)
    np.testing.assert_array_equal(matrix(masks.same_document, ONE_TURN, document_ids=documents), expected)
    np.testing.assert_array_equal(matrix(masks.same_document & masks.causal, ONE_TURN, document_ids=documents), expected & triangle(7))
    assert matrix(masks.same_document, ONE_TURN).all(), "without document ids a row is one document"


def test_rows_of_a_batch_do_not_meet() -> None:
    batch = [GAPS, [*ONE_TURN, (0, False), (0, False)]]
    together = masks.seq2seq.tokens(np.array([[s for s, _ in row] for row in batch]), np.array([[r for _, r in row] for row in batch]))
    for index, row in enumerate(batch):
        np.testing.assert_array_equal(evaluate(masks.seq2seq, together)[index], matrix(masks.seq2seq, row))


# The algebra, on random expressions.

PARTS = st.one_of(
    st.sampled_from([masks.real, masks.causal, masks.source, masks.same_document]),
    st.integers(1, 9).map(masks.window),
    st.booleans().map(lambda strict: masks.permuted([2, 0, 4, 1, 3, 5], strict=strict)),
)
MASKS = st.recursive(
    PARTS,
    lambda inner: st.one_of(
        inner.map(lambda mask: ~mask),
        st.tuples(inner, inner).map(lambda pair: pair[0] & pair[1]),
        st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1]),
    ),
    max_leaves=6,
)
TOKEN = st.tuples(st.integers(0, 2), st.booleans())
TOKENS = st.lists(TOKEN, min_size=6, max_size=6)  # one length: JAX compiles once per shape
DOCUMENTS = st.lists(st.integers(0, 2), min_size=6, max_size=6)


def expected(mask: masks.Mask, row: reference.Row, documents: list[int]) -> np.ndarray:
    """The expression worked out in NumPy from the references of its parts."""
    seen = np.array([real for _, real in row])
    return seen & _expected(mask, row, documents)


def _expected(mask: masks.Mask, row: reference.Row, documents: list[int]) -> np.ndarray:
    match mask:
        case masks.And(left, right):
            return _expected(left, row, documents) & _expected(right, row, documents)
        case masks.Or(left, right):
            return _expected(left, row, documents) | _expected(right, row, documents)
        case masks.Not(inner):
            return ~_expected(inner, row, documents)
        case masks.Permuted(order=tuple() as order, strict=strict):
            return np.array([[order[j] < order[i] or (order[j] == order[i] and not strict) for j in range(6)] for i in range(6)])
        case masks.SameDocument():
            return np.equal.outer(documents, documents)
    rule = {"real": reference.real, "causal": reference.causal, "source": reference.source}.get(str(mask))
    rule = rule or reference.window(int(str(mask).removeprefix("window(").removesuffix(")")))
    return np.array([[rule(row, i, j) for j in range(6)] for i in range(6)])


@settings(max_examples=60)
@given(MASKS, TOKENS, DOCUMENTS)
def test_expressions_mean_what_their_parts_mean(mask: masks.Mask, row: reference.Row, documents: list[int]) -> None:
    np.testing.assert_array_equal(matrix(mask, row, document_ids=documents), expected(mask, row, documents))


@settings(max_examples=30)
@given(MASKS, MASKS, TOKENS, DOCUMENTS)
def test_laws(a: masks.Mask, b: masks.Mask, row: reference.Row, documents: list[int]) -> None:
    def same(left: masks.Mask, right: masks.Mask) -> None:
        np.testing.assert_array_equal(matrix(left, row, document_ids=documents), matrix(right, row, document_ids=documents))

    same(a & b, b & a)
    same(a | b, b | a)
    same(~(a & b), ~a | ~b)
    same(~(a | b), ~a & ~b)
    same(~~a, a)
    same(a & masks.real, a)
    same(a | (a & b), a)


@settings(max_examples=200)
@given(MASKS)
def test_a_mask_parses_from_its_own_text(mask: masks.Mask) -> None:
    assert masks.parse(str(mask)) == mask
    assert masks.parse(repr(mask)) == mask
    assert hash(masks.parse(str(mask))) == hash(mask)
    assert masks.get(mask) is mask


@settings(max_examples=40)
@given(MASKS, TOKENS, DOCUMENTS, st.integers(0, 5), st.integers(1, 6))
def test_a_slice_of_rows_is_that_part_of_the_matrix(
    mask: masks.Mask, row: reference.Row, documents: list[int], start: int, count: int
) -> None:
    count = min(count, 6 - start)
    keys = tokens(mask, row, document_ids=documents)
    part = evaluate(mask, keys.rows(ops.convert_to_tensor(start, "int32"), count), keys)
    np.testing.assert_array_equal(part[0], matrix(mask, row, document_ids=documents)[start : start + count])


# Text.


def test_names_print_as_expressions_and_parse() -> None:
    assert str(masks.seq2seq) == "(causal | source) & real"
    assert str(masks.reverse_lm) == "(~causal | window(1)) & real"
    for name, mask in masks.NAMED.items():
        assert masks.get(name) == mask == masks.parse(str(mask))
        assert masks.get(f" ({name}) ") == mask
    assert str(masks.parse("causal & window(128) | source")) == "causal & window(128) | source"
    assert masks.parse("permuted(seed=1, strict=True)") == masks.permuted(seed=1, strict=True)
    assert masks.parse("permuted(order=[1, 0])") == masks.permuted((1, 0))
    assert masks.parse("causal & source | real") != masks.parse("causal & (source | real)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seq2sec", "no mask 'seq2sec'.*Did you mean 'seq2seq'.*Known masks are encoder, lm"),
        ("casual & real", "no mask 'casual'.*Did you mean 'causal'"),
        ("windows(3)", "no mask 'windows'"),
        ("window", "no mask 'window'.*window\\(n\\)"),
        ("window()", "For example: window"),
        ("window(0)", "expected a whole number of tokens, at least 1"),
        ("window(1.5)", "expected a whole number"),
        ("window(causal)", "For example: window"),
        ("window(size=n)", "For example: window"),
        ("permuted(order=3)", "For example: window"),
        ("permuted(order=[0, 2])", "expected each of 0 to 1 once"),
        ("permuted(sed=1)", "For example: window"),
        ("permuted(seed='a')", "seed"),
        ("permuted(**{})", "no mask|For example"),
        ("causal and real", "is no mask.*joined by & | ~"),
        ("causal + real", "is no mask"),
        ("causal &", "is no mask expression"),
        ("", "is no mask expression"),
        ("1", "is no mask"),
        ("__import__('os')", "no mask '__import__'"),
        ("masks.causal", "is no mask"),
        ("(lambda: 1)()", "is no mask"),
        ("causal\x00", "is no mask expression"),
        ("~" * 5000 + "causal", "is no mask expression"),
    ],
)
def test_what_is_no_mask_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        masks.parse(text)


@pytest.mark.parametrize("value", [None, 3, np.ones((2, 2)), ["causal"], masks.window])
def test_other_objects_are_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"A mask is a name, an expression or a bert4k.masks.Mask"):
        masks.get(value)
    for join in (lambda: masks.causal & value, lambda: masks.causal | value):
        with pytest.raises(ConfigError, match="Masks join with masks"):
            join()


def test_the_base_class_is_no_mask() -> None:
    with pytest.raises(TypeError, match=r"use the names of bert4k.masks"):
        masks.Mask().look(None, None)  # type: ignore[arg-type]
