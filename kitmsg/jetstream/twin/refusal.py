"""Errors of the API as nats-server words them (its ``errors.json``)."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["Refusal"]

_SENTENCES: Final[dict[int, tuple[int, str]]] = {
    10003: (400, "bad request"),
    10012: (500, "{}"),
    10014: (404, "consumer not found"),
    10025: (400, "invalid JSON"),
    10037: (404, "no message found"),
    10043: (400, "sequence {} not found"),
    10052: (500, "{}"),
    10054: (400, "message size exceeds maximum allowed"),
    10058: (400, "stream name already in use with a different configuration"),
    10059: (404, "stream not found"),
    10060: (400, "expected stream does not match"),
    10065: (400, "subjects overlap with an existing stream"),
    10070: (400, "wrong last msg ID: {}"),
    10071: (400, "wrong last sequence: {}"),
    10074: (500, "replicas > 1 not supported in non-clustered mode"),
    10077: (503, "{}"),
    10098: (400, "workqueue stream requires explicit ack"),
    10099: (400, "multiple non-filtered consumers not allowed on workqueue stream"),
    10100: (400, "filtered consumer not unique on workqueue stream"),
    10101: (400, "consumer must be deliver all on workqueue stream"),
    10109: (500, "message delete not permitted"),
    10110: (500, "stream purge not permitted"),
    10111: (400, "rollup not permitted"),
    10116: (400, "max deliver is required to be > length of backoff values"),
    10138: (400, "consumer subject filters cannot overlap"),
    10148: (400, "consumer already exists"),
    10149: (400, "consumer does not exist"),
    10165: (400, "invalid per-message TTL"),
    10166: (400, "per-message TTL is disabled"),
    10174: (400, "atomic publish is disabled"),
    10176: (400, "atomic publish batch is incomplete"),
    10185: (412, "JetStream minimum api level required"),
    10188: (400, "message schedules is disabled"),
    10189: (400, "message schedules pattern is invalid"),
    10190: (400, "message schedules target is invalid"),
    10201: (400, "duplicate message id in the batch"),
}


class Refusal(Exception):
    """A request that is refused.

    Args:
        number: As in nats-server's ``errors.json``.
        about: Stands in the sentence.
    """

    def __init__(self, number: int, about: object = "") -> None:
        code, sentence = _SENTENCES[number]
        self.error: dict[str, Any] = {
            "code": code,
            "err_code": number,
            "description": sentence.format(about),
        }
        super().__init__(self.error["description"])
