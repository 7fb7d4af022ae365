"""The Transformer as a Keras model: its outputs, its masks, what users do with it, and what it refuses."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from bert4k import masks
from bert4k.backend import jit_compile
from bert4k.config import Config
from bert4k.errors import CheckpointError, ConfigError, DataError
from bert4k.model import OUTPUTS, Transformer

backends = pytest.mark.backends  # on those that see more of a backend than shapes and messages

CONFIG = Config(
    vocab_size=40,
    hidden_size=12,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=20,
    max_position_embeddings=16,
    type_vocab_size=2,
    initializer_range=0.3,
)
PACKED = masks.same_document & masks.causal


def ids(*rows: str) -> np.ndarray:
    """Token ids from rows of letters: `.` is padding, `a` is 1, `b` is 2 ..."""
    return np.array([[0 if letter == "." else ord(letter) - 96 for letter in row] for row in rows], "int32")


def digits(*rows: str) -> np.ndarray:
    return np.array([[int(digit) for digit in row] for row in rows], "int32")


BATCH = {"token_ids": ids("abcdef", "hijk.."), "segment_ids": digits("000111", "001100")}


def build(mask: Any = "encoder", outputs: tuple[str, ...] = ("sequence",), config: Config = CONFIG, **kwargs: Any) -> Transformer:
    return Transformer(config, mask, outputs, **kwargs)


def numpy(x: Any) -> np.ndarray:
    return ops.convert_to_numpy(ops.cast(x, "float32"))


def run(model: keras.Model, batch: dict[str, Any]) -> np.ndarray:
    """The single output of a model, by direct call."""
    return numpy(model(batch, training=False))


def same_arrays(left: Any, right: Any) -> None:
    """Bit-equal outputs, one array or a dict of them."""
    left, right = ({"": x} if not isinstance(x, dict) else x for x in (left, right))
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(numpy(left[name]), numpy(right[name]), err_msg=name)


@pytest.fixture(scope="module")
def full() -> Transformer:
    """One model with every output, for tests that change nothing."""
    keras.utils.set_random_seed(1)
    model = build("seq2seq", OUTPUTS)
    for variable in model.trainable_variables:  # away from zeros and ones
        variable.assign_add(np.random.default_rng(0).standard_normal(variable.shape) * 0.05)
    return model


# Outputs.


@backends
def test_outputs(full: Transformer) -> None:
    out = full(BATCH)
    shapes = {"sequence": (2, 6, 12), "pooled": (2, 12), "mlm": (2, 6, 40), "nsp": (2, 2)}
    assert {name: tuple(value.shape) for name, value in out.items()} == shapes
    pooled = np.tanh(numpy(out["sequence"])[:, 0] @ numpy(full.parts["pooled/dense"].kernel) + numpy(full.parts["pooled/dense"].bias))
    np.testing.assert_allclose(numpy(out["pooled"]), pooled, atol=1e-6)


def test_one_output_is_an_array_and_several_are_a_dict(full: Transformer) -> None:
    together = full(BATCH)
    for name in OUTPUTS:
        same_arrays(full.with_outputs(name)(BATCH), together[name])
    assert set(full.with_outputs("nsp", "mlm")(BATCH)) == {"nsp", "mlm"}
    left = full.with_outputs("mlm").weight_names()
    assert left.keys() == full.weight_names().keys() - {f"{head}/dense/{kind}" for head in ("pooled", "nsp") for kind in ("kernel", "bias")}
    assert isinstance(full.predict(BATCH, verbose=0), dict)
    np.testing.assert_allclose(full.predict(BATCH, verbose=0)["mlm"], numpy(together["mlm"]), atol=1e-5)


@pytest.mark.parametrize(
    ("outputs", "absent"),
    [(("sequence",), ("pooled", "nsp", "mlm")), (("pooled",), ("nsp", "mlm")), (("nsp",), ("mlm",)), (("mlm",), ("pooled", "nsp"))],
)
def test_a_model_has_the_weights_of_its_outputs_only(outputs: tuple[str, ...], absent: tuple[str, ...]) -> None:
    model = build(outputs=outputs)
    assert not [name for name in model.weight_names() if name.split("/")[0] in absent]
    for name in absent:
        with pytest.raises(ConfigError, match=f"no weights for '{name}'.*load it again"):
            model.with_outputs(name)
    assert model.count_params() == sum(np.prod(shape) for shape in model.weight_names().values())


def test_the_mlm_head_is_tied_to_the_embedding(full: Transformer) -> None:
    before = numpy(full(BATCH)["mlm"])
    embedding = full.parts["embeddings/token"].embeddings
    kept = numpy(embedding)
    embedding.assign(kept + (np.arange(40) == 39)[:, None])  # token 39 does not occur in the batch
    after = numpy(full(BATCH)["mlm"])
    embedding.assign(kept)
    assert (before[:, :, :39] == after[:, :, :39]).all() and (before[:, :, 39] != after[:, :, 39]).all()


def test_training_one_output_leaves_the_others_alone() -> None:
    model = build("lm", OUTPUTS)
    trained = model.with_outputs("mlm")
    before = model.weight_values()["pooled/dense/kernel"].copy()
    trained.compile(optimizer=keras.optimizers.AdamW(0.1, weight_decay=0.5), loss="mse")
    trained.fit(BATCH, np.zeros((2, 6, 40)), verbose=0)  # a weight without a gradient would be a warning here, and decay
    np.testing.assert_array_equal(model.weight_values()["pooled/dense/kernel"], before)


# Masks change the machine, not the weights.


@backends
def test_with_mask_shares_weights() -> None:
    model = build("encoder")
    other = model.with_mask("lm")
    assert isinstance(other, Transformer) and str(other.mask) == "causal & real"
    before, own = run(other, BATCH), run(model, BATCH)
    assert (before != own).any()
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    model.fit(BATCH, np.zeros((2, 6, 12)), epochs=1, verbose=0)
    assert (run(other, BATCH) != before).any()
    same_arrays(run(other.with_mask("encoder"), BATCH), run(model, BATCH))
    assert [id(variable) for variable in model.weights if "seed" not in variable.path] == [
        id(variable) for variable in other.weights if "seed" not in variable.path
    ]


@backends
def test_causal_outputs_do_not_know_the_future(full: Transformer) -> None:
    other = BATCH | {"token_ids": BATCH["token_ids"].copy()}
    other["token_ids"][0, 4:] = 30, 31
    for mask, first in (("lm", 4), ("seq2seq", 4), ("encoder", 0)):
        model = full.with_outputs("sequence").with_mask(mask)
        changed = (run(model, BATCH)[0] != run(model, other)[0]).any(axis=-1)
        assert not changed[:first].any() and changed[first:].all(), mask


@backends
def test_a_token_learns_nothing_through_a_row_that_may_look_nowhere() -> None:
    """Under a strict order the first token sees nothing, and the others see it: what it is given may not depend on them."""
    model = build(masks.permuted(range(6), strict=True))
    other = {"token_ids": ids("abcdez", "hijkz.")}
    left, right = run(model, {"token_ids": ids("abcdef", "hijkl.")}), run(model, other)
    assert np.isfinite(left).all()
    np.testing.assert_array_equal(left[0, :5], right[0, :5])


@pytest.mark.parametrize("mask", ["encoder", "lm", pytest.param("seq2seq", marks=backends), "reverse_lm", "causal & window(2) | source"])
def test_padding_anywhere_changes_no_real_output(mask: str, full: Transformer) -> None:
    model = full.with_outputs("sequence").with_mask(mask)
    bare = {"token_ids": ids("abcde"), "segment_ids": digits("00011")}
    padded = {
        "right": {"token_ids": ids("abcde..."), "segment_ids": digits("00011000")},
        "left": {"token_ids": ids("...abcde"), "segment_ids": digits("00000011")},
        "between": {"token_ids": ids("abc...de"), "segment_ids": digits("00000011")},
        "within": {"token_ids": ids("a.bc.d.e"), "segment_ids": digits("00000111")},
    }
    expected = run(model, bare)[0]
    for where, batch in padded.items():
        real = batch["token_ids"][0] != 0
        np.testing.assert_allclose(run(model, batch)[0, real], expected, atol=2e-6, err_msg=where)
    # Padding that is not [PAD], said by the input "real".
    batch = {"token_ids": ids("abcdexyz"), "segment_ids": digits("00011111"), "real": np.arange(8)[None] < 5}
    np.testing.assert_allclose(run(model, batch)[0, :5], expected, atol=2e-6)


@backends
def test_a_permuted_mask_is_shuffled_pairs_under_a_causal_one() -> None:
    order = np.array([0, 3, 1, 4, 2])  # when each position is revealed
    at = np.argsort(order)  # which position is revealed at each time
    token_ids = ids("abcde")
    permuted = build(masks.permuted(order))
    shuffled = {"token_ids": token_ids[:, at], "position_ids": at[None].astype("int32")}
    np.testing.assert_allclose(run(permuted, {"token_ids": token_ids})[:, at], run(permuted.with_mask("lm"), shuffled), atol=2e-6)
    given = permuted.with_mask("permuted")
    same_arrays(run(given, {"token_ids": token_ids, "order": order[None]}), run(permuted, {"token_ids": token_ids}))


@backends
def test_packed_rows_are_their_documents_alone(full: Transformer) -> None:
    model = full.with_outputs("sequence").with_mask(masks.same_document & masks.seq2seq)
    packed = {
        "token_ids": ids("abcdefgh."),
        "segment_ids": digits("001100110"),
        "document_ids": digits("111122220"),
    }
    out = run(model, packed)[0]
    alone = model.with_mask("seq2seq")
    for at in (slice(0, 4), slice(4, 8)):
        single = {name: value[:, at] for name, value in packed.items() if name != "document_ids"}
        np.testing.assert_allclose(out[at], run(alone, single)[0], atol=2e-6)


@backends
def test_a_batch_of_padding_gives_no_nan(full: Transformer) -> None:
    out = full({"token_ids": np.zeros((2, 4), "int32")})
    assert all(np.isfinite(numpy(value)).all() for value in out.values())


# Initial values.


class Reads(dict[str, np.ndarray]):
    """Values that count how often each is read."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.count = dict.fromkeys(self, 0)

    def __getitem__(self, name: str) -> np.ndarray:
        self.count[name] += 1
        return super().__getitem__(name)


