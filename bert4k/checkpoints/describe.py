"""`describe`: what a checkpoint holds, from names, shapes and dtypes alone."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from bert4k.checkpoints.recognise import OPTIMIZER, count_layers, recognise
from bert4k.checkpoints.stored import Stored
from bert4k.checkpoints.tables import Table


@dataclass(frozen=True)
class Tensor:
    """One stored tensor. `fate` is "model", "ignored", "optimizer" or "unknown", as the table of its layout sees it."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    nbytes: int
    fate: str


@dataclass(frozen=True)
class Summary:
    """A checkpoint in numbers. `parameters` and `nbytes` leave out what an optimizer stored."""

    path: str
    layout: str
    family: str
    layers: int  # 0 when layers are shared or not numbered
    parameters: int
    nbytes: int
    tensors: tuple[Tensor, ...]


def describe(stored: Stored, table: Table | None = None) -> Summary:
    """Summarise a checkpoint without reading a tensor; `table` tells which of them its model would use."""

    def fate(name: str) -> str:
        if table is not None:
            return table.fate(name)
        return "optimizer" if re.search(OPTIMIZER, name) else "unknown"

    tensors = tuple(Tensor(name, spec.shape, spec.dtype, spec.nbytes, fate(name)) for name, spec in stored.shapes.items())
    weights = [tensor for tensor in tensors if tensor.fate != "optimizer"]
    return Summary(
        path=str(stored.path),
        layout=stored.layout,
        family=recognise(stored),
        layers=count_layers(tensor.name for tensor in weights),
        parameters=sum(stored.shapes[tensor.name].size for tensor in weights),
        nbytes=sum(tensor.nbytes for tensor in weights),
        tensors=tensors,
    )
