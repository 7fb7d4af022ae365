"""`fill`, `score`, `embed` and `predict` against one text at a time, in NumPy and as Keras calls the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from decoding import reference
from decoding.conftest import CHARACTERS, SOURCES, SPECIAL, randomise, tiny_model
from keras import ops

import bert4k
from bert4k import ConfigError, DataError, VocabularyError
from bert4k.decoding import likelihood
from bert4k.decoding.batches import layouts
from bert4k.model import Transformer

# PyTorch's compiler, once it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")

END, BLANK = SPECIAL.index("[SEP]"), SPECIAL.index("[MASK]")
TEXTS = [*SOURCES, "一二三四五六七八九十上下左右"]
PAIRS = [("一", "二三"), ("东西南北", "上"), ("", "左右"), ("十九八七六五", "四三二一中中")]
# Under which a text in a row with others must see what it sees alone.
MASKS = (
    "encoder",
    "lm",
    "reverse_lm",
    "seq2seq",
    "window(3)",
    "causal & window(4) | source",
    "~causal | window(2)",
    "same_document & causal",
    f"permuted(order={tuple(7 * place % 48 if place else 0 for place in range(48))})",
)


def ragged(seed: int, count: int = 24, longest: int = 44) -> list[Any]:
    """Texts and pairs of 0 to `longest` characters, most of them short, so that they share rows."""
    random = np.random.default_rng(seed)
    texts: list[Any] = []
    for length in (longest * random.random(count) ** 2).astype(int):
        text = "".join(random.choice(CHARACTERS, length))
        texts.append(text if random.random() < 0.6 else (text[: length // 3], text[length // 3 :]))
    return texts


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The rows and the texts of every batch that is computed."""
    found = []

    def seen(*args: Any) -> Any:
        batches = layouts(*args)
        found.extend((layout.shape[0], len(layout.texts)) for layout in batches)
        return batches

    monkeypatch.setattr(likelihood, "layouts", seen)
    return found


def encoded(tokenizer: Any, text: Any) -> tuple[list[int], list[int]]:
    """Token and segment ids."""
    first, *rest = [text] if isinstance(text, str) else text
    ids, segments = [tokenizer.cls_id, *map(tokenizer.token_to_id, tokenizer.tokenize(first)), END], []
    segments = [0] * len(ids)
    for other in rest:
        pair = [*map(tokenizer.token_to_id, tokenizer.tokenize(other)), END]
        ids, segments = ids + pair, segments + [1] * len(pair)
    return ids, segments


def bert(model: Any) -> reference.Bert:
    return reference.Bert(model, str(model.mask))


# score ----------------------------------------------------------------------------------------------------------------


@pytest.mark.backends
@pytest.mark.parametrize(("mask", "texts"), (("lm", [*TEXTS, *PAIRS]), ("seq2seq", PAIRS)))
def test_scores_left_to_right(under: Callable[[str], Any], tokenizer: Any, mask: str, texts: list[Any]) -> None:
    expected = []
    for ids, segments in (encoded(tokenizer, text) for text in texts):
        log_probs = bert(under(mask)).log_probs(ids, segments)
        wanted = [place for place in range(1, len(ids)) if mask == "lm" or segments[place] == 1]
        expected.append(sum(log_probs[place - 1, ids[place]] for place in wanted))
    found = bert4k.score(under(mask), tokenizer, texts)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.backends
def test_pseudo_log_likelihood_masks_each_token_in_turn(model: Any, tokenizer: Any) -> None:
    texts, expected = [*TEXTS[:5], PAIRS[0]], []
    for ids, segments in (encoded(tokenizer, text) for text in texts):
        total = 0.0
        for place, token in enumerate(ids):
            if token not in (tokenizer.cls_id, END):
                total += bert(model).log_probs([*ids[:place], BLANK, *ids[place + 1 :]], segments)[place, token]
        expected.append(total)
    np.testing.assert_allclose(bert4k.score(model, tokenizer, texts), expected, atol=2e-4)
    assert expected[texts.index("")] == 0.0


def test_a_batch_scores_as_its_texts_alone(under: Callable[[str], Any], model: Any, tokenizer: Any) -> None:
    for machine in (under("lm"), model):
        together = bert4k.score(machine, tokenizer, TEXTS, batch_size=3)
        alone = [bert4k.score(machine, tokenizer, [text])[0] for text in TEXTS[2:5]]
        np.testing.assert_allclose(together[2:5], alone, atol=1e-4)
    assert bert4k.score(model, tokenizer, [""]).tolist() == [0.0]


