"""Annotations published by others, as verdicts on concepts and as datasets of our form."""
