import json
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any

from verydeep.files.records import Within
from verydeep.verbs import Device, Engine, FilePath, Verb


@dataclass(frozen=True)
class Serve(Verb):
    """answer photos over HTTP, with a page for people; until SIGTERM or Ctrl+C"""

    model: str
    _: KW_ONLY
    boxes: str | None = None
    """a net that says where things are, for /v1/localise; null: none"""
    host: str = "127.0.0.1"
    """the address to listen at; 0.0.0.0 is every one of this machine's, and then a token is advisable"""
    port: Annotated[int, Within(0, 65_535)] = 8000
    """0 takes a free one"""
    token_file: FilePath | None = None
    """a file with a token that clients must send, Authorization: Bearer TOKEN; null: VERYDEEP_TOKEN, if that is set"""
    device: Device = "auto"
    engine: Engine = "auto"

    SPARES = "take a smaller net, or --device cpu"

    def run(self) -> Iterator[dict[str, Any]]:
        """What is served where, once; asked for more, it serves until it is told to end."""
        from verydeep.serve import served

        return served(
            self.model, boxes=self.boxes, host=self.host, port=self.port, device=self.device, engine=self.engine,
            token_file=Path(self.token_file) if self.token_file else None,
        )  # fmt: skip

    def text(self, record: dict[str, Any]) -> str:
        what = f"{record['model']} by {record['engine']} in {record['precision']}"
        return f"{record['url']} serves {what}: {', '.join(['/', *record['routes']])}"

    def show(self, record: Any, as_json: bool) -> int:
        for one in record:
            print(json.dumps(one) if as_json else self.text(one), flush=True)
        return 0
