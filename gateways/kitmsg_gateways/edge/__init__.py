"""Common parts of all gateways, whatever protocol they speak: one file, one policy.

    lifecycle.py  `Gateway`: start, stop and drain; a protocol's server inherits it
    options.py    options that doors have alike, and the checks of options
    catalogue.py  the services on the bus as a table, and what has just left
    shown.py      which of these are served
    calls.py      calls over the bus, with the gateway's middlewares around
    routes.py     rules that say which instances of a service get them
    given.py      headers of a client that these go by
    admission.py  limits on connections and calls, and the answer of a full gateway
    budget.py     the bytes that are held for clients, and their bound
    listener.py   listening sockets, own ones or handed over
    parting.py    the end of a connection whose client may still be sending
    tls.py        TLS and mutual TLS, with certificates that change
    files.py      files that are read again when they change
    auth.py       who calls: token, password, certificate
    limits.py     how often one client may call
    hosts.py      names under which it may be called
    proxies.py    who calls, behind proxies that we trust
    health.py     whether calls should be sent here; metrics and health on a port
    metrics.py    counts and times of calls, connections
    accesslog.py  one line for each call
    extra.py      libraries of a protocol, loaded when they are first needed
    package.py    the functions of a gateway's package: serve, run, check, listen
    visit.py      one call: who makes it, and what of that its service gets
    turns.py      calls while they run: admitted, counted, logged
    spans.py      server spans of a door's requests
    named.py      the same for calls that are known by name alone
    events/       events: published by clients, and a log that many follow
    answers.py    replies as plain values, errors as facts

For doors whose protocol's library is an ASGI app:

    web.py        `WebGateway`, over HTTP or standard input
    weboptions.py their options
    asgi.py       HTTP connections, and who gets through
    stdin.py      standard input, line by line

For doors whose clients know no services, streams or types:

    names.py      one flat list of names
    plain.py      an object in, an object out; all items of a stream at once
    process.py    one gateway in this process, until a signal

A protocol's folder knows its protocol and nothing of these; a new one needs `Gateway`, a
`GatewayOptions` of the groups in `options.py`, and what makes a table of a `Catalog`.
"""
