"""Traditional characters as simplified ones."""

from collections.abc import Callable
from functools import cache

from bert4k.errors import ConfigError


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
    return _converter()(text)
