"""JSON messages through a pipe, each preceded by its length."""

import json
import struct
from typing import IO, Any

_HEADER = struct.Struct(">I")
_LARGEST = 2**28  # bytes; a reader rejects any larger length


def write(pipe: IO[bytes], message: dict[str, Any]) -> None:
    """Send one message.

    Raises:
        ValueError: It is too long.
    """
    data = json.dumps(message).encode()
    if len(data) > _LARGEST:
        raise ValueError(f"a message of {len(data)} bytes")
    pipe.write(_HEADER.pack(len(data)) + data)
    pipe.flush()


def read(pipe: IO[bytes]) -> dict[str, Any] | None:
    """Return the next message, or None at the end of the pipe.

    Raises:
        ValueError: What was received is not a message.
    """
    header = pipe.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    (size,) = _HEADER.unpack(header)
    if size > _LARGEST:
        raise ValueError(f"a message of {size} bytes")
    data = pipe.read(size)
    if len(data) < size:
        return None
    try:
        message = json.loads(data)
    except RecursionError as error:
        raise ValueError("a message nested too deeply") from error
    if not isinstance(message, dict):
        raise ValueError("not an object")  # noqa: TRY004 - data, not a caller's type
    return message
