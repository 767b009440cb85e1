"""Files that lie: what a model file holds besides an honest network."""
