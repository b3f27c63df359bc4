"""Files that came with messages: saved whole or not at all, and never where they should not be."""

import errno
import io
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from trio_signal import ConfigurationError, ReceivedMessage, RequestFailed, SignalClient, open_signal_client
from trio_signal._saving import find_place, safe_name, save
from trio_signal._wire import Attachment
from trio_signal.testing import FakeGateway, envelopes, open_fake_gateway

MODULE: Final = "trio_signal._saving"
KINDS: Final = ("rest", "signal-cli")
#: Some of the names that are devices on Windows.
DEVICES: Final = {"CON", "PRN", "AUX", "NUL", "COM1", "LPT9"}
CONTENT: Final = bytes(range(256)) * 4096
PEER: Final = "+15550002"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def opened(kind: Any = "rest") -> AsyncGenerator[tuple[FakeGateway, SignalClient]]:
    """Open a gateway and a client, by the real clock: it would jump over what threads do."""
    with trio.fail_after(60):
        async with (
            open_fake_gateway(kind=kind, port=None) as gateway,
            open_signal_client(gateway.url, gateway.account, gateway=kind, connect=gateway.connect) as signal,
        ):
            await gateway.wait_connected()
            yield gateway, signal


async def arrived(
    gateway: FakeGateway, signal: SignalClient, content: bytes = CONTENT, **attachment: Any
) -> tuple[ReceivedMessage, Attachment]:
    """Let a message with one attachment arrive."""
    given: dict[str, Any] = {"size": len(content)} | attachment
    described = envelopes.attachment(**given)
    if described["id"] is not None:
        gateway.attachments[described["id"]] = content
    gateway.deliver(envelopes.with_attachments(described))
    message = await anext(signal.receive_messages())
    return message, message.attachments[0]


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- Saved. ---


@pytest.mark.contract("A4")
@pytest.mark.parametrize("size", [0, 1, 256 * 1024, len(CONTENT)])
async def test_a_file_is_saved_under_the_name_given(kind: str, size: int, tmp_path: Path) -> None:
    content = CONTENT[:size]
    async with opened(kind) as (gateway, signal):
        message, attachment = await arrived(gateway, signal, content)
        saved = await signal.save_attachment(message, attachment, tmp_path / "a.jpg")
    assert saved == tmp_path / "a.jpg"
    assert saved.read_bytes() == content
    assert files_in(tmp_path) == [saved]
    assert mode_of(saved) == 0o600


@pytest.mark.contract("A4")
@pytest.mark.parametrize(
    ("filename", "called"),
    [
        ("holiday.jpg", "holiday.jpg"),
        ("../../holiday.jpg", "holiday.jpg"),
        ("/etc/passwd", "passwd"),
        ("..", "picture.jpg"),
        ("", "picture.jpg"),
        (None, "picture.jpg"),
        ("CON.txt", "_CON.txt"),
    ],
)
async def test_in_a_folder_it_has_the_senders_name_made_safe(
    kind: str, filename: str | None, called: str, tmp_path: Path
) -> None:
    async with opened(kind) as (gateway, signal):
        message, attachment = await arrived(gateway, signal, filename=filename)
        saved = await signal.save_attachment(message, attachment, str(tmp_path))
    assert saved == tmp_path / called
    assert files_in(tmp_path) == [saved]


