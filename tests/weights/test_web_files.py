"""Files at an address: fetched once, whole or not at all, again where they are damaged."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from voxgraft.errors import FetchError, SourceError
from voxgraft.files import file_sha256
from voxgraft.weights import SOURCES, Source, fetch_source, read_source
from voxgraft.weights.source import WebFile


@dataclass
class Site:
    address: str
    files: dict[str, bytes]
    asked: list[str]
    short: int = 0
    """Bytes that are promised and do not come."""

    def source(self, name: str, **facts: str | None) -> Source:
        entry = SOURCES.get("x3d_m.k400")
        return replace(entry, file=WebFile(url=f"{self.address}/zoo/{name}"), **facts)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Serve files on this machine alone."""
    monkeypatch.setenv("VOXGRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            content = served.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content) + served.short))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *parts: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Site(f"http://127.0.0.1:{server.server_port}", {}, [])
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


def _checkpoint(path: Path) -> bytes:
    torch.save({"model_state": {"a.weight": torch.arange(3.0)}}, path)
    return path.read_bytes()


def test_a_file_is_fetched_once(site: Site, tmp_path: Path) -> None:
    site.files["/zoo/a.pyth"] = _checkpoint(tmp_path / "a.pyth")
    source = site.source("a.pyth")
    first, again = fetch_source(source), fetch_source(source)
    assert first == again
    assert first.read_bytes() == site.files["/zoo/a.pyth"]
    assert site.asked == ["/zoo/a.pyth"]
    assert torch.equal(read_source(source).state["a.weight"], torch.arange(3.0))


@pytest.mark.parametrize("whole", [True, False])
def test_a_damaged_copy_is_fetched_again(site: Site, tmp_path: Path, whole: bool) -> None:
    site.files["/zoo/a.pyth"] = _checkpoint(tmp_path / "a.pyth")
    digest = file_sha256(tmp_path / "a.pyth")
    facts = {"sha256": digest} if whole else {"sha256_begins": digest[:8]}
    source = site.source("a.pyth", **facts)
    path = fetch_source(source)
    path.write_bytes(b"damaged")
    origin = read_source(source).origin
    assert len(site.asked) == 2
    assert origin == (
        "the file has its published SHA-256"
        if whole
        else f"the file's SHA-256 begins with the published {digest[:8]}"
    )


def test_another_file_than_the_published_is_refused(site: Site, tmp_path: Path) -> None:
    site.files["/zoo/a.pyth"] = _checkpoint(tmp_path / "a.pyth")
    with pytest.raises(SourceError, match=r"expected one that begins with 00000000"):
        read_source(site.source("a.pyth", sha256_begins="00000000"))


def test_a_broken_off_answer_leaves_nothing(site: Site, tmp_path: Path) -> None:
    content = _checkpoint(tmp_path / "a.pyth")
    site.files["/zoo/a.pyth"], site.short = content, 10
    with pytest.raises(FetchError) as caught:
        fetch_source(site.source("a.pyth"))
    assert f"{len(content)} of {len(content) + 10} bytes came before it broke off" in str(
        caught.value
    )
    assert "give `x3d_m.k400@/path/to/a.pyth`" in str(caught.value)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    site.short = 0
    assert fetch_source(site.source("a.pyth")).read_bytes() == content


def test_what_is_not_there_is_named(site: Site) -> None:
    with pytest.raises(FetchError, match=r"could not be downloaded: HTTP Error 404.*Fetch http"):
        fetch_source(site.source("none.pyth"))
    with pytest.raises(FetchError, match="could not be downloaded"):
        fetch_source(replace(site.source("a.pyth"), file=WebFile(url="http://127.0.0.1:1/a b")))


def test_offline_nothing_is_asked_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FetchError, match=r"not in the cache.*HF_HUB_OFFLINE forbids to fetch it"):
        fetch_source(site.source("a.pyth"))
    assert site.asked == []
