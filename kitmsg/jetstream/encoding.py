"""Configurations and states as JetStream's JSON, both ways.

The field names are nats-server's (docs.nats.io, "JetStream wire API reference").
Durations are nanoseconds there, times RFC 3339, and 0 or -1 is "no limit".
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from kitmsg.jetstream.checks import held_time
from kitmsg.jetstream.configs import (
    ConsumerConfig,
    ConsumerInfo,
    StreamConfig,
    StreamInfo,
)

__all__ = [
    "NS",
    "consumer_config",
    "consumer_info",
    "consumer_json",
    "stream_config",
    "stream_info",
    "stream_json",
    "stream_keys",
    "time_of",
    "time_text",
]

NS: Final = 1_000_000_000
"""Nanoseconds in a second."""

_ZERO_TIME: Final = "0001-01-01T00:00:00Z"  # Go's time that was never set

# What there is in both, by our name: the server's.
_STREAM_PLAIN: Final = {
    "name": "name",
    "description": "description",
    "retention": "retention",
    "storage": "storage",
    "replicas": "num_replicas",
    "discard": "discard",
    "discard_per_subject": "discard_new_per_subject",
    "compression": "compression",
    "allow_direct": "allow_direct",
    "allow_ttl": "allow_msg_ttl",
    "allow_schedules": "allow_msg_schedules",
    "allow_atomic": "allow_atomic",
    "allow_rollup": "allow_rollup_hdrs",
    "deny_delete": "deny_delete",
    "deny_purge": "deny_purge",
}
_STREAM_LIMITS: Final = {
    "max_messages": "max_msgs",
    "max_bytes": "max_bytes",
    "max_message_bytes": "max_msg_size",
    "max_per_subject": "max_msgs_per_subject",
    "max_consumers": "max_consumers",
}
_STREAM_TIMES: Final = {
    "max_age": "max_age",
    "duplicate_window": "duplicate_window",
    "marker_ttl": "subject_delete_marker_ttl",
}
_STREAM_KEYS: Final = frozenset(
    {
        *_STREAM_PLAIN.values(),
        *_STREAM_LIMITS.values(),
        *_STREAM_TIMES.values(),
        *("subjects", "metadata"),
    }
)
_CONSUMER_PLAIN: Final = {
    "description": "description",
    "deliver": "deliver_policy",
    "ack": "ack_policy",
    "max_ack_pending": "max_ack_pending",
    "headers_only": "headers_only",
    "in_memory": "mem_storage",
}


def stream_keys() -> frozenset[str]:
    """Return the server's names of all that `StreamConfig` says."""
    return _STREAM_KEYS


def stream_json(config: StreamConfig) -> dict[str, Any]:
    """Return a stream's configuration as the server takes it."""
    found: dict[str, Any] = {
        theirs: getattr(config, ours) for ours, theirs in _STREAM_PLAIN.items()
    }
    for ours, theirs in _STREAM_LIMITS.items():
        limit = getattr(config, ours)
        found[theirs] = -1 if limit is None else limit
    for ours, theirs in _STREAM_TIMES.items():
        found[theirs] = _nanoseconds(getattr(config, ours))
    if config.max_age is not None:  # a longer window is refused
        window = min(config.duplicate_window, config.max_age)
        found["duplicate_window"] = _nanoseconds(window)
    found["subjects"] = list(config.subjects)
    found["metadata"] = dict(config.metadata)
    return {name: value for name, value in found.items() if value not in ("", False)}


def stream_config(found: dict[str, Any]) -> StreamConfig:
    """Return a stream's configuration as the server told it."""
    fields: dict[str, Any] = {
        ours: found[theirs] for ours, theirs in _STREAM_PLAIN.items() if theirs in found
    }
    for ours, theirs in _STREAM_LIMITS.items():
        limit = found.get(theirs, -1)
        fields[ours] = limit if limit > 0 else None
    for ours, theirs in _STREAM_TIMES.items():
        fields[ours] = found.get(theirs, 0) / NS or None
    fields["duplicate_window"] = fields["duplicate_window"] or 0.0
    # The server says nothing of what is off, so here our default does not count.
    fields.setdefault("allow_direct", False)
    return StreamConfig(
        subjects=tuple(found.get("subjects") or ()),
        metadata=dict(found.get("metadata") or {}),
        **fields,
    )


