"""Random types and values: 100 services, each with some values, over Thrift and back.

Every value goes as a client would send it, in both protocols, and must arrive equal; no
type is refused.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from kitmsg.codec import JSON, MSGPACK
from kitmsg.discovery.catalog import CatalogEndpoint
from kitmsg.idl.service import Description, shape_service
from kitmsg_gateways.thrift.bind import arguments
from kitmsg_gateways.thrift.decode import Decoders
from kitmsg_gateways.thrift.encode import Encoders
from kitmsg_gateways.thrift.generate import generate
from kitmsg_gateways.thrift.load import parse
from kitmsg_gateways.thrift.methods import serve_method
from kitmsg_gateways.thrift.protocol.base import Cursor, Limits, skip
from kitmsg_gateways.thrift.protocol.binary import BinaryProtocol
from kitmsg_gateways.thrift.protocol.compact import CompactProtocol
from tests.anytypes import Case, bytes_of, cases

PROTOCOLS = [BinaryProtocol(Limits()), CompactProtocol(Limits())]


class Path:
    """The way of values between a client and a method."""

    def __init__(self, case: Case) -> None:
        self.case = case
        schema = case.signature.describe()
        self.types = shape_service("any", [Description("call", schema)])
        assert self.types.refused == {}
        (service,) = parse(generate([self.types]), "any")
        self.method = service.methods["call"]
        endpoint = CatalogEndpoint(
            service="any",
            version="1.0.0",
            name="call",
            subject="any.call",
            description="",
            metadata={},
            hash="x",
            schema=schema,
        )
        self.served = serve_method(self.method, endpoint, self.types)
        self.codec = self.served.codec
        self.as_json = self.codec is JSON

    def over(self, type_: Any, value: Any, protocol: Any) -> Any:
        """Return a value after its way over the wire."""
        out = bytearray()
        protocol.writer(type_)(out, value)
        found, end = protocol.reader(type_)(bytes(out), 0, 64)
        assert end == len(out)
        assert skip(protocol.scan_struct(Cursor(out, 0, Limits()), 64)) == end
        return found

    def request(self, value: Any, protocol: Any) -> Any:
        """Return the request that the method gets when a client sends `value`."""
        (endpoint,) = self.types.methods
        signature = self.case.signature
        data = signature.request_encoder(self.codec)(signature.bind(value))
        plain = bytes_of(self.codec)(data)
        encoders = Encoders(self.types, as_json=self.as_json)
        request = self.types.struct(endpoint.request)
        args = arguments(self.method.args, request, encoders, "any.call")(plain)
        came = self.over(self.method.args, args, protocol)
        convert = self.served.binding.request
        pack = JSON if self.as_json else MSGPACK
        arrived = pack.encoder()(came if convert is None else convert(came))
        return signature.request_decoder(self.codec)(arrived)

    def response(self, value: Any, protocol: Any) -> Any:
        """Return the result that a client gets when the method returns `value`."""
        (endpoint,) = self.types.methods
        signature = self.case.signature
        data = signature.response_encoder(self.codec)(value)
        fields = self.served.binding.result(bytes_of(self.codec)(data))
        came = self.over(self.method.result, fields, protocol)
        assert self.method.success is not None
        decoders = Decoders(self.types, as_json=True)
        convert = decoders.value(self.method.success, endpoint.response, "any.call")
        found = came["success"] if convert is None else convert(came["success"])
        return signature.response_decoder(JSON)(msgspec.json.encode(found))


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda each: each.name)
@settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(case=cases())
def test_what_goes_in_arrives_and_comes_back(protocol: Any, case: Case) -> None:
    """Requests and responses, equal."""
    path = Path(case)
    for value in case.values:
        assert path.request(value, protocol) == case.signature.bind(value)
        assert path.response(value, protocol) == value
