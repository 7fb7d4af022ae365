"""Attention maps against softmax(QK / sqrt(d)) written out in NumPy, against transformers, and against the model that they come from."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras import ops

import bert4k
from bert4k import attention_maps, masks
from bert4k.attention_maps import AttentionMaps, attention, attention_probabilities
from bert4k.backend import attention_fuses
from bert4k.config import Config
from bert4k.errors import ConfigError, DataError
from bert4k.model import Transformer
from bert4k.pictures import mask_matrix
from bert4k.tokenizers import Tokenizer

backends = pytest.mark.backends

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"春夏秋冬风花雪月，。"]
TEXTS: list[Any] = ["春风", ("花", "雪月，冬"), "春夏秋冬风花雪月，。", "", ("夏", "")]
MASKS = ["encoder", "lm", "reverse_lm", "seq2seq", "causal & window(2) | source", "window(2) & ~window(1)"]
LAYERS, HEADS = 3, 4


def tiny_model(**settings: Any) -> Transformer:
    """Every weight at random and large, so that heads look at something."""
    config = Config(len(VOCABULARY), 16, LAYERS, HEADS, 24, max_position_embeddings=24)
    random = np.random.default_rng(5)
    shapes = Transformer(config).weight_names()
    values = {name: random.normal(float(name.endswith("gamma")), 0.5, shape).astype("float32") for name, shape in shapes.items()}
    return Transformer(config, values=values, **settings)


@pytest.fixture(scope="module")
def model() -> Transformer:
    return tiny_model()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(VOCABULARY)


# What the numbers are. -------------------------------------------------------------------------------------------------------------


def reference(
    model: Transformer, token_ids: Any, segment_ids: Any, position_ids: Any, allowed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities [layers, N, L, L] and the last layer [L, H] of one row, in float64 from the weights."""
    weights = {name: value.astype("float64") for name, value in model.weight_values().items()}
    config = model.config

    def dense(name: str, x: np.ndarray) -> np.ndarray:
        return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + config.layer_norm_eps)
        return x * weights[f"{name}/gamma"] + weights[f"{name}/beta"]

    gelu = np.vectorize(lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))))
    kinds = (("token", token_ids), ("segment", segment_ids), ("position", position_ids))
    x = norm("embeddings/norm", sum(weights[f"embeddings/{kind}/embeddings"][ids] for kind, ids in kinds))
    maps = []
    for block in (f"block_{index}" for index in range(config.num_hidden_layers)):
        query, key, value = (dense(f"{block}/attention/{name}", x) for name in ("query", "key", "value"))
        attended = np.zeros_like(x)
        for head in range(config.num_attention_heads):
            own = slice(head * config.head_size, (head + 1) * config.head_size)
            looks = np.zeros(allowed.shape)
            for row, may in enumerate(allowed):
                if may.any():
                    scores = key[may][:, own] @ query[row, own] / math.sqrt(config.head_size)
                    looks[row, may] = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
            maps.append(looks)
            attended[:, own] = looks @ value[:, own]
        x = norm(f"{block}/attention_norm", x + dense(f"{block}/attention/output", attended))
        inner = gelu(dense(f"{block}/feed_forward/inner", x))
        x = norm(f"{block}/feed_forward_norm", x + dense(f"{block}/feed_forward/outer", inner))
    return np.reshape(maps, (config.num_hidden_layers, config.num_attention_heads, *allowed.shape)), x


@backends
@pytest.mark.parametrize("mask", MASKS)
def test_maps_are_those_of_the_formula(mask: str, model: Transformer, tokenizer: Tokenizer) -> None:
    machine = model.with_mask(mask)
    for text in TEXTS:
        maps = attention(machine, tokenizer, text)
        inputs = tokenizer([text])
        ids, segments = inputs["token_ids"][0], inputs["segment_ids"][0]
        assert [maps.tokens, maps.segment_ids] == [tuple(VOCABULARY[token] for token in ids), tuple(segments)]
        np.testing.assert_array_equal(maps.allowed, mask_matrix(masks.parse(mask), segments.tolist()))
        expected, last = reference(machine, ids, segments, np.arange(len(ids)), maps.allowed)
        assert maps.probabilities.dtype == np.float32
        np.testing.assert_allclose(maps.probabilities, expected, atol=1e-5)
        np.testing.assert_allclose(ops.convert_to_numpy(machine(inputs))[0], last, atol=1e-4)  # the reference is the whole model
        assert not maps.probabilities[..., ~maps.allowed].any(), "nothing where the mask forbids"
        sums = np.broadcast_to(maps.allowed.any(-1), maps.probabilities.shape[:-1])
        np.testing.assert_allclose(maps.probabilities.sum(-1), sums, atol=1e-5)


