"""Records what bert4keras computes: outputs and gradients of tiny models, for families that transformers does not have.

Run in an environment of its own, from this folder; bert4keras asks for a Keras that no current TensorFlow takes, so that pip must be told
not to look at what it asks for:

    python -m venv env; env/bin/pip install tensorflow==2.21.* tf_keras; env/bin/pip install --no-deps bert4keras==0.11.5
    TF_KERAS=1 TF_USE_LEGACY_KERAS=1 env/bin/python record.py

Every weight is drawn from its released name alone, so that the same checkpoint can be made again without anything of it being kept.
`bert4keras.json` holds the configs and shapes, `bert4keras.npz` inputs, outputs and gradients.
"""

import json
import zlib

import numpy as np
import tensorflow as tf
from bert4keras.layers import Add, Dropout, GatedAttentionUnit, LayerNormalization
from bert4keras.models import RoFormerV2, build_transformer_model

VOCABULARY, LENGTH, ROWS = 40, 24, 3
TINY = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "max_position_embeddings": 32,
    "type_vocab_size": 2,
    "initializer_range": 0.02,
}
ALBERT = {"embedding_size": 10, "inner_group_num": 1, "num_hidden_groups": 1, "net_structure_type": 0, "hidden_act": "relu"}
UNIT = {"hidden_act": "swish", "attention_key_size": 10, "intermediate_size": 32}


class GAU(RoFormerV2):
    """GAU-alpha as its authors put it together of bert4keras' layers (github.com/ZhuiyiTechnology/GAU-alpha)."""

    def apply_main_layers(self, inputs, index):
        name = f"Transformer-{index}-GatedAttentionUnit"
        mask, places = self.compute_attention_bias(index), self.compute_position_bias(inputs)
        unit = {"units": self.intermediate_size, "key_size": self.attention_key_size, "activation": self.hidden_act, "use_bias": False}
        arguments = {"a_bias": True if mask is not None else None, "p_bias": "rotary"}
        x = [inputs, places] if mask is None else [inputs, mask, places]
        x = self.apply(x, GatedAttentionUnit, arguments, normalization="softmax_plus", name=name, **unit)
        x = self.apply(x, Dropout, rate=self.dropout_rate, name=f"{name}-Dropout")
        x = self.apply([inputs, x], Add, name=f"{name}-Add")
        return self.apply(x, LayerNormalization, zero_mean=False, scale=False, offset=False, name=f"{name}-Norm")

    def variable_mapping(self):
        mapping = {
            "Embedding-Token": ["bert/embeddings/word_embeddings"],
            "Embedding-Segment": ["bert/embeddings/token_type_embeddings"],
        }
        names = ("i_dense/kernel", "q_scaleoffset/gamma", "k_scaleoffset/gamma", "o_dense/kernel")
        for layer in range(self.num_hidden_layers):
            mapping[f"Transformer-{layer}-GatedAttentionUnit"] = [f"GAU_alpha/encoder/layer_{layer}/gau/{name}" for name in names]
        return mapping


# name -> (their model, our family, what the config file says beyond TINY, arguments of bert4keras alone)
MODELS = {
    "bert": ("bert", "bert", {}, {}),
    "bert_hierarchical": ("bert", "bert", {"max_position_embeddings": 8}, {"hierarchical_position": True}),
    "albert": ("albert", "albert", ALBERT, {}),
    "nezha": ("nezha", "nezha", {"use_relative_position": True, "max_relative_position": 64}, {}),
    "roformer": ("roformer", "roformer", {}, {}),
    "roformer_v2": ("roformer_v2", "roformer_v2", {"hidden_act": "relu"}, {}),
    "gau_alpha": (GAU, "gau_alpha", UNIT, {}),
}
MASKS = {"encoder": "encoder", "lm": "lm", "seq2seq": "unilm"}
# GAU-alpha's scale depends on how many tokens there are; bert4keras counts those, too, at which a query may not look.
ONLY = {"gau_alpha": ["encoder"]}


def value(name, shape):
    """The weight of that name in a released checkpoint."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    deviation = 0.2 if len(shape) > 1 else 0.1
    return random.normal(float(name.endswith("gamma")), deviation, shape).astype("float32")


def batch():
    """Rows of different lengths, of two segments."""
    random = np.random.default_rng(0)
    lengths = np.linspace(LENGTH, 5, ROWS).astype(int)[:, None]
    places = np.arange(LENGTH)[None]
    real = places < lengths
    token_ids = random.integers(1, VOCABULARY, (ROWS, LENGTH)) * real
    return token_ids.astype("int32"), ((places * 2 >= lengths) * real).astype("int32"), real


def record(name, mask, arrays, about):
    """Outputs of one model under one mask, and of its gradients the norm and the product with a random direction."""
    theirs, family, config, arguments = MODELS[name]
    config = TINY | config
    made = build_transformer_model(model=theirs, application=MASKS[mask], with_mlm="linear", return_keras_model=False, **config | arguments)
    names = {}
    for layer, stored in made.variable_mapping().items():
        if layer in made.layers:
            for weight, one in zip(made.layers[layer].trainable_weights, stored, strict=True):
                weight.assign(value(one, weight.shape))
                names[weight.ref()] = one
    model, weights = made.model, made.model.trainable_weights
    assert {weight.ref() for weight in weights} == set(names)
    token_ids, segment_ids, real = batch()
    hidden = tf.keras.Model(model.inputs, last_layer(made))
    share = np.random.default_rng(1).standard_normal((ROWS, LENGTH, VOCABULARY)).astype("float32") * real[..., None]
    with tf.GradientTape() as tape:
        mlm = model([token_ids, segment_ids])
        loss = tf.reduce_sum(mlm * share)
    gradients = {names[w.ref()]: tf.convert_to_tensor(g).numpy() for w, g in zip(weights, tape.gradient(loss, weights), strict=True)}
    key = f"{name}/{mask}"
    arrays[f"{key}/sequence"], arrays[f"{key}/mlm"] = hidden([token_ids, segment_ids]).numpy()[real], mlm.numpy()[real]
    about[name] = {"family": family, "config": config, "shapes": {names[w.ref()]: w.shape.as_list() for w in weights}}
    arrays[f"{key}/gradients"] = np.array(
        [(np.linalg.norm(g), np.vdot(g, np.random.default_rng(2).standard_normal(g.shape))) for _, g in sorted(gradients.items())]
    )


def last_layer(made):
    """What the last transformer layer gives: what the MLM output reads, or the last norm where that output is the embedding alone."""
    if "MLM-Dense" in made.layers:
        return made.layers["MLM-Dense"].input
    last = f"Transformer-{made.num_hidden_layers - 1}-"
    return [layer.output for name, layer in made.layers.items() if name.startswith(last) and name.endswith("-Norm")][-1]


def main():
    arrays, about = {}, {}
    for name in MODELS:
        for mask in ONLY.get(name, MASKS):
            print(name, mask, flush=True)
            record(name, mask, arrays, about)
    token_ids, segment_ids, _ = batch()
    np.savez_compressed("bert4keras.npz", token_ids=token_ids, segment_ids=segment_ids, **arrays)
    with open("bert4keras.json", "w", encoding="utf-8") as file:
        json.dump(about, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
