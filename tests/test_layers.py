"""Attention against a float64 reference, its cached step against itself, and the small layers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import reference_masks as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from bert4k import masks
from bert4k.layers import ACTIVATIONS, Attention, Bias, KeysValues, TokenInputs, attention_weights, gelu_tanh

pytestmark = pytest.mark.backends

HEADS, SIZE = 3, 4
HIDDEN = HEADS * SIZE


def array(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (np.random.standard_normal(shape) * scale).astype("float32")


def attention(dtype: str = "float32", **kwargs: Any) -> Attention:
    layer = Attention(HEADS, SIZE, dtype=dtype, name="attention", **kwargs)
    layer.build((None, None, HIDDEN))
    for weight in layer.weights:
        weight.assign(array(*weight.shape, scale=0.5))
    return layer


def numpy(x: Any) -> np.ndarray:
    return ops.convert_to_numpy(ops.cast(x, "float32"))


def project(layer: keras.layers.Dense, x: np.ndarray) -> np.ndarray:
    return x @ numpy(layer.kernel).astype("float64") + numpy(layer.bias)


def expected(layer: Attention, x: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    query, key, value = (project(part, x) for part in (layer.query, layer.key, layer.value))
    out = np.zeros(x.shape)
    for row in range(len(x)):
        for head in range(HEADS):
            at = slice(head * SIZE, (head + 1) * SIZE)
            out[row, :, at] = reference.attention(query[row, :, at], key[row, :, at], value[row, :, at], allowed[row, 0])
    return project(layer.output_projection, out)


def test_one_operation_gives_what_its_parts_give() -> None:
    """Where there is one, for outputs and for a query that may look nowhere; dropout, maps and residual scores take the parts."""
    x, allowed = array(2, 6, HIDDEN), np.tril(np.ones((2, 1, 6, 6), bool))
    allowed[0, :, 2] = False
    layer = attention(dropout=0.2)
    memory = layer.keys_values(x)
    parts = layer.gather(x, layer.probabilities(x, memory, allowed), memory)
    np.testing.assert_allclose(numpy(layer(x, allowed)), numpy(parts), atol=1e-5)
    np.testing.assert_allclose(numpy(layer.attend(x, memory, allowed)), numpy(parts), atol=1e-5)
    np.testing.assert_allclose(numpy(layer(x, allowed, return_weights=True)[0]), numpy(parts), atol=1e-5)
    assert np.abs(numpy(layer(x, allowed, training=True)) - numpy(parts)).max() > 1e-2
    assert layer._fuses(memory.keys) == (keras.backend.backend() == "torch")
    assert not attention(residual=True)._fuses(memory.keys)


def test_gradients_in_sixteen_bits_take_the_parts() -> None:
    """They are several times as fast as the one operation of PyTorch; what is only read takes that."""
    if keras.backend.backend() != "torch":
        pytest.skip("only PyTorch has attention as one operation")
    import torch

    layer, x = attention(dtype="mixed_bfloat16"), array(2, 6, HIDDEN)
    assert not layer._fuses(layer.keys_values(x).keys)
    with torch.no_grad():
        assert layer._fuses(layer.keys_values(x).keys)


def test_attention_is_the_reference() -> None:
    layer, x = attention(), array(2, 6, HIDDEN)
    allowed = np.random.random((2, 1, 6, 6)) < 0.6
    allowed[0, 0, 2] = False  # a row that may look nowhere
    np.testing.assert_allclose(numpy(layer(x, allowed)), expected(layer, x, allowed), atol=2e-6)


def test_weights_are_a_distribution_over_what_is_allowed() -> None:
    scores, allowed = array(2, HEADS, 5, 7, scale=20), np.random.random((2, 1, 5, 7)) < 0.5
    allowed[:, :, :, 0] = True
    weights = numpy(attention_weights(ops.convert_to_tensor(scores), ops.convert_to_tensor(allowed)))
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-6)
    assert (weights[~np.broadcast_to(allowed, weights.shape)] == 0).all()


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16", "float16", "bfloat16"])
def test_a_row_that_may_look_nowhere_sees_nothing_and_gives_no_nan(dtype: str) -> None:
    layer = attention(dtype)
    x, other = array(2, 4, HIDDEN), array(2, 4, HIDDEN)
    allowed = np.zeros((2, 1, 4, 4), bool)
    allowed[1, 0, :2] = True
    out = numpy(layer(x, allowed))
    assert np.isfinite(out).all()
    # It gets the output projection's bias, whatever the other tokens are: an average over them would be a leak.
    np.testing.assert_allclose(out[0], np.broadcast_to(numpy(layer.output_projection.bias), (4, HIDDEN)), rtol=1e-2)
    np.testing.assert_array_equal(out[0], numpy(layer(other, allowed))[0])


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_gradients_are_finite_where_a_row_may_look_nowhere(dtype: str) -> None:
    layer, x = attention(dtype), array(2, 4, HIDDEN)
    allowed = np.zeros((2, 1, 4, 4), bool)
    allowed[1, 0, :2] = True
    for gradient in gradients(layer, lambda: ops.mean(ops.square(ops.cast(layer(x, ops.convert_to_tensor(allowed)), "float32")))):
        assert np.isfinite(gradient).all()


def gradients(layer: keras.layers.Layer, loss: Any) -> list[np.ndarray]:
    """The gradient of `loss()` for each trainable weight, on whichever backend."""
    variables = layer.trainable_variables
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow

            with tensorflow.GradientTape() as tape:
                value = loss()
            found = tape.gradient(value, [variable.value for variable in variables])
        case "jax":
            import jax

            def of_values(values: list[Any]) -> Any:
                with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                    return loss()

            found = jax.grad(of_values)([variable.value for variable in variables])
        case _:
            for variable in variables:
                variable.value.grad = None
            loss().backward()
            found = [variable.value.grad for variable in variables]
    return [numpy(gradient) for gradient in found]


def test_scores_of_any_size_stay_below_the_mask() -> None:
    scores = ops.convert_to_tensor(np.array([[[[3e4, -3e4, 1e4]]]], "float32"))
    weights = numpy(attention_weights(scores, ops.convert_to_tensor(np.array([[[[False, True, False]]]]))))
    np.testing.assert_array_equal(weights, [[[[0, 1, 0]]]])


def test_projections_start_different() -> None:
    layer = Attention(HEADS, SIZE, initializer=keras.initializers.TruncatedNormal(stddev=0.02))
    layer.build((None, None, HIDDEN))
    kernels = [numpy(part.kernel) for part in (layer.query, layer.key, layer.value, layer.output_projection)]
    assert all((a != b).any() for i, a in enumerate(kernels) for b in kernels[:i])


def test_dropout_drops_weights_in_training_only() -> None:
    layer, x = attention(dropout=0.5), array(1, 5, HIDDEN)
    allowed = np.ones((1, 1, 5, 5), bool)
    np.testing.assert_array_equal(numpy(layer(x, allowed)), numpy(layer(x, allowed, training=False)))
    assert (numpy(layer(x, allowed, training=True)) != numpy(layer(x, allowed))).any()


def test_attention_is_rebuilt_from_its_config() -> None:
    layer = Attention(HEADS, SIZE, dropout=0.25, initializer=keras.initializers.TruncatedNormal(stddev=0.5, seed=1), name="a")
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert again.get_config() == layer.get_config()


# One token at a time.


@st.composite
def decodings(draw: st.DrawFn) -> tuple[masks.Mask, np.ndarray]:
    """A mask that never looks ahead of the query within the target, and which source slots are real (ragged, left or right)."""
    part = st.one_of(st.just(masks.causal), st.just(masks.source), st.integers(1, 7).map(masks.window), st.just(~masks.source))
    inner = draw(
        st.recursive(part, lambda x: st.one_of(st.tuples(x, x).map(lambda p: p[0] & p[1]), st.tuples(x, x).map(lambda p: p[0] | p[1])))
    )
    lengths = draw(st.lists(st.integers(0, 4), min_size=2, max_size=2))
    real = np.array([[k < length for k in range(4)] for length in lengths])
    return inner & (masks.causal | masks.source), real[:, ::-1] if draw(st.booleans()) else real


@settings(max_examples=15)
@given(decodings())
def test_cached_steps_are_the_rows_of_full_attention(case: tuple[masks.Mask, np.ndarray]) -> None:
    """Two sources with ragged padding, three hypotheses each with a text of its own: 4 source slots and 3 target slots."""
    mask, source_real = case
    batch, hypotheses, sources, targets = 2, 3, 4, 3
    layer = attention()
    source, target = array(batch, sources, HIDDEN), array(batch, hypotheses, targets, HIDDEN)
    real = np.concatenate([source_real, np.ones((batch, targets), bool)], axis=1)
    segments = np.repeat([[0] * sources + [1] * targets], batch, axis=0)
    tokens = mask.tokens(segments, real)
    allowed = mask(tokens, tokens)

    full = np.stack(
        [numpy(layer(np.concatenate([source, target[:, w]], axis=1), allowed))[:, sources:] for w in range(hypotheses)], axis=1
    )  # [B, W, T, H]

    memory = layer.keys_values(ops.convert_to_tensor(source))
    cache = KeysValues(*(ops.zeros((batch, HEADS, hypotheses * targets, SIZE)) for _ in range(2)))
    own = np.repeat(np.eye(hypotheses, dtype=bool), targets, axis=1)  # which of the memory's slots a hypothesis has written
    for slot in range(targets):
        row = ops.convert_to_numpy(allowed)[:, :, [sources + slot] * hypotheses]
        row = np.concatenate([row[..., :sources], np.tile(row[..., sources:], hypotheses) & own], axis=-1)
        slots = np.tile(np.arange(hypotheses) * targets + slot, (batch, 1)).astype("int32")
        out, cache = layer.step(ops.convert_to_tensor(target[:, :, slot]), memory, cache, *map(ops.convert_to_tensor, (slots, row)))
        np.testing.assert_allclose(numpy(out), full[:, :, slot], atol=2e-6, err_msg=f"{mask}, slot {slot}")


# The small layers.


def token_inputs(mask: Any = "encoder", **inputs: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    segments, positions, allowed = TokenInputs(mask)(**{name: np.array(value) for name, value in inputs.items()})
    return ops.convert_to_numpy(segments), ops.convert_to_numpy(positions), ops.convert_to_numpy(allowed)[:, 0]


def test_token_inputs_fill_in_what_is_absent() -> None:
    segments, positions, allowed = token_inputs(token_ids=[[5, 0, 6, 7, 0], [0, 0, 8, 9, 9]])
    assert segments.tolist() == [[0] * 5] * 2
    assert positions.tolist() == [[0, 0, 1, 2, 2], [0, 0, 0, 1, 2]]
    assert allowed.all(axis=1).tolist() == [[True, False, True, True, False], [False, False, True, True, True]]


def test_token_inputs_take_what_is_given() -> None:
    _, positions, allowed = token_inputs(token_ids=[[5, 0, 6]], real=[[True, True, False]], position_ids=[[7, 3, 1]])
    assert positions.tolist() == [[7, 3, 1]]
    assert allowed[0].tolist() == [[True, True, False]] * 3


def test_positions_restart_in_every_document() -> None:
    ids, documents = [[5, 6, 0, 7, 8, 9, 0]], [[1, 1, 1, 2, 2, 1, 0]]
    _, positions, _ = token_inputs("same_document", token_ids=ids, document_ids=documents)
    assert positions[0][[0, 1, 3, 4, 5]].tolist() == [0, 1, 0, 1, 2]


def test_token_inputs_are_rebuilt_from_their_config() -> None:
    layer = TokenInputs(masks.causal & masks.window(3) | masks.permuted(seed=1), pad_token_id=4)
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert (again.mask, again.pad_token_id) == (layer.mask, 4)


def test_bias() -> None:
    layer = Bias(bias_initializer="ones")
    assert (numpy(layer(ops.zeros((2, 3, 4)))) == 1).all() and layer.bias.shape == (4,)
    assert keras.layers.deserialize(keras.layers.serialize(layer)).get_config() == layer.get_config()
    assert keras.backend.standardize_dtype(Bias(dtype="mixed_float16")(ops.zeros((1, 2), "float16")).dtype) == "float16"


def test_activations_are_serialisable_and_the_two_gelus_differ() -> None:
    x = np.linspace(-3, 3, 13, dtype="float32")
    for function in ACTIVATIONS.values():
        assert keras.activations.get(keras.activations.serialize(function)) is function
    tanh_form = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    np.testing.assert_allclose(numpy(gelu_tanh(x)), tanh_form, atol=1e-6)
    difference = np.abs(numpy(ACTIVATIONS["gelu"](x)) - tanh_form).max()
    assert 1e-4 < difference < 1e-3
