"""Text cues: concepts of words, read by a vision-language model or by any model aligned to one (SR appendix G)."""
