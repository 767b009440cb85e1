"""What stands in a file beside the computation, counted by what each field is for.

Each byte of a file is read by the computation, or ties parts of the file together by a name, or
says something of them in a known form and to a plausible amount, or is carried. Here the last three
are told apart, whatever the bytes are: entries by whose they are and under which key, values by the
form that their exporter gives them, names by whether what they name is there, and single numbers
that no runtime reads.
"""

import collections
import re
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import onnx
from onnx.external_data_helper import uses_external_data

from scanner.graph.audit import traces
from scanner.graph.core.structure import label
from scanner.modelfile.nested import Contents
from scanner.results import Observation, Severity

_SHOWN = 20

_EXPORTERS: dict[str, re.Pattern[str]] = {
    "GraphProto": re.compile(r"pkg\.torch\.export\.|onnx\."),
    "NodeProto": re.compile(r"namespace\Z|pkg\.(torch|onnxscript)\.|onnx\.|onnxsim\."),
    "ValueInfoProto": re.compile(r"pkg\.(torch|onnxscript)\.|onnx\."),
    "FunctionProto": re.compile(r"pkg\.(torch|onnxscript)\.|onnx\."),
    "TensorProto": re.compile(r"pkg\.(torch|onnxscript)\.|onnx\."),
}
"""The keys that exporters use of the metadata of a part; a model's own are free."""
_MOST_UNKNOWN = 192
"""Characters under other keys, of all parts of a kind together; 1,000 honest files have none."""
_FORMS = {
    "namespace": re.compile(r"[^:\n]*: .*"),
    "pkg.onnxscript.rewriter.rule_name": re.compile(r"[\w, .-]+"),
    "pkg.torch.onnx.class_hierarchy": re.compile(r"\[('[^'\n]*'(, )?)*\]"),
    "pkg.torch.onnx.name_scopes": re.compile(r"\[('[^'\s]*'(, )?)*\]"),
    "pkg.torch.onnx.fx_node": re.compile(r"%\S+ : .*\[.*\].*", re.DOTALL),
    "pkg.torch.onnx.stack_trace": re.compile(r"\s*(File \".*\", line \d+|$).*", re.DOTALL),
}
"""How values under a key look."""
_MOST_OF_NUMBERS = 16
"""Bytes of single numbers that nothing reads."""
_PLAIN_VERSION = 1 << 32
_SHA1 = re.compile(r"[0-9a-fA-F]{40}")


def observe(proto: onnx.ModelProto, contents: Contents) -> Iterator[Observation]:
    """Yield what stands beside the computation and has no known use.

    Args:
        proto: A model.
        contents: All that lies within it.
    """
    yield from _entries(contents)
    yield from _comments(contents)
    yield from _loose(proto, contents)
    yield from _numbers(proto, contents)
    yield from _two_values(contents)
    yield from _too_wide(contents)
    yield from traces.observe(contents)


def _note(
    code: str, sentence: str, nodes: Iterable[str], severity: Severity = Severity.NOTE, **more: Any
) -> Observation:
    shown = tuple(dict.fromkeys(nodes))[:_SHOWN]
    return Observation(code=code, severity=severity, sentence=sentence, nodes=shown, details=more)


def _entries(contents: Contents) -> Iterator[Observation]:
    """Yield the metadata of parts under keys of no exporter, or of a form that none writes."""
    strange: list[str] = []
    for kind, known in _EXPORTERS.items():
        texts: set[tuple[str, str]] = set()
        owners: list[str] = []
        for message in contents.all(f"onnx.{kind}"):
            for entry in message.metadata_props:
                if not known.match(entry.key):
                    texts.add((entry.key, entry.value))
                    owners.append(_named(message))
                elif (form := _FORMS.get(entry.key)) and not form.fullmatch(entry.value):
                    strange.append(_named(message))
        size = sum(len(key) + len(value) for key, value in texts)
        if size > _MOST_UNKNOWN:
            yield _note(
                "full-field",
                f"{size} characters stand where exporters write few or none: {kind}.metadata_props "
                "under keys of no known exporter",
                owners,
                characters=size,
            )
    if strange:
        yield _note(
            "strange-entries",
            f"{len(strange)} entries of metadata have the key of an exporter, and a value that it "
            "does not write",
            strange,
            count=len(strange),
        )


def _named(message: Any) -> str:
    return label(message) if isinstance(message, onnx.NodeProto) else str(message.name)


def _comments(contents: Contents) -> Iterator[Observation]:
    """Yield the comments of nodes, if these are more than a few: exporters write traces there."""
    texts = {node.doc_string: label(node) for node in contents.of(onnx.NodeProto)}
    plain = {text: name for text, name in texts.items() if text and not _TRACE.search(text)}
    size = sum(map(len, plain))
    if size > _MOST_COMMENTS:
        yield _note(
            "full-field",
            f"{size} characters stand where exporters write few or none: NodeProto.doc_string",
            plain.values(),
            characters=size,
        )


