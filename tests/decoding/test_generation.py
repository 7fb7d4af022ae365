"""Cached, compiled, batched decoding against one row at a time, uncached, in plain Python."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import pytest
from decoding import reference
from decoding.conftest import SOURCES, SPECIAL, randomise, tiny_model

import bert4k
from bert4k import ConfigError, DataError, VocabularyError
from bert4k.decoding import generation, loop
from bert4k.decoding.generation import Generation
from bert4k.model import Transformer

# PyTorch's compiler, once it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")

END = SPECIAL.index("[SEP]")
FORBIDDEN = [index for index in range(len(SPECIAL)) if index != END]
LIMIT = 6
MASKS = ("lm", "seq2seq", "(causal & window(4) | source) & real")
SAMPLERS = {
    "greedy": bert4k.greedy(),
    "sample": bert4k.sample(seed=3),
    "sample cut": bert4k.sample(temperature=1.5, top_k=9, top_p=0.9, seed=5),
    "beam": bert4k.beam(3, length_penalty=0.6, n_best=2),
}


def rows_of(model: Any, tokenizer: Any, sources: Sequence[str]) -> list[list[int]]:
    rows = [[tokenizer.cls_id, *(tokenizer.token_to_id(token) for token in tokenizer.tokenize(source))] for source in sources]
    return [[*row, END] if "source" in str(model.mask) else row for row in rows]


def expected(
    model: Any, tokenizer: Any, sources: Sequence[str], sampler: Any, limit: int = LIMIT, **rules: Any
) -> list[list[reference.Found]]:
    """The hypotheses of each source, as plain Python finds them."""
    bert, rows = reference.Bert(model, str(model.mask)), rows_of(model, tokenizer, sources)
    uniform = generation.random_numbers(rows, sampler, limit)
    found = []
    for place, row in enumerate(rows):
        after = reference.constrained(bert.after(row, int("source" in str(model.mask))), END, FORBIDDEN, **rules)
        match sampler:
            case bert4k.decoding.samplers.Beam():
                found.append(reference.beam(after, END, limit, sampler.beams, sampler.length_penalty, sampler.n_best))
            case bert4k.decoding.samplers.Sample():
                cut = (sampler.temperature, sampler.top_k, sampler.top_p)
                found.append([reference.sample(after, END, limit, numbers, *cut) for numbers in uniform[place]])
            case _:
                found.append([reference.greedy(after, END, limit)])
    return found


def tokens(one: Generation) -> tuple[int, ...]:
    return (*one.token_ids, END) if one.ended else one.token_ids


def same(ours: Sequence[Generation], theirs: Sequence[Sequence[reference.Found]]) -> None:
    """Identical tokens, probabilities within 1e-4."""
    for one, found in zip(ours, theirs, strict=True):
        hypotheses = [one, *one.alternatives]
        assert [tokens(each) for each in hypotheses] == [each.tokens for each in found]
        for mine, yours in zip(hypotheses, found, strict=True):
            np.testing.assert_allclose(mine.log_probs, yours.log_probs, atol=1e-4)
            assert mine.score == pytest.approx(yours.score, abs=1e-4 * LIMIT)


def alike(ours: Sequence[Generation], theirs: Sequence[Generation]) -> None:
    """The same texts, probabilities within 1e-4."""
    for one, other in zip(ours, theirs, strict=True):
        for mine, yours in zip([one, *one.alternatives], [other, *other.alternatives], strict=True):
            assert (mine.text, mine.token_ids, mine.ended) == (yours.text, yours.token_ids, yours.ended)
            np.testing.assert_allclose([mine.score, *mine.log_probs], [yours.score, *yours.log_probs], atol=1e-4)


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for every time that Python runs through the prefill or the step, which is when they are compiled."""
    seen: list[str] = []
    for name in ("prefill", "step"):
        original = getattr(loop.Program, name)

        def counted(self: Any, *args: Any, name: str = name, original: Any = original) -> Any:
            seen.append(name)
            return original(self, *args)

        monkeypatch.setattr(loop.Program, name, counted)
    return seen


# Cached = uncached. ---------------------------------------------------------------------------------------------------