@backends
def test_values_are_read_once_and_nothing_is_drawn(full: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    values = Reads(full.weight_values())

    def draw(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a weight was drawn that has a value")

    monkeypatch.setattr(keras.initializers.TruncatedNormal, "__call__", draw)
    model = build("seq2seq", OUTPUTS, values=values)
    assert set(values.count) == set(model.weight_names()) and set(values.count.values()) == {1}
    same_arrays(model(BATCH), full(BATCH))
    monkeypatch.undo()
    assert isinstance(model.parts["mlm/dense"].kernel_initializer, keras.initializers.TruncatedNormal), (
        "the layers keep their own initializers"
    )


@backends
def test_weights_without_a_value_start_random_and_different() -> None:
    model = build(outputs=OUTPUTS, values={"embeddings/norm/gamma": np.full(12, 3.0, "float32")})
    values = model.weight_values()
    assert (values["embeddings/norm/gamma"] == 3).all()
    kernels = [value for name, value in values.items() if name.endswith("kernel") and value.shape == (12, 12)]
    assert len(kernels) == 10  # four of each block, pooled and mlm
    assert all((a != b).all() for i, a in enumerate(kernels) for b in kernels[:i]), "two weights were drawn alike"
    assert all(0.1 < kernel.std() < 0.4 for kernel in kernels)


def test_a_value_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"inner/kernel has the shape \(12, 19\); this model's config makes it \(12, 20\)"):
        build(values={"block_0/feed_forward/inner/kernel": np.zeros((12, 19), "float32")})


# Training and prediction as Keras gives them.


@backends
def test_fit_lowers_the_loss() -> None:
    model = build("lm", ("mlm",))
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    targets = np.roll(BATCH["token_ids"], -1, axis=1)
    history = model.fit(BATCH, targets, epochs=4, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert model.evaluate(BATCH, targets, verbose=0) < history[0]


@backends
@pytest.mark.parametrize("optional", [(), ("segment_ids",), ("segment_ids", "real", "position_ids")], ids=len)
def test_fit_predict_and_evaluate_with_and_without_optional_inputs(optional: tuple[str, ...]) -> None:
    model = build()
    real = np.array([[True] * 6, [True] * 3 + [False] * 3])
    every = BATCH | {"real": real, "position_ids": digits("543210", "012345")}
    batch = {name: every[name] for name in ("token_ids", *optional)}
    np.testing.assert_allclose(model.predict(batch, verbose=0), run(model, batch), atol=1e-5)
    model.compile(optimizer="sgd", loss="mse")
    model.fit(batch, np.zeros((2, 6, 12)), verbose=0)
    assert np.isfinite(model.evaluate(batch, np.zeros((2, 6, 12)), verbose=0))
    assert np.isfinite(model.train_on_batch(batch, np.zeros((2, 6, 12))))


@backends
def test_predict_takes_other_lengths_and_ragged_last_batches() -> None:
    model = build("lm")
    for batch, length in ((3, 4), (5, 7), (1, 1)):
        token_ids = np.ones((batch, length), "int32")
        assert model.predict({"token_ids": token_ids}, batch_size=2, verbose=0).shape == (batch, length, 12)


@backends
def test_needed_inputs_reach_the_mask_in_predict() -> None:
    order = digits("051423", "012345")
    model = build("permuted")
    batch = {"token_ids": BATCH["token_ids"], "order": order}
    np.testing.assert_allclose(model.predict(batch, verbose=0), run(model, batch), atol=1e-5)
    packed = build(PACKED)
    batch = {"token_ids": BATCH["token_ids"], "document_ids": digits("111222", "111100")}
    np.testing.assert_allclose(packed.predict(batch, verbose=0), run(packed, batch), atol=1e-5)


@backends
def test_intermediate_outputs() -> None:
    model = build()
    inner = keras.Model(model.inputs, [model.get_layer(f"block_{index}_attention_norm").output for index in range(2)])
    outputs = inner(model.complete(BATCH))
    assert [tuple(output.shape) for output in outputs] == [(2, 6, 12)] * 2
    last = keras.Model(model.inputs, model.get_layer("block_1_feed_forward_norm").output)
    same_arrays(last(model.complete(BATCH)), model(BATCH))


@backends
def test_a_part_of_a_larger_model(tmp_path: Path) -> None:
    encoder = build(outputs=("pooled",))
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "segment_ids")}
    classifier = keras.Model(inputs, keras.layers.Dense(3, name="labels")(encoder(inputs)))
    before = classifier.predict(BATCH, verbose=0)
    hidden = run(encoder, BATCH)
    dense = classifier.get_layer("labels")
    np.testing.assert_allclose(before, hidden @ numpy(dense.kernel) + numpy(dense.bias), atol=1e-5)
    classifier.compile(optimizer="sgd", loss="mse")
    classifier.fit(BATCH, np.zeros((2, 3)), verbose=0)
    assert (run(encoder, BATCH) != hidden).any(), "the encoder is trained with it"
    same_arrays(saved(classifier, tmp_path).predict(BATCH, verbose=0), classifier.predict(BATCH, verbose=0))


