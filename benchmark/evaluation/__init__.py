"""One model, or many, measured on a dataset."""
