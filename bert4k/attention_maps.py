"""Attention maps: how much each token looks at each other one, in every layer and head, as numbers, as text and as a picture.

    maps = attention(model, tokenizer, ("明月松间照", "清泉石上流"))
    maps.probabilities              # float32 [layers, N, L, L]
    print(maps.text(layer=-1))      # for each token, the tokens that it looks at most
    maps.save("heads.png", layer=-1, head="all")

Where a token looks is not yet why the model says what it says (Jain & Wallace 2019, arXiv:1902.10186); heads that look at the next
token, at [SEP], or at a word's syntactic head are what one finds in BERT (Clark et al. 2019, arXiv:1906.04341).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from bert4k import canvas, masks
from bert4k.backend import compiled
from bert4k.convolution import Convolution
from bert4k.decoding.batches import bucket, length_bucket
from bert4k.errors import ConfigError, did_you_mean
from bert4k.layers import Attention
from bert4k.model import Transformer
from bert4k.positions import Places
from bert4k.tokenizers import Tokenizer

MOST_TOKENS_OF_ALL = 64  # in a picture of all heads: more are wider than a screen


@dataclass(frozen=True)
class AttentionMaps:
    """What `attention` found in one text of L tokens.

    tokens and segment_ids [L]. mask: the model's, for people. allowed: bool [L, L], True where the query (row) may look at the key
    (column). probabilities: float32 [layers, N, L, L]; a row is 0 where the mask forbids and sums to 1, unless it may look nowhere.

    Layers and heads have numbers from 0, as in the names of weights (`block_0`), and negative ones from the end.
    """

    tokens: tuple[str, ...]
    segment_ids: tuple[int, ...]
    mask: str
    allowed: NDArray[np.bool_]
    probabilities: NDArray[np.float32]

    def select(self, layer: int = -1, head: int | str = "mean") -> dict[int | str, NDArray[np.float32]]:
        """The maps [L, L] of a layer, by head: one of its heads, their "mean", or "all" of them.

        Raises `ConfigError` for a layer or head that the model does not have."""
        layers, heads = self.probabilities.shape[:2]
        of_layer = self.probabilities[_number("layer", layer, layers)]
        if head == "mean":
            return {"mean": of_layer.mean(axis=0)}
        if head == "all":
            return dict(enumerate(of_layer))
        number = _number("head", head, heads, "mean", "all")
        return {number: of_layer[number]}

    def title(self, layer: int = -1, head: int | str = "mean") -> str:
        """What `select` takes, for people."""
        layers, heads = self.probabilities.shape[:2]
        which = {"mean": f"mean of {heads} heads", "all": f"all {heads} heads"}.get(str(head))
        number = _number("layer", layer, layers)
        return f"layer {number}, " + (which or f"head {_number('head', head, heads, 'mean', 'all')}")

    def text(self, layer: int = -1, head: int | str = "mean", most: int = 3) -> str:
        """A line for each token: the `most` tokens that it looks at most, with their shares; one block of lines a map.

        Tokens have their places before them, since a text may hold one of them twice. Keys that are not looked at are left out."""
        names = [canvas.label(token, 12) for token in self.tokens]
        digits, width = len(str(len(names) - 1)), max(map(canvas.cells, names))
        shown = [f"{place:{digits}} {name}{' ' * (width - canvas.cells(name))}" for place, name in enumerate(names)]
        blocks = []
        for number, probabilities in self.select(layer, head).items():
            lines = [self.title(layer, number)]
            for place, row in enumerate(probabilities):
                keys = [key for key in np.argsort(-row, kind="stable")[:most].tolist() if row[key] > 0]
                lines.append(f"{shown[place]}  " + "".join(f"  {shown[key]} {row[key]:4.0%}" for key in keys))
            blocks.append("\n".join(line.rstrip() for line in lines))
        return "\n\n".join(blocks)

    def save(self, path: str | Path, layer: int = -1, head: int | str = "mean") -> None:
        """Draw the maps of `select` to `path`, a `.png` or `.svg` file, which is replaced when it exists; "all" is a grid with one scale.

        A row is a query, a column a key; white is what the mask forbids. Raises `DataError` for more than 128 tokens (64 with "all"),
        and as `canvas.save` does."""
        maps = {f"head {number}": probabilities for number, probabilities in self.select(layer, head).items()}
        canvas.check_count(len(self.tokens), MOST_TOKENS_OF_ALL if len(maps) > 1 else canvas.MAX_TOKENS)
        canvas.save(lambda: self._figure(maps, f"{self.title(layer, head)} · {self.mask}"), path)

    def _figure(self, maps: Mapping[str, NDArray[np.float32]], title: str) -> Any:
        from matplotlib.colors import LinearSegmentedColormap, PowerNorm
        from matplotlib.figure import Figure

        count = len(self.tokens)
        across = int(np.ceil(np.sqrt(len(maps))))
        down = -(-len(maps) // across)
        # Everything in inches. A grid of maps has smaller cells, and room between the maps.
        cell = min(0.4, max(0.17, 8 / count)) if len(maps) == 1 else min(0.3, max(0.14, 3 / count))
        side, gap = cell * count, 0.4
        width, height = across * (side + gap) - gap, down * (side + gap) - gap
        # Most probabilities are small and a few are large: square roots show both. One hue, from light to dark, is read alike by the
        # colour-blind and on paper; what may not be looked at has no colour at all.
        largest = max(float(values.max()) for values in maps.values()) or 1.0
        hue = LinearSegmentedColormap.from_list("looks", ["#e4ecf5", "#8fb4d9", "#3a6ea5", "#12243a"])
        scale = PowerNorm(0.5, vmin=0, vmax=largest)
        names = canvas.named(self.tokens, self.segment_ids)

        figure = Figure(figsize=(width, height), facecolor=canvas.WHITE)
        for place, (name, values) in enumerate(maps.items()):
            row, column = divmod(place, across)
            left, bottom = column * (side + gap), (down - 1 - row) * (side + gap)
            axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
            shown = np.ma.masked_array(values, ~self.allowed)
            mesh = axes.pcolormesh(shown, cmap=hue, norm=scale, edgecolors=canvas.WHITE, linewidth=4 * cell)
            axes.invert_yaxis()
            canvas.name_sides(axes, cell, [] if row else names, [] if column else names)
            if len(maps) > 1:
                axes.set_title(name, pad=4, fontsize=10)
            else:
                axes.xaxis.set_label_position("top")
                axes.set_xlabel("looks at (key)", labelpad=8, color=canvas.INK)
                axes.set_ylabel("looks from (query)", labelpad=8, color=canvas.INK)
        # How far the labels reach is known only now: tokens differ in length.
        figure.text(0.5, (figure.get_tightbbox().y1 + 0.15) / height, title, ha="center", va="bottom", fontsize=14)
        bar = min(2.5, height)
        colours = figure.colorbar(mesh, cax=figure.add_axes(((width + 0.25) / width, 1 - bar / height, 0.12 / width, bar / height)))
        marks = [largest * (quarters / 4) ** 2 for quarters in range(5)]  # equally far apart
        colours.set_ticks(marks, labels=[f"{mark:.0%}" for mark in marks])
        colours.ax.minorticks_off()
        colours.ax.tick_params(length=0, pad=4, labelsize=9, labelcolor=canvas.INK)
        colours.outline.set_visible(False)
        if not self.allowed.all():
            figure.text((width + 0.25) / width, 1 - (bar + 0.15) / height, "white:\nmay not look", va="top", fontsize=9)
        return figure


def attention(model: Transformer, tokenizer: Tokenizer, text: str | tuple[str, str]) -> AttentionMaps:
    """The attention probabilities of every layer and head over `text`, or a pair (source, target), under the model's mask.

    Raises `DataError` for a text that does not fit the model's positions, and `ConfigError` under a mask that takes its order as an input.
    """
    if masks.needs_order(model.mask):
        raise ConfigError(
            f"Under the mask {masks.title(model.mask)} a text has no attention before its tokens have an order. Give the mask one, such as"
            " model.with_mask('permuted(seed=1)'), or use attention_probabilities() with an input 'order'."
        )
    tokenizer.check_rows(model.config.vocab_size)
    inputs = tokenizer([text])
    allowed, probabilities = _attention(model, inputs)
    return AttentionMaps(
        tokens=tuple(tokenizer.id_to_token(int(token)) for token in inputs["token_ids"][0]),
        segment_ids=tuple(inputs["segment_ids"][0].tolist()),
        mask=masks.title(model.mask),
        allowed=allowed[0],
        probabilities=probabilities[0],
    )


def attention_probabilities(model: Transformer, inputs: Mapping[str, Any]) -> NDArray[np.float32]:
    """The attention probabilities of a batch, float32 [B, layers, N, L, L].

    inputs: what the model takes, such as `tokenizer([...])`, with "document_ids" or "order" where its mask needs them. Raises
    `DataError` when the model cannot take them. A model of lower precision gives its own probabilities, which sum to 1 as well as
    they do there."""
    return _attention(model, inputs)[1]


def _attention(model: Transformer, inputs: Mapping[str, Any]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """What each token may look at, bool [B, L, L], and how much it does, float32 [B, layers, N, L, L]."""
    given = {name: value for name, value in model.complete(inputs).items() if value is not None}
    token_ids = given.pop("token_ids")
    # The mask is evaluated before rows are filled up to their bucket: an order that it draws depends on the length.
    segment_ids, position_ids, allowed = map(ops.convert_to_numpy, model.get_layer("tokens")(token_ids, **given))
    rows, length = np.shape(token_ids)
    fill = ((0, bucket(rows) - rows), (0, length_bucket(length) - length))
    if "attention" not in model.programs:
        model.programs["attention"] = compiled(model, partial(_probabilities, model))
    found = model.programs["attention"](
        *(np.pad(ops.convert_to_numpy(ids).astype(np.int32), fill) for ids in (token_ids, segment_ids, position_ids)),
        np.pad(allowed, (fill[0], (0, 0), fill[1], fill[1])),
    )
    layers = [ops.convert_to_numpy(layer)[:rows, :, :length, :length] for layer in found]
    return allowed[:, 0], np.stack(layers, axis=1)


def _probabilities(model: Transformer, token_ids: Any, segment_ids: Any, position_ids: Any, allowed: Any) -> list[Any]:
    """One array float32 [B, N, L, L] for each layer of attention, in their order."""
    found = []
    places = Places(position_ids, position_ids)

    def attend(layer: Attention | Convolution, x: Any) -> Any:
        memory = layer.keys_values(x, position_ids)
        if isinstance(layer, Convolution):
            return layer.attend(x, memory, allowed, places)
        weights = layer.probabilities(x, memory, allowed, places)
        found.append(ops.cast(weights, "float32"))
        return layer.gather(x, weights, memory, places)

    model.run(token_ids, segment_ids, position_ids, attend)
    return found


def _number(what: str, given: Any, count: int, *words: str) -> int:
    """`given` as a number from 0, counted from the end when it is negative; `ConfigError` unless there is one of that number."""
    if isinstance(given, int | np.integer) and not isinstance(given, bool) and -count <= given < count:
        return int(given) % count
    others = "".join(f", {word!r}" for word in words)
    raise ConfigError(
        f"{what}={given!r}: the model has {count} {what}s. Expected 0 to {count - 1}, or -1 to {-count} from the end{others}."
        + (did_you_mean(given, words) if isinstance(given, str) else "")
    )
