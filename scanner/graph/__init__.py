"""Transforms of ONNX graphs, and what they find out about them.

A transform takes a model and returns another. It never touches its argument, which its caller may
go on using; where there is nothing to do it returns the argument itself. Steps that change a model
in place take a `scanner.graph.core.draft.Draft`, a model that no one else holds, and return None or
what they learnt. The type checker keeps the two apart, and tests hold the promise.
"""
