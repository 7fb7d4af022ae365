"""What goes from layer to layer beside x: the condition of norms and the scores of residual attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from decoding import reference
from decoding.conftest import CHARACTERS, SPECIAL, tiny_model
from marks import on_backends

import bert4k
from bert4k import ConfigError, DataError
from bert4k.beside import current_condition, current_scores
from bert4k.config import Config
from bert4k.decoding import generation
from bert4k.layers import ConditionalNormalization
from bert4k.tokenizers import Tokenizer

# PyTorch's compiler, once it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")

SIZE = 3
KINDS = {
    "conditional": {"condition_size": SIZE},
    "conditional, pre-norm": {"condition_size": SIZE, "block": "pre_norm"},
    "residual": {"residual_attention": True},
    "residual, shared layers": {"residual_attention": True, "num_hidden_groups": 1},
    "both": {"condition_size": SIZE, "residual_attention": True},
}
SOURCES = ["一", "东西南北", "上下左右中", "二三"]
END = SPECIAL.index("[SEP]")
ROWS = np.array([[2, 7, 9, 5, 3, 0], [2, 11, 6, 8, 12, 3]], "int32")


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer(SPECIAL + CHARACTERS)


def condition_of(config: Config, rows: int) -> np.ndarray | None:
    return np.random.default_rng(5).normal(0, 1, (rows, SIZE)).astype("float32") if config.condition_size else None


def inputs_of(config: Config) -> dict[str, np.ndarray]:
    condition = condition_of(config, len(ROWS))
    return {"token_ids": ROWS} | ({} if condition is None else {"condition": condition})


@pytest.mark.backends
@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
def test_a_model_is_what_the_formulas_say(kinds: dict[str, Any]) -> None:
    model = tiny_model(layers=3, kinds=kinds)
    inputs = inputs_of(model.config)
    found = keras.ops.convert_to_numpy(model(inputs)["mlm"])
    for row, condition in enumerate(inputs.get("condition", [None, None])):
        real = int((ROWS[row] != 0).sum())
        expected = reference.Bert(model, "real", condition).sequence(ROWS[row, :real], [0] * real)
        logits = reference.Bert(model, "real", condition).told(expected)
        told = found[row, :real] - np.log(np.exp(found[row, :real]).sum(-1, keepdims=True))
        np.testing.assert_allclose(told, logits, atol=1e-4)


@pytest.mark.parametrize("mask", on_backends(["lm", "seq2seq"], "seq2seq"))
@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
def test_what_is_written_with_a_cache_is_what_is_written_without(tokenizer: Tokenizer, kinds: dict[str, Any], mask: str) -> None:
    model = tiny_model(layers=3, mask=mask, kinds=kinds)
    condition = condition_of(model.config, len(SOURCES))
    given = {} if condition is None else {"condition": condition}
    written = bert4k.generate(model, tokenizer, SOURCES, max_tokens=5, **given)
    beams = bert4k.generate(model, tokenizer, SOURCES, bert4k.beam(2), max_tokens=5, batch_size=2, **given)
    never = [index for index in range(len(SPECIAL)) if index != END]
    for place, source in enumerate(SOURCES):
        row = tokenizer.encode(source).ids.tolist()
        row = row if mask == "seq2seq" else row[:-1]
        bert = reference.Bert(model, str(model.mask), None if condition is None else condition[place])
        after = reference.constrained(bert.after(row, int(mask == "seq2seq")), END, never)
        for one, found in (
            (written[place], reference.greedy(after, END, 5)),
            (beams[place], reference.beam(after, END, 5, 2, 0.0, 1)[0]),
        ):
            assert one.token_ids == tuple(token for token in found.tokens if token != END)
            np.testing.assert_allclose(one.log_probs, found.log_probs, atol=1e-4)
    whole = "".join(bert4k.stream(model, tokenizer, SOURCES[1], max_tokens=5, **{name: value[1:2] for name, value in given.items()}))
    assert whole == written[1].text


def test_texts_follow_from_their_condition(tokenizer: Tokenizer) -> None:
    model = tiny_model(mask="lm", kinds={"condition_size": SIZE})
    conditions = np.float32([[5, 0, 0], [0, -5, 0], [0, 0, 5], [-5, 5, 0]])
    assert len({one.text for one in bert4k.generate(model, tokenizer, ["东西"] * 4, max_tokens=6, condition=conditions)}) > 1


def test_a_checkpoint_is_at_first_what_it_was(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Under any condition; and once it depends on it, it is stored whole."""
    plain = tiny_model()
    bert4k.save(plain, tokenizer, tmp_path / "plain")
    model, _ = bert4k.load(tmp_path / "plain", outputs=("mlm",), condition_size=SIZE)
    inputs = inputs_of(model.config)
    expected = keras.ops.convert_to_numpy(plain({"token_ids": ROWS})["mlm"])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(inputs)), expected, atol=1e-4)
    model.compile("sgd", "mse")
    model.fit(inputs, np.zeros((*ROWS.shape, 24)), verbose=0)
    changed = [name for name, value in model.weight_values().items() if name.endswith("gamma_kernel") and value.any()]
    assert len(changed) == 1 + 2 * model.config.num_hidden_layers + 1
    bert4k.save(model, tokenizer, tmp_path / "changed", "keras")
    again, _ = bert4k.load(tmp_path / "changed", outputs=("mlm",))
    np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(each(inputs)) for each in (model, again)))
    with pytest.raises(bert4k.CheckpointError, match=r"no place for .*gamma_kernel.*format='keras'"):
        bert4k.save(model, tokenizer, tmp_path / "google")
    assert not (tmp_path / "google").exists()


