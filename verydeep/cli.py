"""The verbs: parse, import the verb's room, call it, print."""

from __future__ import annotations

import io
import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import verydeep
from verydeep import arguments
from verydeep.arguments import (
    DATA_HELP,
    MODEL_HELP,
    VERBS,
    WEIGHTS_VERBS,
    WORDS,
    config_arguments,
    config_of,
    numbers_in,
)
from verydeep.errors import ConfigError, VeryDeepError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


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
    verb = words[0]
    if verb not in VERBS:
        return fail(f"verydeep: {verb!r} is not a verb; expected one of {', '.join(VERBS)}", 2)
    try:
        from PIL.Image import DecompressionBombWarning  # our own limit of pixels is stricter

        with warnings.catch_warnings(action="ignore", category=DecompressionBombWarning):
            warnings.showwarning = lambda message, *where, **more: print(f"warning: {message}", file=sys.stderr)
            args = parse(verb, words[1:])
            return int(globals()[f"run_{verb}"](args))
    except VeryDeepError as e:
        return fail(f"verydeep {verb}: {e}", e.exit_code)
    except KeyboardInterrupt:
        return fail(f"verydeep {verb}: interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as e:
        return fail(f"verydeep {verb}: {e.filename or 'the system'}: {e.strerror or e}", 1)


def usage() -> str:
    lines = [f"verydeep {verydeep.__version__}: the VGG paper as working software", "", "usage: verydeep VERB ...", ""]
    lines += [f"  {verb:<10}{words}" for verb, words in VERBS.items()]
    return "\n".join(
        [*lines, "", "verydeep VERB --help tells what a verb takes.", f"DATA: {DATA_HELP}.", f"MODEL: {MODEL_HELP}."]
    )


def fail(message: str, status: int) -> int:
    print(message, file=sys.stderr, flush=True)
    return status


def parse(verb: str, words: list[str]) -> Namespace:
    """The arguments of a verb. Raises ConfigError with one line for wrong usage."""
    import jsonargparse

    if verb == "study" and any(word.split("=")[0] == "--net" for word in words):
        raise ConfigError("net: a study trains several; give --nets, such as --nets A,B")
    parser = arguments.parser_of(verb)
    if verb == "weights" and words and words[0] in WEIGHTS_VERBS:
        parser.prog, parser.description, words = (
            f"verydeep weights {words[0]}",
            WEIGHTS_VERBS[words[0]],
            ["--verb", *words],
        )
    (globals() | vars(arguments))[f"{verb}_arguments"](parser, *words[1:2] * (verb == "weights"))
    given = words
    if verb in ("train", "demo", "study"):
        words = arguments.recipe_first(arguments.bracketed(words), "demo" if verb == "demo" else None)
    try:
        args = parser.parse_args(arguments.start_first(words) if verb == "train" else words)
    except jsonargparse.ArgumentError as e:
        raise ConfigError(f"{arguments.plainly(str(e))}; see {parser.prog} --help") from e
    if verb == "train":
        arguments.need_start(given, args.init_from)
    return args


def demo_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="the run folder")
    config_arguments(parser)


def run_demo(args: Namespace) -> int:
    from verydeep.demo import demo

    record = demo(config_of(args), args.out)
    if args.json:
        print(json.dumps(record))
        return 0
    print_results(record["results"])
    for a in record["answers"]:
        print(f"test photo {a['photo']}: {a['answer']} ({100 * a['probability']:.1f} %), in truth {a['truth']}")
    print(f"the report: {record['report']}")
    return 0


def check_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    parser.add_argument("--page", type=Path, metavar="FILE", help="write one HTML page with thumbnails there")
    parser.add_argument("--workers", type=int, default=-1, help="threads that decode photos; -1 chooses")
    parser.add_argument("--download", action="store_true", help="fetch a built-in data set that is not at hand")
    parser.add_argument("--json", action="store_true", help="print one machine-readable object on stdout")


def run_check(args: Namespace) -> int:
    from verydeep.doctor import check, check_text

    record = check(args.data, args.download, args.workers, args.page)
    print(json.dumps(record) if args.json else check_text(record))
    return 0