@pytest.mark.backends
@pytest.mark.parametrize("mask", ("encoder", *MASKS))
def test_the_reference_is_the_model(under: Callable[[str], Any], tokenizer: Any, mask: str) -> None:
    row = rows_of(under(mask), tokenizer, ["上下左右中"])[0] + [7, 9, 11]
    segments = [0] * (len(row) - 3) + [1] * 3
    logits = under(mask).predict({"token_ids": np.array([row]), "segment_ids": np.array([segments])}, verbose=0)["mlm"][0]
    log_probs = logits - np.log(np.exp(logits.astype("float64")).sum(-1, keepdims=True))
    np.testing.assert_allclose(log_probs, reference.Bert(under(mask), str(under(mask).mask)).log_probs(row, segments), atol=2e-5)


@pytest.mark.backends
@pytest.mark.parametrize(
    ("mask", "sampler"),
    [
        ("lm", "greedy"),
        ("lm", "sample cut"),
        ("lm", "beam"),
        ("seq2seq", "greedy"),
        ("seq2seq", "sample"),
        ("seq2seq", "beam"),
        (MASKS[2], "beam"),
    ],
)
def test_cached_equals_uncached(under: Callable[[str], Any], tokenizer: Any, mask: str, sampler: str) -> None:
    ours = bert4k.generate(under(mask), tokenizer, SOURCES, SAMPLERS[sampler], max_tokens=LIMIT)
    theirs = expected(under(mask), tokenizer, SOURCES, SAMPLERS[sampler])
    same(ours, theirs)
    assert len({tokens(one) for one in ours}) > 3, "the texts are too much alike to show anything"
    assert {one.ended for one in ours} == {True, False} or sampler == "beam"


@pytest.mark.backends
@pytest.mark.parametrize("sampler", ("greedy", "sample", "beam"))
def test_a_batch_equals_each_source_alone(under: Callable[[str], Any], tokenizer: Any, sampler: str) -> None:
    model = under("seq2seq")
    together = bert4k.generate(model, tokenizer, SOURCES, SAMPLERS[sampler], max_tokens=LIMIT)
    for place, source in enumerate(SOURCES[:4]):
        alike(bert4k.generate(model, tokenizer, [source], SAMPLERS[sampler], max_tokens=LIMIT), [together[place]])


def test_batch_size_order_and_company_change_nothing(under: Callable[[str], Any], tokenizer: Any) -> None:
    model, sources = under("lm"), [*SOURCES, "一二三四五六七八九十上下左右"]
    found = bert4k.generate(model, tokenizer, sources, SAMPLERS["beam"], max_tokens=LIMIT)
    alike(bert4k.generate(model, tokenizer, sources, SAMPLERS["beam"], max_tokens=LIMIT, batch_size=4), found)
    order = np.random.default_rng(0).permutation(len(sources))
    shuffled = bert4k.generate(model, tokenizer, [sources[place] for place in order], SAMPLERS["beam"], max_tokens=LIMIT)
    alike(shuffled, [found[place] for place in order])


def test_a_repeated_source_draws_anew_and_a_seed_repeats(under: Callable[[str], Any], tokenizer: Any) -> None:
    def texts(sampler: Any) -> list[str]:
        return [one.text for one in bert4k.generate(under("seq2seq"), tokenizer, ["上下"] * 8, sampler, max_tokens=LIMIT)]

    once = texts(bert4k.sample(seed=1))
    assert len(set(once)) > 1
    assert texts(bert4k.sample(seed=1)) == once
    assert texts(bert4k.sample(seed=2)) != once
    assert texts(bert4k.sample()) != texts(bert4k.sample())


def test_several_samples_a_source(under: Callable[[str], Any], tokenizer: Any) -> None:
    sampler = bert4k.sample(seed=4, count=3)
    same(
        bert4k.generate(under("seq2seq"), tokenizer, SOURCES, sampler, max_tokens=LIMIT),
        expected(under("seq2seq"), tokenizer, SOURCES, sampler),
    )


@pytest.mark.backends
def test_one_graph_serves_a_bucket(under: Callable[[str], Any], tokenizer: Any, traces: list[str]) -> None:
    model = under("seq2seq")
    for sampler in (SAMPLERS["greedy"], SAMPLERS["beam"]):
        bert4k.generate(model, tokenizer, SOURCES, sampler, max_tokens=LIMIT)
        del traces[:]
        # 5 to 6 tokens, 7 to 8 sources and up to 8 tokens a source are one bucket each.
        found = bert4k.generate(model, tokenizer, [*SOURCES[:5], "南北", "西"], sampler, max_tokens=5)
        assert not traces
        same(found, expected(model, tokenizer, [*SOURCES[:5], "南北", "西"], sampler, limit=5))


