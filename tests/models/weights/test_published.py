"""timm's published weights: from a cache without the network, or with one short look-up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.conftest import Said
from transfer.artifacts import Model
from transfer.models.weights import published

timm = pytest.importorskip("timm")
hub = pytest.importorskip("huggingface_hub")

NAME = "test_vit.r160_in1k"
PIPELINE = f"""
data: {{card: drawings, limit: 8}}
stages:
  model: {{uses: pretext/pretrained, backbone: timm:{NAME}}}
"""
COMMIT = "0" * 40


def theirs() -> Any:
    torch.manual_seed(6)
    return timm.create_model("test_vit", num_classes=1000).eval()


def cached(cache: Path, form: str) -> Path:
    """Write weights where the hub's library keeps them."""
    folder = cache / f"models--timm--{NAME}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text(COMMIT)
    path = folder / "snapshots" / COMMIT / form
    path.parent.mkdir(parents=True)
    state = theirs().state_dict()
    save_file(state, path) if form.endswith("safetensors") else torch.save(state, path)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and one of torch."""
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "hub"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Record look-ups of names, which fail as without a network."""
    asked: list[Any] = []

    def resolve(host: Any, *_: Any, **__: Any) -> Any:
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


@pytest.mark.parametrize("form", ["model.safetensors", "pytorch_model.bin"])
def test_a_cached_file_is_taken_without_the_network(
    form: str,
    cache: Path,
    no_network: list[Any],
    pipeline: Callable[..., Path],
    invoke: Callable[..., Said],
    tmp_path: Path,
) -> None:
    path = cached(cache, form)
    invoke("run", pipeline(PIPELINE), "--threads", 1)
    network = Model(next(tmp_path.glob(".transfer/pretext/pretrained/*"))).network()
    images, expected = torch.rand(2, 3, 160, 160), theirs()
    expected.reset_classifier(0)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), expected(images))
    assert no_network == []
    path.write_bytes(b"damaged")
    output = invoke("run", pipeline(PIPELINE), "--force", "model", "--threads", 1, check=1).err
    assert f"{path} cannot be loaded as the weights of timm:{NAME}" in output


def test_without_a_network_the_file_and_its_place_are_told(
    no_network: list[Any], pipeline: Callable[..., Path], invoke: Callable[..., Said], cache: Path
) -> None:
    output = invoke("run", pipeline(PIPELINE), "--threads", 1, check=2).err
    assert "stages.model.backbone: the weights of timm:test_vit.r160_in1k are not on this" in output
    assert "Name or service not known" in output
    assert f"https://huggingface.co/timm/{NAME}/resolve/main/model.safetensors" in output
    assert "`weights: PATH/model.safetensors`" in output
    assert f"copy the cache of a machine that has it to {cache} (HF_HOME)" in output
    assert set(no_network) == {"huggingface.co"}


def test_a_file_elsewhere_than_on_the_hub_is_told_too(
    no_network: list[Any],
    pipeline: Callable[..., Path],
    invoke: Callable[..., Said],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    facts = timm.get_pretrained_cfg(NAME)
    facts.hf_hub_id, facts.url = None, "https://weights.example/files/test_vit-1234.pth"
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda _: facts)
    output = invoke("run", pipeline(PIPELINE), "--threads", 1, check=2).err
    assert "the file is https://weights.example/files/test_vit-1234.pth" in output
    assert f"to {tmp_path / 'torch/hub/checkpoints'} (TORCH_HOME)" in output
    assert no_network == ["weights.example"]


def test_offline_mode_is_told_without_a_look_up(
    no_network: list[Any],
    pipeline: Callable[..., Path],
    invoke: Callable[..., Said],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    output = invoke("run", pipeline(PIPELINE), "--threads", 1, check=2).err
    assert "(HF_HUB_OFFLINE is set)" in output
    assert no_network == []


class Hub(BaseHTTPRequestHandler):
    """A hub that has one file, and no safetensors."""

    data = b""

    def do_HEAD(self) -> None:
        missing = self.path.endswith("model.safetensors")
        self.send_response(404 if missing else 200)
        if missing:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", '"abc"')
        self.send_header("Content-Length", "0" if missing else str(len(self.data)))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    torch.save(theirs().state_dict(), tmp_path / "w.bin")
    Hub.data = (tmp_path / "w.bin").read_bytes()
    made = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Take another server for the hub in new processes."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return lambda url: monkeypatch.setenv("HF_ENDPOINT", url)


@pytest.mark.slow
def test_a_file_in_reach_is_downloaded_once(
    server: str,
    mirror: Callable[[str], None],
    pipeline: Callable[..., Path],
    transfer: Callable[..., Any],
    tmp_path: Path,
) -> None:
    mirror(server)
    transfer("run", pipeline(PIPELINE), "--threads", 1)
    network = Model(next(tmp_path.glob(".transfer/pretext/pretrained/*"))).network()
    images, expected = torch.rand(2, 3, 160, 160), theirs()
    expected.reset_classifier(0)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), expected(images))
    mirror("http://127.0.0.1:9")  # nothing is asked again
    transfer("run", pipeline(PIPELINE), "--force", "model", "--threads", 1)


@pytest.mark.slow
def test_a_server_that_never_answers_is_not_waited_for(
    mirror: Callable[[str], None],
    pipeline: Callable[..., Path],
    transfer: Callable[..., Any],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mirror(f"http://127.0.0.1:{silent.getsockname()[1]}")
        output = transfer("run", pipeline(PIPELINE), "--threads", 1, check=2).stderr
    assert "127.0.0.1 does not give them (" in output


def test_a_name_that_is_never_resolved_is_not_waited_for(
    pipeline: Callable[..., Path], invoke: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: ended.wait(60))
    monkeypatch.setattr(published, "SECONDS", 0.0)
    output = invoke("run", pipeline(PIPELINE), "--threads", 1, check=2).err
    ended.set()
    assert "no answer within" in output
