"""Fine-tune a classifier: the model is a Keras layer like any other, and compile and fit are Keras' own."""

import keras
import numpy as np

import bert4k

keras.utils.set_random_seed(0)
texts = ["春草又生", "桃花开满树", "燕子归来早", "柳絮满城飞", "细雨湿杏花", "新芽绿小园"]
texts += ["雪压老松枝", "寒冰封野渡", "北风吹白雪", "炉火夜围坐", "霜重瓦沟白", "梅在雪中开"]
labels = np.array([0] * 6 + [1] * 6)  # 0: spring, 1: winter

model, tokenizer = bert4k.load("wenbai", outputs=("sequence",), layers=[0, 1])  # the lower half is enough here
batch = tokenizer(texts)

inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in batch}
x = keras.layers.GlobalAveragePooling1D()(model(inputs))  # [B, L, H] -> [B, H]
classifier = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
classifier.compile(keras.optimizers.AdamW(3e-4), "sparse_categorical_crossentropy", metrics=["accuracy"])
history = classifier.fit(batch, labels, batch_size=6, epochs=8, verbose=0)
print(f"loss {history.history['loss'][0]:.2f} -> {history.history['loss'][-1]:.2f}, accuracy {history.history['accuracy'][-1]:.0%}")

for text, probability in zip(("杏花春雨", "大雪满山"), classifier.predict(tokenizer(["杏花春雨", "大雪满山"]), verbose=0), strict=True):
    print(text, f"spring {probability[0]:.0%}, winter {probability[1]:.0%}")
