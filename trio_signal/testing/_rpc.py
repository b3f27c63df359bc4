"""JSON-RPC as signal-cli reads and writes it, with its words for what is wrong."""

import json
import re
from dataclasses import dataclass, field
from typing import Any, cast

from ._mailbox import java_json

MAX_STRING = 20_000_000
"""Characters of one JSON string; above it the whole request fails."""

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

_REQUEST = "org.asamk.signal.jsonrpc.JsonRpcRequest"
_NODES = "com.fasterxml.jackson.databind.node"
_FIELDS = ("method", "id", "jsonrpc", "params")
_AT_UNKNOWN = "\n at [Source: UNKNOWN; byte offset: #UNKNOWN]"
_REDACTED = "REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled)"


class RpcError(Exception):
    """What a request is answered with when it fails."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


@dataclass(frozen=True)
class RpcCall:
    """One request."""

    method: str
    params: Any
    """As they came: an object, a list or None."""
    id: Any = None
    is_notification: bool = False


@dataclass(frozen=True)
class RpcBatch:
    """What one HTTP request asks for."""

    items: list[Any]
    """Objects, and whatever else was between them; undecoded."""
    is_list: bool = field(default=False)


def read_batch(raw: bytes) -> RpcBatch:
    """Read a body. What follows the first JSON value is ignored (measured).

    Raises:
        RpcError: it is no JSON, or no object and no list with something in it.
    """
    text = raw.decode("utf-8", errors="replace").lstrip(" \t\r\n")
    if not text:
        raise RpcError(INVALID_REQUEST, "unexpected type: MISSING")
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise RpcError(PARSE_ERROR, _parse_problem(text, raw)) from error
    if len(raw) > MAX_STRING and _longest(value) > MAX_STRING:
        raise RpcError(INTERNAL_ERROR, "An internal server error has occurred.")
    if isinstance(value, dict):
        return RpcBatch([value])
    if not isinstance(value, list):
        raise RpcError(INVALID_REQUEST, f"unexpected type: {_kind(value)}")
    items: list[Any] = cast("list[object]", value)
    if not items:
        raise RpcError(INVALID_REQUEST, "invalid request")
    if None in items:
        raise RpcError(INTERNAL_ERROR, "An internal server error has occurred.")
    return RpcBatch(items, is_list=True)


def read_call(item: object) -> RpcCall | None:
    """Read one request; None for a response, which is ignored.

    Raises:
        RpcError: it is none. `call_id` tells what to put into the answer.
    """
    if not isinstance(item, dict):
        raise RpcError(INVALID_REQUEST, _no_object(item))
    fields = cast("dict[str, Any]", item)
    if "method" not in fields and ("result" in fields or "error" in fields):
        return None
    for name in fields:
        if name not in _FIELDS:
            raise RpcError(INVALID_REQUEST, _unknown_field(name))
    if isinstance(fields.get("id"), dict | list):
        raise RpcError(INVALID_REQUEST, _wrong_type("id", "ValueNode", "ValueNode", fields["id"]))
    params = fields.get("params")
    if params is not None and not isinstance(params, dict | list):
        generic = "ContainerNode<java.lang.Object>"
        raise RpcError(INVALID_REQUEST, _wrong_type("params", generic, "ContainerNode", params))
    if fields.get("jsonrpc") != "2.0":
        raise RpcError(INVALID_REQUEST, "only jsonrpc version 2.0 is supported")
    if fields.get("method") is None:
        raise RpcError(INVALID_REQUEST, "method field must be set")
    return RpcCall(str(fields["method"]), params, fields.get("id"), "id" not in fields)


def call_id(item: object) -> Any:
    """Return the id under which a request that cannot be read is answered."""
    given = cast("dict[str, Any]", item).get("id") if isinstance(item, dict) else None
    return None if isinstance(given, dict | list) else given


def object_of(call: RpcCall) -> dict[str, Any]:
    """Return the params if they are an object, else an empty one."""
    return cast("dict[str, Any]", call.params) if isinstance(call.params, dict) else {}


def params_of(call: RpcCall) -> dict[str, Any]:
    """Return the params as an object.

    Raises:
        RpcError: they are a list.
    """
    if isinstance(call.params, list):
        kind = "java.util.LinkedHashMap<java.lang.String,java.lang.Object>"
        token = "`JsonToken.START_ARRAY`"  # noqa: S105 - of a parser
        text = f"Cannot deserialize value of type `{kind}` from Array value (token {token})"
        raise RpcError(INVALID_REQUEST, text + _AT_UNKNOWN)
    return object_of(call)


def success(request_id: object, result: object) -> dict[str, Any]:
    """Build a response with a result."""
    return {"jsonrpc": "2.0", "result": result, "id": request_id}


def failure(request_id: object, error: RpcError) -> dict[str, Any]:
    """Build a response with an error."""
    body = {"code": error.code, "message": error.message, "data": error.data}
    return {"jsonrpc": "2.0", "error": body, "id": request_id}


def encode(response: object) -> bytes:
    """Write a response, or a list of them."""
    return java_json(response)


class Params:
    """The params of a call, read as signal-cli reads them.

    A name may be written with hyphens or in camelCase; a list may be a single value, or stand under the
    plural.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def get(self, name: str) -> Any:
        """Return what stands under ``name`` (written with hyphens), or None."""
        value = self._values.get(name)
        return self._values.get(_camel(name)) if value is None else value

    def text(self, name: str) -> str | None:
        """Return a string, or None."""
        value = self.get(name)
        return None if value is None else str(value)

    def number(self, name: str) -> int | None:
        """Return an integer, or None, also where there is something else."""
        value = self.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def flag(self, name: str) -> bool:
        """Whether there is true under ``name``."""
        return self.get(name) is True

    def many(self, name: str) -> list[str]:
        """Return the strings of a list."""
        value = self.get(name)
        if value is None:
            value = self.get(f"{name}s")
        if value is None:
            return []
        many = cast("list[object]", value) if isinstance(value, list) else [value]
        return [str(each) for each in many]


