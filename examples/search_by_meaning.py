"""Search by meaning: a text becomes a vector, SimCSE pulls paraphrases together, and the nearest texts are found."""

import keras
import numpy as np

import bert4k
from bert4k.losses import SimCSE
from bert4k.nearest import nearest, unit
from bert4k.structured import Pooling
from bert4k.training import Grouped

keras.utils.set_random_seed(0)
asked = ["书读完了怎么还", "一次能借几本书", "周末开不开门", "借书证丢了怎么办"]
asked += ["书弄脏了要赔吗", "可以带猫进来吗", "哪里能喝水", "想续借一本书"]
known = ["归还图书的办法", "最多可借册数", "星期六和星期日的开放时间", "补办证件"]
known += ["损坏图书的处理", "宠物不得入内", "饮水处在二楼", "延长借期"]

model, tokenizer = bert4k.load("wenbai", layers=[0, 1], hidden_dropout_prob=0.1)  # the lower half is enough here
inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "segment_ids")}
encoder = keras.Model(inputs, Pooling("mean")(model(inputs), keras.ops.not_equal(inputs["token_ids"], tokenizer.pad_id)))


def tell(when: str) -> None:
    """How many questions have their own answer nearest to them."""
    vectors = [unit(encoder.predict(tokenizer(texts), verbose=0)) for texts in (asked, known)]  # float32 [texts, hidden]
    numbers, _ = nearest(*vectors, count=1)
    print(f"{when}: {np.mean(numbers[:, 0] == np.arange(len(asked))):.0%} of the questions find their answer")


tell("as pretrained")
pairs = {name: ids.reshape(2, len(asked), -1).swapaxes(0, 1) for name, ids in tokenizer([*asked, *known]).items()}  # [N, 2, L]
learner = Grouped(encoder)  # the same weights, on pairs of texts
learner.compile(keras.optimizers.AdamW(3e-4), SimCSE())
learner.fit(pairs, np.arange(len(asked)), batch_size=len(asked), epochs=12, verbose=0)
tell("fine-tuned on them")

texts = ["书还没看完，能不能多借几天", "口渴了"]
vectors = unit(encoder.predict(tokenizer([*texts, *known]), verbose=0))
for text, numbers, cosines in zip(texts, *nearest(vectors[:2], vectors[2:], count=2), strict=True):
    print(text, " ".join(f"{known[number]} {cosine:.2f}" for number, cosine in zip(numbers, cosines, strict=True)))
