"""What one file of weights does, by its mask and a marker alone: `make demo`, or `python examples/demo.py [FOLDER FOR THE PICTURES]`."""

import sys
import time
from pathlib import Path

from bert4k.quiet import import_backend

import_backend()

import bert4k  # noqa: E402
from bert4k import masks, pictures  # noqa: E402

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "out/demo")
folder.mkdir(parents=True, exist_ok=True)
started = time.perf_counter()


def done(what: str) -> None:
    """Say what was done and how long it took."""
    global started
    print(f"{what:68} {time.perf_counter() - started:5.2f} s\n")
    started = time.perf_counter()


model, tokenizer = bert4k.load("wenbai", mask="encoder", outputs=("mlm",))
lm, seq2seq = model.with_mask("lm"), model.with_mask("seq2seq")
done(f"loaded 'wenbai': {model.count_params():,} weights, shared by three machines")

for name, texts in {"encoder": ["学而时习之"], "lm": ["学而时习之"], "seq2seq": ["[TRANSLATE]学而时习之", "学习并时常温习"]}.items():
    tokens, segments = pictures.tokens_of(texts)
    mask = masks.get(name)
    pictures.save_picture(pictures.mask_matrix(mask, segments), tokens, folder / f"{name}.png", masks.title(mask), segments)
    print(f"  {folder / name}.png  {masks.title(mask)}")
done("drew the three masks")

for blank in ("公民有依法纳税的[MASK]务。", "首先，我们需要安装这个软[MASK]。", "皇帝下[MASK]说"):
    for candidates in bert4k.fill(model, tokenizer, blank, top_k=5):
        print(f"  {blank}  " + "  ".join(f"{token} {probability:.0%}" for token, probability in candidates))
done("encoder: filled blanks")

opening, sampler = "在 Linux 系统中，", bert4k.sample(temperature=0.7, top_k=20, seed=1)
print(f"  {opening}{bert4k.generate(lm, tokenizer, [opening], sampler, max_tokens=32, no_repeat_ngram=3)[0]}")
done("lm: continued a text")


def answer(marker: str, *sources: str, rules: list[bert4k.constraints.Constraint] | None = None, ngram: int = 3) -> None:
    """The marker, which stands at the beginning of each source, tells which job is meant; the mask is the same."""
    rows, beam = [marker + source for source in sources], bert4k.beam(4)
    answers = bert4k.generate(seq2seq, tokenizer, rows, beam, constraints=rules, max_tokens=32, no_repeat_ngram=ngram)
    print(*(f"  {marker} {source}  ->  {text}" for source, text in zip(sources, answers, strict=True)), sep="\n")


answer("[TRANSLATE]", "太祖大喜，赐金百两。", "帝闻之，大怒，遂命诸将击之。", "是岁，大旱，民多饿死。")
answer("[TITLE]", "本文介绍如何在 Ubuntu 系统上安装和配置 Docker。首先更新软件包列表，然后安装所需的依赖，最后启动服务并检查它的状态。")
done("seq2seq: translated classical Chinese, titled")
firsts = ("明月松间照", "窗含西岭千秋雪")
for what in ("answered first lines without a character twice", "the same, now that it is compiled"):
    answer("[COUPLET]", *firsts, rules=[bert4k.constraints.without([*first]) for first in firsts], ngram=1)
    done(f"seq2seq: {what}")
