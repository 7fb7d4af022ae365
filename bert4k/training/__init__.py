"""What training needs beyond Keras: schedules, optimizers, batches by length, objectives beyond one loss, scores of one's own.

    trainer = Trainer(model, FGM(RDrop(4.0)))                           # the same weights; save and predict with `model`
    trainer.compile(make_optimizer("adamw", WarmupDecay(2e-5, steps, 100), rates=layer_rates(12, 0.9)), loss)
    trainer.fit(LengthBatches(lengths, collate, tokens=4096), epochs=3, callbacks=[Scored(score), ...])

What Keras has is Keras' own: gradient accumulation, clipping, AdamW and others, loss scaling, the swap of averaged weights
(`keras.callbacks.SwapEMAWeights`), keep-best and early stopping (`EarlyStopping`, `ModelCheckpoint` on any score), `BackupAndRestore`.
"""

from bert4k.training.batches import LengthBatches
from bert4k.training.callbacks import LearningCurves, Scored
from bert4k.training.dropout import MultiSampleDropout
from bert4k.training.groups import Grouped
from bert4k.training.objectives import FGM, PGD, VAT, GradientPenalty, Objective, RDrop
from bert4k.training.optimizers import OPTIMIZERS, layer_rates, make_optimizer
from bert4k.training.schedules import WarmupDecay
from bert4k.training.theseus import Theseus
from bert4k.training.trainer import Trainer

__all__ = [
    "FGM",
    "OPTIMIZERS",
    "PGD",
    "VAT",
    "GradientPenalty",
    "Grouped",
    "LearningCurves",
    "LengthBatches",
    "MultiSampleDropout",
    "Objective",
    "RDrop",
    "Scored",
    "Theseus",
    "Trainer",
    "WarmupDecay",
    "layer_rates",
    "make_optimizer",
]