@backends
def test_the_layer_goes_on_from_them(model: Transformer, tokenizer: Tokenizer) -> None:
    """The maps times the values, and the rest of the layer, are what the layer gives, and so layer after layer: bit for bit, unless the
    layer has one operation for both."""
    batch = tokenizer(TEXTS)
    tokens = model.get_layer("tokens")
    segment_ids, position_ids, allowed = tokens(batch["token_ids"], segment_ids=batch["segment_ids"])
    given = attention_probabilities(model, batch)
    layers = iter(np.moveaxis(given, 1, 0))

    def attend(layer: Any, x: Any) -> Any:
        memory = layer.keys_values(x)
        probabilities = layer.probabilities(x, memory, allowed)
        out = layer.gather(x, probabilities, memory)
        rounding = 1e-5 if attention_fuses(memory.keys) else 0
        np.testing.assert_allclose(ops.convert_to_numpy(layer(x, allowed)), ops.convert_to_numpy(out), rtol=rounding, atol=rounding)
        np.testing.assert_allclose(ops.convert_to_numpy(probabilities), next(layers), atol=1e-5)  # one eager, one compiled
        return out

    last = model.run(batch["token_ids"], segment_ids, position_ids, attend)
    np.testing.assert_allclose(ops.convert_to_numpy(last), ops.convert_to_numpy(model(batch)), atol=1e-4)
    assert next(layers, None) is None


@backends
def test_parity_with_transformers() -> None:
    test_parity = pytest.importorskip("test_parity")
    import torch

    ours, theirs = test_parity.pair(**test_parity.TINY)
    theirs.set_attn_implementation("eager")  # the others do not tell
    batch = test_parity.ragged(ours.config, 4, 17)
    tensors = {name: torch.tensor(value, dtype=torch.long) for name, value in batch.items()}
    real = batch["token_ids"] != 0
    with torch.no_grad():
        out = theirs(
            input_ids=tensors["token_ids"],
            token_type_ids=tensors["segment_ids"],
            attention_mask=torch.tensor(real.astype("int64")),
            output_attentions=True,
        )
    expected = np.stack([layer.numpy() for layer in out.attentions], axis=1)
    found = attention_probabilities(ours, batch)
    assert found.shape == expected.shape == (4, 3, 4, 17, 17)
    for row, count in enumerate(real.sum(-1)):
        np.testing.assert_allclose(found[row, :, :, :count], expected[row, :, :, :count], atol=1e-5)


# Batches, orders, documents. -------------------------------------------------------------------------------------------------------


@backends
@pytest.mark.parametrize("mask", ["encoder", "seq2seq"])
def test_a_batch_gives_what_each_text_gives(mask: str, model: Transformer, tokenizer: Tokenizer) -> None:
    machine = model.with_mask(mask)
    together = attention_probabilities(machine, tokenizer(TEXTS))
    assert together.shape == (len(TEXTS), LAYERS, HEADS, 12, 12)
    for row, text in zip(together, TEXTS, strict=True):
        alone = attention(machine, tokenizer, text).probabilities
        count = alone.shape[-1]
        np.testing.assert_allclose(row[..., :count, :count], alone, atol=1e-5)
        assert not row[..., count:].any(), "nobody looks at padding"


@backends
@pytest.mark.parametrize(
    "mask", ["permuted(seed=3)", "permuted(order=(0, 4, 1, 3, 2, 5))", "permuted(order=(5, 4, 1, 3, 2, 0), strict=True)"]
)
def test_an_order_of_the_mask_is_that_of_the_text_alone(mask: str, model: Transformer, tokenizer: Tokenizer) -> None:
    maps = attention(model.with_mask(mask), tokenizer, "春夏秋冬")
    np.testing.assert_array_equal(maps.allowed, mask_matrix(masks.parse(mask), [0] * 6))
    expected, _ = reference(model, tokenizer(["春夏秋冬"])["token_ids"][0], np.zeros(6, int), np.arange(6), maps.allowed)
    np.testing.assert_allclose(maps.probabilities, expected, atol=1e-5)


