"""`bert4k mask` and `attention`: what a mask allows, and what a model looks at."""

from __future__ import annotations

import sys
from pathlib import Path

import bert4k
from bert4k.commands.common import load, model_and_texts, pairs, print_json, texts_of
from bert4k.commands.declared import Namespace, argument, command
from bert4k.errors import DataError
from bert4k.quiet import import_backend

PICTURE = argument(
    "--png", "--svg", type=Path, metavar="FILE", dest="picture", help="draw to this .png or .svg file instead of the terminal"
)


@command(
    argument("mask", metavar="MASK", help="a name (encoder, lm, seq2seq ...) or an expression such as 'causal & window(3) | source'"),
    argument(
        "texts",
        nargs="+",
        metavar="TEXT",
        help="a source, its target, and so on by turns; texts of their own, or source<TAB>target, when the mask has same_document",
    ),
    argument("--two-stream", action="store_true", help="under permuted: also the [MASK] query of each token, as in XLNet"),
    PICTURE,
)
def mask(options: Namespace) -> None:
    """Draw a mask over a text, a source and its target, the turns of a dialogue, or packed texts."""
    # A random order depends on the backend that draws it, so it is the one that models run on.
    import_backend(light="permuted(" not in options.mask.replace(" ", ""))
    from bert4k import masks, pictures

    drawn = masks.get(options.mask)
    picture = pictures.MaskPicture.of(drawn, texts_of(options.texts), options.two_stream)
    if options.picture is None:
        print(f"{masks.title(drawn)}\n{picture.text()}")
    else:
        picture.save(options.picture, masks.title(drawn))
        print(f"wrote {options.picture}", file=sys.stderr)


@command(
    *model_and_texts("encoder", "a text, or a source and its target"),
    argument("--layer", type=int, default=-1, metavar="NUMBER", help="from 0, or from the end: -1 is the last"),
    argument("--head", default="mean", metavar="HEAD", help="a number from 0, mean, or all"),
    PICTURE,
)
def attention(options: Namespace) -> None:
    """How much each token of a text looks at each other one, in a layer of the model."""
    texts = texts_of(options.texts)
    if len(texts) > 2:
        raise DataError(f"Got {len(texts)} texts; attention is shown over one, or over a source and its target. Put quotes round each.")
    text = (texts[0], texts[1]) if len(texts) == 2 else pairs(texts)[0]
    if options.picture is not None:
        from bert4k import canvas

        canvas.check_target(options.picture)  # rather now than after the model has run
    import_backend()
    model, tokenizer = load(options, "encoder", ("sequence",))
    maps = bert4k.attention(model, tokenizer, text)
    which = (options.layer, int(options.head) if options.head.removeprefix("-").isdecimal() else options.head)
    if options.picture is not None:
        maps.save(options.picture, *which)
        print(f"wrote {options.picture}", file=sys.stderr)
    elif options.json:
        chosen = maps.select(*which)
        layer = range(len(maps.probabilities))[options.layer]
        for head, probabilities in chosen.items():
            rows = [[round(float(value), 6) for value in row] for row in probabilities]
            print_json({"tokens": maps.tokens, "mask": maps.mask, "layer": layer, "head": head, "probabilities": rows})
    else:
        print(f"{maps.mask}\n{maps.text(*which)}")
