"""The text of the shipped checkpoint: what is held out is not learnt, what is written is clean, the same data give the same files."""

import gzip
import json
import shutil
from collections import Counter
from dataclasses import replace

import pytest

from bert4k.chinese import simplified
from bert4k.errors import DataError
from bert4k.tasks.shipped import cleaning, corpus
from bert4k.tasks.shipped.corpus import Document, Settings

SETTINGS = Settings(
    chapters_held_out=0.2, laws_held_out=0.2, articles_held_out=0.2, novel_held_out=2, poems_held_out=0.2, couplets_held_out=0.2
)
DIGITS = "零一二三四五六七八九"


def numeral(number: int, width: int = 4) -> str:
    return "".join(DIGITS[int(digit)] for digit in f"{number:0{width}}")


def chapter(number: int) -> tuple[list[str], list[str]]:
    """Classical and modern lines: three of its own, a short and a long one that all chapters have, and some with faults."""
    classical = [f"店主{numeral(number)}曰： 吾有书{numeral(10 * number + line)}卷矣。" for line in range(3)]
    modern = [f"店主{numeral(number)}说： 我一共有{numeral(10 * number + line)}卷书呢。" for line in range(3)]
    classical += [
        "○然也。",
        "晨起开窗见雨，街边小店飘香。",
        f"此处缺□字{numeral(number)}也。",
        "同一句话一字不改。",
        f"短{numeral(number, 2)}",
    ]
    modern += ["是这样。", "早晨起来开窗看见下雨，街边的小店飘着香味。", f"这里有字{numeral(number)}。", "同一句话一字不改。", "长" * 30]
    return classical, modern


def law(number: int) -> list[str]:
    shared = [f"第{DIGITS[1 + number % 9]}条　凡在本村养猫养狗的住户都应当每天给它们喂饭喂水。", "（四）其他应当登记的猫狗情形。"]
    own = [f"第{DIGITS[line]}条 编号为{numeral(number)}{DIGITS[line]}的小猫(一岁以下)应当在三十日内登记。" for line in range(1, 8)]
    return [f"第{numeral(number)}村猫狗登记办法", "第一章　总　　则", *own, *shared[: 1 + number % 2]]


def article(number: int) -> list[str]:
    body = [
        f"* 第{numeral(number)}{DIGITS[line]}段介绍怎样用 Python 写一个*小小的*程序, 它会数出家里一共有几只猫。" for line in range(1, 7)
    ]
    return [f"用 Python 数猫之{numeral(number)}", *body, "（译者: 店主）", "print(1)", "你还可以订阅我们的小报每天看猫。"]


def poem(number: int, title: str = "無題") -> list[str]:
    """Four lines with a note each, the first line that of another poem where the number can be halved twice; a line with a gap."""
    numbers = [number // 2 * 4 if number % 4 == 0 else number * 4, *(number * 4 + line for line in range(1, 4))]
    lines = [f"阳台{numeral(each, 5)}，架上{numeral(each, 5)[::-1]}（一作豆）。" for each in numbers]
    return [title, "某人", *lines, "□□三四五，六七八九十。"]


def novel_chapter(number: int) -> list[str]:
    return [f"《小店·第{numeral(number)}回》", f"第{numeral(number)}回里来了客", f"店主笑道： 客官{numeral(number)}里面请。 说着倒茶----"]


def write(data, name, documents):
    path = data / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("\n\n".join("\n".join(lines) for lines in documents).encode()))


def make_data(data, count=60):
    chapters = [chapter(number) for number in range(count)]
    write(data, corpus.CLASSICAL, [classical for classical, _ in chapters])
    write(data, corpus.MODERN, [modern for _, modern in chapters])
    guide = ["养猫攻略", "抄自 http://example.org 的攻略。"]
    write(data, corpus.LAWS, [*map(law, range(count)), guide])
    write(data, corpus.ARTICLES, map(article, range(count)))
    write(data, corpus.NOVEL, map(novel_chapter, range(20)))
    for index, name in enumerate(corpus.POEMS):
        write(data, name, map(poem, range(index * count, (index + 1) * count)))
    lines = [f"高樓{numeral(number, 5)}\t小巷{numeral(number // 2 * 7, 5)}" for number in range(300)]
    verse = [f"阳台{numeral(number * 4, 5)}\t架上{numeral(number * 4, 5)[::-1]}" for number in range(count)]
    write(data, corpus.COUPLETS, [[*lines, *verse, lines[0], "不齐\t不整齐", "ABC\tDEF"]])
    return data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "corpus"
    return out, corpus.make(data, out, SETTINGS)


