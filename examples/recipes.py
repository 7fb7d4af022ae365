"""Two recipes from Python: titles learnt from a few pairs, and answers read from [MASK]s; on the command line, `bert4k train NAME ...`."""

import json
from pathlib import Path

from bert4k.tasks import mlm_qa, seq2seq
from bert4k.tuning import Tuning

out = Path("out")
out.mkdir(exist_ok=True)
tuning = Tuning(epochs=2, learning_rate=5e-4, tokens=512)

colours = {"霜叶": "红", "春草": "绿", "晴空": "蓝", "新雪": "白", "稻穗": "黄", "乌云": "黑"}
pairs = out / "pairs.tsv"
pairs.write_text("".join(f"{thing}是什么颜色\t{colour}色\n" for thing, colour in colours.items()) * 4, encoding="utf-8")
lengths = {"longest_source": 20, "longest_target": 4, "decoding": seq2seq.Decoding(beam=1, max_tokens=4)}
settings = seq2seq.Settings(out / "colours", [pairs], pairs, metric="dev_loss", judged=6, shown=1, tuning=tuning, **lengths)
seq2seq.train(settings)
for line in (out / "colours/texts.jsonl").read_text(encoding="utf-8").split("\n")[:4]:
    print("{source} -> {written} ({target})".format(**json.loads(line)))

questions = out / "questions.jsonl"
rows = [
    {"question": f"什么是{colour}色的", "passage": f"山中{thing}，一片{colour}色", "answers": [thing]} for thing, colour in colours.items()
]
questions.write_text("\n".join(json.dumps(row) for row in rows * 4), encoding="utf-8")
asked = mlm_qa.Settings(
    out / "questions", [questions], questions, places=6, extractive=True, longest=64, longest_question=16, tuning=tuning
)
print(f"{mlm_qa.train(asked)['exact']:.0%} answered exactly")
