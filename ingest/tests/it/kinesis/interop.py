# Packs and unpacks aggregates with AWS's own package: one JSON document in, one out; bytes in hexadecimal.
import base64
import json
import sys

from aws_kinesis_agg.aggregator import RecordAggregator
from aws_kinesis_agg.deaggregator import iter_deaggregate_records

asked = json.load(sys.stdin)

unpacked = []
for record in asked["unpack"]:
    data = bytes.fromhex(record["data"])
    whole = {"Data": data, "PartitionKey": record["key"], "SequenceNumber": "1", "ApproximateArrivalTimestamp": 0}
    parts = []
    for part in iter_deaggregate_records([whole], data_format="Boto3"):
        part = part["kinesis"]
        is_part = part.get("aggregated", False)
        # It encodes what it unpacked, and leaves what was plain as it is.
        data = base64.b64decode(part["data"]) if is_part else part["data"]
        parts.append({"key": part["partitionKey"], "hash": part.get("explicitHashKey"), "data": data.hex()})
    unpacked.append(parts)

packed = []
for records in asked["pack"]:
    aggregator = RecordAggregator()
    for record in records:
        full = aggregator.add_user_record(record["key"], bytes.fromhex(record["data"]), record["hash"])
        assert full is None
    key, hash_key, data = aggregator.clear_and_get().get_contents()
    packed.append({"key": key, "hash": hash_key, "data": data.hex()})

json.dump({"unpacked": unpacked, "packed": packed}, sys.stdout)