async def test_progress_is_told_up_to_the_last_byte(kind: str, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    async with opened(kind) as (gateway, signal):
        message, attachment = await arrived(gateway, signal)
        await signal.save_attachment(
            message, attachment, tmp_path, on_progress=lambda done, size: told.append((done, size))
        )
    assert len(told) > 1
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert {size for _, size in told} == {len(CONTENT)}
    assert told[-1][0] == len(CONTENT)


@pytest.mark.parametrize("size", [None, 0])
async def test_a_file_whose_size_nobody_told_is_saved_too(
    kind: str, size: int | None, tmp_path: Path
) -> None:
    async with opened(kind) as (gateway, signal):
        message, attachment = await arrived(gateway, signal, size=size)
        saved = await signal.save_attachment(message, attachment, tmp_path)
    assert saved.read_bytes() == CONTENT


@pytest.mark.threat("T11")
async def test_while_it_comes_it_is_beside_its_place_and_nobody_elses(kind: str, tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []

    def look(_: int, __: int | None) -> None:
        seen.extend((path.name, mode_of(path)) for path in tmp_path.iterdir())

    async with opened(kind) as (gateway, signal):
        message, attachment = await arrived(gateway, signal)
        await signal.save_attachment(message, attachment, tmp_path / "a.jpg", on_progress=look)
    assert len(set(seen)) == 1
    name, mode = seen[0]
    assert name.endswith(".part")
    assert mode == 0o600


# --- Not over another. ---


@pytest.mark.threat("T4")
@pytest.mark.contract("A4")
async def test_another_file_is_left_alone(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"mine")
    async with opened(kind) as (gateway, signal):
        message, attachment = await arrived(gateway, signal)
        asked = len(gateway.requests)
        with pytest.raises(ConfigurationError, match="overwrite=True") as caught:
            await signal.save_attachment(message, attachment, tmp_path / "a.jpg")
        assert len(gateway.requests) == asked
        assert caught.value.argument == "path"
        assert (tmp_path / "a.jpg").read_bytes() == b"mine"
        await signal.save_attachment(message, attachment, tmp_path / "a.jpg", overwrite=True)
    assert (tmp_path / "a.jpg").read_bytes() == CONTENT
    assert len(files_in(tmp_path)) == 1


@pytest.mark.contract("A4")
@pytest.mark.parametrize("links", [True, False], ids=["links", "no-links"])
async def test_nor_one_that_comes_while_it_is_fetched(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", no_links)

    def come(_: int, __: int | None) -> None:
        (tmp_path / "a.jpg").write_bytes(b"mine")

    async with opened() as (gateway, signal):
        message, attachment = await arrived(gateway, signal)
        with pytest.raises(ConfigurationError, match="already"):
            await signal.save_attachment(message, attachment, tmp_path / "a.jpg", on_progress=come)
    assert (tmp_path / "a.jpg").read_bytes() == b"mine"
    assert len(files_in(tmp_path)) == 1


def no_links(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.contract("A4")
@pytest.mark.parametrize("links", [True, False], ids=["links", "no-links"])
async def test_a_name_that_cannot_be_given_leaves_nothing(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "link", denied if links else no_links)
    monkeypatch.setattr(os, "replace", denied)
    async with opened() as (gateway, signal):
        message, attachment = await arrived(gateway, signal)
        with pytest.raises(OSError, match="Input/output"):
            await signal.save_attachment(message, attachment, tmp_path)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES, errno.ENOTSUP])
async def test_a_file_system_without_links_will_do(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(os, "link", refuse)
    async with opened() as (gateway, signal):
        message, attachment = await arrived(gateway, signal)
        saved = await signal.save_attachment(message, attachment, tmp_path)
    assert saved.read_bytes() == CONTENT
    assert files_in(tmp_path) == [saved]


@pytest.mark.threat("T4")
@pytest.mark.contract("A4")
async def test_a_link_to_nowhere_is_a_file_too(tmp_path: Path) -> None:
    target = tmp_path / "a.jpg"
    target.symlink_to(tmp_path / "elsewhere")
    async with opened() as (gateway, signal):
        message, attachment = await arrived(gateway, signal)
        with pytest.raises(ConfigurationError, match="already"):
            await signal.save_attachment(message, attachment, target)
        await signal.save_attachment(message, attachment, target, overwrite=True)
    assert not target.is_symlink()
    assert not (tmp_path / "elsewhere").exists()


# --- Not at all. ---


@pytest.mark.contract("A4")
@pytest.mark.parametrize("size", [1, len(CONTENT) - 1, len(CONTENT) + 1])
async def test_another_size_than_was_told_is_a_failure(kind: str, size: int, tmp_path: Path) -> None:
    async with opened(kind) as (gateway, signal):
        message, attachment = await arrived(gateway, signal, size=size)
        with pytest.raises(RequestFailed) as caught:
            await signal.save_attachment(message, attachment, tmp_path)
    assert caught.value.certainty == "not_sent"
    assert files_in(tmp_path) == []


@pytest.mark.threat("T4")
@pytest.mark.contract("A4")
@pytest.mark.parametrize("told", [True, False], ids=["told", "not-told"])
async def test_no_more_is_taken_than_allowed(kind: str, told: bool, tmp_path: Path) -> None:
    size = len(CONTENT) if told else None
    async with opened(kind) as (gateway, signal):
        message, attachment = await arrived(gateway, signal, size=size)
        with pytest.raises(RequestFailed, match=str(len(CONTENT) - 1)):
            await signal.save_attachment(message, attachment, tmp_path, max_bytes=len(CONTENT) - 1)
        assert files_in(tmp_path) == []
        await signal.save_attachment(message, attachment, tmp_path, max_bytes=len(CONTENT))


@pytest.mark.contract("A4")
async def test_what_the_gateway_has_not_is_a_failure(kind: str, tmp_path: Path) -> None:
    async with opened(kind) as (gateway, signal):
        message, attachment = await arrived(gateway, signal)
        gateway.attachments.clear()
        with pytest.raises(RequestFailed) as caught:
            await signal.save_attachment(message, attachment, tmp_path)
    assert caught.value.certainty == "not_sent"
    assert files_in(tmp_path) == []


@pytest.mark.contract("A4")
async def test_cancelled_nothing_is_left_of_it(kind: str, tmp_path: Path) -> None:
    async with opened(kind) as (gateway, signal):
        message, attachment = await arrived(gateway, signal)
        with trio.CancelScope() as scope:
            await signal.save_attachment(
                message, attachment, tmp_path, on_progress=lambda _, __: scope.cancel()
            )
        assert scope.cancelled_caught
        assert files_in(tmp_path) == []
        # It can be fetched again.
        saved = await signal.save_attachment(message, attachment, tmp_path)
    assert saved.read_bytes() == CONTENT


@pytest.mark.contract("A4")
async def test_what_the_callback_raises_ends_it(kind: str, tmp_path: Path) -> None:
    def enough(_: int, __: int | None) -> None:
        raise ZeroDivisionError

    async with opened(kind) as (gateway, signal):
        message, attachment = await arrived(gateway, signal)
        with pytest.raises(ZeroDivisionError):
            await signal.save_attachment(message, attachment, tmp_path, on_progress=enough)
    assert files_in(tmp_path) == []


@pytest.mark.contract("A4")
async def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with opened() as (gateway, signal):
        message, attachment = await arrived(gateway, signal)
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            await signal.save_attachment(message, attachment, tmp_path)
    assert files_in(tmp_path) == []


# --- Wrong arguments. ---


@pytest.mark.contract("A1")
@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("message", {"message": None}),
        ("attachment", {"attachment": "picture.jpg"}),
        ("attachment", {"attachment": Attachment()}),
        ("attachment", {"attachment": Attachment(id="../../x")}),
        ("path", {"path": None}),
        ("path", {"path": ""}),
        ("path", {"path": "a\0b"}),
        ("path", {"path": "x" * 256}),
        ("path", {"path": "x" * 256, "overwrite": True}),
        ("path", {"path": "x/" * 4000}),
        ("path", {"path": "\ud800"}),
        ("path", {"path": "no/such/folder/a.jpg"}),
        ("overwrite", {"overwrite": 1}),
        ("on_progress", {"on_progress": "print"}),
        ("max_bytes", {"max_bytes": 0}),
        ("timeout", {"timeout": 0}),
        ("account", {"account": PEER}),
    ],
)
async def test_a_wrong_argument_is_named_before_anything_is_asked(
    argument: str, options: dict[str, Any], tmp_path: Path
) -> None:
    async with opened() as (gateway, signal):
        message, attachment = await arrived(gateway, signal)
        asked = len(gateway.requests)
        given: dict[str, Any] = {"message": message, "attachment": attachment, "path": tmp_path} | options
        with pytest.raises(ConfigurationError) as caught:
            await signal.save_attachment(
                given.pop("message"), given.pop("attachment"), given.pop("path"), **given
            )
        assert caught.value.argument == argument
        assert len(gateway.requests) == asked
    assert files_in(tmp_path) == []


async def test_a_folder_that_cannot_be_written_to_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(**_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    async with opened() as (gateway, signal):
        message, attachment = await arrived(gateway, signal)
        # Root may write anywhere.
        monkeypatch.setattr(f"{MODULE}.tempfile.mkstemp", closed)
        with pytest.raises(ConfigurationError, match="Permission denied") as caught:
            await signal.save_attachment(message, attachment, tmp_path)
    assert caught.value.argument == "path"


async def test_a_folder_of_that_name_is_no_place(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(ConfigurationError, match="is a folder"):
        await find_place(tmp_path, names=("a.jpg",), overwrite=True)


async def test_a_folder_may_be_given_with_a_separator_at_its_end(tmp_path: Path) -> None:
    for path in (f"{tmp_path}/", f"{tmp_path}//", f"{tmp_path}/."):
        assert (await find_place(path, names=("a",), overwrite=False)).path == tmp_path / "a"


@pytest.mark.contract("A1")
@pytest.mark.parametrize("end", ["/", "//", "/."])
async def test_then_it_must_be_a_folder_that_is_there(end: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("none", "file"):
        with pytest.raises(ConfigurationError, match="no folder") as caught:
            await find_place(f"{tmp_path}/{name}{end}", names=("a",), overwrite=True)
        assert caught.value.argument == "path"


async def test_what_the_gateway_calls_a_file_may_be_its_name(kind: str, tmp_path: Path) -> None:
    # signal-cli makes it of whatever stands behind the last dot of the sender's name for it.
    name = "AbC-1.x (2) [größe] 👋%2F?#*"
    async with opened(kind) as (gateway, signal):
        message, attachment = await arrived(gateway, signal, attachment_id=name)
        saved = await signal.save_attachment(message, attachment, tmp_path)
        if kind == "rest":
            await signal.delete_attachment(attachment)
            assert not gateway.attachments
    assert saved.read_bytes() == CONTENT
    assert saved.name == "AbC-1.x (2) [größe] 👋%2F_#_"


async def test_a_file_that_has_no_name_at_all_gets_one(tmp_path: Path) -> None:
    place = await find_place(tmp_path, names=(None, ".."), overwrite=False)
    assert place.path == tmp_path / "attachment"


# --- Names. ---


@pytest.mark.threat("T4")
@pytest.mark.contract("A4")
@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a.jpg", "a.jpg"),
        ("Grüße 👋.jpg", "Grüße 👋.jpg"),
        ("../../x", "x"),
        ("..\\..\\x", "x"),
        ("C:\\Windows\\x.dll", "x.dll"),
        ("C:x", "C_x"),
        ("a\0b\n.txt", "a_b_.txt"),
        (".bashrc", "bashrc"),
        ("x. .", "x"),
        ("a|b?.txt", "a_b_.txt"),
        # Shown as "photo_exe.jpg" while it ends in .exe.
        ("photo_\u202egpj.exe", "photo__gpj.exe"),
        ("con", "_con"),
        ("LPT1 .txt", "_LPT1 .txt"),
        ("console.txt", "console.txt"),
        ("\ud800.txt", "_.txt"),
        (None, ""),
        ("", ""),
        ("/", ""),
        ("...", ""),
        ("x" * 300 + ".jpg", "x" * 196 + ".jpg"),
        ("ü" * 300, "ü" * 100),
        ("x." + "y" * 300, "x." + "y" * 198),
    ],
    ids=ascii,
)
def test_a_name_is_made_safe(name: str | None, safe: str) -> None:
    assert safe_name(name) == safe


@pytest.mark.threat("T4")
@pytest.mark.contract("A4")
@given(st.text(st.characters(codec=None)) | st.text("./\\:\0 cCoOnN~", max_size=12))
@example("x" * 195 + " .jpgs")
@example("com1 .tar.gz")
@example(" con")
def test_whatever_a_file_calls_itself_it_stays_in_its_folder(name: str) -> None:
    safe = safe_name(name)
    assert safe_name(safe) == safe
    if not safe:
        return
    assert PurePosixPath(safe).parts == (safe,)
    assert PureWindowsPath(safe).parts == (safe,)
    assert safe.partition(".")[0].strip().upper() not in DEVICES
    assert len(safe.encode()) <= 201
    assert not safe.startswith(".")
    assert safe[-1] not in " ."


# --- A disk that takes its time. ---


class Pieces:
    """What comes in, one piece at a time."""

    size = None

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            await trio.lowlevel.checkpoint()
            yield piece


async def test_a_write_that_takes_only_a_part_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = await find_place(tmp_path / "a", names=(), overwrite=False)
    monkeypatch.setattr(f"{MODULE}.os.fdopen", opens(Reluctant))
    await save(Pieces(b"x" * 10, b"y" * 5), place, size=None, max_bytes=100, on_progress=None)
    assert (tmp_path / "a").read_bytes() == b"x" * 10 + b"y" * 5


class Reluctant:
    """A file that takes three bytes at a time."""

    def __init__(self, number: int) -> None:
        self._file = io.FileIO(number, "wb")

    def write(self, data: memoryview) -> int:
        return self._file.write(data[:3])

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()


def opens(kind: type[Reluctant]) -> Callable[..., Reluctant]:
    def open_it(number: int, *_: object, **__: object) -> Reluctant:
        return kind(number)

    return open_it
