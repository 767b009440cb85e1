"""Where a network's layers are: activations, channels, logits, head and weights."""
