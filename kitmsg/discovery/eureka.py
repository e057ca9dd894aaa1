"""Eureka: UP instances of an app, asked for now and then; entries with heartbeats.

    eureka://10.0.0.2:8761/eureka/PAYMENTS

The last part of the path is the app, what is before it the server's base.  Options:
``interval``, seconds between two looks, ``timeout``, user and password before the host, TLS.
An entry has a ``ttl`` in seconds.  A server keeps its answers for up to 30 s, as it comes;
``eureka.server.response-cache-update-interval-ms`` says another time.

The app is read whole, not by deltas: those are of all apps that changed in the last three
minutes, need the whole registry here to be added to, and come out of the same cache, so
they are neither less nor sooner.  With four apps of 250 instances that had just come, the
deltas were 710 kB, this app 177 kB, which takes 1.2 ms to decode.

Source: "Eureka REST operations" of Netflix's wiki; the JSON of Spring Cloud's server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import msgspec

from kitmsg.bus import Bus
from kitmsg.discovery.address import TLS_OPTIONS, Address, join_host_port
from kitmsg.discovery.instance import Instance
from kitmsg.discovery.rest import Rest, basic, decode

__all__ = ["EurekaEntry", "EurekaSource", "entry", "source"]

_PORT: Final = 8761
_COMMON: Final = ("timeout", *TLS_OPTIONS)
_NOT_FOUND: Final = 404
_JSON: Final = {"Accept": "application/json", "Content-Type": "application/json"}
_FACTS: Final = ("weight", "zone", "version", "tags")
_OWN_PLACE: Final = {
    "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo",
    "name": "MyOwn",
}


class _Port(msgspec.Struct):
    number: int | str = msgspec.field(name="$")
    enabled: str | bool = msgspec.field(name="@enabled", default="true")

    @property
    def value(self) -> int:
        """The port; 0 if it is not in use."""
        return int(self.number) if str(self.enabled).lower() == "true" else 0


class _Place(msgspec.Struct):
    metadata: dict[str, str] = {}


class _Found(msgspec.Struct, rename="camel"):
    status: str
    ip_addr: str
    port: _Port = msgspec.field(default_factory=lambda: _Port(number=0))
    secure_port: _Port = msgspec.field(default_factory=lambda: _Port(number=0))
    metadata: dict[str, str] = {}
    data_center_info: _Place = msgspec.field(default_factory=_Place)


class _App(msgspec.Struct):
    instance: list[_Found] | _Found = []


class _Answer(msgspec.Struct):
    application: _App


class EurekaSource:
    """UP instances of an app in Eureka.

    Args:
        address: With the scheme ``eureka``.

    Raises:
        ValueError: The address lacks the app, or has something Eureka does not.
    """

    def __init__(self, address: Address) -> None:
        address.expect("interval", *_COMMON)
        self.name = str(address)
        self._address = address
        self._path = _path(address)
        self._interval = address.number("interval", 5.0, least=0.05)
        _rest(address)  # says now what is wrong

    async def sets(self) -> AsyncGenerator[Sequence[Instance], None]:
        """Yield the instances after every look."""
        async with _rest(self._address) as rest:
            while True:
                answer = await rest.call("GET", self._path)
                if answer.status == _NOT_FOUND:
                    yield []  # an app without instances is none
                else:
                    rest.check(answer)
                    app = decode(answer.data, _Answer).application.instance
                    yield _instances([app] if isinstance(app, _Found) else app)
                await asyncio.sleep(self._interval)


class EurekaEntry:
    """An instance of an app.

    Args:
        address: With the scheme ``eureka``.
        instance: The instance; weight, zone, version and tags become metadata.

    Raises:
        ValueError: The address lacks the app, or has something Eureka does not.
    """

    def __init__(self, address: Address, instance: Instance) -> None:
        address.expect("ttl", *_COMMON)
        ttl = max(1, round(address.number("ttl", 30.0, least=1.0)))
        self.name = f"{address} ({instance})"
        self.every = ttl / 3
        self._path = _path(address)
        self._rest = _rest(address)
        app = address.path.rpartition("/")[2]
        self._own = f"{self._path}/{quote(instance.address, safe='')}"
        host, _, port = instance.address.rpartition(":")
        self._body = {
            "instance": {
                "instanceId": instance.address,
                "app": app.upper(),
                "vipAddress": app.lower(),
                "hostName": host.strip("[]"),
                "ipAddr": host.strip("[]"),
                "status": "UP",
                "port": {"$": int(port), "@enabled": "true"},
                "securePort": {"$": 443, "@enabled": "false"},
                "dataCenterInfo": _OWN_PLACE,
                "leaseInfo": {
                    "renewalIntervalInSecs": max(1, ttl // 3),
                    "durationInSecs": ttl,
                },
                "metadata": _metadata(instance),
            }
        }

    async def announce(self) -> None:
        """Register the instance."""
        self._rest.check(await self._rest.call("POST", self._path, body=self._body))

    async def renew(self) -> bool:
        """Send a heartbeat; the server says 404 when it has forgotten us."""
        answer = await self._rest.call("PUT", self._own, params={"status": "UP"})
        if answer.status == _NOT_FOUND:
            return False
        self._rest.check(answer)
        return True

    async def withdraw(self) -> None:
        """Remove the instance."""
        answer = await self._rest.call("DELETE", self._own)
        if answer.status != _NOT_FOUND:
            self._rest.check(answer)

    async def close(self) -> None:
        """Close the connections."""
        await self._rest.close()


def source(address: Address, bus: Bus | None, /) -> EurekaSource:
    """Return the app that an address means; see `InstancerKind`."""
    return EurekaSource(address)


def entry(address: Address, instance: Instance, /) -> EurekaEntry:
    """Return the entry that an address means; see `RegistrarKind`."""
    return EurekaEntry(address, instance)


def _path(address: Address) -> str:
    base, _, app = address.path.strip("/").rpartition("/")
    if not app:
        raise address.wrong("name the app: eureka://host:8761/eureka/PAYMENTS")
    # Eureka's own clients write apps in capitals, and its cache knows no other form.
    path = f"/apps/{quote(app.upper())}"
    return f"/{quote(base)}{path}" if base else path


def _rest(address: Address) -> Rest:
    return Rest(
        address,
        _PORT,
        headers={**_JSON, **basic(address.user, address.password)},
        timeout=address.number("timeout", 5.0, least=0.1),
    )


def _instances(found: Sequence[_Found]) -> list[Instance]:
    return [_instance(each) for each in found if each.status == "UP" and _port(each)]


def _port(found: _Found) -> int:
    return found.port.value or found.secure_port.value


def _instance(found: _Found) -> Instance:
    facts = found.metadata
    place = found.data_center_info.metadata.get("availability-zone", "")
    return Instance(
        address=join_host_port(found.ip_addr, _port(found)),
        weight=_weight(facts),
        zone=facts.get("zone", "") or place,
        version=facts.get("version", ""),
        tags=tuple(sorted(each for each in facts.get("tags", "").split(",") if each)),
        metadata={k: v for k, v in facts.items() if k not in _FACTS and k[:1] != "@"},
    )


def _weight(facts: Mapping[str, str]) -> float:
    try:
        weight = float(facts.get("weight", ""))
    except ValueError:  # somebody else's word for something else
        return 1.0
    return weight if weight >= 0 else 1.0


def _metadata(instance: Instance) -> Mapping[str, str]:
    """Return the metadata of an instance; Eureka keeps nothing but texts."""
    facts: dict[str, Any] = {
        "weight": f"{instance.weight:g}" if instance.weight != 1 else "",
        "zone": instance.zone,
        "version": instance.version,
        "tags": ",".join(instance.tags),
    }
    return {**instance.metadata, **{k: v for k, v in facts.items() if v}}
