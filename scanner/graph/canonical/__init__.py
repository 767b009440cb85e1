"""One graph for all exports of a network: what it computes, without names and without habits."""
