"""Who may talk to the hub: JSON Web Tokens, and the tickets that stand in for them in a browser.

A token is checked against one key and one algorithm, both fixed when the hub starts. What
its header says about keys (``kid``, ``jku``, ``x5u``, ``jwk``) is never looked at, ``alg``
must be the fixed one, and a header with ``crit`` is refused, since nothing here extends
the format. PyJWT verifies the signature, and that alone: what the claims mean and what
time it is are decided here, so that a test can stand at the very second at which a token
ends.

Whoever is turned away learns one word. No error, ``repr`` or log line made here holds a key, a
token, a ticket, or what a library says about them.
"""

import hashlib
import logging
import math
import os
import re
import secrets
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import jwt
import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from .._errors import ConfigurationError, SignalError

_logger: Final = logging.getLogger("trio_signal.hub")

#: How tokens are signed: with a key that both sides have, or with a pair of keys.
Algorithm = Literal["HS256", "RS256", "ES256"]

AUDIENCE: Final = "trio-signal"

_MOST_LEEWAY: Final = 60.0
_LEAST_SECRET: Final = 32
_LEAST_RSA_BITS: Final = 2048
_MOST_KEY_FILE: Final = 64 * 1024
_MOST_TOKEN: Final = 8 * 1024
_MOST_SUBJECT: Final = 200

#: How many tokens are known by their hashes. They hold now, so only who has the key can make so many.
_MOST_SIGNED: Final = 2000

#: RFC 7515, 7.1, without the padding that PyJWT forgives: one token is written in one way.
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")

