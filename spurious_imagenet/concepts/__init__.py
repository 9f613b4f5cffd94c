"""Concepts: linear read-outs of penultimate features, kept in banks, and what people said of them."""

from spurious_imagenet.concepts.bank import BankInfo, ConceptBank
from spurious_imagenet.concepts.verdict import ConceptVerdict, Vote
from spurious_imagenet.concepts.verdicts import AnnotatedBank, ConceptVerdicts, Unmatched, apply_verdicts

__all__ = [
    "AnnotatedBank",
    "BankInfo",
    "ConceptBank",
    "ConceptVerdict",
    "ConceptVerdicts",
    "Unmatched",
    "Vote",
    "apply_verdicts",
]
