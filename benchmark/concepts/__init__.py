"""Concepts: linear read-outs of penultimate features, kept in banks."""

from spurious_imagenet.benchmark.concepts.bank import BankInfo, ConceptBank

__all__ = ["BankInfo", "ConceptBank"]
