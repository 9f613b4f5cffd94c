"""How much a model depends on the region that a concept is seen in (SR appendix B)."""
