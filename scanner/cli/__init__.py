"""The command `scan`: words in, values out, an exit code."""