def train_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="RUN", help="the run folder; an interrupted one goes on"
    )
    parser.add_argument(
        "--from",
        metavar="MODEL",
        help="fine-tune this model, whose net, crop and S are the defaults then; as --init_from",
    )
    parser.add_argument("--download", action="store_true", help="fetch a built-in data set that is not at hand")
    config_arguments(parser)


def run_train(args: Namespace) -> int:
    from verydeep.experiment import experiment
    from verydeep.ranks import joined

    with joined() as ranks:
        record = experiment(args.data, config_of(args), args.out, args.download, ranks)
    if not ranks.first:
        return 0
    if args.json:
        print(json.dumps(record))
        return 0
    print_results(record["results"])
    print(f"the report: {record['report']}")
    return 0


def study_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="the study's folder; an interrupted one goes on, or grows",
    )
    parser.add_argument("--nets", default="A,A-LRN,B,C,D,E", help=WORDS["nets"])
    parser.add_argument("--seeds", default="0", help=WORDS["seeds"])
    parser.add_argument(
        "--train_scales", type=Literal["table3", "first", "all"], default="table3", help=WORDS["train_scales"]
    )
    parser.add_argument("--tuning_epochs", type=int | None, help=WORDS["tuning_epochs"])
    parser.add_argument(
        "--test_photos", type=int | None, metavar="N", help="test on the first N photos only; null: on all"
    )
    parser.add_argument(
        "--crops_photos", type=int | None, metavar="N", help="test crops on the first N photos only; null: on all"
    )
    parser.add_argument(
        "--dry_run",
        "--dry-run",
        action="store_true",
        help="say what would be done and how long it would take; write nothing",
    )
    parser.add_argument("--download", action="store_true", help="fetch a built-in data set that is not at hand")
    config_arguments(parser)


def run_study(args: Namespace) -> int:
    from verydeep.ranks import joined
    from verydeep.study import Asked, dry_run, plan_text, study, summary

    asked = Asked(
        args.nets.split(","),
        numbers_in("seeds", args.seeds),
        args.train_scales,
        args.tuning_epochs,
        args.crops_photos,
        args.test_photos,
    )
    if args.dry_run:
        record = dry_run(args.data, config_of(args), asked, args.out, args.download)
        print(json.dumps(record) if args.json else plan_text(record))
        return 0
    with joined() as ranks:
        record = study(args.data, config_of(args), asked, args.out, args.download, ranks)
    if ranks.first:
        print(json.dumps(record) if args.json else summary(record, args.out))
    return 0


def evaluate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    parser.add_argument("--protocol", default="centre,dense", help=WORDS["protocol"])
    parser.add_argument("--scales", default="single", metavar="Q", help=WORDS["scales"])
    parser.add_argument("--split", help="train, val or test; null: test if DATA has it, else val, else all photos")
    parser.add_argument(
        "--mirror", type=bool | None, help="average with the mirror image; null: yes, except for the centre crop"
    )
    parser.add_argument("--average", type=Literal["scores", "posteriors"], default="scores", help=WORDS["average"])
    parser.add_argument("--pooling", type=Literal["up", "down"] | None, help=WORDS["pooling"])
    parser.add_argument(
        "--precision", type=Literal["fp32", "bf16"], default="fp32", help="arithmetic (default: %(default)s)"
    )
    parser.add_argument(
        "--device", type=Literal["auto", "cpu", "cuda"], default="auto", help="where to compute (default: %(default)s)"
    )
    parser.add_argument(
        "--batch", type=int, default=32, help="photos or crops that go through the net at once (default: %(default)s)"
    )
    parser.add_argument(
        "--limit", type=int | None, metavar="N", help="test only the first N photos of the split; null: all"
    )
    parser.add_argument("--save", type=Path | None, metavar="FILE", help=WORDS["save"])
    parser.add_argument("--workers", type=int, default=-1, help="threads that decode photos; -1 chooses")
    parser.add_argument("--bad_photos", type=Literal["stop", "skip"], default="stop", help=WORDS["bad_photos"])
    parser.add_argument("--long_photos", type=Literal["stop", "middle"], default="stop", help=WORDS["long_photos"])
    parser.add_argument("--download", action="store_true", help="fetch a built-in data set that is not at hand")
    parser.add_argument("--json", action="store_true", help="print one machine-readable object on stdout")


