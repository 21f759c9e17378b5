"""Why a try failed, whether another one is worth it, and when: from the response's status, headers and body.

Headers and body come without credentials: what is cut here could not be found any more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import cast

from kitaru.runtime.llm.protocol import CallFailedError

_AGAIN = {408, 409, 425, 429}
"""Statuses below 500 that say: not now."""
_NEVER = {"insufficient_quota", "billing_hard_limit_reached", "account_deactivated"}
"""Codes that come with a 429 and do not pass by waiting."""
_NO_KEY = {401, 403}
_MAX_SAID, _MAX_SHOWN = 500, 200
LONGEST_PAUSE = 3600.0
"""Seconds that a provider may ask to wait; asked for more, the call fails and says so."""


def of_sdk(error: Exception, status: int | None, headers: Mapping[str, str], body: object) -> CallFailedError:
    """A failure of the SDK as Kitaru's: told by what came over the wire, and only without that by the SDK's own class."""
    kinds = {cls.__name__ for cls in type(error).__mro__}
    told = getattr(error, "status_code", None)
    if status is not None and status < 400 and isinstance(told, int) and told >= 400:
        status = told  # an error in a body that came with 200
    if status is not None and status >= 400:
        return of_status(status, headers, body)
    if status is not None and 300 <= status < 400:
        return redirected(status, headers)
    if kinds & {"ModelTimeoutError", "TimeoutError"}:
        return timed_out(None)
    if status is None and ("ModelConnectionError" in kinds or "ModelAPIError" in kinds):
        return CallFailedError(
            f"the provider could not be reached ({_cut(error)}); check the network and the base URL",
            code="llm-connection",
            is_retryable=True,
        )
    if "ModelConnectionError" in kinds or (status is not None and body is None):
        return CallFailedError("the connection broke while the provider answered", code="llm-connection", is_retryable=True)
    if status is not None:
        begins = _cut(body if isinstance(body, str) else json.dumps(body), _MAX_SHOWN)
        return CallFailedError(
            f"the provider's answer is not in its format: {begins}", code="llm-malformed", is_retryable=True
        )
    return CallFailedError(f"the request could not be made ({_cut(error)})", code="llm-request")


def of_status(status: int, headers: Mapping[str, str], body: object) -> CallFailedError:
    """A response that is an error."""
    said, code = _said(body)
    asked = retry_after(headers)
    is_retryable = (status in _AGAIN or status >= 500) and code not in _NEVER
    what = f"the provider answered {status}" + (f": {said}" if said else "")
    if is_retryable and asked is not None and asked > LONGEST_PAUSE:
        is_retryable = False
        what += f" (it asks to wait for {asked:.0f} s)"
    if status in _NO_KEY:
        what += "; check the credential: the environment's goes before the alias's secret"
    return CallFailedError(what, code=_code_of(status), is_retryable=is_retryable, retry_after=asked)


def redirected(status: int, headers: Mapping[str, str]) -> CallFailedError:
    """A response that sends elsewhere, where the credential is not sent."""
    where = {name.lower(): value for name, value in headers.items()}.get("location")
    return CallFailedError(
        f"the provider answered {status}, a redirect{f' to {_cut(where, _MAX_SHOWN)}' if where else ''}, which is not "
        "followed: set the base URL to where the API is (http instead of https?)",
        code="llm-refused",
    )


def timed_out(seconds: float | None) -> CallFailedError:
    """No answer in time."""
    within = "in time" if seconds is None else f"within its {seconds:g} seconds"
    return CallFailedError(
        f"the provider did not answer {within}; give the call a longer timeout=", code="llm-timeout", is_retryable=True
    )


def without_text(reason: str | None, *, is_structured: bool) -> str:
    """What to say of a response that holds no answer."""
    if reason == "length":
        return "the model reached max_tokens before it answered; give it more"
    if reason == "content_filter":
        return "the provider's filter refused the prompt or the answer"
    what = "did not answer in the form of output_type" if is_structured else "gave no text"
    return f"the model {what} (finish reason: {reason or 'none'})"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the response asks to wait: `retry-after-ms`, or `retry-after` in seconds or as a date."""
    lowered = {name.lower(): value for name, value in headers.items()}
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = lowered.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            seconds = _until(value)
        if seconds is not None and seconds >= 0:  # and no NaN
            return seconds
    return None


def _until(date: str) -> float | None:
    try:
        return max(parsedate_to_datetime(date).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def _code_of(status: int) -> str:
    code = "llm-refused"
    if status in _NO_KEY:
        code = "llm-credentials"
    elif status == 429:
        code = "llm-rate-limit"
    elif status >= 500:
        code = "llm-server"
    return code


def _said(body: object) -> tuple[str, str | None]:
    """The error's own words and its code: both formats have them below `error`."""
    whole: Mapping[str, object] = cast("Mapping[str, object]", body) if isinstance(body, Mapping) else {}
    error = whole.get("error", whole)
    if isinstance(error, Mapping):
        fields = cast("Mapping[str, object]", error)
        code = fields.get("code")
        return _cut(fields.get("message") or ""), code if isinstance(code, str) else None
    return _cut(error if isinstance(error, str) and error else body if isinstance(body, str) else ""), None


def _cut(said: object, most: int = _MAX_SAID) -> str:
    text = " ".join(str(said).split()).rstrip(".")
    return text if len(text) <= most else f"{text[:most]}…"
