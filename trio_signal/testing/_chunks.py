"""Server-Sent Events in HTTP chunks, as signal-cli's daemon writes them."""

KEEP_ALIVE = b":\n"
"""A comment, with no blank line after it."""
LAST_CHUNK = b"0\r\n\r\n"

_CHUNK_SIZE = 4096
"""Bytes of content that Java's HTTP server puts into one chunk at most."""


def chunk(data: bytes) -> bytes:
    """Build one chunk, of any size; what `FakeGateway.send_frame` can write."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(data: bytes) -> bytes:
    """Build a ``receive`` event: no space after the colons, no id. Each line of ``data`` gets a field."""
    lines = b"".join(b"data:%b\n" % line for line in data.split(b"\n"))
    return b"event:receive\n%b\n" % lines


def chunked(content: bytes) -> bytes:
    """Build the chunks in which Java's HTTP server writes ``content`` when it is flushed at the end."""
    return b"".join(chunk(content[at : at + _CHUNK_SIZE]) for at in range(0, len(content), _CHUNK_SIZE))


def event_frame(payload: bytes) -> bytes:
    """Build the chunks of one event."""
    return chunked(event(payload))


def torn_event(payload: bytes, parts: int = 3) -> bytes:
    """Build one event as ``parts`` chunks, whose boundaries lie anywhere."""
    content = event(payload)
    size = -(-len(content) // parts)
    return b"".join(chunk(content[at : at + size]) for at in range(0, len(content), size))
