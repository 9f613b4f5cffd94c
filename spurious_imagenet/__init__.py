"""Find, measure and mend the spurious features of any image classifier."""
