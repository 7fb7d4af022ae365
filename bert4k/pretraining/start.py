"""Where a fresh model begins: what can be counted, or is known beforehand, need not be learned.

How often a token comes, and what stands beside it, is what gradients teach a random model first, and slowly: rare tokens wait long for
their turn. Counting a corpus takes seconds. So the output bias begins as the logarithm of the tokens' frequencies, and the embeddings as
the singular vectors of their positive pointwise mutual information (Levy and Goldberg 2014).

That neighbours matter most is known beforehand. Positions begin as sinusoids (Vaswani et al. 2017, arXiv:1706.03762, section 3.5), of which
every distance is a rotation, and the first blocks' heads as such rotations: each looks at one neighbour (as trained networks come to;
Trockman and Kolter 2023, arXiv:2305.09828, begin alike). Nothing is fixed: all of it is trained like the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from keras import ops
from numpy.typing import NDArray

from bert4k.layers import Attention
from bert4k.model import Transformer
from bert4k.pretraining.stream import Source
from bert4k.progress import track
from bert4k.tokenizers import Tokenizer

CONTEXTS = 4096  # the commonest tokens, by whose company all others are known
NEAR = 2  # tokens to either side
SCALE = 0.05  # root mean square of what is added up at the input: tokens and positions count alike
LONGEST_PERIOD, SHORTEST_PERIOD = 628.0, 2.5  # of positions, in tokens
NEIGHBOURS = (-1, 1, -2, 2, -3, 3, -4, 4)  # at which the heads look, one each, again and again
LOCAL_BLOCKS = 2  # so many blocks have such heads
PEAK = 4.0  # by how much a neighbour's score exceeds that of tokens far away, about, where tokens and positions count alike


class Counts(NamedTuple):
    """What was counted, every source by its weight."""

    frequency: NDArray[np.float64]  # [V]
    contexts: NDArray[np.int64]  # [C], token ids
    near: NDArray[np.float32]  # [V, C]: how often a context stands within NEAR tokens, one farther off counting less


def begin(transformer: Transformer, sources: Sequence[Source], tokenizer: Tokenizer, seed: int = 0) -> None:
    """Give a fresh transformer the embeddings and the output bias that follow from its corpus, and heads that look at neighbours."""
    counts = count(sources, len(tokenizer))
    counts.frequency[tokenizer.sep_id] += sum(source.weight * source.shards.counts["documents"] for source in sources)
    token, position = transformer.parts["embeddings/token"], transformer.parts["embeddings/position"]
    table = ops.convert_to_numpy(token.embeddings) * (SCALE / transformer.config.initializer_range)
    made = company(counts, table.shape[1], seed)
    came = made.any(axis=1)
    table[came, : made.shape[1]] = made[came] * SCALE * table.shape[1] ** 0.5
    token.embeddings.assign(table)
    position.embeddings.assign(SCALE * sinusoids(*position.embeddings.shape))
    for block in range(min(LOCAL_BLOCKS, transformer.config.num_hidden_layers)):
        look_at_neighbours(transformer.parts[f"block_{block}/attention"])
    frequency = counts.frequency + 1
    transformer.parts["mlm"].bias.assign(np.log(frequency / frequency.sum()))


def count(sources: Sequence[Source], size: int, contexts: int = CONTEXTS) -> Counts:
    """Count the texts of the sources, or their pairs where there are no texts. Ends of documents do not count: few tokens stand there."""
    kind = "text" if any(source.shards.counts["documents"] for source in sources) else "pairs"
    shards = [(source.weight, tokens) for source in sources for tokens in source.shards.tokens(kind)]
    frequency = np.zeros(size)
    for weight, tokens in shards:
        frequency += weight * np.bincount(tokens, minlength=size)
    chosen = np.sort(np.argsort(-frequency, kind="stable")[:contexts])
    column = np.full(size, len(chosen), np.int64)
    column[chosen] = np.arange(len(chosen))
    near = np.zeros((size, len(chosen) + 1), np.float32)  # the last column: what is no context
    for weight, tokens in track(shards, len(shards), "counting"):
        ids, places = tokens.astype(np.int64), column[tokens]
        for distance in range(1, NEAR + 1):
            for row, place in ((ids[distance:], places[:-distance]), (ids[:-distance], places[distance:])):
                near += (weight / distance) * np.bincount(row * near.shape[1] + place, minlength=near.size).reshape(near.shape)
    return Counts(frequency, chosen, near[:, :-1])


def company(counts: Counts, width: int, seed: int = 0) -> NDArray[np.float32]:
    """Tokens by the company they keep: rows of length 1 (0 for tokens that never came), float32 [V, at most width].

    Positive pointwise mutual information with contexts smoothed by a power of 0.75 (Levy, Goldberg and Dagan 2015), its singular vectors by
    random projection (Halko, Martinsson and Tropp 2011), weighted with the square roots of the singular values."""
    near = counts.near
    of_context = counts.frequency[counts.contexts] ** 0.75
    expected = near.sum(axis=1, keepdims=True) * (of_context / of_context.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.nan_to_num(np.maximum(np.log(near / expected), 0), posinf=0.0) * (near / (near + 1))  # one meeting tells little
    rank = min(width, *near.shape)
    random = np.random.default_rng(seed)
    basis = information @ random.normal(size=(near.shape[1], min(rank + 40, near.shape[1]))).astype(np.float32)
    for _ in range(4):
        basis = information @ (information.T @ np.linalg.qr(basis)[0])
    basis = np.linalg.qr(basis)[0]
    left, values, _ = np.linalg.svd(basis.T @ information, full_matrices=False)
    vectors = (basis @ left[:, :rank]) * np.sqrt(values[:rank])
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(lengths > 1e-6, vectors / np.maximum(lengths, 1e-6), 0).astype(np.float32)


def look_at_neighbours(attention: Attention) -> None:
    """Add to the query and key kernels what lets each head look at one of `NEIGHBOURS`, given positions that are `sinusoids`.

    A pair of a head's dimensions takes up one wave, the shortest first, in turn with the next head. The key is the wave as it is, the query
    the wave turned by the distance: their product is largest where the key stands at that distance."""
    query, key = (np.array(ops.convert_to_numpy(layer.kernel)) for layer in (attention.query, attention.key))
    heads, size, half = attention.num_heads, attention.head_size, (query.shape[0] + 1) // 2
    frequency = 2 * np.pi / periods(half)
    gain = (PEAK * 2 / size**0.5) ** 0.5
    for head in range(heads):
        waves = range(head % 2, query.shape[0] - half, 2) if heads > 1 else range(query.shape[0] - half)
        for pair, wave in enumerate(waves[: size // 2]):
            at = head * size + 2 * pair
            turn = frequency[wave] * NEIGHBOURS[head % len(NEIGHBOURS)]
            rows, columns = [wave, half + wave], [at, at + 1]
            key[rows, columns] += gain
            query[np.ix_(rows, columns)] += gain * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    attention.query.kernel.assign(query)
    attention.key.kernel.assign(key)


def periods(count: int) -> NDArray[np.float64]:
    """Of so many waves, in tokens, the shortest first."""
    return SHORTEST_PERIOD * (LONGEST_PERIOD / SHORTEST_PERIOD) ** (np.arange(count) / count)


def sinusoids(positions: int, width: int) -> NDArray[np.float32]:
    """Positions as waves, float32 [positions, width], of root mean square 1. Neighbours are alike, and every distance is a rotation."""
    angles = np.arange(positions)[:, None] * (2 * np.pi / periods((width + 1) // 2))
    return (2**0.5 * np.concatenate([np.sin(angles), np.cos(angles)], axis=1)[:, :width]).astype(np.float32)
