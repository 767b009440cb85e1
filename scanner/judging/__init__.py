"""From numbers to words: comparisons, ranks among clean models, and the verdict."""
