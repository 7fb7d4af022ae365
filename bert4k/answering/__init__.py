"""What recipes share that answer questions from passages: files of questions, where answers stand, long passages, the vote, scores,
reports.

Nothing here knows a model.
"""

from bert4k.answering.matching import occurrences
from bert4k.answering.metrics import Expanded, answer_scores, cmrc_scores, read_expanded, scores_of_kinds, sogou_scores, squad_scores
from bert4k.answering.questions import Passage, Question, question_of, question_of_line
from bert4k.answering.readers import read_counted, read_questions
from bert4k.answering.reports import report_answers, told, write_report
from bert4k.answering.voting import Answer, Evidence, pieces, placed, vote

__all__ = [
    "Answer",
    "Evidence",
    "Expanded",
    "Passage",
    "Question",
    "answer_scores",
    "cmrc_scores",
    "occurrences",
    "pieces",
    "placed",
    "question_of",
    "question_of_line",
    "read_counted",
    "read_expanded",
    "read_questions",
    "report_answers",
    "scores_of_kinds",
    "sogou_scores",
    "squad_scores",
    "told",
    "vote",
    "write_report",
]