def documents(path):
    return [block.split("\n") for block in path.read_text(encoding="utf-8").split("\n\n") if block]


def pairs(path):
    return [tuple(line.split("\t")) for line in path.read_text(encoding="utf-8").split("\n") if line]


def lines_of(path):
    return {line for document in documents(path) for line in document}


# Cleaning.


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("店主曰： 善。 乃去", "店主曰：善。乃去"),
        ("用\u3000Linux  写\u200b字\x08", "用 Linux 写字"),
        ("第一章　总　　则", "第一章总则"),
        ("有猫吗?答:有, 三只!", "有猫吗？答：有，三只！"),
        ("a, b: c?", "a, b: c?"),
        ("3:30 见", "3:30 见"),
        ("(一)小猫(一岁)，（二)小狗", "（一）小猫（一岁），（二）小狗"),
        ('print("猫") f(猫)', 'print("猫") f(猫)'),
        ("，，此猫。。甚好。", "此猫。甚好。"),
        ("不会吧！！", "不会吧！！"),
        ("正是----", "正是——"),
        ("曰∶甲•乙", "曰：甲·乙"),
        ("ＡＢ１２", "ＡＢ１２"),
    ],
)
def test_clean(raw, cleaned):
    assert cleaning.clean(raw) == cleaned
    assert cleaning.clean(cleaned) == cleaned


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("*   它有一个*小小的*程序", "它有一个小小的程序"),
        ("_“一只猫”_", "“一只猫”"),
        ("三、数猫 ###", "三、数猫"),
        ("图二：经许可使用*", "图二：经许可使用"),
        ("-a 选项列出 *.txt 和 *.md 文件", "-a 选项列出 *.txt 和 *.md 文件"),
        ("变量 max_cat_count 与 cat_name", "变量 max_cat_count 与 cat_name"),
    ],
)
def test_clean_article_line(raw, cleaned):
    assert cleaning.clean_article_line(raw) == cleaned


def test_clean_chapter_lines():
    assert cleaning.clean_classical_line("◎ 猫传") == "猫传"
    assert cleaning.clean_modern_line("原文村里有猫。") == "村里有猫。"
    assert cleaning.clean_classical_line("原文有猫。") == "原文有猫。"


def test_clean_verse():
    assert cleaning.clean_verse("阳台种豆角（一作瓜），架 上A结青藤。") == "阳台种豆角，架上结青藤。"
    assert cleaning.clean_verse("（店主云）。") == ""


def test_text_becomes_simplified():
    assert simplified("樓頭燈影") == "楼头灯影"


def test_a_key_ignores_punctuation_and_the_number_of_an_article():
    assert cleaning.key("第十二条之一 养猫，应登记。") == cleaning.key("第三条养猫应登记") == "养猫应登记"


def test_clauses_have_five_characters():
    assert list(cleaning.clauses(["阳台种豆角，架上青。", "Linux邻里分新绿。"])) == ["阳台种豆角", "邻里分新绿"]


def test_an_opening_is_whole_sentences():
    assert cleaning.opening(["甲乙丙。丁戊。", "己庚辛壬"], 7) == "甲乙丙。丁戊。"
    assert cleaning.opening(["甲乙丙。丁戊。", "己庚辛壬"], 6) == "甲乙丙。"
    assert cleaning.opening(["甲乙？”丙", "丁！"], 10) == "甲乙？”丙丁！"
    assert cleaning.opening(["甲乙丙丁戊己庚。"], 3) == "甲乙丙"
    assert cleaning.opening([], 3) == ""


@pytest.mark.parametrize(
    ("title", "lines", "statute"),
    [
        ("猫狗登记办法", ["第一条"], True),
        ("猫狗登记办法(试行)", ["第一条"], True),
        ("养猫攻略", ["第一条"], False),
        ("猫狗登记规定", ["见 https://example.org"], False),
        ("猫狗登记规定", ["基本案情", "某人养猫。"], False),
    ],
)
def test_only_statutes_are_free(title, lines, statute):
    assert cleaning.is_statute(title, lines) == statute


# The split.


def test_the_side_of_a_document_depends_on_its_name_alone():
    many = [Document(f"第{number}号", []) for number in range(2000)]
    training, held_out = corpus.split(many, 0.05)
    assert 60 < len(held_out) < 140 and len(training) + len(held_out) == 2000
    assert corpus.split(many[::-3], 0.05)[1] == [each for each in many[::-3] if each in held_out]
    assert {each.name for each in held_out} <= {each.name for each in corpus.split(many, 0.1)[1]}
    training, held_out = corpus.split_novel(many[:50], 2)
    assert len(held_out) == 2 and held_out == corpus.split_novel([*held_out, *training[:10]], 2)[1]


