"""Data cards: what a dataset is, whose it is and how it was made, rendered from the run's own records."""

from spurious_imagenet.data_cards.card import render_card

__all__ = ["render_card"]