def run_evaluate(args: Namespace) -> int:
    from verydeep.evaluate.models import evaluate_models
    from verydeep.evaluate.passes import Settings
    from verydeep.evaluate.views import protocols_in, scales_in
    from verydeep.hardware import device_for, multiplies_bf16
    from verydeep.ranks import joined

    protocols, scales = protocols_in(args.protocol), scales_in(args.scales)
    settings = Settings(
        args.mirror, args.precision, device_for(args.device).type, args.batch, args.workers, args.bad_photos, args.long_photos,
        args.average, args.pooling,
    )  # fmt: skip
    with joined() as ranks:
        if ranks.first and args.precision == "fp32" and multiplies_bf16(device_for(args.device)):
            print(
                "hint: --precision bf16 is several times faster on this machine; fp32 is the default because figures are quoted",
                file=sys.stderr,
            )
        results = evaluate_models(
            args.models, args.data, protocols, scales, args.split, settings, limit=args.limit, save=args.save, download=args.download,
            ranks=ranks,
        )  # fmt: skip
    if not ranks.first:
        return 0
    if args.json:
        print(json.dumps({"results": results}))
    else:
        print_results(results)
    return 0


def print_results(results: list[dict[str, Any]]) -> None:
    from verydeep.report.tables import results_text

    print(results_text(results))


def predict_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument(
        "photos", nargs="+", metavar="PHOTO_OR_FOLDER", help="photos, or folders of photos at any depth"
    )
    parser.add_argument("--top", type=int, default=5, help="classes a photo (default: %(default)s)")
    parser.add_argument(
        "--protocol",
        type=Literal["centre", "dense"],
        default="centre",
        help="centre crop or the whole photo (default: %(default)s)",
    )
    parser.add_argument(
        "--device", type=Literal["auto", "cpu", "cuda"], default="auto", help="where to compute (default: %(default)s)"
    )
    parser.add_argument("--workers", type=int, default=-1, help="threads that decode photos; -1 chooses")
    parser.add_argument("--json", action="store_true", help="one object a line: photo, classes, error")
    parser.add_argument("--csv", action="store_true", help="one class a line: photo, rank, class, probability, error")


def run_predict(args: Namespace) -> int:
    if args.json and args.csv:
        raise ConfigError("json and csv: the output has one form; give one of them")
    from verydeep.predict import photos_in, predictions, print_rows
    from verydeep.weights import load

    classifier = load(args.model)
    rows = predictions(classifier, photos_in(args.photos), args.top, args.protocol, args.device, args.workers)
    errors = print_rows(rows, "json" if args.json else "csv" if args.csv else "table")
    return fail(f"verydeep predict: {errors} of the photos could not be read", 1) if errors else 0


def report_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders")
    parser.add_argument("--json", action="store_true", help="print one machine-readable object on stdout")


def run_report(args: Namespace) -> int:
    from verydeep.experiment import report_run

    pages = [str(report_run(run)) for run in args.runs]
    print(json.dumps({"reports": pages}) if args.json else "\n".join(pages))
    return 0


def run_pack(args: Namespace) -> int:
    from verydeep.shards import Settings, pack, summary

    settings = Settings(args.smallest_side, args.shard_mb, args.seed, args.bad_photos, args.workers)
    record = pack(args.data, args.out, settings, args.download)
    print(json.dumps(record) if args.json else summary(record))
    return 0


def run_weights(args: Namespace) -> int:
    from verydeep import weights

    given = {k: v for k, v in vars(args).items() if k not in ("verb", "json")}
    done, text = {
        "list": (weights.list_published, weights.list_text), "fetch": (weights.fetch_published, weights.fetched_text),
        "convert": (weights.convert_model, lambda r: r["words"]), "show": (weights.show_model, weights.show_text),
        "verify": (weights.verify_model, weights.verify_text),
    }[args.verb]  # fmt: skip
    record: Any = done(**given)  # type: ignore[operator]
    print(json.dumps(record) if args.json else text(record))  # type: ignore[operator]
    return 1 if args.verb == "verify" and not record["good"] else 0