def test_no_held_out_line_is_learnt(made):
    out, _ = made
    for name in corpus.TEXTS:
        if name not in ("laws", "tech"):  # these may share short lines
            assert not lines_of(out / f"held_out/{name}.txt") & lines_of(out / f"train/{name}.txt"), name
    for name in ("laws", "tech"):
        learnt = {cleaning.key(line) for line in lines_of(out / f"train/{name}.txt") if len(line) >= SETTINGS.long_line}
        assert not {cleaning.key(line) for line in lines_of(out / f"held_out/{name}.txt")} & learnt
    for name in corpus.PAIRS:
        learnt, held_out = pairs(out / f"train/{name}.tsv"), pairs(out / f"held_out/{name}.tsv")
        assert held_out and len(held_out) == len(set(held_out))
        for side in range(2):
            assert not {pair[side] for pair in learnt} & {pair[side] for pair in held_out}, name


def test_held_out_chapters_are_the_same_on_both_sides(made):
    out, report = made
    for part in ("train", "held_out"):
        sides = [documents(out / f"{part}/{name}.txt") for name in ("classical", "modern")]
        assert [len(lines) for lines in sides[0]] == [len(lines) for lines in sides[1]]
        assert [lines[0][2:6] for lines in sides[0]] == [lines[0][2:6] for lines in sides[1]]
        texts = {f"[TRANSLATE]{source}" for lines in sides[0] for source in lines}
        assert {source for source, _ in pairs(out / f"{part}/translate.tsv")} <= texts
    counts = [report["files"][f"{part}/classical.txt"]["documents"] for part in ("train", "held_out")]
    assert sum(counts) == 60 and 5 <= counts[1] <= 20


def test_verse_is_compared_across_sources(made):
    out, _ = made
    poems = [
        {clause for lines in documents(out / f"{part}/poems.txt") for clause in cleaning.clauses(lines)} for part in ("train", "held_out")
    ]
    couplets = [pairs(out / f"{part}/couplet.tsv") for part in ("train", "held_out")]
    halves = [{half for upper, lower in each for half in (upper.removeprefix("[COUPLET]"), lower)} for each in couplets]
    assert poems[1] and not poems[0] & poems[1] and not halves[1] & poems[0] and not halves[0] & poems[1]
    assert halves[0] & poems[0]


def test_a_held_out_line_of_another_book_is_known():
    watches = corpus.Watches(corpus.Watch(), corpus.Watch(), corpus.Watch())
    pair = ("店主姓王名小二，开窗见雨三五日，乃去。", "店主去了。")
    corpus.expect(watches, [[pair]], [], [])
    assert not watches.knows(pair)
    watches.clauses.see(["店主姓王名小二", "别的什么话语"])
    assert not watches.knows(pair)  # half, not more
    watches.clauses.see(["开窗见雨三五日"])
    assert watches.knows(pair)
    assert watches.clauses.found == {"店主姓王名小二", "开窗见雨三五日"}
    watches.modern.see([cleaning.key("店主，去了！")])
    assert watches.knows(("别话", "店主去了。"))


def test_amended_versions_are_dropped_from_the_held_out_side():
    def lines(start, count):
        return [f"第{DIGITS[index]}条 {numeral(index)}号小猫应当在三十日内到村里登记。" for index in range(start, start + count)]

    training = [Document("甲", ["养猫办法", *lines(0, 5)])]
    drops = Counter[str]()
    held_out = [
        Document("乙", ["养猫新办法", *lines(3, 5)]),
        Document("丙", ["养 猫办法", "短。"]),
        Document("丁", ["养狗办法", *lines(4, 6)]),
    ]
    kept = corpus.unseen_texts(held_out, training, SETTINGS, drops)
    assert kept == [Document("丁", ["养狗办法", *lines(5, 5)])]
    assert sorted(drops.values()) == [1, 1, 1]
    everything = corpus.unseen_texts(held_out[::2], training, replace(SETTINGS, shared_lines=1.0), drops)
    assert [each.name for each in everything] == ["乙", "丁"]


