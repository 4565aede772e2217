"""Serves a web page that recognises letters: `speechmlp serve`."""

import argparse
import ipaddress
import os
import signal
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING

from speechmlp.audio_format import NUM_SAMPLES, SAMPLE_RATE
from speechmlp.environment import import_torchaudio
from speechmlp.errors import UserError, run_command

if TYPE_CHECKING:
    import uvicorn

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
MAX_CONNECTIONS = 512


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="speechmlp serve",
        description="Serve a web page that recognises letters, spoken or uploaded. Recordings are not stored.",
        epilog="example: curl --data-binary @letter.wav http://127.0.0.1:8026/api/recognize",
    )
    parser.add_argument("--checkpoint", metavar="FILE", help="a best.pt (default: the model in the package)")
    parser.add_argument("--host", metavar="ADDRESS", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, metavar="N", default=8026, help="port; 0 for any free one (%(default)s)")
    parser.add_argument("--no-browser", action="store_true", help="only print the page's address")
    parser.add_argument("--device", metavar="NAME", default="auto", help="auto, cpu, cuda or cuda:N (%(default)s)")
    return parser


def _listen(host: str, port: int) -> socket.socket:
    """Returns a socket bound to an address.

    Raises:
        UserError: the address or port is not available.
    """
    if not 0 <= port <= 65_535:
        raise UserError(f"--port: expected 0 to 65535, found {port}")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
        if os.name == "posix":  # on Windows it would let two servers share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise UserError(
            f"{host}, port {port}: cannot listen there ({error.strerror or error}); choose another --port or --host"
        ) from error
    return listening


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _has_screen() -> bool:
    # Without one, a text browser would take over the terminal.
    return os.name != "posix" or sys.platform == "darwin" or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())


def _run(server: "uvicorn.Server", listening: socket.socket) -> None:
    """Answers requests until Ctrl-C or SIGTERM, and finishes the running ones first."""
    # Signals reach the main thread, so they end this command like any other, whatever the server is doing.
    with ThreadPoolExecutor(1) as pool:
        try:
            answering = pool.submit(server.run, [listening])
            while wait([answering], timeout=1).not_done:  # on Windows, a signal does not end a wait without a timeout
                pass
        finally:
            server.should_exit = True
        answering.result()


def _serve(arguments: argparse.Namespace) -> int:
    with _listen(arguments.host, arguments.port) as listening:  # fails before the work if the port is taken
        import_torchaudio()
        try:
            import starlette  # noqa: F401
            import uvicorn
        except ImportError as error:
            raise UserError(f"{error.name} is not installed: python -m pip install 'speechmlp[serve]'") from error
        import torch

        from speechmlp.recognition.recognizer import WEIGHTS, load_recognizer
        from speechmlp.runs.folder import model_name
        from speechmlp.serve.app import make_app

        recognizer = load_recognizer(arguments.checkpoint, arguments.device)
        torch.set_num_threads(1)  # recordings are recognised in parallel instead
        recognizer(torch.zeros(NUM_SAMPLES), SAMPLE_RATE)  # the first call is the slowest
        address, port = listening.getsockname()[:2]
        shown = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
        url = f"http://{shown}:{port}/"
        local = _is_loopback(address)
        if not local:
            print(
                f"warning: {address} can be reached from other machines; anybody there can use this page, without "
                "encryption, and their browsers will not allow the microphone",
                file=sys.stderr,
            )
        with tempfile.TemporaryDirectory(prefix="speechmlp-") as folder:
            hosts = [*LOOPBACK, shown] if local else ["*"]
            app = make_app(recognizer, model_name(Path(arguments.checkpoint or WEIGHTS)), hosts, Path(folder))
            config = uvicorn.Config(
                app,
                log_level="error",
                access_log=False,
                server_header=False,
                ws="none",
                lifespan="off",
                limit_concurrency=MAX_CONNECTIONS,
                timeout_graceful_shutdown=5,
            )
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the folder above is removed too
            listening.listen(MAX_CONNECTIONS)
            print(f"Say a letter at {url} (Ctrl-C ends)", flush=True)
            if not arguments.no_browser and _has_screen():
                threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
            _run(uvicorn.Server(config), listening)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(make_parser(), _serve, argv)
