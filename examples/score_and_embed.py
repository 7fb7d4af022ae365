"""What a model knows of given texts: how likely they are, and which of them are alike."""

import numpy as np

import bert4k

model, tokenizer = bert4k.load("wenbai", mask="lm", outputs=("mlm",))
lines = ["夜深山月白", "白月山深夜", "电脑没有电"]

# Log-probabilities: from left to right under "lm", of a target under "seq2seq", and with each token hidden in turn
# under "encoder" (the pseudo-log-likelihood).
for name, texts in {"lm": lines, "encoder": lines, "seq2seq": [("江上数峰青", line) for line in lines]}.items():
    values = bert4k.score(model.with_mask(name), tokenizer, texts)
    print(f"{name:8}", "  ".join(f"{line} {value:.1f}" for line, value in zip(lines, values, strict=True)))

texts = ["秋风吹落叶", "西风扫枯叶", "三月看花开"]
vectors = bert4k.embed(model.with_mask("encoder"), tokenizer, texts, pooling="mean")  # float32 [texts, hidden]
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
print(np.round(vectors @ vectors.T, 2))
