"""Recordings in the body of a request: one as it is, or several as the files of a form."""

import binascii
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

import anyio
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_BYTES = 16 << 20
MAX_IGNORED = 4 * MAX_BYTES
"""Bytes that are read of a body that is too large: many clients read the answer only after they have sent all of it."""
IGNORE_SECONDS = 2.0
"""Longest time that the rest of a refused body is read."""
UPLOAD_SECONDS = 60.0
"""Longest time of an upload."""
MAX_FILES = 16
"""Most recordings in a form."""
MAX_PARTS = 64
"""Most parts of a form."""
MAX_PIECE = 1 << 21
"""Largest body of samples from a microphone, 20 s at 48 kHz, or of words."""

FORM = "multipart/form-data"
EXPECTED = f"expected a recording as the request's body, or as a file of a form ({FORM})"
CLOSE = {"Connection": "close"}
"""For answers to requests whose body is refused, and ignored."""


@dataclass(frozen=True)
class Upload:
    """A recording that was sent.

    Attributes:
        name: without folders; empty if the client gave none.
        path: of the recording.
    """

    name: str
    path: Path


def plain_name(name: str) -> str:
    """Returns a file name without its folders, POSIX or Windows ones, and of bounded length."""
    return PureWindowsPath(name).name[:100]


def form_boundary(request: Request) -> bytes | None:
    """Returns the boundary between the parts of a form; None if the body is a recording as it is.

    Any other Content-Type says nothing about the body: curl and wget call every body a form of another kind.

    Raises:
        HTTPException: the headers announce no body, or one that is not accepted here.
    """
    found = _announced(request)
    options = parse_options_header(request.headers.get("content-type"))[1]
    if found == FORM:
        if not options.get(b"boundary"):
            text = f"Content-Type: {FORM} without a boundary; leave this header to the client, which adds the boundary"
            raise HTTPException(400, text, CLOSE)
        return options[b"boundary"]
    if found.startswith("multipart/") or found.endswith(("/json", "+json")):
        raise HTTPException(415, f"Content-Type: {EXPECTED}, found {found[:80]!r}", CLOSE)
    return None


def _announced(request: Request) -> str:
    """Returns the type of a request's body, in lower case.

    Raises:
        HTTPException: the headers announce no body, or a compressed one.
    """
    headers = request.headers
    if "content-length" not in headers and "transfer-encoding" not in headers:
        raise HTTPException(411, f"the request has no Content-Length, so it has no body; {EXPECTED}")
    if (coding := headers.get("content-encoding", "identity").strip().lower()) != "identity":
        answer = CLOSE | {"Accept-Encoding": "identity"}
        raise HTTPException(415, f"Content-Encoding: expected none, found {coding[:80]!r}", answer)
    return parse_options_header(headers.get("content-type"))[0].decode("latin-1").strip().lower()


async def ignore_rest(request: Request) -> None:
    """Reads what a client still sends: if the connection is closed before, it may never see the answer."""
    size = 0
    with anyio.move_on_after(IGNORE_SECONDS), suppress(ClientDisconnect, RuntimeError):  # RuntimeError: all was read
        async for chunk in request.stream():
            size += len(chunk)
            if size > MAX_BYTES:
                break


async def receive(request: Request, path: Path) -> None:
    """Writes a request's body to a file.

    Raises:
        HTTPException: it is too large, too slow, or empty, or cannot be stored.
    """
    too_large = HTTPException(413, f"expected at most {MAX_BYTES >> 20} MB; one spoken letter is enough", CLOSE)
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > MAX_IGNORED:
        raise too_large
    size = 0
    try:
        with anyio.fail_after(UPLOAD_SECONDS), path.open("wb") as file:
            async for chunk in request.stream():
                size += len(chunk)
                if size <= MAX_BYTES:
                    file.write(chunk)
                elif size > MAX_IGNORED:
                    raise too_large
    except TimeoutError as error:
        raise HTTPException(408, f"the upload took longer than {UPLOAD_SECONDS:g} s", CLOSE) from error
    except OSError as error:
        raise HTTPException(507, f"the recording cannot be stored: {error.strerror or error}", CLOSE) from error
    if size > MAX_BYTES:
        raise too_large
    if not size:
        raise HTTPException(400, f"the recording is empty; {EXPECTED}")


