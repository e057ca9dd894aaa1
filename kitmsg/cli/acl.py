"""``kitmsg acl``: NATS users with the least rights, from service classes and names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from kitmsg.cli.output import UsageError, to_json, usage
from kitmsg.worker.settings import add_flags, load_settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping, Sequence

    from kitmsg.service import Service
    from kitmsg.service.rights import Rights, Served

__all__ = [
    "add_arguments",
    "claims_of",
    "named_services",
    "run",
    "server_config",
    "users_of",
    "with_buckets",
    "with_events",
]

_EPILOG: Final = """\
A user for each service, one for a worker that serves all of them (where there are several),
one for gateways, one for programs that only call, one for this command line, and one for
`kitmsg outbox relay` where services publish events.  A service calls those that its constructor
asks for, and those that --calls names.

Services without a class, such as upstreams, are named:

  kitmsg acl orders.py --upstream payments --calls orders=payments
  kitmsg acl --service strings=strings.uppercase,strings.count --queue strings=workers

A user for which --bucket or a middleware (dedupe, a shared rate limit) names a key-value bucket
may read it and write to it, but not make it: make it as another user before.

Each user has inboxes of its own: set NATS_INBOX_PREFIX as the comments say.
"""
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_OWN: Final = re.compile(r"[^$_*>\"\\][^\"\\]*")  # the first token is no system's
_NKEY: Final = re.compile(r"U[A-Z2-7]{55}")
_WORKER: Final = "worker"
_OTHERS: Final = ("gateway", "client", "cli", "outbox")
_FORMATS: Final = ("config", "claims", "nsc")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.epilog = _EPILOG
    parser.set_defaults(rest="targets")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="services")
    parser.add_argument(
        "--format",
        choices=_FORMATS,
        default="config",
        help="lines of a server's configuration, the claims of user JWTs as JSON, or"
        " commands of nsc that make the users (default: config)",
    )
    parser.add_argument(
        "--calls",
        action="append",
        default=[],
        metavar="SERVICE=SERVICE",
        help="a service that another calls, beyond its constructor; may be repeated",
    )
    _add_named(parser.add_argument_group("services without a class"))
    parser.add_argument(
        "--bucket",
        action="append",
        default=[],
        metavar="USER=BUCKET",
        help="a key-value bucket that a user reads and writes, beyond those of its"
        " middlewares; may be repeated",
    )
    parser.add_argument(
        "--events",
        action="append",
        default=[],
        metavar="NAME[:publish|read]",
        help="an event of the services that is open at gateways, as it says there; may be"
        " repeated",
    )
    parser.add_argument(
        "--nkey",
        action="append",
        default=[],
        metavar="USER=KEY",
        help="a public nkey instead of a password, in a configuration; may be repeated",
    )
    parser.add_argument(
        "--passwords",
        default="",
        metavar="FILE",
        help="a file that the server reads the passwords from, as KITMSG_PASSWORD_...: TEXT,"
        " relative to the configuration; by default they come from its environment",
    )
    add_flags(parser.add_argument_group("keys"), ("trusted_keys",))


def _add_named(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--service",
        action="append",
        default=[],
        metavar="NAME=SUBJECT,...",
        help="a service that is wired by hand, and its subjects; may be repeated",
    )
    group.add_argument(
        "--upstream",
        action="append",
        default=[],
        metavar="NAME[=ENDPOINT,...]",
        help="an upstream (kitmsg upstream --as NAME), with all its endpoints or those;"
        " may be repeated",
    )
    group.add_argument(
        "--queue",
        action="append",
        default=[],
        metavar="NAME=GROUP",
        help="the queue group of a --service, if it is not q; may be repeated",
    )


def run(options: argparse.Namespace) -> int:
    """Print the users; returns the exit code."""
    from kitmsg.worker.load import load

    with usage():
        settings = load_settings(vars(options))
        targets = tuple(options.targets) or settings.services
        named = named_services(options.service, options.upstream, options.queue)
        if not targets and not named:
            raise UsageError("no services: write kitmsg acl greeter.py")
        keys = [k[3:] for k in settings.trusted_keys if k.startswith("kv:")]
        calls = _pairs(options.calls, "--calls")
        factories = load(targets) if targets else []
        users = users_of(factories, calls, keys, named=named)
        users = with_buckets(users, _pairs(options.bucket, "--bucket"))
        users = with_events(users, factories, options.events)
        nkeys = dict(_pairs(options.nkey, "--nkey"))
        _check_nkeys(nkeys, users)
    if options.format == "claims":
        print(to_json([claims_of(user) for user in users]))
    elif options.format == "nsc":
        print("\n".join(_nsc(user) for user in users))
    else:
        print(server_config(users, nkeys, passwords=options.passwords))
    return 0


def users_of(
    factories: list[Any],
    calls: list[tuple[str, str]],
    keys: list[str],
    *,
    named: Sequence[Served] = (),
) -> list[Rights]:
    """Return the users that services and their callers need.

    Args:
        factories: Classes of services, or what makes them.
        calls: Names of a caller and of a service that it calls.
        keys: Key-value buckets with trusted keys.
        named: Services without a class.

    Raises:
        UsageError: A class cannot be known, or a name is of none.
    """
    from kitmsg.service import rights

    needs = {_class_of(f).name: _needed(f) for f in factories}
    there = {cls.name: rights.served(cls) for cls in map(_class_of, factories)}
    for each in named:
        if there.setdefault(each.name, each) is not each:
            raise UsageError(f"two services are named {each.name!r}: give one of them")
    known = dict(there)
    services = []
    for name, service in there.items():
        wanted = [rights.served(cls) for cls in needs.get(name, ())]
        known |= {each.name: each for each in wanted if each.name not in there}
        wanted += [_known(known, to) for by, to in calls if by == name]
        services.append(rights.service_rights(service, wanted, keys=keys))
    for by, _ in calls:
        _known(there, by)
    if len(services) > 1:
        services.append(rights.together(_WORKER, services))
    every = list(there.values())
    others = [
        rights.gateway_rights("gateway", every),
        rights.client_rights("client", every),
        rights.cli_rights("cli", every),
    ]
    if any(each.publishes for each in every):
        others.append(rights.relay_rights("outbox", every))
    _check_names([*services, *others])
    return [*services, *others]


def named_services(
    services: Iterable[str], upstreams: Iterable[str], queues: list[str]
) -> list[Served]:
    """Return the services that are given by name.

    Args:
        services: Each as ``NAME=SUBJECT,...``.
        upstreams: Each as ``NAME``, or ``NAME=ENDPOINT,...``.
        queues: Queue groups of the first, as ``NAME=GROUP``.

    Raises:
        UsageError: One cannot be read.
    """
    from kitmsg.service.rights import Served

    groups = dict(_pairs(queues, "--queue"))
    found = []
    for text in services:
        name, _, subjects = text.partition("=")
        _check(name, subjects.split(","), f"--service {text}: write NAME=SUBJECT,...")
        queue = groups.pop(name, "q")
        found.append(Served(name=name, subjects=_split(subjects), queue=queue))
    if groups:
        raise UsageError(f"--queue: no --service {next(iter(groups))!r} is given")
    for text in upstreams:
        name, chosen, endpoints = text.partition("=")
        listed = _split(endpoints if chosen else "*")
        below = tuple(f"{name}.{each}" for each in listed)
        _check(name, below, f"--upstream {text}: write NAME or NAME=ENDPOINT,...")
        found.append(Served(name=name, subjects=below))
    return found


def with_buckets(users: list[Rights], keeps: list[tuple[str, str]]) -> list[Rights]:
    """Return the users, some of them with key-value buckets.

    Args:
        users: They; a worker's has the buckets of the services that it serves.
        keeps: Names of a user and of a bucket.

    Raises:
        UsageError: There is no such user.
    """
    from kitmsg.service.rights import bucket_rights

    names = {user.name for user in users}
    for name, _ in keeps:
        if name not in names:
            listed = ", ".join(sorted(names))
            raise UsageError(f"--bucket: no user {name!r}; there are {listed}")
    served = [bucket for name, bucket in keeps if name not in _OTHERS]
    return [
        bucket_rights(user, [bucket for name, bucket in keeps if name == user.name])
        if user.name != _WORKER
        else bucket_rights(user, served)
        for user in users
    ]


def with_events(
    users: list[Rights], factories: Sequence[Any], events: Iterable[str]
) -> list[Rights]:
    """Return the users, of which gateways' has the rights for open events.

    Args:
        users: They.
        factories: Classes of services, or what makes them: those of the events.
        events: Names of the events, as ``NAME``, ``NAME:publish`` or ``NAME:read``.

    Raises:
        UsageError: No service has such an event.
    """
    from kitmsg.events.event import facts_of
    from kitmsg.service.rights import OpenEvent, event_rights
    from kitmsg.service.work import events_by

    classes = [event for f in factories for event, _ in events_by(_class_of(f))]
    known = {facts.name: facts for facts in map(facts_of, classes)}
    found = []
    for text in events:
        name, mark, only = text.partition(":")
        if name not in known or (mark and only not in ("publish", "read")):
            listed = ", ".join(sorted(known)) or "none"
            raise UsageError(
                f"--events {text}: write NAME, NAME:publish or NAME:read of an event that a"
                f" service publishes or subscribes to; there is {listed}"
            )
        facts = known[name]
        found.append(
            OpenEvent(
                pattern=facts.pattern,
                stream=facts.stream.name,
                is_published=only in ("", "publish"),
                is_read=only in ("", "read"),
            )
        )
    gateway = _OTHERS[0]
    return [event_rights(u, found) if u.name == gateway else u for u in users]


def server_config(
    users: list[Rights],
    nkeys: Mapping[str, str] | None = None,
    *,
    passwords: str = "",
) -> str:
    """Return the users as lines of a server's configuration.

    Args:
        users: They.
        nkeys: Public keys, by user; the others have passwords.
        passwords: File that the server includes for these, relative to the file that the
            lines are in; "" for its environment.
    """
    lines = [
        "# NATS users with the least rights, made by `kitmsg acl`. Passwords come from the",
        *(
            ["# file that is included here.", f"include {to_json(passwords)}"]
            if passwords
            else ["# environment of nats-server."]
        ),
        "authorization {",
        "  users = [",
    ]
    for user in users:
        who = f"user: {user.name}, password: ${_variable(user.name)}"
        if nkeys and user.name in nkeys:
            who = f"nkey: {nkeys[user.name]}"
        lines += [
            f"    # NATS_INBOX_PREFIX={user.inbox}",
            f"    {{ {who}, permissions: {{",
            f"        publish: {{ allow: [{_listed(user.publish)}] }}",
            f"        subscribe: {{ allow: [{_listed(user.subscribe)}] }}",
            f'        allow_responses: {{ max: -1, expires: "{user.seconds:.0f}s" }}',
            "    } }",
        ]
    return "\n".join([*lines, "  ]", "}"])


def claims_of(user: Rights) -> dict[str, Any]:
    """Return the claims of a user's JWT (NATS JWT v2), but for its key and its issuer."""
    return {
        "name": user.name,
        "nats": {
            "pub": {"allow": list(user.publish)},
            "sub": {"allow": list(user.subscribe)},
            "resp": {"max": -1, "ttl": int(user.seconds * 1e9)},
            "subs": -1,
            "data": -1,
            "payload": -1,
            "type": "user",
            "version": 2,
        },
    }


