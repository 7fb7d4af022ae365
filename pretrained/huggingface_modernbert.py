"""ModernBERT as the Hugging Face library stores it (transformers, `models/modernbert/modeling_modernbert.py`), as `ModernBertForMaskedLM`
has it; read with and without the leading "model." (`ModernBertModel` alone has none)."""

import numpy as np

from bert4k.checkpoints.tables import Copy, Op, Row, Table, transposed

_LAYER = "model.layers.{i}"


def _one_above_the_other(parts: int) -> Op:
    """One stored kernel [out, in] holds `parts` of ours, each transposed."""
    return Op(
        lambda arrays: [part.T for part in np.split(arrays[0], parts)],
        lambda arrays: [np.concatenate([part.T for part in arrays])],
    )


_PROJECTIONS = tuple(f"block_{{i}}/attention/{name}/kernel" for name in ("query", "key", "value"))

TABLES = (
    Table(
        "modernbert",
        "huggingface",
        (
            Row("embeddings/token/embeddings", "model.embeddings.tok_embeddings.weight"),
            Row("embeddings/norm/gamma", "model.embeddings.norm.weight"),
            Row("block_{i}/attention_norm/gamma", f"{_LAYER}.attn_norm.weight"),
            Row(_PROJECTIONS, f"{_LAYER}.attn.Wqkv.weight", _one_above_the_other(3)),
            Row("block_{i}/attention/output/kernel", f"{_LAYER}.attn.Wo.weight", transposed),
            Row("block_{i}/feed_forward_norm/gamma", f"{_LAYER}.mlp_norm.weight"),
            Row(
                ("block_{i}/feed_forward/inner/kernel", "block_{i}/feed_forward/gate/kernel"),
                f"{_LAYER}.mlp.Wi.weight",
                _one_above_the_other(2),
            ),
            Row("block_{i}/feed_forward/outer/kernel", f"{_LAYER}.mlp.Wo.weight", transposed),
            Row("final_norm/gamma", "model.final_norm.weight"),
            Row("mlm/dense/kernel", "head.dense.weight", transposed),
            Row("mlm/norm/gamma", "head.norm.weight"),
            Row("mlm/bias", "decoder.bias"),
        ),
        ((r"^(?=(embeddings|layers|final_norm)\.)", "model."),),
        (Copy("decoder.weight", "model.embeddings.tok_embeddings.weight", checked_with="mlm/bias"),),
    ),
)
