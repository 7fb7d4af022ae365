"""`bert4k verify`: agrees where both agree, and names the first layer that departs where one does not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from marks import on_backends
from test_families import build, tokenizer_of

import bert4k
from bert4k import fidelity
from bert4k.errors import ConfigError
from bert4k.families import FAMILIES
from bert4k.fidelity import Comparison, Difference
from bert4k.model import Transformer

pytest.importorskip("torch")
pytest.importorskip("transformers")

backends = pytest.mark.backends
# PyTorch's compiler, once it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")

TINY = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 96}


@pytest.mark.parametrize("family", on_backends(fidelity.comparable(), "bert", "t5", "deberta_v2"))
def test_every_family_that_transformers_has(family: str) -> None:
    decoder = {"num_decoder_layers": 2} if FAMILIES[family].values.get("num_decoder_layers") else {}
    found = fidelity.compare_random(family, **TINY, **decoder)
    assert found.departs() is None
    assert [each.name for each in found.layers][:4] == ["embeddings", "layer 1", "layer 2", "layer 3"]
    assert len(found.layers) == (5 + 2 if decoder else 4)
    assert {each.name for each in found.outputs} >= {"sequence"}
    assert len(found.gradients) > 20
    assert all(each.size > 0 for each in [*found.layers, *found.outputs])
    assert 0 < found.worst()[0] < 1e-5  # not a comparison of a thing with itself


def test_the_first_layer_that_departs_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = build("BERT")
    folder = bert4k.save(model, tokenizer_of(model.config), tmp_path / "saved")
    assert fidelity.compare(folder, gradients=False).departs() is None
    right = Transformer.block

    def wrong(self: Transformer, index: int, x: Any, attend: Any) -> Any:
        return right(self, index, x, attend) * (1.001 if index == 2 else 1.0)

    monkeypatch.setattr(Transformer, "block", wrong)
    found = fidelity.compare(folder)
    first = found.departs()
    assert first is not None
    assert first.name == "layer 3"
    assert first.difference == pytest.approx(1e-3, rel=0.5)
    assert "layer 3" in fidelity.report(found)
    assert found.worst()[1] > fidelity.GRADIENT_TOLERANCE


def test_numbers_that_are_none_depart() -> None:
    """NaN is not below any limit."""
    one = Difference("layer 1", math.nan, 1.0)
    assert Comparison("bert", "tensorflow", [one], [], []).departs() is one


def test_the_table() -> None:
    one = Comparison("bert", "jax", [Difference("layer 1", 2e-6, 1.0)], [], [Difference("kernel", 3e-5, 1.0)])
    other = Comparison("nezha", "torch", [Difference("layer 1", 1e-7, 1.0)], [], [])
    assert fidelity.table([one, other]).splitlines() == [
        "| family | jax | torch |",
        "| --- | --- | --- |",
        "| BERT | 2e-06 / 3e-05 |  |",
        "| NEZHA |  | 1e-07 / 0e+00 |",
    ]
    assert fidelity.loads(fidelity.dumps(one)) == one


def test_every_family_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fidelity, "comparable", lambda: ["albert"])
    (found,) = fidelity.compare_all(["tensorflow"])
    assert (found.family, found.backend, found.departs()) == ("albert", "tensorflow", None)
    with pytest.raises(ConfigError, match="albert on fortran ended with an error"):
        fidelity.compare_all(["fortran"])


def test_a_family_that_transformers_lacks(tmp_path: Path) -> None:
    model = build("RoFormerV2")
    folder = bert4k.save(model, tokenizer_of(model.config), tmp_path / "saved")
    with pytest.raises(ConfigError, match="has no RoFormerV2"):
        fidelity.compare(folder)
