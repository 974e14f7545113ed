"""A real S3 server (moto) on this machine, and the program beside it.

The server runs in an environment of its own: WEIGHTBRIDGE_MOTO names its python (see `run`). The
tests speak to it without any library, so that nothing between hides what is stored.
"""

import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

import judge
from bad_network import Proxy

MOTO = os.environ.get("WEIGHTBRIDGE_MOTO", "")
SECRET = "hunter2-of-the-test"

needs_server = pytest.mark.skipif(
    not os.access(MOTO, os.X_OK), reason="no S3 server: WEIGHTBRIDGE_MOTO names no python with moto")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Storage:
    """What is in a server, without our own client. How it is asked is its own."""

    def __init__(self, port):
        self.port = port

    def put(self, key, body):
        self.ask("PUT", key, body)

    def get(self, key):
        try:
            return self.ask("GET", key)
        except urllib.error.HTTPError as error:
            assert error.code == 404
            return None


class Bucket(Storage):
    # moto looks whether there is a signature, not what it says.
    HEADERS = {"Content-Type": "application/octet-stream", "x-amz-acl": "public-read",
               "Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, "
                                "SignedHeaders=host, Signature=x"}

    def ask(self, method, path, body=None):
        url = f"http://127.0.0.1:{self.port}/models/{path}"
        request = urllib.request.Request(url, data=body, method=method, headers=self.HEADERS)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def keys(self):
        return re.findall(r"<Key>(.*?)</Key>", self.ask("GET", "?list-type=2").decode())

    def uploads(self):
        return re.findall(r"<UploadId>(.*?)</UploadId>", self.ask("GET", "?uploads").decode())


@pytest.fixture(scope="module")
def server():
    port = free_port()
    process = subprocess.Popen(
        [MOTO, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=5).read()
                break
            except OSError:
                assert process.poll() is None, "moto did not start"
                time.sleep(0.1)
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def bucket(server):
    urllib.request.urlopen(urllib.request.Request(
        f"http://127.0.0.1:{server}/moto-api/reset", method="POST"), timeout=60).read()
    bucket = Bucket(server)
    bucket.ask("PUT", "")
    return bucket


def environment(port):
    return {**{k: v for k, v in os.environ.items() if not k.startswith("AWS_")},
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "AKIA" + SECRET, "AWS_SECRET_ACCESS_KEY": SECRET}


def run(port, *arguments, **options):
    """The program, with the server as its storage; it repeats no secret and does not panic."""
    done = subprocess.run([judge.PROGRAM, *map(str, arguments)], env=environment(port),
                          capture_output=True, text=True, timeout=600, **options)
    assert SECRET not in done.stdout + done.stderr
    assert "panicked" not in done.stderr
    return done


def ok(port, *arguments):
    done = run(port, *arguments)
    assert done.returncode == 0, done.stderr
    return done


def killed_in_an_upload(bucket, how, *arguments):
    """Runs the program until a part of an upload is under way, and stops it; its exit code."""
    with Proxy(bucket.port, pause=0.3) as proxy:
        process = subprocess.Popen([judge.PROGRAM, *map(str, arguments)], env=environment(proxy.port),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.time() + 60
        while not any("partNumber" in path for _, path, _ in proxy.log):
            assert time.time() < until and process.poll() is None
            time.sleep(0.005)
        process.send_signal(how)
        return process.wait(60)