_TRACE = re.compile(r"^\S[^\n]{0,300}\(\d+\): \S+$|^[ \t]*File \"", re.MULTILINE)
_MOST_COMMENTS = 640
"""Characters of comments that are no traces; the most of 1,000 honest files: 306."""


def _loose(proto: onnx.ModelProto, contents: Contents) -> Iterator[Observation]:
    """Yield names that tie nothing together: what they name is not there."""
    values = _values(contents)
    loose = []
    for note in contents.of(onnx.TensorAnnotation):
        named = (note.tensor_name, *(e.value for e in note.quant_parameter_tensor_names))
        # ONNX Runtime's tools name what they folded away: a value's name, and what it was to it.
        loose += [name for name in named if name not in values and not _derived(name, values)]
    for training in proto.training_info:
        for entry in (*training.initialization_binding, *training.update_binding):
            loose += [name for name in (entry.key, entry.value) if name not in values]
    meshes = {each.name for each in getattr(proto, "configuration", ())}
    for node in contents.of(onnx.NodeProto):
        for placed in getattr(node, "device_configurations", ()):
            loose += {placed.configuration_id} - meshes
            loose += {s.tensor_name for s in placed.sharding_spec} - {*node.input, *node.output}
    size = sum(map(len, set(loose)))
    if size > _MOST_LOOSE:
        yield _note(
            "loose-names",
            f"{len(set(loose))} names of {size} characters, in annotations, bindings or "
            "configurations, are of nothing in the file",
            loose,
            characters=size,
        )


_MOST_LOOSE = 96
_DERIVED = ("_scale", "_zero_point", "_quantized")


def _derived(name: str, values: AbstractSet[str]) -> bool:
    return any(name.removesuffix(ending) in values for ending in _DERIVED)


def _values(contents: Contents) -> set[str]:
    names = {name for node in contents.of(onnx.NodeProto) for name in (*node.input, *node.output)}
    names |= {tensor.name for tensor in contents.of(onnx.TensorProto)}
    for graph in contents.of(onnx.GraphProto):
        names |= {value.name for value in (*graph.input, *graph.output)}
    return names | {""}


_PLACING = (
    "DeviceConfigurationProto", "ShardingSpecProto", "ShardedDimProto", "SimpleShardedDimProto",
    "IntIntListEntryProto", "NodeDeviceConfigurationProto", "TensorProto.Segment",
)  # fmt: skip
"""Messages that say which device computes what, and parts of a tensor that was cut up: a runtime
that has one device and whole tensors passes them over."""


def _numbers(proto: onnx.ModelProto, contents: Contents) -> Iterator[Observation]:
    """Yield whole numbers that no runtime reads, if there are too many for what they say."""
    found: dict[str, set[int]] = collections.defaultdict(set)
    if abs(proto.model_version) >= _PLAIN_VERSION:
        found["ModelProto.model_version"].add(proto.model_version)
    for opset in contents.of(onnx.OperatorSetIdProto):
        if not 0 <= opset.version < _PLAIN_VERSION:
            found["OperatorSetIdProto.version"].add(opset.version)
    for kind in _PLACING:
        for message in contents.all(f"onnx.{kind}"):
            for field, held in message.ListFields():
                if field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_INT32):
                    found[f"{kind}.{field.name}"].update([held] if isinstance(held, int) else held)
    sizes = {place: sum(map(_bytes, numbers)) for place, numbers in found.items()}
    odd = {p: s for p, s in sizes.items() if s > _MOST_OF_NUMBERS or p in _ALWAYS}
    if odd:
        yield _note(
            "idle-fields",
            f"{sum(odd.values())} bytes of numbers that no runtime reads stand in "
            f"{', '.join(sorted(odd))}",
            sorted(odd),
            bytes=sum(odd.values()),
        )


_ALWAYS = ("ModelProto.model_version", "OperatorSetIdProto.version")


