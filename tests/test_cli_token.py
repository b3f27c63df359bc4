import os
import resource
import time
from pathlib import Path
from typing import Any, get_args

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from trio_signal._cli.exits import Exit
from trio_signal._cli.options import ALGORITHM, duration
from trio_signal._cli.parser import parse
from trio_signal.cli import main
from trio_signal.hub.auth import AUDIENCE, Algorithm, Authenticator, read_key_file

from .programs import run_program

KEY = "s3cret-key-of-more-than-32-bytes-s3cret"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TRIO_SIGNAL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "hub.key"
    path.write_text(f"{KEY}\n")
    path.chmod(0o600)
    return path


def claims_of(token: str, key: str | bytes = KEY) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, key, algorithms=["HS256"], audience=AUDIENCE)
    return claims


def test_it_prints_a_token_that_the_hub_accepts_and_nothing_else(
    key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["token", "--jwt-key-file", str(key_file), "--sub", "status page", "--ttl", "15m"]) == Exit.OK
    captured = capsys.readouterr()
    assert captured.err == ""
    token = captured.out.removesuffix("\n")
    assert token.count("\n") == token.count(" ") == 0
    identity = Authenticator(KEY).check(token)
    assert identity.subject == "status page"
    assert identity.expires_at is not None
    assert 0 < identity.expires_at - time.time() - 899 <= 2


def test_all_can_come_from_the_environment_and_an_hour_is_the_default(
    key_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRIO_SIGNAL_JWT_KEY_FILE", str(key_file))
    monkeypatch.setenv("TRIO_SIGNAL_SUB", "ada")
    assert main(["token"]) == Exit.OK
    claims = claims_of(capsys.readouterr().out.strip())
    assert claims["sub"] == "ada"
    assert claims["exp"] - claims["iat"] in {3600, 3601}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("1s", 1),
        ("15m", 900),
        ("1h", 3600),
        ("30d", 2_592_000),
        ("007m", 420),
        ("999999s", 999_999),
    ],
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert duration(text) == seconds
    _, values = parse(["token", "--jwt-key-file", "k", "--sub", "x", "--ttl", text], {})
    assert values["ttl"] == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0s",
        "00d",
        "-1h",
        "1",
        "h",
        "1.5h",
        "1 h",
        "1H",
        "1w",
        "1h30m",
        "1h\n",
        "\u0661h",
        "1000000s",
        "inf",
    ],
)
def test_what_is_no_length_of_time(text: str, key_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="is not a time like 30s, 15m, 1h or 30d"):
        duration(text)
    given = ["--jwt-key-file", str(key_file), "--sub", "x", f"--ttl={text}"]
    assert main(["token", *given]) == Exit.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("trio-signal: --ttl (environment variable TRIO_SIGNAL_TTL): ")


