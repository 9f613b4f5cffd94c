"""How a concept looks: images that maximise it, attacks on real images, activation maps and soft masks."""
