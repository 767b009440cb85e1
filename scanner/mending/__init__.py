"""Repairing a model in the child: what carries a backdoor is cut, pruned or unlearned."""
