"""`bert4k list`, `download`, `inspect`, `verify` and `convert`: what is done with checkpoints."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import bert4k
from bert4k.commands.common import print_json
from bert4k.commands.declared import Namespace, argument, command
from bert4k.errors import CheckpointError, ConfigError, did_you_mean
from bert4k.quiet import import_backend


@command(
    argument("model", help="folder or prefix of a checkpoint, an .index file, or a name that `bert4k list` shows"),
    argument("--family", help="whose checkpoint it is, where config and tensor names do not tell"),
    argument("--all", action="store_true", help="list every tensor and its fate"),
    argument("--json", action="store_true", help="one JSON object"),
)
def inspect(options: Namespace) -> None:
    """What a checkpoint holds, without loading it."""
    import_backend(light=True)
    found = bert4k.inspect(options.model, options.family)
    summary, report = found.summary, found.report
    if options.json:
        tensors = [{"name": t.name, "shape": t.shape, "dtype": str(t.dtype), "fate": t.fate} for t in summary.tensors]
        fits = report and {name: getattr(report, name) for name in ("matched", "missing", "misshapen", "unused", "optimizer", "ignored")}
        about = {name: getattr(summary, name) for name in ("path", "layout", "family", "layers", "parameters", "nbytes")}
        config = found.config and found.config.to_dict()
        print_json(
            {**about, "vocabulary": found.vocabulary, "config": config, "report": fits, "problem": found.problem, "tensors": tensors}
        )
        return
    layers = f", {summary.layers} layers" if summary.layers else ""
    print(f"{summary.path}\n{summary.layout} layout, family {summary.family}{layers}")
    print(f"{len(summary.tensors)} tensors, {summary.parameters:,} parameters, {summary.nbytes / 2**20:.1f} MiB")
    if found.config:
        told = ", ".join(f"{name}={value}" for name, value in found.config.own().items())
        print(textwrap.fill(f"config: {told}; the rest follows from the family (--json has it)", 100, subsequent_indent="  "))
    if found.vocabulary is not None:
        print(f"vocabulary: {found.vocabulary:,} tokens")
    if report:
        kinds = ("matched", "missing", "misshapen", "unused", "optimizer", "ignored")
        print("as a model with every output: " + ", ".join(f"{len(getattr(report, kind))} {kind}" for kind in kinds))
        for ours, stored in report.missing.items():
            print(f"  missing    {ours} (looked for {stored})")
        for ours, expected, shape in report.misshapen:
            print(f"  misshapen  {ours}: {shape} in the checkpoint, {expected} in the model")
        for name in report.unused:
            print(f"  unused     {name}")
    if found.problem:
        print(f"not loadable by this version: {found.problem}")
    if options.all:
        for tensor in summary.tensors:
            print(f"  {tensor.fate:9}  {tensor.dtype!s:8}  {'x'.join(map(str, tensor.shape)) or 'scalar':>12}  {tensor.name}")


@command(
    argument("model", nargs="?", help="folder or prefix of a checkpoint, or a name that `bert4k list` shows"),
    argument("--all", action="store_true", help="models with random weights, of the size of a base model; prints a Markdown table"),
    argument("--against", default="huggingface", choices=["huggingface"], help="whose computation is compared with"),
    argument("--backends", default="tensorflow,jax,torch", help="of --all, with commas"),
    argument("--no-gradients", action="store_true", help="outputs and hidden states only"),
    argument("--json", action="store_true", help="one JSON object a comparison"),
)
def verify(options: Namespace) -> None:
    """Compare with transformers on PyTorch: a checkpoint, layer by layer, or every family on every backend."""
    if options.all == bool(options.model):
        raise ConfigError("Say what to verify: the folder or name of a checkpoint, or --all for every family with random weights.")
    import_backend(light=options.all)  # of all, each comparison has a process of its own
    from bert4k import fidelity

    gradients = not options.no_gradients
    backends = [backend.strip() for backend in options.backends.split(",")]
    found = fidelity.compare_all(backends) if options.all else [fidelity.compare(options.model, gradients)]
    if options.json:
        for each in found:
            print_json(each.to_dict())
    elif options.all:
        print(fidelity.table(found))
    else:
        print(fidelity.report(found[0]))
    if wrong := [(each, first) for each in found if (first := each.departs())]:
        each, first = wrong[0]
        raise CheckpointError(
            f"{each.family} on {each.backend} departs from transformers, first at {first.name}: by {first.difference:.1e} of"
            f" {first.size:.3g}, where rounding explains {fidelity.OUTPUT_TOLERANCE:.0e} ({fidelity.GRADIENT_TOLERANCE:.0e} of a gradient)."
        )


@command(
    argument("source", help="folder of a checkpoint, .keras file, or a name that `bert4k list` shows"),
    argument("folder", type=Path, help="new folder to write"),
    argument("--to", required=True, choices=("google", "huggingface", "keras"), help="format to write"),
)
def convert(options: Namespace) -> None:
    """Write a checkpoint in another format."""
    import_backend()
    from bert4k import hub

    path = hub.locate(options.source)
    hub.check_target(options.folder)
    model, tokenizer = hub.load_all(path)
    bert4k.save(model, tokenizer, options.folder, options.to)
    print(f"wrote {len(model.weight_names())} weights in the {options.to} layout to {options.folder}", file=sys.stderr)


@command(
    argument("--family", metavar="NAME", help="only those of a family: bert, albert, electra ..."),
    argument("--json", action="store_true", help="one JSON object a line, with all that is known of a checkpoint"),
)
def list_(options: Namespace) -> None:
    """Checkpoints that can be loaded by name, and whether they are on this machine."""
    from bert4k.download import local_copy
    from bert4k.pretrained import catalogue

    rows = list(catalogue().values())
    families = {row["family"] for row in rows}
    if options.family is not None:
        if options.family not in families:
            raise ConfigError(f"There is no family {options.family!r} in the catalogue.{did_you_mean(options.family, families)}")
        rows = [row for row in rows if row["family"] == options.family]
    if options.json:
        for row in rows:
            folder = local_copy(row["name"])
            print_json(row | {"folder": str(folder) if folder else None})
        return
    table = [("name", "family", "layers", "parameters", "megabytes", "licence", "here", "")]
    for row in rows:
        megabytes = sum(file["megabytes"] or 0 for file in row["files"])
        layers = f"{row['layers']} x {row['hidden_size'] or '?'}" if row["layers"] else "?"
        parameters = f"{row['parameters']:,}" if row["parameters"] else "?"
        size, here = f"{megabytes:,.0f}" if megabytes else "?", "yes" if local_copy(row["name"]) else "no"
        table.append((row["name"], row["family"], layers, parameters, size, row["licence"] or "not stated", here, row["title"]))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        print(
            "  ".join(
                cell.rjust(width) if 1 < at < 5 else cell.ljust(width) for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ).rstrip()
        )


@command(
    argument("names", nargs="+", metavar="NAME", help="a name that `bert4k list` shows"),
    argument("--folder", type=Path, help="put it into this new folder (without it: into $BERT4K_HOME, ~/.cache/bert4k)"),
)
def download(options: Namespace) -> None:
    """Fetch checkpoints by name; what was interrupted goes on. Hugging Face's come from $HF_ENDPOINT."""
    from bert4k import download as downloads

    if options.folder is not None and len(options.names) > 1:
        raise ConfigError(f"--folder takes one checkpoint, and {len(options.names)} were named. Fetch them one after another.")
    for name in options.names:
        print(downloads.download(name, options.folder))
