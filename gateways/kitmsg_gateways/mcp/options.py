"""Options of the MCP gateway, beside those that all doors have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from kitmsg_gateways.edge.extra import Extra
from kitmsg_gateways.edge.weboptions import FollowOptions, WebOptions

__all__ = ["EXTRA", "GatewayOptions"]

EXTRA: Final = Extra("MCP", "mcp", "mcp")


@dataclass(frozen=True, kw_only=True)
class GatewayOptions(WebOptions, FollowOptions):
    """Options of an MCP gateway.

    Attributes:
        name: The server's name, as clients show it.
        instructions: What a model should know; the list of services follows it.
        tools: Endpoints that are tools, such as shop.*; by default all.
        separator: Between service and endpoint in a tool's name: some clients take no dot.
        max_sessions: Sessions at once; more are refused.
        session_timeout: Seconds after which a session that nobody uses ends.
    """

    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {"separator": (".", "_", "-")}

    port: int = 8084
    name: str = "kitmsg"
    instructions: str = ""
    tools: tuple[str, ...] = ()
    separator: str = "."
    max_sessions: int = 10_000
    session_timeout: float = 1800.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.workers > 1:
            raise ValueError("workers: sessions live in one process; start no more")
