"""What every family of graph code stands on: who makes each value, and the same graph with less in it."""
