"""`infill` against one text at a time in NumPy: every step computed anew, whole, and nothing in the row that may not be seen."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pytest
from decoding import reference
from decoding.conftest import SPECIAL, tiny_model
from marks import on_backends

import bert4k
from bert4k import ConfigError, DataError, Infilling, VocabularyError
from bert4k.decoding import blanks
from bert4k.decoding.orders import score_permuted
from bert4k.model import Transformer

# PyTorch's compiler, once it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")

BLANK = SPECIAL.index("[MASK]")
# Blanks of one and of several tokens at either end and side by side; two lengths of rows.
TEXTS: list[Any] = [
    "一[MASK]三",
    "[MASK]{3}",
    "东[MASK]南北[MASK]{2}一二三[MASK]",
    ("上下[MASK]", "[MASK]{2}左右"),
    ("十九八", "[MASK]{5}"),
]
ORDERS: list[Any] = ["confidence", "left_to_right", "right_to_left", [[0], [0], [2, 0, 1], [1, 0], [0]]]


# The slow way. --------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A text whose blanks have a length: ids with a [MASK] for each of their tokens, segments, and where those stand."""

    ids: list[int]
    segments: list[int]
    at: list[int]
    owner: list[int]  # of which blank each is a token


def row_of(tokenizer: Any, text: Any) -> Row:
    """The row of a text whose blanks have one length each."""
    owner: list[int] = []

    def written(blank: re.Match[str]) -> str:
        size = int((blank[1] or "{1}").strip("{}"))
        owner.extend([max(owner, default=-1) + 1] * size)
        return "[MASK]" * size

    parts = tuple(re.sub(r"\[MASK\](\{\d\})?", written, part) for part in ([text] if isinstance(text, str) else text))
    batch = tokenizer([parts if len(parts) > 1 else parts[0]])
    ids, segments = batch["token_ids"][0].tolist(), batch["segment_ids"][0].tolist()
    return Row(ids, segments, [place for place, token in enumerate(ids) if token == BLANK], owner)


Asked = Callable[[dict[int, int]], np.ndarray]  # what is filled: blank -> token, in their order; log-probabilities [P, V]


def in_place(bert: reference.Bert, row: Row) -> Asked:
    """Open blanks are [MASK]s that all see."""

    def asked(filled: dict[int, int]) -> np.ndarray:
        ids = list(row.ids)
        for blank, token in filled.items():
            ids[row.at[blank]] = token
        return bert.log_probs(ids, row.segments)[row.at]

    return asked


def unseen(bert: reference.Bert, row: Row) -> Asked:
    """Open blanks are not in the row. One query at a time stands at its end; who sees whom is written by the time of each."""

    def asked(filled: dict[int, int]) -> np.ndarray:
        given = [(place, token, 0) for place, token in enumerate(row.ids) if place not in row.at]
        known = [*given, *((row.at[blank], token, time) for time, (blank, token) in enumerate(filled.items(), 1))]
        told = []
        for place in row.at:
            places, ids, times = (list(column) for column in zip(*known, (place, BLANK, len(filled)), strict=True))
            allowed = np.array([[times[key] <= times[query] for key in range(len(ids))] for query in range(len(ids))])
            allowed[:, -1] = False
            told.append(bert.told(bert.sequence(ids, [row.segments[each] for each in places], places, allowed))[-1])
        return np.array(told)

    return asked


class Filled(NamedTuple):
    tokens: list[int]
    log_probs: list[float]
    steps: list[int]


def writable(log_probs: np.ndarray) -> np.ndarray:
    """-inf for special tokens."""
    return np.where(np.arange(log_probs.shape[-1]) < len(SPECIAL), -math.inf, log_probs)


def one_by_one(asked: Asked, row: Row, order: Any) -> Filled:
    """order: "confidence", a name, or numbers of blanks."""
    count, filled, log_probs, steps = len(row.at), {}, [0.0] * len(row.at), [-1] * len(row.at)
    turns = list(range(count))
    if order == "right_to_left":
        turns.reverse()
    elif not isinstance(order, str):
        turns.sort(key=lambda token: order.index(row.owner[token]))
    for step in range(count):
        values = writable(asked(filled))
        open_ = [blank for blank in range(count) if blank not in filled]
        blank = max(open_, key=lambda one: values[one].max()) if order == "confidence" else turns[step]
        filled[blank] = int(values[blank].argmax())
        log_probs[blank], steps[blank] = float(values[blank].max()), step
    return Filled([filled[blank] for blank in range(count)], log_probs, steps)


