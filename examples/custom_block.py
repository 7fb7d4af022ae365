"""Change the model by overriding a hook: an adapter behind every block (Houlsby et al. 2019, arXiv:1902.00751).

The hooks run in training and in cached decoding alike, so the changed model also generates, streams and saves.
"""

import math

import keras

import bert4k


@keras.saving.register_keras_serializable("examples")
class Adapted(bert4k.Transformer):
    """A Transformer with a narrow detour behind every block, which starts as doing nothing."""

    def make_parts(self, dtype):
        parts = super().make_parts(dtype)
        for index in range(self.config.num_hidden_layers):
            parts[f"block_{index}/down"] = keras.layers.Dense(16, activation="gelu", dtype=dtype)
            parts[f"block_{index}/up"] = keras.layers.Dense(self.config.hidden_size, kernel_initializer="zeros", dtype=dtype)
        return parts

    def block(self, index, x, attend):
        x = super().block(index, x, attend)
        return x + self.parts[f"block_{index}/up"](self.parts[f"block_{index}/down"](x))


# The checkpoint has no adapters, so they have to be named: no other weight may start at random.
new = [f"block_{index}/{part}" for index in range(4) for part in ("down", "up")]
model, tokenizer = bert4k.load("wenbai", mask="lm", outputs=("mlm",), model=Adapted, allow_missing=new)

for name, part in model.parts.items():  # train the adapters, and nothing else
    part.trainable = name in new
print(f"{sum(math.prod(weight.shape) for weight in model.trainable_weights):,} of {model.count_params():,} weights are trained")
[written] = bert4k.generate(model, tokenizer, ["竹外小桥横，"], max_tokens=12)
print(written.text)
