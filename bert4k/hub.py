"""`load`, `save` and `inspect`: a folder as it was released, a model with its tokenizer, and back."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from bert4k import masks
from bert4k.assembly import assembled, chosen_layers, report_on
from bert4k.checkpoints import open_checkpoint, write_bundle, write_safetensors
from bert4k.checkpoints.describe import Summary, describe
from bert4k.checkpoints.recognise import recognise
from bert4k.checkpoints.stored import Stored
from bert4k.checkpoints.tables import Report
from bert4k.config import Config, read_json
from bert4k.download import local_copy
from bert4k.download import locate as locate_named
from bert4k.encoder_decoder import kind_of
from bert4k.errors import CheckpointError, ConfigError, Error, VocabularyError, did_you_mean
from bert4k.families import FAMILIES, checked, family_of
from bert4k.model import Transformer
from bert4k.pretrained import catalogue, table_of
from bert4k.surgery import POSITION_ROWS, Change, Compound, more_positions, other_tokens
from bert4k.tokenizers import Tokenizer, read_tokenizer

FORMATS = ("google", "huggingface", "keras")
_KERAS_FILE = "model.keras"
_GOOGLE_PREFIX = "bert_model.ckpt"
_CONFIG_NAMES = ("bert_config.json", "config.json")


def load(
    source: str | Path,
    mask: str | masks.Mask | None = None,
    outputs: Sequence[str] | None = None,
    *,
    model: str | type[Transformer] = Transformer,
    layers: Sequence[int] | None = None,
    keep_tokens: Sequence[int] | None = None,
    compound_tokens: Compound = (),
    extend_positions: str | None = None,
    dtype: Any = None,
    allow_missing: Sequence[str] = (),
    download: bool = False,
    **overrides: Any,
) -> tuple[Transformer, Tokenizer]:
    """The model and the tokenizer of a checkpoint as it was released.

    source: a folder with a Google TensorFlow checkpoint or a Hugging Face model, the prefix of a checkpoint, a `.keras` file
    written by `save`, or the name of a checkpoint of `bert4k list`, of which there is a copy under $BERT4K_HOME; with `download`
    it is fetched first when there is none (see `bert4k.download.download`). mask, outputs: see `Transformer`, and `EncoderDecoder`, which
    T5, BART and their like load as; by default the mask under which the family was trained, "encoder" or "lm", and "sequence", or
    "logits" of encoder-decoders. A `.keras` file loads with the mask and outputs given here, too.

    model: whose checkpoint it is, a name of `bert4k.families.FAMILIES`, where config and tensor names do not tell; or a subclass of
    Transformer to build. layers: which stored layers to keep, in order ([0, 1, 2] are the lowest three: Sajjad
    et al. 2020, arXiv:2004.03844). keep_tokens: ids of the vocabulary to keep; the model and tokenizer number them anew.
    compound_tokens: new tokens, behind the others, whose rows are means of the rows of the tokens of which they consist so far; or a
    mapping from each to the tokens whose mean it shall be, or to their weights (`bert4k.surgery.other_tokens`). extend_positions: how
    the rows of more positions than the checkpoint has are made, max_position_embeddings saying how many: "hierarchical" or
    "interpolated" (`bert4k.surgery`).
    dtype: a Keras dtype policy such as "mixed_bfloat16". allow_missing: weights, or beginnings of their names, that may be absent
    and start random; any other absent weight is an error. overrides: config values by name, such as hidden_dropout_prob=0.

    Raises `CheckpointError`, `ConfigError` or `VocabularyError`, with all that is wrong at once.
    """
    path = locate(source, download)
    family, kind = (model, Transformer) if isinstance(model, str) else (None, model)
    if path.suffix == ".keras":
        if any((layers is not None, keep_tokens is not None, compound_tokens, extend_positions, dtype, overrides, allow_missing)):
            raise ConfigError(
                f"{path} is a whole model; layers, keep_tokens, compound_tokens, extend_positions, dtype, allow_missing and overrides"
                " apply to checkpoints only."
            )
        return _load_keras(path, mask, () if outputs is None else outputs, kind)
    folder = path if path.is_dir() else path.parent
    stored = open_checkpoint(path)
    released = _config_of(folder, stored, family)
    config = released.override(**overrides)
    tokenizer, config = _tokenizer_of(folder, config)
    _check_vocabulary(tokenizer, config, folder)
    if layers is not None:
        layers, config = chosen_layers(layers, config)
    changes: dict[str, Change] = {}
    if positions := more_positions(extend_positions, released, config):
        changes[POSITION_ROWS] = positions
    if keep_tokens is not None or compound_tokens:
        tokenizer, rows = other_tokens(tokenizer, keep_tokens, compound_tokens)
        changes |= rows.changes()
        config = config.override(
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_id,
            decoder_start=[rows.renumbered("decoder_start", token) for token in config.decoder_start],
            decoder_end=config.decoder_end and rows.renumbered("decoder_end", config.decoder_end),
        )

    return assembled(stored, config, released, mask, outputs, kind, layers, changes, dtype, allow_missing), tokenizer


def save(model: Transformer, tokenizer: Tokenizer, folder: str | Path, format: str = "google") -> Path:
    """Write the model and its tokenizer to a new folder, which `load` reads back bit for bit.

    format: "google" (bert_model.ckpt, bert_config.json, vocab.txt: TensorFlow reads it), "huggingface" (model.safetensors,
    config.json: transformers reads it) or "keras" (model.keras, which also keeps the mask, outputs, LoRA-merged and quantised weights
    and a subclass). The folder must not exist yet, or be empty; it appears complete or not at all. Returns its path.
    """
    if format not in FORMATS:
        raise ConfigError(f"There is no format {format!r}.{did_you_mean(format, FORMATS)} Formats are {', '.join(FORMATS)}.")
    folder = Path(folder)
    check_target(folder)
    _check_vocabulary(tokenizer, model.config, folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        place = folder.resolve()  # of a link, the folder that it leads to
        temporary = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    except OSError as error:
        raise CheckpointError(
            f"Cannot write to {folder.parent}: {error.strerror}. Choose a folder with space and write permission."
        ) from error
    try:
        _write(model, temporary, format)
        tokenizer.save(temporary)
        temporary.chmod(0o755)
        temporary.replace(place)
    except OSError as error:
        raise CheckpointError(f"Cannot write {folder}: {error.strerror}; nothing was left half-written.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def check_target(folder: Path) -> None:
    """Raise `CheckpointError` unless `save` may write a folder there."""
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(
            f"{folder} exists and is not an empty folder; nothing was written. Choose a new folder, or remove this one first."
        )


def machine(source: str | Path) -> type[Transformer]:
    """The class that `load` builds of a source, told from its config without reading a tensor."""
    path = locate(source)
    if path.suffix != ".keras":
        return kind_of(_config_of(path if path.is_dir() else path.parent, open_checkpoint(path), None))
    try:
        with zipfile.ZipFile(path) as archive:
            values = json.loads(archive.read("config.json"))
        return kind_of(Config.from_dict(values["config"]["config"]))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return Transformer  # loading it says what is wrong


def load_all(source: str | Path) -> tuple[Transformer, Tokenizer]:
    """The model of a source with every output that it has weights for."""
    path = locate(source)
    if path.suffix == ".keras":
        return _load_keras(path, None, None, Transformer)
    found = inspect(path)
    lacking = {name.partition("/")[0] for name in found.report.missing} if found.report else set()
    if "pooled" in lacking:
        lacking.add("nsp")  # which stands on it
    outputs = found.config.outputs if found.config else FAMILIES["bert"].outputs
    return load(path, outputs=[name for name in outputs if name not in lacking])


@dataclass(frozen=True)
class Inspection:
    """What a source holds. `report` holds it against the model that its config describes, with every output; it is None
    without a config that this version builds, and `problem` then says why."""

    summary: Summary
    config: Config | None
    report: Report | None
    vocabulary: int | None  # tokens of the vocabulary file, if there is one
    problem: str | None


def inspect(source: str | Path, model: str | None = None) -> Inspection:
    """The load report of a checkpoint, from its names and shapes; no tensor is read. Works on a bare index file, too.

    model: whose checkpoint it is, as `load` takes it."""
    path = locate(source)
    if path.suffix == ".keras":
        raise ConfigError(f"{path} is a whole Keras model; inspect() reads checkpoints. Load it, and print model.summary().")
    stored = open_checkpoint(path)
    folder = path if path.is_dir() else path.parent
    config = report = vocabulary = problem = None
    try:
        vocabulary = len(Tokenizer.from_folder(folder)) if (folder / "vocab.txt").exists() else None
        config = _config_of(folder, stored, model)
        report = report_on(stored, config)
    except Error as error:
        problem = str(error)
    table = table_of(config.family, stored.layout) if config is not None and report is not None else None
    return Inspection(describe(stored, table), config, report, vocabulary, problem)


def locate(source: str | Path, download: bool = False) -> Path:
    """The path of a source: a file or folder, the prefix of a checkpoint, or a name of the catalogue, fetched if it is not here and
    `download` says so."""
    path = Path(source)  # asked of os.path, which knows no file of an impossible name and does not raise
    if os.path.isdir(path) and not any(path.glob("*.index")) and (path / _KERAS_FILE).exists():
        return path / _KERAS_FILE
    if os.path.exists(path) or os.path.exists(f"{path}.index"):
        return path
    known = catalogue()
    if str(source) in known:
        return locate_named(str(source), download)
    here = [name for name in known if local_copy(name)]
    raise CheckpointError(
        f"There is no file or folder {source}, and no checkpoint of that name in the catalogue.{did_you_mean(str(source), known)}"
        f" Give the folder of a release, or one of: {', '.join(here)}. `bert4k list` shows {len(known) - len(here)} more, to be fetched."
    )


def _config_of(folder: Path, stored: Stored, family: str | None) -> Config:
    """The config of a checkpoint folder, read as `family`, or as whose the config says or the names of the tensors show it to be."""
    path = _config_file(folder)
    values = read_json(path)
    said, shown = family_of(values, str(path)), recognise(stored).split(" or ")
    if family is not None:
        checked(family)
    elif said in shown or shown[0] not in FAMILIES:
        family = said
    elif "model_type" not in values or FAMILIES[shown[0]].model_type == FAMILIES[said or "bert"].model_type:
        family = shown[0]  # a key may be missing or of another program; names are what the model was made of
    else:
        family = said
    return Config.from_dict(values, str(path), family)


def _config_file(folder: Path) -> Path:
    """The config of a checkpoint folder: bert_config.json, config.json, or the only other *config*.json."""
    for name in _CONFIG_NAMES:
        if (folder / name).is_file():
            return folder / name
    others = [path for path in folder.glob("*config*.json") if path.name not in ("tokenizer_config.json", "generation_config.json")]
    if len(others) == 1:
        return others[0]
    raise ConfigError(
        f"There is no config in {folder}: expected {' or '.join(_CONFIG_NAMES)}, found {', '.join(path.name for path in others) or 'none'}."
        " Put the config file of the release beside the weights."
    )


def _load_keras(
    path: Path, mask: str | masks.Mask | None, outputs: Sequence[str] | None, expected: type[Transformer]
) -> tuple[Transformer, Tokenizer]:
    """outputs: None for all of the file's, () for the usual ones of its class."""
    try:
        loaded = keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"Keras cannot load {path}: {reason[:300]} The file may be cut off, or hold a class of your own: import the module that"
            " registers it first."
        ) from error
    if not isinstance(loaded, expected):
        raise CheckpointError(
            f"{path} holds a {type(loaded).__name__}; expected a {expected.__name__} of bert4k."
            " Load it with keras.saving.load_model, or give its own class as model=."
        )
    tokenizer = read_tokenizer(path.parent).with_rows(loaded.config.vocab_size)
    _check_vocabulary(tokenizer, loaded.config, path.parent)
    wanted = loaded.output_kinds if outputs is None else outputs or loaded.default_outputs
    return loaded.with_outputs(*wanted).with_mask(loaded.config.mask if mask is None else mask), tokenizer


