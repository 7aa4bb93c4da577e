"""An S3 server, as a process of its own because moto patches botocore in its process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3

_SERVE = """
import threading
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer
one_at_a_time, put = threading.Lock(), S3Response.put_object
def put_object(response):
    with one_at_a_time:  # moto looks whether there is one and then writes; S3 does both at once
        return put(response)
S3Response.put_object = put_object
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
threading.Event().wait()
"""


@dataclass(frozen=True)
class ObjectStore:
    """One bucket, `photos`, in which nobody may read what lies below denied/."""

    options: dict[str, Any]
    client: Any

    def put(self, name: str, content: bytes) -> str:
        """Stores an object; returns its URL."""
        self.client.put_object(Bucket="photos", Key=name, Body=content, ACL="public-read")
        return f"s3://photos/{name}"


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """A running server; gone afterwards."""
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert server.stdout is not None
        endpoint = f"http://127.0.0.1:{int(server.stdout.readline())}"
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id="someone",
            aws_secret_access_key="s3cr3t-token",
            region_name="us-east-1",
        )
        client.create_bucket(Bucket="photos")
        denied = {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": "arn:aws:s3:::photos/denied/*",
        }
        client.put_bucket_policy(
            Bucket="photos", Policy=json.dumps({"Version": "2012-10-17", "Statement": [denied]})
        )
        options = {"endpoint_url": endpoint, "key": "someone", "secret": "s3cr3t-token"}
        yield ObjectStore({**options, "client_kwargs": {"region_name": "us-east-1"}}, client)
    finally:
        server.kill()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()
