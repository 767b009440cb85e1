"""Files that declare inputs which nothing reads.

Exporters fold what they computed from such an input into constants, and leave the input: tf2onnx
does so with the mean and deviation in Keras' EfficientNets. ONNX Runtime demands a value for each.
"""

from collections.abc import Sequence

import onnx

from scanner.modelfile.order import names_read


def drop(proto: onnx.ModelProto, inputs: Sequence[onnx.ValueInfoProto]) -> tuple[str, ...]:
    """Take such inputs out, in place, and return their names.

    A single input stays, and so do all where nothing reads any.

    Args:
        proto: The file.
        inputs: Its inputs without a default.
    """
    if len(inputs) < 2:  # noqa: PLR2004 - one image
        return ()
    read = {name for node in proto.graph.node for name in names_read(node)}
    read |= {value.name for value in proto.graph.output}
    idle = tuple(value.name for value in inputs if value.name not in read)
    if len(idle) == len(inputs):
        return ()
    for place in reversed(range(len(proto.graph.input))):
        if proto.graph.input[place].name in idle:
            del proto.graph.input[place]
    return idle
