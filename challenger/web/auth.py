"""Who asks, and what they may: bearer tokens for programs, cookie sessions for the pages.

A session begins with a token posted to ``/login`` and ends with the token, at ``/logout``, or with its time. Its cookie is
HttpOnly and SameSite=Strict, and whatever changes anything needs the session's CSRF token beside it.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import hdrs, web

from challenger.web.keys import ACCESS, LIMITS, WHO
from challenger.web.limits import client_of
from challenger.web.problems import Problem
from challenger.web.table import Scope
from challenger.web.tokens import Tokens, digest_of

COOKIE = "challenger_session"
CSRF_HEADER = "X-CSRF-Token"
CSRF_FIELD = "csrf"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_MOST_SESSIONS = 1_000
_MAKE_ONE = "make a token: challenger serve token add NAME --scope"


@dataclass(frozen=True, slots=True)
class Who:
    """``name`` of the token, empty for anybody; ``csrf`` of the session, empty without one."""

    name: str
    scope: Scope
    csrf: str = ""


@dataclass(frozen=True, slots=True)
class _Session:
    digest: str
    csrf: str
    ends: float


class Access:
    """``open_reading``: without any token, reading needs none (loopback). ``secure``: cookies are for https alone."""

    def __init__(
        self,
        tokens: Tokens,
        *,
        open_reading: bool,
        seconds: float,
        secure: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tokens = tokens
        self._open = open_reading
        self._seconds = seconds
        self._secure = secure
        self._clock = clock
        self._sessions: dict[str, _Session] = {}

    def who(self, request: web.Request) -> Who | None:
        """Who asks; None for somebody without a token where one is needed. Raises Problem 401 for a false one."""
        header = request.headers.get(hdrs.AUTHORIZATION)
        if header is not None:
            kind, _, text = header.partition(" ")
            token = self.tokens.of(text.strip()) if kind.lower() == "bearer" else None
            if token is None:
                raise unauthorised("the token is not valid")
            return Who(token.name, token.scope)
        session = self._session(request.cookies.get(COOKIE, ""))
        if session is not None:
            found = next((t for t in self.tokens.all() if t.digest == session.digest), None)
            if found is not None:
                return Who(found.name, found.scope, session.csrf)
        return Who("", Scope.READ) if self._open and not self.tokens.all() else None

    def login(self, response: web.StreamResponse, text: str) -> Who:
        """A session for the token ``text``, its cookie in ``response``. Raises Problem 401."""
        token = self.tokens.of(text)
        if token is None:
            raise unauthorised("the token is not valid")
        now = self._clock()
        self._sessions = {key: one for key, one in self._sessions.items() if one.ends > now}
        while len(self._sessions) >= _MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        cookie, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self._sessions[digest_of(cookie)] = _Session(token.digest, csrf, now + self._seconds)
        response.set_cookie(
            COOKIE, cookie, max_age=int(self._seconds), httponly=True, samesite="Strict", secure=self._secure, path="/"
        )
        return Who(token.name, token.scope, csrf)

    def logout(self, request: web.Request, response: web.StreamResponse) -> None:
        self._sessions.pop(digest_of(request.cookies.get(COOKIE, "")), None)
        response.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict", secure=self._secure)

    def _session(self, cookie: str) -> _Session | None:
        session = self._sessions.get(digest_of(cookie)) if cookie else None
        return session if session is not None and session.ends > self._clock() else None


def unauthorised(detail: str) -> Problem:
    return Problem(401, detail, headers={hdrs.WWW_AUTHENTICATE: 'Bearer realm="challenger"'})


def identify(request: web.Request) -> Who | None:
    """Who asks, kept for the handlers under ``WHO``. A false token counts against its address."""
    try:
        who = request.app[ACCESS].who(request)
    except Problem:
        request.app[LIMITS].take(f"refused {client_of(request)}", cost=10)
        raise
    request[WHO] = who
    return who


def require(request: web.Request, scope: Scope) -> Who:
    """Raises Problem 401 or 403 unless whoever asks may do what ``scope`` allows; and, of a session that changes
    something by anything but a form, without its CSRF token."""
    who: Who | None = request.get(WHO)
    if who is None:
        raise unauthorised("a token is needed: authorization: Bearer TOKEN")
    if scope is Scope.OPERATOR and who.scope is not Scope.OPERATOR:
        if not who.name:
            raise Problem(403, f"this needs a token of scope operator; {_MAKE_ONE} operator")
        raise Problem(403, f"the token {who.name} may read only; {_MAKE_ONE} operator")
    if request.method not in _SAFE and who.csrf:
        check_csrf(who, request.headers.get(CSRF_HEADER, ""))
    return who


def check_csrf(who: Who, given: str) -> None:
    """For what a session posts: ``given`` is the form's field ``csrf`` or the header. Raises Problem 403."""
    if not hmac.compare_digest(who.csrf.encode(), given.encode("utf-8", "replace")):
        raise Problem(
            403, f"the session's CSRF token is missing or another: header {CSRF_HEADER}, or field {CSRF_FIELD}"
        )