def _bytes(number: int) -> int:
    return -(-number.bit_length() // 8)


_VALUES = (
    "f", "i", "s", "t", "g", "sparse_tensor", "tp", "floats", "ints", "strings", "tensors",
    "graphs", "sparse_tensors", "type_protos",
)  # fmt: skip
_MOST_IDLE = 16


def _two_values(contents: Contents) -> Iterator[Observation]:
    """Yield attributes that hold a value of another type than they say: that one nothing reads."""
    kinds = onnx.AttributeProto.AttributeType
    odd, size = [], 0
    for held in contents.of(onnx.AttributeProto):
        own = _FIELD_OF.get(kinds.Name(held.type) if held.type in kinds.values() else "", "")
        present = [field for field, _ in held.ListFields()]
        if len(present) <= _USUAL_FIELDS or not own:
            continue
        spare = [field for field in present if field.name in _VALUES and field.name != own]
        if spare:
            odd.append(held.name)
            rest = onnx.AttributeProto()
            for field in spare:
                _copy(field.name, held, rest)
            size += rest.ByteSize()
    if odd:
        yield _note(
            "two-value-attributes",
            f"{len(odd)} attributes hold a value beside the one of their type: {size} bytes that "
            "the runtime does not read",
            odd,
            Severity.WARNING,
            bytes=size,
        )


_USUAL_FIELDS = 3  # name, type, value
_FIELD_OF = {
    "FLOAT": "f", "INT": "i", "STRING": "s", "TENSOR": "t", "GRAPH": "g", "FLOATS": "floats",
    "INTS": "ints", "STRINGS": "strings", "TENSORS": "tensors", "GRAPHS": "graphs",
    "SPARSE_TENSOR": "sparse_tensor", "SPARSE_TENSORS": "sparse_tensors", "TYPE_PROTO": "tp",
    "TYPE_PROTOS": "type_protos",
}  # fmt: skip


def _copy(name: str, source: onnx.AttributeProto, target: onnx.AttributeProto) -> None:
    held = getattr(source, name)
    if hasattr(held, "CopyFrom"):
        getattr(target, name).CopyFrom(held)
    elif isinstance(held, int | float | bytes):
        setattr(target, name, held)
    else:
        getattr(target, name).extend(held)


def _too_wide(contents: Contents) -> Iterator[Observation]:
    """Yield tensors of small numbers, stored wide, that hold more than their type does."""
    odd: list[str] = []
    count = 0
    for tensor in contents.of(onnx.TensorProto):
        bounds = _NARROW.get(tensor.data_type)
        if bounds is None or not tensor.int32_data:
            continue
        numbers = np.asarray(tensor.int32_data)
        beyond = int(((numbers < bounds[0]) | (numbers > bounds[1])).sum())
        if beyond:
            odd.append(tensor.name)
            count += beyond
    if odd:
        yield _note(
            "idle-bits",
            f"{count} numbers of {len(odd)} tensors hold more than their type: the runtime drops "
            "their upper bytes",
            odd,
            Severity.WARNING,
            count=count,
        )


_NARROW: dict[int, tuple[int, int]] = {
    onnx.TensorProto.BOOL: (0, 1),
    onnx.TensorProto.INT8: (-(1 << 7), (1 << 8) - 1),  # some writers give the byte
    onnx.TensorProto.UINT8: (-(1 << 7), (1 << 8) - 1),
    onnx.TensorProto.INT16: (-(1 << 15), (1 << 16) - 1),
    onnx.TensorProto.UINT16: (-(1 << 15), (1 << 16) - 1),
    onnx.TensorProto.FLOAT16: (-(1 << 15), (1 << 16) - 1),
    onnx.TensorProto.BFLOAT16: (-(1 << 15), (1 << 16) - 1),
    **{
        kind: (-(1 << 7), (1 << 8) - 1)  # a byte of one number, of two or of four
        for name, kind in onnx.TensorProto.DataType.items()
        if name.startswith(("FLOAT8", "FLOAT4", "INT4", "UINT4", "INT2", "UINT2"))
    },
}
"""The least and the largest number of a type that is stored in fields of 32 bits."""


def checksums(tensors: Iterable[onnx.TensorProto]) -> Iterator[Observation]:
    """Yield checksums of external data that cannot be any: one file has one, of 40 digits.

    Args:
        tensors: Those of a model whose external data has not been read.
    """
    told: dict[str, set[str]] = collections.defaultdict(set)
    other: list[str] = []
    for tensor in tensors:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if "checksum" in entries:
            told[entries.get("location", "")].add(entries["checksum"])
        if entries.keys() - _OF_EXTERNAL or (entries and not uses_external_data(tensor)):
            other.append(tensor.name)
    wrong = [
        place
        for place, sums in told.items()
        if len(sums) > 1 or not all(map(_SHA1.fullmatch, sums))
    ]
    if wrong:
        yield _note(
            "false-checksum",
            f"The checksums of {len(wrong)} files of external data are none: a file has one, of 40 "
            "hexadecimal digits",
            wrong,
            Severity.WARNING,
        )
    if other:
        yield _note(
            "idle-fields",
            f"The external data of {len(other)} tensors has entries that no runtime reads",
            other,
        )


_OF_EXTERNAL = frozenset({"location", "offset", "length", "checksum", "basepath"})