def test_boilerplate_stays_in_the_first_documents_only():
    drops = Counter[str]()
    same = [Document(str(number), ["每天都用同一个题目", "短的一行", f"你还可以订阅我们的小报{'。' * number}"]) for number in range(4)]
    assert [len(each.lines) for each in corpus.without_boilerplate(same, 2, drops)] == [3, 3, 2, 2]
    assert sum(drops.values()) == 2


# What is written.


def test_sources_json_counts_what_is_written(made, data):
    out, report = made
    assert json.loads((out / "sources.json").read_text(encoding="utf-8")) == report
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()) == sorted([*corpus.FILES, "sources.json"])
    for name, counts in report["files"].items():
        if name.endswith(".tsv"):
            assert counts["pairs"] == len(pairs(out / name)) > 0
        else:
            blocks = documents(out / name)
            sizes = {
                "documents": len(blocks),
                "lines": sum(map(len, blocks)),
                "characters": sum(len(line) for lines in blocks for line in lines),
            }
            assert dict(counts) == sizes and blocks
    assert set(report["inputs"]) == set(corpus.INPUTS)
    assert report["inputs"][corpus.LAWS] == corpus.sha256(data / corpus.LAWS)
    assert report["settings"]["chapters_held_out"] == 0.2


def test_what_was_dropped_is_told(made):
    _, report = made
    dropped = report["dropped"]
    assert dropped["laws"]["documents that are no statute"] == 1
    assert dropped["laws"]["lines that repeat (boilerplate)"] > 20
    assert dropped["tech"]["credits"] == 60 == dropped["tech"]["lines without Chinese"]
    assert dropped["parallel"]["lines with a gap on either side"] == 60
    assert dropped["parallel"]["held-out lines that are in training on either side"] > 5
    assert dropped["translate"]["pairs that occur twice"] > 40
    assert dropped["translate"]["pairs of unsuitable lengths, or that do not differ"] > 40
    assert dropped["poems"]["lines with a gap"] == 4 * 60
    assert dropped["couplet"]["twice"] == 1 and dropped["couplet"]["unequal or not Chinese"] == 2
    assert dropped["couplet"]["held-out couplets in training text"] > 0
    assert dropped["couplet"]["held-out couplets with a second half of training"] > 0
    assert dropped["poems"]["held-out poems with a line of training text"] > 0


def test_lines_are_clean(made):
    out, _ = made
    for name in corpus.TEXTS:
        for line in lines_of(out / f"train/{name}.txt"):
            assert line == cleaning.clean(line) and cleaning.ANY_HAN.search(line) and not cleaning.ENCODING_GAP.search(line)
    assert "然也。" in lines_of(out / "train/classical.txt")
    assert not any("缺" in line for line in lines_of(out / "train/classical.txt"))
    assert any(line.endswith("倒茶——") for line in lines_of(out / "train/novel.txt"))
    assert not any("《小店" in line for line in lines_of(out / "train/novel.txt"))
    assert not any("某人" in line or "一作" in line or "题" in line for line in lines_of(out / "train/poems.txt"))


def test_every_translation_is_of_sensible_length(made):
    out, _ = made
    for part in ("train", "held_out"):
        for source, target in pairs(out / f"{part}/translate.tsv"):
            assert source.startswith("[TRANSLATE]")
            source = source.removeprefix("[TRANSLATE]")
            assert all(4 <= len(side) <= 120 for side in (source, target))
            assert 0.5 <= len(target) / len(source) <= 4 and source != target
    learnt = pairs(out / "train/translate.tsv")
    assert len(learnt) == len(set(learnt))
    assert ("[TRANSLATE]晨起开窗见雨，街边小店飘香。", "早晨起来开窗看见下雨，街边的小店飘着香味。") in learnt


@pytest.mark.parametrize(
    ("pair", "good"),
    [
        (("有猫在家。", "家里有一只猫。"), True),
        (("有猫。", "家里有一只猫。"), False),
        (("猫在家。", "猫" * 17), False),
        (("猫" * 20, "家里有猫猫猫猫。"), False),
        (("猫" * 121, "狗" * 121), False),
        (("有猫在家。", "有猫，在家！"), False),
    ],
)
def test_is_translation(pair, good):
    assert corpus.is_translation(pair, SETTINGS) == good


def test_titles_are_asked_for_with_up_to_three_openings(made):
    out, _ = made
    by_title = {}
    for source, title in pairs(out / "train/title.tsv"):
        assert source.startswith("[TITLE]第") and len(source) <= len("[TITLE]") + SETTINGS.opening
        by_title.setdefault(title, []).append(source)
    assert set(map(len, by_title.values())) == {3}
    assert all(len(set(sources)) == 3 for sources in by_title.values())
    held_out = pairs(out / "held_out/title.tsv")
    assert len({title for _, title in held_out}) == len(held_out)