def mask_predict(asked: Asked, row: Row, iterations: int) -> Filled:
    count = len(row.at)
    found, again = Filled([0] * count, [0.0] * count, [0] * count), list(range(count))
    for step in range(iterations):
        if step:
            number = max(1, math.floor(count * (iterations - step) / iterations + 1e-9))
            again = sorted(range(count), key=lambda blank: found.log_probs[blank])[:number]
        values = writable(asked({blank: found.tokens[blank] for blank in range(count) if blank not in again}))
        for blank in again:
            found.tokens[blank], found.log_probs[blank] = int(values[blank].argmax()), float(values[blank].max())
            found.steps[blank] = step
    return found


def same(ours: Infilling, theirs: Filled) -> None:
    assert (ours.token_ids, ours.steps) == (tuple(theirs.tokens), tuple(theirs.steps))
    np.testing.assert_allclose(ours.log_probs, theirs.log_probs, atol=1e-4)
    assert ours.score == pytest.approx(np.mean(theirs.log_probs), abs=1e-4)


def alike(ours: Infilling, theirs: Infilling) -> None:
    """The same texts, probabilities within 1e-4, alternatives included."""
    for one, other in zip((ours, *ours.alternatives), (theirs, *theirs.alternatives), strict=True):
        assert (one.text, one.fills, one.token_ids, one.steps) == (other.text, other.fills, other.token_ids, other.steps)
        np.testing.assert_allclose([one.score, *one.log_probs], [other.score, *other.log_probs], atol=1e-4)


# Filling. -------------------------------------------------------------------------------------------------------------


@pytest.mark.backends
@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize(("mask", "slowly"), (("encoder", in_place), ("permuted", unseen)))
def test_one_blank_at_a_step(under: Callable[[str], Any], tokenizer: Any, mask: str, slowly: Any, order: Any) -> None:
    bert, rows = reference.Bert(under("encoder")), [row_of(tokenizer, text) for text in TEXTS]
    found = bert4k.infill(under(mask), tokenizer, TEXTS, order=order)
    for place, (one, row) in enumerate(zip(found, rows, strict=True)):
        same(one, one_by_one(slowly(bert, row), row, order if isinstance(order, str) else order[place]))
    assert len({one.token_ids[0] for one in found}) > 1, "the fills are too much alike to show anything"


@pytest.mark.backends
@pytest.mark.parametrize("iterations", (1, 2, 4, 9))
def test_mask_predict(model: Any, tokenizer: Any, iterations: int) -> None:
    bert = reference.Bert(model)
    for one, text in zip(bert4k.infill(model, tokenizer, TEXTS, iterations=iterations), TEXTS, strict=True):
        row = row_of(tokenizer, text)
        same(one, mask_predict(in_place(bert, row), row, iterations))


def test_orders_and_machines_matter(under: Callable[[str], Any], tokenizer: Any) -> None:
    """Otherwise the tests above would show little."""
    text = ["[MASK]{6}一二"]
    ways = [bert4k.infill(under("encoder"), tokenizer, text, order=order)[0].token_ids for order in ORDERS[:3]]
    ways += [bert4k.infill(under("encoder"), tokenizer, text, iterations=count)[0].token_ids for count in (1, 3)]
    ways += [bert4k.infill(under("permuted"), tokenizer, text, order=order)[0].token_ids for order in ORDERS[:3]]
    assert len(set(ways)) >= 6


def test_a_blank_alone_is_what_fill_says(model: Any, tokenizer: Any) -> None:
    [one] = bert4k.infill(model, tokenizer, ["一[MASK]三"])
    [candidates] = bert4k.fill(model, tokenizer, "一[MASK]三", top_k=24)
    best = next(candidate for candidate in candidates if candidate.token not in SPECIAL)
    assert one.fills == (best.token,)
    assert math.exp(one.score) == pytest.approx(best.probability, abs=1e-5)