def stream_info(found: dict[str, Any]) -> StreamInfo:
    """Return a stream's state as the server told it."""
    state = found["state"]
    return StreamInfo(
        config=stream_config(found["config"]),
        created=time_of(found["created"]),
        now=time_of(found.get("ts") or found["created"]),
        messages=state["messages"],
        bytes=state["bytes"],
        first=state["first_seq"],
        last=state["last_seq"],
        first_time=_time_or_none(state.get("first_ts", _ZERO_TIME)),
        last_time=_time_or_none(state.get("last_ts", _ZERO_TIME)),
        subjects=state.get("num_subjects", 0),
        consumers=state["consumer_count"],
        leader=(found.get("cluster") or {}).get("leader", ""),
    )


def consumer_json(config: ConsumerConfig) -> dict[str, Any]:
    """Return a consumer's configuration as the server takes it."""
    found: dict[str, Any] = {
        theirs: getattr(config, ours) for ours, theirs in _CONSUMER_PLAIN.items()
    }
    found["name"] = config.name
    found["durable_name"] = config.name if config.durable else ""
    if len(config.filters) == 1:
        found["filter_subject"] = config.filters[0]
    elif config.filters:
        found["filter_subjects"] = list(config.filters)
    if config.start_sequence is not None:
        found["opt_start_seq"] = config.start_sequence
    if config.start_time is not None:
        found["opt_start_time"] = time_text(config.start_time)
    if config.ack != "none":
        found["ack_wait"] = _nanoseconds(config.ack_wait)
    if config.backoff:
        found["backoff"] = [_nanoseconds(each) for each in config.backoff]
    found["max_deliver"] = -1 if config.max_deliver is None else config.max_deliver
    found["inactive_threshold"] = _nanoseconds(config.inactive_after)
    found["num_replicas"] = config.replicas or 0
    if config.paused_until is not None:
        found["pause_until"] = time_text(config.paused_until)
    found["metadata"] = dict(config.metadata)
    return {name: value for name, value in found.items() if value not in ("", False)}


def consumer_config(found: dict[str, Any]) -> ConsumerConfig:
    """Return a consumer's configuration as the server told it."""
    fields: dict[str, Any] = {
        ours: found[theirs]
        for ours, theirs in _CONSUMER_PLAIN.items()
        if theirs in found
    }
    one = found.get("filter_subject")
    limit = found.get("max_deliver", -1)
    config = ConsumerConfig(
        name=found.get("name") or found.get("durable_name", ""),
        durable=bool(found.get("durable_name")),
        filters=(one,) if one else tuple(found.get("filter_subjects") or ()),
        start_sequence=found.get("opt_start_seq") or None,
        ack_wait=found.get("ack_wait", 0) / NS,
        backoff=tuple(each / NS for each in found.get("backoff") or ()),
        max_deliver=limit if limit > 0 else None,
        inactive_after=found.get("inactive_threshold", 0) / NS or None,
        replicas=found.get("num_replicas") or None,
        metadata=dict(found.get("metadata") or {}),
        **fields,
    )
    start, until = found.get("opt_start_time"), found.get("pause_until")
    return replace(
        config,
        start_time=time_of(start) if start else None,
        paused_until=time_of(until) if until else None,
    )


def consumer_info(found: dict[str, Any]) -> ConsumerInfo:
    """Return a consumer's state as the server told it."""
    return ConsumerInfo(
        stream=found["stream_name"],
        config=consumer_config(found["config"]),
        created=time_of(found["created"]),
        now=time_of(found.get("ts") or found["created"]),
        delivered=found["delivered"]["stream_seq"],
        delivered_consumer=found["delivered"]["consumer_seq"],
        ack_floor=found["ack_floor"]["stream_seq"],
        ack_floor_consumer=found["ack_floor"]["consumer_seq"],
        ack_pending=found["num_ack_pending"],
        redelivered=found["num_redelivered"],
        pending=found["num_pending"],
        waiting=found["num_waiting"],
        paused=bool(found.get("paused")),
        leader=(found.get("cluster") or {}).get("leader", ""),
    )


def time_text(time: float) -> str:
    """Return unix seconds as RFC 3339, in UTC and microseconds.

    Raises:
        InvalidArgument: As `held_time`.
    """
    return (
        datetime.fromtimestamp(held_time(time), UTC).isoformat().replace("+00:00", "Z")
    )


def time_of(text: str) -> float:
    """Return a time of the server, RFC 3339 with nanoseconds, as unix seconds."""
    return datetime.fromisoformat(text).timestamp()


def _time_or_none(text: str) -> float | None:
    return None if text == _ZERO_TIME else time_of(text)


def _nanoseconds(seconds: float | None) -> int:
    return 0 if seconds is None else round(seconds * NS)
