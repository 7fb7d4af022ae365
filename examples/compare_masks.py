"""One file of weights, many machines: what a token may see is an expression."""

import keras
import numpy as np

import bert4k
from bert4k import masks, pictures

# Composed of the parts that the named masks are made of: the source sees all of itself, and the target sees all of
# the source but only the last two of its own tokens.
near = masks.source | masks.causal & masks.window(2)
print("seq2seq is", masks.seq2seq)
print("ours is   ", near)

tokens, segments = pictures.tokens_of(["清风", "明月入怀"])
print(pictures.text_picture(pictures.mask_matrix(near, segments), tokens))

encoder, tokenizer = bert4k.load("wenbai")
batch = tokenizer([("清风", "明月入怀")])
machines = {"encoder": "encoder", "lm": "lm", "seq2seq": "seq2seq", "ours": near}
seen = {name: keras.ops.convert_to_numpy(encoder.with_mask(mask)(batch)) for name, mask in machines.items()}
for name, sequence in seen.items():  # the same where a token, and all that it looks at, see the same
    apart = np.abs(sequence - seen["seq2seq"]).max(axis=(0, 2))
    print(f"{name:8} away from seq2seq: {' '.join(f'{distance:.1f}' for distance in apart)}")
