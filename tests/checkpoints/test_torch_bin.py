"""`torch.save` and `torch.load` are the reference; what is hostile is written here instruction by instruction."""

import io
import json
import mmap
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from bert4k.checkpoints import open_checkpoint
from bert4k.checkpoints.torch_bin import TORCH_INDEX, TORCH_WEIGHTS, TorchFolder
from bert4k.errors import CheckpointError

MATRIX = torch.arange(12, dtype=torch.float32).reshape(3, 4)
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8]
STATE = OrderedDict(
    {str(dtype): (torch.arange(7) - (0 if dtype == torch.uint8 else 3)).to(dtype) for dtype in DTYPES}
    | {
        "complex": torch.tensor([1 + 2j, 3]),
        "flags": torch.tensor([True, False]),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "transposed": MATRIX.T,
        "part": MATRIX[1:, 1:3],
        "every second": MATRIX[:, ::2],
        "repeated": torch.tensor([[1.0], [2.0]]).expand(2, 5),
        "whole": MATRIX,
        "again": MATRIX,
        "parameter": torch.nn.Parameter(torch.ones(2, 2)),
        "名字": torch.ones(1),
    }
)


@pytest.fixture(params=["zip", "legacy"])
def save(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Path]:
    def write(state: Any, name: str = TORCH_WEIGHTS, protocol: int = 2) -> Path:
        torch.save(state, tmp_path / name, _use_new_zipfile_serialization=request.param == "zip", pickle_protocol=protocol)
        return tmp_path / name

    return write


def same(array: np.ndarray, tensor: torch.Tensor) -> bool:
    """Equal in dtype, shape and every bit."""
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        expected = tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    else:
        expected = tensor.numpy()
    return array.dtype == expected.dtype and array.shape == expected.shape and array.tobytes() == expected.tobytes()


def mapped(array: np.ndarray) -> bool:
    """Whether the numbers are in a mapped file."""
    base: Any = array
    while getattr(base, "base", None) is not None:
        base = base.base
    return isinstance(getattr(base, "obj", base), mmap.mmap)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_reads_what_torch_reads(save: Callable[..., Path], protocol: int) -> None:
    file = save(STATE, protocol=protocol)
    loaded = torch.load(file, weights_only=False)  # the safe way knows protocol 2 only
    stored = open_checkpoint(file.parent)
    assert isinstance(stored, TorchFolder)
    assert stored.layout == "huggingface"
    assert list(stored) == list(loaded) == list(STATE)
    for name, tensor in loaded.items():
        assert same(stored[name], tensor), name
        assert stored.shapes[name] == (stored[name].shape, stored[name].dtype)
        assert not stored[name].flags.writeable or not stored[name].size


def test_a_real_model(save: Callable[..., Path]) -> None:
    """A module's state keeps attributes with its dictionary, and ties weights."""
    module = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 5, bias=False))
    module[2].weight = module[0].weight
    state = module.state_dict()
    assert state._metadata
    stored = TorchFolder(save(state))
    assert set(stored) == set(state)
    assert all(same(stored[name], state[name]) for name in state)


def test_tensors_elsewhere_than_in_the_dictionary_are_left_out(save: Callable[..., Path]) -> None:
    stored = TorchFolder(save({"list": [torch.ones(3)], "w": MATRIX}))
    assert list(stored) == ["w"]
    assert same(stored["w"], MATRIX)


def test_other_values_are_left_out(save: Callable[..., Path]) -> None:
    others = {"step": 3, "big": 1 << 70, "rate": 0.5, "name": "x", "none": None, "on": True, "list": [1, (2, 3)], "sizes": {"a": {1: 2}}}
    assert list(TorchFolder(save({**others, "w": MATRIX}))) == ["w"]


def test_weights_are_mapped_and_not_copied(tmp_path: Path) -> None:
    torch.save({"w": MATRIX, "t": MATRIX.T}, tmp_path / TORCH_WEIGHTS)
    stored = TorchFolder(tmp_path / TORCH_WEIGHTS)
    assert mapped(stored["w"])
    assert mapped(stored["t"])
    assert not mapped(stored["w"].copy())


def test_torch_is_not_imported(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / TORCH_WEIGHTS)
    code = f"import sys; from bert4k.checkpoints import open_checkpoint; open_checkpoint({str(tmp_path)!r})['whole']; print(*sys.modules)"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]).stdout
    assert "torch" not in names.split()


