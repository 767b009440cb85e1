"""Ways past the trained weights, and how far a value on them can go."""
