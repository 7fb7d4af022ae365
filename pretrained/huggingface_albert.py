"""ALBERT as the Hugging Face library stores it (transformers, `models/albert/modeling_albert.py`), as `AlbertForPreTraining` has it."""

from bert4k.checkpoints.tables import Row, Table
from bert4k.pretrained.huggingface_bert import IGNORED, dense, embeddings, norm, positions, spellings, tied

_LAYER = "albert.encoder.albert_layer_groups.{i}.albert_layers.0"

TABLES = (
    Table(
        "albert",
        "huggingface",
        (
            *embeddings("albert"),
            positions("albert"),
            *dense("embeddings/projection", "albert.encoder.embedding_hidden_mapping_in"),
            *dense("block_{i}/attention/query", f"{_LAYER}.attention.query"),
            *dense("block_{i}/attention/key", f"{_LAYER}.attention.key"),
            *dense("block_{i}/attention/value", f"{_LAYER}.attention.value"),
            *dense("block_{i}/attention/output", f"{_LAYER}.attention.dense"),
            *norm("block_{i}/attention_norm", f"{_LAYER}.attention.LayerNorm"),
            *dense("block_{i}/feed_forward/inner", f"{_LAYER}.ffn"),
            *dense("block_{i}/feed_forward/outer", f"{_LAYER}.ffn_output"),
            *norm("block_{i}/feed_forward_norm", f"{_LAYER}.full_layer_layer_norm"),
            *dense("pooled/dense", "albert.pooler"),
            *dense("mlm/dense", "predictions.dense"),
            *norm("mlm/norm", "predictions.LayerNorm"),
            Row("mlm/bias", "predictions.bias"),
            *dense("nsp/dense", "sop_classifier.classifier"),
        ),
        spellings("albert"),
        tied("predictions.decoder", "predictions.bias", "albert"),
        IGNORED,
    ),
)