#: What PyJWT takes: a secret, or a key that was loaded and found to fit.
_PublicKey = bytes | rsa.RSAPublicKey | ec.EllipticCurvePublicKey
_PrivateKey = bytes | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class Unauthorized(SignalError):
    """A token is missing, malformed, expired or not ours. Which of them is not told."""

    def __init__(self) -> None:
        super().__init__("unauthorized")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is.

    Attributes:
        subject: the name in their token.
        expires_at: when that token ends, in seconds since the epoch; None if there is no key.
    """

    subject: str
    expires_at: float | None


class _Claims(msgspec.Struct):
    """What a token must say. A number that is none, or too large for a float, does not decode."""

    sub: str
    exp: float
    aud: str | list[str]
    nbf: float = -math.inf
    iat: float = -math.inf


class Authenticator:
    """Checks tokens. Its methods are synchronous.

    Args:
        key: for HS256 the secret, at least 32 bytes; for RS256 and ES256 the public key in PEM form.
        algorithm: the one algorithm whose signatures count.
        audience: what the ``aud`` of a token must be or hold.
        leeway: by how many seconds the clock of who made the token may differ, at most 60.
        clock: the time in seconds since the epoch.

    Raises:
        ConfigurationError: the key is too weak or of another kind than the algorithm's, or an
            option is out of range. Nothing of the key is repeated.
    """

    def __init__(
        self,
        key: str | bytes,
        *,
        algorithm: Algorithm = "HS256",
        audience: str = AUDIENCE,
        leeway: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not 0 <= leeway <= _MOST_LEEWAY:
            raise ConfigurationError("leeway", f"give 0 to {_MOST_LEEWAY:g} seconds")
        self._key: Final = _verifying_key(_as_bytes(key), algorithm)
        self._algorithm: Final = algorithm
        self._audience: Final = _checked_audience(audience)
        self._leeway: Final = leeway
        self._clock: Final = clock
        # An object of its own, which knows this one algorithm and none of those that others register.
        self._signatures: Final = jwt.PyJWS(algorithms=[algorithm])
        # What tokens say whose signature was found to be right, by their hashes: who shows one shows it with
        # each request, and to check a signature takes 60 us (HS256) to 200. Whether they hold is asked anew.
        self._signed: Final[dict[bytes, _Claims]] = {}

    def __repr__(self) -> str:
        """Show nothing of what it holds."""
        return "<Authenticator>"

    def check(self, token: str) -> Identity:
        """Return whose token this is.

        Raises:
            Unauthorized: it is not valid now, for whatever reason.
        """
        identity = self._identify(token)
        if identity is None:
            # Outside any `except`: the error must not carry along what a library said about the token.
            raise Unauthorized
        return identity

    def is_current(self, identity: Identity) -> bool:
        """Say whether the token that somebody once showed would still be taken."""
        return identity.expires_at is None or self._clock() < identity.expires_at + self._leeway

    def _identify(self, token: object) -> Identity | None:
        if not isinstance(token, str) or len(token) > _MOST_TOKEN or not _TOKEN.fullmatch(token):
            return None
        # A table of hashes: how long the look-up takes tells nothing about a token that one does not have.
        digest = _digest(token)
        known = self._signed.get(digest)
        claims = known or self._verify(token)
        if claims is None or not self._holds(claims):
            self._signed.pop(digest, None)
            return None
        if known is None:
            if len(self._signed) >= _MOST_SIGNED:
                self._signed.clear()
            self._signed[digest] = claims
        return Identity(claims.sub, claims.exp)

    def _verify(self, token: str) -> _Claims | None:
        """Return what a token says, if it was signed as agreed."""
        try:
            signed = self._signatures.decode_complete(token, key=self._key, algorithms=[self._algorithm])
            claims = msgspec.json.decode(signed["payload"], type=_Claims)
        except (jwt.PyJWTError, msgspec.MsgspecError, ValueError, RecursionError):
            return None
        return None if "crit" in signed["header"] else claims

    def _holds(self, claims: _Claims) -> bool:
        now = self._clock()
        audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
        return (
            claims.nbf <= now + self._leeway
            and claims.iat <= now + self._leeway
            and now < claims.exp + self._leeway
            and self._audience in audiences
            and _is_name(claims.sub)
        )


def make_token(
    key: str | bytes,
    subject: str,
    *,
    ttl: float,
    algorithm: Algorithm = "HS256",
    audience: str = AUDIENCE,
    clock: Callable[[], float] = time.time,
) -> str:
    """Return a token that an :class:`Authenticator` with the same options accepts. Not a checkpoint.

    Args:
        key: for HS256 the secret; for RS256 and ES256 the private key in PEM form, not encrypted.
        subject: the name of who will use it, as the hub's status tells it: 1 to 200 printable characters.
        ttl: for how many seconds it is valid, rounded up to the next whole second of the clock.
        algorithm: how to sign it.
        audience: whom it is for.
        clock: the time in seconds since the epoch.

    Raises:
        ConfigurationError: an argument is wrong. Nothing of the key is repeated.
    """
    secret = _signing_key(_as_bytes(key), algorithm)
    if not _is_name(subject):
        raise ConfigurationError("subject", f"give 1 to {_MOST_SUBJECT} printable characters")
    if not 0 < ttl < math.inf:
        raise ConfigurationError("ttl", "give a number of seconds over 0")
    now = clock()
    claims = {
        "sub": subject,
        "aud": _checked_audience(audience),
        "iat": math.floor(now),
        "exp": math.ceil(now + ttl),
    }
    return jwt.encode(claims, secret, algorithm=algorithm)


def read_key_file(path: str | Path) -> bytes:
    """Return what a file holds, without one newline at its end. Not a checkpoint, but it reads a file.

    A secret that others on this machine can read is told as a warning in the log.

    Raises:
        ConfigurationError: the file cannot be read, is empty, or is too large for a key.
    """
    name = repr(str(path))
    try:
        with Path(path).open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(_MOST_KEY_FILE + 1)
    except (OSError, ValueError) as error:
        problem = (error.strerror if isinstance(error, OSError) else None) or "this is no name of a file"
        raise ConfigurationError(name, f"it cannot be read: {problem}") from None
    if len(content) > _MOST_KEY_FILE:
        raise ConfigurationError(name, f"it is over {_MOST_KEY_FILE} bytes; that is no key")
    key = content.removesuffix(b"\n").removesuffix(b"\r")
    if not key:
        raise ConfigurationError(name, "it is empty")
    if mode & 0o077 and b"PUBLIC KEY-----" not in key:
        _logger.warning("the key file %s is open to others than its owner; use chmod 600", name)
    return key


class Tickets:
    """Short-lived stand-ins for a token, for a browser's WebSocket, which cannot set headers.

    Each is good for one use. Only their hashes are kept. All methods are synchronous.

    Args:
        lifetime: how long a ticket is good, in seconds.
        limit: how many may be waiting; one more makes the oldest invalid.
        clock: the time in seconds, which never goes back.
    """

    def __init__(
        self, *, lifetime: float = 30.0, limit: int = 1000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if limit < 1:
            raise ConfigurationError("limit", "give at least 1")
        if not 0 < lifetime < math.inf:
            raise ConfigurationError("lifetime", "give a number of seconds over 0")
        self.lifetime: Final = lifetime
        self._limit: Final = limit
        self._clock: Final = clock
        # Oldest first: all live equally long.
        self._waiting: Final[dict[bytes, tuple[float, Identity]]] = {}

    def issue(self, identity: Identity) -> str:
        """Return a new ticket for somebody whose token has been checked."""
        now = self._clock()
        self._forget(now)
        ticket = secrets.token_urlsafe(32)
        self._waiting[_digest(ticket)] = (now + self.lifetime, identity)
        return ticket

    def redeem(self, ticket: str) -> Identity | None:
        """Return whose ticket this is and make it invalid; None if it is none, or no longer."""
        # A table of hashes: how long the look-up takes tells nothing about any ticket.
        expires_at, identity = self._waiting.pop(_digest(ticket), (-math.inf, None))
        return identity if self._clock() < expires_at else None

    def _forget(self, now: float) -> None:
        """Make room for one more."""
        while self._waiting:
            oldest = next(iter(self._waiting))
            if len(self._waiting) < self._limit and now < self._waiting[oldest][0]:
                return
            del self._waiting[oldest]


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()


def _is_name(subject: object) -> bool:
    return isinstance(subject, str) and 0 < len(subject) <= _MOST_SUBJECT and subject.isprintable()


def _as_bytes(key: object) -> bytes:
    if isinstance(key, str):
        return key.encode(errors="surrogatepass")
    if not isinstance(key, bytes):
        raise ConfigurationError("key", "give str or bytes")
    return key


def _checked_audience(audience: str) -> str:
    if not audience:
        raise ConfigurationError("audience", "it must not be empty")
    return audience


def _verifying_key(key: bytes, algorithm: Algorithm) -> _PublicKey:
    if algorithm == "HS256":
        return _secret(key)
    _check_algorithm(algorithm)
    if b"PRIVATE KEY-----" in key:
        raise ConfigurationError(
            "key", "give the public key: who checks tokens need not be able to make them"
        )
    try:
        public = serialization.load_pem_public_key(key)
    except Exception:  # noqa: BLE001  (cryptography raises several kinds, and its words may hold what was given)
        public = None
    if algorithm == "RS256" and isinstance(public, rsa.RSAPublicKey):
        _check_size(public.key_size)
        return public
    if algorithm == "ES256" and isinstance(public, ec.EllipticCurvePublicKey):
        _check_curve(public.curve)
        return public
    raise ConfigurationError("key", f"{algorithm} needs a public key of its kind in PEM form")


def _signing_key(key: bytes, algorithm: Algorithm) -> _PrivateKey:
    if algorithm == "HS256":
        return _secret(key)
    _check_algorithm(algorithm)
    try:
        private = serialization.load_pem_private_key(key, password=None)
    except Exception:  # noqa: BLE001  (as above)
        private = None
    if algorithm == "RS256" and isinstance(private, rsa.RSAPrivateKey):
        _check_size(private.key_size)
        return private
    if algorithm == "ES256" and isinstance(private, ec.EllipticCurvePrivateKey):
        _check_curve(private.curve)
        return private
    raise ConfigurationError("key", f"{algorithm} needs a private key of its kind in PEM form, not encrypted")


def _secret(key: bytes) -> bytes:
    # A public key taken for a secret would let anybody who has it, which is everybody, make tokens.
    if b"-----BEGIN " in key or key.startswith((b"ssh-", b"ecdsa-")):
        raise ConfigurationError("key", "HS256 needs a secret, and this is a key for RS256 or ES256")
    if len(key) < _LEAST_SECRET:
        raise ConfigurationError("key", f"HS256 needs at least {_LEAST_SECRET} bytes; this has {len(key)}")
    return key


def _check_algorithm(algorithm: str) -> None:
    if algorithm not in get_args(Algorithm):
        raise ConfigurationError("algorithm", f"choose one of {', '.join(get_args(Algorithm))}")


def _check_size(bits: int) -> None:
    if bits < _LEAST_RSA_BITS:
        raise ConfigurationError("key", f"RS256 needs at least {_LEAST_RSA_BITS} bits; this has {bits}")


def _check_curve(curve: ec.EllipticCurve) -> None:
    if not isinstance(curve, ec.SECP256R1):
        raise ConfigurationError("key", f"ES256 needs the curve P-256; this is {curve.name}")
