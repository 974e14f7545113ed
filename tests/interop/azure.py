"""A real Azure storage server (Azurite) on this machine. The tests speak to it without any library.

WEIGHTBRIDGE_AZURITE names its program (see `run`). The account and its key are those that every
Azurite has, and that Microsoft publishes.
"""

import base64
import datetime
import hashlib
import hmac
import os
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest

import judge
from storage import Storage, free_port

AZURITE = os.environ.get("WEIGHTBRIDGE_AZURITE", "")
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

needs_azurite = pytest.mark.skipif(
    not os.access(AZURITE, os.X_OK), reason="no Azure server: WEIGHTBRIDGE_AZURITE names no program")


class Container(Storage):
    def ask(self, method, path="", body=None, **query):
        now = datetime.datetime.now(datetime.timezone.utc)
        headers = {"x-ms-date": now.strftime("%a, %d %b %Y %H:%M:%S GMT"), "x-ms-version": "2021-08-06"}
        kind = ""
        if body is not None:
            kind = headers["Content-Type"] = "application/octet-stream"
            headers["x-ms-blob-type"] = "BlockBlob"
        path = f"/{ACCOUNT}/models{path and '/' + path}"
        signed = "".join(f"{key}:{value}\n" for key, value in sorted(headers.items()) if key.startswith("x-ms-"))
        signed += f"/{ACCOUNT}{path}" + "".join(f"\n{key}:{value}" for key, value in sorted(query.items()))
        text = "\n".join([method, "", "", str(len(body)) if body else "", "", kind, *[""] * 6, signed])
        signature = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
        headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(signature).decode()}"
        url = f"http://127.0.0.1:{self.port}{path}" + (query and "?" + urllib.parse.urlencode(query) or "")
        request = urllib.request.Request(url, data=body, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def keys(self):
        listing = self.ask("GET", restype="container", comp="list").decode()
        return re.findall(r"<Name>(.*?)</Name>", listing)


@pytest.fixture(scope="module")
def azurite(tmp_path_factory):
    port = free_port()
    process = subprocess.Popen(
        [AZURITE, "--silent", "--skipApiVersionCheck", "--disableTelemetry", "--inMemoryPersistence",
         "--blobHost", "127.0.0.1", "--blobPort", str(port)],
        cwd=tmp_path_factory.mktemp("azurite"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read()
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                assert process.poll() is None, "Azurite did not start"
                time.sleep(0.1)
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def container(azurite):
    container = Container(azurite)
    try:
        container.ask("PUT", restype="container")
    except urllib.error.HTTPError as error:
        assert error.code == 409
        for key in container.keys():
            container.ask("DELETE", key)
    return container


def environment(port):
    return {**{k: v for k, v in os.environ.items() if not k.startswith("AZURE_")},
            "AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": f"http://127.0.0.1:{port}"}


def run(port, *arguments):
    """The program, with the server as its storage; it repeats no key and does not panic."""
    done = subprocess.run([judge.PROGRAM, *map(str, arguments)], env=environment(port),
                          capture_output=True, text=True, timeout=600)
    assert KEY not in done.stdout + done.stderr and "panicked" not in done.stderr
    return done
