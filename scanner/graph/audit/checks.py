"""What a model file holds besides an honest network: second weights, stowaways, code, damage."""

import collections
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import external_data_helper, numpy_helper

from scanner.graph.audit import carried, ledger, wire
from scanner.graph.audit.names import unused_domains
from scanner.graph.core.structure import label
from scanner.limits import Limits
from scanner.modelfile import external_data, nested
from scanner.modelfile.domains import STANDARD_DOMAINS, canonical
from scanner.results import Observation, Severity

_VALUE_FIELDS = (
    "raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data",
    "string_data", "external_data",
)  # fmt: skip
_STANDARD = {*STANDARD_DOMAINS, "ai.onnx.ml"}
_KNOWN_DOMAINS = {
    "com.microsoft": "ONNX Runtime",
    "com.microsoft.nchwc": "ONNX Runtime's optimiser",
    "com.microsoft.experimental": "ONNX Runtime",
    "com.ms.internal.nhwc": "ONNX Runtime's optimiser",
    "ai.onnx.preview.training": "ONNX",
    "ai.onnx.training": "ONNX",
    "ai.onnx.preview": "ONNX",
}
_CODE = {
    "PythonOp": "calls a Python function that the file names",
    "PythonOpGrad": "calls a Python function that the file names",
    "PyOp": "calls a Python function that the file names",
    "PyCustomOp": "calls a Python function that the file names",
    "PyCustomOpDef": "calls a Python function that the file names",
    "TritonOp": "compiles and runs code that the file names",
    "ExternalFunctionOp": "calls a function of a library that the file names",
    "TRT_EngineOp": "loads a compiled engine",
    "EPContext": "loads compiled code that no reader can show",
}
_LARGE_TEXT = 1 << 16
"""Characters of metadata or documentation from which they could hold something else."""
_LARGE_WEIGHT = 1e6
"""Trained weights stay far below this."""
_LEAST_PADDING = 16
_FEW = 16
"""Fewer numbers are settings, such as the -1e9 of an attention mask, not weights."""
_SHOWN = 20
"""Names that an observation lists."""

Array = npt.NDArray[Any]
Check = Callable[[onnx.ModelProto, bytes, Path], Iterable[Observation]]


def audit(
    proto: onnx.ModelProto,
    data: bytes,
    path: Path,
    limits: Limits | None = None,
    whole: onnx.ModelProto | None = None,
) -> tuple[Observation, ...]:
    """Return everything notable about a file, the most severe first.

    Args:
        proto: The parsed file.
        data: Its bytes.
        path: Where it lies; external data is looked for beside it.
        limits: How many fields of the file may be looked at one by one; None sets no limit.
        whole: The model with its external data; None where that was not read.

    Raises:
        UnsafeModelError: The file has more fields.
    """
    wire_check = functools.partial(_wire, most=None if limits is None else limits.parts)
    checks = (wire_check if check is _wire else check for check in _CHECKS)
    found = itertools.chain.from_iterable(check(proto, data, path) for check in checks)
    goods = carried.observe(proto if whole is None else whole, data)
    spare = () if whole is None else _spare(proto, path)
    return tuple(sorted((*found, *goods, *spare), key=lambda o: -o.severity))


def _spare(proto: onnx.ModelProto, path: Path) -> Iterator[Observation]:
    """Yield what the files of external data hold beside the tensors, which have been read."""
    outside = (t for _, t in tensors(proto) if external_data_helper.uses_external_data(t))
    for name, size, data in external_data.of_model(path).spare(outside):
        yield carried.beside(name, size, data)


