"""Fine-tuning: what a start gives, what is frozen, the factors of the rate, and a resume to the bit."""

from pathlib import Path

import pytest
import tiny
import torch
import yaml
from tiny import job_of, step_of

import verydeep
from verydeep.cli import main
from verydeep.contract import Contract
from verydeep.errors import ConfigError, ModelError
from verydeep.files.disk import read_sealed, write_sealed
from verydeep.net.classifier import build
from verydeep.recipes import recipe_file
from verydeep.run import Run, read_config
from verydeep.train.start import SAFE_RATE, Inherited, inherited
from verydeep.weights import torchvision
from verydeep.weights.inputs import ContractWarning
from verydeep.weights.model import load_or_features

data = tiny.data  # three classes that the start does not know
MEAN, STD = (120.5, 110.25, 100.125), (58.0, 57.0, 57.5)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Makes files of nets, of ten classes unless told otherwise, with a mean and a divisor of their own."""

    def make(classes=tuple("abcdefghij"), bn=False, mean=MEAN, std=STD):
        told = {"origin": "a test", "licence": "CC BY 4.0"}
        torch.manual_seed(5)
        classifier = build(Contract("A", classes, 32, 16, 4, bn, "up", mean, std, (36, 40), **told))
        for p in classifier.net.parameters():
            torch.nn.init.uniform_(p, -0.3, 0.3)
        for m in classifier.net.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                m.running_mean.uniform_(-1, 1)
                m.running_var.uniform_(0.5, 2)
        path = tmp_path_factory.mktemp("start") / "start.safetensors"
        classifier.save(path)
        return str(path)

    return make


@pytest.fixture(scope="module")
def start(made):
    return made()


def weights(model):
    return verydeep.load(model).net.state_dict()


def log(run):
    return (run / "log.txt").read_text()


def test_the_start_gives_all_but_the_last_layer_and_what_it_expects(data, tmp_path, start):
    job = job_of(data, tmp_path / "run", init_from=start)
    net, contract, given = job.classifier.net, job.classifier.contract, weights(start)
    assert all(torch.equal(t, given[n]) for n, t in net.state_dict().items() if not n.startswith("fc8"))
    assert net.fc8.weight.shape == (3, 16)
    assert not net.fc8.bias.any()
    assert (contract.mean, contract.std, contract.licence) == (MEAN, STD, "CC BY 4.0")
    assert "from a net a test" in contract.origin
    assert torch.equal(job.classifier.mean.flatten(), torch.tensor(MEAN))
    kept = read_sealed(tmp_path / "run" / "run.json")["started_from"]
    assert (kept["path"], kept["mean"], kept["licence"]) == (start, list(MEAN), "CC BY 4.0")
    assert "not taken" not in log(tmp_path / "run")
    own = job_of(data, tmp_path / "own", init_from=start, input_std=50.0).classifier.contract
    assert (own.mean, own.std) == (MEAN, (50.0, 50.0, 50.0))  # a divisor of one's own overrules that of the start


@pytest.mark.parametrize(("classes", "kept"), [("c0 c1 c2", True), ("c0 c2 c1", False), ("x y z", False)])
def test_the_last_layer_stays_only_where_the_classes_are_the_same(data, tmp_path, made, classes, kept):
    start = made(classes=tuple(classes.split()))
    net = job_of(data, tmp_path / "run", init_from=start).classifier.net
    assert torch.equal(net.fc8.weight, weights(start)["fc8.weight"]) == kept


def test_a_deeper_net_says_which_layers_it_does_not_take(data, tmp_path, start):
    """By shape and order conv1_1, conv2_1, conv3_1 and conv3_2 go over; B has ten convolutions, A no conv1_2 or 2_2."""
    net, given = job_of(data, tmp_path / "run", init_from=start, net="B").classifier.net.state_dict(), weights(start)
    assert all(
        torch.equal(net[n], given[n]) for n in ("conv1_1.weight", "conv2_1.weight", "conv3_1.bias", "fc7.weight")
    )
    random = "conv1_2, conv2_2, conv4_1, conv4_2, conv5_1, conv5_2"
    assert f"fc7 -> fc7; not taken from it and random: {random}; of another shape" in log(tmp_path / "run")


LAYERS = ["conv1_1", "conv2_1", "conv3_1", "conv3_2", "conv4_1", "conv4_2", "conv5_1", "conv5_2", "fc6", "fc7", "fc8"]


def names_upto(net, last):
    """Layers of net A by hand: the convolutions up to one, their batch normalisation, and FC layers."""
    upto = LAYERS[: LAYERS.index(last) + 1]
    return {n for n in net.state_dict() if n.split(".")[0].replace("bn", "conv") in upto}


def unchanged(run, start):
    """The names of tensors that a run left as they were in its start."""
    found, given = weights(run), weights(start)
    return {n for n, t in found.items() if t.shape == given[n].shape and torch.equal(t, given[n])}


@pytest.mark.parametrize(
    ("freeze", "last"), [("conv3_1", "conv3_1"), ("relu3_2", "conv3_2"), ("pool4", "conv4_2"), ("fc7", "fc7")]
)
def test_frozen_layers_stay_equal_to_the_bit_and_the_others_do_not(data, tmp_path, start, freeze, last):
    """Photos are not measured, which only a shift of their colours needs."""
    run = tmp_path / "run"
    tiny.go(data, run, init_from=start, freeze=freeze, weight_decay=0.5, colour="off")
    assert unchanged(run, start) == names_upto(verydeep.load(run).net, last)
    assert not (run / "statistics.json").exists()


def test_frozen_layers_get_no_gradient_and_keep_and_use_their_statistics(data, tmp_path, made):
    changes = {"init_from": (start := made(bn=True)), "batch_norm": True, "freeze": "conv4_1"}
    tiny.go(data, tmp_path / "run", **changes)
    given = verydeep.load(start).net.eval()
    frozen = names_upto(given, "conv4_1")
    assert unchanged(tmp_path / "run", start) == frozen
    assert {"bn4_1.running_mean", "bn4_1.num_batches_tracked"} <= frozen
    job = job_of(data, tmp_path / "again", **changes)
    net, batch = job.classifier.train().net, next(job.batches.epoch(0))
    here, there = (n.taps(job.classifier.normalise(batch.photos), ["relu4_1"])["relu4_1"] for n in (net, given))
    assert torch.equal(here, there)
    assert not here.requires_grad  # nor is a graph kept
    step_of(job, batch)
    without = {n for n, p in net.named_parameters() if p.grad is None}
    assert without == frozen & {n for n, _ in net.named_parameters()}


def test_each_part_takes_its_factor_of_the_rate_by_hand(data, tmp_path, start):
    """One step in fp32 from the same start: w - factor * rate * (g + decay w)."""
    changes = {"dropout": 0.0, "batch": 30, "epochs": 1, "lr": 1e-3, "weight_decay": 0.1, "init_from": start}
    changes |= {"lr_features": 0.5, "lr_fc": 2.0, "lr_last": 10.0}
    job = job_of(data, tmp_path / "by-hand", **changes)
    job.classifier.train()
    (batch,) = job.batches.epoch(0)
    step_of(job, batch)
    tiny.go(data, tmp_path / "run", **changes)
    found = weights(tmp_path / "run")
    for name, p in job.classifier.net.named_parameters():
        factor = 10.0 if name.startswith("fc8") else 2.0 if name.startswith("fc") else 0.5
        expected = p - factor * 1e-3 * (p.grad + 0.1 * p)
        assert not torch.equal(expected, p), name
        assert torch.allclose(found[name] - p, expected - p, rtol=1e-2, atol=1e-7), name


FREEZABLE = "expected one of conv1_1, pool1, .*, pool5, fc6, fc7$"
REFUSED = [
    ({"freeze": "conv9_9"}, f"^freeze: 'conv9_9' is no layer of net A; {FREEZABLE}"),
    ({"freeze": "POOL3"}, r"^freeze: 'POOL3' is no layer of net A; did you mean pool3\?$"),
    ({"freeze": "conv3_3"}, r"^freeze: 'conv3_3' is no layer of net A; did you mean conv3_[12]\?$"),
    ({"freeze": "fc8"}, "^freeze: fc8 is the last layer of net A, so nothing would be left to train; try fc7"),
    ({"freeze": "pool3", "init_from": ""}, "^freeze and init_from"),
    ({"level": True, "batch_norm": True}, "^level and batch_norm"),
    ({"lr_last": 0.0}, "^lr_last: 0.0"),
    ({"freeze": "conv4_1", "net": "D"}, "freeze and init_from: .* is not taken from"),
    ({"freeze": "fc6", "fc_width": 8}, "freeze and init_from: fc6 is not taken from"),
    ({"base_width": 8}, "differs in shape"),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED)
def test_what_cannot_be_fine_tuned_is_said(data, tmp_path, start, changes, said):
    """And leaves no folder, where it is seen before the start is read."""
    with pytest.raises(ConfigError, match=said):
        tiny.go(data, tmp_path / "run", **({"init_from": start} | changes))
    assert (tmp_path / "run").exists() == (not said.startswith("^"))


@pytest.mark.parametrize("step", [0, 4, 6])
@pytest.mark.parametrize("bn", [False, True])
def test_an_interrupted_fine_tuning_is_the_uninterrupted_one(data, tmp_path, made, step, bn):
    """Without the file that it started from."""
    changes = {"init_from": (start := made(bn=bn)), "batch_norm": bn, "freeze": "pool3", "lr_last": 10.0}
    reference = tiny.end_of(data, tmp_path / "reference", **changes)
    tiny.stop(data, tmp_path / "run", step, **changes)
    Path(start).unlink()
    assert tiny.end_of(data, tmp_path / "run", **changes) == reference
    assert verydeep.load(tmp_path / "run").contract == verydeep.load(tmp_path / "reference").contract


def test_an_older_run_that_wrote_no_mean_down_goes_on_with_its_own(data, tmp_path, start):
    """It had measured its photos' mean, which its statistics hold; one that writes its start's mean takes that."""
    run = Run(tmp_path / "run")
    tiny.go(data, run.path, init_from=start, epochs=1)
    assert inherited(run, None) == Inherited(MEAN, STD, "a test", "CC BY 4.0")
    kept = read_sealed(run.path / "run.json")
    older = {name: kept["started_from"][name] for name in ("path", "sha256", "net", "copied")}
    write_sealed(run.path / "run.json", {k: v for k, v in kept.items() if k != "seal"} | {"started_from": older})
    assert inherited(run, None) is None
    contract = job_of(data, run.path, init_from=start, epochs=1).classifier.contract
    assert contract.mean == pytest.approx(read_sealed(run.path / "statistics.json")["mean"], abs=1e-4)
    assert contract.mean != pytest.approx(MEAN)
    assert contract.std == (1.0, 1.0, 1.0)


def test_the_command_line_fine_tunes_and_goes_on(data, tmp_path, made, capsys):
    """The start gives the shape of the net, and fields overrule it."""
    start, run = made(), tmp_path / "run"
    words = f"train {data} --recipe finetune --out {run} --freeze pool3 --epochs 1 --device cpu --workers 0".split()
    assert main([*words, "--from", "nowhere"]) == 1
    assert "nowhere" in capsys.readouterr().err
    assert main([*words, "--from", start, "--pooling", "down"]) == 0
    Path(start).unlink()  # a run that goes on does not need it
    assert main([*words, f"--from={start}", "--pooling", "down"]) == 0
    said = capsys.readouterr().err
    assert "of another shape or other classes and random: fc8" in said
    assert "mean RGB 120.50, 110.25, 100.12 of the net it starts from" in said
    assert "frozen up to pool3" in said
    assert "is finished" in said
    c = read_config(run)
    assert (c.net, c.crop, c.scale, c.fc_width, c.base_width) == ("A", 32, (36, 40), 16, 4)
    assert (c.init_from, c.pooling, c.lr_last) == (start, "down", 10)


def test_the_recipe_for_new_fc_layers_is_the_one_that_the_hint_names():
    """Within it nobody is told to take it, and above its rate everybody is."""
    recipe = yaml.safe_load(recipe_file("finetune-features").read_text())
    assert recipe["lr"] * recipe.get("lr_fc", 1) == SAFE_RATE


@pytest.mark.filterwarnings("default")
def test_convolutions_alone_are_a_start_with_fresh_fc_layers(data, tmp_path, made, capsys):
    """A file of torchvision's without its classifier; the run takes its crop and S from the configuration."""
    run, mean = tmp_path / "run", (123.675, 116.28, 103.53)
    given = weights(made(mean=mean, std=(58.395, 57.12, 57.375)))
    torchvision.write({n: t for n, t in given.items() if n.startswith("conv")}, path := tmp_path / "x.safetensors")
    words = (
        f"train {data} --from {path} --out {run} --scale 36 --fc_width 16 --epochs 1 --workers 0 --device cpu".split()
    )
    for more, said in (("pool5", "scale and crop"), ("fc6 --crop 32", "fc6 is not taken from")):
        assert main([*words, "--freeze", *more.split()]) == 2
        assert said in capsys.readouterr().err
    assert main([*words, "--crop", "32", "--freeze", "pool5"]) == 0
    assert f"warning: {path}" in capsys.readouterr().err
    random = "conv5_2; of another shape or other classes and random: fc6, fc7, fc8"
    assert f"{random}; should the loss rise, take --recipe finetune-fe" in log(run)
    found = verydeep.load(run)
    assert all(torch.equal(t, given[n]) for n, t in found.net.state_dict().items() if n.startswith("conv"))
    assert [getattr(found.net, fc).weight.shape[0] for fc in ("fc6", "fc7", "fc8")] == [16, 16, 3]
    assert found.contract.mean == pytest.approx(mean)


