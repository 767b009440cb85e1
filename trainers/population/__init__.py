"""A population of recipes, as unlike as possible: what a scanner's figures are calibrated over."""