@pytest.mark.threat("T14")
@pytest.mark.contract("H9")
@pytest.mark.parametrize(
    ("content", "more", "words"),
    [
        pytest.param(b"", (), "'hub.key': it is empty", id="empty"),
        pytest.param(None, (), "'hub.key': it cannot be read: No such file", id="absent"),
        pytest.param(b"s3cret\n", (), "HS256 needs at least 32 bytes; this has 6", id="short"),
        pytest.param(
            KEY.encode(), ("--algorithm", "RS256"), "RS256 needs a private key of its kind", id="RS256"
        ),
        pytest.param(
            KEY.encode(), ("--algorithm", "none"), "'none' is none of HS256, RS256, ES256", id="none"
        ),
        pytest.param(
            KEY.encode(), ("--sub", ""), "--sub (environment variable TRIO_SIGNAL_SUB)", id="empty sub"
        ),
        pytest.param(KEY.encode(), ("--sub", "a\nb"), "1 to 200 printable characters", id="sub of two lines"),
        pytest.param(
            KEY.encode(), ("--new-key",), "it cannot be made: File exists", id="new key over another"
        ),
        pytest.param(
            None,
            ("--new-key", "--algorithm", "ES256"),
            "it makes a key for HS256 only",
            id="new key for ES256",
        ),
        pytest.param(KEY.encode(), ("--token", KEY), "there is no option --token", id="token"),
        pytest.param(KEY.encode(), ("more",), "more arguments than this command takes", id="argument"),
    ],
)
def test_bad_input_is_one_sentence_without_secrets_and_exit_code_2(
    content: bytes | None,
    more: tuple[str, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("hub.key")
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)
    assert main(["token", "--jwt-key-file", "hub.key", "--sub", "x", *more]) == Exit.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("trio-signal: ")
    assert captured.err.count("\n") == 1
    assert words in captured.err
    assert "s3cret" not in captured.err
    assert (path.read_bytes() if path.exists() else None) == content


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--sub", "x"), "give --jwt-key-file FILE, or the environment variable TRIO_SIGNAL_JWT_KEY_FILE"),
        (("--jwt-key-file", "hub.key"), "give --sub NAME, or the environment variable TRIO_SIGNAL_SUB"),
    ],
)
def test_what_must_be_given(given: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", *given]) == Exit.USAGE
    assert words in capsys.readouterr().err


# --- a new key ---


@pytest.mark.threat("T11")
def test_a_new_key_is_strong_private_and_used_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = os.umask(0)
    try:
        for name in ("one", "two"):
            assert (
                main(["token", "--jwt-key-file", str(tmp_path / name), "--new-key", "--sub", "x"]) == Exit.OK
            )
    finally:
        os.umask(before)
    captured = capsys.readouterr()
    assert captured.err == ""
    tokens = captured.out.splitlines()
    keys = [read_key_file(tmp_path / name) for name in ("one", "two")]
    assert keys[0] != keys[1]
    for name, key, token in zip(("one", "two"), keys, tokens, strict=True):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
        assert len(key) >= 43
        assert Authenticator(key).check(token).subject == "x"
        assert key.decode() not in captured.out


@pytest.mark.parametrize("more", [("--sub", ""), ("--ttl", "0s"), ("--algorithm", "RS256")])
def test_a_mistake_elsewhere_leaves_no_key_behind(more: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert main(["token", "--jwt-key-file", str(path), "--new-key", "--sub", "x", *more]) == Exit.USAGE
    assert not path.exists()


def test_a_key_that_cannot_be_written_is_no_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["token", "--jwt-key-file", str(tmp_path / "no" / "key"), "--new-key", "--sub", "x"])
        == Exit.USAGE
    )
    assert "it cannot be made: No such file or directory" in capsys.readouterr().err
    # As on a full disk: the file can be made, and nothing can be written to it.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        code = main(["token", "--jwt-key-file", str(tmp_path / "key"), "--new-key", "--sub", "x"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    captured = capsys.readouterr()
    assert (code, captured.out) == (Exit.USAGE, "")
    assert "it cannot be made: File too large" in captured.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.threat("T11")
def test_a_link_is_not_followed_to_make_a_key(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert main(["token", "--jwt-key-file", str(tmp_path / "link"), "--new-key", "--sub", "x"]) == Exit.USAGE
    assert not (tmp_path / "elsewhere").exists()


# --- the rest ---


def test_a_key_that_others_can_read_is_told_and_the_token_still_stands_alone(
    key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key_file.chmod(0o644)
    assert main(["token", "--jwt-key-file", str(key_file), "--sub", "x"]) == Exit.OK
    captured = capsys.readouterr()
    assert claims_of(captured.out.strip())["sub"] == "x"
    assert captured.err.startswith("trio-signal: warning: the key file ")
    assert captured.err.count("\n") == 1


def test_a_token_that_a_private_key_signs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "private.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    path.chmod(0o600)
    given = ["--jwt-key-file", str(path), "--sub", "x", "--algorithm", "ES256"]
    assert main(["token", *given]) == Exit.OK
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    captured = capsys.readouterr()
    assert Authenticator(public, algorithm="ES256").check(captured.out.strip()).subject == "x"
    assert captured.err == ""


def test_the_option_knows_the_algorithms_of_the_hub() -> None:
    assert [ALGORITHM.read(name) for name in get_args(Algorithm)] == list(get_args(Algorithm))
    with pytest.raises(ValueError, match=f"none of {', '.join(get_args(Algorithm))}"):
        ALGORITHM.read("HS512")


async def test_as_a_process(key_file: Path) -> None:
    done = await run_program("token", "--jwt-key-file", str(key_file), "--sub", "x", "--ttl", "30d")
    assert (done.code, done.err) == (0, "")
    assert claims_of(done.out.removesuffix("\n"))["sub"] == "x"