def test_shards(save: Callable[..., Path]) -> None:
    first = save({"a": MATRIX}, "pytorch_model-00001-of-00002.bin")
    second = save({"b": MATRIX.T}, "pytorch_model-00002-of-00002.bin")
    (first.parent / TORCH_INDEX).write_text(json.dumps({"metadata": {}, "weight_map": {"a": first.name, "b": second.name}}))
    stored = open_checkpoint(first.parent)
    assert stored.path.name == TORCH_INDEX
    assert same(stored["a"], MATRIX)
    assert same(stored["b"], MATRIX.T)
    second.unlink()
    with pytest.raises(CheckpointError, match=f"Cannot open .*{second.name}"):
        open_checkpoint(first.parent)


@pytest.mark.parametrize("shard", ["../other.bin", "/etc/passwd", "..\\x.bin", ".."])
def test_a_shard_outside_the_folder_is_refused(tmp_path: Path, shard: str) -> None:
    (tmp_path / TORCH_INDEX).write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(CheckpointError, match="expected the name of a file in the same folder"):
        open_checkpoint(tmp_path)


def test_safetensors_go_first(save: Callable[..., Path]) -> None:
    file = save({"a": MATRIX})
    save_file({"b": np.zeros(1, np.float32)}, file.parent / "model.safetensors")
    assert list(open_checkpoint(file.parent)) == ["b"]
    assert list(open_checkpoint(file)) == ["a"]


@pytest.mark.parametrize("level", ["model", "state_dict", "module"])
def test_a_snapshot_of_a_training_run(save: Callable[..., Path], level: str) -> None:
    with pytest.raises(CheckpointError, match=rf"one level down, under '{level}'\. Save them alone"):
        TorchFolder(save({"epoch": 3, level: {"w": MATRIX}}))


@pytest.mark.parametrize(("value", "found"), [([MATRIX], "holds a list"), (MATRIX, "holds a Tensor"), ({"a": 1}, "without a tensor")])
def test_no_dictionary_of_tensors(save: Callable[..., Path], value: Any, found: str) -> None:
    with pytest.raises(CheckpointError, match=found):
        TorchFolder(save(value))


def test_a_whole_module_is_refused(save: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match=r"holds more than weights\. It (names 'torch\.nn|refers)"):
        TorchFolder(save(torch.nn.Linear(2, 2)))


def test_every_truncation_is_refused(save: Callable[..., Path]) -> None:
    file = save({"a": torch.arange(4), "b": torch.ones(3)})
    whole = file.read_bytes()
    for size in range(len(whole)):
        os.truncate(file, 0)
        file.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="is not a sound PyTorch file"):
            TorchFolder(file)


def test_every_changed_byte_is_refused_or_harmless(save: Callable[..., Path]) -> None:
    """Nothing but `CheckpointError` comes of a damaged file, and reading stays inside of it."""
    file = save({"a": torch.arange(4), "b": torch.ones(3)})
    whole = bytearray(file.read_bytes())
    refused = 0
    for at in range(0, len(whole), 1 if len(whole) < 900 else 3):
        for value in (0, 0x80, whole[at] ^ 1, 0xFF):
            changed = whole.copy()
            changed[at] = value
            file.write_bytes(changed)
            try:
                stored = TorchFolder(file)
                for name in stored:
                    assert stored[name].nbytes < 1 << 20
            except CheckpointError:
                refused += 1
    assert refused > 100


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", b"PK\3\4" * 9, b"\x80\x02."])
def test_another_kind_of_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / TORCH_WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is not a sound PyTorch file.*fetch it again"):
        TorchFolder(tmp_path / TORCH_WEIGHTS)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Cannot open"):
        TorchFolder(tmp_path / TORCH_WEIGHTS)


def test_torchscript_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        for name in ("model/data.pkl", "model/constants.pkl", "model/code/__torch__.py"):
            archive.writestr(name, b"")
    with pytest.raises(CheckpointError, match="is a TorchScript archive"):
        open_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize("entry", ["data.pkl", "data/0"])
def test_compressed_entries_are_refused(tmp_path: Path, entry: str) -> None:
    torch.save({"w": torch.zeros(1000)}, tmp_path / "plain.bin")
    with zipfile.ZipFile(tmp_path / "plain.bin") as plain, zipfile.ZipFile(tmp_path / TORCH_WEIGHTS, "w") as packed:
        for name in plain.namelist():
            kind = zipfile.ZIP_DEFLATED if name.endswith(entry) else zipfile.ZIP_STORED
            packed.writestr(name, plain.read(name), kind)
    with pytest.raises(CheckpointError, match=rf"{entry} in .* is compressed or encrypted"):
        TorchFolder(tmp_path / TORCH_WEIGHTS)


