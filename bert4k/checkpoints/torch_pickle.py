"""The pickles inside PyTorch checkpoints, read as data.

A pickle is a program for a machine with a stack, and its common reader runs whatever function the program names. The machine here is
another one: it can build numbers, texts, tuples, lists and dictionaries, and descriptions of tensors, and has no means to call, import
or look up anything else. The standard library's disassembler (`pickletools`) splits the program into instructions without running
any. Those that `torch.save` writes for a dictionary of tensors are understood; every other one is refused by its name.
"""

import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from bert4k.checkpoints.stored import Spec


class Storage(NamedTuple):
    """A run of numbers in the file, known to it by `key`. A view of an older format begins at the number `first`."""

    key: str
    dtype: np.dtype[Any]
    size: int  # in elements
    first: int = 0


class Tensor(NamedTuple):
    """Which numbers of a storage make up a tensor; `offset` and `strides` count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def spec(self) -> Spec:
        return Spec(self.shape, self.storage.dtype)

    @property
    def span(self) -> int:
        """How many elements lie between the first and the last one that are used, both included."""
        return 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True)) if self.spec.size else 0


class ForbiddenPickle(ValueError):
    """A pickle that asks for something other than tensors; the message says for what."""


def read_pickle(file: BinaryIO, storages: list[Storage] | None = None) -> Any:
    """The value of the pickle at the file's position, which moves behind it; `storages` gets every storage that it refers to.

    Only None, bool, int, float, str, tuple, list, dict, `Storage` and `Tensor` occur in it; what an object would have had as attributes is
    left out. Raises `ForbiddenPickle` for an instruction or a name that does not belong to tensors, and `ValueError`, `IndexError` or
    `KeyError` for bytes that are no pickle.
    """
    stack: list[Any] = []
    outer: list[list[Any]] = []  # the stacks below each mark
    memo: dict[Any, Any] = {}

    def above_mark() -> list[Any]:
        nonlocal stack
        values, stack = stack, outer.pop()
        return values

    for instruction, argument, _ in pickletools.genops(file):
        match instruction.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                break
            case "MARK":
                outer.append(stack)
                stack = []
            case "NONE":
                stack.append(None)
            case "NEWTRUE":
                stack.append(True)
            case "NEWFALSE":
                stack.append(False)
            case name if name in _LITERALS:
                stack.append(argument)
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(instruction.name[-1])
                stack[-count:] = [tuple(_last(stack, count))]
            case "TUPLE":
                values = above_mark()
                stack.append(tuple(values))
            case "EMPTY_LIST":
                stack.append([])
            case "LIST":
                values = above_mark()
                stack.append(values)
            case "APPEND":
                value = stack.pop()
                _a(list, stack[-1]).append(value)
            case "APPENDS":
                values = above_mark()
                _a(list, stack[-1]).extend(values)
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                values = above_mark()
                stack.append({})
                _enter(stack[-1], values)
            case "SETITEM":
                values = _last(stack, 2)
                del stack[-2:]
                _enter(stack[-1], values)
            case "SETITEMS":
                values = above_mark()
                _enter(stack[-1], values)
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_named(*_a(str, argument).split(" ", 1)))
            case "STACK_GLOBAL":
                names = [_a(str, value) for value in _last(stack, 2)]
                stack[-2:] = [_named(*names)]
            case "REDUCE":
                build, arguments = _last(stack, 2)
                if not isinstance(build, _Builder):
                    raise ForbiddenPickle("It calls something that is not the name of a function.")
                stack[-2:] = [build.function(*_a(tuple, arguments))]
            case "BUILD":  # the attributes of a dictionary, such as the version numbers that PyTorch keeps with one
                stack.pop()
                _a(dict, stack[-1])
            case "BINPERSID":
                stack[-1] = _storage(*_a(tuple, stack[-1]))
                if storages is not None:
                    storages.append(stack[-1])
            case name:
                raise ForbiddenPickle(f"It holds the instruction {name}.")
    [value] = stack
    return value


# Instructions whose argument is the value.
_LITERALS = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT"
    " STRING BINSTRING SHORT_BINSTRING UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8".split()
)


class _Builder(NamedTuple):
    """One of the few functions that a pickle may call."""

    function: Callable[..., Any]


def _ordered_dict(*pairs: Any) -> dict[Any, Any]:
    """`collections.OrderedDict`: empty, or from a list of pairs, as Python 2 wrote it."""
    made: dict[Any, Any] = {}
    for pair in _a(list, pairs[0]) if pairs else ():
        key, value = _a((tuple, list), pair)
        _enter(made, [key, value])
    return made


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Tensor:
    """`torch._utils._rebuild_tensor_v2`; `rest` is about gradients."""
    _a(Storage, storage)
    tensor = Tensor(storage, _count(offset), tuple(map(_count, _a(tuple, shape))), tuple(map(_count, _a(tuple, strides))))
    if len(tensor.shape) != len(tensor.strides) or len(tensor.shape) > _MOST_AXES:
        raise ValueError(f"a tensor has {len(tensor.shape)} axes and {len(tensor.strides)} strides")
    if tensor.offset + tensor.span > storage.size or tensor.spec.nbytes > _MOST_BYTES:
        raise ValueError(f"a tensor of shape {tensor.shape} reaches beyond its storage of {storage.size:,} numbers")
    return tensor


def _parameter(tensor: Any, *rest: Any) -> Tensor:
    """`torch._utils._rebuild_parameter`."""
    return _a(Tensor, tensor)


_MOST_AXES = 32  # of a NumPy array
_MOST_BYTES = 1 << 47  # of the address space; a view may repeat its numbers, so that the file sets no limit

_NAMED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Builder(_ordered_dict),
    ("torch._utils", "_rebuild_tensor_v2"): _Builder(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Builder(_parameter),
    **{
        ("torch", f"{name}Storage"): np.dtype(kind)
        for name, kind in {
            "Double": np.float64,
            "Float": np.float32,
            "Half": np.float16,
            "BFloat16": ml_dtypes.bfloat16,
            "Long": np.int64,
            "Int": np.int32,
            "Short": np.int16,
            "Char": np.int8,
            "Byte": np.uint8,
            "Bool": np.bool_,
            "ComplexFloat": np.complex64,
            "ComplexDouble": np.complex128,
        }.items()
    },
}


def _named(module: str, name: str) -> Any:
    """What a name in a pickle stands for here; nothing is imported."""
    if (module, name) not in _NAMED:
        raise ForbiddenPickle(f"It names {f'{module}.{name}'[:80]!r}.")
    return _NAMED[module, name]


def _storage(*fields: Any) -> Storage:
    """What `torch.save` writes instead of numbers: ("storage", type, key, device, size), and a view in older files."""
    if len(fields) not in (5, 6) or fields[0] != "storage" or not isinstance(fields[1], np.dtype):
        raise ForbiddenPickle("It refers to something outside of itself that is no storage of numbers.")
    _, dtype, key, _, size = fields[:5]
    view = fields[5] if len(fields) == 6 else None
    whole = Storage(_a(str, key), dtype, _count(size))
    if view is None:
        return whole
    _, first, count = _a(tuple, view)
    if _count(first) + _count(count) > whole.size:
        raise ValueError("a view reaches beyond its storage")
    return whole._replace(first=first, size=count)


def _enter(target: Any, items: list[Any]) -> None:
    """Enter key, value, key, value ... into a dictionary."""
    for key, value in zip(items[::2], items[1::2], strict=True):
        _a(dict, target)[_a((str, int), key)] = value


def _last(stack: list[Any], count: int) -> list[Any]:
    if len(stack) < count:
        raise ValueError("it takes more from its stack than is there")
    return stack[-count:]


def _a(kind: Any, value: Any) -> Any:
    """The value, if it is of this kind. Values are not shown: a short pickle can describe one of astronomical size."""
    if not isinstance(value, kind):
        raise ValueError(f"it has a {type(value).__name__} in the place of something else")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("a size, offset or stride is no natural number")
    return value
