"""What the HTTP interface takes and returns: one table of operations, of which the OpenAPI document is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from speechmlp import __version__
from speechmlp.serve.uploads import FORM, MAX_BYTES, MAX_FILES, MAX_PIECE

MAX_BARS = 2000
REFERENCE = "#/components/schemas/{model}"


class _Values(BaseModel):
    model_config = ConfigDict(title=None, extra="forbid")


class Options(BaseModel):
    """Options of a request, in its query."""


class RecordingOptions(Options):
    """Options of a request with recordings, in its query or as fields of its form."""

    name: str = Field("", description="Name of the recording in the answer; a form's file has its own.")


class LetterOptions(RecordingOptions):
    """Options of a request for a letter."""

    waveform: int = Field(0, ge=0, le=MAX_BARS, description="Number of bars of the waveform in the answer.")
    judge: bool = Field(False, description="Whether the second judge is asked too, if the server has one.")


class SpellingOptions(RecordingOptions):
    """Options of a request for a spelled word."""

    words: str = Field("", description="Words to rank, separated by commas or white space.")
    best: int = Field(5, ge=1, le=100, description="Number of ranked words in the answer.")


class LiveOptions(Options):
    """Options of a request with the next samples of a microphone."""

    session: str = Field("", max_length=100, description="Session, as in the first answer; empty for a new one.")
    rate: int = Field(48_000, ge=8000, le=192_000, description="Sample rate of a new session in Hz.")
    first: int = Field(0, ge=0, description="Number of samples sent before; those sent twice are ignored.")
    known: int = Field(0, ge=0, description="Number of final letters received; the answer starts after them.")
    end: bool = Field(False, description="Whether these are the last samples, so that all letters become final.")


class TakeOptions(RecordingOptions):
    """Options of a request with a take."""

    letter: str = Field("", max_length=100, description="The letter that was asked for, one of the model's labels.")


class RemoveOptions(Options):
    """Options of a request to remove a take."""

    letter: str = Field("", max_length=100, description="The letter whose last take is removed.")


class UseOptions(Options):
    """Options of a request to change the model."""

    adapted: bool = Field(True, description="Whether the adapted model answers; otherwise the original one does.")


class Letter(_Values):
    """The letter of a recording."""

    path: str = Field(description="Name of the recording.")
    letter: str | None = Field(
        description="One of the model's labels, A to Z by default; null if the recording was rejected."
    )
    probability: float = Field(description="Of the most probable letter, even if rejected.")
    ranked: list[tuple[str, float]] = Field(description="The three most probable letters with their probabilities.")
    probabilities: dict[str, float] = Field(description="Of all labels.")
    start: float | None = Field(description="Start of the letter in seconds; null if rejected or unknown.")
    end: float | None = Field(description="End of the letter in seconds, or null.")
    more: bool = Field(description="Whether there seem to be more letters; /api/spell recognises all of them.")
    seconds: float = Field(description="Length of the recording.")
    note: str = Field(description="Why only one channel of the recording is used; empty if it is their mean.")
    waveform: list[float] = Field([], description="Largest absolute sample of each bar, if asked for.")


class SpelledLetter(_Values):
    """A letter of a spelled word."""

    letter: str = Field(description="One of the model's labels.")
    probability: float = Field(description="Of the letter, given its start and end.")
    start: float = Field(description="In seconds.")
    end: float = Field(description="In seconds.")


class Spelling(_Values):
    """The letters of a recording in a row."""

    path: str = Field(description="Name of the recording.")
    text: str = Field(description="The letters as a word.")
    letters: list[SpelledLetter] = Field(description="The letters in order.")
    seconds: float = Field(description="Length of the recording.")
    note: str = Field(description="Why only one channel of the recording is used; empty if it is their mean.")
    words: list[tuple[str, float]] = Field([], description="The best words with their probabilities, if asked for.")


class LiveLetter(_Values):
    """A letter that was spoken to a microphone."""

    letter: str = Field(description="One of the model's labels.")
    probability: float = Field(description="Of the letter, given its start and end.")
    ranked: list[tuple[str, float]] = Field(description="The three most probable letters with their probabilities.")
    probabilities: dict[str, float] = Field(description="Of all labels.")
    start: float = Field(description="In seconds since the session's first sample.")
    end: float = Field(description="In seconds.")


class Live(_Values):
    """What is recognised so far in a session."""

    session: str = Field(description="Name of the session, to send with the next samples.")
    first: int = Field(description="Number of final letters before those in this answer.")
    letters: list[LiveLetter] = Field(description="The next final letters.")
    provisional: list[LiveLetter] = Field(description="Letters after all final ones, which may still change.")
    rejected: int = Field(description="Number of sounds so far that are like speech but no letters.")
    seconds: float = Field(description="Length of what was received.")


class Spelled(BaseModel):
    """Words to choose from, and what is spelled so far."""

    words: list[Annotated[str, Field(max_length=100)]] = Field(
        min_length=1, max_length=20_000, description="Words to choose from; characters that are not labels are ignored."
    )
    letters: list[dict[str, Annotated[float, Field(ge=0, le=1)]]] = Field(
        max_length=100, description="Probabilities of the labels for each letter spelled so far; those left out are 0."
    )
    best: int = Field(5, ge=1, le=100, description="Number of words in the answer.")


class OfferedWord(_Values):
    """A word of a list."""

    word: str = Field(description="As it is in the list.")
    probability: float = Field(description="Within the list.")


class Offer(_Values):
    """Words that begin with what is spelled."""

    words: list[OfferedWord] = Field(description="The best words with their probabilities within the list.")


class Voice(_Values):
    """The takes of a voice, and the model adapted to it."""

    folder: str = Field(description="Where takes and model are kept.")
    takes: dict[str, int] = Field(description="Number of takes of each label.")
    wanted: int = Field(description="Number of takes of each label that the page asks for.")
    fewest: int = Field(description="Number of labels that must have a take before the model can be adapted.")
    adapting: bool = Field(description="Whether a model is being adapted.")
    doing: str = Field(description="Current step of the adaptation; empty if none is running.")
    fraction: float = Field(description="Fraction that is done, from 0 to 1.")
    lines: list[str] = Field(description="Results of the last adaptation; empty before the first one.")
    error: str = Field(description="Why the last adaptation failed; empty if it did not.")
    adapted: bool = Field(description="Whether there is an adapted model.")
    used: bool = Field(description="Whether the adapted model answers.")


class Take(_Values):
    """A take, and whether it was kept."""

    kept: bool = Field(description="Whether it was good enough to be kept.")
    advice: list[str] = Field(description="What is wrong with it.")
    heard: str | None = Field(
        description="The letter that the original model recognises; null if none, or if not kept."
    )
    voice: Voice = Field(description="The takes now.")


class Takes(_Values):
    """The takes of a form with several recordings, in its order."""

    results: list["Take | Failure"] = Field(description="An answer for each recording.")


class Failure(_Values):
    """A recording of a form that cannot be recognised."""

    path: str = Field(description="Name of the recording.")
    error: str = Field(description="What is wrong, in one line.")


class Letters(_Values):
    """The letters of a form with several recordings, in its order."""

    results: list[Letter | Failure] = Field(description="An answer for each recording.")


class Spellings(_Values):
    """The spelled words of a form with several recordings, in its order."""

    results: list[Spelling | Failure] = Field(description="An answer for each recording.")


class About(_Values):
    """What the server offers."""

    speechmlp: str = Field(description="Version of the program.")
    model: str = Field(description="Name of the model.")
    labels: list[str] = Field(description="What the model distinguishes, A to Z by default.")
    judge: bool = Field(description="Whether there is a second judge.")
    voice: bool = Field(description="Whether the page can adapt the model to a voice.")
    max_bytes: int = Field(description="Largest body.")
    max_seconds: float = Field(description="Longest recording.")


class Error(_Values):
    """Every answer that is not a success."""

    error: str = Field(description="What is wrong, in one line.")


@dataclass(frozen=True)
class Operation:
    """One operation of the interface.

    Attributes:
        path: of its address.
        method: of HTTP.
        summary: what it does.
        answers: what it returns; the second for a form with several recordings.
        options: in the query; `RecordingOptions` if it takes recordings, `LiveOptions` if samples.
        body: what it takes as JSON.
        errors: statuses of its errors.
    """

    path: str
    method: str
    summary: str
    answers: tuple[type[BaseModel], ...] = ()
    options: type[Options] | None = None
    body: type[BaseModel] | None = None
    errors: tuple[int, ...] = (400, 405, 408, 431, 500, 503)


REFUSED = (403, 408, 411, 413, 415, 422, 507)
"""Statuses of requests with a recording."""
REFUSED_SMALL = (403, 408, 411, 413, 415)
"""Statuses of requests with a small body."""

ABOUT = Operation("/api", "get", "Describe the server", (About,))
DOCUMENT = Operation("/api/openapi.json", "get", "Get this document")
RECOGNIZE = Operation("/api/recognize", "post", "Recognise the letter of a recording", (Letter, Letters), LetterOptions)
SPELL = Operation(
    "/api/spell", "post", "Recognise all letters of a recording in a row", (Spelling, Spellings), SpellingOptions
)
LIVE = Operation("/api/live", "post", "Recognise letters while they are spoken", (Live,), LiveOptions)
WORDS = Operation("/api/words", "post", "Rank words that begin with what is spelled so far", (Offer,), body=Spelled)
VOICE = Operation("/api/voice", "get", "Describe the takes of a voice and the state of the adaptation", (Voice,))
TAKE = Operation("/api/voice/take", "post", "Keep a take of a letter", (Take, Takes), TakeOptions)
REMOVE = Operation("/api/voice/remove", "post", "Remove the last take of a letter", (Voice,), RemoveOptions)
ADAPT = Operation("/api/voice/adapt", "post", "Begin to adapt the model to all takes", (Voice,))
STOP = Operation("/api/voice/stop", "post", "Stop adapting", (Voice,))
USE = Operation("/api/voice/use", "post", "Let the adapted model answer, or the original one", (Voice,), UseOptions)
OPERATIONS = (ABOUT, DOCUMENT, RECOGNIZE, SPELL, LIVE, WORDS, VOICE, TAKE, REMOVE, ADAPT, STOP, USE)


def read_options(model: type[Options], *sources: Mapping[str, str]) -> dict[str, Any]:
    """Returns the options of a request; later sources win, and other names are ignored.

    Raises:
        HTTPException: a value is invalid.
    """
    given = {name: value for source in sources for name, value in source.items() if name in model.model_fields}
    try:
        return model.model_validate(given).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        name, found = first["loc"][0], str(first["input"])[:80]
        raise HTTPException(400, f"{name}: {first['msg'].lower()}, found {found!r}") from error


def read_body(model: type[BaseModel], body: bytes) -> Any:
    """Returns the values of a body in JSON.

    Raises:
        HTTPException: it is not JSON, or a value is invalid.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise HTTPException(422, f"{where}: {' '.join(first['msg'].lower().split())}") from error