async def receive_small(request: Request, json: bool = False) -> bytes:
    """Returns a request's body of at most `MAX_PIECE` bytes, which may be empty.

    Args:
        request: the request.
        json: whether the body is JSON; otherwise it is samples.

    Raises:
        HTTPException: it is too large or too slow, or its headers announce something else.
    """
    kind = _announced(request)
    if json != kind.endswith(("/json", "+json")) or kind.startswith("multipart/"):
        expected = "application/json" if json else "samples, application/octet-stream"
        raise HTTPException(415, f"Content-Type: expected {expected}, found {kind[:80]!r}", CLOSE)
    body = bytearray()
    try:
        with anyio.fail_after(UPLOAD_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_PIECE:
                    raise HTTPException(413, f"expected at most {MAX_PIECE >> 20} MB", CLOSE)
    except TimeoutError as error:
        raise HTTPException(408, f"the upload took longer than {UPLOAD_SECONDS:g} s", CLOSE) from error
    return bytes(body)


def read_form(body: Path, boundary: bytes) -> tuple[list[Upload], dict[str, str]]:
    """Returns the recordings of a form, as files in the folder of its body, and its texts by field.

    Recordings are the files, whatever their fields are called. If there are none, they are the fields that are not
    text: some clients send a file without a file name.

    Raises:
        HTTPException: the form is broken, has too many parts, or no recording.
    """
    parts = _parts(body, boundary)
    files = [(part.file_name, part.decoded()) for part in parts if part.file_name is not None]
    found = [(name, content) for name, content in files if name or content]  # browsers send one if none was chosen
    values = [(part.name, part.decoded()) for part in parts if part.file_name is None]
    texts = {name: value.decode() for name, value in values if _is_text(value)}
    if not found:
        found = [(name, value) for name, value in values if not _is_text(value)]
    if not found:
        names = ", ".join(repr(name[:40]) for name in list(texts)[:8]) or "none"
        raise HTTPException(400, f"the form has no recording: expected a file, found these fields: {names}")
    if len(found) > MAX_FILES:
        raise HTTPException(413, f"expected at most {MAX_FILES} recordings in the form, found {len(found)}")
    uploads = []
    for name, content in found:
        file, path = tempfile.mkstemp(dir=body.parent)
        with open(file, "wb") as stream:  # noqa: PTH123 - the file is open already
            stream.write(content)
        uploads.append(Upload(plain_name(name), Path(path)))
    return uploads, texts


@dataclass
class _Part:
    """A part of a form: its headers, with names in lower case, and its content as it was sent."""

    headers: dict[str, bytes] = field(default_factory=dict)
    content: bytearray = field(default_factory=bytearray)

    @property
    def name(self) -> str:
        """The field's name."""
        return self._disposition()[b"name"].decode(errors="replace")

    @property
    def file_name(self) -> str | None:
        """The file's name; None if it is not a file."""
        name = self._disposition().get(b"filename")
        return None if name is None else name.decode(errors="replace")

    def decoded(self) -> bytes:
        """Returns the content without its transfer encoding.

        Raises:
            HTTPException: it is of an unknown encoding, or broken.
        """
        encoding = self.headers.get("content-transfer-encoding", b"binary").strip().lower()
        if encoding in (b"7bit", b"8bit", b"binary"):
            return bytes(self.content)
        if encoding == b"quoted-printable":
            return binascii.a2b_qp(self.content)
        if encoding != b"base64":
            expected, found = "base64, quoted-printable, 7bit, 8bit or binary", encoding.decode("latin-1")[:60]
            raise HTTPException(400, f"Content-Transfer-Encoding: expected {expected}, found {found!r}")
        try:
            return binascii.a2b_base64(self.content)
        except binascii.Error as error:
            raise HTTPException(400, f"the form is broken (base64: {error})") from error

    def require_name(self) -> None:
        """Raises HTTPException if the headers give the field no name."""
        if b"name" not in self._disposition():
            raise HTTPException(400, "the form is broken (a part has no name in its Content-Disposition)")

    def _disposition(self) -> dict[bytes, bytes]:
        return parse_options_header(self.headers.get("content-disposition"))[1]


def _parts(body: Path, boundary: bytes) -> list[_Part]:
    """Returns the parts of a form.

    python-multipart finds their ends. Its `FormParser` decodes base64 itself, but fails on line breaks.

    Raises:
        HTTPException: the form is broken, or has too many parts.
    """
    parts: list[_Part] = []
    header = bytearray(), bytearray()
    ends: list[bool] = []

    def begin_part() -> None:
        if len(parts) >= MAX_PARTS:
            raise HTTPException(413, f"expected at most {MAX_PARTS} parts in the form")
        parts.append(_Part())

    def end_header() -> None:
        name, value = header
        parts[-1].headers[name.decode("latin-1").lower()] = bytes(value)
        name.clear()
        value.clear()

    callbacks: MultipartCallbacks = {
        "on_part_begin": begin_part,
        "on_header_field": lambda data, start, end: header[0].extend(data[start:end]),
        "on_header_value": lambda data, start, end: header[1].extend(data[start:end]),
        "on_header_end": end_header,
        "on_headers_finished": lambda: parts[-1].require_name(),
        "on_part_data": lambda data, start, end: parts[-1].content.extend(data[start:end]),
        "on_end": lambda: ends.append(True),
    }
    try:
        parser = MultipartParser(boundary, callbacks)
        with body.open("rb") as stream:
            while data := stream.read(1 << 18):
                parser.write(data)
        parser.finalize()
    except FormParserError as error:
        raise HTTPException(400, f"the form is broken ({' '.join(str(error).split())[:160]})") from error
    if not ends:
        raise HTTPException(400, "the form is broken (it ends before its last boundary)")
    return parts


def _is_text(value: bytes) -> bool:
    try:
        return "\0" not in value.decode()
    except UnicodeDecodeError:
        return False
