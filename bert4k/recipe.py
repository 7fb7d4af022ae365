"""What every recipe shares: settings as flags or a file, a run folder that one process at a time works in, and several devices."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from bert4k.checkpoints.stored import replacing
from bert4k.errors import CheckpointError, ConfigError, did_you_mean

Settings = TypeVar("Settings")


# Settings: frozen dataclasses of numbers, texts, paths, lists and dicts of these, and further dataclasses. ----------------------------


def setting(default: Any, help: str) -> Any:
    """A field of a settings class: its default and what it means, which `--help` tells. Lists and dicts are copied for each instance."""
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: default.copy(), metadata={"help": help})
    return dataclasses.field(default=default, metadata={"help": help})


def required(help: str) -> Any:
    """A field without a default."""
    return dataclasses.field(metadata={"help": help})


def parse_settings(kind: type[Settings], arguments: Sequence[str] | None, prog: str, description: str, example: str) -> Settings:
    """A settings class from flags (`--optimizer.learning_rate 1e-3`, `--text a.txt b.txt`, `--weights.a 2`), from YAML files (`--config
    file.yaml`), or from both: flags win, and later files win over earlier ones. Prints a message and exits with code 2 when they are wrong.

    prog: the command; example: what may follow it, in one line."""
    import sys

    parser = argparse.ArgumentParser(prog, f"{prog} {example}", description, allow_abbrev=False)
    parser.add_argument(
        "--config", nargs="+", action="extend", default=[], metavar="FILE", help="YAML file with settings by these names; flags change them"
    )
    known = dict(_flags(kind, parser))
    flags, unknown = parser.parse_known_args(list(_normalised(sys.argv[1:] if arguments is None else arguments, known)))
    try:
        if unknown:
            flag = next((each for each in unknown if each.startswith("-")), unknown[0])
            raise ConfigError(f"There is no setting {flag}.{did_you_mean(flag, [f'--{name}' for name in known])} --help lists them.")
        values: dict[str, Any] = {}
        for file in flags.config:
            values |= _flattened(_read_yaml(Path(file)), known, file)
        values |= {name: value for name, value in vars(flags).items() if name != "config"}
        return _build(kind, values)
    except ConfigError as error:
        parser.error(str(error))


def _flags(kind: Any, parser: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give `parser` a flag for every setting; the settings by their names, with their types."""
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name, hint = prefix + field.name, hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from _flags(hint, parser.add_argument_group(name, " ".join((hint.__doc__ or "").split())), f"{name}.")
            continue
        default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        told = "required" if default is dataclasses.MISSING else f"default: {'none' if default in (None, [], {}) else default}"
        origin, inner = get_origin(hint), _alternatives(hint)[0]
        shape: dict[str, Any] = {"metavar": "|".join(get_args(inner)) if get_origin(inner) is Literal else inner.__name__.upper()}
        if origin is list:
            shape = {"nargs": "*", "metavar": get_args(hint)[0].__name__.upper()}
        elif origin is dict:
            shape = {"nargs": "*", "action": "extend", "metavar": "NAME=VALUE"}
        elif hint is bool:
            shape = {"nargs": "?", "const": "true", "metavar": "true|false"}
        help = f"{field.metadata['help']} ({told})".replace("%", "%%")
        parser.add_argument(f"--{name}", dest=name, default=argparse.SUPPRESS, help=help, **shape)
        yield name, hint


def _normalised(arguments: Sequence[str], known: dict[str, Any]) -> Iterator[str]:
    """`--learning-rate` is `--learning_rate`, and `--weights.a 2` is `--weights a=2`."""
    rest = iter(arguments)
    for argument in rest:
        if match := re.fullmatch(r"--([\w.-]+)(=.*)?", argument, re.DOTALL):
            name, given = match[1].replace("-", "_"), match[2] or ""
            parent, _, key = match[1].partition(".")
            if get_origin(known.get(parent.replace("-", "_"))) is dict and key:
                yield from (f"--{parent.replace('-', '_')}", f"{key}={given.removeprefix('=') or next(rest, '')}")
                continue
            if name in known:
                argument = f"--{name}{given}"
        yield argument


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"Cannot read {path} ({' '.join(str(error).split())}). Expected a YAML file with settings.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds {type(values).__name__}; expected settings, one `name: value` a line.")
    return values


