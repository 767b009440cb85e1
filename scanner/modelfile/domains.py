"""The names of ONNX's own operator sets."""

STANDARD_DOMAINS = ("", "ai.onnx")
"""Both name the standard operators; exporters write the empty one."""


def canonical(domain: str) -> str:
    """Return a domain under its usual name: the standard one is empty."""
    return "" if domain in STANDARD_DOMAINS else domain
