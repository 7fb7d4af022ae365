"""Text to token ids and back: exactly Google's BERT tokenizer, with the raw span of every token.

`vocabulary` reads and checks vocab.txt; `basic` splits text into words by Google's rules; `words` keeps the words
of the vocabulary whole, as WoBERT does; `wordpiece` is the `Tokenizer`; `spacing` joins tokens back into a text that people would write.
"""

from bert4k.tokenizers.wordpiece import Encoding, Tokenizer, TruncationWarning

__all__ = ["Encoding", "Tokenizer", "TruncationWarning"]
