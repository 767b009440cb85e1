"""Protocol Buffers on the wire: the numbers and fields of which an ONNX file is made.

Every part of the scanner that looks at a file's bytes reads and writes them here. The figure that
pays for reading bytes at all is in `scanner.modelfile.fast_reader`.

Source: the Protocol Buffers encoding specification, "Base 128 Varints" and "Message Structure".
"""

VARINT, FIXED64, BYTES, GROUP, GROUP_END, FIXED32 = 0, 1, 2, 3, 4, 5
"""Wire types: how a field's content is stored."""

_FIXED_SIZES = {FIXED64: 8, FIXED32: 4}
_CONTINUES = 0x80  # the bit that says that more bytes follow
_LONGEST = 10  # bytes; a varint holds 64 bits


class WireError(ValueError):
    """The bytes end in the middle of a field, or are not a field."""


def read_varint(data: memoryview, position: int) -> tuple[int, int]:
    """Read a number and return it with the position behind it.

    Whether it is written in as few bytes as possible, and fits 64 bits, is left to the caller.

    Raises:
        WireError: The data ends within the number, or the number does not end.
    """
    result = shift = 0
    end = min(len(data), position + _LONGEST)
    while position < end:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < _CONTINUES:
            return result, position
        shift += 7
    raise WireError("a number without end")


def read_field(data: memoryview, position: int) -> tuple[int, int, int, int]:
    """Find one field.

    Args:
        data: A message.
        position: Where the field starts.

    Returns:
        The field's number, its wire type, and where its content starts and ends. The next field
        starts where the content ends. The content of a group, an old way of nesting fields that
        parsers step over, includes its end.

    Raises:
        WireError: The data ends within the field, or is not a field.
    """
    tag, start = read_varint(data, position)
    number, wire_type = tag >> 3, tag & 7
    if wire_type == VARINT:
        _, end = read_varint(data, start)
    elif wire_type == BYTES:
        size, start = read_varint(data, start)
        end = start + size
    elif wire_type in _FIXED_SIZES:
        end = start + _FIXED_SIZES[wire_type]
    elif wire_type == GROUP:
        end = _behind_group(data, start, number)
    else:
        raise WireError("an unknown wire type")
    if number == 0 or end > len(data):
        raise WireError("a field that is cut short, or has no number")
    return number, wire_type, start, end


def _behind_group(data: memoryview, position: int, number: int) -> int:
    """Return the position behind a group that has just been opened, and all groups within it."""
    opened = [number]
    while opened:
        tag, behind = read_varint(data, position)
        wire_type = tag & 7
        if wire_type == GROUP:
            opened.append(tag >> 3)
        elif wire_type == GROUP_END:
            if opened.pop() != tag >> 3:
                raise WireError("a group that ends under another number")
        else:
            *_, behind = read_field(data, position)
        position = behind
    return position


def write_varint(number: int) -> bytes:
    """Write a number that is not negative, in as few bytes as possible."""
    written = bytearray()
    while number >= _CONTINUES:
        written.append(number & 0x7F | _CONTINUES)
        number >>= 7
    written.append(number)
    return bytes(written)


def write_number_field(number: int, content: int) -> bytes:
    """Write a field that holds a number."""
    return write_varint(number << 3 | VARINT) + write_varint(content)


def write_field(number: int, content: bytes | memoryview) -> bytes:
    """Write a field that holds bytes: a text, a message or raw data."""
    return b"".join((write_varint(number << 3 | BYTES), write_varint(len(content)), content))
