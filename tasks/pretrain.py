"""Pretrain a transformer on plain text, under any mixture of objectives, from one command.

    bert4k vocabulary books/*.txt --out vocab.txt --size 8000
    bert4k pretrain --run runs/mine --vocabulary vocab.txt --text books/*.txt --steps 20000
    bert4k pretrain --run runs/mine ...        # the same command again goes on where it was stopped or killed

Text files are UTF-8 (.gz too), documents parted by blank lines; pairs are `source<TAB>target` lines. They are tokenised once, to shards
in the run folder. Each objective is a mask and its targets (bert4k/pretraining/objectives.py), all in one graph. The run folder gets
log.jsonl, curves.csv, curves.png, snapshots/ and, in the end, model/, a checkpoint in Google's format.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bert4k.errors import ConfigError, DataError
from bert4k.quiet import import_backend
from bert4k.recipe import alone, distribution, in_turn, parse_settings, required, same_settings, setting, stored_settings

if TYPE_CHECKING:
    import keras

    from bert4k.model import Transformer
    from bert4k.pretraining.run import Pace
    from bert4k.pretraining.stream import Mixture, Shares, Source
    from bert4k.tokenizers import Tokenizer


@dataclass(frozen=True)
class Model:
    """The shape of a fresh model."""

    layers: int = setting(4, "transformer layers")
    width: int = setting(256, "hidden size (H)")
    heads: int = setting(4, "attention heads (N); must divide the width")
    activation: str = setting("gelu", "gelu (erf), gelu_tanh or relu")
    dropout: float = setting(0.0, "of embeddings, layers and attention; a corpus read but a few times needs none")
    start: Literal["counts", "random"] = setting(
        "counts", "embeddings and output bias of a fresh model: from what stands beside what in the corpus, or drawn at random"
    )
    init: Path | None = setting(None, "go on from this checkpoint instead: its weights and its vocabulary")


@dataclass(frozen=True)
class Optimizer:
    """How the weights change."""

    name: Literal["adamw", "lamb", "muon"] = setting("adamw", "Keras' AdamW, LAMB or Muon")
    learning_rate: float = setting(1e-3, "the highest")
    embedding_rate: float = setting(0.25, "muon: the learning rate of embeddings, biases and norms, as a share of that of matrices")
    warmup_steps: int = setting(500, "over which it rises")
    decay_steps: int | None = setting(
        None, "over which it falls at the end; default: from the end of the warm-up on. Until then, a run may be prolonged"
    )
    decay_shape: Literal["linear", "cosine"] = setting("linear", "how it falls")
    weight_decay: float = setting(0.01, "of matrices")
    clip_norm: float | None = setting(1.0, "limit of the norm of all gradients")
    accumulate: int = setting(1, "batches whose gradients, on average, make one step")
    ema: float | None = setting(None, "decay of a moving average of the weights, which replaces them in the end")


@dataclass(frozen=True)
class Ratios:
    """How much each objective counts; only the ratios matter. The default is UniLM's mixture (arXiv:1905.03197, section 2.5)."""

    masked: float = setting(0.0, "masked words, seen from both sides")
    sentence_order: float = setting(2.0, "the same on two parts of a text which may be exchanged: tell whether")
    left_to_right: float = setting(1.0, "each token from those before it")
    right_to_left: float = setting(1.0, "each token from those after it")
    seq2seq: float = setting(1.0, "the second half of a text from the first, token by token")
    seq2seq_cloze: float = setting(1.0, "the second half with holes, from the first half and what came before")
    permuted: float = setting(0.0, "some tokens in a random order (XLNet, by mask)")
    gap_sentences: float = setting(0.0, "the sentences that tell most about a text, from the rest (PEGASUS)")
    pairs: float = setting(0.0, "the target of a pair from its source, token by token")
    pairs_cloze: float = setting(0.0, "the target of a pair with holes")