def test_another_head_is_left_aside_and_said_unless_it_is_damaged(data, tmp_path, start):
    """Two FC layers of somebody's own on torchvision's convolutions: a start, and no model."""
    given, path = weights(start), tmp_path / "x.pth"
    state = torchvision.theirs(given)
    torch.save({n: t for n, t in state.items() if not n.startswith("classifier.6")}, path)
    for strict in (verydeep.load, load_or_features):
        with pytest.raises(ModelError, match=r"has other layers than a VGG \(no fc8\)"):
            strict(f"{path}@rgb-255")
    with pytest.warns(ContractWarning) as warned:
        job = job_of(data, tmp_path / "run", init_from=f"{path}@RGB:120,110,100:58,57,56")
    assert all(str(w.message).startswith(f"{path}: only the convolutions are taken: it has") for w in warned)
    assert torch.equal(job.classifier.net.conv5_1.weight, given["conv5_1.weight"])
    assert (job.classifier.contract.mean, job.classifier.contract.std) == ((120.0, 110.0, 100.0), (58.0, 57.0, 56.0))
    torch.save(state | {"classifier.3.weight": state["classifier.3.weight"] * torch.nan}, path)
    with pytest.raises(ModelError, match=r"fc7\.weight holds a value that is not finite"):
        job_of(data, tmp_path / "damaged", init_from=f"{path}@rgb-255")


def test_a_start_of_another_toolkit_is_written_down_with_its_checksum(data, tmp_path, start):
    given, path, sums = weights(start), tmp_path / "x.pth", []
    for run, more in (("run", 0), ("again", 0), ("other", 1)):
        torchvision.write({n: t + more for n, t in given.items()}, path)
        job_of(data, tmp_path / run, init_from=f"{path}@rgb-255", fc_width=8)  # other FC layers, which are random
        sums.append(read_sealed(tmp_path / run / "run.json")["started_from"]["sha256"])
    assert len(sums[0]) == 64
    assert sums[0] == sums[1] != sums[2]
