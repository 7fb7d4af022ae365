"""Answer the first half of a couplet: under the mask "seq2seq", the source sees itself, the answer sees both; a marker tells the job."""

import bert4k

model, tokenizer = bert4k.load("wenbai", mask="seq2seq", outputs=("mlm",))
firsts = ["书香满屋春常在", "风送钟声过远山", "一池清水"]
sampler = bert4k.beam(4, length_penalty=1.0, n_best=2)

# Sources of different lengths go through in one batch; each is answered as it would be alone. A second line repeats no character, neither
# of the first nor of its own.
rules = [bert4k.constraints.without([*first]) for first in firsts]
sources = ["[COUPLET]" + first for first in firsts]
answers = bert4k.generate(model, tokenizer, sources, sampler, constraints=rules, max_tokens=16, no_repeat_ngram=1)
for first, answer in zip(firsts, answers, strict=True):
    print(f"{first}    {answer.text} ({answer.score:.2f})    {answer.alternatives[0].text} ({answer.alternatives[0].score:.2f})")