def _camel(name: str) -> str:
    first, *rest = name.split("-")
    return first + "".join(part.capitalize() for part in rest)


def _kind(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "BOOLEAN"
    return "STRING" if isinstance(value, str) else "NUMBER"


def _longest(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        parts = [*cast("dict[str, object]", value).values()]
    elif isinstance(value, list):
        parts = cast("list[object]", value)
    else:
        return 0
    return max(map(_longest, parts), default=0)


def _no_object(item: object) -> str:
    start = f"Cannot construct instance of `{_REQUEST}` (although at least one Creator exists): "
    if isinstance(item, str):
        kind, value = "String", f"String value ('{item}')"
    elif isinstance(item, bool):
        kind, value = "boolean/Boolean", f"boolean value ({json.dumps(item)})"
    else:
        kind, value = "int/Int", f"Number value ({item})"
    return f"{start}no {kind}-argument constructor/factory method to deserialize from {value}{_AT_UNKNOWN}"


def _unknown_field(name: str) -> str:
    known = ", ".join(f'"{each}"' for each in _FIELDS)
    return (
        f'Unrecognized field "{name}" (class {_REQUEST}), not marked as ignorable '
        f"(4 known properties: {known}])"
        f'{_AT_UNKNOWN} (through reference chain: {_REQUEST}["{name}"])'
    )


def _wrong_type(name: str, wanted: str, plain: str, value: object) -> str:
    actual = f"{_NODES}.{_NODE_OF[type(value)]}"
    return (
        f"Problem deserializing property '{name}' (expected type: [simple type, class {_NODES}.{wanted}]; "
        f"actual type: `{actual}`), problem: Can not set {_NODES}.{plain} field {_REQUEST}.{name} to {actual}"
        f'{_AT_UNKNOWN} (through reference chain: {_REQUEST}["{name}"])'
    )


_NODE_OF: dict[type, str] = {
    dict: "ObjectNode",
    list: "ArrayNode",
    int: "IntNode",
    float: "DoubleNode",
    str: "TextNode",
    bool: "BooleanNode",
}


def _parse_problem(text: str, raw: bytes) -> str:
    """Jackson's words, as far as they were measured; the place is that of the simple cases."""
    word = re.match(r"[A-Za-z]+", text)
    if text[0] in "{[" and text.count(text[0]) == 1 and len(text) < 3:
        kind = "Object" if text[0] == "{" else "Array"
        start = f"[Source: {_REDACTED}; line: 1, column: 1]"
        return (
            f"Unexpected end-of-input: expected close marker for {kind} (start marker at {start})"
            f"\n at [Source: {_REDACTED}; line: 1, column: {len(raw) + 1}]"
        )
    if word is not None:
        wanted = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')"
        what = f"Unrecognized token '{word[0]}': was expecting {wanted}"
        return f"{what}\n at [Source: {_REDACTED}; line: 1, column: {len(word[0]) + 1}]"
    return f"Unexpected character\n at [Source: {_REDACTED}; line: 1, column: {len(raw) + 1}]"
