#!/usr/bin/env python3
"""A collector that reads spans with the types that OpenTelemetry publishes, and a server that sends it some.

    tests/cross/traces.py [--vocabd BINARY]

Needs the packages of traces.txt (tests/cross/venv.sh DIR traces.txt).
"""

import argparse
import http.server
import pathlib
import sys
import threading
import time

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from server import Refused, Server, binary

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(http.server.BaseHTTPRequestHandler):
    requests = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        assert self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
        request = ExportTraceServiceRequest.FromString(body)
        # What the types do not know would be kept by them, and written again.
        request.DiscardUnknownFields()
        assert request.SerializeToString(deterministic=True) == body, "a field that the protocol has not"
        self.requests.append(request)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def attributes(pairs):
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in pairs}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--vocabd")
    program = binary(arguments.parse_args().vocabd)
    collector = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    before = time.time_ns()
    with Server(program, otlp_endpoint=f"http://127.0.0.1:{collector.server_port}/") as server:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "content-type": "application/json"}
        server.connection.request("POST", "/encode", '{"text": "kanarienvogel"}', headers)
        answer = server.connection.getresponse()
        answer.read()
        told = answer.headers["traceresponse"].split("-")
        for _ in range(1500):
            server.ask("POST", "/count", {"text": "kanarienvogel"})
        try:
            server.ask("POST", "/encode", {"text": 1})
        except Refused as refused:
            assert refused.status == 422
    spans = [
        (attributes(part.resource.attributes), span)
        for request in Collector.requests
        for part in request.resource_spans
        for scope in part.scope_spans
        for span in scope.spans
    ]
    print(f"{len(Collector.requests)} requests with {len(spans)} spans")
    assert len(spans) == 1502
    assert len({(bytes(span.trace_id), bytes(span.span_id)) for _, span in spans}) == len(spans)
    for resource, span in spans:
        assert resource["service.name"] == "vocabd" and resource["service.version"] and resource["service.instance.id"]
        assert span.kind == Span.SPAN_KIND_SERVER and len(span.trace_id) == 16 and len(span.span_id) == 8
        assert before < span.start_time_unix_nano <= span.end_time_unix_nano < time.time_ns()
        assert span.status.code == Status.STATUS_CODE_UNSET
    first, last = spans[0][1], spans[-1][1]
    assert (first.trace_id.hex(), first.parent_span_id.hex(), first.span_id.hex()) == (TRACE, PARENT, told[2])
    got = attributes(first.attributes)
    assert (first.name, got["http.route"], got["http.response.status_code"]) == ("POST /encode", "/encode", 200), got
    assert got["vocabd.vocab"] == "default@1" and got["vocabd.request_id"] == answer.headers["x-request-id"], got
    assert attributes(last.attributes)["error.type"] == "invalid_field", last
    assert not last.parent_span_id and b"kanarienvogel" not in b"".join(map(lambda r: r.SerializeToString(), Collector.requests))
    print("ok")


main()
