"""Masks as pictures: which token looks at which, as text for a terminal and as a PNG or SVG file.

    picture = MaskPicture.of(masks.seq2seq, ["今天天气", "不错"])
    print(picture.text())
    picture.save("seq2seq.png", title=masks.title(masks.seq2seq))

A row is a query, a column a key. Padding is what the token `[PAD]` says, as in the model.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from bert4k import canvas, masks
from bert4k.canvas import BLANK, FAINT, INK, PAD, PALE, SEGMENTS, WHITE
from bert4k.errors import ConfigError, DataError
from bert4k.masks import Mask, Permuted, Tokens

# A special token; a word, number or accented run in scripts that write words (from U+2E80 on, characters stand alone); one character.
_TOKEN = re.compile(r"\[[A-Z]+\]|(?:[^\W\u2e80-\U0010ffff]|[\u0300-\u036f])+|\S")
_GIVEN = ("[CLS]", "[SEP]", PAD)  # a permuted language model is told these and predicts the others


def tokens_of(texts: Sequence[str]) -> tuple[list[str], list[int]]:
    """Tokens and segment ids of `texts` without a vocabulary: each Chinese character is one, words and numbers stay whole.

    A special token in a text, such as `[MASK]`, is kept. The layout is the model's: `[CLS]` first, `[SEP]` after each
    text, segments 0 and 1 by turns. Raises `DataError` when there is no text.
    """
    tokens, segment_ids = ["[CLS]"], [0]
    for turn, text in enumerate(_checked(texts)):
        found = [*_TOKEN.findall(text), "[SEP]"]
        tokens += found
        segment_ids += [turn % 2] * len(found)
    return tokens, segment_ids


def _checked(texts: Sequence[str]) -> Sequence[str]:
    if isinstance(texts, str) or not texts:
        raise DataError(
            f"Found {texts!r} as the texts of a picture; expected a list of one or more strings, the source and then the target."
        )
    return texts


def mask_matrix(
    mask: Mask,
    segment_ids: Sequence[int],
    real: Sequence[bool] | None = None,
    document_ids: Sequence[int] | None = None,
    order: Sequence[int] | None = None,
    queries: Sequence[int] = (),
) -> NDArray[np.bool_]:
    """`mask` for one row of L tokens: bool [L + Q, L], True where the query (row) may look at the key (column).

    The arguments are those of the model's inputs; all tokens are real unless `real` says otherwise. `queries`: Q places whose tokens
    also have a query that looks at what is revealed strictly before them, as permuted language models have (XLNet, arXiv:1906.08237,
    section 2.3); they are the last rows. Raises `ConfigError` when the mask needs an `order` and there is none.
    """
    tokens = _tokens(mask, segment_ids, real, document_ids, order)
    rows = [mask(tokens, tokens)]
    if len(queries):
        at = ops.convert_to_tensor(list(queries), "int32")
        asking = Tokens(*(ops.take(field, at, axis=1) for field in tokens))
        rows.append(mask(asking._replace(rank=asking.rank - 1), tokens))
    return np.concatenate([np.asarray(ops.convert_to_numpy(row)[0, 0], bool) for row in rows])


def _tokens(
    mask: Mask,
    segment_ids: Sequence[int],
    real: Sequence[bool] | None,
    document_ids: Sequence[int] | None,
    order: Sequence[int] | None,
) -> Tokens:
    """One row, as the mask knows it."""

    def row(values: Sequence[Any] | None, dtype: str) -> Any:
        return None if values is None else ops.convert_to_tensor(np.asarray([values]), dtype)

    everything = [True] * len(segment_ids)
    return mask.tokens(
        row(segment_ids, "int32"), row(everything if real is None else real, "bool"), row(document_ids, "int32"), row(order, "int32")
    )


def _random_order(places: Sequence[int], count: int) -> list[int]:
    """The times at which `count` tokens are revealed: those at `places` one by one, at random but always in the same way, others before."""
    order = [0] * count
    for time, place in enumerate(np.random.default_rng(0).permutation(places).tolist(), start=1):
        order[place] = time
    return order


@dataclass(frozen=True)
class MaskPicture:
    """A mask over a row of L tokens, ready to be drawn.

    matrix: bool [L + Q, L]. tokens: their names. segments, documents: int [L]; segments have colours, and lines stand between
    documents. times: int [L], when each token is revealed. queries: the Q places whose [MASK] queries are the last rows.
    """

    matrix: NDArray[np.bool_]
    tokens: Sequence[str]
    segments: Sequence[int] | None = None
    documents: Sequence[int] | None = None
    times: Sequence[int] | None = None
    queries: Sequence[int] = ()

    @classmethod
    def of(cls, mask: Mask, texts: Sequence[str], two_stream: bool = False) -> "MaskPicture":
        """`mask` over `texts`: the turns of one document, first a source and then its target, or, under a mask with
        `same_document`, documents packed in one row, each a text or source<TAB>target.

        Under `permuted` without an order, the picture draws one: [CLS] and [SEP] are given, and the tokens of the texts follow at random,
        always in the same way. two_stream: with the [MASK] query of each token, as a permuted language model is trained and
        scored; `ConfigError` when the mask has no queries.
        """
        strict = [part.strict for part in mask.parts() if isinstance(part, Permuted)]
        if two_stream and (not strict or any(strict)):
            raise ConfigError(
                f"The mask {masks.title(mask)} has one stream: only `permuted`, when it is not strict, goes with queries that are told"
                " what comes strictly before them. Draw 'permuted', or leave --two-stream out."
            )
        packed = mask.uses("same_document")
        turns = [text.split("\t") for text in _checked(texts)]
        rows = [tokens_of(document) for document in (turns if packed else [[turn for pair in turns for turn in pair]])]
        tokens = [token for names, _ in rows for token in names]
        segments = [segment for _, ids in rows for segment in ids]
        documents = [number for number, (names, _) in enumerate(rows) for _ in names]
        real = [token != PAD for token in tokens]
        told = [place for place, token in enumerate(tokens) if token not in _GIVEN]
        order = _random_order(told, len(tokens)) if masks.needs_order(mask) else None
        inputs = (segments, real, documents if packed else None, order)
        queries = told if two_stream else []
        ranks = ops.convert_to_numpy(_tokens(mask, *inputs).rank)[0].tolist() if mask.uses("permuted") else None
        return cls(mask_matrix(mask, *inputs, queries=queries), tokens, segments, documents, ranks, queries)

    def __post_init__(self) -> None:
        shape = (len(self.tokens) + len(self.queries), len(self.tokens))
        if np.shape(self.matrix) != shape:
            raise DataError(
                f"Found a mask of shape {np.shape(self.matrix)} for {shape[1]} tokens; expected one row and one column for each token"
                + (f", and {len(self.queries)} rows of queries." if self.queries else ".")
            )
        canvas.check_count(len(self.tokens))
        for what in ("segments", "documents", "times"):
            values = getattr(self, what)
            if values is not None and len(values) != len(self.tokens):
                raise DataError(f"Found {len(values)} {what} for {len(self.tokens)} tokens; expected one for each.")

    def text(self) -> str:
        """The mask as lines of text.

        Everything in the grid is a full-width character, two cells on every terminal and as wide as a Chinese character in
        every font, so that columns stay columns. Tokens are written downwards above their column, and the times at which tokens
        are revealed after their row.
        """
        hidden = self._padding()
        columns = [canvas.full_width(canvas.label(token, 8)) for token in self.tokens]
        rows = columns + [canvas.full_width(f"[MASK]{canvas.label(self.tokens[place], 8)}") for place in self.queries]
        times = [f"{BLANK}{time}" for time in self._row_times()] or [""] * len(rows)
        height, width = max(map(len, columns)), max(map(len, rows))
        above = zip(*([BLANK] * (height - len(name)) + name for name in columns), strict=True)
        lines = [BLANK * (width + 1) + "".join(line) for line in above]
        for name, may, blank, time in zip(rows, self.matrix, hidden, times, strict=True):
            grid = (BLANK if pad else "＃" if look else "．" for look, pad in zip(may, blank, strict=True))
            lines.append("".join(name) + BLANK * (width + 1 - len(name)) + "".join(grid) + time)
        legend = "＃ may look  ． may not" + ("  blank: padding" if hidden.any() else "")
        notes = "a row looks from its token, a column is looked at" + ("; right: the time of each row" if self.times is not None else "")
        return "\n".join([*(line.rstrip() for line in lines), "", f"{legend}  ({notes})"])

    def save(self, path: str | Path, title: str) -> None:
        """Draw the mask to `path`, a `.png` or `.svg` file, which is replaced when it exists; see `canvas.save` for the errors."""
        canvas.save(lambda: self._figure(title), path)

    def _figure(self, title: str) -> Any:
        from matplotlib.colors import ListedColormap
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch

        padding = self._padding()
        height, width = self.matrix.shape
        segments = [0] * width if self.segments is None else self.segments
        colours = {segment: SEGMENTS[segment % len(SEGMENTS)] for segment in sorted(set(segments))}
        legend = {f"may look at segment {segment}" if len(colours) > 1 else "may look": colour for segment, colour in colours.items()}
        legend |= {"may not look": PALE} | ({"padding": WHITE} if padding.any() else {})
        # Colour 0 is "may not", 1 padding, 2 + k "may look at key k", which has the colour of the key's segment.
        painted = np.where(padding, 1, np.where(self.matrix, 2 + np.arange(width), 0))
        palette = ListedColormap([PALE, WHITE, *(colours[segment] for segment in segments)])
        cell = min(0.4, max(0.17, 8 / width))  # inches

        # The axes fill the figure, one cell a token; what stands around them is taken in by bbox_inches="tight".
        figure = Figure(figsize=(cell * width, cell * height), facecolor=WHITE)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.pcolormesh(painted, cmap=palette, vmin=0, vmax=width + 1, edgecolors=WHITE, linewidth=4 * cell)
        axes.invert_yaxis()
        columns = canvas.named(self.tokens, segments)
        asking = [(f"[MASK]{name}", colour) for name, colour in (columns[place] for place in self.queries)]
        canvas.name_sides(axes, cell, columns, columns + asking)
        self._draw_borders(axes)
        self._draw_times(axes, cell)
        axes.xaxis.set_label_position("top")
        axes.set_xlabel("looks at (key)", labelpad=8, color=INK)
        axes.set_ylabel("looks from (query)", labelpad=8, color=INK)
        axes.set_title(title, pad=14, fontsize=14)
        axes.legend(
            [Patch(facecolor=colour, edgecolor=FAINT, linewidth=0.5) for colour in legend.values()],
            legend,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.1 / cell / height),
            ncols=len(legend) if cell * width > 4 else 1,
            frameon=False,
        )
        return figure

    def _draw_borders(self, axes: Any) -> None:
        """Lines between documents, and between tokens and queries."""
        if self.documents is not None:
            for border in np.flatnonzero(np.diff(self.documents)) + 1:
                axes.axhline(border, color=INK, linewidth=1)
                axes.axvline(border, color=INK, linewidth=1)
        if self.queries:
            axes.axhline(len(self.tokens), color=INK, linewidth=1)

    def _draw_times(self, axes: Any, cell: float) -> None:
        """On the right of each row, when its token is revealed."""
        if self.times is not None:
            right = axes.secondary_yaxis("right")
            times = self._row_times()
            right.spines[:].set_visible(False)
            right.tick_params(length=0, pad=3, labelsize=min(11, 40 * cell), labelcolor=INK)
            right.set_yticks(np.arange(len(times)) + 0.5, times)
            right.set_ylabel("revealed at time", labelpad=8, color=INK)

    def _row_times(self) -> list[str]:
        """The time of each row; what a query asks for is revealed at that of its token."""
        return [] if self.times is None else [str(self.times[place]) for place in (*range(len(self.tokens)), *self.queries)]

    def _padding(self) -> NDArray[np.bool_]:
        """Where the query or the key is padding, bool [L + Q, L]."""
        pad = np.asarray([token == PAD for token in self.tokens])
        return np.concatenate([pad, pad[list(self.queries)]])[:, None] | pad[None, :]


def text_picture(matrix: NDArray[np.bool_], tokens: Sequence[str]) -> str:
    """`MaskPicture.text` of a matrix, bool [L, L], and the tokens on both its sides. Raises `DataError` when the sides differ
    or are longer than 128."""
    return MaskPicture(np.asarray(matrix), tokens).text()


def save_picture(
    matrix: NDArray[np.bool_], tokens: Sequence[str], path: str | Path, title: str, segments: Sequence[int] | None = None
) -> None:
    """`MaskPicture.save` of a matrix, bool [L, L], and the tokens on both its sides. Raises `DataError` when the sides differ or are
    longer than 128, and as `canvas.save` does."""
    MaskPicture(np.asarray(matrix), tokens, segments).save(path, title)
