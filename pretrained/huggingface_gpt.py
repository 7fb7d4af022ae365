"""GPT and GPT-2 as the Hugging Face library stores them (transformers, `models/openai/modeling_openai.py` and
`models/gpt2/modeling_gpt2.py`), also CDial-GPT, Chinese GPT-2 by UER and CPM-Generate.

Kernels are stored [in, out], as Keras has them (`Conv1D`), those of query, key and value side by side. The output layer is the embedding.
Read with and without the name "transformer." before every other.
"""

from bert4k.checkpoints.tables import Copy, Row, Table, split
from bert4k.pretrained.huggingface_bert import norm

_LAYER = "transformer.h.{i}"
# Buffers of the causal mask, which older versions stored; the head for multiple choice.
_IGNORED = (r"\.attn\.(masked_)?bias$", r"(^|\.)position_ids$", r"^multiple_choice_head\.")


def conv1d(ours: str, stored: str) -> tuple[Row, Row]:
    """A dense layer whose kernel is not transposed."""
    return Row(f"{ours}/kernel", f"{stored}.weight"), Row(f"{ours}/bias", f"{stored}.bias")


def fused(stored: str) -> tuple[Row, Row]:
    """Query, key and value side by side."""
    parts = [f"block_{{i}}/attention/{name}" for name in ("query", "key", "value")]
    kernels, biases = (tuple(f"{part}/{weight}" for part in parts) for weight in ("kernel", "bias"))
    return Row(kernels, f"{stored}.weight", split(3)), Row(biases, f"{stored}.bias", split(3))


def _table(family: str, token: str, position: str, *more: Row) -> Table:
    rows = (
        Row("embeddings/token/embeddings", f"transformer.{token}.weight"),
        Row("embeddings/position/embeddings", f"transformer.{position}.weight"),
        *norm("block_{i}/attention_norm", f"{_LAYER}.ln_1"),
        *fused(f"{_LAYER}.attn.c_attn"),
        *conv1d("block_{i}/attention/output", f"{_LAYER}.attn.c_proj"),
        *norm("block_{i}/feed_forward_norm", f"{_LAYER}.ln_2"),
        *conv1d("block_{i}/feed_forward/inner", f"{_LAYER}.mlp.c_fc"),
        *conv1d("block_{i}/feed_forward/outer", f"{_LAYER}.mlp.c_proj"),
        *more,
    )
    tied = Copy("lm_head.weight", f"transformer.{token}.weight", checked_with="embeddings/token/embeddings")
    return Table(family, "huggingface", rows, ((rf"^(?=({token}|{position}|h|ln_f)\.)", "transformer."),), (tied,), _IGNORED)


TABLES = (
    _table("gpt", "tokens_embed", "positions_embed"),
    _table("gpt2", "wte", "wpe", *norm("final_norm", "transformer.ln_f")),
)