def _write(model: Transformer, folder: Path, format: str) -> None:
    if format == "keras":
        model.save(folder / _KERAS_FILE)
        return
    table = table_of(model.config.family, format)
    if format == "google":
        name, config = "bert_config.json", model.config.to_google()
        write_bundle(folder / _GOOGLE_PREFIX, table.save(model.weight_values()))
    else:
        name, config = "config.json", model.config.to_huggingface()
        write_safetensors(folder, table.save(model.weight_values()))
    (folder / name).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _tokenizer_of(folder: Path, config: Config) -> tuple[Tokenizer, Config]:
    """The tokenizer of a checkpoint folder, with a name for each row of the embedding; and the config, which has from the vocabulary what
    only BERT's fixes: the token for padding, where the file does not say."""
    settings = {} if FAMILIES[config.family].framed else {"added_tokens": False}
    tokenizer = read_tokenizer(folder, **settings).with_rows(config.vocab_size)
    if type(tokenizer) is not Tokenizer and read_json(_config_file(folder)).get("pad_token_id") is None:
        config = config.override(pad_token_id=tokenizer.pad_id)
    return tokenizer, config


def _check_vocabulary(tokenizer: Tokenizer, config: Config, folder: Path) -> None:
    tokenizer.check_rows(config.vocab_size, f" ({folder})")
    if tokenizer.pad_id != config.pad_token_id:
        raise VocabularyError(
            f"[PAD] is token {tokenizer.pad_id} of the vocabulary, and the model takes token {config.pad_token_id} for padding ({folder})."
            f" It would look at padding and overlook a word: load it with pad_token_id={tokenizer.pad_id}, or correct the config."
        )
