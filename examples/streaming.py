"""Stream a text: each piece is printed as soon as its token is chosen. Stop iterating, and the model stops writing."""

import bert4k

model, tokenizer = bert4k.load("wenbai", mask="lm", outputs=("mlm",))
opening = "客舍灯初上，"

print(opening, end="", flush=True)
lines = 0
for piece in bert4k.stream(model, tokenizer, opening, bert4k.sample(top_p=0.9, seed=3), max_tokens=60):
    print(piece, end="", flush=True)
    lines += piece in "，。"
    if lines == 3:
        break
print()
