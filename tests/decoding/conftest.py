"""A tiny model with uneven distributions, under every mask that the tests of decoding use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CHARACTERS = list("一二三四五六七八九十上下左右东西南北中")
# One bucket of lengths, with the shortest possible, a repeated one and [UNK].
SOURCES = ["一", "二三", "东西南北", "上下左右中", "", "一", "十九八七六五", "九零"]


def tiny_model(
    vocabulary: int = 24,
    seed: int = 2,
    layers: int = 2,
    mask: str = "encoder",
    kind: Any = None,
    kinds: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Any:
    """A model whose weights, biases and gains included, are all random; the end token is made likely enough to come.

    kinds: more of its config."""
    from bert4k.config import Config
    from bert4k.model import Transformer

    shape = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 48}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = Config(vocab_size=vocabulary, num_hidden_layers=layers, **{**shape, **dropout, **(kinds or {})})
    model = (kind or Transformer)(config, mask, ("mlm", "pooled"), **settings)
    randomise(model, seed)
    if hasattr(model.parts["mlm"], "bias"):
        model.parts["mlm"].bias.assign_add(np.eye(vocabulary, dtype="float32")[SPECIAL.index("[SEP]")] * 2.0)
    return model


def randomise(model: Any, seed: int) -> None:
    """Large kernels and embeddings, so that what is written depends on all that was read; small biases."""
    from bert4k.model import weights_of

    rng = np.random.default_rng(seed)
    for _, layer, attribute in weights_of(model.parts):
        variable = getattr(layer, attribute)
        large = attribute in ("kernel", "embeddings")
        variable.assign(rng.normal(float(attribute == "gamma"), 0.6 if large else 0.1, variable.shape).astype("float32"))


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    from bert4k.tokenizers import Tokenizer

    return Tokenizer(SPECIAL + CHARACTERS)


@pytest.fixture(scope="session")
def model() -> Any:
    """Under the mask "encoder". Its weights are not to be changed: build another with `tiny_model`."""
    return tiny_model()


@pytest.fixture(scope="session")
def under(model: Any) -> Callable[[str], Any]:
    """The model under a mask, the same one each time, so that what is compiled for it is compiled once."""
    machines: dict[str, Any] = {"encoder": model}

    def machine(mask: str) -> Any:
        if mask not in machines:
            machines[mask] = model.with_mask(mask)
        return machines[mask]

    return machine
