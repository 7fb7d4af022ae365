"""T5, mT5 and T5-PEGASUS as the Hugging Face library stores them (transformers, `models/t5/modeling_t5.py`, `models/mt5/modeling_mt5.py`).

Kernels are stored [out, in], so all are transposed; the numbers of position buckets are [buckets, heads], in the first layer of each stack.
The older T5 ties its output layer to the embedding; the others have one of their own.
"""

from bert4k.checkpoints.tables import Copy, Row, Table, transposed


def _sublayer(ours: str, stored: str, names: dict[str, str]) -> tuple[Row, ...]:
    """Kernels by our name and theirs, and the norm before them."""
    kernels = (Row(f"{ours}/{name}/kernel", f"{stored}.{kernel}.weight", transposed) for name, kernel in names.items())
    return (*kernels, Row(f"{ours}_norm/gamma", f"{stored.rpartition('.')[0]}.layer_norm.weight"))


def _table(family: str, gated: bool) -> Table:
    attention = {"query": "q", "key": "k", "value": "v", "output": "o"}
    feed_forward = ({"inner": "wi_0", "gate": "wi_1"} if gated else {"inner": "wi"}) | {"outer": "wo"}
    buckets = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    encoder, decoder, shared = "encoder.block.{i}", "decoder.block.{i}", "shared.weight"
    rows = (
        Row("embeddings/token/embeddings", shared),
        Row("positions/embeddings", f"encoder.{buckets}"),
        *_sublayer("block_{i}/attention", f"{encoder}.layer.0.SelfAttention", attention),
        *_sublayer("block_{i}/feed_forward", f"{encoder}.layer.1.DenseReluDense", feed_forward),
        Row("final_norm/gamma", "encoder.final_layer_norm.weight"),
        Row("decoder/positions/embeddings", f"decoder.{buckets}"),
        *_sublayer("decoder/block_{i}/attention", f"{decoder}.layer.0.SelfAttention", attention),
        *_sublayer("decoder/block_{i}/cross_attention", f"{decoder}.layer.1.EncDecAttention", attention),
        *_sublayer("decoder/block_{i}/feed_forward", f"{decoder}.layer.2.DenseReluDense", feed_forward),
        Row("decoder/final_norm/gamma", "decoder.final_layer_norm.weight"),
        *((Row("logits/kernel", "lm_head.weight", transposed),) if gated else ()),
    )
    embeddings = (Copy(f"{stack}.embed_tokens.weight", shared, "embeddings/token/embeddings") for stack in ("encoder", "decoder"))
    output = () if gated else (Copy("lm_head.weight", shared, "decoder/final_norm/gamma"),)
    # Conversions of T5's first release hold buckets of the attention to the encoder, which nothing reads.
    return Table(family, "huggingface", rows, (), (*embeddings, *output), (r"EncDecAttention\.relative_attention_bias",))


TABLES = (_table("t5", False), _table("t5_v1_1", True), _table("mt5", True), _table("t5_pegasus", True))
