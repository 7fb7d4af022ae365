"""A recipe from Python: a model learns to answer in one word. On the command line: `bert4k train seq2seq --run ... --train ...`."""

import json
from pathlib import Path

from bert4k.tasks import seq2seq
from bert4k.tuning import Tuning

out = Path("out")
out.mkdir(exist_ok=True)
colours = {"霜叶": "红", "春草": "绿", "晴空": "蓝", "新雪": "白", "稻穗": "黄", "乌云": "黑"}
pairs = out / "pairs.tsv"
pairs.write_text("".join(f"{thing}是什么颜色\t{colour}色\n" for thing, colour in colours.items()) * 4, encoding="utf-8")

settings = seq2seq.Settings(
    run=out / "colours",
    train=[pairs],
    dev=pairs,
    metric="dev_loss",
    judged=4,
    longest_source=20,
    longest_target=4,
    decoding=seq2seq.Decoding(beam=1, max_tokens=4),
    tuning=Tuning(epochs=2, learning_rate=5e-4, tokens=512),
)
seq2seq.train(settings)
for line in (out / "colours/texts.jsonl").read_text(encoding="utf-8").split("\n")[:4]:
    print("{source} -> {written} ({target})".format(**json.loads(line)))
