"""JSON messages through a pipe, each preceded by its length."""

import json
import struct
from typing import IO, Any

_HEADER = struct.Struct(">I")
# What a reader accepts. A message takes up to thirty times its bytes once it is parsed ("[],[],"),
# so its values are counted before that.
_LARGEST = 2**26  # bytes
_MOST_VALUES = 2**21  # numbers, texts, lists and objects: 200 MiB at most
_MOST_HELD = 64  # messages on a shelf


def write(pipe: IO[bytes], message: dict[str, Any]) -> None:
    """Send one message.

    Raises:
        ValueError: A reader would reject it as too large.
    """
    pipe.write(packed(message))
    pipe.flush()


def packed(message: dict[str, Any]) -> bytes:
    """Return the bytes of one message.

    Raises:
        ValueError: A reader would reject it as too large.
    """
    data = json.dumps(message).encode()
    _check_size(len(data))
    _check_values(data)
    return _HEADER.pack(len(data)) + data


def read(pipe: IO[bytes]) -> dict[str, Any] | None:
    """Return the next message, or None at the end of the pipe.

    Raises:
        ValueError: What was received is not a message.
    """
    data = receive(pipe)
    return None if data is None else parsed(data)


def receive(pipe: IO[bytes]) -> bytes | None:
    """Return the bytes of the next message, or None at the end of the pipe.

    Raises:
        ValueError: It is too large for a message.
    """
    header = pipe.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    (size,) = _HEADER.unpack(header)
    _check_size(size)
    data = pipe.read(size)
    if len(data) < size:
        return None
    _check_values(data)
    return data


def parsed(data: bytes) -> dict[str, Any]:
    """Return the message of these bytes.

    Raises:
        ValueError: They are not one.
    """
    try:
        message = json.loads(data)
    except RecursionError as error:
        raise ValueError("a message nested too deeply") from error
    if not isinstance(message, dict):
        raise ValueError("not an object")  # noqa: TRY004 - data, not a caller's type
    return message


class Shelf:
    """Messages that are kept unread, together no larger than one may be.

    Attributes:
        held: Their bytes.
    """

    def __init__(self) -> None:
        self.held: list[bytes] = []
        self._size = self._values = 0

    def put(self, data: bytes) -> None:
        """Keep a message if there is room."""
        size, values = self._size + len(data), self._values + _values(data)
        if len(self.held) < _MOST_HELD and size <= _LARGEST and values <= _MOST_VALUES:
            self.held.append(data)
            self._size, self._values = size, values


def _check_size(size: int) -> None:
    if size > _LARGEST:
        raise ValueError(f"a message of {size} bytes")


def _check_values(data: bytes) -> None:
    """Reject a message of too many values; what looks like one inside a text counts too.

    A message is ASCII, as `json` writes it: one other character would make a text four times as
    large.
    """
    values = _values(data)
    if values > _MOST_VALUES:
        raise ValueError(f"a message of {values} values")
    if not data.isascii():
        raise ValueError("a message that is not ASCII")


def _values(data: bytes) -> int:
    return 1 + sum(data.count(sign) for sign in (b",", b"[", b"{"))
