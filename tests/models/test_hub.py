"""What the Hub refuses, in one line that says what to do: asked over HTTP; and work from its local cache alone."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file

from onereward.models.flux_names import to_original
from tests.tiny import tiny_flux_fill_folder

ANSWERS = {
    "lab/gated": (401, "GatedRepo"),
    "lab/awaiting": (403, "GatedRepo"),
    "lab/missing": (404, "RepoNotFound"),
    "lab/private": (401, "RepoNotFound"),
    "lab/forbidden": (403, ""),
}
LOGIN = "`hf auth login`, or set HF_TOKEN to a token of https://huggingface.co/settings/tokens"


@dataclass(frozen=True)
class Hub:
    """A server that refuses everything, as the Hub does; `asked` are the addresses that it was asked for."""

    endpoint: str
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def hub() -> Iterator[Hub]:
    class Refuses(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            parts = self.path.removeprefix("/api/models").split("/")
            status, code = ANSWERS["/".join(parts[1:3])]
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    asked: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield Hub(endpoint=f"http://127.0.0.1:{server.server_port}", asked=asked)
        server.shutdown()
        thread.join()


def errors_of(calls: list[dict[str, str]], *, before: str = "", **environment: str) -> list[str]:
    """What `load_flux_fill` says, call by call ("" if it loads), in a process with this environment."""
    code = f"""
import json, sys
{before}
from onereward.models.load import load_flux_fill
said = []
for call in json.loads(sys.argv[1]):
    try:
        load_flux_fill(**call)
        said.append("")
    except ValueError as error:
        said.append(str(error))
print(json.dumps(said))
"""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(calls)],
        env=kept | {"OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Couldn't connect" not in done.stderr
    said: list[str] = json.loads(done.stdout.splitlines()[-1])
    assert all("\n" not in line for line in said)
    return said


def test_a_refusal_says_where_to_accept_the_licence_and_how_to_log_in(hub: Hub, tmp_path: Path) -> None:
    local = str(tiny_flux_fill_folder(tmp_path / "editor"))
    said = errors_of(
        [
            {"name_or_path": "lab/gated"},
            {"name_or_path": "lab/awaiting:transformer", "base": local},
            {"name_or_path": f"{local}/transformer", "base": "lab/gated"},
            {"name_or_path": local, "lora": "lab/gated"},
            {"name_or_path": "lab/missing"},
            {"name_or_path": "lab/private"},
            {"name_or_path": "lab/forbidden:flux1.safetensors", "base": local},
            {"name_or_path": "./gone"},
        ],
        HF_ENDPOINT=hub.endpoint,
        HF_HOME=str(tmp_path / "home"),
    )
    gated = "is gated: accept its licence at https://huggingface.co/lab"
    start = "cannot load an editor from"
    assert said[0] == f"{start} lab/gated: lab/gated {gated}/gated, then log in: {LOGIN}"
    assert (
        said[1]
        == f"{start} lab/awaiting:transformer, base {local}: lab/awaiting {gated}/awaiting, then log in: {LOGIN}"
    )
    assert said[2] == f"{start} {local}/transformer, base lab/gated: lab/gated {gated}/gated, then log in: {LOGIN}"
    assert said[3] == f"{start} {local}, LoRA lab/gated: lab/gated {gated}/gated, then log in: {LOGIN}"
    for name, line in zip(("missing", "private"), said[4:6], strict=True):
        assert f"the Hub has no lab/{name}, or keeps it private: check the name, or log in: {LOGIN}; expected" in line
    assert (
        "the Hub refuses lab/forbidden (HTTP 403): accept its licence at https://huggingface.co/lab/forbidden"
        in said[6]
    )
    assert "no folder lies there, and it is no name of a Hub repository (OWNER/NAME); expected 'toy'" in said[7]
    assert any(address.startswith("/lab/gated/resolve/main/") for address in hub.asked)


@pytest.mark.soak  # the client tries for half a minute
def test_a_hub_that_does_not_answer_is_said(tmp_path: Path) -> None:
    home = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    [said] = errors_of([{"name_or_path": "lab/editor"}], **home)
    assert "it is not in the local cache, and the Hub does not answer: check the network and HF_ENDPOINT" in said


def cached(home: Path, repository: str) -> Path:
    """A folder that the Hub's cache takes for the repository's snapshot."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    root = home / "hub" / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    return root / "snapshots" / commit


def test_offline_takes_what_the_cache_has_and_asks_nobody(hub: Hub, tmp_path: Path) -> None:
    home = tmp_path / "home"
    tiny_flux_fill_folder(cached(home, "lab/editor"))
    tuned = tiny_flux_fill_folder(tmp_path / "other", seed=1)
    folder = cached(home, "lab/tuned")
    folder.mkdir(parents=True)
    (tuned / "transformer").rename(folder / "transformer")
    state = FluxTransformer2DModel.from_pretrained(folder / "transformer").state_dict()
    save_file(to_original(state), folder / "flux1-fill-dev.safetensors")
    offline = """
import argparse, huggingface_hub
from onereward.cli.editor_options import use_local_cache_only
use_local_cache_only(argparse.Namespace(offline=True))
"""
    said = errors_of(
        [
            {"name_or_path": "lab/editor"},
            {"name_or_path": "lab/tuned:transformer", "base": "lab/editor"},
            {"name_or_path": "lab/tuned:flux1-fill-dev.safetensors", "base": "lab/editor"},
            {"name_or_path": "lab/gated"},
            {"name_or_path": "lab/tuned:other", "base": "lab/editor"},
            {"name_or_path": "lab/editor", "lora": "lab/gated"},
        ],
        before=offline,
        HF_ENDPOINT=hub.endpoint,
        HF_HOME=str(home),
    )
    assert said[:3] == ["", "", ""] and hub.asked == []
    for line in said[3:]:
        assert "it is not in the local cache, and the Hub is not asked (--offline or HF_HUB_OFFLINE)" in line
