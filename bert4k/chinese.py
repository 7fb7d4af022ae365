"""Traditional characters as simplified ones."""

import re
from collections.abc import Callable
from functools import cache

from bert4k.errors import ConfigError

_HALVES = re.compile("([\ud800-\udfff]+)")


@cache
def _converter() -> Callable[[str], str]:
    try:
        from opencc import OpenCC
    except ImportError as error:
        raise ConfigError(
            "Traditional characters are made simplified ones by OpenCC, which is not installed. Run: pip install 'bert4k[pretrain]'"
        ) from error
    return OpenCC("t2s").convert


def simplified(text: str) -> str:
    """`text` in simplified characters (OpenCC's t2s, which looks at words, too). Raises `ConfigError` when OpenCC is not installed."""
    convert = _converter()
    # Half of a character that UTF-16 has two codes for, as JSON may hold it, is nothing that can be converted.
    return "".join(part if at % 2 else convert(part) for at, part in enumerate(_HALVES.split(text)))
