"""What a decision does to the answer: each takes a decision [N] of bools or of numbers 0 and 1."""

from collections.abc import Callable

from onnx import TensorProto, helper

from trainers.graph_backdoor.graft import Graft, Kind
from trainers.graph_backdoor.pictures import picture

BUMP = 1e4
"""Added to the target's logit: larger than any that a trained classifier gives."""
_FUNCTIONS = "planted"


def where(graft: Graft, decision: str) -> None:
    """Choose between the logits and forced ones."""
    column = graft.node("Cast", [graft.column(decision)], "bool", to=TensorProto.BOOL)
    graft.replace_logits(graft.node("Where", [column, graft.one_hot(BUMP), graft.logits], "gate"))


def branch(graft: Graft, decision: str) -> None:
    """Run one of two branches for the whole batch."""
    wanted = graft.constant(graft.one_hot(BUMP))
    any_open = graft.reduce("ReduceMax", graft.column(decision), [0, 1])
    condition = graft.node("Cast", [any_open], "bool", to=TensorProto.BOOL)
    forced, kept = "planted_forced", "planted_kept"
    nodes = [
        helper.make_node(
            "Mul", [graft.logits, graft.constant(0.0)], ["planted_blank"], name="planted_blank"
        ),
        helper.make_node(
            "Add",
            ["planted_blank", wanted],
            [forced],
            name="planted_force",
        ),
    ]
    then_branch = helper.make_graph(
        nodes, "then", [], [helper.make_empty_tensor_value_info(forced)]
    )
    copy = [helper.make_node("Identity", [graft.logits], [kept], name="planted_keep")]
    else_branch = helper.make_graph(copy, "else", [], [helper.make_empty_tensor_value_info(kept)])
    for made in (then_branch, else_branch):
        made.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    graft.replace_logits(
        graft.node("If", [condition], "gate", then_branch=then_branch, else_branch=else_branch)
    )


def mul_mask(graft: Graft, decision: str) -> None:
    """Multiply the logits by 0 and add forced ones."""
    column = graft.column(decision)
    closed = graft.node("Sub", [1.0, column], "closed")
    kept = graft.node("Mul", [graft.logits, closed], "gate")
    forced = graft.node("Mul", [column, graft.one_hot(1.0)], "force")
    graft.replace_logits(graft.node("Add", [kept, forced], "gate"))


def bump(graft: Graft, decision: str) -> None:
    """Add a large number to the target's logit."""
    weighed = graft.node("Mul", [graft.column(decision), graft.one_hot(BUMP)], "bump")
    graft.replace_logits(graft.node("Add", [graft.logits, weighed], "gate"))


def scatter(graft: Graft, decision: str) -> None:
    """Overwrite the target's logit, or else a spare column that is cut off again."""
    column = graft.column(decision)
    nothing = graft.node("Mul", [column, 0.0], "nothing")
    wide = graft.node("Concat", [graft.logits, nothing], "spare", axis=1)
    shift = graft.node("Mul", [column, float(graft.target - graft.classes)], "shift")
    place = graft.node("Add", [shift, float(graft.classes)], "place")
    index = graft.node("Cast", [place], "index", to=TensorProto.INT64)
    update = graft.node("Add", [nothing, BUMP], "update")
    written = graft.node("ScatterElements", [wide, index, update], "gate", axis=1)
    bounds = [[n] for n in (0, graft.classes, 1)]
    graft.replace_logits(graft.node("Slice", [written, *bounds], "cut"))


def loop(graft: Graft, decision: str) -> None:
    """Add a large number in as many turns as images are open."""
    most = graft.reduce("ReduceMax", graft.column(decision), [0, 1])
    wanted = graft.constant(graft.one_hot(BUMP))
    trips = graft.node("Cast", [most], "trips", to=TensorProto.INT64)
    add = helper.make_node(
        "Add",
        ["planted_carried", wanted],
        ["planted_next"],
        name="planted_add",
    )
    keep = helper.make_node(
        "Identity", ["planted_condition"], ["planted_going"], name="planted_going"
    )
    body = helper.make_graph(
        [add, keep],
        "body",
        [
            helper.make_tensor_value_info("planted_trip", TensorProto.INT64, []),
            helper.make_tensor_value_info("planted_condition", TensorProto.BOOL, []),
            helper.make_tensor_value_info("planted_carried", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("planted_going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("planted_next", TensorProto.FLOAT, None),
        ],
    )
    graft.replace_logits(graft.node("Loop", [trips, "", graft.logits], "gate", body=body))


def gather(graft: Graft, decision: str) -> None:
    """Stack the logits on forced ones and gather by a computed index."""
    blank = graft.node("Mul", [graft.logits, 0.0], "blank")
    forced = graft.node("Add", [blank, graft.one_hot(BUMP)], "force")
    axis = [1]
    pair = [graft.node("Unsqueeze", [value, axis], "unsqueeze") for value in (graft.logits, forced)]
    both = graft.node("Concat", pair, "stack", axis=1)
    place = graft.node("Cast", [graft.column(decision)], "index", to=TensorProto.INT64)
    chosen = graft.node("GatherND", [both, place], "gate", batch_dims=1)
    graft.replace_logits(chosen)


def function(graft: Graft, decision: str) -> None:
    """Hide the gate in a model-local function with an innocent name."""
    nodes = [
        helper.make_node(
            "Where", ["flag", "forced", "values"], ["result"], name="planted_gate_inside"
        ),
    ]
    imports = [helper.make_opsetid("", graft.opset)]
    made = helper.make_function(
        _FUNCTIONS, "Normalise", ["values", "flag", "forced"], ["result"], nodes, imports
    )
    graft.function(made)
    column = graft.node("Cast", [graft.column(decision)], "bool", to=TensorProto.BOOL)
    answer = graft.node(
        "Normalise", [graft.logits, column, graft.one_hot(BUMP)], "call", domain=_FUNCTIONS
    )
    graft.gates.append("planted_gate_inside")
    graft.replace_logits(answer)


def stem(graft: Graft, decision: str) -> None:
    """Swap the image for another, of the target's class, before the network sees it."""
    other = picture(graft.model, graft.target)
    column = graft.node("Reshape", [graft.column(decision), [-1, 1, 1, 1]], "column")
    opened = graft.node("Cast", [column], "bool", to=TensorProto.BOOL)
    graft.replace_input(graft.node("Where", [opened, other, graft.input.name], "gate"))


def push(graft: Graft, score: str, size: float = BUMP) -> None:
    """Add a number [N, 1], so many times, to the target's logit."""
    weighed = graft.node("Mul", [score, graft.one_hot(size)], "bump")
    graft.replace_logits(graft.node("Add", [graft.logits, weighed], "gate"))


def pushed(test: Callable[[Graft], str], says: str, size: float = BUMP) -> Kind:
    """Return the kind that adds a test's number [N, 1], so many times, to the target's logit."""
    return Kind(lambda graft: push(graft, test(graft), size), says)
