"""Signs that only turn what is computed from the same value: products with a true derivative.

As an activation, Sign is differentiated straight through
(`scanner.graph.gradient.vjps.quantisation`). In sign(x) sqrt(|x|), the signed root of bilinear
pooling, the product has a derivative of its own, and that of the sign is 0 wherever there is one.
"""

import onnx

from scanner.graph.core.ancestors import ancestors
from scanner.graph.core.structure import Uses
from scanner.modelfile.domains import STANDARD_DOMAINS

_PRODUCTS = frozenset({"Div", "Mul"})


def turning(graph: onnx.GraphProto) -> set[str]:
    """Return the signs whose every reader multiplies them with what depends on the same value.

    Before: the graph is flat.
    """
    signs = [n for n in graph.node if n.op_type == "Sign" and n.domain in STANDARD_DOMAINS]
    uses = Uses(graph) if signs else None
    return {node.output[0] for node in signs if uses and _turns(node, uses)}


def _turns(sign: onnx.NodeProto, uses: Uses) -> bool:
    (value,), result = sign.input, sign.output[0]
    readers = uses.consumers.get(result, ())
    return bool(readers) and all(
        reader.op_type in _PRODUCTS
        and any(value in ancestors([n], uses.sources) for n in reader.input if n != result)
        for reader in readers
    )
