"""A net where programs and people meet it: a server, and one page that computes by itself. The door."""

import sys
from collections.abc import Iterator
from typing import Any

from verydeep import CalledAsVerb
from verydeep.errors import ConfigError
from verydeep.serve.living import living_page, write_living_page

sys.modules[__name__].__class__ = CalledAsVerb

__all__ = ["living_page", "served", "write_living_page"]
EXTRA = ("fastapi", "starlette", "pydantic", "uvicorn", "h11", "prometheus_client")


def served(model: str, **how: Any) -> Iterator[dict[str, Any]]:
    """As `run_server` says. Raises ConfigError without the extra."""
    try:
        from verydeep.serve.run import run_server
    except ModuleNotFoundError as e:
        if (e.name or "").partition(".")[0] not in EXTRA:
            raise
        raise ConfigError(f"serve: {e.name} is not installed; pip install 'verydeep[serve]' brings it") from e
    return run_server(model, **how)
