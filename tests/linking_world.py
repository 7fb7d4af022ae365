"""A made-up world for entity linking, as large as CCKS2019: a knowledge base, and texts about it whose difficulty is set with a dial.

    python tests/linking_world.py --out world --entities 400000 --train 80000 --dev 10000

writes kb.jsonl, train.jsonl (all difficulties) and dev-0.00.jsonl ... dev-1.00.jsonl (one difficulty each), in the forms of CCKS2019.

Names are shared by 1 to 50 entities, of the same kind or of others. What tells them apart in a text is evidence: a name or place that the
knowledge base has among the facts of the right one (strong), words that go with its kind (weak), or nothing but how often it is meant.
The dial goes from 0, where most mentions have strong evidence, to 1, where most have none, some have evidence for somebody else, more are
called by an alias, and more are NIL: unknown names, and known names of which none of the bearers is meant. Common words (简介, 免费, 在线)
are names of songs and films too, and stand unmarked in many texts. Everything follows from the seed.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import NamedTuple

from bert4k.linking import Entity, LinkedText, Mention, competition_line
from bert4k.progress import track

MOST_HOMONYMS = 50
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)

SURNAMES = [
    *"王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘杜戴夏钟汪田任姜",
    "欧阳",
    "司马",
    "上官",
]
GIVEN = list(
    "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平刚桂英华玉兰红梅春燕雪琴云飞龙凤山海江河湖天宇晨曦雨露霜冰星月阳光辉煌文武斌博学思源志远"
    "家国安康宁乐欣悦怡然子轩浩梓涵若溪清泉石松竹菊荷莲蓉薇萱蕾婷婉柔嘉佳美丹青墨书画诗词韵音铭锋锐毅恒永长久金银铜铁木林森火炎土坤"
)
MODIFIERS = (
    "遥远 沉默 最后 永恒 失落 孤独 燃烧 透明 漫长 温柔 古老 无名 隐秘 漂泊 盛夏 寒冬 初秋 暮春 午夜 黎明 黄昏 蓝色 红色 白色 黑色 金色 "
    "银色 第七 十二 千年 百年 倾城 绝世 逆天 都市 江湖 星际 机械 沧海 梦里 云端 海底 北方 南方 西部 东方 边境 故乡 异乡 青春 童年"
).split()
NOUNS = (
    "旅人 守望者 列车 灯塔 花园 河流 雪山 沙漠 王朝 传说 约定 誓言 来信 回声 影子 镜子 钟楼 码头 茶馆 戏台 剑客 刺客 医生 猎人 歌者 将军 "
    "公主 少年 姑娘 母亲 父亲 兄弟 战争 春天 秋天 冬天 夏天 森林 草原 岛屿 星空 月光 阳光 雨季 风暴 迷宫 密码 账本 日记 地图 船长 侦探 "
    "机器人 恐龙 狐狸 白鹿 飞鸟 玫瑰 蔷薇 樱花 麦田 稻草人"
).split()
PLACE = list("和平新兴永安太东西南北上下大小高石龙凤青白黄红清明双三五柳杨桃李松柏梅竹泉溪沙金银玉宝福寿康乐文昌武定兴胜利光华建设团结友谊")
REGIONS = [f"{a}{b}{kind}" for kind in ("省", "市", "县") for a in "云岭滨川临澜渭汾沅湘" for b in "东西南北阳阴安宁州原"]
COMMON = "简介 免费 在线 下载 最新 高清 图片 全集 电影 小说 视频 攻略 价格 天气 我 爱 你好 世界 手机 新闻".split()
TAILS = (
    "",
    "",
    "",
    "_免费在线观看",
    "最新视频",
    "-高清图片大全",
    "全集下载",
    " 简介",
    "价格攻略",
    "_手机新闻网",
    "……",
    "！",
    "，我爱了",
    " 在线免费下载",
    "_最新新闻",
)
JOINTS = ("，", "；", "_", " ", "——", "，而", " | ", "、")


@dataclass(frozen=True)
class Kind:
    """What an entity is: how it is named, what the knowledge base says of it, and how texts speak of it ({m} is the mention)."""

    label: str
    type: str
    family: str
    relations: tuple[str, ...]
    clues: tuple[str, ...]


KINDS = [
    Kind(
        "演员",
        "Person",
        "person",
        ("代表作品", "搭档", "经纪公司"),
        ("{m}主演的新戏开机", "演员{m}出席首映礼", "{m}剧照曝光", "{m}饰演反派"),
    ),
    Kind(
        "歌手",
        "Person",
        "person",
        ("代表作品", "唱片公司", "合作人物"),
        ("{m}演唱会门票开售", "{m}发布新单曲", "{m}现场翻唱", "歌手{m}登台"),
    ),
    Kind("作家", "Person", "person", ("代表作品", "师从", "出版机构"), ("{m}新书签售", "读{m}的散文", "{m}笔下的故乡", "作家{m}获奖")),
    Kind(
        "运动员", "Person", "person", ("队友", "教练", "效力机构"), ("{m}打破全国纪录", "{m}夺得金牌", "{m}因伤缺席比赛", "运动员{m}退役")
    ),
    Kind("科学家", "Person", "person", ("任职机构", "导师", "代表著作"), ("{m}发表论文", "{m}院士作报告", "{m}的实验室", "{m}研究量子")),
    Kind("官员", "Person", "person", ("任职地", "前任", "母校"), ("{m}调研防汛工作", "{m}任副市长", "{m}主持会议", "{m}被免职")),
    Kind("歌曲", "CreativeWork", "title", ("演唱者", "作词", "所属专辑"), ("{m}歌词", "单曲循环{m}", "{m}钢琴谱", "翻唱{m}")),
    Kind("电影", "CreativeWork", "title", ("导演", "主演", "取景地"), ("{m}票房破亿", "{m}定档春节", "{m}预告片", "{m}影评")),
    Kind("电视剧", "CreativeWork", "title", ("导演", "主演", "改编自"), ("{m}大结局", "{m}第三集剧情", "{m}收视率", "追剧{m}")),
    Kind("小说", "CreativeWork", "title", ("作者", "主角", "连载网站"), ("{m}最新章节", "{m}全文阅读", "{m}番外", "{m}实体书")),
    Kind("游戏", "CreativeWork", "title", ("开发商", "配音", "原作"), ("{m}通关攻略", "{m}公测", "{m}新版本更新", "{m}装备搭配")),
    Kind("村", "Place", "place", ("所属乡镇", "邻村", "名人"), ("{m}村民种植苹果", "{m}驻村干部", "{m}扶贫", "{m}修路")),
    Kind("景点", "Place", "place", ("附近景点", "设计者", "取景作品"), ("{m}门票", "{m}一日游", "{m}自驾路线", "去{m}爬山")),
    Kind("学校", "Organization", "place", ("校长", "校友", "分校"), ("{m}招生简章", "{m}录取分数线", "{m}校庆", "{m}食堂")),
    Kind("公司", "Organization", "place", ("创始人", "子公司", "总部"), ("{m}股价大涨", "{m}招聘", "{m}发布财报", "{m}总裁辞职")),
]
# What the relations lead to; the others lead to a person.
TO_TITLES = set("代表作品 代表著作 所属专辑 改编自 原作 取景作品".split())
TO_PLACES = set(
    "经纪公司 唱片公司 出版机构 效力机构 任职机构 任职地 母校 取景地 连载网站 开发商 所属乡镇 邻村 附近景点 分校 子公司 总部".split()
)
FAMILIES = {family: [place for place, kind in enumerate(KINDS) if kind.family == family] for family in ("person", "title", "place")}
STRONG = ("{o}与{m}", "{m}和{o}", "{o}谈{m}", "从{o}到{m}", "{m}（{o}）", "{o}：{m}")
STRONG_PLACE = ("{o}的{m}", "{o}{m}", "{m}，{o}")
NOTHING = ("{m}", "{m}怎么样", "关于{m}", "有人知道{m}吗", "{m}百科", "你觉得{m}好吗")


class Circumstances(NamedTuple):
    """What sets an entity apart: (predicate, index) of the entities that it is related to, its region and its year."""

    relations: list[tuple[str, int]]
    region: str
    year: int


class World:
    """So many entities; `entity(i)` and `text(...)` are functions of the seed, so that nothing but names and kinds lies in memory."""

    def __init__(self, entities: int, seed: int = 0) -> None:
        rng = random.Random(seed)
        self.seed, self.taken = seed, set(COMMON)
        # One common word each, as a song or a film; never more than a tenth of a small world.
        bearers = [(word, rng.choice(FAMILIES["title"])) for word in COMMON[: entities // 10]]
        sizes = range(1, MOST_HOMONYMS + 1)
        weights = [size**-2.2 for size in sizes]
        while len(bearers) < entities:
            family = rng.choice(tuple(FAMILIES))
            name = self.new_name(family, rng)
            [size] = rng.choices(sizes, weights)
            bearers += [(name, rng.choice(FAMILIES[family])) for _ in range(min(size, entities - len(bearers)))]
        rng.shuffle(bearers)
        self.step = next(step for step in range(int(0.618 * entities) + 1, 2 * entities + 2) if gcd(step, entities) == 1)
        self.names, self.kinds = [name for name, _ in bearers], bytes(kind for _, kind in bearers)
        self.bearers = Counter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def new_name(self, family: str, rng: random.Random) -> str:
        """A name that nobody has had before."""
        while (name := _name(family, rng)) in self.taken:
            pass
        self.taken.add(name)
        return name

    def some(self, rng: random.Random, family: str | None = None) -> int:
        """One of the entities, or of those of a family: few are meant often, and many seldom (a Zipf-like law)."""
        while True:
            # How often one is meant has nothing to do with its place in the knowledge base: this is a permutation.
            index = int(len(self) * rng.random() ** 3) * self.step % len(self)
            if family is None or KINDS[self.kinds[index]].family == family:
                return index

    def circumstances(self, kind: Kind, key: int) -> Circumstances:
        """What sets an entity apart from others of its kind; `key` is its index, or another number for one that has no entry."""
        rng = random.Random(f"{self.seed} {key}")
        relations = [
            (each, self.some(rng, "title" if each in TO_TITLES else "place" if each in TO_PLACES else "person")) for each in kind.relations
        ]
        return Circumstances(relations, rng.choice(REGIONS), rng.randint(1930, 2019))

    def entity(self, index: int) -> Entity:
        """The entry of an entity in the knowledge base; its id is not its index."""
        name, kind = self.names[index], KINDS[self.kinds[index]]
        relations, region, year = self.circumstances(kind, index)
        rng = random.Random(f"{self.seed} {index} words")
        told = "，".join(f"{predicate}为{self.names[other]}" for predicate, other in relations)
        clues = "；".join(clue.format(m=name) for clue in rng.sample(kind.clues, 3))
        description = (
            f"{name}，{year}年，{region}，{kind.label}。{told}。多年来，{clues}，为人所知，在{region}一带尤其如此。"
            f"据{year + rng.randint(1, 30)}年的记载，"
            f"{name}与{self.names[relations[0][1]]}往来最多，其后又因{self.names[relations[-1][1]]}而广受关注。"
        )
        facts = [(predicate, self.names[other]) for predicate, other in relations]
        facts += [("地区", region), ("年份", f"{year}年"), ("义项描述", f"{region}{kind.label}"), ("标签", kind.label), ("标签", kind.type)]
        return Entity(f"{10_000 + index}", name, tuple(aliases_of(name, kind, rng)), description, (kind.type,), tuple(facts))

    def text(self, identifier: str, difficulty: float, rng: random.Random) -> LinkedText:
        """A text about one to three entities, some of which are in no knowledge base."""
        text, mentions = "", []
        for number in range(rng.choices([1, 2, 3], [5, 4, 1])[0]):
            text += rng.choice(JOINTS) if number else ""
            template, filled = self._clause(difficulty, rng)
            for piece in template.replace("{", "\0{").replace("}", "}\0").split("\0"):
                if piece in filled:
                    surface, target, quoted = filled[piece]
                    text += "《" if quoted else ""
                    if target != "":
                        mentions.append(Mention(len(text), len(text) + len(surface), surface, target))
                    text += surface + ("》" if quoted else "")
                else:
                    text += piece
        return LinkedText(identifier, text + rng.choice(TAILS), tuple(mentions))

    def _clause(self, difficulty: float, rng: random.Random) -> tuple[str, dict[str, tuple[str, str | None, bool]]]:
        """A template, and what stands for {m} and {o}: surface, id ("" for what is no mention), and whether it is in 《》."""
        index, evidence = self.some(rng), rng.random()
        strong, weak = 0.8 - 0.75 * difficulty, 0.2 + 0.05 * difficulty
        kind = KINDS[self.kinds[index]]
        if rng.random() < 0.05 + 0.15 * difficulty:  # NIL: half unknown names, half a bearer of a known one whom nobody has described
            surface = self.new_name(kind.family, rng) if rng.random() < 0.5 else self.names[index]
            target, circumstances = None, self.circumstances(kind, len(self) + rng.randrange(10**9))
        else:
            entity = self.entity(index)
            by_alias = entity.aliases and rng.random() < 0.1 + 0.4 * difficulty
            surface, target = rng.choice(entity.aliases) if by_alias else entity.name, entity.id
            surface = surface.strip("《》")
            circumstances = self.circumstances(kind, index)
        filled: dict[str, tuple[str, str | None, bool]] = {"{m}": (surface, target, kind.family == "title" and rng.random() < 0.6)}
        if rng.random() < 0.15 * difficulty:  # evidence for somebody else
            kind = KINDS[self.kinds[other := self.some(rng)]]
            circumstances = self.circumstances(kind, other)
        if evidence >= strong:
            return rng.choice(kind.clues if evidence < strong + weak else NOTHING), filled
        shape = rng.random()
        if shape < 0.6:
            # What tells is itself told by its name where things are easy, and may be anybody's where they are hard.
            named = sorted((other for _, other in circumstances.relations), key=lambda each: self.bearers[self.names[each]])
            other = rng.choice(named) if rng.random() < difficulty else named[0]
            quoted = KINDS[self.kinds[other]].family == "title" and rng.random() < 0.6
            filled["{o}"] = self.names[other], self.entity(other).id, quoted
            return rng.choice(STRONG), filled
        filled["{o}"] = circumstances.region if shape < 0.85 else f"{circumstances.year}年", "", False
        return rng.choice(STRONG_PLACE), filled

    def texts(self, count: int, levels: Sequence[float] = LEVELS, seed: int = 0, first: int = 1) -> Iterator[LinkedText]:
        """Texts of the levels in turn, with ids from `first`."""
        rng = random.Random(f"{self.seed} texts {seed}")
        return (self.text(str(number), levels[number % len(levels)], rng) for number in range(first, first + count))


def _name(family: str, rng: random.Random) -> str:
    if family == "person":
        return rng.choice(SURNAMES) + "".join(rng.choices(GIVEN, k=2))
    if family == "place":
        kinds = ("村", "庄", "山", "湖", "中学", "大学", "科技", "集团")
        return "".join(rng.choices(PLACE, k=rng.choice([2, 3]))) + rng.choice(kinds)
    modifier, one, other = rng.choice(MODIFIERS), rng.choice(NOUNS), rng.choice(NOUNS)
    return rng.choice([f"{modifier}的{one}", f"{one}与{other}", f"{modifier}{one}之{other}", f"{modifier}{one}{other}"])


def aliases_of(name: str, kind: Kind, rng: random.Random) -> list[str]:
    """Up to three other names, some of which others have too."""
    if kind.family == "person":
        every = [f"小{name[-2:]}", f"{name[:-2]}老师", f"阿{name[-1]}", "".join(rng.choices("abcdeghilmnorst", k=6)).title()]
    elif kind.family == "title":
        every = [name.replace("的", ""), f"《{name}》", name[-3:], f"{name}{kind.label}", f"新{name}"]
    else:
        every = [name[:-1], f"{name[0]}{name[-1]}", f"大{name}", rng.choice(["ＡＢＣ", "ＸＹＺ", "ＫＴＭ"]) + name]
    return [each for each in rng.sample(every, rng.choice([0, 1, 1, 2, 3])) if each and each != name]


def competition_entity(entity: Entity) -> str:
    """An entity as a line of CCKS2019's kb_data."""
    data = [{"predicate": predicate, "object": what} for predicate, what in (("摘要", entity.description), *entity.facts)]
    values = {"alias": [*entity.aliases], "subject_id": entity.id, "subject": entity.name, "type": [*entity.types], "data": data}
    return json.dumps(values, ensure_ascii=False)


