"""Answer the first half of a couplet: under the mask "seq2seq", the source sees itself, the answer sees both."""

import bert4k

model, tokenizer = bert4k.load("poem", mask="seq2seq", outputs=("mlm",))
firsts = ["书香满屋春常在", "风送钟声过远山", "一池清水"]

# Sources of different lengths go through in one batch; each is answered as it would be alone.
for first, answer in zip(
    firsts,
    bert4k.generate(model, tokenizer, firsts, bert4k.beam(4, length_penalty=1.0, n_best=2), max_tokens=16),
    strict=True,
):
    print(f"{first}    {answer.text} ({answer.score:.2f})    {answer.alternatives[0].text} ({answer.alternatives[0].score:.2f})")
