"""The command line: which verb, its words, and how it ends."""

import io
import logging
import sys
import warnings
from collections.abc import Sequence
from pkgutil import iter_modules

import verydeep
from verydeep import verbs
from verydeep.errors import ConfigError, VeryDeepError
from verydeep.fields import Parser
from verydeep.near import meant
from verydeep.verbs import DATA, MODEL, Verb, verb_class


def main(argv: list[str] | None = None) -> int:
    """Runs one verb; returns the exit status: 0 done, 1 failed, 2 wrong usage, 130 or 143 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names need not be text
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(f"verydeep {verydeep.__version__}")
        return 0
    if words[0] not in verb_names():
        return fail(f"verydeep: {words[0]!r} is not a verb{meant(words[0], verb_names())}", 2)
    spares = Verb.SPARES
    try:
        from PIL.Image import DecompressionBombWarning  # our own limit of pixels is stricter

        with warnings.catch_warnings(action="ignore", category=DecompressionBombWarning):
            logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)  # its words on a photo; ours follow
            warnings.filterwarnings("ignore", module="PIL")
            warnings.showwarning = lambda message, *where, **more: print(f"warning: {message}", file=sys.stderr)
            verb, as_json = parse(words)
            spares = verb.SPARES
            return verb.show(verb.run(), as_json)
    except VeryDeepError as e:
        return fail(f"verydeep {words[0]}: {e}", e.exit_code)
    except KeyboardInterrupt:
        return fail(f"verydeep {words[0]}: interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as e:
        return fail(f"verydeep {words[0]}: {e.filename or 'the system'}: {e.strerror or e}", 1)
    except (MemoryError, RuntimeError) as e:
        from verydeep.hardware import out_of_memory

        if not out_of_memory(e):
            raise
        return fail(f"verydeep {words[0]}: the memory does not hold this; {spares}", 1)


def fail(message: str, status: int) -> int:
    print(message, file=sys.stderr, flush=True)
    return status


def verb_names() -> list[str]:
    return sorted(module.name for module in iter_modules(verbs.__path__))


def usage() -> str:
    return "\n".join(
        [
            f"verydeep {verydeep.__version__}: the VGG paper as working software", "", "usage: verydeep VERB ...", "",
            *(f"  {name:<10}{verb_class(name).__doc__}" for name in verb_names()), "",
            "verydeep VERB --help tells what a verb takes.", f"DATA: {DATA}.", f"MODEL: {MODEL}.",
        ]
    )  # fmt: skip


def parse(words: Sequence[str]) -> tuple[Verb, bool]:
    """A verb as its words say it, and whether it shall print JSON. Raises ConfigError with one line for wrong usage."""
    kind = verb_class(words[0])
    parser = Parser(prog=f"verydeep {words[0]}", description=kind.__doc__)
    kind.describe(parser)
    own, word = kind.own(), next((word for word in words[1:] if not word.startswith("-")), "")
    if own and word and word not in own:
        raise ConfigError(f"{word!r} is not a verb of {words[0]}{meant(word, own)}")
    found = parser.parse_args(words[1:])
    return kind.asked(found), hasattr(found, "json")
