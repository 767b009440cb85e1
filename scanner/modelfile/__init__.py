"""Reading a model file: parsed within limits, checked, completed with its external data."""