@backends
def test_an_order_and_documents_as_inputs(model: Transformer, tokenizer: Tokenizer) -> None:
    machine = model.with_mask("permuted & same_document")
    texts, orders = ["春风", "花雪月"], [[0, 2, 1, 0], [0, 1, 3, 2, 0]]
    rows = [tokenizer([text])["token_ids"][0] for text in texts]
    packed = {
        "token_ids": np.concatenate(rows)[None],
        "document_ids": np.repeat([0, 1], [4, 5]).astype("int32")[None],
        "order": np.concatenate(orders).astype("int32")[None],
    }
    [together] = attention_probabilities(machine, packed)
    begin = 0
    for row, order in zip(rows, orders, strict=True):
        own = slice(begin, begin + len(row))
        alone = attention_probabilities(model.with_mask("permuted"), {"token_ids": row[None], "order": np.asarray([order], "int32")})[0]
        np.testing.assert_allclose(together[:, :, own, own], alone, atol=1e-5)
        assert together[:, :, own].sum() == pytest.approx(alone.sum(), abs=1e-3)
        begin += len(row)
    # Inputs of the same shapes and other names are another batch.
    batch = {"token_ids": rows[0][None], "segment_ids": np.asarray([[0, 1, 1, 0]], "int32")}
    moved = {"token_ids": rows[0][None], "position_ids": batch["segment_ids"]}
    assert np.abs(attention_probabilities(model, batch) - attention_probabilities(model, moved)).max() > 0.01


@backends
def test_lower_precision_keeps_its_probabilities(tokenizer: Tokenizer) -> None:
    exact, coarse = (attention(tiny_model(dtype=dtype), tokenizer, "春夏秋冬").probabilities for dtype in ("float32", "mixed_bfloat16"))
    assert coarse.dtype == np.float32
    np.testing.assert_allclose(coarse.sum(-1), 1, atol=0.02)
    assert 0 < np.abs(coarse - exact).max() < 0.2


