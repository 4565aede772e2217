"""Serves a web page that recognises letters: `speechmlp serve`."""

import argparse
import os
import signal
import sys
import threading
import webbrowser
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from speechmlp.audio_format import NUM_SAMPLES, SAMPLE_RATE
from speechmlp.config.command_line import judge_options
from speechmlp.environment import import_torchaudio
from speechmlp.errors import UserError, run_command

if TYPE_CHECKING:
    import socket

    import uvicorn

    from speechmlp.serve.voice import Models, Voice

MAX_WAITING = 512
"""Connections that wait to be accepted."""
REQUIRED = ("starlette", "uvicorn", "python_multipart", "psutil", "platformdirs", "cryptography")
"""Modules of the extra."""


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="speechmlp serve",
        description="Serve a web page that recognises letters, spoken or uploaded, and that learns your voice if you "
        "teach it. Other recordings are not stored.",
        epilog="example: curl --data-binary @letter.wav http://127.0.0.1:8026/api/recognize",
    )
    parser.add_argument("--checkpoint", metavar="FILE", help="a best.pt (default: the model in the package)")
    parser.add_argument("--host", metavar="ADDRESS", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, metavar="N", default=8026, help="port; 0 for any free one (%(default)s)")
    parser.add_argument(
        "--https", action="store_true", help="encrypt, with a certificate that is made once; phones need it to record"
    )
    parser.add_argument("--certificate", metavar="FILE", type=Path, help="encrypt with this certificate (PEM)")
    parser.add_argument("--key", metavar="FILE", type=Path, help="key of --certificate (default: in the same file)")
    parser.add_argument(
        "--voice",
        metavar="FOLDER",
        type=Path,
        help="where the takes of your voice, and the model adapted to them, are kept (default: a folder of the user, "
        "unless other machines can reach the page or --checkpoint is given: then there is none)",
    )
    parser.add_argument("--no-browser", action="store_true", help="only print the page's address")
    judge_options(parser, "offer a second model for files, whose log-probabilities are added")
    parser.add_argument("--device", metavar="NAME", default="auto", help="auto, cpu, cuda or cuda:N (%(default)s)")
    return parser


def _has_screen() -> bool:
    # Without one, a text browser would take over the terminal.
    return os.name != "posix" or sys.platform == "darwin" or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())


def _run(server: "uvicorn.Server", listening: "socket.socket") -> None:
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


def _require_extra() -> None:
    """Checks that the packages of the extra are installed.

    Raises:
        UserError: one is missing.
    """
    for name in REQUIRED:
        try:
            import_module(name)
        except ImportError as error:
            raise UserError(f"{error.name} is not installed: python -m pip install 'speechmlp[serve]'") from error


def _certificate(arguments: argparse.Namespace, hosts: Sequence[str]) -> tuple[Path | None, Path | None]:
    """Returns the files of certificate and key; none without HTTPS.

    Raises:
        UserError: the options or the files are invalid.
    """
    from platformdirs import user_data_path

    from speechmlp.serve.addresses import LOOPBACK
    from speechmlp.serve.certificate import check_certificate, self_signed

    if arguments.certificate is not None:
        check_certificate(arguments.certificate, arguments.key)
        return arguments.certificate, arguments.key
    if arguments.key is not None:
        raise UserError("--key: expected together with --certificate")
    if not arguments.https:
        return None, None
    return self_signed(user_data_path("speechmlp", appauthor=False), [*LOOPBACK, *hosts]), None


def _voice(arguments: argparse.Namespace, models: "Models", local: bool) -> "Voice | None":
    """Returns the voice that the page may teach the model; None if there is no folder for it.

    Raises:
        UserError: the folder cannot be used.
    """
    from platformdirs import user_data_path

    from speechmlp.serve.voice import Voice

    folder, chosen = arguments.voice, arguments.voice is not None
    if not chosen and (not local or arguments.checkpoint is not None):
        return None
    start = "packaged" if arguments.checkpoint is None else str(Path(arguments.checkpoint).absolute())
    try:
        voice = Voice(folder if chosen else user_data_path("speechmlp", appauthor=False) / "voice", models, start)
    except UserError as error:
        if chosen:
            raise
        print(f"warning: the page cannot be taught a voice: {error}", file=sys.stderr)
        return None
    if voice.warning:
        print(f"warning: {voice.warning}", file=sys.stderr)
    return voice


def _announce(urls: Sequence[str], host: str, https: bool, local: bool) -> None:
    """Prints where the page is, and warns if other machines can reach it."""
    if not local:
        unsafe = "" if https else ", without encryption, and their browsers will not allow the microphone (see --https)"
        print(
            f"warning: {host} can be reached from other machines; anybody there can use this page{unsafe}",
            file=sys.stderr,
        )
    others = [f"On other devices: {url}" for url in urls[1:]]
    print(f"Say a letter at {urls[0]} (Ctrl-C ends)", *others, sep="\n", flush=True)


def _serve(arguments: argparse.Namespace) -> int:
    _require_extra()
    from speechmlp.serve.addresses import LOOPBACK, is_loopback, listen, openable

    with listen(arguments.host, arguments.port) as listening:  # fails before the work if the port is taken
        address, port = listening.getsockname()[:2]
        hosts = openable(arguments.host, address)
        certificate, key = _certificate(arguments, hosts)
        import_torchaudio()
        import torch
        import uvicorn

        from speechmlp.recognition.speller import load_speller
        from speechmlp.runs.checkpoint import find_checkpoint
        from speechmlp.runs.folder import model_name
        from speechmlp.serve.app import make_app
        from speechmlp.serve.connections import Connection
        from speechmlp.serve.voice import Models

        speller = load_speller(arguments.checkpoint, arguments.device)
        if arguments.judge and (warning := speller.recognizer.add_judge(arguments.judge, arguments.judge_model)):
            print(f"warning: {warning}", file=sys.stderr)
        torch.set_num_threads(1)  # recordings are recognised in parallel instead
        speller.recognizer(torch.zeros(NUM_SAMPLES), SAMPLE_RATE)  # the first call is the slowest
        local = is_loopback(address)
        known = list(dict.fromkeys([*LOOPBACK, *hosts])) if local else ["*"]
        models = Models(speller, model_name(find_checkpoint(arguments.checkpoint or "packaged")))
        voice = _voice(arguments, models, local)
        config = uvicorn.Config(
            make_app(models, known, voice),
            http=Connection,
            log_level="error",
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="off",
            ssl_certfile=certificate,
            ssl_keyfile=key,
            timeout_graceful_shutdown=5,
        )
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that recordings are removed too
        listening.listen(MAX_WAITING)
        urls = [f"{'https' if certificate else 'http'}://{host}:{port}/" for host in hosts]
        _announce(urls, address, certificate is not None, local)
        if not arguments.no_browser and _has_screen():
            threading.Thread(target=webbrowser.open, args=(urls[0],), daemon=True).start()
        try:
            _run(uvicorn.Server(config), listening)
        finally:
            if voice is not None:
                voice.close()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    return run_command(make_parser(), _serve, argv)
