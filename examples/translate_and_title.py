"""One model, several jobs: a marker at the beginning of the source tells which, the mask "seq2seq" is the same for all."""

import bert4k

model, tokenizer = bert4k.load("wenbai", mask="seq2seq", outputs=("mlm",))

sources = [
    "[TRANSLATE]是岁，天下大水，民多流亡。",
    "[TRANSLATE]帝闻之，大怒，遂命诸将击之。",
    "[TITLE]本文介绍怎样在命令行中查找文件：先用名字找，再用大小和日期找，最后把找到的文件交给别的命令。",
    "[COUPLET]书香满屋春常在",
]
answers = bert4k.generate(model, tokenizer, sources, bert4k.beam(4), max_tokens=40, no_repeat_ngram=3)
for source, answer in zip(sources, answers, strict=True):
    print(f"{source}\n    {answer.text} ({answer.score:.1f})")