def archive(folder: Path, program: bytes, **entries: bytes) -> Path:
    """A file as `torch.save` writes it, with this pickle and, for storage "0", eight numbers."""
    with zipfile.ZipFile(folder / TORCH_WEIGHTS, "w") as packed:
        for name, content in {"data.pkl": program, "data/0": np.arange(8, dtype=np.float32).tobytes(), **entries}.items():
            packed.writestr(f"archive/{name}", content)
    return folder / TORCH_WEIGHTS


def test_a_big_endian_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="big-endian"):
        TorchFolder(archive(tmp_path, b"", byteorder=b"big"))


class Harmful:
    """Writes a file if it is ever loaded by a machine that calls functions."""

    def __init__(self, build: Any, *arguments: Any):
        self.reduced = build, arguments

    def __reduce__(self) -> Any:
        return self.reduced

    def __call__(self) -> None:
        """What the pickler wants of the first part of another one."""


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("build", "arguments"),
    [
        (os.system, ("touch {}",)),
        (eval, ("open({!r}, 'w')",)),
        (exec, ("open({!r}, 'w')",)),
        (open, ("{}", "w")),
        (getattr, (OrderedDict, "fromkeys")),
        (torch.load, ("{}",)),
        (Harmful(getattr, os, "system"), ("touch {}",)),
        (torch._utils._rebuild_tensor_v2, (Harmful(os.system, "touch {}"), 0, (), (), False, None)),
        (OrderedDict, ([[Harmful(os.system, "touch {}"), 1]],)),
    ],
    ids=lambda value: getattr(value, "__name__", "nested") if callable(value) else "",
)
def test_harmful_pickles_do_nothing(tmp_path: Path, build: Any, arguments: tuple[Any, ...], protocol: int) -> None:
    mark = tmp_path / "mark"

    def filled(value: Any) -> Any:
        if isinstance(value, Harmful):
            return Harmful(filled(value.reduced[0]), *map(filled, value.reduced[1]))
        return value.format(str(mark)) if isinstance(value, str) else value

    class Modules(pickle.Pickler):
        def reducer_override(self, value: Any) -> Any:
            return (__import__, (value.__name__,)) if value is os else NotImplemented

    written = io.BytesIO()
    Modules(written, protocol).dump({"w": Harmful(filled(build), *map(filled, arguments))})
    with pytest.raises(CheckpointError, match=r"holds more than weights|is not a sound PyTorch file"):
        TorchFolder(archive(tmp_path, written.getvalue()))
    legacy = b"".join(pickle.dumps(one, 2) for one in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})) + written.getvalue()
    (tmp_path / "legacy.bin").write_bytes(legacy + pickle.dumps([], 2))
    with pytest.raises(CheckpointError, match=r"holds more than weights|is not a sound PyTorch file"):
        TorchFolder(tmp_path / "legacy.bin")
    assert not mark.exists()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def storage(key: str = "0", size: bytes = b"K\x08", kind: str = "FloatStorage", view: bytes = b"") -> bytes:
    return b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + size + view + b"tQ"


def tensor(source: bytes, offset: bytes = b"K\0", shape: bytes = b"K\x02K\x02\x86", strides: bytes = b"K\x02K\x01\x86") -> bytes:
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + source + offset + shape + strides + b"\x89" + b"ccollections\nOrderedDict\n)RtR"


def state(value: bytes) -> bytes:
    return b"\x80\x02}" + text("w") + value + b"s."


def test_the_programs_below_are_sound_but_for_what_they_try(tmp_path: Path) -> None:
    stored = TorchFolder(archive(tmp_path, state(tensor(storage(), b"K\x01"))))
    assert stored["w"].tolist() == [[1, 2], [3, 4]]


