"""What mends a model without retraining it: corrected logits (SpuFix) and tuned heads."""