@pytest.mark.backends
@pytest.mark.parametrize("order", ("confidence", "right_to_left"))
def test_a_permuted_model_tells_the_exact_probability_of_what_it_fills(under: Callable[[str], Any], tokenizer: Any, order: str) -> None:
    found = bert4k.infill(under("permuted"), tokenizer, ["[MASK]{5}", "[MASK]", "[MASK]{7}"], order=order)
    orders = [np.argsort(one.steps).tolist() for one in found]
    scores = score_permuted(under("permuted"), tokenizer, [one.text for one in found], orders)
    np.testing.assert_allclose(scores, [sum(one.log_probs) for one in found], atol=2e-4)


def test_special_tokens_are_never_written(tokenizer: Any) -> None:
    model = tiny_model(seed=4)
    bias = np.zeros(24, "float32")
    bias[: len(SPECIAL)] = 50.0
    model.parts["mlm"].bias.assign_add(bias)
    for machine, how in (
        (model, {}),
        (model, {"iterations": 2}),
        (model, {"sampler": bert4k.sample(seed=1)}),
        (model.with_mask("permuted"), {}),
    ):
        for one in bert4k.infill(machine, tokenizer, TEXTS, **how):
            assert min(one.token_ids) >= len(SPECIAL)
            assert max(one.log_probs) < -20  # their probability is what the model gave it, not what was left for them


# Lengths. -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "how"),
    on_backends(
        (("encoder", {}), ("encoder", {"iterations": 3}), ("permuted", {"order": "left_to_right"})), ("encoder", {"iterations": 3})
    ),
)
def test_every_combination_of_lengths_is_tried(under: Callable[[str], Any], tokenizer: Any, mask: str, how: dict[str, Any]) -> None:
    text = "[MASK]{1,3}二[MASK]{2}三[MASK]{ 2, 4 }"
    [found] = bert4k.infill(under(mask), tokenizer, [text], **how)
    every = [found, *found.alternatives]
    assert [one.score for one in every] == sorted((one.score for one in every), reverse=True)
    by_sizes = {tuple(map(len, one.fills)): replace(one, alternatives=()) for one in every}
    assert set(by_sizes) == set(product((1, 2, 3), (2,), (2, 3, 4)))
    assert len(every) == 9
    for first, _, last in by_sizes:
        [alone] = bert4k.infill(under(mask), tokenizer, [f"[MASK]{{{first}}}二[MASK]{{2}}三[MASK]{{{last}}}"], **how)
        alike(alone, by_sizes[first, 2, last])


def test_the_length_penalty_compares_lengths(model: Any, tokenizer: Any) -> None:
    text, chosen = ["上[MASK]{1,6}下"], set()
    [found] = bert4k.infill(model, tokenizer, text)
    sums = {len(one.token_ids): sum(one.log_probs) for one in (found, *found.alternatives)}
    assert sorted(sums) == [1, 2, 3, 4, 5, 6]
    for penalty in (0.0, 0.5, 1.0, 3.0, 20.0):
        [found] = bert4k.infill(model, tokenizer, text, length_penalty=penalty)
        ranked = sorted(sums, key=lambda size: -sums[size] / size**penalty)
        assert [len(one.token_ids) for one in (found, *found.alternatives)] == ranked
        assert found.score == pytest.approx(sums[ranked[0]] / ranked[0] ** penalty)
        chosen.add(ranked[0])
    assert len(chosen) > 1
    assert ranked[0] == 6


# Batches. -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "how"),
    on_backends(
        [
            ("encoder", {"iterations": 3}),
            ("encoder", {"order": "right_to_left", "sampler": bert4k.sample(temperature=1.5, top_k=12, seed=7)}),
            ("permuted", {"sampler": bert4k.sample(seed=2)}),
        ],
        ("permuted", {"sampler": bert4k.sample(seed=2)}),
    ),
)
def test_a_batch_is_filled_as_its_texts_alone(under: Callable[[str], Any], tokenizer: Any, mask: str, how: dict[str, Any]) -> None:
    texts = [*TEXTS, "[MASK]{1,3}一二三四五六七八", "二[MASK]{2,3}"]
    together = bert4k.infill(under(mask), tokenizer, texts, **how)
    for one, other in zip(together, bert4k.infill(under(mask), tokenizer, texts, batch_size=4, **how), strict=True):
        alike(one, other)
    for place in (3, 6):
        alike(bert4k.infill(under(mask), tokenizer, [texts[place]], **how)[0], together[place])


