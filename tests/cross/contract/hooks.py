"""Bodies that schemathesis cannot write and read by itself: MessagePack, packed ids, a JSON object a line."""

import json

import msgpack
import schemathesis


@schemathesis.serializer("application/msgpack")
def packed_objects(ctx, value):
    return msgpack.packb(within_64_bits(value))


def within_64_bits(value):
    """Whole numbers that MessagePack does not have, as those that it has."""
    if isinstance(value, dict):
        return {key: within_64_bits(item) for key, item in value.items()}
    if isinstance(value, list):
        return [within_64_bits(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(value) if abs(value) < 2**1000 else 1e300
    return value


@schemathesis.deserializer("application/msgpack")
def objects(ctx, response):
    return msgpack.unpackb(response.content)


@schemathesis.serializer("application/x-ndjson")
def lines(ctx, value):
    return (json.dumps({"text": str(value)}) + "\n").encode()


@schemathesis.deserializer("application/x-ndjson", "application/octet-stream")
def text(ctx, response):
    return response.content.decode("latin1")


@schemathesis.hook
def filter_body(context, body):
    """No stream as a whole is against its schema: what is wrong in a line is told in the answer to that line, with 200. So that a
    value of another type is not sent as the text of a line, and taken."""
    return context.operation.path != "/encode/stream" or isinstance(body, str)
