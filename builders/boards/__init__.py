"""One page and one picture a concept, from which a person judges whether it is spurious."""
