"""Entity linking: knowledge bases, the names that stand in a text, annotated texts, how good links are, and the `Linker` that is learnt."""

from bert4k.linking.knowledge_base import Entity, KnowledgeBase, Match, folded, normalised
from bert4k.linking.linker import Linked, Linker
from bert4k.linking.metrics import linking_scores, ranking_accuracy, recall_at
from bert4k.linking.problems import Problems
from bert4k.linking.statistics import AnnotationStatistics, DictionaryLinker, longest_matching
from bert4k.linking.texts import NIL, LinkedText, Mention, competition_line, read_texts, write_texts

__all__ = [
    "NIL",
    "AnnotationStatistics",
    "DictionaryLinker",
    "Entity",
    "KnowledgeBase",
    "Linked",
    "LinkedText",
    "Linker",
    "Match",
    "Mention",
    "Problems",
    "competition_line",
    "folded",
    "linking_scores",
    "longest_matching",
    "normalised",
    "ranking_accuracy",
    "read_texts",
    "recall_at",
    "write_texts",
]
