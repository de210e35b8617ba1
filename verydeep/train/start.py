"""Where a net starts: random weights, or another net's with its input (section 3.1, appendix A)."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from verydeep.config import Config
from verydeep.contract import Contract, class_key
from verydeep.data.reading import workers_for
from verydeep.data.record import DataSet, Photos
from verydeep.data.statistics import Statistics, measure
from verydeep.errors import ConfigError
from verydeep.files.disk import read_sealed, write_sealed
from verydeep.files.records import record_of
from verydeep.files.tensors import checksum
from verydeep.net.classifier import Classifier, build
from verydeep.net.initialise import copy_layers, initialise
from verydeep.run import Run
from verydeep.train.skipped import Skipped
from verydeep.weights import Features, load_start

SAFE_RATE = 3e-4  # for FC layers that are all new (docs/results/finetuning.md)
LONGEST_ORIGIN = 300  # characters: a net that started from one that started from one ...
Triple = tuple[float, float, float]


class Inherited(NamedTuple):
    """What a run takes over from the contract of the net it starts from; colours in 0-255 units."""

    mean: Triple
    std: Triple
    origin: str
    licence: str


def start_of(config: Config, resumes: bool) -> Classifier | None:
    """The net that a new run starts from, if it starts from one. Raises ModelError.

    Of a file without FC layers those of the result are of a size that fits nothing, so that none is taken from it.
    """
    if not config.init_from or resumes:
        return None
    found = load_start(config.init_from)
    if isinstance(found, Features):
        return found.classifier(("",), config.crop, fc_width=1 if config.fc_width > 1 else 2)
    return found


def inherited(run: Run, start: Classifier | None) -> Inherited | None:
    """What a run takes over from its start, which one that goes on has written down; None from random weights."""
    if start:
        return of_contract(start.contract)
    file = run.path / "run.json"
    kept = read_sealed(file).get("started_from", {}) if file.exists() else {}
    if "mean" not in kept:  # random weights, or a run of a version that measured its own mean
        return None
    return record_of(Inherited, {name: kept[name] for name in Inherited._fields})


def of_contract(c: Contract) -> Inherited:
    return Inherited(c.mean, c.std, c.origin[:LONGEST_ORIGIN], c.licence)


def statistics_of(run: Run, photos: Photos, config: Config, taken: Inherited | None) -> Statistics:
    """Statistics of the training photos, measured once and kept in the run; not measured where nothing needs them."""
    file = run.path / "statistics.json"
    if file.exists():
        return record_of(Statistics, read_sealed(file))
    if taken and config.colour == "off":
        return Statistics(taken.mean, ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), (0.0, 0.0, 0.0), 0)
    skipped, workers = Skipped(run, photos, config.bad_photos), workers_for(config.workers, photos.in_memory)
    found = measure(photos, sum(config.scales) // 2, config.seed, workers, skipped)
    write_sealed(file, found._asdict())
    return found


def begin(
    config: Config, data: DataSet, statistics: Statistics, taken: Inherited | None, answers: Mapping[str, object] = {}
) -> Classifier:
    """A new Classifier with its contract; mean, standard deviation and licence are those of its start."""
    red, green, blue = (round(v, 4) for v in statistics.mean)
    spread = max(round(math.sqrt(sum(statistics.eigenvalues) / 3), 4), 1.0)
    std = (spread if config.input_std == "measured" else config.input_std,) * 3
    mean, origin = (red, green, blue), f"trained by verydeep on {data.name}"
    if taken:
        mean, std = taken.mean, taken.std if config.input_std in (1, "measured") else std
        origin = f"{origin}, from a net {taken.origin or 'of unknown origin'}"
    contract = Contract.of(
        config.shape(len(data.classes)), data.classes, mean=mean, std=std, scales=config.scales, origin=origin,
        licence=taken.licence if taken else "", reading=config.reading, flip=config.flip, **answers,
    )  # fmt: skip
    classifier = build(contract, drawn=False)
    classifier.net.dropout = config.dropout
    return classifier


def first_weights(run: Run, classifier: Classifier, config: Config, start: Classifier | None) -> None:
    """Random weights, then those of another net where one is named."""
    sigma = math.sqrt(config.init_variance) if config.init_variance else config.init_sigma
    initialise(classifier.net, config.init, config.seed, sigma)
    if start and config.init_from:
        start_from(run, classifier, config.init_from, start, config)


def start_from(run: Run, classifier: Classifier, model: str, start: Classifier, config: Config) -> None:
    """All layers of the same net, or what deeper nets take from a shallower one; the run remembers it (section 3.1).

    The last layer is new unless the classes are the same. Raises ConfigError where a layer that shall be frozen is new.
    """
    net, given = classifier.net, start.contract
    same = start.net.name == net.name
    wanted = classifier.contract
    last = given.task == wanted.task and [*map(class_key, given.classes)] == [*map(class_key, wanted.classes)]
    pairs = copy_layers(net, start.net, last)
    copied = {pair.split(" -> ")[1] for pair in pairs}
    fresh = [name for name, _ in net.named_children() if name not in copied]
    if config.freeze:
        net.freeze(config.freeze)
        if random := next((name for name in fresh if name in net.frozen), None):
            raise ConfigError(
                f"freeze and init_from: {random} is not taken from {model}, so it starts random; freeze fewer layers"
            )
    names = [pair.split(" -> ")[0] for pair in pairs]
    what = ", ".join(names if same else pairs) if fresh or not same else f"all layers of net {net.name}"
    for kind, why in (("conv", "not taken from it"), ("fc", "of another shape or other classes")):
        if some := [name for name in fresh if name.startswith(kind)]:
            what += f"; {why} and random: {', '.join(some)}"
    if "fc6" in fresh and config.lr * config.lr_fc > SAFE_RATE:
        what += "; should the loss rise, take --recipe finetune-features, which trains new FC layers more slowly"
    used = {n: t for n, t in start.net.state_dict().items() if n.split(".")[0] in names}
    sha256 = given.sha256 or checksum(used)
    run.say(f"copied from {model} (SHA-256 {sha256}): {what}")
    if run.writes:
        origin = {"path": model, "sha256": sha256, "net": start.net.name, "copied": pairs}
        started = {"started_from": origin | of_contract(given)._asdict()}
        write_sealed(run.path / "run.json", read_sealed(run.path / "run.json") | started)