def test_the_first_call_compiles_the_step_once(tokenizer: Any, traces: list[str]) -> None:
    bert4k.generate(tiny_model(mask="lm", layers=1), tokenizer, SOURCES, max_tokens=LIMIT)
    assert sorted(traces) == ["prefill", "step"]


# Beams. ---------------------------------------------------------------------------------------------------------------


@pytest.mark.backends
@pytest.mark.parametrize("penalty", (0.6, -0.5))
def test_a_wide_beam_is_exhaustive_search(penalty: float) -> None:
    small = bert4k.Tokenizer([*SPECIAL, "一", "二", "三"])
    model = tiny_model(len(small), seed=3, mask="lm", layers=1)
    limit, width = 3, 40  # 1 + 3 + 9 texts that end, 27 that do not
    found = bert4k.generate(model, small, ["一二", "三"], bert4k.beam(width, penalty, n_best=width), max_tokens=limit)
    for one, row in zip(found, rows_of(model, small, ["一二", "三"]), strict=True):
        after = reference.constrained(reference.Bert(model, "causal & real").after(row, 0), END, FORBIDDEN)
        best = reference.exhaustive(after, END, limit, penalty)
        assert len(best) == 40
        hypotheses = [one, *one.alternatives]
        np.testing.assert_allclose([each.score for each in hypotheses], [each.score for each in best], atol=1e-4)
        assert {tokens(each) for each in hypotheses} == {each.tokens for each in best}
        assert tokens(one) == best[0].tokens


def test_a_beam_wider_than_what_is_possible() -> None:
    small = bert4k.Tokenizer([*SPECIAL, "一", "二"])
    model = tiny_model(len(small), mask="lm", layers=1)
    [one] = bert4k.generate(model, small, ["一"], bert4k.beam(8, n_best=8), max_tokens=1)
    hypotheses = [one, *one.alternatives]
    assert sorted(tokens(each) for each in hypotheses) == [(END,), (5,), (6,)], "only what can be written is returned"
    assert np.exp([each.score for each in hypotheses]).sum() < 1


@pytest.mark.parametrize(
    ("sampler", "rules"),
    (
        ("greedy", {"min_tokens": 3, "repetition_penalty": 3.0}),
        ("greedy", {"min_tokens": 8, "no_repeat_ngram": 2}),
        ("beam", {"min_tokens": 3, "no_repeat_ngram": 1}),
        ("beam", {"min_tokens": 8, "no_repeat_ngram": 3, "repetition_penalty": 1.3}),
    ),
)
def test_rules_equal_those_in_plain_python(under: Callable[[str], Any], tokenizer: Any, sampler: str, rules: dict[str, Any]) -> None:
    found = bert4k.generate(under("seq2seq"), tokenizer, SOURCES, SAMPLERS[sampler], max_tokens=8, **rules)
    same(found, expected(under("seq2seq"), tokenizer, SOURCES, SAMPLERS[sampler], limit=8, **rules))
    for one in itertools.chain.from_iterable((one, *one.alternatives) for one in found):
        assert not set(one.token_ids) & {*FORBIDDEN, END}
        assert len(one.token_ids) >= rules.get("min_tokens", 0)
        if size := rules.get("no_repeat_ngram"):
            ngrams = list(zip(*(one.token_ids[offset:] for offset in range(size)), strict=False))
            assert len(ngrams) == len(set(ngrams))


def test_where_nothing_else_is_left_the_text_ends_early() -> None:
    small = bert4k.Tokenizer([*SPECIAL, "一", "二", "三"])
    model = tiny_model(len(small), mask="lm", layers=1)
    for sampler in (bert4k.greedy(), bert4k.beam(2, n_best=2), bert4k.sample(seed=0, temperature=50.0)):
        [one] = bert4k.generate(model, small, ["一"], sampler, max_tokens=8, min_tokens=8, no_repeat_ngram=1)
        for each in (one, *one.alternatives):
            assert sorted(each.token_ids) == [5, 6, 7]
            assert each.ended
            assert each.score > -100