def test_seeds(under: Callable[[str], Any], tokenizer: Any) -> None:
    def written(seed: int | None, texts: list[str]) -> list[Any]:
        return [one.text for one in bert4k.infill(under("permuted"), tokenizer, texts, sampler=bert4k.sample(seed=seed))]

    texts = ["[MASK]{8}"] * 4
    assert written(1, texts) == written(1, texts) != written(2, texts)
    assert len(set(written(1, texts))) > 1, "a repeated text draws anew"


@pytest.mark.backends
def test_samples_have_the_models_distribution(under: Callable[[str], Any], tokenizer: Any) -> None:
    row = row_of(tokenizer, "一[MASK]三")
    expected = np.exp(writable(in_place(reference.Bert(under("encoder")), row)({}))[0])
    found = bert4k.infill(under("encoder"), tokenizer, ["一[MASK]三"] * 2000, sampler=bert4k.sample(seed=3), batch_size=2048)
    counted = np.bincount([one.token_ids[0] for one in found], minlength=len(expected)) / 2000
    np.testing.assert_allclose(counted, expected / expected.sum(), atol=0.04)


def test_the_vocabulary_is_computed_for_what_is_asked_only(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    head = Transformer.head
    model = tiny_model(layers=1)
    permuted = model.with_mask("permuted")
    monkeypatch.setattr(Transformer, "head", lambda self, name, x: (shapes.append(tuple(x.shape)), head(self, name, x))[1])
    for machine in (model, permuted):
        for order, asked in (("confidence", 4), ("left_to_right", 1)):
            shapes.clear()
            bert4k.infill(machine, tokenizer, ["一二三四五六[MASK]{4}七八", "一[MASK]二三四五六[MASK]七八九十"], order=order)
            assert set(shapes) == {(2, asked, 16)}


def test_a_bucket_is_compiled_once(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[str] = []
    for program in (blanks.InPlace, blanks.Unseen):
        look = program.look

        def counted(self: Any, *args: Any, look: Any = look) -> Any:
            traced.append(type(self).__name__)
            return look(self, *args)

        monkeypatch.setattr(program, "look", counted)
    model = tiny_model(layers=1)
    for machine, ways in ((model, ({}, {"order": "left_to_right"}, {"iterations": 2})), (model.with_mask("permuted"), ({},))):
        for way in ways:
            bert4k.infill(machine, tokenizer, ["一[MASK]{4}二"], **way)
            traced.clear()
            again = {"iterations": 5} if "iterations" in way else {"order": "right_to_left"} if "order" in way else {}
            bert4k.infill(machine, tokenizer, ["东[MASK]{4}"], **again)
            assert not traced


# Texts. ---------------------------------------------------------------------------------------------------------------


def test_what_was_written_stays(tokenizer: Any, model: Any) -> None:
    texts = ["ABC 零 [MASK]{2} { [MASK] {2}", ("[MASK]Ⅻ", "\n[MASK]{2}\t"), ["十[MASK]", "[SEP]"]]
    for one, text in zip(bert4k.infill(model, tokenizer, texts), texts, strict=True):
        fills = iter(one.fills)
        parts = [
            re.sub(r"\[MASK\](\{\d\})?", lambda _, left=fills: next(left), part) for part in ([text] if isinstance(text, str) else text)
        ]
        assert one.text == (parts[0] if isinstance(text, str) else tuple(parts))
        assert next(fills, None) is None
        assert str(one) == "\t".join(parts)
        assert "".join(one.fills) == "".join(map(tokenizer.id_to_token, one.token_ids))


# Bad input. -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    (
        ("一二三", "no blank"),
        ("一[MASK]{0}", "at least 1 token"),
        ("一[MASK]{0,2}", "at least 1 token"),
        ("一[MASK]{5,2}", "first the least"),
        ("一[MASK]{2,}", "is no blank"),
        ("一[MASK]{a}", "space before a brace"),
        ("一[MASK]{3", "is no blank"),
        ("[MASK]{1,7}" * 3, "343 combinations"),
        ("[MASK]{1,999999999}", "combinations"),
        ("一[MASK]{47}", "Text 1 has 50 tokens .* 48 positions"),
        ("[MASK]{20}[MASK]{20,28}", "Text 1 has 50 tokens"),
        (3, "expected a string, or a pair"),
        (("一", "二", "[MASK]"), "expected a string, or a pair"),
        ((), "expected a string, or a pair"),
    ),
)
def test_blanks_that_are_none(model: Any, tokenizer: Any, text: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        bert4k.infill(model, tokenizer, ["[MASK]", text])


def test_the_longest_text_fits(model: Any, tokenizer: Any) -> None:
    for machine in (model, model.with_mask("permuted")):
        [one] = bert4k.infill(machine, tokenizer, ["一[MASK]{45}"], order="left_to_right")
        assert len(one.token_ids) == 45
        assert np.isfinite(one.log_probs).all()


def test_orders_that_are_none(model: Any, tokenizer: Any) -> None:
    for order, words in (
        ("confidense", "Did you mean 'confidence'"),
        ((0, 0), "no order of the 2 blanks of text 0"),
        ((0, 2), "each number from 0 to 1 once"),
        ((0.0, 1.0), "no order"),
        ([[0, 1], [1, 0]], "2 sequences and there are 1 texts"),
        (3, "expected one of confidence"),
        (None, "expected one of confidence"),
    ):
        with pytest.raises(ConfigError, match=words):
            bert4k.infill(model, tokenizer, ["[MASK]一[MASK]{2}"], order=order)
    expected = bert4k.infill(model, tokenizer, ["[MASK]一[MASK]{2}"], order=(1, 0))
    assert bert4k.infill(model, tokenizer, ["[MASK]一[MASK]{2}"], order=np.array([1, 0])) == expected


def test_settings_out_of_range(model: Any, under: Callable[[str], Any], tokenizer: Any) -> None:
    for settings, words in (
        ({"iterations": 0}, "iterations=0"),
        ({"iterations": True}, "iterations=True"),
        ({"iterations": 2, "order": "left_to_right"}, "Give one of the two"),
        ({"length_penalty": math.nan}, "length_penalty"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"sampler": bert4k.beam(2)}, "a blank gets one token"),
        ({"sampler": bert4k.sample(count=2)}, "a blank gets one token"),
        ({"sampler": "greedy"}, "a blank gets one token"),
    ):
        with pytest.raises(ConfigError, match=words):
            bert4k.infill(model, tokenizer, ["[MASK]"], **settings)
    with pytest.raises(ConfigError, match="takes back"):
        bert4k.infill(under("permuted"), tokenizer, ["[MASK]"], iterations=2)


