"""Continue a text: under the mask "lm", every token sees itself and those before it."""

import bert4k

model, tokenizer = bert4k.load("wenbai", mask="lm", outputs=("mlm",))
opening = "竹外小桥横，"

# The same seed writes the same text, alone or in a batch, on every backend.
sampler = bert4k.sample(temperature=0.8, top_k=20, seed=7, count=3)
[best] = bert4k.generate(model, tokenizer, [opening], sampler, max_tokens=24, no_repeat_ngram=3)
for written in (best, *best.alternatives):
    print(f"{opening}{written.text}    {written.score:.1f}")

# Greedy decoding knows one text only, and says how sure it was of every token.
[sure] = bert4k.generate(model, tokenizer, [opening], bert4k.greedy(), max_tokens=12)
for token, log_prob in zip(sure.token_ids, sure.log_probs, strict=False):
    print(tokenizer.id_to_token(token), f"{log_prob:.2f}", end="  ")
print()