# Saving.


def saved(model: keras.Model, folder: Path) -> Any:
    """The model after a round trip through a file, with no custom objects."""
    model.save(folder / "model.keras")
    return keras.saving.load_model(folder / "model.keras")


@pytest.mark.parametrize(
    "mask", ["encoder", "seq2seq", "causal & window(3) | source & ~permuted(seed=3)", "permuted(order=(0, 2, 1, 3, 5, 4))"]
)
def test_round_trip(mask: str, tmp_path: Path) -> None:
    model = build(mask, OUTPUTS)
    again = saved(model, tmp_path)
    assert type(again) is Transformer
    assert (again.config, again.mask, again.output_kinds, again.name) == (model.config, model.mask, model.output_kinds, model.name)
    same_arrays(again.predict(BATCH, verbose=0), model.predict(BATCH, verbose=0))
    same_arrays(again.with_mask("lm")(BATCH), model.with_mask("lm")(BATCH))


@pytest.mark.parametrize("policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=backends), "bfloat16"])
def test_round_trip_of_other_precisions(policy: str, tmp_path: Path) -> None:
    model = build("lm", ("sequence", "mlm"), dtype=policy)
    again = saved(model, tmp_path)
    assert again.parts["block_1/attention"].query.dtype_policy.name == policy
    assert again.parts["block_1/feed_forward/outer"].kernel.dtype == model.parts["block_1/feed_forward/outer"].kernel.dtype
    same_arrays(again(BATCH), model(BATCH))


@pytest.mark.parametrize("policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=backends)])
def test_mixed_precision_is_finite_and_close(policy: str, full: Transformer) -> None:
    model = build("seq2seq", OUTPUTS, dtype=policy, values=full.weight_values())
    limit = {"mixed_float16": 0.02, "mixed_bfloat16": 0.1}[policy]
    for name, value in model(BATCH).items():
        expected = numpy(full(BATCH)[name])
        assert np.isfinite(numpy(value)).all()
        assert np.abs(numpy(value) - expected).max() < limit * np.abs(expected).max(), name
    model = model.with_outputs("mlm")
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert np.isfinite(model.fit(BATCH, BATCH["token_ids"], epochs=2, verbose=0).history["loss"]).all()
    assert all(np.isfinite(value).all() for value in model.weight_values().values())


@keras.saving.register_keras_serializable("bert4k_tests")
class Adapted(Transformer):
    """A bottleneck after every block, as a user would write it."""

    def make_parts(self, dtype: Any) -> dict[str, keras.layers.Layer]:
        parts = super().make_parts(dtype)
        return parts | {"adapter": keras.layers.Dense(self.config.hidden_size, name="adapter", dtype=dtype)}

    def block(self, index: int, x: Any, attend: Any) -> Any:
        x = super().block(index, x, attend)
        return x + self.parts["adapter"](x)


@backends
def test_an_overridden_hook(tmp_path: Path) -> None:
    model = Adapted(CONFIG, "lm", ("sequence",), values={"adapter/kernel": np.zeros((12, 12), "float32")})
    assert {"adapter/kernel", "adapter/bias"} <= set(model.weight_names())
    plain = build("lm", values=model.weight_values())
    same_arrays(model(BATCH), plain(BATCH))
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    model.fit(BATCH, np.ones((2, 6, 12)), verbose=0)
    assert (numpy(model.parts["adapter"].kernel) != 0).any()
    again = saved(model, tmp_path)
    assert type(again) is Adapted and type(again.with_mask("encoder")) is Adapted
    same_arrays(again(BATCH), model(BATCH))


# LoRA and quantisation.


@backends
def test_lora_trains_low_rank_weights_only(tmp_path: Path) -> None:
    model = build("lm", ("mlm",))
    before, untouched = run(model, BATCH), model.weight_values()
    model.enable_lora(2)
    same_arrays(model(BATCH), before)
    assert model.trainable_variables and all("lora" in variable.path for variable in model.trainable_variables)
    assert len(model.trainable_variables) == 2 * 2 * CONFIG.num_hidden_layers
    model.compile(optimizer=keras.optimizers.SGD(1.0), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(BATCH, BATCH["token_ids"], epochs=2, verbose=0)
    merged = model.weight_values()
    changed = {name for name in merged if (merged[name] != untouched[name]).any()}
    assert changed == {f"block_{index}/attention/{name}/kernel" for index in range(2) for name in ("query", "value")}
    np.testing.assert_allclose(run(build("lm", ("mlm",), values=merged), BATCH), run(model, BATCH), atol=1e-5)
    np.testing.assert_allclose(run(saved(model, tmp_path), BATCH), run(model, BATCH), atol=1e-5)


def test_lora_on_an_unknown_projection_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no projection 'querry'.*Did you mean 'query'"):
        build().enable_lora(2, ("querry",))


@pytest.fixture
def quiet() -> Iterator[None]:
    """Keras warns of each layer that it has no quantised form of; PyTorch of what Keras' quantised Dense calls."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have a `quantize` method", UserWarning)
        warnings.filterwarnings("ignore", ".*x.T.* on tensors of dimension other than 2", UserWarning)
        yield


@backends
def test_quantized_models_stay_close_and_reload(quiet: None, tmp_path: Path) -> None:
    model = build("seq2seq", ("mlm",))
    before = run(model, BATCH)
    model.quantize("int8")
    after = run(model, BATCH)
    assert 0 < np.abs(after - before).max() < 0.1 * np.abs(before).max()
    np.testing.assert_allclose(run(model.with_mask("seq2seq"), BATCH), after, atol=1e-6)
    again = saved(model, tmp_path)
    same_arrays(again(BATCH), after)
    assert keras.backend.standardize_dtype(again.parts["block_0/feed_forward/inner"].kernel.dtype) == "int8"
    with pytest.raises(ConfigError, match=r"quantised to int8.*Save the model as .keras"):
        model.weight_values()


# What is refused.


@pytest.mark.parametrize(
    ("mask", "batch", "message"),
    [
        (
            "encoder",
            {"token_ids": ids("ab"), "segment": digits("00")},
            "no input 'segment'.*Did you mean 'segment_ids'.*Inputs are .*token_ids",
        ),
        ("encoder", {"token_ids": ids("ab"), "order": digits("01")}, "no input 'order'.*Only a mask with `permuted`"),
        ("encoder", {"token_ids": ids("ab"), "document_ids": digits("01")}, "no input 'document_ids'.*Only a mask with `same_document`"),
        ("permuted", {"token_ids": ids("ab")}, "input 'order' is missing"),
        ("encoder", {"segment_ids": digits("00")}, "input 'token_ids' is missing"),
        ("encoder", {}, "input 'token_ids' is missing"),
        ("encoder", {"token_ids": np.array([[1, 40]])}, "token_ids holds 40; .* rows 0 to 39.*Use the tokenizer"),
        ("encoder", {"token_ids": np.array([[1, -1]])}, "token_ids holds -1"),
        ("encoder", {"token_ids": ids("ab"), "segment_ids": digits("02")}, "segment_ids holds 2; .* rows 0 to 1"),
        ("encoder", {"token_ids": ids("ab"), "position_ids": np.array([[0, 16]])}, "position_ids holds 16"),
        ("encoder", {"token_ids": np.ones((1, 17), "int32")}, "17 tokens a row; the model has 16 positions.*max_length=16"),
        ("encoder", {"token_ids": np.ones((0, 4), "int32")}, r"shape \(0, 4\); expected \[batch, tokens\]"),
        ("encoder", {"token_ids": np.ones((2, 0), "int32")}, r"shape \(2, 0\)"),
        ("encoder", {"token_ids": np.ones(3, "int32")}, r"shape \(3,\)"),
    ],
)
def test_inputs_that_the_model_cannot_take(mask: str, batch: dict[str, np.ndarray], message: str) -> None:
    model = build(mask)
    model.compile(optimizer="sgd", loss="mse")
    for use in (model, model.predict, model.evaluate, model.fit):
        with pytest.raises(DataError, match=message):
            use(batch)


@backends
def test_dropout_acts_in_training_only() -> None:
    model = build(config=CONFIG.override(hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.0))
    inputs = model.complete(BATCH)
    whole = keras.Sequential([keras.layers.Lambda(lambda inputs: model(inputs))])
    for one in (model, whole):
        first, second = (ops.convert_to_numpy(one(inputs, training=True)) for _ in range(2))
        assert (first != second).any()
        np.testing.assert_array_equal(ops.convert_to_numpy(one(inputs)), ops.convert_to_numpy(one(inputs, training=False)))


@pytest.mark.parametrize("inputs", [ids("ab"), [ids("ab")], "ab"])
def test_inputs_that_are_no_dict(inputs: Any) -> None:
    with pytest.raises(DataError, match="takes a dict of inputs"):
        build()(inputs)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: build(outputs=("mlm", "sequenc")), "no output 'sequenc'.*Did you mean 'sequence'.*Outputs are"),
        (lambda: build(outputs=()), "expected a tuple with at least one"),
        (lambda: build(outputs="mlm"), "expected a tuple"),  # type: ignore[arg-type]
        (lambda: build().with_outputs("pool"), "no output 'pool'"),
        (lambda: build().with_outputs(), "expected a tuple"),
        (lambda: build("seq2sec"), "no mask 'seq2sec'.*Did you mean 'seq2seq'"),
        (lambda: build().with_mask("casual"), "no mask 'casual'.*Did you mean 'causal'"),
        (lambda: Transformer({"hidden_size": 12}), "no vocab_size"),
        (lambda: Transformer({"vocab_size": 5, "hiden_size": 12}), "unknown key 'hiden_size'"),
    ],
)
def test_arguments_that_make_no_model(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_weights_without_a_name_are_not_lost_silently() -> None:
    class Nested(Transformer):
        def make_parts(self, dtype: Any) -> dict[str, keras.layers.Layer]:
            inner = [keras.layers.Dense(self.config.hidden_size, name="inner")]
            return super().make_parts(dtype) | {"adapter": keras.Sequential(inner, name="adapter")}

        def block(self, index: int, x: Any, attend: Any) -> Any:
            return self.parts["adapter"](super().block(index, x, attend))

    with pytest.raises(ConfigError, match=r"adapter/inner/kernel.*make_parts.*save the model as \.keras"):
        Nested(CONFIG).weight_values()


# The inside. ----------------------------------------------------------------------------------------------------------------------


@backends
def test_hidden_states_and_attention_of_any_layer_are_outputs() -> None:
    """Those of the hooks, run by hand; and training them leaves the heads alone."""
    config = CONFIG
    model = Transformer(config, "lm", ("sequence", "embeddings", "hidden_0", "hidden_1", "attention_1"))
    batch = {"token_ids": np.array([[2, 7, 8, 9, 3], [2, 7, 3, 0, 0]]), "segment_ids": np.array([[0, 0, 1, 1, 1], [0, 0, 0, 0, 0]])}
    found = {name: ops.convert_to_numpy(value) for name, value in model(batch).items()}
    segment_ids, position_ids, allowed = model.get_layer("tokens")(batch["token_ids"], batch["segment_ids"])
    x = model.embed(batch["token_ids"], segment_ids, position_ids)
    np.testing.assert_allclose(found["embeddings"], ops.convert_to_numpy(x), atol=1e-6)
    for index in range(2):
        weights = []

        def attend(attention: Any, x: Any) -> Any:
            memory = attention.keys_values(x)
            weights.append(attention.probabilities(x, memory, allowed))  # noqa: B023
            return attention.gather(x, weights[-1], memory)  # noqa: B023

        x = model.block(index, x, attend)
        np.testing.assert_allclose(found[f"hidden_{index}"], ops.convert_to_numpy(x), atol=1e-5)
    np.testing.assert_allclose(found["attention_1"], ops.convert_to_numpy(weights[0]), atol=1e-5)
    assert found["attention_1"].shape == (2, config.num_attention_heads, 5, 5)
    np.testing.assert_array_equal(found["hidden_1"], found["sequence"])
    assert not np.triu(found["attention_1"][0, 0], 1).any()  # under the mask lm


def test_outputs_of_the_inside_go_through_keras(tmp_path: Path) -> None:
    model = Transformer(CONFIG, outputs=("hidden_0", "attention_0"))
    batch = {"token_ids": np.array([[2, 7, 8, 3]])}
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for name, value in again(batch).items():
        np.testing.assert_array_equal(ops.convert_to_numpy(value), ops.convert_to_numpy(model(batch)[name]))
    assert model.with_outputs("embeddings")(batch).shape == (1, 4, CONFIG.hidden_size)
    half = Transformer(CONFIG, outputs=("hidden_0", "attention_0"), dtype="mixed_bfloat16")(batch)
    assert all(keras.backend.standardize_dtype(value.dtype) == "bfloat16" for value in half.values())


@pytest.mark.parametrize("name", ["hidden_2", "attention_2"])
def test_there_are_no_outputs_beyond_the_last_layer(name: str) -> None:
    with pytest.raises(ConfigError, match=f"no output '{name}': the layers are numbered from 0 to 1"):
        Transformer(CONFIG, outputs=(name,))


def test_an_output_that_is_misspelt() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean 'hidden_0'.*hidden_0 to hidden_1"):
        Transformer(CONFIG, outputs=("hiden_0",))


def test_xla_only_where_it_pays() -> None:
    """On TensorFlow and a CPU it would compile anew for every length; asked for, it comes."""
    plain = keras.backend.backend() == "tensorflow"  # the machines of the tests have no accelerator
    assert jit_compile() is (False if plain else "auto")
    assert jit_compile(True) is True
    model = Transformer(Config(9, 8, 1, 2, 8))
    assert not (plain and model.jit_compile)
    model.compile("sgd", "mse", jit_compile=plain)
    assert model.jit_compile is plain
