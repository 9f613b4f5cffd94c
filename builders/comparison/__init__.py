"""Neural PCA components against the top neural features of the same model (SFE section 6)."""
