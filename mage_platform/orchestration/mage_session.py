"""One login at a Mage server, and its way of answering.

Mage answers errors with HTTP 200 and a body that says so; here they become the platform's errors.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import httpx

from mage_platform.errors import MageUnavailable
from mage_platform.orchestration.refusals import LoginRefused, PipelineNotFound, RunNotFound

# The same in every Mage: it stands in Mage's source and in every page Mage serves, and keeps nobody out.
PUBLIC_API_KEY = "zkWlN0PkIKSN0C11CfUHUj84OT5XOJ6tDZ6bDRO2"
TIMEOUT_SECONDS = 30.0
_UNAUTHORIZED = (401, 403)


class MageSession:
    """Requests to one Mage server as one user.

    The login happens with the first request that needs one, is renewed when Mage forgets it, and is left out
    where the server runs without authentication.

    Args:
        base_url: Address of the server, such as `http://127.0.0.1:6789`.
        email: Login of the user.
        password: Their password.
        api_key: Mage's public API key.
    """

    def __init__(self, base_url: str, email: str, password: str, api_key: str) -> None:
        self._base_url = base_url.rstrip("/")
        self._email = email
        self._password = password
        self._http = httpx.Client(
            base_url=self._base_url,
            headers={"X-API-KEY": api_key},
            timeout=httpx.Timeout(TIMEOUT_SECONDS, connect=3.0),
            trust_env=False,
        )
        self._logged_in = False

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def is_up(self) -> bool:
        """Tell whether a Mage server answers and its scheduler runs.

        Returns:
            False when nothing listens there, or it is not (yet) a running Mage.

        Raises:
            MageUnavailable: Something listens and does not answer in time, so that nobody can tell.
        """
        try:
            answer = self._http.get("/api/status")
            statuses = answer.json()["statuses"] if answer.status_code == 200 else []
        except httpx.TimeoutException as error:
            if isinstance(error, httpx.ConnectTimeout):
                return False
            raise MageUnavailable(
                f"Something listens at {self._base_url} but did not answer within {TIMEOUT_SECONDS:.0f} s. "
                "Look at the log of the Mage server; restart it if it hangs."
            ) from error
        except (httpx.TransportError, ValueError, KeyError):
            return False
        return bool(statuses) and statuses[0].get("scheduler_status") == "running"

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        parameters: Mapping[str, str] | None = None,
        bearer: str | None = None,
    ) -> dict[str, Any]:
        """Send a request, logging in first; once more when Mage has forgotten the login.

        Args:
            method: HTTP method.
            path: Path below the server's address.
            body: What to send, as JSON.
            parameters: Query of the address.
            bearer: Token to send in place of the login's.

        Returns:
            The answer's JSON.

        Raises:
            LoginRefused: The login is wrong, or may not do this.
            PipelineNotFound: The project has no such pipeline.
            RunNotFound: Mage knows no such run.
            MageUnavailable: The server did not answer, or answered with an error.
        """
        renewed = not self._logged_in
        self._log_in()
        answer = self._send(method, path, body, parameters, bearer)
        if _code(answer) in _UNAUTHORIZED and not renewed:
            self._logged_in = False
            self._log_in()
            answer = self._send(method, path, body, parameters, bearer)
        if "error" in answer:
            raise self._error(path, answer["error"])
        return answer

    def _log_in(self) -> None:
        if self._logged_in:
            return
        statuses = self._send("GET", "/api/status").get("statuses") or [{}]
        if statuses[0].get("require_user_authentication", True):
            session = {"session": {"email": self._email, "password": self._password}}
            answer = self._send("POST", "/api/sessions", session)
            if "error" in answer:
                raise LoginRefused(
                    f"Mage at {self._base_url} did not accept the login of {self._email}. Check "
                    "PLATFORM_MAGE__OWNER_EMAIL and the secret platform_mage_owner_password; a password that was "
                    "changed in Mage's UI has to be written into the secret too."
                )
            self._http.headers["Authorization"] = f"Bearer {_inner_token(answer['session']['token'])}"
        self._logged_in = True

    def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        parameters: Mapping[str, str] | None = None,
        bearer: str | None = None,
    ) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else None
        try:
            answer = self._http.request(method, path, json=body, params=parameters, headers=headers)
            decoded = answer.json()
        except httpx.TransportError as error:
            raise MageUnavailable(
                f"Mage at {self._base_url} did not answer ({type(error).__name__}: {error}). Check that it runs "
                "and that PLATFORM_MAGE__HOST and PLATFORM_MAGE__PORT name it."
            ) from error
        except ValueError as error:
            raise MageUnavailable(
                f"{self._base_url} answered {path} with HTTP {answer.status_code} and without "
                "JSON, so it is not Mage. Check PLATFORM_MAGE__HOST and PLATFORM_MAGE__PORT."
            ) from error
        return decoded if isinstance(decoded, dict) else {}

    def _error(self, path: str, error: Mapping[str, Any]) -> Exception:
        parts = path.split("/")
        text = str(error.get("exception") or error.get("message") or error).strip().splitlines()[-1]
        if parts[2] == "pipelines" and "does not exist" in text:
            return PipelineNotFound(
                f"Mage at {self._base_url} has no pipeline {parts[3]!r}. Check the name, and that the server "
                "serves this project."
            )
        if error.get("code") == 404 and parts[2] == "pipeline_runs":
            return RunNotFound(f"Mage at {self._base_url} knows no run {parts[3]}. Check the number.")
        if error.get("code") in _UNAUTHORIZED:
            return LoginRefused(
                f"Mage at {self._base_url} does not let {self._email} do this ({text}). Log in as a user with "
                "the right to edit."
            )
        return MageUnavailable(f"Mage at {self._base_url} answered {path} with an error: {text} See the server's log.")


def _inner_token(token: str) -> str:
    """The token Mage wants back lies inside the JWT it hands out; the JWT itself is only good as a cookie."""
    payload = token.split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["token"])


def _code(answer: Mapping[str, Any]) -> int | None:
    code = (answer.get("error") or {}).get("code")
    return int(code) if code is not None else None