@pytest.mark.parametrize(
    "lines", [["猫", "长" * 80], ["猫" * 41, "长" * 80], ["这是一句话。", "长" * 80], ["数猫的程序", "太短了。"], ["数猫的程序"]]
)
def test_articles_without_title_or_text_ask_for_no_title(lines):
    assert corpus.title_pairs(Document("", lines), SETTINGS, 3) == []


def test_couplets_are_parallel_and_of_many_lengths(made):
    out, _ = made
    couplets = [(upper.removeprefix("[COUPLET]"), lower) for upper, lower in pairs(out / "train/couplet.tsv")]
    for upper, lower in couplets:
        assert len(upper) == len(lower) > 0
        assert [index for index, character in enumerate(upper) if character == "，"] == [
            index for index, character in enumerate(lower) if character == "，"
        ]
    assert {len(upper) for upper, _ in couplets} == {3, 4, 7, 12, 15}
    assert {len(lower) for _, lower in pairs(out / "held_out/couplet.tsv")} == {7}
    assert 0.15 < sum(len(upper) != 7 for upper, _ in couplets) / len(couplets) < 0.35
    assert not corpus.couplet_variants([("月", "灯")], 1.0)


def test_the_same_data_give_the_same_files(made, data, tmp_path):
    out, _ = made
    corpus.make(data, tmp_path, SETTINGS)
    for name in (*corpus.FILES, "sources.json"):
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes(), name


def test_more_data_move_nothing_to_the_other_side(made, tmp_path):
    out, _ = made
    corpus.make(make_data(tmp_path / "data_of_more", count=80), tmp_path / "more", SETTINGS)
    for name in ("classical", "modern", "laws", "tech"):
        learnt = {lines[0] for lines in documents(out / f"train/{name}.txt")}
        assert learnt <= {lines[0] for lines in documents(tmp_path / f"more/train/{name}.txt")}


# The command, and what can go wrong.


def test_the_command_prints_its_counts(data, tmp_path, capsys):
    corpus.main(["--data", str(data), "--out", str(tmp_path), "--chapters-held-out", "0.3", "--novel-held-out", "3"])
    report = json.loads(capsys.readouterr().out)
    assert report["files"]["held_out/novel.txt"]["documents"] == 3
    assert report["settings"] == json.loads((tmp_path / "sources.json").read_text(encoding="utf-8"))["settings"]
    assert report["settings"]["chapters_held_out"] == 0.3


@pytest.mark.parametrize("name", corpus.INPUTS)
def test_a_missing_input_is_named(data, tmp_path, name):
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / name).unlink()
    with pytest.raises(DataError, match=f"{name.rpartition('/')[2]}.*--data"):
        corpus.make(tmp_path / "data", tmp_path / "out", SETTINGS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "damage", [b"", b"no gzip at all", "cut", "flip", gzip.compress(b"\xff\xfe\xff")], ids=["empty", "text", "cut", "flip", "bytes"]
)
def test_a_damaged_input_is_named_and_nothing_is_left(data, tmp_path, damage):
    shutil.copytree(data, tmp_path / "data")
    whole = (tmp_path / "data" / corpus.MODERN).read_bytes()
    middle = len(whole) // 2
    broken = {"cut": whole[:middle], "flip": whole[:middle] + bytes(64) + whole[middle + 64 :]}
    (tmp_path / "data" / corpus.MODERN).write_bytes(broken[damage] if isinstance(damage, str) else damage)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/sources.json").write_text("of an earlier run")
    with pytest.raises(DataError, match="baihua"):
        corpus.make(tmp_path / "data", tmp_path / "out", SETTINGS)
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["sources.json"]
    assert (tmp_path / "out/sources.json").read_text() == "of an earlier run"


@pytest.mark.parametrize("fault", ["line", "chapter"])
def test_sides_that_are_not_parallel_are_refused(data, tmp_path, fault):
    shutil.copytree(data, tmp_path / "data")
    sides = [chapter(number)[1] for number in range(60)]
    write(tmp_path / "data", corpus.MODERN, [*sides[:30], sides[30][1:], *sides[31:]] if fault == "line" else sides[:-1])
    with pytest.raises(DataError, match=r"not parallel.*店主"):
        corpus.make(tmp_path / "data", tmp_path / "out", SETTINGS)