@pytest.mark.backends
@pytest.mark.parametrize("mask", ("encoder", "lm", "seq2seq", "causal & window(4) | source", "same_document & causal"))
def test_texts_in_one_row_score_as_alone(under: Callable[[str], Any], tokenizer: Any, shapes: list[Any], mask: str) -> None:
    texts = [(text, text[::-1]) if isinstance(text, str) else text for text in ragged(1, 12, 20)] if mask != "lm" else ragged(1)
    together = bert4k.score(under(mask), tokenizer, texts)
    assert any(texts > rows for rows, texts in shapes)
    alone = [bert4k.score(under(mask), tokenizer, [text])[0] for text in texts[:3]]
    np.testing.assert_allclose(together[:3], alone, atol=2e-4)
    if str(under(mask).mask) in reference.MASKS and mask != "encoder":
        for text, found in zip(texts, together, strict=True):
            ids, segments = encoded(tokenizer, text)
            log_probs = bert(under(mask)).log_probs(ids, segments)
            wanted = [place for place in range(1, len(ids)) if mask == "lm" or segments[place] == 1]
            assert found == pytest.approx(sum(log_probs[place - 1, ids[place]] for place in wanted), abs=2e-4)


@pytest.mark.parametrize("mask", ("lm", "seq2seq"))
def test_what_is_generated_scores_what_generate_said(under: Callable[[str], Any], tokenizer: Any, mask: str) -> None:
    found = bert4k.generate(under(mask), tokenizer, SOURCES, max_tokens=6)
    ended = [(source, one) for source, one in zip(SOURCES, found, strict=True) if one.ended]
    assert ended
    for source, one in ended:
        if mask == "seq2seq":
            score = bert4k.score(under(mask), tokenizer, [(source, one.text)])[0]
        else:
            score = bert4k.score(under(mask), tokenizer, [source + one.text])[0]
            ids, segments = encoded(tokenizer, source)
            log_probs = bert(under(mask)).log_probs(ids, segments)
            score -= sum(log_probs[place - 1, ids[place]] for place in range(1, len(ids) - 1))
        assert score == pytest.approx(one.score, abs=2e-4)


# fill -----------------------------------------------------------------------------------------------------------------


@pytest.mark.backends
@pytest.mark.parametrize("text", ("一[MASK]三", "[MASK]", "东[MASK]南北[MASK][MASK]一二三"))
def test_blanks_are_filled_as_predict_would(model: Any, tokenizer: Any, text: str) -> None:
    batch = tokenizer([text])
    logits = model.predict(batch, verbose=0)["mlm"][0].astype("float64")
    probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    found = bert4k.fill(model, tokenizer, text, top_k=4)
    places = np.flatnonzero(batch["token_ids"][0] == BLANK)
    assert len(found) == len(places) == text.count("[MASK]")
    for candidates, values in zip(found, probability[places], strict=True):
        best = np.argsort(-values)[:4]
        assert [tokenizer.token_to_id(one.token) for one in candidates] == best.tolist()
        np.testing.assert_allclose([one.probability for one in candidates], values[best], atol=1e-5)


def test_the_whole_vocabulary_sums_to_one(model: Any, tokenizer: Any) -> None:
    [candidates] = bert4k.fill(model, tokenizer, "上[MASK]左右", top_k=24)
    assert sum(one.probability for one in candidates) == pytest.approx(1.0, abs=1e-5)


# embed ----------------------------------------------------------------------------------------------------------------


@pytest.mark.backends
@pytest.mark.parametrize("pooling", ("mean", "max", "first", "pooled"))
def test_vectors_of_ragged_texts(model: Any, tokenizer: Any, pooling: str) -> None:
    texts, expected = [*TEXTS, *PAIRS], []
    for ids, segments in (encoded(tokenizer, text) for text in texts):
        x = bert(model).sequence(ids, segments)
        pooled = np.tanh(bert(model).dense("pooled/dense", x[0]))
        expected.append({"mean": x.mean(0), "max": x.max(0), "first": x[0], "pooled": pooled}[pooling])
    found = bert4k.embed(model, tokenizer, texts, pooling)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(bert4k.embed(model, tokenizer, texts, pooling, batch_size=8), expected, atol=1e-4)


@pytest.mark.backends
@pytest.mark.parametrize("mask", MASKS, ids=lambda mask: mask[:30])
def test_texts_in_one_row_are_what_they_are_alone(under: Callable[[str], Any], tokenizer: Any, shapes: list[Any], mask: str) -> None:
    packs = "permuted" not in mask
    texts = ragged(2) if packs else ragged(2)[-4:]
    machine = under(mask).with_outputs("sequence", "pooled")
    poolings = likelihood.POOLINGS if mask == "encoder" else ("mean",)
    vectors = {pooling: bert4k.embed(machine, tokenizer, texts, pooling) for pooling in poolings}
    everything = bert4k.predict(machine, tokenizer, texts)
    assert any(texts > rows for rows, texts in shapes) == packs
    expected = {name: ops.convert_to_numpy(y) for name, y in machine(tokenizer(texts)).items()}
    for place, text in enumerate(texts):
        own = {"sequence": expected["sequence"][place, : len(encoded(tokenizer, text)[0])], "pooled": expected["pooled"][place]}
        x = own["sequence"]
        pooled = {"mean": x.mean(0), "max": x.max(0), "first": x[0], "pooled": own["pooled"]}
        for pooling, found in vectors.items():
            np.testing.assert_allclose(found[place], pooled[pooling], atol=5e-5, err_msg=f"{pooling} of {text}")
        assert everything[place].keys() == own.keys()
        for name, value in own.items():
            np.testing.assert_allclose(everything[place][name], value, atol=5e-5, err_msg=f"{name} of {text}")
    for place in (0, 1):
        np.testing.assert_allclose(bert4k.embed(machine, tokenizer, [texts[place]])[0], vectors["mean"][place], atol=5e-5)