def test_machines_that_fill_no_blanks(model: Any, under: Callable[[str], Any], tokenizer: Any) -> None:
    for mask in ("lm", "seq2seq", "permuted(seed=1)", "permuted(strict=True)", "permuted & window(3)"):
        with pytest.raises(ConfigError, match="with_mask\\('encoder'\\)"):
            bert4k.infill(model.with_mask(mask), tokenizer, ["[MASK]"])
    with pytest.raises(ConfigError, match="outputs=\\('mlm',\\)"):
        bert4k.infill(Transformer(model.config, "encoder", ("sequence",)), tokenizer, ["[MASK]"])
    packed = model.with_mask("permuted & same_document")
    alike(bert4k.infill(packed, tokenizer, TEXTS[2:3])[0], bert4k.infill(under("permuted"), tokenizer, TEXTS[2:3])[0])


def test_texts_come_in_lists_with_their_tokenizer(model: Any, tokenizer: Any) -> None:
    for texts in ("[MASK]", [], None):
        with pytest.raises(DataError, match="takes a list"):
            bert4k.infill(model, tokenizer, texts)
    with pytest.raises(VocabularyError, match="6 tokens"):
        bert4k.infill(model, bert4k.Tokenizer([*SPECIAL, "一"]), ["[MASK]"])
    plain = bert4k.Tokenizer(tokenizer.vocabulary, special_tokens_in_text=False)
    with pytest.raises(DataError, match="special_tokens_in_text"):
        bert4k.infill(model, plain, ["[MASK]"])
