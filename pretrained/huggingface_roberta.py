"""RoBERTa and XLM-RoBERTa as the Hugging Face library stores them (transformers, `models/roberta/modeling_roberta.py`).

The Chinese models that are called RoBERTa-wwm and RoBERTa-zh are BERT in every respect but their training, and are stored as BERT.
"""

from bert4k.checkpoints.tables import Row, Table
from bert4k.pretrained.huggingface_bert import IGNORED, blocks, dense, embeddings, norm, positions, spellings, tied

_ROWS = (
    *embeddings("roberta"),
    positions("roberta"),
    *blocks("roberta"),
    *dense("pooled/dense", "roberta.pooler.dense"),
    *dense("mlm/dense", "lm_head.dense"),
    *norm("mlm/norm", "lm_head.layer_norm"),
    Row("mlm/bias", "lm_head.bias"),
)
_SPELLINGS = (*spellings("roberta"), (r"^xlm_roberta\.", "roberta."))

TABLES = tuple(
    Table(family, "huggingface", _ROWS, _SPELLINGS, tied("lm_head.decoder", "lm_head.bias", "roberta"), IGNORED)
    for family in ("roberta", "xlm_roberta")
)
