"""Requests to the API of the running service, for the commands that need its answer."""

from __future__ import annotations

from typing import Any

import click
import requests

from worker.command.terminal import plain, user, waiting
from worker.errors import EndtapeError
from worker.settings import Settings


def ask(
    settings: Settings,
    path: str,
    body: dict[str, Any],
    *,
    key: str | None = None,
    wait_s: float = 30,
    interrupted: str | None = None,
) -> tuple[int, dict[str, Any]]:
    """Sends a POST to the running service. Returns the status and the JSON of the answer.

    Fields of `body` that are None are left out. `key`: the Idempotency-Key. `wait_s`: how long the
    service may take. `interrupted`: what to say where a person does not wait for it. Raises
    EndtapeError where it does not answer.
    """
    base = settings.local_url
    headers = {
        "Authorization": f"Bearer {settings.api_keys[0].secret}",
        "X-Endtape-Actor": user(),
        **({"Idempotency-Key": key} if key else {}),
    }
    with requests.Session() as http:
        http.trust_env = False
        try:
            with waiting("waiting for the service ..."):
                response = http.post(
                    base + path,
                    json={k: v for k, v in body.items() if v is not None},
                    headers=headers,
                    timeout=wait_s + 10,
                )
            answer: dict[str, Any] = response.json()
        except KeyboardInterrupt:
            raise EndtapeError(interrupted or "Interrupted; what was asked stands.") from None
        except (requests.RequestException, ValueError) as error:
            raise EndtapeError(
                f"{base} does not answer ({type(error).__name__}): "
                "is the service running, and PORT right?"
            ) from None
    return response.status_code, answer


def refused(status: int, answer: dict[str, Any]) -> EndtapeError | click.UsageError:
    """The error for an answer that is no success, with the reason that it gives: wrong use where
    the request could not be read, else its status.
    """
    why = plain(str(answer.get("detail") or answer.get("title")))
    return click.UsageError(why) if status == 400 else EndtapeError(f"{status}: {why}")
