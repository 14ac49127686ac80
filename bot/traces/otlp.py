"""The protocol of collectors: OTLP over HTTP, in protobuf (OTLP specification 1.x, "OTLP/HTTP").

The messages come with the extra `opentelemetry`, so this is imported only where traces are sent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from bot.traces.model import FinishedSpan, Value

CONTENT_TYPE: Final = "application/x-protobuf"
#: The conventions that names of attributes follow.
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.41.1"
_NANO: Final = 1_000_000_000
_LARGEST: Final = 2**63 - 1
_KINDS: Final = {
    "internal": Span.SPAN_KIND_INTERNAL,
    "client": Span.SPAN_KIND_CLIENT,
    "consumer": Span.SPAN_KIND_CONSUMER,
    "producer": Span.SPAN_KIND_PRODUCER,
}


def encode(spans: Iterable[FinishedSpan], resource: Mapping[str, Value], *, version: str) -> bytes:
    """Return a request with these spans."""
    encoded = [
        Span(
            trace_id=each.trace,
            span_id=each.id,
            parent_span_id=each.parent,
            name=each.name,
            kind=_KINDS[each.kind],
            start_time_unix_nano=_nano(each.started_at),
            end_time_unix_nano=_nano(each.ended_at),
            attributes=_attributes(each.attributes),
            status=Status(code=Status.STATUS_CODE_ERROR) if each.failed else None,
        )
        for each in spans
    ]
    scope = InstrumentationScope(name="muster", version=version)
    request = ExportTraceServiceRequest(
        resource_spans=[
            ResourceSpans(
                resource=Resource(attributes=_attributes(resource)),
                scope_spans=[ScopeSpans(scope=scope, spans=encoded, schema_url=SCHEMA_URL)],
                schema_url=SCHEMA_URL,
            )
        ]
    )
    return bytes(request.SerializeToString())


def rejected(answer: bytes) -> int:
    """Return how many spans a collector did not take, by its answer; 0 if the answer cannot be read."""
    try:
        return int(ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans)
    except DecodeError:
        return 0


def _nano(seconds: float) -> int:
    return min(max(0, round(seconds * _NANO)), _LARGEST) if math.isfinite(seconds) else 0


def _attributes(values: Mapping[str, Value]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_any(value)) for key, value in values.items()]


def _any(value: Value) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=min(max(-_LARGEST, value), _LARGEST))
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(string_value=value)