def write(folder: Path, entities: int, train: int, dev: int, difficulty: float | None = None, seed: int = 0) -> None:
    """The files of a world; `difficulty` sets the dial for the training texts, which have all levels else."""
    folder.mkdir(parents=True, exist_ok=True)
    world = World(entities, seed)
    with (folder / "kb.jsonl").open("w", encoding="utf-8") as file:
        for index in track(range(entities), entities, "Writing entities"):
            file.write(competition_entity(world.entity(index)) + "\n")
    levels = LEVELS if difficulty is None else (difficulty,)
    parts = {"train.jsonl": (train, levels)} | {f"dev-{level:.2f}.jsonl": (dev // len(LEVELS), (level,)) for level in LEVELS}
    first = 1
    for number, (name, (count, chosen)) in enumerate(parts.items()):
        with (folder / name).open("w", encoding="utf-8") as file:
            for text in track(world.texts(count, chosen, number, first), count, f"Writing {name}"):
                file.write(competition_line(text, nil=True) + "\n")
        first += count


def main() -> None:
    """Write a world to a folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    parser.add_argument("--entities", type=int, default=400_000, help="entities of the knowledge base (%(default)s)")
    parser.add_argument("--train", type=int, default=80_000, help="texts to learn from (%(default)s)")
    parser.add_argument("--dev", type=int, default=10_000, help="texts to be judged on, a fifth for each difficulty (%(default)s)")
    parser.add_argument("--difficulty", type=float, help="of the texts to learn from, 0 to 1 (all levels)")
    parser.add_argument("--seed", type=int, default=0, help="what everything follows from (%(default)s)")
    flags = parser.parse_args()
    write(flags.out, flags.entities, flags.train, flags.dev, flags.difficulty, flags.seed)


if __name__ == "__main__":
    main()
