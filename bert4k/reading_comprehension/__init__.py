"""Answers read off passages: networks that find where in a passage the answer to a question begins and ends (Su's DGCNN, kexue.fm archives
5409 and 6906, and heads on BERT for the same labels), their inputs, and what is made of their outputs.

    qa = QA.load("runs/qa")                                             # a run of `bert4k train dgcnn_qa`
    qa.answer("白云山海拔多少米", ["主峰海拔382米", "位于广州"])            # Evidence(text="382米", score=0.83, passage=0, start=4, end=8)
"""

from bert4k.reading_comprehension.answering_machine import QA

__all__ = ["QA"]