@dataclass(frozen=True)
class AskedShares:
    """How much of a text an objective asks for."""

    masked: float = setting(0.15, "of the tokens: masked, sentence_order, permuted")
    cloze: float = setting(0.7, "of the target's tokens: seq2seq_cloze, pairs_cloze")
    gaps: float = setting(0.3, "of the sentences: gap_sentences")


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result."""

    run: Path = required("folder of the run; the same folder again goes on")
    text: list[Path] = setting([], "files to learn from")
    pairs: list[Path] = setting([], "files of source<TAB>target lines to learn from")
    held_out: list[Path] = setting([], "files to be measured on: .tsv are pairs, others text")
    weights: dict[str, float] = setting({}, "file name without ending -> how often it is read beside the others (default 1)")
    vocabulary: Path | None = setting(None, "vocab.txt; `bert4k vocabulary` makes one")
    special: list[str] = setting([], "further special tokens of the vocabulary, such as markers of tasks, besides [BRACKETED]")
    whole_words: bool = setting(True, "mask whole words of jieba's dictionary, not single tokens")
    words: Literal["jieba"] | None = setting(None, "jieba: Chinese words of the vocabulary are single tokens, as in WoBERT")
    model: Model = field(default_factory=Model)
    mixture: Ratios = field(default_factory=Ratios)
    shares: AskedShares = field(default_factory=AskedShares)
    optimizer: Optimizer = field(default_factory=Optimizer)
    length: int = setting(256, "tokens in a packed row (L), and positions of a fresh model")
    rows: int = setting(8, "packed rows of a group (R)")
    groups: int = setting(4, "groups of a batch (G); several devices share them")
    steps: int = setting(10_000, "steps of the optimizer in all; everything that is counted in steps is")
    seed: int = setting(1, "of the initial weights and of every draw of the data")
    dtype: str = setting("float32", "or mixed_bfloat16, mixed_float16")
    devices: Literal["one", "data", "model"] = setting(
        "one", "data: all devices share the groups of a batch (TensorFlow, JAX); model: they share the weights (JAX)"
    )
    log_every: int = setting(50, "steps between two lines of the log")
    snapshot_every: int = setting(500, "steps between two snapshots")
    evaluate_every: int = setting(1000, "steps between two measurements on held-out files")
    evaluate_batches: int = setting(4, "batches of each held-out file")
    keep: int = setting(2, "snapshots to keep")
    minutes: float | None = setting(None, "stop after so many minutes, with a snapshot")
    tensorboard: bool = setting(False, "write run/tensorboard, too (needs the tensorboard package)")
    compiled: bool = setting(True, "PyTorch: compile loss and gradients to one graph")


# What may change when a run goes on: it does not touch what was computed so far.
FREE = (
    *("run", "held_out", "log_every", "snapshot_every", "evaluate_every", "evaluate_batches"),
    *("keep", "minutes", "tensorboard", "compiled", "devices"),
)
ENDING = ("steps", "optimizer.decay_steps", "optimizer.decay_shape")  # free until the learning rate falls


def _free(settings: Settings) -> tuple[str, ...]:
    """What may be given anew: a trapezoid can be prolonged, or its end begun, up to where its learning rate falls."""
    from bert4k.pretraining.snapshots import newest_step

    before = stored_settings(settings.run / "settings.json")
    if not before:
        return FREE
    ends = ((before["steps"], before["optimizer"]["decay_steps"]), (settings.steps, settings.optimizer.decay_steps))
    begins = min(settings.optimizer.warmup_steps if decay is None else steps - decay for steps, decay in ends)
    return (*FREE, *ENDING) if newest_step(settings.run / "snapshots") <= begins and not (settings.run / "model").exists() else FREE


def read(settings: Settings, tokenizer: Tokenizer) -> tuple[list[Source], list[Source]]:
    """The files as shards in the run folder, to learn from and to be measured on."""
    from bert4k.pretraining.shards import prepare
    from bert4k.pretraining.stream import ON_PAIRS, Source

    def source(path: Path, on_pairs: bool, part: str) -> Source:
        name = path.name.split(".")[0]
        kind: dict[str, Any] = {"pairs": [path]} if on_pairs else {"texts": [path]}
        shards = prepare(settings.run / "data" / part / name, tokenizer, whole_words=settings.whole_words, **kind)
        if too_long := shards.counts["pairs"] - len(shards.pair_index(settings.length - 3)):
            print(
                f"{path}: {too_long:,} of {shards.counts['pairs']:,} pairs do not fit in {settings.length} tokens; left out",
                file=sys.stderr,
            )
        return Source(name, shards, settings.weights.get(name, 1.0))

    if not settings.text and not settings.pairs:
        raise DataError("There is nothing to learn from. Give text files with --text, or files of pairs with --pairs.")
    reading = {name in ON_PAIRS for name, ratio in dataclasses.asdict(settings.mixture).items() if ratio}  # texts, pairs, or both
    for name, on_pairs in (("text", False), ("pairs", True)):
        if getattr(settings, name) and on_pairs not in reading:
            raise ConfigError(f"No objective of the mixture reads what --{name} gives. Leave it out, or give one a ratio above 0.")
    names = [path.name.split(".")[0] for path in (*settings.text, *settings.pairs)]
    if unknown := set(settings.weights) - set(names):
        raise DataError(f"--weights names {', '.join(sorted(unknown))}; the files are {', '.join(names)}. Use their names without endings.")
    for kind in (names, [path.name.split(".")[0] for path in settings.held_out]):
        if twice := {name for name in kind if kind.count(name) > 1}:
            raise DataError(
                f"Several files are called {', '.join(sorted(twice))} (without endings); their shards would collide. Rename one."
            )
    training = [source(path, False, "train") for path in settings.text] + [source(path, True, "train") for path in settings.pairs]
    return training, [source(path, ".tsv" in path.suffixes, "held_out") for path in settings.held_out]


def build(settings: Settings) -> tuple[Transformer, Tokenizer]:
    """A fresh model with the vocabulary of the settings, or the checkpoint that they go on from."""
    from bert4k.config import Config
    from bert4k.hub import load
    from bert4k.pretraining.trainer import MASK, make_transformer
    from bert4k.tokenizers import Tokenizer
    from bert4k.tokenizers.vocabulary import read_vocabulary

    sentence_order = settings.mixture.sentence_order > 0
    if settings.model.init is not None:
        outputs = ("sequence", "mlm", *(("pooled", "nsp") if sentence_order else ()))
        dropout: dict[str, Any] = {"hidden_dropout_prob": settings.model.dropout, "attention_probs_dropout_prob": settings.model.dropout}
        return load(settings.model.init, MASK, outputs, dtype=settings.dtype, allow_missing=("pooled", "nsp"), **dropout)
    if settings.vocabulary is None:
        raise ConfigError("A fresh model needs --vocabulary vocab.txt; `bert4k vocabulary FILES --out vocab.txt` makes one of your texts.")
    tokenizer = Tokenizer(read_vocabulary(settings.vocabulary), special_tokens=settings.special, words=settings.words)
    model = settings.model
    config = Config(
        vocab_size=len(tokenizer),
        hidden_size=model.width,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        intermediate_size=4 * model.width,
        hidden_act=model.activation,
        max_position_embeddings=settings.length,
        hidden_dropout_prob=model.dropout,
        attention_probs_dropout_prob=model.dropout,
    )
    return make_transformer(config, sentence_order, settings.dtype), tokenizer


def pretrain(settings: Settings) -> Path | None:
    """Train, or go on training; returns the folder of the finished checkpoint, None when time ran out first.

    A run that is finished already is left as it is. Raises `ConfigError` when it was started with other settings, and `CheckpointError`
    when another process is training in the folder, or it cannot be written to."""
    from bert4k.backend import process

    with distribution(settings.devices), alone(settings.run) if process()[0] == 0 else nullcontext():
        plan = _plan(settings)  # complains before anything is written, and before texts are tokenised for minutes
        with in_turn("settings"):
            same_settings(settings, settings.run / "settings.json", _free(settings))
        finished = settings.run / "model"
        if finished.exists():
            print(f"{settings.run} is finished; nothing is left to do", file=sys.stderr)
            return finished
        return _train(settings, finished, plan)


class Plan(NamedTuple):
    """What the settings ask for, as the training takes it."""

    mixture: Mixture
    shares: Shares
    pace: Pace
    optimizer: keras.optimizers.Optimizer


def _plan(settings: Settings) -> Plan:
    """Raises `ConfigError` when the numbers cannot be, or do not fit together."""
    from bert4k.pretraining.run import Pace
    from bert4k.pretraining.stream import Mixture, Shares
    from bert4k.training import WarmupDecay, make_optimizer

    how = settings.optimizer
    schedule = WarmupDecay(how.learning_rate, settings.steps, how.warmup_steps, how.decay_steps, how.decay_shape)
    kept = {name: getattr(how, name) for name in ("weight_decay", "clip_norm", "accumulate", "ema", "embedding_rate")}
    return Plan(
        Mixture(**dataclasses.asdict(settings.mixture)),
        Shares(**dataclasses.asdict(settings.shares)),
        Pace(settings.steps, settings.log_every, settings.snapshot_every, settings.evaluate_every, settings.keep, settings.minutes),
        make_optimizer(how.name, schedule, **kept, dtype=settings.dtype),
    )


def _train(settings: Settings, finished: Path, plan: Plan) -> Path | None:
    import keras

    from bert4k.backend import process, set_seed
    from bert4k.hub import save
    from bert4k.pretraining.run import Evaluation, train
    from bert4k.pretraining.snapshots import newest_step
    from bert4k.pretraining.start import begin
    from bert4k.pretraining.stream import Stream
    from bert4k.pretraining.trainer import Pretrainer

    set_seed(settings.seed)
    transformer, tokenizer = build(settings)
    with in_turn("data"):
        training, held_out = read(settings, tokenizer)
    if settings.model.init is None and settings.model.start == "counts" and not newest_step(settings.run / "snapshots"):
        begin(transformer, training, tokenizer, settings.seed)
    shape = (settings.groups, settings.rows, settings.length)
    stream = Stream(training, tokenizer, plan.mixture, plan.shares, *shape, settings.seed)
    evaluation = Evaluation(held_out, tokenizer, plan.mixture, plan.shares, *shape, settings.evaluate_batches, seed=0)
    pretrainer = Pretrainer(transformer, stream.shape, compiled=settings.compiled)
    pretrainer.compile(plan.optimizer)
    callbacks: list[Any] = []
    if settings.tensorboard and process()[0] == 0:
        callbacks.append(keras.callbacks.TensorBoard(settings.run / "tensorboard", update_freq=settings.log_every))
    first = "; PyTorch compiles them first, a minute or more" if settings.compiled and keras.backend.backend() == "torch" else ""
    tokens = stream.shape.tokens * settings.optimizer.accumulate
    print(
        f"{transformer.count_params():,} weights, {tokens:,} tokens a step, a line every {settings.log_every} steps{first}",
        file=sys.stderr,
        flush=True,
    )
    reached = train(settings.run, pretrainer, stream, plan.pace, evaluation, callbacks, tell=_tell)
    if reached < settings.steps:
        print(f"stopped at step {reached} of {settings.steps}; the same command goes on", file=sys.stderr)
        return None
    with in_turn("model"):
        if process()[0] == 0:
            for unfinished in settings.run.glob(f".{finished.name}.*"):  # of a process that was killed in `save`
                shutil.rmtree(unfinished)
            save(transformer, tokenizer, finished, format="google")
    return finished


def _tell(row: dict[str, Any]) -> None:
    """A line of the log for people, on standard error."""
    losses = "  ".join(f"{name.removesuffix('_loss')} {value:.3f}" for name, value in row.items() if name.endswith("_loss"))
    pace = f"{row['tokens_per_second']:,} tokens/s, {row['minutes_left']:.0f} min left"
    print(f"step {row['step']}  loss {row['loss']:.3f}  ({losses})  {pace}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """`bert4k pretrain`."""
    summary = (__doc__ or "").partition("\n")[0]
    example = "--run FOLDER --vocabulary FILE --text FILE ... [--SETTING VALUE ...]"
    settings = parse_settings(Settings, arguments, "bert4k pretrain", summary, example)
    import_backend()
    folder = pretrain(settings)
    if folder is not None:
        print(json.dumps({"model": str(folder)}, ensure_ascii=False))


if __name__ == "__main__":
    main()