def test_texts_of_a_bucket_share_a_program(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, traced = tiny_model(), []
    written = attention_maps._probabilities

    def counting(*args: Any) -> Any:
        traced.append(args[1].shape)
        return written(*args)

    monkeypatch.setattr(attention_maps, "_probabilities", counting)
    for text in ("春", "春夏", "春夏秋冬风花", "春夏秋冬风花雪"):
        attention(machine, tokenizer, text)
    assert list(map(tuple, traced)) == [(1, 8), (1, 12)]


# What is shown of them. ------------------------------------------------------------------------------------------------------------

BY_HAND = AttentionMaps(
    tokens=("[CLS]", "花", "花"),
    segment_ids=(0, 0, 1),
    mask="lm, causal & real",
    allowed=np.tri(3, dtype=bool),
    probabilities=np.array([[[[1, 0, 0], [0.25, 0.75, 0], [0.5, 0.2, 0.3]], [[1, 0, 0], [0.75, 0.25, 0], [0.1, 0.2, 0.7]]]] * 2, np.float32)
    * np.array([1, 1], np.float32)[:, None, None, None],
)


def test_selection() -> None:
    layers = AttentionMaps("abc", (0, 0, 0), "", np.ones((3, 3), bool), np.arange(2 * 4 * 9, dtype=np.float32).reshape(2, 4, 3, 3))  # type: ignore[arg-type]
    for layer, head in ((0, 0), (1, 3), (-1, -1), (-2, -4)):
        [(number, found)] = layers.select(layer, head).items()
        assert number == head % 4
        np.testing.assert_array_equal(found, layers.probabilities[layer, head])
    assert list(layers.select(0, "all")) == [0, 1, 2, 3]
    np.testing.assert_array_equal(np.stack(list(layers.select(1, "all").values())), layers.probabilities[1])
    np.testing.assert_allclose(layers.select()["mean"], sum(layers.probabilities[1]) / 4)


@pytest.mark.parametrize(
    ("layer", "head", "message"),
    [
        (2, "mean", r"layer=2: the model has 2 layers\. Expected 0 to 1, or -1 to -2 from the end\."),
        (-3, 0, "layer=-3: the model has 2 layers"),
        (0.0, 0, r"layer=0\.0"),
        (True, 0, "layer=True"),
        (0, 2, r"head=2: the model has 2 heads\. Expected 0 to 1, or -1 to -2 from the end, 'mean', 'all'\."),
        (0, "men", r"head='men'.*Did you mean 'mean'\?"),
        (0, None, "head=None"),
    ],
)
def test_layers_and_heads_that_are_not_there(layer: Any, head: Any, message: str, tmp_path: Path) -> None:
    for ask in (BY_HAND.select, BY_HAND.text, lambda *which: BY_HAND.save(tmp_path / "map.png", *which)):
        with pytest.raises(ConfigError, match=message):
            ask(layer, head)


def test_text_by_eye() -> None:
    assert BY_HAND.text(0, 1) == (
        "layer 0, head 1\n"
        "0 [CLS]    0 [CLS] 100%\n"
        "1 花       0 [CLS]  75%  1 花     25%\n"
        "2 花       2 花     70%  1 花     20%  0 [CLS]  10%"
    )
    assert BY_HAND.text(-1, "mean", most=1) == (
        "layer 1, mean of 2 heads\n0 [CLS]    0 [CLS] 100%\n1 花       0 [CLS]  50%\n2 花       2 花     50%"
    )
    blocks = BY_HAND.text(0, "all").split("\n\n")
    assert blocks == [BY_HAND.text(0, 0), BY_HAND.text(0, 1)]


def pixels(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    return (imread(path)[..., :3] * 255).round().astype(int)


def test_a_picture_shows_the_probabilities(tmp_path: Path) -> None:
    """The cells lie where the labels are, so a column of cells is found by its colours: dark for much, pale for little, white for never."""
    size = 6
    looks = np.zeros((size, size), np.float32)
    looks[:, 0] = 1  # everybody looks at the first key
    looks[-1] = [0, 1, 0, 0, 0, 0]  # but the last
    maps = AttentionMaps(tuple("春夏秋冬风花"), (0,) * size, "lm", np.tri(size, dtype=bool), looks[None, None])
    maps.save(tmp_path / "map.png", 0, 0)
    image = pixels(tmp_path / "map.png")

    def area(colour: str) -> int:
        return int((np.abs(image - [int(colour[i : i + 2], 16) for i in (1, 3, 5)]) <= 2).all(-1).sum())

    dark, pale = area("#12243a"), area("#e4ecf5")
    allowed, looked = np.tri(size, dtype=bool).sum(), size
    # The scale beside the map shows both colours, too, but only at its ends.
    assert dark / looked == pytest.approx(pale / (allowed - looked), rel=0.15)


@pytest.mark.parametrize("kind", ["png", "svg"])
@pytest.mark.parametrize(("layer", "head"), [(0, 1), (-1, "mean"), (1, "all")])
def test_files(kind: str, layer: int, head: int | str, tmp_path: Path) -> None:
    for name in "ab":
        BY_HAND.save(tmp_path / f"{name}.{kind}", layer, head)
    first, second = ((tmp_path / f"{name}.{kind}").read_bytes() for name in "ab")
    assert first == second
    assert first.startswith(b"\x89PNG" if kind == "png" else b"<?xml")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a.{kind}", f"b.{kind}"]


@pytest.mark.parametrize(("heads", "count"), [(1, 1), (1, 128), (12, 20), (7, 3), (4, 64)])
def test_small_and_large(heads: int, count: int, tmp_path: Path) -> None:
    even = np.full((1, heads, count, count), 1 / count, np.float32)
    AttentionMaps(("字",) * count, (0,) * count, "encoder", np.ones((count, count), bool), even).save(tmp_path / "map.png", 0, "all")
    height, width = pixels(tmp_path / "map.png").shape[:2]
    assert 100 < height < 8000 and 100 < width < 8000


def test_what_is_too_large_for_a_picture(tmp_path: Path) -> None:
    for heads, count, most in ((1, 129, 128), (2, 65, 64)):
        zeros = np.zeros((1, heads, count, count), np.float32)
        maps = AttentionMaps(("字",) * count, (0,) * count, "encoder", np.ones((count, count), bool), zeros)
        with pytest.raises(DataError, match=f"{count} tokens; a picture shows 1 to {most}"):
            maps.save(tmp_path / "map.png", 0, "all")
    with pytest.raises(DataError, match=r"expected \.png or \.svg"):
        BY_HAND.save(tmp_path / "map.pdf")


def test_a_row_that_may_look_nowhere(tmp_path: Path) -> None:
    nowhere = AttentionMaps(("春", "风"), (0, 0), "~real", np.zeros((2, 2), bool), np.zeros((1, 1, 2, 2), np.float32))
    assert nowhere.text() == "layer 0, mean of 1 heads\n0 春\n1 风"
    nowhere.save(tmp_path / "map.svg")


# What is refused. ------------------------------------------------------------------------------------------------------------------


def test_refused_texts_and_models(model: Transformer, tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match="32 tokens a row; the model has 24 positions"):
        attention(model, tokenizer, "春" * 30)
    with pytest.raises(DataError, match="expected a string, or a pair"):
        attention(model, tokenizer, ("春", "风", "花"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"permuted.*no attention before its tokens have an order.*permuted\(seed=1\)"):
        attention(model.with_mask("permuted"), tokenizer, "春风")
    with pytest.raises(DataError, match="'order' is missing"):
        attention_probabilities(model.with_mask("permuted"), tokenizer(["春风"]))
    with pytest.raises(bert4k.VocabularyError):
        attention(model, Tokenizer([*VOCABULARY, "新"]), "春风")


def test_the_public_name(model: Transformer, tokenizer: Tokenizer) -> None:
    assert bert4k.attention is attention
    assert json.dumps(bert4k.attention(model, tokenizer, "春").tokens, ensure_ascii=False) == '["[CLS]", "春", "[SEP]"]'
