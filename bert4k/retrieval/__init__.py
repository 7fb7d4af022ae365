"""Passages of a folder of text files, found by the words of a question (BM25): an index that is kept beside them and brought up to date.

index = open_corpus(Path("articles"))                               # made once; later only what changed is read anew
for found in index.search("白云山海拔多少米", 10): print(found.file, found.line, found.text)
"""

from bert4k.retrieval.corpus import open_corpus
from bert4k.retrieval.cutting import cut
from bert4k.retrieval.engine import Engine, Found, Piece

__all__ = ["Engine", "Found", "Piece", "cut", "open_corpus"]
