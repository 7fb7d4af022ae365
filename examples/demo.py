"""What one file of weights does under three masks: `make demo`, or `python examples/demo.py [FOLDER FOR THE PICTURES]`."""

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
    print(f"{what:61} {time.perf_counter() - started:5.2f} s\n")
    started = time.perf_counter()


model, tokenizer = bert4k.load("poem", mask="encoder", outputs=("mlm",))
language_model, seq2seq = model.with_mask("lm"), model.with_mask("seq2seq")
done(f"loaded 'poem': {model.count_params():,} weights, shared by three machines")

for name, texts in {"encoder": ["明月照高楼"], "lm": ["明月照高楼"], "seq2seq": ["明月照高楼", "清风入小园"]}.items():
    tokens, segments = pictures.tokens_of(texts)
    mask = masks.get(name)
    pictures.save_picture(pictures.mask_matrix(mask, segments), tokens, folder / f"{name}.png", masks.title(mask), segments)
    print(f"  {folder / name}.png  {masks.title(mask)}")
done("drew the three masks")

blank = "春风又[MASK]江南岸"
for candidates in bert4k.fill(model, tokenizer, blank, top_k=5):
    print(f"  {blank}  " + "  ".join(f"{token} {probability:.0%}" for token, probability in candidates))
done("encoder: filled a blank")

opening = "空山新雨后，"
written = bert4k.generate(language_model, tokenizer, [opening], bert4k.sample(temperature=0.8, top_k=20, seed=1), max_tokens=42)
print(f"  {opening}{written[0]}")
done("lm: continued a line")

firsts = ["明月松间照", "白日依山尽", "两个黄鹂鸣翠柳"]
for first, second in zip(
    firsts, bert4k.generate(seq2seq, tokenizer, firsts, bert4k.beam(4), max_tokens=12, no_repeat_ngram=1), strict=True
):
    print(f"  {first}  ->  {second}   (log-probability {second.score:.1f})")
done("seq2seq: answered three first lines, beam search of width 4")

bert4k.generate(seq2seq, tokenizer, firsts, bert4k.beam(4), max_tokens=12, no_repeat_ngram=1)
done("the same again, now that it is compiled")
