"""bert4k: a compact Keras 3 transformer library for Chinese NLP.

One pretrained transformer, many machines: the attention mask decides what the model is.

    model, tokenizer = bert4k.load("folder")
    bert4k.fill(model, tokenizer, "今天[MASK]气不错")
    bert4k.generate(model.with_mask("seq2seq"), tokenizer, ["春风"], sampler=bert4k.beam(4))

`import bert4k` imports nothing else: a public name is fetched from its module when it is first used (PEP 562),
so that `bert4k --help` does not wait for Keras.
"""

import os
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Every public name, by the module that defines it.
_PUBLIC = {
    "bert4k.errors": ("CheckpointError", "ConfigError", "DataError", "Error", "VocabularyError"),
    "bert4k.config": ("Config",),
    "bert4k.masks": ("Mask",),
    "bert4k.encoder_decoder": ("EncoderDecoder",),
    "bert4k.model": ("Transformer",),
    "bert4k.tokenizers": ("Tokenizer",),
    "bert4k.decoding": (
        "Generation",
        "Infilling",
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
    ),
    "bert4k.attention_maps": ("attention",),
    "bert4k.assembly": ("from_arrays",),
    "bert4k.hub": ("inspect", "load", "save"),
}
_HOME = {name: module for module, names in _PUBLIC.items() for name in names}
_SUBMODULES = ("masks",)

__all__ = ["__version__", *_SUBMODULES, *_HOME]

if TYPE_CHECKING:  # the same table, for type checkers and editors
    from bert4k import masks as masks
    from bert4k.assembly import from_arrays as from_arrays
    from bert4k.attention_maps import attention as attention
    from bert4k.config import Config as Config
    from bert4k.decoding import Generation as Generation
    from bert4k.decoding import Infilling as Infilling
    from bert4k.decoding import beam as beam
    from bert4k.decoding import constraints as constraints
    from bert4k.decoding import embed as embed
    from bert4k.decoding import fill as fill
    from bert4k.decoding import generate as generate
    from bert4k.decoding import greedy as greedy
    from bert4k.decoding import infill as infill
    from bert4k.decoding import predict as predict
    from bert4k.decoding import sample as sample
    from bert4k.decoding import score as score
    from bert4k.decoding import stream as stream
    from bert4k.encoder_decoder import EncoderDecoder as EncoderDecoder
    from bert4k.errors import CheckpointError as CheckpointError
    from bert4k.errors import ConfigError as ConfigError
    from bert4k.errors import DataError as DataError
    from bert4k.errors import Error as Error
    from bert4k.errors import VocabularyError as VocabularyError
    from bert4k.hub import inspect as inspect
    from bert4k.hub import load as load
    from bert4k.hub import save as save
    from bert4k.masks import Mask as Mask
    from bert4k.model import Transformer as Transformer
    from bert4k.tokenizers import Tokenizer as Tokenizer
else:  # hidden from type checkers, which would take every misspelt name for an attribute

    def __getattr__(name: str) -> object:
        """The public name or submodule `name`, imported on first use and kept."""
        from importlib import import_module

        if name in _SUBMODULES:
            return import_module(f"bert4k.{name}")
        if name not in _HOME:
            raise AttributeError(f"module 'bert4k' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOME[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


# Installed, bert4k.tasks and bert4k.pretrained are folders in here. In a checkout they stand beside this one; without
# this, a checkout that shadows an installed bert4k (any `python` started in its root) would lose them.
_here = os.path.dirname(os.path.abspath(__file__))
_root = os.path.dirname(_here)
if not os.path.isdir(os.path.join(_here, "tasks")) and os.path.isfile(os.path.join(_root, "pyproject.toml")):
    __path__.append(_root)
