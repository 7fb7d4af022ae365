"""Fill blanks: under the mask "encoder", every token sees the whole line."""

import bert4k

model, tokenizer = bert4k.load("wenbai", mask="encoder", outputs=("mlm",))

for line in ("窗外[MASK]声细细来", "小舟载[MASK]过前[MASK]"):
    print(line)
    for candidates in bert4k.fill(model, tokenizer, line, top_k=4):  # one list a blank, the best first
        print("   ", "  ".join(f"{token} {probability:.1%}" for token, probability in candidates))
