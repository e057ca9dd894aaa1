"""Flags win over the environment, that over the table; mistakes are named."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

import pytest

from kitmsg.errors import InvalidArgument
from kitmsg.worker.settings import (
    Settings,
    add_flags,
    load_settings,
    parse_address,
)

if TYPE_CHECKING:
    from pathlib import Path


def table(folder: Path, *lines: str) -> Path:
    """Write a table and return its folder."""
    text = "\n".join(["[tool.kitmsg]", *lines])
    (folder / "pyproject.toml").write_text(text)
    return folder


def test_flags_win_over_environment_over_table(tmp_path: Path) -> None:
    """Each source overrides the one below it, setting by setting."""
    folder = table(tmp_path, "workers = 2", 'log-level = "debug"', "watchdog = 3")
    environ = {"KITMSG_WORKERS": "3", "KITMSG_LOG_LEVEL": "warning"}
    chosen = load_settings({"workers": "4"}, environ=environ, folder=folder)
    assert (chosen.workers, chosen.log_level, chosen.watchdog) == (4, "warning", 3.0)


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    """No flags, no variables, no file: the defaults."""
    assert load_settings(environ={}, folder=tmp_path) == Settings()


def test_the_table_says_what_to_serve(tmp_path: Path) -> None:
    """Services are a list in the table, words in the environment."""
    folder = table(tmp_path, 'services = ["a:A", "b:B"]')
    assert load_settings(environ={}, folder=folder).services == ("a:A", "b:B")
    environ = {"KITMSG_SERVICES": "c:C, d:D"}
    assert load_settings(environ=environ, folder=folder).services == ("c:C", "d:D")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("worker = 2", "unknown key 'worker'; did you mean 'workers'"),
        ("workers = 'many'", "'workers' in \\[tool.kitmsg\\] is 'many'; write a whole"),
        ("workers = 0", "workers must be at least 1, not 0"),
        ("watchdog = -1", "watchdog must not be less than 0"),
        ("watchdog = 0.2", "watchdog must be at least 1 s, or 0"),
        ("access-log = 'perhaps'", "write true or false"),
        ("log-format = 'xml'", "log-format is 'xml'; choose console or json"),
        ("health = 'here'", "'here' is not \\[HOST:\\]PORT"),
        ("nats-password = 'x'", "keep 'nats-password' out .* set NATS_PASSWORD"),
        ("workers = ", "cannot read .*pyproject.toml"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, line: str, sentence: str) -> None:
    """What does not fit names the setting, its source and what to write."""
    with pytest.raises(InvalidArgument, match=sentence):
        load_settings(environ={}, folder=table(tmp_path, line))


def test_a_bad_variable_is_named() -> None:
    """A mistake in the environment names the variable."""
    with pytest.raises(InvalidArgument, match="KITMSG_WORKERS is 'two'"):
        load_settings(environ={"KITMSG_WORKERS": "two"})


def test_credentials_reach_the_connection() -> None:
    """Every NATS variable becomes an option of the connection."""
    environ = {"NATS_URL": "tls://bus", "NATS_TOKEN": "t", "NATS_CA": "ca.pem"}
    chosen = load_settings(environ=environ).connection("me")
    assert chosen == {
        "servers": "tls://bus",
        "name": "me",
        "inbox_prefix": "_INBOX",
        "token": "t",
        "tls_ca": "ca.pem",
    }


@pytest.mark.parametrize("name", ["password", "token"])
def test_a_secret_can_be_a_file(tmp_path: Path, name: str) -> None:
    """The variable with _FILE names a file; the end of its line is no part of the secret."""
    path = tmp_path / "secret"
    path.write_text("hush \n")
    environ = {f"NATS_{name.upper()}_FILE": str(path)}
    assert load_settings(environ=environ).connection()[name] == "hush "


@pytest.mark.parametrize(
    ("content", "more", "sentence"),
    [
        (
            b"hush",
            {"NATS_PASSWORD": "hush"},
            "NATS_PASSWORD and NATS_PASSWORD_FILE are both",
        ),
        (None, {}, "cannot read NATS_PASSWORD_FILE '.*secret': No such file"),
        (b"\xff", {}, "cannot read NATS_PASSWORD_FILE '.*secret': it is not text"),
        (b"\n", {}, "must hold the secret alone"),
        (b"hush\nhush", {}, "must hold the secret alone"),
    ],
)
def test_a_secret_that_cannot_be_read_is_named(
    tmp_path: Path, content: bytes | None, more: dict[str, str], sentence: str
) -> None:
    """One sentence with the variable and the file, and never the secret."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    environ = {"NATS_PASSWORD_FILE": str(path), **more}
    with pytest.raises(InvalidArgument, match=sentence) as caught:
        load_settings(environ=environ)
    assert "hush" not in str(caught.value)


def test_secrets_are_not_shown() -> None:
    """The repr of settings, which may reach a log, has no secret."""
    assert "hush" not in repr(Settings(nats_password="hush", nats_token="hush"))


def test_every_setting_has_a_flag_but_secrets() -> None:
    """The help shows each setting with its variable; secrets have no flag."""
    parser = argparse.ArgumentParser()
    fields = dataclasses.fields(Settings)
    add_flags(parser, [field.name for field in fields])
    text = parser.format_help()
    for field in fields:
        is_hidden = field.metadata.get("is_secret") or field.name == "services"
        flag = f"--{field.name.replace('_', '-')}"
        assert (flag in text.split()) != bool(is_hidden) or f"{flag}," in text


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9090", ("127.0.0.1", 9090)),
        ("0.0.0.0:90", ("0.0.0.0", 90)),
        ("[::1]:90", ("::1", 90)),
    ],
)
def test_reads_addresses(text: str, address: tuple[str, int]) -> None:
    """A port alone means loopback."""
    assert parse_address(text) == address


def test_inboxes_are_named() -> None:
    """The prefix of our own, and those of others that are answered."""
    environ = {"NATS_INBOX_PREFIX": "_INBOX_me", "NATS_PEER_INBOX": "_R,eu.replies"}
    chosen = load_settings(environ=environ).connection()
    assert chosen["inbox_prefix"] == "_INBOX_me"
    assert chosen["peer_inboxes"] == ("_R", "eu.replies")
