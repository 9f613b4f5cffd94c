"""Measuring classifiers: metrics, evaluations, comparisons, mitigations, the report, and the way back to the pixels."""
