"""Heads whose answer has a structure: chains of tags, spans, one vector of many. Keras layers, with their losses and decoding."""

from bert4k.structured.crf import CRF, CRFLoss, log_partition, path_score, viterbi
from bert4k.structured.global_pointer import EfficientGlobalPointer, GlobalPointer, GlobalPointerLoss, rotate, spans_above
from bert4k.structured.gplinker import GPLinker, Link, link, link_targets
from bert4k.structured.half_pointer import HalfPointer, best_span, pair_pointers
from bert4k.structured.pooling import POOLINGS, Pooling

__all__ = [
    "CRF",
    "POOLINGS",
    "CRFLoss",
    "EfficientGlobalPointer",
    "GPLinker",
    "GlobalPointer",
    "GlobalPointerLoss",
    "HalfPointer",
    "Link",
    "Pooling",
    "best_span",
    "link",
    "link_targets",
    "log_partition",
    "pair_pointers",
    "path_score",
    "rotate",
    "spans_above",
    "viterbi",
]