def _flattened(values: dict[str, Any], known: dict[str, Any], file: str, prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names. Raises `ConfigError` for a name that is not known."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if name in known:
            found[name] = value
        elif isinstance(value, dict) and any(each.startswith(f"{name}.") for each in known):
            found |= _flattened(value, known, file, f"{name}.")
        else:
            raise ConfigError(f"{file}: there is no setting {name}.{did_you_mean(name, known)} --help lists them.")
    return found


def _build(kind: Any, values: dict[str, Any], prefix: str = "") -> Any:
    hints, given = get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        name, hint = prefix + field.name, hints[field.name]
        if dataclasses.is_dataclass(hint):
            given[field.name] = _build(hint, values, f"{name}.")
        elif name in values:
            given[field.name] = _converted(name, values[name], hint)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"--{name} is missing: {field.metadata['help']}.")
    return kind(**given)


def _converted(name: str, value: Any, hint: Any) -> Any:
    """A value, as YAML gives it or as it is written on the command line, as the type of its field."""
    origin = get_origin(hint)
    if origin in _UNIONS:
        nothing = value is None or str(value).lower() in ("none", "null")
        return None if nothing else _converted(name, value, _alternatives(hint)[0])
    if origin is list:
        items = value if isinstance(value, list) else [value]
        return [_converted(name, item, get_args(hint)[0]) for item in items]
    if origin is dict:
        pairs = value if isinstance(value, dict) else dict(_pair(name, str(item)) for item in value)
        return {str(key): _converted(f"{name}.{key}", item, get_args(hint)[1]) for key, item in pairs.items()}
    if origin is Literal:
        if str(value) not in get_args(hint):
            known = ", ".join(get_args(hint))
            raise ConfigError(f"--{name} is {value!r}; expected one of {known}.{did_you_mean(str(value), get_args(hint))}")
        return str(value)
    try:
        if hint is bool:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[str(value).lower()]
        if hint is int and isinstance(value, str | float):
            if (number := float(value)) != int(number):  # 1e4 is a whole number too
                raise ValueError
            return int(number)
        if isinstance(value, bool) and hint is not str or isinstance(value, dict | list) or value is None:
            raise TypeError
        return hint(value)
    except (KeyError, TypeError, ValueError, OverflowError):
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}.get(hint, "a text")
        raise ConfigError(f"--{name} is {value!r}; expected {wanted}.") from None


_UNIONS = (types.UnionType, Union)


def _alternatives(hint: Any) -> list[Any]:
    """The types that a value may have, None left out."""
    return [each for each in get_args(hint) if each is not type(None)] if get_origin(hint) in _UNIONS else [hint]


def _pair(name: str, item: str) -> tuple[str, str]:
    key, equals, value = item.partition("=")
    if not equals:
        raise ConfigError(f"--{name} got {item!r}; expected NAME=VALUE.")
    return key, value


# A run folder. -------------------------------------------------------------------------------------------------------------------


