"""Decoding: `generate`, `stream`, `fill`, `score`, `embed`, and the samplers."""

from bert4k.decoding.generation import Generation, generate, stream
from bert4k.decoding.likelihood import Candidate, embed, fill, score
from bert4k.decoding.samplers import Sampler, beam, greedy, sample

__all__ = ["Candidate", "Generation", "Sampler", "beam", "embed", "fill", "generate", "greedy", "sample", "score", "stream"]
