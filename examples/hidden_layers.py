"""Look inside: the model is a functional Keras model, so every layer's output is a place to attach to."""

import keras
import numpy as np

import bert4k

model, tokenizer = bert4k.load("wenbai")
blocks = [model.get_layer(f"block_{index}_feed_forward_norm").output for index in range(model.config.num_hidden_layers)]
inside = keras.Model(model.input, blocks)

batch = tokenizer(["落日照孤城"])
# A plain keras.Model wants every input, the optional ones as None; `complete` adds those.
for index, hidden in enumerate(inside(model.complete(batch))):  # each [B, L, H]
    vectors = keras.ops.convert_to_numpy(hidden)[0]
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    print(f"block {index}: mean cosine similarity of its tokens {(vectors @ vectors.T).mean():.2f}")