def same_settings(settings: Any, path: Path, free: Sequence[str], recipe: str | None = None) -> None:
    """Write the settings of a run, or raise `ConfigError` unless they are those that it was started with, but for `free` ones.

    free: names, dotted where they are nested. A setting that did not exist when the run was started is taken as it is. recipe: its name,
    which is kept beside them for `recipe_of`."""
    values, before = json.loads(json.dumps(dataclasses.asdict(settings), default=str)), stored_settings(path)
    values |= {} if recipe is None else {"recipe": recipe}
    if before == values:
        return
    shared = {name: value for name, value in values.items() if name in before}
    changed = "; ".join(
        f"{name} was {old}, now {new}"
        for name, old, new in _differences("", {name: before[name] for name in shared}, shared)
        if not any(name == each or name.startswith(f"{each}.") for each in free)
    )
    if changed:
        raise ConfigError(f"{path.parent} was started with other settings: {changed}. Give the same ones to go on, or another run folder.")
    with replacing(path) as (temporary,):
        temporary.write_text(json.dumps(values, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def stored_settings(path: Path) -> dict[str, Any]:
    """The settings that a run was last given; empty when it is a new one."""
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path} is damaged ({error}). Restore it, or give another run folder.") from error


def recipe_of(run: Path, known: Sequence[str]) -> str:
    """Which of the recipes that are `known` made a run. Raises `CheckpointError` when none did."""
    name = stored_settings(run / "settings.json").get("recipe")
    if name not in known:
        made = "no settings.json" if not (run / "settings.json").exists() else f"settings of {name or 'another command'}"
        raise CheckpointError(f"{run} is no run of `bert4k train`: it has {made}. Give the folder that was its --run.")
    return str(name)


def _differences(name: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Dotted names of what differs, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old | new:
            yield from _differences(f"{name}.{key}".removeprefix("."), old.get(key), new.get(key))
    elif old != new:
        yield name, old, new


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else works in this folder meanwhile, or `CheckpointError`.

    The system takes the lock from a process that ends, however it ends."""
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise CheckpointError(f"Cannot write to {folder} ({error.strerror}). Choose a folder with space and write permission.") from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CheckpointError(f"Another process is training in {folder}. Wait for it or end it, or give another run folder.") from None
        yield
    finally:
        os.close(file)


# Several devices. ----------------------------------------------------------------------------------------------------------------


# How `devices="model"` cuts weights: kernels that make heads or inner units by columns, those that take them by rows, tables by rows.
CUT_WEIGHTS = {
    r"attention/(query|key|value)/kernel": (None, "model"),
    r"attention/(query|key|value)/bias": ("model",),
    r"attention/output/kernel": ("model", None),
    r"feed_forward_inner/kernel": (None, "model"),
    r"feed_forward_inner/bias": ("model",),
    r"feed_forward_outer/kernel": ("model", None),
}


@contextmanager
def distribution(devices: str) -> Iterator[None]:
    """The scope in which a model is built and trained, and in which it may be asked `bert4k.backend.parts`.

    "one": one device. "data": every device has all weights and takes its share of each batch: tf.distribute.MirroredStrategy on TensorFlow,
    keras.distribution.DataParallel on JAX. "model": every device takes the whole batch and has its share of the weights
    (keras.distribution.ModelParallel, on JAX).

    On JAX, "data" may be used by several processes, each started with the variables KERAS_DISTRIBUTION_JOB_ADDRESSES (of process 0),
    KERAS_DISTRIBUTION_NUM_PROCESSES and KERAS_DISTRIBUTION_PROCESS_ID, and all with the same run folder. Raises `ConfigError` for what
    Keras does not distribute.
    """
    with _scope(devices):
        yield


def _scope(devices: str) -> Any:
    import keras

    backend, several = keras.backend.backend(), int(os.environ.get("KERAS_DISTRIBUTION_NUM_PROCESSES") or 1) > 1
    if devices not in ("one", "data", "model"):
        raise ConfigError(f"devices is {devices!r}; expected one, data or model.")
    if several and (backend, devices) != ("jax", "data"):
        raise ConfigError(f"Several processes train together with KERAS_BACKEND=jax and devices=data only; got {backend} and {devices}.")
    if os.environ.get("TF_CONFIG") and backend == "tensorflow" and devices != "one":
        raise ConfigError("Keras 3.15 does not train under tf.distribute.MultiWorkerMirroredStrategy (TF_CONFIG). Use KERAS_BACKEND=jax.")
    match (devices, backend):
        case "one", _:
            return nullcontext()
        case "data", "tensorflow":
            import tensorflow as tf

            found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
            return tf.distribute.MirroredStrategy([device.name for device in found]).scope()
        case "data", "jax":
            import jax

            if several and not jax.distributed.is_initialized():
                keras.distribution.initialize()
            return keras.distribution.DataParallel(devices=keras.distribution.list_devices(), auto_shard_dataset=False).scope()
        case "model", "jax":
            names = keras.distribution.list_devices()
            layout = keras.distribution.LayoutMap(keras.distribution.DeviceMesh((1, len(names)), ("batch", "model"), names))
            for pattern, axes in CUT_WEIGHTS.items():
                layout[pattern] = axes
            return keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch", auto_shard_dataset=False).scope()
    use = "jax" if devices == "model" else "jax or tensorflow"
    raise ConfigError(f"Keras does not distribute {devices} on {backend}. Use KERAS_BACKEND={use}, or devices=one.")


@contextmanager
def in_turn(what: str) -> Iterator[None]:
    """Of several processes that train together, the first does this before the others: what it left, they find."""
    from bert4k.backend import process, wait_for_all

    number, _ = process()
    if number > 0:
        wait_for_all(what)
    yield
    if number == 0:
        wait_for_all(what)
