"""The settings of fine-tuning that every recipe has. Light: `--help` needs no backend."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bert4k.recipe import required, setting


@dataclass(frozen=True)
class Tuning:
    """How the weights change."""

    learning_rate: float = setting(2e-4, "the highest; 2e-5 to 5e-5 for models of the size of BERT")
    epochs: int = setting(3, "times that every example is seen; the epoch with the best score on dev is kept")
    tokens: int = setting(4096, "tokens of a batch, padding included")
    accumulate: int = setting(1, "batches whose gradients, on average, make one step")
    warmup: float = setting(0.1, "share of the steps in which the learning rate rises; then it falls linearly to 0")
    weight_decay: float = setting(0.01, "of matrices")
    layer_decay: float = setting(1.0, "learning rate of each layer as a share of that of the layer above it")
    dropout: float = setting(0.1, "of what the head reads")
    network_dropout: float | None = setting(None, "inside the network; without it, as the checkpoint's config says")
    scratch: bool = setting(False, "begin with random weights in the network of the checkpoint, to see what the checkpoint's own are worth")
    ema: float | None = setting(None, "decay, a step, of a moving average of the weights, which is what is judged and kept")
    fgm: float | None = setting(None, "length of the adversarial disturbance of the embeddings (Miyato et al. 2017), such as 0.5")
    rdrop: float | None = setting(None, "how much two passes under dropout shall agree (R-Drop, Liang et al. 2021), such as 4")
    lora: int | None = setting(None, "train changes of this rank in the attention instead of all weights (Hu et al. 2021), such as 8")
    patience: int | None = setting(None, "stop after so many epochs without a better score")
    seed: int = setting(1, "of the head's first weights, of dropout and of the order of the examples")
    dtype: str = setting("float32", "or mixed_bfloat16, mixed_float16")


@dataclass(frozen=True, kw_only=True)
class RecipeSettings:
    """What every recipe asks for. A recipe adds its own, and may give one of these another default."""

    run: Path = required("folder of the run; the same folder again goes on")
    train: list[Path] = required("files to learn from")
    dev: Path = required("file to be judged on after every epoch")
    model: str = setting("wenbai", "folder of a checkpoint, or a name that `bert4k list` shows")
    longest: int = setting(128, "tokens of a text; what is longer is cut")
    tuning: Tuning = field(default_factory=Tuning)