# The end. -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ends_at_once() -> Any:
    model = tiny_model(mask="lm", layers=1)
    model.parts["mlm"].bias.assign(np.eye(model.config.vocab_size)[END] * 1000.0)
    return model


@pytest.mark.parametrize("sampler", (bert4k.greedy(), bert4k.beam(2), bert4k.sample(seed=0)))
def test_the_end_may_come_at_once(ends_at_once: Any, tokenizer: Any, sampler: Any) -> None:
    for one in bert4k.generate(ends_at_once, tokenizer, SOURCES, sampler, max_tokens=LIMIT):
        assert (one.text, one.token_ids, one.ended) == ("", (), True)
        assert one.log_probs == pytest.approx((0.0,), abs=1e-4)


@pytest.mark.parametrize("sampler", (bert4k.greedy(), bert4k.beam(2, length_penalty=1.0)))
def test_the_end_on_the_last_slot_is_an_end(ends_at_once: Any, tokenizer: Any, sampler: Any) -> None:
    limit = 4
    for one in bert4k.generate(ends_at_once, tokenizer, SOURCES, sampler, max_tokens=limit, min_tokens=limit - 1):
        assert one.ended
        assert len(one.token_ids) == limit - 1
        assert len(one.log_probs) == limit
    for one in bert4k.generate(ends_at_once, tokenizer, SOURCES, sampler, max_tokens=limit, min_tokens=limit):
        assert not one.ended, "the limit came first: nothing is written behind it"
        assert len(one.token_ids) == len(one.log_probs) == limit


@pytest.mark.parametrize("sampler", ("greedy", "beam"))
def test_a_limit_of_one(under: Callable[[str], Any], tokenizer: Any, sampler: str) -> None:
    found = bert4k.generate(under("seq2seq"), tokenizer, SOURCES, SAMPLERS[sampler], max_tokens=1)
    same(found, expected(under("seq2seq"), tokenizer, SOURCES, SAMPLERS[sampler], limit=1))


def test_every_position_of_the_model_can_be_used(under: Callable[[str], Any], tokenizer: Any) -> None:
    source, limit = "一二三四五六七八九十" * 4, 48 - 41
    found = bert4k.generate(under("lm"), tokenizer, [source], max_tokens=limit, min_tokens=limit)
    same(found, expected(under("lm"), tokenizer, [source], bert4k.greedy(), limit=limit, min_tokens=limit))
    with pytest.raises(DataError, match="Source 0 has 41 tokens"):
        bert4k.generate(under("lm"), tokenizer, [source], max_tokens=limit + 1)


# Streaming. -----------------------------------------------------------------------------------------------------------


@pytest.mark.backends
@pytest.mark.parametrize("sampler", ("greedy", "sample"))
def test_streamed_pieces_join_to_the_text(under: Callable[[str], Any], tokenizer: Any, sampler: str) -> None:
    for source in SOURCES[2:4]:
        pieces = list(bert4k.stream(under("lm"), tokenizer, source, SAMPLERS[sampler], max_tokens=LIMIT))
        [one] = bert4k.generate(under("lm"), tokenizer, [source], SAMPLERS[sampler], max_tokens=LIMIT)
        assert "".join(pieces) == one.text
        assert len(pieces) == len(one.token_ids)


