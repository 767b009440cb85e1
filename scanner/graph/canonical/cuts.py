"""Pieces of values, and values turned round, each in one form."""

from collections.abc import Iterator

from scanner.graph.canonical.plan import Plan, Step
from scanner.graph.canonical.sizes import OPEN, written
from scanner.graph.core.open_sizes import Shape

_LAST = 2**31 - 1


def slices(plan: Plan) -> None:
    """Write Split, Slice along one axis and Gather of one place as Slice steps of one form."""
    made: list[Step] = []
    for step in plan.steps:
        cut = {"Split": _split, "Slice": _sliced, "Gather": _picked}.get(step.operator)
        made += (cut(plan, step) if cut else None) or [step]
    plan.steps = made


def _split(plan: Plan, step: Step) -> list[Step] | None:
    shape = plan.shapes.get(step.inputs[0])
    axis = step.attributes.get("axis", 0)
    pieces = [plan.shapes.get(name) for name in step.outputs]
    if shape is None or not isinstance(axis, int) or None in pieces:
        return None
    return list(_pieces(plan, step, axis % len(shape)))


def _pieces(plan: Plan, step: Step, axis: int) -> Iterator[Step]:
    start = 0
    for name in step.outputs:
        size = plan.shapes[name][axis]
        if isinstance(size, str):
            continue
        yield Step("Slice", step.name, [step.inputs[0]], [name], _cut(axis, start, start + size))
        start += size


def _cut(axis: int, start: int, end: int, step: int = 1) -> dict[str, object]:
    return {"axis": axis, "start": start, "end": end, "step": step}


def _sliced(plan: Plan, step: Step) -> list[Step] | None:
    shape, bounds = plan.shapes.get(step.inputs[0]), _bounds(plan, step)
    if shape is None or bounds is None:
        return None
    starts, ends, axes, strides = bounds
    cut: dict[str, object] = {"starts": starts, "ends": ends, "steps": strides}
    cut["axes"] = [axis % len(shape) for axis in axes]
    size = shape[axes[0]] if len(axes) == 1 else OPEN
    if not isinstance(size, str) and strides[0] > 0:
        first, last = (max(0, min(size, n + size if n < 0 else n)) for n in (starts[0], ends[0]))
        cut = _cut(axes[0] % len(shape), first, last, strides[0])
    return [Step("Slice", step.name, step.inputs[:1], step.outputs, cut)]


def _bounds(plan: Plan, step: Step) -> list[list[int]] | None:
    """Return a Slice's starts, ends, axes and steps; None where one is computed.

    Before operator set 10 they were attributes.
    """
    found: list[list[int] | None] = []
    for slot, name in enumerate(("starts", "ends", "axes", "steps"), start=1):
        value = step.attributes.get(name)
        if slot < len(step.inputs) and step.inputs[slot]:
            array = plan.constant(step, slot)
            if array is None:
                return None
            value = array.reshape(-1).tolist()
        found.append([int(n) for n in value] if isinstance(value, list) else None)
    starts, ends, axes, strides = found
    if starts is None or ends is None:
        return None
    count = range(len(starts))
    return [starts, ends, axes or [*count], strides or [1 for _ in count]]


def _picked(plan: Plan, step: Step) -> list[Step] | None:
    """Return a Gather of one place as a Slice and a Reshape."""
    shape, place = plan.shapes.get(step.inputs[0]), plan.constant(step, 1)
    axis, result = step.attributes.get("axis", 0), plan.shapes.get(step.outputs[0])
    if shape is None or place is None or place.ndim or not isinstance(axis, int) or result is None:
        return None
    axis %= len(shape)
    size = shape[axis]
    if isinstance(size, str) or OPEN in result:
        return None
    start, value = int(place) % size, step.outputs[0]
    plan.shapes[f"{value}/slice"] = (*shape[:axis], 1, *shape[axis + 1 :])
    return [
        Step("Slice", step.name, step.inputs[:1], [f"{value}/slice"],
             _cut(axis, start, start + 1)),
        Step("Reshape", step.name, [f"{value}/slice"], [value], {"shape": written(result)}),
    ]  # fmt: skip


