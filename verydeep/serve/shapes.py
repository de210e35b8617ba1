"""What routes answer, for the OpenAPI: examples, and the shapes of what is like them."""

import json
from pathlib import Path
from typing import Any

EXAMPLES = json.loads((Path(__file__).parent / "examples.json").read_text(encoding="utf-8"))
ERRORS = {int(status): {"error": error} for status, error in EXAMPLES["errors"].items()}
RETRY = {"Retry-After": {"description": "seconds", "schema": {"type": "integer", "minimum": 1}}}
KINDS: dict[type, str] = {str: "string", float: "number", int: "integer"}
BYTES = {"schema": {"type": "string", "format": "binary"}}
BODY = {"requestBody": {"required": True, "content": {"image/*": BYTES, "application/octet-stream": BYTES}}}


def responses(name: str, *errors: int) -> dict[int | str, dict[str, Any]]:
    """What a route may answer: 200 as in the example, and these errors, or all."""
    found: dict[int | str, dict[str, Any]] = {200: like("the answer", EXAMPLES["answers"][name])}
    for status in errors or ERRORS:
        found[status] = like(ERRORS[status]["error"]["code"], ERRORS[status])
        found[status] |= {"headers": RETRY} if status in (429, 503) else {}
    return found


def like(description: str, example: Any) -> dict[str, Any]:
    content = {"application/json": {"schema": schema_of(example), "example": example}}
    return {"description": description, "content": content}


def schema_of(example: Any) -> dict[str, Any]:
    """A JSON schema of what is like it."""
    if isinstance(example, dict):
        fields = {name: schema_of(value) for name, value in example.items()}
        return {"type": "object", "properties": fields, "required": list(fields)}
    if isinstance(example, list):
        return {"type": "array", "items": schema_of(example[0])}
    return {"type": KINDS[type(example)]}
