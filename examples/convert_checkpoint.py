"""Convert a checkpoint: google, huggingface and keras hold the same numbers, bit for bit.

    python examples/convert_checkpoint.py [NEW FOLDER]

`bert4k convert SOURCE FOLDER --to huggingface` does the same from the command line.
"""

import sys
from pathlib import Path

import numpy as np

import bert4k

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "out/converted")

# What a checkpoint holds is known without loading it.
found = bert4k.inspect("wenbai")
print(f"{found.summary.layout}: {len(found.summary.tensors)} tensors, {found.summary.parameters:,} parameters, {found.vocabulary:,} tokens")

model, tokenizer = bert4k.load("wenbai", outputs=("mlm",))
print("written:", ", ".join(sorted(path.name for path in bert4k.save(model, tokenizer, folder, format="huggingface").iterdir())))

again, _ = bert4k.load(folder, outputs=("mlm",))
values = again.weight_values()
assert all(np.array_equal(value, values[name]) for name, value in model.weight_values().items())
print(f"{len(values)} weights read back, every bit the same")
