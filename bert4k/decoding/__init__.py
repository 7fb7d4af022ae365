"""Decoding: `generate`, `stream`, `fill`, `infill`, `score`, `embed`, `predict`, and the samplers."""

from bert4k.decoding import constraints
from bert4k.decoding.generation import Generation, generate, stream
from bert4k.decoding.infilling import Infilling, infill
from bert4k.decoding.likelihood import Candidate, embed, fill, predict, score
from bert4k.decoding.samplers import Sampler, beam, greedy, sample

__all__ = [
    "Candidate",
    "Generation",
    "Infilling",
    "Sampler",
    "beam",
    "constraints",
    "embed",
    "fill",
    "generate",
    "greedy",
    "infill",
    "predict",
    "sample",
    "score",
    "stream",
]