@pytest.mark.parametrize("format", ["google", "keras"])
def test_residual_attention_is_stored(tmp_path: Path, tokenizer: Tokenizer, format: str) -> None:
    model = tiny_model(kinds={"residual_attention": True}).with_outputs("mlm")
    bert4k.save(model, tokenizer, tmp_path / "run", format)
    again, _ = bert4k.load(tmp_path / "run", outputs=("mlm",))
    assert again.config.residual_attention
    np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(each({"token_ids": ROWS})) for each in (model, again)))
    with pytest.raises(ConfigError, match="residual_attention=True"):
        bert4k.save(model, tokenizer, tmp_path / "other", "huggingface")


def test_nothing_stays_behind(tokenizer: Tokenizer) -> None:
    model = tiny_model(mask="lm", kinds={"condition_size": SIZE, "residual_attention": True})
    bert4k.generate(model, tokenizer, ["一"], max_tokens=2, condition=condition_of(model.config, 1))
    assert current_condition() is None
    assert current_scores().sum is None


@pytest.mark.backends
def test_attention_maps_are_of_all_scores() -> None:
    """What a layer gives as attention is what it gathers by."""
    model = tiny_model(layers=2, kinds={"residual_attention": True})
    weights = keras.ops.convert_to_numpy(model.with_outputs("attention_1")({"token_ids": ROWS[1:]}))[0]
    bert = reference.Bert(model)
    bert.sequence(ROWS[1], [0] * 6)
    for head, scores in enumerate(bert.scores):
        expected = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        np.testing.assert_allclose(weights[head], expected, atol=1e-5)


@pytest.mark.backends
def test_mixed_precision_stays_finite_and_near() -> None:
    model = tiny_model(kinds=KINDS["both"])
    half = bert4k.Transformer(model.config, "encoder", ("mlm",), dtype="mixed_bfloat16", values=model.weight_values())
    expected, found = (
        np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(each, "float32")))
        for each in (model(inputs_of(model.config))["mlm"], half(inputs_of(model.config)))
    )
    assert np.abs(found - expected)[:, :5].max() < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "takes a condition of 3 numbers"),
        (np.zeros((2, 3)), r"shape \(2, 3\); expected \[1, 3\]"),
        (np.zeros((1, 4)), r"shape \(1, 4\)"),
        ([0.0, 0.0, 0.0], r"shape \(3,\)"),
    ],
)
def test_a_condition_that_does_not_fit(tokenizer: Tokenizer, given: Any, told: str) -> None:
    model = tiny_model(mask="lm", kinds={"condition_size": SIZE})
    with pytest.raises(DataError, match=told):
        generation.generate(model, tokenizer, ["一"], max_tokens=2, condition=given)


def test_who_takes_no_condition_says_so(tokenizer: Tokenizer) -> None:
    plain, model = tiny_model(), tiny_model(kinds={"condition_size": SIZE})
    with pytest.raises(DataError, match="Only a model whose config has a condition_size"):
        plain({"token_ids": ROWS, "condition": np.zeros((2, 3))})
    with pytest.raises(DataError, match="'condition' is missing"):
        model({"token_ids": ROWS})
    with pytest.raises(DataError, match=r"expected \[rows, 3\]"):
        model({"token_ids": ROWS, "condition": np.zeros((2, 4))})
    with pytest.raises(DataError, match="condition_size is 0"):
        bert4k.generate(plain.with_mask("lm"), tokenizer, ["一"], max_tokens=2, condition=np.zeros((1, 3)))
    with pytest.raises(DataError, match="other ways of decoding take none"):
        bert4k.fill(model, tokenizer, "一[MASK]")
    with pytest.raises(ConfigError, match="only norms of the kind 'layer'"):
        Config(vocab_size=9, condition_size=2, norm="rms")
    with pytest.raises(ConfigError, match="an encoder-decoder has neither"):
        Config(vocab_size=9, residual_attention=True, num_decoder_layers=2)


@pytest.mark.backends
def test_a_norm_of_two_and_of_three_axes() -> None:
    norm = ConditionalNormalization(2, epsilon=1e-6)
    x, condition = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32"), np.float32([[1, 2], [0, -1]])
    norm.build(x.shape)
    norm.gamma_kernel.assign(np.arange(8, dtype="float32").reshape(2, 4))
    norm.beta_kernel.assign(np.full((2, 4), 0.5, "float32"))
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    gamma, beta = 1 + condition @ np.arange(8).reshape(2, 4), condition @ np.full((2, 4), 0.5)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(norm(x, condition)), normal * gamma[:, None] + beta[:, None], atol=1e-4)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(norm(x[:, 0], condition)), normal[:, 0] * gamma + beta, atol=1e-4)