def test_a_text_that_says_padding_is_read_as_any_other(model: Any, tokenizer: Any) -> None:
    texts = ["一[PAD]二", "[PAD]", *ragged(3, 10)]
    expected = [bert(model).sequence(*encoded(tokenizer, text)).mean(0) for text in texts]
    np.testing.assert_allclose(bert4k.embed(model, tokenizer, texts), expected, atol=1e-4)


@pytest.mark.backends
def test_new_weights_are_seen(tokenizer: Any) -> None:
    model = tiny_model(seed=1, layers=1)
    before = bert4k.embed(model, tokenizer, TEXTS[:2])
    randomise(model, 9)
    after = bert4k.embed(model, tokenizer, TEXTS[:2])
    assert np.abs(before - after).max() > 0.1
    np.testing.assert_allclose(after[1], bert(model).sequence(*encoded(tokenizer, TEXTS[1])).mean(0), atol=1e-4)


# predict --------------------------------------------------------------------------------------------------------------


@pytest.mark.backends
def test_predictions_are_those_of_keras(tokenizer: Any) -> None:
    model = Transformer(tiny_model().config, "encoder", ("sequence", "pooled", "mlm", "nsp"))
    randomise(model, 3)
    texts = ragged(4)
    batch = tokenizer(texts)
    expected = model.predict(batch, verbose=0)
    for place, (text, found) in enumerate(zip(texts, bert4k.predict(model, tokenizer, texts), strict=True)):
        length = len(encoded(tokenizer, text)[0])
        assert list(found) == ["sequence", "pooled", "mlm", "nsp"]
        for name, value in found.items():
            whole = expected[name][place]
            assert value.dtype == whole.dtype and value.base is None
            np.testing.assert_allclose(value, whole[:length] if name in ("sequence", "mlm") else whole, atol=5e-5)


def test_one_output_is_an_array(model: Any, tokenizer: Any) -> None:
    for name, shape in {"sequence": (4, 16), "mlm": (4, 24), "pooled": (16,)}.items():
        [found] = bert4k.predict(model.with_outputs(name), tokenizer, ["一二"])
        assert found.shape == shape


# Bad input. -----------------------------------------------------------------------------------------------------------


def test_filling_needs_a_blank_an_encoder_and_a_head(model: Any, under: Callable[[str], Any], tokenizer: Any) -> None:
    with pytest.raises(DataError, match="no \\[MASK\\]"):
        bert4k.fill(model, tokenizer, "一二三")
    with pytest.raises(DataError, match="positions"):
        bert4k.fill(model, tokenizer, "[MASK]" + "一" * 60)
    with pytest.raises(ConfigError, match="with_mask"):
        bert4k.fill(under("lm"), tokenizer, "一[MASK]")
    with pytest.raises(ConfigError, match="mlm"):
        bert4k.fill(Transformer(model.config, "encoder", ("sequence",)), tokenizer, "一[MASK]")
    for top_k in (0, 25):
        with pytest.raises(ConfigError, match=f"top_k={top_k}"):
            bert4k.fill(model, tokenizer, "一[MASK]", top_k=top_k)


def test_scoring_needs_targets_that_can_be_predicted(model: Any, under: Callable[[str], Any], tokenizer: Any) -> None:
    with pytest.raises(DataError, match="Text 1 has no target"):
        bert4k.score(under("seq2seq"), tokenizer, [("一", "二"), "三"])
    with pytest.raises(ConfigError, match="with_mask"):
        bert4k.score(model.with_mask("reverse_lm"), tokenizer, ["一"])


def test_texts_come_in_lists_and_must_fit(model: Any, tokenizer: Any) -> None:
    for function in (bert4k.score, bert4k.embed, bert4k.predict):
        for texts, words in (([], "empty"), ("一二", "list"), (["一", "二" * 60], "Text 1 has 62 tokens")):
            with pytest.raises(DataError, match=words):
                function(model, tokenizer, texts)
        with pytest.raises(ConfigError, match="batch_size=0"):
            function(model, tokenizer, ["一"], batch_size=0)
        with pytest.raises(VocabularyError, match="6 tokens"):
            function(model, bert4k.Tokenizer([*SPECIAL, "一"]), ["一"])


def test_poolings_are_known_by_name(model: Any, tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match="mean"):
        bert4k.embed(model, tokenizer, ["一"], pooling="men")
    with pytest.raises(ConfigError, match="pooler"):
        bert4k.embed(Transformer(model.config, "encoder", ("mlm",)), tokenizer, ["一"], pooling="pooled")
