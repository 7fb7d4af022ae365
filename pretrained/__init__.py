"""Name tables of the checkpoint layouts in use, one file each, the catalogue of public checkpoints, and those that come with bert4k."""

import json
from pathlib import Path
from typing import Any

from bert4k.checkpoints.tables import Table
from bert4k.errors import CheckpointError
from bert4k.families import checked
from bert4k.pretrained import (
    google_albert,
    google_bert,
    google_electra,
    google_gau,
    google_gpt,
    google_t5,
    huggingface_albert,
    huggingface_bart,
    huggingface_bert,
    huggingface_deberta,
    huggingface_electra,
    huggingface_gpt,
    huggingface_modernbert,
    huggingface_roberta,
    huggingface_t5,
)

_FILES = (
    google_bert,
    google_albert,
    google_electra,
    google_gau,
    google_gpt,
    google_t5,
    huggingface_bert,
    huggingface_albert,
    huggingface_electra,
    huggingface_gpt,
    huggingface_roberta,
    huggingface_t5,
    huggingface_bart,
    huggingface_deberta,
    huggingface_modernbert,
)
# (family, layout) -> its table.
TABLES: dict[tuple[str, str], Table] = {(table.family, table.layout): table for file in _FILES for table in file.TABLES}
# Layout -> the table of BERT in it.
BERT: dict[str, Table] = {layout: table for (family, layout), table in TABLES.items() if family == "bert"}

_HERE = Path(__file__).parent


def catalogue() -> dict[str, dict[str, Any]]:
    """The public checkpoints by name, as `catalogue.json` lists them.

    Of each: name, family, title, layers, hidden_size and vocabulary (tokens); tensors and parameters (different weights with all
    heads that were released; tied copies and what an optimizer stored do not count); licence and paper; source, the publisher's page, and
    mirror, another address for people; huggingface, a repository of the hub, or archive, the address of a zip or tar archive with its
    sha256: what `bert4k download` fetches; files, each with name, megabytes (10**6 bytes, as published, rounded) and sha256; facts, where
    all of this is from. What the sources do not tell is None.
    """
    return {row["name"]: row for row in json.loads((_HERE / "catalogue.json").read_text(encoding="utf-8"))}


def folder_of(name: str) -> Path:
    """Where a checkpoint of the catalogue stands, if it comes with bert4k."""
    return _HERE / name


def table_of(family: str, layout: str) -> Table:
    """The table of a family in a layout. Raises `CheckpointError` when it was never released so."""
    title = checked(family).title
    if (family, layout) not in TABLES:
        layouts = [other for name, other in TABLES if name == family]
        raise CheckpointError(
            f"{title} has no {layout} layout: its tensors have names in {' and '.join(layouts) or 'none'} only."
            f" Use format={(layouts or ['keras'])[0]!r}, or 'keras'."
        )
    return TABLES[family, layout]