def transposes(plan: Plan) -> None:
    """Cut before turning, and write a swap of the last two axes on the value's own shape."""
    makers, readers = plan.makers(), plan.readers()
    made: list[Step] = []
    for step in plan.steps:
        turn = makers.get(step.inputs[0]) if step.inputs else None
        if turn is None or turn.operator != "Transpose":
            made.append(step)
        elif step.operator == "Slice" and "axis" in step.attributes:
            made += _cut_first(plan, step, turn)
        elif step.operator == "Reshape" and readers[turn.outputs[0]] == 1:
            made += _swapped_first(plan, step, turn, makers.get(turn.inputs[0]))
        else:
            made.append(step)
    plan.steps = made


def squeezed(plan: Plan) -> None:
    """Turn values round without their axes of size one, which can stand anywhere."""
    made: list[Step] = []
    for step in plan.steps:
        made += _squeezed(plan, step) or [step]
    plan.steps = made


def _squeezed(plan: Plan, step: Step) -> list[Step] | None:
    shape, order = plan.shapes.get(step.inputs[0]) if step.inputs else None, None
    order = step.attributes.get("perm")
    if step.operator != "Transpose" or shape is None or not isinstance(order, list):
        return None
    left = [axis for axis, size in enumerate(shape) if size != 1]
    if len(left) == len(shape) or OPEN in shape:
        return None
    value = step.outputs[0]
    turned = [axis for axis in order if axis in left]
    plan.shapes[f"{value}/thin"] = tuple(shape[axis] for axis in left)
    plan.shapes[f"{value}/turned"] = tuple(shape[axis] for axis in turned)
    return [
        _reshape(plan, step, step.inputs[0], f"{value}/thin"),
        Step("Transpose", step.name, [f"{value}/thin"], [f"{value}/turned"],
             {"perm": [left.index(axis) for axis in turned]}),
        _reshape(plan, step, f"{value}/turned", value, tuple(shape[axis] for axis in order)),
    ]  # fmt: skip


def _reshape(plan: Plan, step: Step, source: str, value: str, shape: Shape | None = None) -> Step:
    plan.shapes[value] = shape or plan.shapes[value]
    return Step("Reshape", step.name, [source], [value], {"shape": written(plan.shapes[value])})


def _cut_first(plan: Plan, step: Step, turn: Step) -> list[Step]:
    """Return the steps that cut, then turn."""
    order, axis = turn.attributes.get("perm"), step.attributes["axis"]
    result = plan.shapes.get(step.outputs[0])
    if not isinstance(order, list) or not isinstance(axis, int) or result is None:
        return [step]
    value = step.outputs[0]
    plan.shapes[f"{value}/cut"] = tuple(result[order.index(a)] for a in range(len(order)))
    cut = {**step.attributes, "axis": order[axis]}
    return [
        Step("Slice", step.name, [turn.inputs[0]], [f"{value}/cut"], cut),
        Step("Transpose", turn.name, [f"{value}/cut"], [value], {"perm": order}),
    ]


def _swapped_first(plan: Plan, step: Step, turn: Step, before: Step | None) -> list[Step]:
    """Return a swap between two changes of shape as one change of shape and a swap."""
    inner, result = plan.shapes.get(turn.inputs[0]), plan.shapes.get(step.outputs[0])
    if inner is None or result is None or turn.attributes.get("perm") != _swap(len(inner)):
        return [step]
    if result[-2:] != _swapped(inner)[-2:]:
        return [step]
    value, shape = step.outputs[0], _swapped(result)
    source = before.inputs[0] if before and before.operator == "Reshape" else turn.inputs[0]
    swap = Step("Transpose", turn.name, [source], [value], {"perm": _swap(len(result))})
    if plan.shapes.get(source) == shape:
        return [swap]
    swap.inputs = [f"{value}/shaped"]
    return [Step("Reshape", step.name, [source], swap.inputs[:], {"shape": written(shape)}), swap]


def _swap(rank: int) -> list[int]:
    return [*range(rank - 2), rank - 1, rank - 2]


def _swapped(shape: tuple[int | str, ...]) -> tuple[int | str, ...]:
    return (*shape[:-2], shape[-1], shape[-2])
