"""Train the paper's networks, clean and backdoored; export them; recompute the paper's tables."""
