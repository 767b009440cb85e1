"""What every family of graph code stands on: who makes each value, and smaller equal graphs."""
