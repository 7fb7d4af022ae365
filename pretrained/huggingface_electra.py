"""ELECTRA as the Hugging Face library stores it (transformers, `models/electra/modeling_electra.py`), also hfl/chinese-electra-*:
discriminator and generator in folders of their own, told apart by their heads."""

from bert4k.checkpoints.tables import Copy, Row, Table
from bert4k.pretrained.huggingface_bert import IGNORED, blocks, dense, embeddings, norm, positions, spellings

_BODY = (*embeddings("electra"), positions("electra"), *dense("embeddings/projection", "electra.embeddings_project"), *blocks("electra"))
_DISCRIMINATOR = (
    *dense("discriminator/dense", "discriminator_predictions.dense"),
    *dense("discriminator/output", "discriminator_predictions.dense_prediction"),
)
_GENERATOR = (
    *dense("mlm/dense", "generator_predictions.dense"),
    *norm("mlm/norm", "generator_predictions.LayerNorm"),
    Row("mlm/bias", "generator_lm_head.bias"),
)

TABLES = (
    Table("electra", "huggingface", (*_BODY, *_DISCRIMINATOR), spellings("electra"), ignored=IGNORED),
    Table(
        "electra_generator",
        "huggingface",
        (*_BODY, *_GENERATOR),
        spellings("electra"),
        (Copy("generator_lm_head.weight", "electra.embeddings.word_embeddings.weight", checked_with="mlm/bias"),),
        IGNORED,
    ),
)
