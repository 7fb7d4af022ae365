"""Other tokens and more positions than a checkpoint has: against means and lines written out, and saved like any other model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoding.conftest import CHARACTERS, SPECIAL
from keras import ops
from test_families import CASES, build, tokenizer_of

import bert4k
from bert4k.errors import ConfigError, DataError, Error, VocabularyError
from bert4k.model import Transformer
from bert4k.surgery import hierarchical, interpolated
from bert4k.tokenizers import Tokenizer

backends = pytest.mark.backends
TOKENS, BIAS = "embeddings/token/embeddings", "mlm/bias"
LAYOUT = {"BERT": "google", "RoBERTa": "huggingface", "ALBERT": "google"}


@pytest.fixture(scope="module", params=LAYOUT)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Transformer, Tokenizer]:
    """A checkpoint, and what it was made of."""
    model = build(request.param)
    tokenizer, folder = tokenizer_of(model.config), tmp_path_factory.mktemp("source") / "saved"
    return bert4k.save(model, tokenizer, folder, LAYOUT[request.param]), model, tokenizer


# Tokens. ----------------------------------------------------------------------------------------------------------------------------


@backends
def test_new_tokens_are_means(source: tuple[Path, Transformer, Tokenizer]) -> None:
    folder, before, old = source
    a, b, c = CHARACTERS[:3]
    wanted: dict[str, Any] = {a + b: [a, b], "[TITLE]": {a: 1.0, c: 3.0}}
    model, tokenizer = bert4k.load(folder, outputs=("mlm",), compound_tokens=wanted)
    assert tokenizer.vocabulary == [*old.vocabulary, a + b, "[TITLE]"]
    assert tokenizer.tokenize(f"{c}{a}{b}[TITLE]{b}{a}") == [c, a + b, "[TITLE]", b, a]
    for name in (TOKENS, BIAS):
        stored, found = before.weight_values()[name], model.weight_values()[name]
        first, second, third = (stored[old.token_to_id(token)].astype("float64") for token in (a, b, c))
        assert np.array_equal(found[: len(stored)], stored), name
        np.testing.assert_allclose(found[len(stored) :], [(first + second) / 2, first / 4 + third * 3 / 4], rtol=1e-6, atol=1e-7)


def test_new_tokens_by_name_alone_are_made_of_their_pieces(source: tuple[Path, Transformer, Tokenizer], tmp_path: Path) -> None:
    folder, before, old = source
    word = "".join(CHARACTERS[3:6])
    model, tokenizer = bert4k.load(folder, outputs=before.config.outputs, compound_tokens=[word])
    stored = before.weight_values()[TOKENS]
    np.testing.assert_allclose(model.weight_values()[TOKENS][-1], stored[[old.token_to_id(char) for char in word]].mean(0), rtol=1e-6)
    again, same_tokenizer = bert4k.load(bert4k.save(model, tokenizer, tmp_path / "saved", folder_format(folder)))
    assert same_tokenizer.tokenize(word) == [word]
    assert again.config.vocab_size == len(old) + 1


def folder_format(folder: Path) -> str:
    return "google" if list(folder.glob("*.index")) else "huggingface"


def test_keeping_some_tokens_and_joining_others(source: tuple[Path, Transformer, Tokenizer]) -> None:
    """A new token may be made of tokens that go."""
    folder, before, old = source
    gone, stays = CHARACTERS[0], CHARACTERS[1]
    keep = [old.token_to_id(token) for token in [*SPECIAL, stays]]
    model, tokenizer = bert4k.load(folder, keep_tokens=keep, compound_tokens={gone + stays: [gone, stays]})
    assert tokenizer.vocabulary == [*(old.vocabulary[index] for index in keep), gone + stays]
    rows = before.weight_values()[TOKENS]
    found = model.weight_values()[TOKENS]
    assert np.array_equal(found[:-1], rows[keep])
    np.testing.assert_allclose(found[-1], (rows[old.token_to_id(gone)] + rows[old.token_to_id(stays)]) / 2, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("compound", "error", "message"),
    [
        ("词", DataError, "is the string.*Put it in a list"),
        (["a b"], DataError, "without spaces"),
        ([7], DataError, "strings"),
        ([CHARACTERS[0]], DataError, "in the vocabulary already"),
        ({"[X]": []}, DataError, "one token of the vocabulary or more"),
        ({"[X]": {CHARACTERS[0]: 0.0}}, DataError, "not all 0"),
        ({"[X]": {CHARACTERS[0]: -1.0, CHARACTERS[1]: 2.0}}, DataError, "at least 0"),
        ({"[X]": ["不在"]}, VocabularyError, "no token '不在'"),
        ({"a-b": [CHARACTERS[0]]}, DataError, "would never make the new token 'a-b'"),
    ],
)
def test_tokens_that_cannot_be(compound: Any, error: type[Error], message: str, source: tuple[Path, Transformer, Tokenizer]) -> None:
    with pytest.raises(error, match=message):
        bert4k.load(source[0], compound_tokens=compound)


# Positions. -------------------------------------------------------------------------------------------------------------------------


def test_hierarchical_rows_are_those_of_the_formula() -> None:
    """p_{i n + j} = alpha u_i + (1 - alpha) u_j, with u_j = (p_j - alpha p_0) / (1 - alpha)."""
    p = np.random.default_rng(0).standard_normal((4, 3)).astype("float32")
    u = [(row - 0.4 * p[0]) / 0.6 for row in p.astype("float64")]
    found = hierarchical(p, 16)
    assert found.dtype == p.dtype
    assert np.array_equal(found[:4], p)
    np.testing.assert_allclose(found, [0.4 * u[i] + 0.6 * u[j] for i in range(4) for j in range(4)], atol=1e-6)
    assert len(np.unique(found.round(4), axis=0)) == 16  # no two places are alike


def test_interpolated_rows_lie_on_lines() -> None:
    p = np.array([[0.0, 5.0], [1.0, 3.0], [4.0, 3.0]], "float32")
    expected = [np.interp(np.linspace(0, 2, 7), range(3), p[:, column]) for column in range(2)]
    np.testing.assert_allclose(interpolated(p, 7), np.transpose(expected), atol=1e-6)


@backends
@pytest.mark.parametrize("kind", ["hierarchical", "interpolated"])
def test_more_positions(kind: str, source: tuple[Path, Transformer, Tokenizer], tmp_path: Path) -> None:
    folder, before, tokenizer = source
    config = before.config
    outputs = before.config.outputs
    model, _ = bert4k.load(folder, outputs=outputs, max_position_embeddings=50, extend_positions=kind)
    name = "embeddings/position/embeddings"
    rows, found = before.weight_values()[name], model.weight_values()[name]
    make = {"hierarchical": hierarchical, "interpolated": interpolated}[kind]
    assert np.array_equal(found, np.concatenate([rows[: config.position_offset], make(rows[config.position_offset :], 50)]))
    batch = tokenizer(["".join(CHARACTERS[:6]) * 7])
    assert batch["token_ids"].shape[1] == 44
    after = model(batch)
    short = tokenizer(["".join(CHARACTERS[:6])])
    unchanged = np.abs(numpy(model(short)["sequence"]) - numpy(before(short)["sequence"])).max() <= 1e-6
    assert unchanged == (kind == "hierarchical")
    # An ordinary model: it is saved as one.
    again, _ = bert4k.load(bert4k.save(model, tokenizer, tmp_path / "saved", folder_format(folder)), outputs=outputs)
    assert again.config == model.config
    assert np.array_equal(numpy(again(batch)["sequence"]), numpy(after["sequence"]))


def numpy(x: Any) -> np.ndarray:
    return ops.convert_to_numpy(x)


@pytest.mark.parametrize(
    ("kind", "count", "message"),
    [
        ("twice", 50, "known are hierarchical, interpolated"),
        ("hierarchical", 20, "more than the 20"),
        ("interpolated", 10, "more than the 20"),
        ("hierarchical", 401, "at most 400"),
        (None, 21, "rows for 20 positions"),
    ],
)
def test_positions_that_cannot_be(kind: str | None, count: int, message: str, source: tuple[Path, Transformer, Tokenizer]) -> None:
    with pytest.raises(ConfigError, match=message):
        bert4k.load(source[0], max_position_embeddings=count, extend_positions=kind)


def test_computed_positions_need_no_rows(tmp_path: Path) -> None:
    model = build("RoFormer")
    folder = bert4k.save(model, tokenizer_of(model.config), tmp_path / "saved")
    assert CASES["RoFormer"].config().max_position_embeddings == 20
    longer, _ = bert4k.load(folder, max_position_embeddings=50)
    assert longer(tokenizer_of(model.config)(["".join(CHARACTERS[:6]) * 7])).shape[1] == 44
    with pytest.raises(ConfigError, match="rotary positions have no rows to extend"):
        bert4k.load(folder, max_position_embeddings=50, extend_positions="hierarchical")
