"""Entity linking: knowledge bases, the names that stand in a text, annotated texts, and how good links are."""

from bert4k.linking.knowledge_base import Entity, KnowledgeBase, Match, folded, normalised
from bert4k.linking.problems import Problems

__all__ = ["Entity", "KnowledgeBase", "Match", "Problems", "folded", "normalised"]
