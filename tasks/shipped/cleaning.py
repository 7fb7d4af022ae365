"""How a line of the sources becomes a line of the shipped checkpoint's training text, and which documents may.

What the sources need, as found by looking at them: the parallel corpus and the novel have spaces where quotation marks were lost,
private code points and boxes where a character was, and bullets before the headings of chapters; the articles have left-overs of
Markdown; the laws have half-width brackets, full-width spaces inside headings, and among them some documents that are no laws.
"""

import re
from collections.abc import Iterable, Iterator

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af〇"
CJK = rf"{HAN}\u3000-\u303f\u2018-\u201d\u2026\u2014\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
ANY_HAN = re.compile(f"[{HAN}]")

INVISIBLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufe0f\ufeff]")
SPACE_IN_CHINESE = re.compile(rf"(?<=[{CJK}]) (?=[{CJK}])")
HALF_WIDTH = re.compile(rf"(?<=[{HAN}》”）])([,;:?!])(?: (?=[{HAN}])|(?=[{HAN}《》“”（）]|$))")
HALF_WIDTH_BRACKETS = re.compile(rf"(?<![A-Za-z0-9_\\])\(([{HAN}《“][^()（）]*)\)|（([^()（）]*)\)|\(([^()（）]*)）")
FULL_WIDTH = str.maketrans(",;:?!", "，；：？！")
LOOKALIKES = str.maketrans({"∶": "：", "﹕": "：", "﹑": "、", "﹐": "，", "•": "·", "―": "—"})
DASHES = re.compile(rf"(?<=[{CJK}])-{{2,}} ?")
# What opens a line but cannot, and what repeats the mark before it.
STRAY_MARKS = re.compile(r"^[，。、；：？！》”’）」』]+|(?<=([，。、；：]))\1+")

# A character that the source's encoding did not have: a box, a circle, a private code point. What is left of the sentence misleads.
GAP = re.compile("[□■○●◎\ufffd\ue000-\uf8ff\U000f0000-\U0010ffff]")
# In laws and articles a circle is a digit or a sign.
ENCODING_GAP = re.compile("[\ufffd\ue000-\uf8ff]")
BULLET = re.compile(r"^[◆◇○●◎▲△■□•·*＊#>]+\s*|^[-–]\s+")
LABEL = re.compile("^(?:原文|译文)[:：]?")
EMPHASIS = re.compile(rf"(?<![*A-Za-z0-9_])([*_])(?=\S)([^*_\n]+?)(?<=\S)\1(?![*A-Za-z0-9])|(?<=[{CJK}])[*_]$|\s*#+$")
CREDIT = re.compile(
    r"^[（(]?\s*(?:via|作者简介|作者|译者简介|译者|校对|选题|编译|原文作者|原文链接|原文|译文|图片来源|题图|来源)\s*[:：]", re.I
)

VERSE_MARKS = "，。、？！；：「」《》“”"
VERSE_GAP = re.compile("[□○●\ufffd]")
NOTE = re.compile(r"[（(\[［〖〔{][^）)\]］〗〕}]*[）)\]］〗〕}]")
NOT_VERSE = re.compile(rf"[^\u3400-\u9fff\U00020000-\U000323af{VERSE_MARKS}]")

NOT_TEXT = re.compile(rf"[^{HAN}A-Za-z0-9]+")
ARTICLE_NUMBER = re.compile("^第[零〇一二三四五六七八九十百千]+条(?:之[一二三四五六七八九十]+)?")
CLAUSE_END = re.compile(rf"[^{HAN}]+")
SENTENCE = re.compile(r"[^。！？!?]*[。！？!?]+[”’）」』]*|[^。！？!?]+$")

NORM = re.compile(
    "(?:条例|办法|规定|法|法典|决定|解释|解答|规则|批复|意见|通知|命令|细则|决议|章程|守则|标准|规范|规程|答复|复函|公告|纪要|方案|安排"
    "|声明|公约|序列|目录|名录|说明|宪法|修正案)(?:[（(].*[）)])?$"
)
CASE_REPORT = re.compile("基本案情|案情简介|裁判结果|典型意义|裁判要旨|案例分析|处理结果")


def clean(line: str) -> str:
    """One line without control characters, with single spaces, none of them inside Chinese, and with Chinese punctuation.

    Half-width , ; : ? ! and brackets become full-width beside Chinese characters; marks that open a line or stand twice go;
    anything else stays as it is, full-width letters and digits, too.
    """
    line = re.sub(r"\s+", " ", INVISIBLE.sub("", line)).strip().translate(LOOKALIKES)
    line = SPACE_IN_CHINESE.sub("", DASHES.sub("——", line))
    line = HALF_WIDTH.sub(lambda found: found[1].translate(FULL_WIDTH), line)
    line = HALF_WIDTH_BRACKETS.sub(lambda found: f"（{found[found.lastindex or 1]}）", line)
    return STRAY_MARKS.sub("", line)


def clean_classical_line(line: str) -> str:
    """`clean`, and without the mark that the heading of a chapter may begin with."""
    return clean(BULLET.sub("", line))


def clean_modern_line(line: str) -> str:
    """`clean_classical_line`, and without the label that some books have before each translation."""
    return LABEL.sub("", clean_classical_line(line))


def clean_article_line(line: str) -> str:
    """`clean`, and without what Markdown left behind: bullets, emphasis, heading marks."""
    return clean(EMPHASIS.sub(lambda found: found[2] or "", BULLET.sub("", line.strip())))


def clean_verse(line: str) -> str:
    """A line of a poem without notes in brackets, foreign characters and spaces; empty when no verse is left."""
    line = STRAY_MARKS.sub("", NOT_VERSE.sub("", NOTE.sub("", line)))
    return line if ANY_HAN.search(line) else ""


def is_statute(title: str, lines: Iterable[str]) -> bool:
    """Whether a document of the laws is what nobody has a copyright in: no guide from the web, no lawyer's report of a case."""
    return NORM.search(clean(title)) is not None and not any(CASE_REPORT.match(line) or "http" in line for line in lines)


def key(line: str) -> str:
    """What two lines have in common that differ in punctuation, spacing and an article's number only."""
    return ARTICLE_NUMBER.sub("", NOT_TEXT.sub("", line))


def clauses(lines: Iterable[str]) -> Iterator[str]:
    """The stretches of at least five Chinese characters between punctuation marks: verse lines, and the like in prose."""
    for line in lines:
        yield from (clause for clause in CLAUSE_END.split(line) if len(clause) >= 5)


def opening(lines: Iterable[str], limit: int) -> str:
    """The first whole sentences, at most `limit` characters; a longer first sentence is cut."""
    text = ""
    for line in lines:
        for sentence in SENTENCE.findall(line):
            if text and len(text) + len(sentence) > limit:
                return text
            text += sentence[:limit]
    return text