def _schema(found: Mapping[Any, Any], models: Sequence[type[BaseModel]]) -> dict[str, Any]:
    schemas = [found[model, "validation"] for model in models]
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _content(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _parameters(options: type[Options]) -> dict[str, dict[str, Any]]:
    """Returns the JSON schema of each option."""
    found: dict[str, dict[str, Any]] = options.model_json_schema()["properties"]
    return {name: {key: value for key, value in schema.items() if key != "title"} for name, schema in found.items()}


def _operation(one: Operation, found: Mapping[Any, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {"summary": one.summary, "operationId": one.path.removesuffix(".json").split("/")[-1]}
    options = {} if one.options is None else _parameters(one.options)
    if options:
        result["parameters"] = [
            {
                "name": name,
                "in": "query",
                "description": schema["description"],
                "schema": {key: value for key, value in schema.items() if key != "description"},
            }
            for name, schema in options.items()
        ]
    binary = {"type": "string", "format": "binary"}
    statuses = {*one.errors}
    if one.path.startswith(VOICE.path):
        statuses.update({403, 409, 422, 507} if one.method == "post" else {403})
    if one.options is not None and issubclass(one.options, RecordingOptions):
        statuses.update(REFUSED)
        form = {"type": "object", "properties": {"file": binary, **options}, "required": ["file"]}
        result["requestBody"] = {
            "required": True,
            "description": f"A recording of at most {MAX_BYTES >> 20} MB, as it is, whatever its Content-Type; or a "
            f"form with up to {MAX_FILES} recordings in fields of any name.",
            "content": {FORM: {"schema": form}, "application/octet-stream": {"schema": binary}},
        }
    elif one.options is LiveOptions:
        statuses.update({*REFUSED_SMALL, 410, 429})
        result["requestBody"] = {
            "required": False,
            "description": f"The next samples, 16-bit little-endian mono, at most {MAX_PIECE >> 20} MB; may be empty.",
            "content": {"application/octet-stream": {"schema": binary}},
        }
    elif one.body is not None:
        statuses.update({*REFUSED_SMALL, 422})
        result["requestBody"] = {"required": True, "content": _content(found[one.body, "validation"])}
    succeeded = _content(_schema(found, one.answers) if one.answers else {"type": "object"})
    result["responses"] = {"200": {"description": one.answers[0].__doc__ if one.answers else "This document."}}
    result["responses"]["200"]["content"] = succeeded
    for status in sorted(statuses):
        result["responses"][str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": _content(_schema(found, [Error])),
        }
    return result


def openapi() -> dict[str, Any]:
    """Returns the OpenAPI 3.1 document of the interface."""
    models: list[type[BaseModel]] = [
        Error,
        *(model for one in OPERATIONS for model in (*one.answers, *([one.body] if one.body else ()))),
    ]
    found, definitions = models_json_schema([(model, "validation") for model in models], ref_template=REFERENCE)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "speechmlp",
            "version": __version__,
            "summary": "Recognises spoken letters. Only takes of a voice that is taught are stored.",
        },
        "paths": {one.path: {one.method: _operation(one, found)} for one in OPERATIONS},
        "components": {"schemas": definitions["$defs"]},
    }
