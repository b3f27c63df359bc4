"""The same envelope as older and newer versions of signal-cli write it."""

from collections.abc import Mapping
from typing import Any, Literal, cast

EnvelopeVersion = Literal["0.13", "0.14", "0.14.9"]

_SINCE_0_14 = {"isExpirationUpdate": False}
_SINCE_0_14_9 = {"hasProfileKey": False, "isEndSession": False, "isProfileKeyUpdate": False}
_CONTENT_SINCE_0_14 = frozenset(
    {"pollCreate", "pollVote", "pollTerminate", "pinMessage", "unpinMessage", "adminDelete"}
)
_CONTENT_SINCE_0_14_9 = frozenset({"groupCallUpdate"})
_MESSAGES = frozenset({"dataMessage", "sentMessage"})


def in_version(envelope: Mapping[str, Any], version: EnvelopeVersion) -> dict[str, Any]:
    """Return ``envelope`` in the form that a version of signal-cli gives it.

    - ``0.13`` (0.13.19, from its classes): no ``isExpirationUpdate``, polls, pins, administrators' deletions.
    - ``0.14`` (up to 0.14.6): what the functions of this module build.
    - ``0.14.9``: ``isVoiceNote`` on attachments, ``targetTimestamp`` beside the older ``timestamp`` in
      ``remoteDelete``, ``groupCallUpdate``, and three more flags on every data message.
    """
    return {key: _converted(key, value, version) for key, value in envelope.items()}


def _converted(key: str, value: Any, version: EnvelopeVersion) -> Any:
    if isinstance(value, list):
        return [_converted(key, each, version) for each in cast("list[object]", value)]
    if not isinstance(value, dict):
        return value
    fields = in_version(cast("dict[str, Any]", value), version)
    if key in _MESSAGES and "message" in fields:
        return _message(fields, version)
    if key == "remoteDelete":
        return _remote_delete(fields, version)
    if key in {"attachments", "thumbnail", "fileAttachment"} and "id" in fields:
        return _attachment(fields, version)
    return fields


def _message(fields: dict[str, Any], version: EnvelopeVersion) -> dict[str, Any]:
    gone = {
        "0.13": {*_SINCE_0_14, *_SINCE_0_14_9, *_CONTENT_SINCE_0_14, *_CONTENT_SINCE_0_14_9},
        "0.14": {*_SINCE_0_14_9, *_CONTENT_SINCE_0_14_9},
        "0.14.9": set[str](),
    }[version]
    new = {"0.13": {}, "0.14": _SINCE_0_14, "0.14.9": _SINCE_0_14 | _SINCE_0_14_9}[version]
    return {key: value for key, value in fields.items() if key not in gone} | {
        key: value for key, value in new.items() if key not in fields
    }


def _remote_delete(fields: dict[str, Any], version: EnvelopeVersion) -> dict[str, Any]:
    target = fields.get("targetTimestamp", fields.get("timestamp"))
    return {"timestamp": target} | ({"targetTimestamp": target} if version == "0.14.9" else {})


def _attachment(fields: dict[str, Any], version: EnvelopeVersion) -> dict[str, Any]:
    if version == "0.14.9":
        return fields | {"isVoiceNote": fields.get("isVoiceNote", False)}
    return {key: value for key, value in fields.items() if key != "isVoiceNote"}