def _nsc(user: Rights) -> str:
    return (
        f"nsc add user --name {user.name}"
        f" --allow-pub '{','.join(user.publish)}'"
        f" --allow-sub '{','.join(user.subscribe)}'"
        f" --allow-pub-response=-1 --response-ttl {user.seconds:.0f}s"
    )


def _listed(subjects: tuple[str, ...]) -> str:
    return ", ".join(f'"{subject}"' for subject in subjects)


def _variable(name: str) -> str:
    return f"KITMSG_PASSWORD_{name.upper().replace('-', '_')}"


def _class_of(factory: Any) -> type[Service]:
    from kitmsg.service.inject import made_by

    cls = made_by(factory)
    if cls is None:
        name = getattr(factory, "__qualname__", repr(factory))
        raise UsageError(
            f"{name} does not say which service it makes: annotate its result, or name"
            " the class"
        )
    return cls


def _needed(factory: Any) -> list[type[Service]]:
    from kitmsg.service.inject import needed_by

    cls = _class_of(factory)
    return list(
        {each.name: each for each in (*needed_by(factory), *needed_by(cls))}.values()
    )


def _known(services: Mapping[str, Served], name: str) -> Served:
    if name not in services:
        raise UsageError(
            f"--calls: no service {name!r} among the targets; there are"
            f" {', '.join(services)}"
        )
    return services[name]


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _check(name: str, subjects: Iterable[str], why: str) -> None:
    """Refuse what is no name or no subject, or would be somebody else's to serve."""
    from kitmsg.errors import InvalidArgument
    from kitmsg.message import check_subject

    try:
        for subject in subjects:
            check_subject(subject, wildcards=True)
            if not _OWN.fullmatch(subject):
                raise UsageError(f"{why}; {subject!r} is not for services to serve")
    except InvalidArgument as exc:
        raise UsageError(f"{why}; {exc}") from exc
    if not _NAME.fullmatch(name):
        raise UsageError(why)


def _pairs(given: list[str], flag: str) -> list[tuple[str, str]]:
    found = [tuple(text.split("=", 1)) for text in given]
    for text, pair in zip(given, found, strict=True):
        if len(pair) != 2 or not all(_NAME.fullmatch(part) for part in pair):  # noqa: PLR2004
            raise UsageError(f"{flag} {text}: write NAME=NAME")
    return [(pair[0], pair[1]) for pair in found]


def _check_nkeys(nkeys: Mapping[str, str], users: list[Rights]) -> None:
    names = {user.name for user in users}
    for name, key in nkeys.items():
        if name not in names:
            raise UsageError(f"--nkey: no user {name!r}; there are {', '.join(names)}")
        if not _NKEY.fullmatch(key):
            raise UsageError(f"--nkey {name}: {key[:8]}... is no public key of a user")


def _check_names(users: list[Rights]) -> None:
    names = [user.name for user in users]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UsageError(
            f"a service is called {twice.pop()!r}, as one of the other users is; serve it"
            " with rights that you write yourself, or rename it"
        )
