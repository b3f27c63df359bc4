import base64
import hashlib
import hmac
import json
import logging
import math
import os
import time
import traceback
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, cast, get_args

import jwt
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_signal import ConfigurationError, SignalError
from trio_signal.hub.auth import (
    Algorithm,
    Authenticator,
    Identity,
    Tickets,
    Unauthorized,
    make_token,
    read_key_file,
)

KEY = "s3cret-key-of-exactly-32-bytes!!"
OTHER_KEY = "an0ther-key-of-some-more-than-32-bytes"

#: What the clock shows: far from the real time, so that a test fails if anything looks at that.
NOW = 5_000_000_000.0

Sign = Callable[[bytes], bytes]

IDENTITY = Identity("me", None)

#: What a token says that is good for 100 s more.
GOOD: dict[str, Any] = {"sub": "me", "aud": "trio-signal", "exp": NOW + 100, "iat": NOW - 100}
HEADER: dict[str, Any] = {"alg": "HS256", "typ": "JWT"}


class Clock:
    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def hs(data: bytes, key: str | bytes = KEY) -> bytes:
    return hmac.digest(key.encode() if isinstance(key, str) else key, data, hashlib.sha256)


def token(claims: object = GOOD, *, header: object = HEADER, sign: Sign | None = hs) -> str:
    """Write a token by hand, so that it can say what PyJWT would not."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims)]
    signed = ".".join(map(encoded, parts))
    return f"{signed}.{encoded(sign(signed.encode())) if sign is not None else ''}"


def always(signature: bytes) -> Sign:
    return lambda _: signature


def but(**changes: Any) -> dict[str, Any]:
    """Return the good claims with changes; None takes a claim away."""
    return {key: value for key, value in (GOOD | changes).items() if value is not None}


@cache
def rsa_key(bits: int = 2048, number: int = 0) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def ec_key(number: int = 0) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def private_pem(key: PrivateKeyTypes, *, password: bytes | None = None) -> bytes:
    protection = (
        serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


def public_pem(key: Any) -> bytes:
    pem: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


def pair(algorithm: str, number: int = 0) -> tuple[bytes | str, bytes | str]:
    """Return a key to sign with and the one to check with."""
    if algorithm == "HS256":
        return (KEY, KEY) if number == 0 else (OTHER_KEY, OTHER_KEY)
    key = rsa_key(number=number) if algorithm == "RS256" else ec_key(number=number)
    return private_pem(key), public_pem(key)


def authenticator(key: str | bytes = KEY, **options: Any) -> Authenticator:
    defaults: dict[str, Any] = {"clock": Clock()}
    return Authenticator(key, **(defaults | options))


def refused(what: Any, by: Authenticator | None = None) -> bool:
    with pytest.raises(Unauthorized) as caught:
        (by or authenticator()).check(what)
    error = caught.value
    assert (str(error), error.args) == ("unauthorized", ("unauthorized",))
    # Nothing of what a library said hangs on it, where a log of the error would show it.
    assert error.__cause__ is error.__context__ is None
    assert not hasattr(error, "__notes__")
    return True


# --- what is accepted ---


@pytest.mark.parametrize("algorithm", get_args(Algorithm))
def test_a_token_that_was_made_here_is_accepted(algorithm: Algorithm) -> None:
    signing, checking = pair(algorithm)
    made = make_token(signing, "ada", ttl=60, algorithm=algorithm, clock=Clock(NOW + 0.25))
    assert authenticator(checking, algorithm=algorithm).check(made) == Identity("ada", NOW + 61)
    assert jwt.get_unverified_header(made) == {"alg": algorithm, "typ": "JWT"}


def test_by_default_both_sides_look_at_the_real_clock() -> None:
    identity = Authenticator(KEY).check(make_token(KEY, "me", ttl=60))
    assert identity.expires_at is not None
    assert 0 < identity.expires_at - time.time() <= 61
    assert refused(make_token(KEY, "me", ttl=60, clock=lambda: time.time() - 91), Authenticator(KEY))


@pytest.mark.parametrize(
    ("claims", "header"),
    [
        pytest.param(GOOD, HEADER, id="plain"),
        pytest.param(but(aud=["others", "trio-signal"]), HEADER, id="one audience of several"),
        pytest.param(but(exp=int(NOW) + 100), HEADER, id="whole seconds"),
        pytest.param(but(iat=None), HEADER, id="iat is not required"),
        pytest.param(but(nbf=NOW), HEADER, id="nbf"),
        pytest.param(but(name="Ada", roles=["x", {"y": None}]), HEADER, id="claims that nobody here knows"),
        pytest.param(GOOD, {"alg": "HS256"}, id="no typ"),
    ],
)
def test_what_is_accepted(claims: object, header: object) -> None:
    assert authenticator().check(token(claims, header=header)) == Identity("me", NOW + 100)


@pytest.mark.parametrize("subject", ["a", "bot 1", "日本語", "ada@example.org", "x" * 200])
def test_subjects_that_are_names(subject: str) -> None:
    assert authenticator().check(token(but(sub=subject))).subject == subject


@pytest.mark.threat("T8")
def test_keys_that_a_header_names_are_never_looked_at() -> None:
    own = encoded(OTHER_KEY.encode())
    header = HEADER | {
        "kid": "../../dev/null",
        "jku": "http://127.0.0.1:1/keys",
        "x5u": "http://127.0.0.1:1/chain",
        "jwk": {"kty": "oct", "k": own},
    }
    # Signed by whom the header names: not ours. Signed by us: ours, whatever the header names.
    assert refused(token(header=header, sign=lambda data: hs(data, OTHER_KEY)))
    assert authenticator().check(token(header=header)).subject == "me"


# --- what is refused ---


def none_with(name: Any, sign: Sign | None = None) -> str:
    return token(header={"alg": name, "typ": "JWT"}, sign=sign)


MALFORMED = {
    "nothing": "",
    "a word": "token",
    "one dot": "a.b",
    "dots": "..",
    "many dots": "a.b.c.d",
    "five parts": f"{token()}.a.b",
    "no signature": token(sign=None),
    "no base64": "!!.??.##",
    "no JSON header": token(header=b"hello"),
    "no JSON claims": token(b"hello"),
    "no UTF-8": token(b"\xff\xfe"),
    "header is an array": token(header=["alg", "HS256"]),
    "claims are an array": token([GOOD]),
    "claims are null": token(None),
    "header nests deeply": token(header=b'{"alg":' * 500 + b"1" + b"}" * 500),
    "claims nest deeply": token(b'{"a":' + b"[" * 2000 + b"]" * 2000 + b"}"),
    "header with a giant number": token(header=b'{"alg":"HS256","n":' + b"9" * 5000 + b"}"),
    "a blank before": f" {token()}",
    "a blank after": f"{token()} ",
    "a newline after": f"{token()}\n",
    "the word before": f"Bearer {token()}",
    "padding": f"{token()}=",
    "padding inside": token().replace(".", "=.", 1),
    "not ASCII": token().replace("e", "е", 1),  # noqa: RUF001  (a Cyrillic letter)
    "full width": "".join(chr(ord(c) + 0xFEE0) for c in token()),
    "a lone surrogate": f"{token()}\ud800",
    "a null": f"{token()}\0",
    "huge": "a" * 10_000_000,
    "huge and well formed": token(but(name="x" * 10_000)),
    "the other alphabet": token(but(name="???>>>~~~")).replace("_", "/").replace("-", "+"),
    "not a str": None,
    "bytes": token().encode(),
    "a number": 5,
}

FORGED = {
    "wrong key": token(sign=lambda data: hs(data, OTHER_KEY)),
    "empty key": token(sign=lambda data: hs(data, b"")),
    "part of the key": token(sign=lambda data: hs(data, KEY[:-1])),
    "signature cut": token(sign=lambda data: hs(data)[:-1]),
    "signature of others": token(sign=lambda _: hs(b"something else")),
    "empty signature bytes": token(sign=lambda _: b""),
    "none": none_with("none"),
    "None": none_with("None"),
    "NONE": none_with("NONE"),
    "nOnE": none_with("nOnE"),
    "none with a blank": none_with("none "),
    "no alg": token(header={"typ": "JWT"}),
    "empty alg": none_with(""),
    "null alg": none_with(None),
    "none, but signed": none_with("none", hs),
    "alg in small letters": none_with("hs256", hs),
    "HS512": token(
        header={"alg": "HS512"}, sign=lambda data: hmac.digest(KEY.encode(), data, hashlib.sha512)
    ),
    "HS384": token(
        header={"alg": "HS384"}, sign=lambda data: hmac.digest(KEY.encode(), data, hashlib.sha384)
    ),
    "alg is a list": none_with(["HS256"], hs),
    "alg is a dict": none_with({"HS256": 1}, hs),
    "alg is a number": none_with(256, hs),
    "alg is true": none_with(True, hs),
    "two algs, ours first": token(header=b'{"alg":"HS256","alg":"none"}', sign=hs),
    "crit": token(header=HEADER | {"crit": ["exp"], "exp": 1}),
    "crit that PyJWT knows": token(header=HEADER | {"crit": ["b64"], "b64": True}),
    "empty crit": token(header=HEADER | {"crit": list[str]()}),
    "crit is null": token(header=HEADER | {"crit": None}),
    "payload not encoded": token(header=HEADER | {"crit": ["b64"], "b64": False}),
    "kid is a number": token(header=HEADER | {"kid": 5}),
}

CLAIMS = {
    "expired": but(exp=NOW - 30),
    "expired long ago": but(exp=0),
    "expires before time began": but(exp=-1e300),
    "not yet valid": but(nbf=NOW + 30.001),
    "made in the future": but(iat=NOW + 30.001),
    "wrong audience": but(aud="others"),
    "wrong audiences": but(aud=["others", "trio-signals"]),
    "audience in capitals": but(aud="TRIO-SIGNAL"),
    "no audiences": but(aud=[]),
    "empty audience": but(aud=""),
    "audience is a number": but(aud=1),
    "audience is a dict": but(aud={"trio-signal": True}),
    "audience among numbers": but(aud=["trio-signal", 1]),
    "no aud": but(aud=None),
    "no exp": but(exp=None),
    "no sub": but(sub=None),
    "exp is null": GOOD | {"exp": None},
    "sub is null": GOOD | {"sub": None},
    "aud is null": GOOD | {"aud": None},
    "nbf is null": GOOD | {"nbf": None},
    "iat is null": GOOD | {"iat": None},
    "exp is text": but(exp=str(NOW + 100)),
    "exp is true": but(exp=True),
    "exp is a list": but(exp=[NOW + 100]),
    "exp is infinite": json.dumps(but(exp=math.inf)).encode(),
    "exp is no number": json.dumps(but(exp=math.nan)).encode(),
    "exp is too large": b'{"sub":"me","aud":"trio-signal","exp":1e999}',
    "nbf is text": but(nbf="0"),
    "iat is text": but(iat="0"),
    "nbf is no number": json.dumps(but(nbf=math.nan)).encode(),
    "empty sub": but(sub=""),
    "sub is a number": but(sub=5),
    "sub is a list": but(sub=["me"]),
    "sub is long": but(sub="x" * 201),
    "sub with a newline": but(sub="me\nyou"),
    "sub with an escape": but(sub="\x1b[2Jme"),
    "sub that turns text around": but(sub="me\u202eyou"),
    "sub with half a character": b'{"sub":"\\ud800","aud":"trio-signal","exp":9e9}',
}


@pytest.mark.threat("T8")
@pytest.mark.contract("H9")
@pytest.mark.parametrize("what", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_token_is_refused_with_one_word(what: object) -> None:
    assert refused(what)


@pytest.mark.threat("T8")
@pytest.mark.contract("H9")
@pytest.mark.parametrize("what", FORGED.values(), ids=FORGED.keys())
def test_what_was_not_signed_as_agreed_is_refused_with_one_word(what: str) -> None:
    assert refused(what)


@pytest.mark.threat("T10")
@pytest.mark.contract("H9")
@pytest.mark.parametrize("claims", CLAIMS.values(), ids=CLAIMS.keys())
def test_a_token_whose_claims_do_not_hold_is_refused_with_one_word(claims: object) -> None:
    assert refused(token(claims))


@pytest.mark.contract("H9")
def test_an_audience_of_ones_own() -> None:
    mine = make_token(KEY, "me", ttl=60, audience="mine", clock=Clock())
    assert authenticator(audience="mine").check(mine).subject == "me"
    assert refused(mine)
    assert refused(token(), authenticator(audience="mine"))


@pytest.mark.contract("H9")
@pytest.mark.parametrize("leeway", [0.0, 30.0, 60.0])
def test_the_leeway_holds_to_the_very_moment(leeway: float) -> None:
    clock = Clock()
    checker = authenticator(leeway=leeway, clock=clock)

    def holds(at: float, **claims: float) -> bool:
        clock.now = at
        try:
            checker.check(token(but(**{"iat": None, **claims})))
        except Unauthorized:
            return False
        return True

    after = math.nextafter(NOW + leeway, math.inf)
    before = math.nextafter(NOW + leeway, 0)
    assert [holds(at, exp=NOW) for at in (before, NOW + leeway, after)] == [True, False, False]
    for claim in ("nbf", "iat"):
        earliest = NOW - leeway
        moments = (math.nextafter(earliest, 0), earliest, math.nextafter(earliest, math.inf))
        later: dict[str, float] = {"exp": NOW + 100, claim: NOW}
        assert [holds(at, **later) for at in moments] == [False, True, True]


@pytest.mark.threat("T8")
@pytest.mark.contract("H9")
@pytest.mark.parametrize("algorithm", get_args(Algorithm))
@pytest.mark.parametrize("other", get_args(Algorithm))
def test_only_the_right_key_and_the_fixed_algorithm_count(algorithm: Algorithm, other: Algorithm) -> None:
    checker = authenticator(pair(algorithm)[1], algorithm=algorithm)
    foreign = make_token(pair(other, 1)[0], "me", ttl=60, algorithm=other, clock=Clock())
    assert refused(foreign, checker)
    if other != algorithm:
        assert refused(make_token(pair(other)[0], "me", ttl=60, algorithm=other, clock=Clock()), checker)
    assert refused(none_with("none"), checker)
    assert refused("", checker)


@pytest.mark.contract("H9")
@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_public_key_is_no_secret(algorithm: Literal["RS256", "ES256"]) -> None:
    public = pair(algorithm)[1]
    assert isinstance(public, bytes)
    checker = authenticator(public, algorithm=algorithm)
    for secret in (public, public.strip(), public.replace(b"\n", b"\r\n")):
        for said in ("HS256", algorithm):
            assert refused(token(header={"alg": said}, sign=partial(hs, key=secret)), checker)


@pytest.mark.contract("H9")
def test_signatures_of_other_forms_are_refused() -> None:
    key = ec_key()
    checker = authenticator(public_pem(key), algorithm="ES256")
    header = {"alg": "ES256"}

    def der(data: bytes) -> bytes:
        return key.sign(data, ec.ECDSA(hashes.SHA256()))

    # Signed with the right key, but as RFC 7515 does not have it; and with parts that prove nothing.
    constant = (bytes(64), b"\xff" * 64, b"x", bytes(4000))
    for sign in (der, *map(always, constant)):
        assert refused(token(header=header, sign=sign), checker)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH)
    other = authenticator(public_pem(rsa_key()), algorithm="RS256")

    def as_pss(data: bytes) -> bytes:
        return rsa_key().sign(data, pss, hashes.SHA256())

    def with_sha512(data: bytes) -> bytes:
        return rsa_key().sign(data, padding.PKCS1v15(), hashes.SHA512())

    for sign in (as_pss, with_sha512, always(bytes(256)), always(b"\xff" * 256)):
        assert refused(token(header={"alg": "RS256"}, sign=sign), other)


_VALID = {
    name: make_token(pair(name)[0], "me", ttl=60, algorithm=name, clock=Clock())
    for name in get_args(Algorithm)
}


@pytest.mark.threat("T8")
@pytest.mark.contract("H9")
@settings(max_examples=300, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("algorithm", get_args(Algorithm))
def test_no_mutation_of_a_valid_token_passes(algorithm: Algorithm, data: st.DataObject) -> None:
    valid = _VALID[algorithm]
    checker = authenticator(pair(algorithm)[1], algorithm=algorithm)
    # Whether the token itself was seen before or not.
    if data.draw(st.booleans()):
        checker.check(valid)
    cut = slice(*sorted(data.draw(st.tuples(*[st.integers(0, len(valid))] * 2))))
    alphabet = st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=")
    patch = data.draw(st.one_of(st.text(alphabet, max_size=5), st.text(max_size=5)))
    mutated = valid[: cut.start] + patch + valid[cut.stop :]
    if mutated == valid:
        assert checker.check(mutated).subject == "me"
    else:
        assert refused(mutated, checker)


@pytest.mark.threat("T8")
@pytest.mark.contract("H9")
def test_a_token_that_was_seen_before_is_asked_anew_whether_it_holds() -> None:
    clock = Clock()
    checker = authenticator(clock=clock, leeway=0.0)
    valid = token(but(nbf=NOW))
    for moment in (NOW, NOW + 99.9, NOW):
        clock.now = moment
        assert checker.check(valid) == Identity("me", NOW + 100)
    clock.now = NOW + 100
    assert refused(valid, checker)
    clock.now = NOW - 1
    assert refused(valid, checker)
    clock.now = NOW
    assert checker.check(valid).subject == "me"


@pytest.mark.threat("T14")
@pytest.mark.contract("H9")
def test_of_tokens_seen_before_only_so_many_hashes_are_kept() -> None:
    clock = Clock()
    checker = authenticator(clock=clock)
    for bad in (
        token() + "x",
        token(but(exp=0)),
        token(but(aud="other")),
        token(header={**HEADER, "crit": "b64"}),
    ):
        assert refused(bad, checker)
    known = vars(checker)["_signed"]
    assert not known
    valid = token()
    checker.check(valid)
    checker.check(valid)
    assert [*known] == [hashlib.sha256(valid.encode()).digest()]
    assert valid.split(".")[1] not in repr(known)
    sizes = set[int]()
    for number in range(2_050):
        checker.check(token(but(sub=f"me {number}")))
        sizes.add(len(known))
    assert max(sizes) == 2_000
    assert checker.check(valid).subject == "me"
    clock.now = NOW + 1000
    before = len(known)
    assert refused(valid, checker)
    assert len(known) == before - 1


@pytest.mark.contract("H9")
def test_every_change_of_one_letter_is_noticed() -> None:
    valid = _VALID["HS256"]
    for place in range(len(valid)):
        for letter in "AQgw_-.=x":
            mutated = valid[:place] + letter + valid[place + 1 :]
            assert mutated == valid or refused(mutated)


@settings(max_examples=300, deadline=None)
@given(
    text=st.one_of(st.text(), st.from_regex(r"[\w.=-]{0,40}"), st.binary().map(lambda b: b.decode("latin-1")))
)
def test_anything_else_is_refused_too(text: str) -> None:
    assert refused(text)


@settings(max_examples=300, deadline=None)
@given(
    claims=st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.just("trio-signal"),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["sub", "exp", "aud", "nbf", "iat"]), inner)
        ),
        max_leaves=8,
    )
)
def test_whatever_a_signed_token_says_is_judged_and_nothing_breaks(claims: object) -> None:
    try:
        identity = authenticator().check(token(claims))
    except Unauthorized:
        return
    assert isinstance(claims, dict)
    said = cast("dict[str, Any]", claims)
    assert identity == Identity(said["sub"], said["exp"])
    assert said["exp"] > NOW - 30


# --- keys and options ---


def test_a_key_may_be_text_or_bytes_of_any_kind() -> None:
    for key in (KEY, KEY.encode(), bytes(range(128, 160)), "ключ" * 4, "\ud800" * 11):
        made = make_token(key, "me", ttl=60, clock=Clock())
        assert authenticator(key).check(made).subject == "me"
    made = make_token(private_pem(ec_key()).decode(), "me", ttl=60, algorithm="ES256", clock=Clock())
    assert authenticator(public_pem(ec_key()).decode(), algorithm="ES256").check(made).subject == "me"


WEAK: dict[str, tuple[Any, Any, str]] = {
    "empty": (b"", "HS256", "at least 32 bytes; this has 0"),
    "short": (b"s3cret" * 5, "HS256", "at least 32 bytes; this has 30"),
    "None": (None, "HS256", "give str or bytes"),
    "number": (5, "RS256", "give str or bytes"),
    "RSA public as secret": (public_pem(rsa_key()), "HS256", "this is a key for RS256 or ES256"),
    "RSA private as secret": (private_pem(rsa_key()), "HS256", "this is a key for RS256 or ES256"),
    "EC public as secret": (public_pem(ec_key()), "HS256", "this is a key for RS256 or ES256"),
    "behind a blank line": (b"\n" + public_pem(ec_key()), "HS256", "this is a key for RS256 or ES256"),
    "ssh as secret": (
        rsa_key()
        .public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH),
        "HS256",
        "this is a key for RS256 or ES256",
    ),
    "other ssh as secret": (
        ec_key()
        .public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH),
        "HS256",
        "this is a key for RS256 or ES256",
    ),
    "private to check with": (private_pem(rsa_key()), "RS256", "give the public key"),
    "private EC to check with": (private_pem(ec_key()), "ES256", "give the public key"),
    "EC for RS256": (public_pem(ec_key()), "RS256", "RS256 needs a public key of its kind"),
    "RSA for ES256": (public_pem(rsa_key()), "ES256", "ES256 needs a public key of its kind"),
    "secret for RS256": (KEY, "RS256", "RS256 needs a public key of its kind"),
    "garbage in PEM": (
        f"-----BEGIN PUBLIC KEY-----\n{KEY}\n-----END PUBLIC KEY-----",
        "RS256",
        "RS256 needs a public key of its kind",
    ),
    "Ed25519": (
        public_pem(ed25519.Ed25519PrivateKey.generate()),
        "ES256",
        "ES256 needs a public key of its kind",
    ),
    "short RSA": (public_pem(rsa_key(1024)), "RS256", "at least 2048 bits; this has 1024"),
    "P-384": (
        public_pem(ec.generate_private_key(ec.SECP384R1())),
        "ES256",
        "needs the curve P-256; this is secp384r1",
    ),
    "alg none": (KEY, "none", "choose one of HS256, RS256, ES256"),
    "alg HS512": (KEY * 2, "HS512", "choose one of HS256, RS256, ES256"),
}


@pytest.mark.contract("H9")
@pytest.mark.parametrize(("key", "algorithm", "words"), WEAK.values(), ids=WEAK.keys())
def test_a_key_that_is_weak_or_of_another_kind_is_named_at_the_call(
    key: Any, algorithm: Any, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        Authenticator(key, algorithm=algorithm)
    shown = "".join(traceback.format_exception(caught.value))
    assert "s3cret" not in shown
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("key", "algorithm", "words"),
    [
        pytest.param(b"s3cret", "HS256", "at least 32 bytes", id="short"),
        pytest.param(public_pem(rsa_key()), "RS256", "needs a private key", id="public"),
        pytest.param(private_pem(ec_key()), "RS256", "needs a private key", id="EC for RS256"),
        pytest.param(private_pem(rsa_key()), "ES256", "needs a private key", id="RSA for ES256"),
        pytest.param(private_pem(rsa_key(), password=b"s3cret"), "RS256", "not encrypted", id="encrypted"),
        pytest.param(private_pem(rsa_key(1024)), "RS256", "at least 2048 bits", id="short RSA"),
        pytest.param(
            private_pem(ed25519.Ed25519PrivateKey.generate()), "RS256", "needs a private key", id="Ed25519"
        ),
        pytest.param(
            private_pem(ec.generate_private_key(ec.SECP521R1())), "ES256", "needs the curve P-256", id="P-521"
        ),
        pytest.param(KEY, "none", "choose one of", id="none"),
        pytest.param(None, "HS256", "give str or bytes", id="None"),
    ],
)
def test_a_key_that_cannot_sign_is_named_at_the_call(key: Any, algorithm: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        make_token(key, "me", ttl=60, algorithm=algorithm)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.contract("H9")
@pytest.mark.parametrize("leeway", [-0.001, 60.001, math.inf, math.nan])
def test_the_leeway_is_at_most_a_minute(leeway: float) -> None:
    with pytest.raises(ConfigurationError, match="leeway: give 0 to 60 seconds"):
        Authenticator(KEY, leeway=leeway)


@pytest.mark.parametrize("ttl", [0, -1, math.inf, math.nan])
def test_a_token_lives_for_some_time(ttl: float) -> None:
    with pytest.raises(ConfigurationError, match="ttl: give a number of seconds over 0"):
        make_token(KEY, "me", ttl=ttl)


@pytest.mark.parametrize("subject", ["", "x" * 201, "a\nb", "\x7f", "a\u2028b", "\ud800", None, 5])
def test_a_token_has_a_name_in_it_that_will_be_accepted(subject: Any) -> None:
    with pytest.raises(ConfigurationError, match="subject: give 1 to 200 printable characters"):
        make_token(KEY, subject, ttl=60)


def test_an_empty_audience_means_nothing() -> None:
    for call in (lambda: Authenticator(KEY, audience=""), lambda: make_token(KEY, "me", ttl=1, audience="")):
        with pytest.raises(ConfigurationError, match="audience"):
            call()


@pytest.mark.threat("T14")
@pytest.mark.contract("H9")
def test_nothing_that_is_secret_shows(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    checker, tickets = authenticator(), Tickets()
    ticket = tickets.issue(checker.check(token()))
    for bad in (token() + "x", token(but(exp=0)), "s3cret"):
        assert refused(bad, checker)
    assert tickets.redeem(ticket + "x") is None
    shown = [repr(checker), str(checker), f"{checker}", repr(tickets), str(tickets), repr(Unauthorized())]
    assert (shown[0], shown[-1]) == ("<Authenticator>", "Unauthorized('unauthorized')")
    for secret in (KEY, token(), ticket):
        assert secret not in "\n".join([*shown, repr(vars(tickets))])
    assert caplog.records == []
    assert issubclass(Unauthorized, SignalError)


# --- files ---


def test_a_key_file_gives_its_bytes_without_one_newline(tmp_path: Path) -> None:
    path = tmp_path / "key"
    for content, key in (
        (b"abc", b"abc"),
        (b"abc\n", b"abc"),
        (b"abc\r\n", b"abc"),
        (b"abc\n\n", b"abc\n"),
        (b" abc \n", b" abc "),
        (b"\x00\xff\n", b"\x00\xff"),
        (b"a" * 65_536, b"a" * 65_536),
    ):
        path.write_bytes(content)
        path.chmod(0o600)
        assert read_key_file(path) == read_key_file(str(path)) == key


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent", r"'.*absent': it cannot be read: No such file"),
        ("folder", r"'.*folder': it cannot be read: Is a directory"),
        ("empty", r"'.*empty': it is empty"),
        ("newline", r"'.*newline': it is empty"),
        ("long", r"'.*long': it is over 65536 bytes"),
        ("nu\0ll", r"it cannot be read: this is no name of a file"),
    ],
)
def test_a_key_file_that_cannot_be_used_is_named(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "newline").write_bytes(b"\n")
    (tmp_path / "long").write_bytes(b"s3cret" * 20_000)
    with pytest.raises(ConfigurationError, match=words) as caught:
        read_key_file(tmp_path / name)
    assert "s3cret" not in str(caught.value)


@pytest.mark.threat("T11")
def test_a_secret_that_others_can_read_is_warned_of_and_a_public_key_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "key"
    warned: list[tuple[int, int]] = []
    for content in (KEY.encode(), private_pem(ec_key()), public_pem(ec_key())):
        path.write_bytes(content)
        for mode in (0o600, 0o400, 0o640, 0o604, 0o620):
            path.chmod(mode)
            caplog.clear()
            if os.access(path, os.R_OK):
                read_key_file(path)
            warned.append((mode, len(caplog.records)))
            assert all("is open to others than its owner" in record.getMessage() for record in caplog.records)
            assert KEY not in caplog.text
    secret = [(0o600, 0), (0o400, 0), (0o640, 1), (0o604, 1), (0o620, 1)]
    assert warned == [*secret, *secret, *[(mode, 0) for mode, _ in secret]]


# --- tickets ---


@pytest.mark.threat("T10")
@pytest.mark.contract("H9")
def test_a_ticket_is_good_once() -> None:
    tickets = Tickets(clock=Clock())
    me, you = Identity("me", 5.0), Identity("you", None)
    first, second = tickets.issue(me), tickets.issue(you)
    assert tickets.redeem(second) == you
    assert tickets.redeem(first) == me
    assert tickets.redeem(first) is tickets.redeem(second) is None


def test_a_ticket_ends_at_its_time_and_leaves_nothing_behind() -> None:
    clock = Clock(0.0)
    tickets = Tickets(lifetime=30.0, clock=clock)
    early, late, unused = (tickets.issue(IDENTITY) for _ in range(3))
    clock.now = math.nextafter(30.0, 0)
    assert tickets.redeem(early) == IDENTITY
    clock.now = 30.0
    assert tickets.redeem(late) is None
    clock.now = 29.0
    assert tickets.redeem(late) is None, "trying one that has ended uses it up"
    clock.now = 30.0
    fresh = tickets.issue(IDENTITY)
    assert len(tickets._waiting) == 1, "the one that nobody used is forgotten with the next"
    assert tickets.redeem(unused) is None
    assert tickets.redeem(fresh) == IDENTITY


def test_over_the_limit_the_oldest_goes_and_memory_is_bounded() -> None:
    tickets = Tickets(limit=3, clock=Clock())
    issued = [tickets.issue(Identity(str(n), None)) for n in range(5)]
    assert len(tickets._waiting) == 3
    assert [tickets.redeem(ticket) for ticket in issued[:2]] == [None, None]
    assert [tickets.redeem(ticket) for ticket in issued[2:]] == [Identity(str(n), None) for n in (2, 3, 4)]
    for _ in range(1000):
        tickets.issue(IDENTITY)
    assert len(tickets._waiting) == 3


@pytest.mark.threat("T10")
def test_tickets_differ_and_cannot_be_guessed_from_what_is_kept() -> None:
    tickets = Tickets(clock=Clock())
    issued = {tickets.issue(IDENTITY) for _ in range(500)}
    assert len(issued) == 500
    assert all(len(ticket) >= 43 and ticket.isascii() for ticket in issued)
    for kept in tickets._waiting:
        assert tickets.redeem(kept.hex()) is tickets.redeem(encoded(kept)) is None


@pytest.mark.parametrize("ticket", ["", "x", "\ud800", "é", "\0", "a" * 1_000_000])
def test_what_is_no_ticket_is_none_and_uses_none_up(ticket: str) -> None:
    tickets = Tickets(clock=Clock())
    good = tickets.issue(IDENTITY)
    for wrong in (ticket, good + ticket + "=", good[:-1], good.swapcase()):
        assert tickets.redeem(wrong) is None
    assert tickets.redeem(good) == IDENTITY


@pytest.mark.parametrize(
    "options", [{"limit": 0}, {"lifetime": 0}, {"lifetime": math.nan}, {"lifetime": math.inf}]
)
def test_tickets_are_few_and_short_lived(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Tickets(**options)


@settings(max_examples=100, deadline=None)
@given(steps=st.lists(st.one_of(st.just("issue"), st.integers(0, 20), st.floats(0, 12)), max_size=60))
def test_tickets_agree_with_a_list(steps: list[str | int | float]) -> None:
    clock = Clock(0.0)
    tickets = Tickets(lifetime=10.0, limit=4, clock=clock)
    model: list[tuple[float, str]] = []
    issued: list[str] = []
    for step in steps:
        if step == "issue":
            model = [entry for entry in model if clock.now < entry[0]][-3:]
            issued.append(tickets.issue(Identity(str(len(issued)), None)))
            model.append((clock.now + 10, issued[-1]))
        elif isinstance(step, int) and step < len(issued):
            good = any(ticket == issued[step] and clock.now < end for end, ticket in model)
            model = [entry for entry in model if entry[1] != issued[step]]
            assert tickets.redeem(issued[step]) == (Identity(str(step), None) if good else None)
        elif isinstance(step, float):
            clock.now += step
        assert len(tickets._waiting) == len(model) <= 4