def test_a_view_of_an_older_format(tmp_path: Path) -> None:
    """Numbers 3 to 6 of the storage, as ("view", 3, 4)."""
    view = b"(" + text("view") + b"K\x03K\x04t"
    assert TorchFolder(archive(tmp_path, state(tensor(storage(view=view)))))["w"].tolist() == [[3, 4], [5, 6]]
    with pytest.raises(CheckpointError, match="reaches beyond its storage"):
        TorchFolder(archive(tmp_path, state(tensor(storage(view=view), b"K\x01"))))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (state(tensor(storage("../../../etc/passwd"))), "are not in it"),
        (state(tensor(storage("/etc/passwd"))), "are not in it"),
        (state(tensor(storage("1"))), "are not in it"),
        (state(tensor(storage(size=b"J\xff\xff\xff\x7f"))), "fewer than its tensors take"),
        (state(tensor(storage(kind="DoubleStorage"))), "fewer than its tensors take"),
        (state(tensor(storage(), offset=b"K\x05")), "reaches beyond its storage"),
        (state(tensor(storage(), offset=b"J\xff\xff\xff\xff")), "no natural number"),
        (state(tensor(storage(), strides=b"J\xff\xff\xff\xffK\x01\x86")), "no natural number"),
        (state(tensor(storage(), shape=b"K\x02\x85")), "1 axes and 2 strides"),
        (state(tensor(storage(), shape=b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86", strides=b"K\0K\0\x86")), "reaches beyond its storage"),
        (state(tensor(storage(), shape=b"\x88K\x02\x86")), "no natural number"),
        (state(tensor(b"K\x01")), "an? int in the place"),
        (state(storage(kind="Tensor")), r"names 'torch\.Tensor'"),
        (state(b"(" + text("module") + b"NNNtQ"), "is no storage"),
        (state(b"ctorch\nFloatStorage\n)R"), "calls something that is not the name of a function"),
        (state(b"ccollections\nOrderedDict\n)\x81"), "holds the instruction NEWOBJ"),
        (state(b"(ios\nsystem\n"), "holds the instruction INST"),
        (state(b"(ccollections\nOrderedDict\no"), "holds the instruction OBJ"),
        (state(b"P0\n"), "holds the instruction PERSID"),
        (state(b"\x82\x01"), "holds the instruction EXT1"),
        (state(text("os") + text("system") + b"\x93" + text("touch x") + b"\x85R"), r"names 'os\.system'"),
        # A name that is allowed, with another in its place by the memo.
        (state(b"ccollections\nOrderedDict\nq\x00cposix\nsystem\nq\x000h\x00" + text("touch x") + b"\x85R"), r"names 'posix\.system'"),
        (state(b"h\x07"), "is not a sound"),
        (state(b"(lq\x00h\x00a" + b"h\x00b"), "in the place of something else"),
        (b"\x80\x02" + b"]q\x00h\x00a}h\x00K\x01s.", "in the place of something else"),  # a list that holds itself, as a key
        (b"\x80\x02" + text("w") + b"}(" + text("a") + b"u.", "is not a sound"),
        (b"\x80\x02}K\x01K\x02.", "is not a sound"),
        (b"\x80\x02R.", "takes more from its stack"),
        (b"\x80\x02t.", "is not a sound"),
        (b"\x80\x02.", "is not a sound"),
        (b"\x80\x02}\x8d\xff\xff\xff\xff\xff\xff\xff\x7fx.", "is not a sound"),
    ],
)
def test_programs_that_try_something(tmp_path: Path, program: bytes, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        TorchFolder(archive(tmp_path, program))


def test_a_value_of_astronomical_size_is_never_walked(tmp_path: Path) -> None:
    """A tuple of two tuples of two tuples ...: 5 bytes a level, 2 ** 200 leaves when printed, compared or hashed."""
    towering = b"K\x01q\x00" + b"h\x00\x86q\x00" * 200
    assert list(TorchFolder(archive(tmp_path, b"\x80\x02}" + text("w") + tensor(storage()) + b"s" + text("x") + towering + b"s."))) == ["w"]
    for program in (
        state(tensor(towering)),
        state(tensor(storage(), shape=towering)),
        b"\x80\x02}" + towering + b"Ns.",
        state(towering + b"Q"),
    ):
        with pytest.raises(CheckpointError):
            TorchFolder(archive(tmp_path, program))


def test_a_legacy_file_whose_keys_are_of_astronomical_size(tmp_path: Path) -> None:
    towering = b"K\x01q\x00" + b"h\x00\x86q\x00" * 200
    parts = [pickle.dumps(one, 2) for one in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    (tmp_path / TORCH_WEIGHTS).write_bytes(b"".join(parts) + state(tensor(storage())) + b"\x80\x02(" + towering + b"l." + bytes(100))
    with pytest.raises(CheckpointError, match="belongs to no tensor"):
        TorchFolder(tmp_path / TORCH_WEIGHTS)


def test_names_that_are_no_text_are_left_out(tmp_path: Path) -> None:
    """One of them is a number with more digits than Python writes out."""
    number = b"\x8b" + struct.pack("<I", 4000) + b"\x7f" * 4000
    nested = b"}K\x01" + tensor(storage()) + b"s"
    program = b"\x80\x02}" + text("w") + tensor(storage()) + b"s" + number + tensor(storage()) + b"s" + number + nested + b"s."
    assert list(TorchFolder(archive(tmp_path, program))) == ["w"]


def test_deep_nesting(tmp_path: Path) -> None:
    program = b"\x80\x02}" + text("w") + tensor(storage()) + b"s" + text("x") + b"]" * 100_000 + b"a" * 99_999 + b"s."
    assert list(TorchFolder(archive(tmp_path, program))) == ["w"]
