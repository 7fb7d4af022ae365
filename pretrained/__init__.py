"""Name tables of the checkpoint layouts in use, one file each, and the checkpoints that come with bert4k."""

import json
from pathlib import Path
from typing import Any

from bert4k.checkpoints.tables import Table
from bert4k.pretrained import google_bert, huggingface_bert

# Layout -> the table of BERT in it.
BERT: dict[str, Table] = {table.layout: table for table in (google_bert.TABLE, huggingface_bert.TABLE)}

_HERE = Path(__file__).parent


def catalogue() -> dict[str, dict[str, Any]]:
    """The checkpoints that `bert4k.load` knows by name, as `catalogue.json` lists them."""
    return {row["name"]: row for row in json.loads((_HERE / "catalogue.json").read_text(encoding="utf-8"))}


def folder_of(name: str) -> Path:
    """Where a checkpoint of the catalogue stands."""
    return _HERE / name
