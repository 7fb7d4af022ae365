"""Name tables: one list of rows per checkpoint layout, read forwards to load and backwards to save.

A row says which stored tensors are which of our weights, and how one becomes the other. `Table.bind` fits a table to a checkpoint and
finds everything that is wrong from names and shapes alone; the arrays follow one at a time, when they are asked for.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from bert4k.checkpoints.recognise import OPTIMIZER, may_be, recognise
from bert4k.checkpoints.stored import Array, Spec, Stored
from bert4k.errors import CheckpointError, nearest

Arrays = Sequence[Array]


class Op(NamedTuple):
    """How the stored arrays of a row become ours, and back. Both are exact inverses and only move numbers."""

    load: Callable[[Arrays], Arrays]
    save: Callable[[Arrays], Arrays]


same = Op(lambda arrays: arrays, lambda arrays: arrays)
transposed = Op(lambda arrays: [array.T for array in arrays], lambda arrays: [array.T for array in arrays])


def split(parts: int, axis: int = -1) -> Op:
    """One stored array holds `parts` of ours side by side."""
    return Op(lambda arrays: np.split(arrays[0], parts, axis), lambda arrays: [np.concatenate(arrays, axis)])


def fused(parts: int, axis: int = -1) -> Op:
    """One of ours holds `parts` stored arrays side by side."""
    return Op(*reversed(split(parts, axis)))


class Row(NamedTuple):
    """Our names and the stored ones; `{i}` in both stands for the number of a layer, and a stored `{i:02}` for its two digits."""

    ours: str | tuple[str, ...]
    stored: str | tuple[str, ...]
    op: Op = same


class Copy(NamedTuple):
    """A stored tensor that holds the same numbers as another: read in its place when that is absent, else compared with it when
    our weight `checked_with` is read. Output layers that are tied to the embedding are stored so."""

    stored: str
    original: str
    checked_with: str


class Place(NamedTuple):
    """Where one of our weights comes from: the result numbered `part` of `op` on the stored `sources`."""

    sources: tuple[str, ...]
    op: Op
    part: int


@dataclass
class Report:
    """How a checkpoint fits what was wanted. Stored names are as in the checkpoint, ours as in the model."""

    family: str  # recognised from the names
    expected_family: str
    path: str
    matched: list[tuple[str, str]] = field(default_factory=list)  # (ours, stored)
    missing: dict[str, str] = field(default_factory=dict)  # ours -> the stored name that was looked for
    misshapen: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)  # (ours, expected, found)
    unused: list[str] = field(default_factory=list)  # stored, and unknown to the table
    optimizer: list[str] = field(default_factory=list)  # stored slots and counters of the training run
    ignored: list[str] = field(default_factory=list)  # stored, known, and not asked for

    def raise_if_wrong(self, allowed_missing: Iterable[str] = ()) -> None:
        """Raise one `CheckpointError` that names every missing and misshapen weight.

        `allowed_missing` holds our names, or beginnings of paths such as "mlm", that may be missing.
        """
        allowed = tuple(allowed_missing)
        missing = {ours: stored for ours, stored in self.missing.items() if not any(f"{ours}/".startswith(f"{part}/") for part in allowed)}
        if not missing and not self.misshapen:
            return
        problems = [f"{self.path} does not fit the model."]
        other_family = not may_be(self.family, self.expected_family)
        if other_family:
            problems.append(f"Its tensor names look like {self.family.upper()}, and the model is {self.expected_family.upper()}.")
        if missing:
            sources = {ours: missing[first] for ours, first in _by_block(missing)}
            known = () if other_family else self.unused  # another family's names would mislead
            near = {source: nearest(source, known) for source in sources.values()}
            hints = {source: f", did you mean '{name}'?" if name else "" for source, name in near.items()}
            lines = [f"{ours} (looked for {source}{hints[source]})" for ours, source in sources.items()]
            if other_family:  # a few will do: none of them is what is wrong
                lines = [*lines[:2], "..."]
            problems.append(f"Missing, {len(missing)} of {len(missing) + len(self.matched)} weights: {'; '.join(lines)}.")
        shapes = {ours: (expected, found) for ours, expected, found in self.misshapen}
        for alike in dict.fromkeys(shapes.values()):
            names = [ours for ours in shapes if shapes[ours] == alike]
            problems += [_misfit(ours, *alike) for ours, _ in _by_block(names)]
        if missing and self.unused:
            listed = ", ".join(self.unused[:8]) + (" ..." if len(self.unused) > 8 else "")
            problems.append(f"Unused in the checkpoint, {len(self.unused)}: {listed}.")
        if other_family:
            likely = self.family.split(" or ")[0]
            problems.append(f"Load a {self.expected_family.upper()} checkpoint instead, or say whose it is, such as model={likely!r}.")
        elif self.misshapen:
            problems.append("Use the config and vocab.txt that were released with these weights, or correct the override.")
        if missing and not other_family:
            problems.append("Load a checkpoint that has these weights, ask for fewer outputs, or name them as allowed to be missing.")
        raise CheckpointError(" ".join(problems))


class Binding(Mapping[str, Array]):
    """Our weights out of a checkpoint: `binding[name]` reads and converts one, in C order; `report` tells how it fits.

    The names are those that were wanted and found in the wanted shape.
    """

    def __init__(self, stored: Stored, report: Report, places: Mapping[str, Place], copies: Sequence[Copy]):
        self.report = report
        self._stored, self._places, self._copies = stored, places, copies

    def __getitem__(self, name: str) -> Array:
        sources, op, part = self._places[name]
        for copy, original, checked_with in self._copies:
            if name == checked_with and not np.array_equal(self._stored[copy], self._stored[original]):
                raise CheckpointError(
                    f"{self._stored.path} holds {copy}, which should repeat {original}, with other numbers: its output layer is not tied"
                    " to its embedding. This model ties them and would compute something else; "
                    + ("load the checkpoint without its MLM output." if name.startswith("mlm/") else "it cannot take this checkpoint.")
                )
        return _in_c_order(op.load([self._stored[source] for source in sources])[part])

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


@dataclass(frozen=True)
class Table:
    """The names of one family in one layout.

    `spellings` are (pattern, replacement) pairs that turn other spellings of a stored name into the one in the rows; `copies` are
    tensors stored twice; `ignored` are patterns of names that have no place in the model.
    """

    family: str
    layout: str
    rows: tuple[Row, ...]
    spellings: tuple[tuple[str, str], ...] = ()
    copies: tuple[Copy, ...] = ()
    ignored: tuple[str, ...] = ()

    def bind(self, stored: Stored, wanted: Mapping[str, Sequence[int]], layers: int | Sequence[int]) -> Binding:
        """Find every wanted weight (our name -> shape) in `stored`, without reading it.

        `layers` is the number of layers of the model, or which stored layer each of its blocks takes: `[0, 5, 11]`.
        """
        chosen = range(layers) if isinstance(layers, int) else layers
        names = self._canonical(stored)
        report = Report(recognise(stored), self.family, str(stored.path))
        places: dict[str, Place] = {}
        used: set[str] = set()
        looked_for: dict[str, str] = {}
        for ours, sources, op in self._expanded(chosen):
            if not set(ours) & set(wanted):
                continue
            looked_for |= dict.fromkeys(ours, " + ".join(sources))
            if not all(source in names for source in sources):
                continue
            found = tuple(names[source] for source in sources)
            used.update(found)
            shapes = _shapes(op, [stored.shapes[source] for source in found], len(ours))
            for part, (name, shape) in enumerate(zip(ours, shapes, strict=True)):
                if name not in wanted:
                    continue
                report.matched.append((name, " + ".join(found)))
                if shape == tuple(wanted[name]):
                    places[name] = Place(found, op, part)
                else:
                    report.misshapen.append((name, tuple(wanted[name]), shape))
        matched = {ours for ours, _ in report.matched}
        report.missing = {name: looked_for.get(name, "nothing in this layout") for name in wanted if name not in matched}
        # A count of layers describes the whole checkpoint, so a layer beyond it is a surprise; a choice leaves layers out on purpose.
        surprising = range(layers, 1 << 30) if isinstance(layers, int) else ()
        kinds = {"optimizer": report.optimizer, "ignored": report.ignored, "model": report.ignored, "unknown": report.unused}
        for name in stored:
            if name not in used:
                kinds[self.fate(name, surprising)].append(name)
        doubles = [copy._replace(original=names[copy.original]) for copy in self.copies if copy.stored in stored]
        return Binding(stored, report, places, [double for double in doubles if double.stored != double.original])

    def save(self, ours: Mapping[str, Array]) -> dict[str, Array]:
        """The same rows backwards: what to store for our weights. Raises `CheckpointError` for one that this layout has no place for."""
        layers = {int(number) for name in ours for number in re.findall(r"(?:^|/)block_(\d+)/", name)}
        stored: dict[str, Array] = {}
        saved: set[str] = set()
        for names, targets, op in self._expanded(sorted(layers)):
            if all(name in ours for name in names):
                stored |= zip(targets, op.save([ours[name] for name in names]), strict=True)
                saved.update(names)
        if lost := [name for name in ours if name not in saved]:
            raise CheckpointError(
                f"The {self.layout} layout of {self.family.upper()} has no place for {', '.join(lost)}, so saving would lose"
                " them. Save with format='keras', or leave these weights out."
            )
        return stored

    def fate(self, name: str, surprising_layers: Collection[int] = ()) -> str:
        """What becomes of a stored tensor: "model", "ignored", "optimizer" or "unknown"."""
        if re.search(OPTIMIZER, name):
            return "optimizer"
        if any(re.search(pattern, name) for pattern in self.ignored) or any(name == copy.stored for copy in self.copies):
            return "ignored"
        canonical = self._spell(name)
        for row in self.rows:
            for source in _tuple(row.stored):
                if found := re.fullmatch(re.sub(r"\\\{i(:\d+)?\\\}", r"(\\d+)", re.escape(source)), canonical):
                    return "unknown" if any(int(number) in surprising_layers for number in found.groups()) else "model"
        return "unknown"

    def _canonical(self, stored: Iterable[str]) -> dict[str, str]:
        """The name in the rows -> the name in the checkpoint; an exact name wins over other spellings, and those over copies."""
        names = list(stored)
        found = {copy.original: copy.stored for copy in self.copies if copy.stored in names}
        return found | {self._spell(name): name for name in names} | {name: name for name in names}

    def _spell(self, name: str) -> str:
        for pattern, replacement in self.spellings:
            name = re.sub(pattern, replacement, name)
        return name

    def _expanded(self, layers: Sequence[int]) -> Iterator[tuple[list[str], list[str], Op]]:
        """Every row for every layer: our block 0 is stored layer `layers[0]`, and so on."""
        for row in self.rows:
            ours, stored = _tuple(row.ours), _tuple(row.stored)
            numbers = enumerate(layers) if "{i}" in ours[0] else [(0, 0)]
            for block, layer in numbers:
                yield [name.format(i=block) for name in ours], [name.format(i=layer) for name in stored], row.op


def _tuple(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def _shapes(op: Op, specs: Sequence[Spec], parts: int) -> list[tuple[int, ...]]:
    """The shapes that `op` would make, found with arrays that take no memory; the stored shapes when they do not even fit the op."""
    try:
        return [array.shape for array in op.load([np.broadcast_to(np.empty((), np.bool_), spec.shape) for spec in specs])]
    except ValueError:
        return [specs[0].shape] * parts


def _in_c_order(array: Array) -> Array:
    """The array in C order. A transposed matrix is copied in strips that fit the processor's cache: a third of NumPy's own time."""
    if array.flags.c_contiguous or array.ndim != 2:
        return np.asarray(array, order="C")
    ordered = np.empty(array.shape, array.dtype)
    for start in range(0, array.shape[1], 64):
        ordered[:, start : start + 64] = array[:, start : start + 64]
    return ordered


def _by_block(ours: Iterable[str]) -> list[tuple[str, str]]:
    """Names that differ only in the number of their block, written as one; with each, the first of its names."""
    groups: dict[str, list[str]] = {}
    for name in ours:
        groups.setdefault(re.sub(r"(^|/)block_\d+/", r"\1block_{i}/", name), []).append(name)
    lines = []
    for pattern, names in groups.items():
        numbers = ", ".join(re.findall(r"(?:^|/)block_(\d+)/", "\n".join(names), re.MULTILINE))
        lines.append((f"{pattern} with i = {numbers}" if len(names) > 1 else names[0], names[0]))
    return lines


def _misfit(ours: str, expected: tuple[int, ...], found: tuple[int, ...]) -> str:
    """One sentence on a shape that does not fit."""
    axis = BY_TOKEN.get(ours)
    if axis is not None and len(expected) == len(found) and expected[:axis] + expected[axis + 1 :] == found[:axis] + found[axis + 1 :]:
        model = f"the model (vocab_size, vocab.txt) has {expected[axis]:,}"
        return f"The vocabulary sizes differ: {ours} has {found[axis]:,} rows in the checkpoint, and {model}."
    return f"{ours} has shape {found} in the checkpoint, and the model expects {expected}."


# Our weights with numbers for each token of the vocabulary, and the axis along which it lies.
BY_TOKEN = {"embeddings/token/embeddings": 0, "mlm/bias": 0, "logits/kernel": 1, "logits/bias": 0}