def tensors(proto: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Yield every tensor with a name for it, wherever it stands."""
    # Holding on to them keeps their identities: protobuf makes a new object for one that is let go.
    unnamed = {id(tensor): tensor for tensor in nested.Contents(proto).of(onnx.TensorProto)}
    for name, tensor in _named_tensors(proto):
        unnamed.pop(id(tensor), None)
        yield name, tensor
    for tensor in unnamed.values():
        yield tensor.name, tensor


def _named_tensors(proto: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Yield the tensors of graphs and nodes, with names that say where they are."""
    for graph in _graphs(proto):
        for tensor in graph.initializer:
            yield tensor.name, tensor
        for sparse in graph.sparse_initializer:
            yield sparse.values.name, sparse.values
            yield f"{sparse.values.name} (indices)", sparse.indices
    for node in _nodes(proto):
        for attribute in node.attribute:
            for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
                yield f"{label(node)}.{attribute.name}", tensor


def _graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    for graph in nested.walk([proto.graph, *proto.functions]):
        if isinstance(graph, onnx.GraphProto):
            yield graph


def _nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for graph in _graphs(proto):
        yield from graph.node
    for function in proto.functions:
        yield from function.node


def _note(
    code: str, severity: Severity, sentence: str, nodes: Sequence[str] = (), **details: Any
) -> Observation:
    shown = tuple(nodes[:_SHOWN])
    extra = {"count": len(nodes), **details} if nodes else details
    return Observation(code=code, severity=severity, sentence=sentence, nodes=shown, details=extra)


def _two_values(proto: onnx.ModelProto, _data: bytes, _path: Path) -> Iterator[Observation]:
    for name, tensor in tensors(proto):
        fields = [field for field in _VALUE_FIELDS if len(getattr(tensor, field))]
        if not external_data_helper.uses_external_data(tensor) and "external_data" in fields:
            fields.remove("external_data")  # nobody reads what it names
        if len(fields) < 2:  # noqa: PLR2004 - one value, one field
            continue
        readings = [_reading(tensor, field) for field in fields]
        first = readings[0]
        agree = first is not None and all(
            r is not None and np.array_equal(first, r) for r in readings[1:]
        )
        said = (
            "with the same numbers"
            if agree
            else "and they differ, so the weights depend on the reader"
        )
        yield _note(
            "two-value-fields",
            Severity.WARNING if agree else Severity.SUSPICIOUS,
            f"Tensor {name!r} holds its numbers twice, in {' and '.join(fields)}, {said}",
            [name],
            fields=fields,
        )


def _reading(tensor: onnx.TensorProto, field: str) -> Array | None:
    """Return a tensor as a reader of this field alone sees it.

    None where the field's content does not fit the tensor's shape and type, or is not here.
    """
    if field == "external_data":
        return None
    alone = onnx.TensorProto(dims=tensor.dims, data_type=tensor.data_type)
    if field == "raw_data":
        alone.raw_data = tensor.raw_data
    else:
        getattr(alone, field).extend(getattr(tensor, field))
    try:
        return numpy_helper.to_array(alone)
    except (ValueError, TypeError):
        return None


def _two_names(proto: onnx.ModelProto, _data: bytes, _path: Path) -> Iterator[Observation]:
    for graph in _graphs(proto):
        counts = collections.Counter(tensor.name for tensor in graph.initializer)
        contents: dict[str, set[bytes]] = collections.defaultdict(set)
        for tensor in graph.initializer:
            if counts[tensor.name] > 1:
                contents[tensor.name].add(tensor.SerializeToString(deterministic=True))
        for name, held in contents.items():
            same = len(held) == 1
            yield _note(
                "repeated-initialiser",
                Severity.WARNING if same else Severity.SUSPICIOUS,
                f"{counts[name]} initialisers have the name {name!r}"
                + (
                    ", all the same"
                    if same
                    else " that differ, so the weights depend on the reader"
                ),
                [name],
            )


def _wire(
    _proto: onnx.ModelProto, data: bytes, _path: Path, most: int | None = None
) -> Iterator[Observation]:
    found = sorted(wire.oddities(data, most), key=lambda o: (o.kind, not o.differs))
    for kind, group in itertools.groupby(found, key=lambda o: o.kind):
        odd = list(group)
        places = [f"{o.path}.{o.field}" for o in odd]
        size = sum(o.size for o in odd)
        if kind == "repeated-field":
            differs = any(o.differs for o in odd)
            yield _note(
                "repeated-field",
                Severity.SUSPICIOUS if differs else Severity.WARNING,
                f"{len(odd)} fields that may appear once in a model appear again, "
                + (
                    "with other content: parsers keep the last or merge them, so readers see "
                    "different models"
                    if differs
                    else "with the same content"
                ),
                places,
                bytes=size,
            )
        elif kind == "padded-number":
            if size >= _LEAST_PADDING:
                sentence = (
                    f"The numbers of {len(odd)} fields are written in {size} more bytes than they "
                    "need, whose bits parsers drop"
                )
                yield _note(kind, Severity.NOTE, sentence, places, bytes=size)
        else:
            said = (
                f"{size} bytes lie in fields that ONNX does not define, and that no reader shows"
                if kind == "unknown-field"
                else f"{size} bytes cannot be read as fields"
            )
            largest = max(odd, key=lambda o: len(o.sample))
            seen = carried.recognise(largest.sample)
            yield _note(
                kind,
                Severity.WARNING if seen is None else max(carried.severity(seen), Severity.WARNING),
                said + (f"; they hold {seen}" if seen is not None else ""),
                places,
                bytes=size,
                count=sum(o.count for o in odd),
            )


def _code(proto: onnx.ModelProto, _data: bytes, _path: Path) -> Iterator[Observation]:
    for node in _nodes(proto):
        if node.domain not in _STANDARD and node.op_type in _CODE:
            yield _note(
                "runs-code",
                Severity.SUSPICIOUS,
                f"Operator {node.op_type} of {node.domain!r} at {label(node)!r} "
                f"{_CODE[node.op_type]}",
                [label(node)],
                domain=node.domain,
            )


def _domains(proto: onnx.ModelProto, _data: bytes, _path: Path) -> Iterator[Observation]:
    local = {(f.domain, f.name) for f in proto.functions}
    foreign: dict[str, list[onnx.NodeProto]] = {}
    for node in _nodes(proto):
        if node.domain not in _STANDARD and (node.domain, node.op_type) not in local:
            foreign.setdefault(node.domain, []).append(node)
    for domain, nodes in foreign.items():
        owner = _KNOWN_DOMAINS.get(domain)
        kinds = ", ".join(sorted({n.op_type for n in nodes})[:_SHOWN])
        count = f"{len(nodes)} operators come" if len(nodes) > 1 else "1 operator comes"
        yield _note(
            "custom-operators",
            Severity.NOTE if owner else Severity.WARNING,
            f"{count} from {domain!r} ({owner or 'unknown origin'}): {kinds}; what "
            f"{'they do' if len(nodes) > 1 else 'it does'} is not in the file",
            [label(n) for n in nodes],
            domain=domain,
        )
    imported = [opset.domain for opset in proto.opset_import]
    used = {node.domain for node in _nodes(proto)} | {f.domain for f in proto.functions}
    yield from unused_domains(imported, used | _STANDARD | _KNOWN_DOMAINS.keys())
    for function in proto.functions:
        owner = "ONNX" if function.domain in _STANDARD else _KNOWN_DOMAINS.get(function.domain)
        if owner is not None:
            yield _note(
                "shadowed-operator",
                Severity.SUSPICIOUS,
                f"A function of this file replaces the operator {function.name!r} of {owner}: "
                "readers that know the operator and readers that expand the function run different "
                "models",
                [function.name],
            )


def _overloads(proto: onnx.ModelProto, _data: bytes, _path: Path) -> Iterator[Observation]:
    """Yield functions that only their overload tells apart, which older readers pass over."""
    bodies: dict[tuple[str, str], dict[bytes, str]] = {}
    for function in proto.functions:
        plain = onnx.FunctionProto()
        plain.CopyFrom(function)
        for said in ("overload", "doc_string", "metadata_props"):
            plain.ClearField(said)
        body = plain.SerializeToString(deterministic=True)
        bodies.setdefault((function.domain, function.name), {})[body] = function.overload
    for (domain, name), several in bodies.items():
        if len(several) > 1:
            yield _note(
                "overloaded-function",
                Severity.WARNING,
                f"{len(several)} functions are called {name!r} of {domain!r} and differ; a reader "
                "that does not know overloads runs another one than a reader that does",
                [name],
                overloads=list(several.values())[:_SHOWN],
            )


def _stowaways(proto: onnx.ModelProto, _data: bytes, _path: Path) -> Iterator[Observation]:
    used = {name for node in _nodes(proto) for name in node.input} | {
        v.name for g in _graphs(proto) for v in g.output
    }
    unused = [t for g in _graphs(proto) for t in g.initializer if t.name not in used]
    sparse = [t for g in _graphs(proto) for t in g.sparse_initializer if t.values.name not in used]
    if unused or sparse:
        size = sum(t.ByteSize() for t in (*unused, *sparse))
        yield _note(
            "unused-initialisers",
            Severity.WARNING if size > _LARGE_TEXT * 16 else Severity.NOTE,
            f"No node reads {len(unused) + len(sparse)} initialisers of {size} bytes: leftovers of "
            "an exporter, or a place to hide other data",
            [*(t.name for t in unused), *(t.values.name for t in sparse)],
            bytes=size,
        )
    called = {(n.domain, n.op_type, n.overload) for n in _nodes(proto)}
    idle = [f.name for f in proto.functions if (f.domain, f.name, f.overload) not in called]
    if idle:
        yield _note(
            "unused-functions", Severity.NOTE, f"{len(idle)} functions are never called", idle
        )
    if proto.training_info:
        size = sum(t.ByteSize() for t in proto.training_info)
        sentence = (
            f"The file carries training information of {size} bytes, which inference never reads"
        )
        yield _note("training-info", Severity.NOTE, sentence, bytes=size)
    texts = {"metadata": sum(len(p.key) + len(p.value) for p in proto.metadata_props)}
    texts["documentation"] = len(proto.doc_string) + sum(len(g.doc_string) for g in _graphs(proto))
    texts["documentation"] += sum(len(node.doc_string) for node in _nodes(proto))
    for place, size in texts.items():
        if size > _LARGE_TEXT:
            yield _note(
                "large-text",
                Severity.NOTE,
                f"The file's {place} holds {size} characters",
                characters=size,
            )


def _external(proto: onnx.ModelProto, _data: bytes, path: Path) -> Iterator[Observation]:
    outside: dict[str, str] = {}
    held = [tensor for _, tensor in tensors(proto) if tensor.external_data]
    yield from ledger.checksums(held)
    for tensor in held:
        if external_data_helper.uses_external_data(tensor):
            location = next(
                (entry.value for entry in tensor.external_data if entry.key == "location"), ""
            )
            if location not in outside and (why := external_data.trespass(path, location)):
                outside[location] = why
    for location, why in outside.items():
        sentence = (
            f"Weights are taken from {location!r}, {why}: opening the model reads somebody else's "
            "file"
        )
        yield _note("external-data-outside", Severity.WARNING, sentence, location=location)


def _versions(proto: onnx.ModelProto, _data: bytes, _path: Path) -> Iterator[Observation]:
    newest = onnx.defs.onnx_opset_version()
    if proto.ir_version > onnx.IR_VERSION:
        sentence = (
            f"The file claims IR version {proto.ir_version}; the newest known here is "
            f"{onnx.IR_VERSION}"
        )
        yield _note("future-version", Severity.WARNING, sentence)
    versions: dict[str, list[int]] = {}
    for entry in proto.opset_import:
        versions.setdefault(canonical(entry.domain), []).append(entry.version)
    if max(versions.get("", [0])) > newest:
        sentence = (
            f"The file claims operator set {max(versions[''])}; the newest known here is {newest}"
        )
        yield _note("future-version", Severity.WARNING, sentence)
    for domain, claimed in versions.items():
        if len(claimed) > 1:
            differ = len(set(claimed)) > 1
            sentence = (
                f"The operator set {domain or 'ai.onnx'!r} is imported {len(claimed)} times, in "
                f"versions {claimed}"
            )
            yield _note("repeated-opset", Severity.WARNING if differ else Severity.NOTE, sentence)


def _weights(proto: onnx.ModelProto, _data: bytes, _path: Path) -> Iterator[Observation]:
    broken, huge, flat, twin = [], [], [], []
    bounds = _bounds(proto)
    for name, tensor in tensors(proto):
        array = _numbers(tensor)
        if array is None or array.size < _FEW:
            continue
        highest = float(np.max(np.abs(array)))  # a NaN or an infinity survives this
        if not np.isfinite(highest):
            broken += [] if _may_be_infinite(name, array, bounds) else [name]
        elif highest > _LARGE_WEIGHT:
            huge.append(name)
        elif array.ndim == 4:  # noqa: PLR2004 - a convolution's kernels
            channels = {row.tobytes() for row in array} if len(array) > 1 else {b""}
            if len(array) > 1 and len(channels) == 1:
                flat.append(name)
            elif len(channels) < len(array) and len(array) > 1:
                twin.append(name)
    said_huge = f"hold numbers beyond {_LARGE_WEIGHT:.0e}, as gains, masks and running variances do"
    notes = (
        (
            "broken-weights",
            Severity.WARNING,
            broken,
            "hold NaN or infinities, which spread to whatever is computed from them",
        ),
        ("huge-weights", Severity.NOTE, huge, said_huge),
        (
            "constant-channels",
            Severity.NOTE,
            flat,
            "have all channels equal: untrained or overwritten",
        ),
        ("equal-channels", Severity.NOTE, twin, "have equal channels: pruned, untrained or copied"),
    )
    for code, severity, names, said in notes:
        if names:
            yield _note(code, severity, f"{len(names)} weight tensors {said}", names)


def _bounds(proto: onnx.ModelProto) -> set[str]:
    """Return the tensors that values are only compared with: an infinity is a bound there."""
    compared: set[str] = set()
    read: set[str] = set()
    for node in _nodes(proto):
        (compared if node.op_type in _COMPARING else read).update(node.input)
        if node.op_type in _COMPARING:
            compared |= {f"{label(node)}.{attribute.name}" for attribute in node.attribute}
    return compared - read


_COMPARING = frozenset({
    "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Min", "Max", "Clip", "TreeEnsemble",
    "TreeEnsembleClassifier", "TreeEnsembleRegressor",
})  # fmt: skip


def _may_be_infinite(name: str, array: Array, bounds: set[str]) -> bool:
    """Whether numbers are bounds, or zero and minus infinity: a mask added before a softmax."""
    if bool(np.isnan(array).any()):
        return False
    return name in bounds or bool(((array == 0) | np.isneginf(array)).all())


def _numbers(tensor: onnx.TensorProto) -> Array | None:
    """Return a float tensor's numbers without copying them.

    None for other tensors, and for data outside the file.
    """
    kinds: dict[int, str] = {
        onnx.TensorProto.FLOAT: "<f4",
        onnx.TensorProto.DOUBLE: "<f8",
        onnx.TensorProto.FLOAT16: "<f2",
    }
    if tensor.data_type not in kinds or tensor.external_data:
        return None
    if tensor.raw_data:
        itemsize = np.dtype(kinds[tensor.data_type]).itemsize
        whole = len(tensor.raw_data) == itemsize * int(np.prod(tensor.dims, dtype=np.int64))
        return (
            np.frombuffer(tensor.raw_data, kinds[tensor.data_type]).reshape(tensor.dims)
            if whole
            else None
        )
    return np.asarray(tensor.float_data or tensor.double_data, np.float64)


_CHECKS: tuple[Check, ...] = (
    _two_values, _two_names, _wire, _code, _domains, _overloads, _stowaways, _external, _versions,
    _weights,
)  # fmt: skip
