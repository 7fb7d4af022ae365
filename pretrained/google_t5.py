"""T5 as Mesh TensorFlow stores it (https://github.com/google-research/text-to-text-transfer-transformer), the names that bert4keras reads
and writes (https://github.com/bojone/bert4keras, class T5_Base), and with them T5-PEGASUS (https://github.com/ZhuiyiTechnology/t5-pegasus).

Kernels are stored [in, out], as Keras has them; the numbers of position buckets are [heads, buckets]. Version 1.1 has an output layer of
its own and a gate in each feed-forward; mT5 and T5-PEGASUS say "rms_norm" where the older ones say "layer_norm".
"""

from bert4k.checkpoints.tables import Row, Table, transposed


def _sublayer(ours: str, stored: str, norm: str, names: dict[str, str]) -> tuple[Row, ...]:
    """Kernels by our name and theirs, and the norm before them."""
    kernels = (Row(f"{ours}/{name}/kernel", f"{stored}/{kernel}") for name, kernel in names.items())
    return (*kernels, Row(f"{ours}_norm/gamma", f"{stored.rpartition('/')[0]}/{norm}/scale"))


def _rows(gated: bool, norm: str, final: str) -> tuple[Row, ...]:
    attention = {"query": "q", "key": "k", "value": "v", "output": "o"}
    inner = {"inner": "wi_0/kernel", "gate": "wi_1/kernel"} if gated else {"inner": "wi/kernel"}
    feed_forward = inner | {"outer": "wo/kernel"}
    buckets = "block_000/layer_000/SelfAttention/relative_attention_bias"
    encoder, decoder = "encoder/block_{i:03}", "decoder/block_{i:03}"
    return (
        Row("embeddings/token/embeddings", "shared/embedding"),
        Row("positions/embeddings", f"encoder/{buckets}", transposed),
        *_sublayer("block_{i}/attention", f"{encoder}/layer_000/SelfAttention", norm, attention),
        *_sublayer("block_{i}/feed_forward", f"{encoder}/layer_001/DenseReluDense", norm, feed_forward),
        Row("final_norm/gamma", f"encoder/{final}/scale"),
        Row("decoder/positions/embeddings", f"decoder/{buckets}", transposed),
        *_sublayer("decoder/block_{i}/attention", f"{decoder}/layer_000/SelfAttention", norm, attention),
        *_sublayer("decoder/block_{i}/cross_attention", f"{decoder}/layer_001/EncDecAttention", norm, attention),
        *_sublayer("decoder/block_{i}/feed_forward", f"{decoder}/layer_002/DenseReluDense", norm, feed_forward),
        Row("decoder/final_norm/gamma", f"decoder/{final}/scale"),
        *((Row("logits/kernel", "decoder/logits/kernel"),) if gated else ()),
    )


TABLES = (
    Table("t5", "google", _rows(False, "layer_norm", "final_layer_norm")),
    Table("t5_v1_1", "google", _rows(True, "layer_norm", "final_layer_norm")),
    Table("mt5", "google", _rows(True, "rms_norm", "rms_norm")),
    Table("t5_pegasus", "google", _rows(True, "rms_norm", "rms_norm")),
)
