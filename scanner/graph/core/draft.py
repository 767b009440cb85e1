"""Models that may be changed, told apart from models that may not.

A transform that copied the weights at each of its steps would spend its time copying. So it copies
them once, and its steps change that copy.
"""

from typing import NewType

import onnx

Proto = onnx.ModelProto
"""A model that may belong to somebody else, for rooms that do not import onnx."""

Draft = NewType("Draft", onnx.ModelProto)
"""A model that only its holder has, and may therefore change.

To a type checker every draft is a model, but no model is a draft: a step that changes its argument
asks for a `Draft`, and cannot be handed a model that belongs to somebody else.
"""


def copied(model: onnx.ModelProto) -> Draft:
    """Return a copy of a model, to be changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return Draft(copy)
