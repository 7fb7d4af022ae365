"""BART as the Hugging Face library stores it (transformers, `models/bart/modeling_bart.py`); the Chinese ones are Fudan's and UER's.

Kernels are stored [out, in], so all are transposed. The bias of the output layer is a constant of shape [1, V].
"""

from bert4k.checkpoints.tables import Copy, Op, Row, Table
from bert4k.pretrained.huggingface_bert import dense, norm

_flat = Op(lambda arrays: [array.reshape(-1) for array in arrays], lambda arrays: [array.reshape(1, -1) for array in arrays])
_SHARED = "model.shared.weight"


def _attention(ours: str, stored: str, stored_norm: str) -> tuple[Row, ...]:
    names = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}
    return (
        *(row for name, theirs in names.items() for row in dense(f"{ours}/{name}", f"{stored}.{theirs}")),
        *norm(f"{ours}_norm", stored_norm),
    )


def _stack(ours: str, stored: str, cross: bool) -> tuple[Row, ...]:
    """Embeddings and layers of the encoder or decoder; `ours` stands before our names."""
    block, layer = f"{ours}block_{{i}}", f"{stored}.layers.{{i}}"
    return (
        Row(f"{ours}embeddings/position/embeddings", f"{stored}.embed_positions.weight"),
        *norm(f"{ours}embeddings/norm", f"{stored}.layernorm_embedding"),
        *_attention(f"{block}/attention", f"{layer}.self_attn", f"{layer}.self_attn_layer_norm"),
        *(_attention(f"{block}/cross_attention", f"{layer}.encoder_attn", f"{layer}.encoder_attn_layer_norm") if cross else ()),
        *dense(f"{block}/feed_forward/inner", f"{layer}.fc1"),
        *dense(f"{block}/feed_forward/outer", f"{layer}.fc2"),
        *norm(f"{block}/feed_forward_norm", f"{layer}.final_layer_norm"),
    )


_ROWS = (
    Row("embeddings/token/embeddings", _SHARED),
    *_stack("", "model.encoder", cross=False),
    *_stack("decoder/", "model.decoder", cross=True),
    Row("logits/bias", "final_logits_bias", _flat),
)
_COPIES = (
    Copy("model.encoder.embed_tokens.weight", _SHARED, "embeddings/token/embeddings"),
    Copy("model.decoder.embed_tokens.weight", _SHARED, "embeddings/token/embeddings"),
    Copy("lm_head.weight", _SHARED, "logits/bias"),
)

TABLES = (Table("bart", "huggingface", _ROWS, ((r"^(?=(shared|encoder|decoder)\.)", "model."),), _COPIES),)
