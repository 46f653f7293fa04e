"""Asks the SSH agent to sign: the private key never comes into our processes."""

from __future__ import annotations

import os
import socket

from worker.archive.signing import PublicKey
from worker.errors import Unsigned

_ANSWER_S = 10.0
_SIGN_REQUEST, _SIGN_RESPONSE = 13, 14
_MOST_BYTES = 65_536


def sign(key: PublicKey, message: bytes) -> bytes:
    """The 64 bytes of Ed25519 over the message, by the agent at SSH_AUTH_SOCK. Raises Unsigned
    where no agent answers or it has no such key.
    """
    request = b"".join([bytes([_SIGN_REQUEST]), _string(key.blob), _string(message), b"\0\0\0\0"])
    try:
        answer = _ask(request)
    except OSError as error:
        raise Unsigned(
            "ENDTAPE_SIGNING_KEY: the SSH agent that should sign does not answer "
            f"({error.strerror or error}); SSH_AUTH_SOCK must name it"
        ) from None
    if not answer or answer[0] != _SIGN_RESPONSE or len(answer) < 64:
        raise Unsigned(
            f"ENDTAPE_SIGNING_KEY: the SSH agent has no key {key.fingerprint}, or refuses to use it"
        )
    return answer[-64:]  # the last thing in the answer


def _ask(request: bytes) -> bytes:
    """The agent's answer without its length. Raises OSError."""
    place = os.environ.get("SSH_AUTH_SOCK")
    if not place:
        raise FileNotFoundError(None, "SSH_AUTH_SOCK is not set")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
        agent.settimeout(_ANSWER_S)
        agent.connect(place)
        agent.sendall(_string(request))
        with agent.makefile("rb") as answers:
            length = int.from_bytes(answers.read(4), "big")
            return answers.read(min(length, _MOST_BYTES))


def _string(content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + content
