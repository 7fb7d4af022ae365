"""Text to token ids and back: exactly Google's BERT tokenizer, with the raw span of every token; and other vocabularies by its interface.

`vocabulary` reads and checks vocab.txt; `basic` splits text into words by Google's rules; `words` keeps the words
of the vocabulary whole, as WoBERT does; `wordpiece` is the `Tokenizer`; `spacing` joins tokens back into a text that people would write.
`sentencepiece` (T5, XLM-R, CPM) and `engine` (GPT-2's bytes, any tokenizer.json) stand on `subwords`; `folder` tells which a folder has.
"""

from bert4k.tokenizers.engine import EngineTokenizer
from bert4k.tokenizers.folder import read_tokenizer
from bert4k.tokenizers.sentencepiece import SentencePieceTokenizer
from bert4k.tokenizers.wordpiece import Encoding, Tokenizer, TruncationWarning

__all__ = ["Encoding", "EngineTokenizer", "SentencePieceTokenizer", "Tokenizer", "TruncationWarning", "read_tokenizer"]
