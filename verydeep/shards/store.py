"""Files on an object store, by fsspec: told apart by their URL, fetched whole, tried again when the line breaks."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from verydeep.errors import DataError
from verydeep.files.download import OF_THE_DISK

TRIES = 5
PAUSE = 0.5  # seconds before the second try, twice as many before each further one


def store(url: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path there. Raises DataError naming the package that is missing."""
    import fsspec  # type: ignore[import-untyped]

    protocol, options = url.partition("://")[0], dict[str, Any]()
    try:
        if protocol in ("http", "https"):
            import aiohttp

            # Its own limit of five minutes in all is too short for a shard on a slow line.
            options["client_kwargs"] = {"timeout": aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)}
        fs, path = fsspec.core.url_to_fs(url, **options)
    except ImportError as e:
        extra = "pip install 'verydeep[s3]'" if protocol in ("s3", "s3a", "http", "https") else "install it"
        raise DataError(f"{url}: {protocol}:// needs a package that is missing ({e}); {extra}") from e
    except ValueError as e:
        raise DataError(f"{url}: {protocol}:// is not known ({e}); fsspec reads s3://, gs://, https:// ...") from e
    return fs, str(path)


def get(url: str, target: Path, wrong: Callable[[Path], str | None]) -> None:
    """Fetches a file; a broken line or a wrong content is tried again. Raises DataError naming the URL."""
    fs, path = store(url)
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            fs.get_file(path, str(target))
            if (why := wrong(target)) is None:
                return
        except FileNotFoundError as e:
            raise DataError(f"{url} does not exist; copy the shards there with the index of 'verydeep pack'") from e
        except PermissionError as e:
            raise DataError(f"{url} may not be read ({e}); check your access to this store") from e
        except Exception as e:  # every store has errors of its own
            if isinstance(e, OSError) and e.errno in OF_THE_DISK:
                raise DataError(f"{target.parent} cannot hold {url} ({e.strerror}); set VERYDEEP_DATA") from e
            why = f"{type(e).__name__}: {e}".splitlines()[0].removesuffix(": ")
    raise DataError(f"{url} cannot be fetched ({why}), tried {TRIES} times; check the network and the store")
