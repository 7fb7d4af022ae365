"""Recognition and the summary, on made-up names and on the index files of real releases."""

import csv
from pathlib import Path

import numpy as np
import pytest

from bert4k.checkpoints import open_checkpoint, write_bundle
from bert4k.checkpoints.describe import describe
from bert4k.checkpoints.recognise import count_layers, recognise
from bert4k.pretrained import BERT


@pytest.mark.parametrize(
    ("folder", "family", "layers"),
    [("bert_wwm_hwf87", "bert", 12), ("bert_uncased_medium_L8_H512", "bert", 8), ("albert_tiny_zh_brightmart", "albert_zh", 0)],
)
def test_real_index_files(shared_data: Path, folder: str, family: str, layers: int) -> None:
    """They are without data: listing needs none."""
    path = shared_data / "ckpt_index" / folder
    if not path.is_dir():
        pytest.skip(f"needs the index file in {path}")
    with (path / "tensors.tsv").open(encoding="utf-8", newline="") as file:
        expected = list(csv.DictReader(file, delimiter="\t"))
    summary = describe(open_checkpoint(path), BERT["google"])
    assert (summary.family, summary.layers, summary.layout) == (family, layers, "google")
    assert [tensor.name for tensor in summary.tensors] == [row["name"] for row in expected]
    assert ["x".join(map(str, tensor.shape)) for tensor in summary.tensors] == [row["shape"] for row in expected]
    assert [str(tensor.nbytes) for tensor in summary.tensors] == [row["bytes"] for row in expected]
    assert summary.nbytes == sum(int(row["bytes"]) for row in expected if row["name"] != "global_step")
    assert summary.parameters * 4 == summary.nbytes
    fates = {tensor.name: tensor.fate for tensor in summary.tensors}
    assert fates.get("global_step", "optimizer") == "optimizer"
    assert ("unknown" in fates.values()) == (family != "bert")


def test_summary_without_a_table(tmp_path: Path) -> None:
    write_bundle(tmp_path / "x", {"w": np.zeros((2, 3), np.float16), "w/adam_m": np.zeros((2, 3), np.float32)})
    summary = describe(open_checkpoint(tmp_path))
    assert (summary.family, summary.parameters, summary.nbytes, summary.path) == ("unknown", 6, 12, str(tmp_path / "x"))
    assert [tensor.fate for tensor in summary.tensors] == ["unknown", "optimizer"]


QUERY = "encoder/layer_0/attention/self/query/kernel"


@pytest.mark.parametrize(
    ("names", "family"),
    [
        (["bert/embeddings/position_embeddings", f"bert/{QUERY}"], "bert"),
        (["bert.embeddings.position_embeddings.weight", "bert.encoder.layer.3.attention.self.query.weight"], "bert"),
        (["embeddings.position_embeddings.weight", "encoder.layer.0.attention.self.query.weight"], "bert"),
        (["bert/embeddings/word_embeddings", f"bert/{QUERY}", "bert/embeddings/LayerNorm/beta"], "roformer or nezha"),
        (["bert/embeddings/word_embeddings", f"bert/{QUERY}"], "roformer_v2"),
        (["bert/embeddings/word_embeddings_2", f"bert/{QUERY}"], "albert_zh"),
        (["bert/encoder/layer_shared/attention/self/query/kernel"], "albert_zh"),
        (["bert/encoder/transformer/group_0/inner_group_0/attention_1/self/query/kernel"], "albert"),
        (["albert.encoder.embedding_hidden_mapping_in.weight"], "albert"),
        (["electra/embeddings/position_embeddings", f"electra/{QUERY}"], "electra"),
        (["electra/embeddings/position_embeddings", "generator_predictions/output_bias"], "electra_generator"),
        (["electra.embeddings.position_embeddings.weight", "discriminator_predictions.dense.weight"], "electra"),
        (["ernie.embeddings.position_embeddings.weight", "ernie.encoder.layer.0.attention.self.query.weight"], "ernie"),
        (["roberta.encoder.layer.0.attention.self.query.weight"], "roberta or xlm_roberta"),
        (["encoder.block.0.layer.0.SelfAttention.q.weight", "shared.weight"], "t5"),
        (["transformer.h.0.attn.c_attn.weight", "transformer.wte.weight"], "gpt2"),
        (["conv1/kernel", "global_step"], "unknown"),
        ([], "unknown"),
    ],
)
def test_families_by_their_names(names: list[str], family: str) -> None:
    assert recognise(names) == family


def test_an_optimizer_does_not_change_the_family() -> None:
    names = ["bert/embeddings/position_embeddings", f"bert/{QUERY}"]
    assert recognise(names + [f"{name}/adam_m" for name in names] + ["global_step"]) == "bert"


def test_layers_are_counted_in_both_layouts() -> None:
    assert count_layers(f"bert/encoder/layer_{number}/output/dense/bias" for number in range(11)) == 11
    assert count_layers(f"encoder.layer.{number}.output.dense.bias" for number in (0, 1, 1)) == 2
    assert count_layers(["bert/encoder/layer_shared/output/dense/bias"]) == 0
