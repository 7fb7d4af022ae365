"""BERT as the Hugging Face library stores it (transformers, `models/bert/modeling_bert.py`).

Kernels of dense layers are stored [out, in], so all are transposed. Read with and without the leading "bert." (`BertModel` alone has none),
and with the old names of a LayerNorm's weights; written as `BertForPreTraining` expects them.
"""

from bert4k.checkpoints.tables import Copy, Row, Table, transposed


def _dense(ours: str, stored: str) -> tuple[Row, Row]:
    return Row(f"{ours}/kernel", f"{stored}.weight", transposed), Row(f"{ours}/bias", f"{stored}.bias")


def _norm(ours: str, stored: str) -> tuple[Row, Row]:
    return Row(f"{ours}/gamma", f"{stored}.LayerNorm.weight"), Row(f"{ours}/beta", f"{stored}.LayerNorm.bias")


_LAYER = "bert.encoder.layer.{i}"

TABLE = Table(
    family="bert",
    layout="huggingface",
    rows=(
        Row("embeddings/token/embeddings", "bert.embeddings.word_embeddings.weight"),
        Row("embeddings/position/embeddings", "bert.embeddings.position_embeddings.weight"),
        Row("embeddings/segment/embeddings", "bert.embeddings.token_type_embeddings.weight"),
        *_norm("embeddings/norm", "bert.embeddings"),
        *_dense("block_{i}/attention/query", f"{_LAYER}.attention.self.query"),
        *_dense("block_{i}/attention/key", f"{_LAYER}.attention.self.key"),
        *_dense("block_{i}/attention/value", f"{_LAYER}.attention.self.value"),
        *_dense("block_{i}/attention/output", f"{_LAYER}.attention.output.dense"),
        *_norm("block_{i}/attention_norm", f"{_LAYER}.attention.output"),
        *_dense("block_{i}/feed_forward/inner", f"{_LAYER}.intermediate.dense"),
        *_dense("block_{i}/feed_forward/outer", f"{_LAYER}.output.dense"),
        *_norm("block_{i}/feed_forward_norm", f"{_LAYER}.output"),
        *_dense("pooled/dense", "bert.pooler.dense"),
        *_dense("mlm/dense", "cls.predictions.transform.dense"),
        *_norm("mlm/norm", "cls.predictions.transform"),
        Row("mlm/bias", "cls.predictions.bias"),
        *_dense("nsp/dense", "cls.seq_relationship"),
    ),
    spellings=(
        (r"^(?=(embeddings|encoder|pooler)\.)", "bert."),
        (r"\.LayerNorm\.gamma$", ".LayerNorm.weight"),
        (r"\.LayerNorm\.beta$", ".LayerNorm.bias"),
    ),
    copies=(
        Copy("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight", checked_with="mlm/bias"),
        Copy("cls.predictions.decoder.bias", "cls.predictions.bias", checked_with="mlm/bias"),
    ),
    ignored=(r"(^|\.)embeddings\.(position_ids|token_type_ids)$",),
)