def test_a_stream_can_be_left_early(under: Callable[[str], Any], tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    original = loop.Decoder.steps

    def counted(self: Any, request: Any) -> Iterator[Any]:
        for state in original(self, request):
            steps.append(1)
            yield state

    monkeypatch.setattr(loop.Decoder, "steps", counted)
    pieces = bert4k.stream(under("lm"), tokenizer, "上下", max_tokens=24, min_tokens=24)
    assert len(next(pieces)) == 1
    pieces.close()
    assert len(steps) == 1


@pytest.mark.parametrize("sampler", (bert4k.beam(2), bert4k.beam(1), bert4k.sample(count=2)))
def test_what_is_known_at_the_end_only_does_not_stream(under: Callable[[str], Any], tokenizer: Any, sampler: Any) -> None:
    with pytest.raises(ConfigError, match="Use generate"):
        bert4k.stream(under("lm"), tokenizer, "上下", sampler)


# The model changes. ---------------------------------------------------------------------------------------------------


@pytest.mark.backends
def test_new_weights_are_used_without_compiling_again(tokenizer: Any, traces: list[str]) -> None:
    model = tiny_model(seed=1)
    lm = model.with_mask("lm")
    before = bert4k.generate(lm, tokenizer, SOURCES, max_tokens=LIMIT)
    del traces[:]
    randomise(model, 2)
    after = bert4k.generate(lm, tokenizer, SOURCES, max_tokens=LIMIT)
    assert not traces
    same(after, expected(lm, tokenizer, SOURCES, bert4k.greedy()))
    assert [one.text for one in before] != [one.text for one in after]
    model = model.with_outputs("mlm")
    model.compile(keras.optimizers.SGD(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ids = np.arange(5, 21, dtype="int32").reshape(2, 8)
    model.fit({"token_ids": ids}, ids[:, ::-1], epochs=2, verbose=0)
    trained = bert4k.generate(lm, tokenizer, SOURCES, max_tokens=LIMIT)
    assert not traces
    same(trained, expected(lm, tokenizer, SOURCES, bert4k.greedy()))


def check_against_predict(model: Any, tokenizer: Any, found: Sequence[Generation]) -> None:
    """Every log-probability is what `predict` gives for the whole text at once."""
    texts = [(row, each) for row, one in zip(rows_of(model, tokenizer, SOURCES), found, strict=True) for each in (one, *one.alternatives)]
    length, segment = 8 + LIMIT, int("source" in str(model.mask))
    ids = np.array([[*row, *tokens(one), *[0] * (length - len(row) - len(tokens(one)))] for row, one in texts])
    segments = np.array([[0] * len(row) + [segment] * (length - len(row)) for row, _ in texts])
    logits = model.with_outputs("mlm").predict({"token_ids": ids, "segment_ids": segments}, verbose=0)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    for (row, one), values in zip(texts, log_probs, strict=True):
        written = values[len(row) - 1 :][: len(tokens(one))]
        np.testing.assert_allclose(one.log_probs, written[np.arange(len(written)), tokens(one)], atol=1e-4)


@pytest.mark.backends
def test_low_rank_changes_reach_every_machine(tokenizer: Any) -> None:
    model = tiny_model(seed=1, layers=1)
    lm = model.with_mask("lm")
    before = bert4k.generate(lm, tokenizer, SOURCES, max_tokens=LIMIT)
    model.enable_lora(2)
    for part in model.parts.values():
        if hasattr(part, "query"):
            part.query.lora_kernel_b.assign(np.random.default_rng(0).normal(size=part.query.lora_kernel_b.shape).astype("float32"))
    adapted = bert4k.generate(lm, tokenizer, SOURCES, max_tokens=LIMIT)
    same(adapted, expected(lm, tokenizer, SOURCES, bert4k.greedy()))
    assert [one.log_probs for one in adapted] != [one.log_probs for one in before]


def test_quantisation_reaches_every_machine(tokenizer: Any) -> None:
    model = tiny_model(seed=1, layers=1)
    lm = model.with_mask("lm")
    before = bert4k.generate(lm, tokenizer, SOURCES, max_tokens=LIMIT)
    model.quantize("int8")
    quantised = bert4k.generate(lm, tokenizer, SOURCES, max_tokens=LIMIT)
    assert [one.log_probs for one in quantised] != [one.log_probs for one in before]
    check_against_predict(lm, tokenizer, quantised)


@pytest.mark.parametrize("dtype", (pytest.param("mixed_bfloat16", marks=pytest.mark.backends), "float16"))
def test_half_precision_is_finite(tokenizer: Any, dtype: str) -> None:
    model = tiny_model(mask="seq2seq", dtype=dtype, layers=1)
    for one in bert4k.generate(model, tokenizer, SOURCES, SAMPLERS["beam"], max_tokens=LIMIT):
        assert np.isfinite(one.log_probs).all()
        assert one.score > -100
        assert not set(one.token_ids) & {*FORBIDDEN, END}


@keras.saving.register_keras_serializable("bert4k tests")
class Adapted(Transformer):
    """An adapter behind every block, and one block run twice."""

    def make_parts(self, dtype: Any) -> dict[str, keras.layers.Layer]:
        return super().make_parts(dtype) | {"adapter": keras.layers.Dense(self.config.hidden_size, "tanh", dtype=dtype)}

    def block(self, index: int, x: Any, attend: Any) -> Any:
        x = super().block(index, x, attend)
        if index == 0:
            x = super().block(index, x, attend)
        return x + self.parts["adapter"](x)


@pytest.mark.parametrize("sampler", ("greedy", pytest.param("beam", marks=pytest.mark.backends)))
def test_an_overridden_block_decodes_as_it_predicts(tokenizer: Any, sampler: str) -> None:
    model = tiny_model(kind=Adapted, mask="seq2seq")
    found = bert4k.generate(model, tokenizer, SOURCES, SAMPLERS[sampler], max_tokens=LIMIT)
    check_against_predict(model, tokenizer, found)


def test_a_model_that_has_generated_can_be_saved(tokenizer: Any, tmp_path: Any) -> None:
    model = tiny_model(mask="lm", layers=1)
    found = bert4k.generate(model, tokenizer, SOURCES, max_tokens=LIMIT)
    model.save(tmp_path / "model.keras")
    alike(bert4k.generate(keras.saving.load_model(tmp_path / "model.keras"), tokenizer, SOURCES, max_tokens=LIMIT), found)


@pytest.mark.backends
def test_a_graph_that_runs_often_stays_the_same(under: Callable[[str], Any], tokenizer: Any) -> None:
    """PyTorch hands a graph to its compiler at the 32nd run: before and after it are the same text."""
    source, limit = ["上下左右"], 24
    first = bert4k.generate(under("lm"), tokenizer, source, max_tokens=limit, min_tokens=limit)
    again = bert4k.generate(under("lm"), tokenizer, source, max_tokens=limit, min_tokens=limit)
    alike(again, first)
    same(again, expected(under("lm"), tokenizer, source, bert4k.greedy(), limit=limit, min_tokens=limit))


# Bad input. -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", ("encoder", "reverse_lm", "permuted(seed=1)", "~window(9)", "causal | window(2)"))
def test_masks_that_look_ahead_are_refused(model: Any, tokenizer: Any, mask: str) -> None:
    with pytest.raises(ConfigError, match="with_mask"):
        bert4k.generate(model.with_mask(mask), tokenizer, ["一"])


def test_a_model_without_an_output_layer_is_refused(model: Any, tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match="mlm"):
        bert4k.generate(Transformer(model.config, "lm", ("sequence",)), tokenizer, ["一"])


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    (
        ({"sources": []}, DataError, "empty"),
        ({"sources": "一二三"}, DataError, "list"),
        ({"sources": [None]}, DataError, "text"),
        ({"sources": ["一"], "max_tokens": 0}, ConfigError, "max_tokens=0"),
        ({"sources": ["一"], "max_tokens": 2.5}, ConfigError, "max_tokens=2.5"),
        ({"sources": ["一"], "batch_size": 0}, ConfigError, "batch_size=0"),
        ({"sources": ["一"], "min_tokens": -1}, ConfigError, "min_tokens=-1"),
        ({"sources": ["一"], "no_repeat_ngram": -2}, ConfigError, "no_repeat_ngram=-2"),
        ({"sources": ["一"], "repetition_penalty": 0.0}, ConfigError, "repetition_penalty=0"),
        ({"sources": ["一"], "repetition_penalty": float("nan")}, ConfigError, "repetition_penalty=nan"),
        ({"sources": ["一" * 47]}, DataError, "Source 0 has 48 tokens"),
        ({"sources": ["一", "一" * 60], "max_tokens": 4}, DataError, "Source 1 has 61 tokens"),
    ),
)
def test_bad_arguments_are_named(
    under: Callable[[str], Any], tokenizer: Any, arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        bert4k.generate(under("lm"), tokenizer, **{"max_tokens": 4} | arguments)


def test_a_tokenizer_of_another_model_is_refused(under: Callable[[str], Any]) -> None:
    with pytest.raises(VocabularyError, match="6 tokens and the model's embedding 24 rows"):
        bert4k.generate(under("lm"), bert4k.Tokenizer([*SPECIAL, "一"]), ["一"])
