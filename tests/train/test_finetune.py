"""Fine-tuning: what a start gives, what is frozen, the factors of the rate, and a resume to the bit."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import tiny
import torch
import yaml
from test_training import job_of, step_of, stopped_at

import verydeep
from verydeep.cli import main
from verydeep.contract import Contract
from verydeep.errors import ConfigError, Interrupted, ModelError
from verydeep.files.disk import read_sealed, write_sealed
from verydeep.net.classifier import build
from verydeep.recipes import layered, recipe_file
from verydeep.run import Run, read_config
from verydeep.train.start import SAFE_RATE, Inherited, inherited
from verydeep.weights import torchvision
from verydeep.weights.eats import ContractWarning
from verydeep.weights.model import load_or_features


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three classes that the start does not know."""
    return tiny.make_photos(tmp_path_factory.mktemp("photos"))


def made(tmp_path_factory, **changes):
    """A net of ten classes with a mean and a divisor of its own."""
    values = {
        "net": "A", "classes": tuple("abcdefghij"), "crop": 32, "fc_width": 16, "base_width": 4, "batch_norm": False,
        "pooling": "up", "mean": (120.5, 110.25, 100.125), "std": (58.0, 57.0, 57.5), "scales": (36, 40),
        "origin": "a test",
        "licence": "CC BY 4.0",
    } | changes  # fmt: skip
    torch.manual_seed(5)
    classifier = build(Contract(**values))
    for p in classifier.net.parameters():
        torch.nn.init.uniform_(p, -0.3, 0.3)
    for m in classifier.net.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.uniform_(-1, 1)
            m.running_var.uniform_(0.5, 2)
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    classifier.save(path)
    return str(path)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return made(tmp_path_factory)


@pytest.fixture(scope="module")
def normed(tmp_path_factory):
    return made(tmp_path_factory, batch_norm=True)


def tuned(data, run, start, **changes):
    tiny.go(data, run, init_from=start, **changes)
    return verydeep.load(run)


def test_the_start_gives_all_but_the_last_layer_and_what_it_eats(data, tmp_path, start):
    given = verydeep.load(start)
    job = job_of(data, tmp_path / "run", init_from=start)
    net, contract = job.classifier.net, job.classifier.contract
    assert all(
        torch.equal(t, given.net.state_dict()[n]) for n, t in net.state_dict().items() if not n.startswith("fc8")
    )
    assert net.fc8.weight.shape == (3, 16)
    assert not net.fc8.bias.any()
    assert (contract.mean, contract.std, contract.licence) == (given.contract.mean, given.contract.std, "CC BY 4.0")
    assert "from a net a test" in contract.origin
    assert torch.equal(job.classifier.mean.flatten(), torch.tensor([120.5, 110.25, 100.125]))
    kept = read_sealed(tmp_path / "run" / "run.json")["started_from"]
    assert (kept["path"], kept["mean"], kept["licence"]) == (start, [120.5, 110.25, 100.125], "CC BY 4.0")


def test_a_divisor_of_ones_own_overrules_that_of_the_start(data, tmp_path, start):
    contract = job_of(data, tmp_path / "run", init_from=start, input_std=50.0).classifier.contract
    assert (contract.mean, contract.std) == ((120.5, 110.25, 100.125), (50.0, 50.0, 50.0))


@pytest.mark.parametrize(
    ("classes", "kept"), [(("c0", "c1", "c2"), True), (("c0", "c2", "c1"), False), (("x", "y", "z"), False)]
)
def test_the_last_layer_stays_only_where_the_classes_are_the_same(data, tmp_path, tmp_path_factory, classes, kept):
    start = made(tmp_path_factory, classes=classes)
    net = job_of(data, tmp_path / "run", init_from=start).classifier.net
    assert torch.equal(net.fc8.weight, verydeep.load(start).net.fc8.weight) == kept


def test_without_a_colour_shift_the_new_photos_are_not_measured(data, tmp_path, start):
    tuned(data, tmp_path / "run", start, colour="off", epochs=1)
    assert not (tmp_path / "run" / "statistics.json").exists()


def names_upto(net, last):
    """Layers by hand: the convolutions of net A up to one, their batch normalisation, and FC layers."""
    order = [
        "conv1_1",
        "conv2_1",
        "conv3_1",
        "conv3_2",
        "conv4_1",
        "conv4_2",
        "conv5_1",
        "conv5_2",
        "fc6",
        "fc7",
        "fc8",
    ]
    upto = order[: order.index(last) + 1]
    return {n for n in net.state_dict() if n.split(".")[0].replace("bn", "conv") in upto}


@pytest.mark.parametrize(
    ("freeze", "last"), [("conv3_1", "conv3_1"), ("relu3_2", "conv3_2"), ("pool4", "conv4_2"), ("fc7", "fc7")]
)
def test_frozen_layers_stay_equal_to_the_bit_and_the_others_do_not(data, tmp_path, start, freeze, last):
    found, given = tuned(data, tmp_path / "run", start, freeze=freeze, weight_decay=0.5).net, verydeep.load(start).net
    frozen = names_upto(found, last)
    same = {
        n for n, t in found.state_dict().items() if n in given.state_dict() and t.shape == given.state_dict()[n].shape
    }
    same = {n for n in same if torch.equal(found.state_dict()[n], given.state_dict()[n])}
    assert same == frozen


def test_frozen_batch_normalisation_keeps_its_statistics_and_uses_them(data, tmp_path, normed):
    found, given = (
        tuned(data, tmp_path / "run", normed, batch_norm=True, freeze="conv4_1").net,
        verydeep.load(normed).net,
    )
    frozen = names_upto(found, "conv4_1")
    assert {
        n
        for n in given.state_dict()
        if not n.startswith("fc8") and torch.equal(found.state_dict()[n], given.state_dict()[n])
    } == frozen
    assert {"bn4_1.running_mean", "bn4_1.num_batches_tracked"} <= frozen
    job = job_of(data, tmp_path / "again", init_from=normed, batch_norm=True, freeze="conv4_1")
    job.classifier.train()
    x = job.classifier.normalise(next(job.batches.epoch(0)).photos)
    assert torch.equal(job.classifier.net.taps(x, ["relu4_1"])["relu4_1"], given.eval().taps(x, ["relu4_1"])["relu4_1"])


def test_frozen_layers_get_no_gradient_and_their_activations_no_graph(data, tmp_path, start):
    job = job_of(data, tmp_path / "run", init_from=start, freeze="pool3")
    net = job.classifier.train().net
    batch = next(job.batches.epoch(0))
    assert not net.taps(job.classifier.normalise(batch.photos), ["pool3"])["pool3"].requires_grad
    step_of(job, batch, 0)
    assert {n for n, p in net.named_parameters() if p.grad is None} == names_upto(net, "conv3_2")


def test_each_part_takes_its_factor_of_the_rate_by_hand(data, tmp_path, start):
    """One step in fp32 from the same start: w - factor * rate * (g + decay w)."""
    changes = {"dropout": 0.0, "batch": 30, "epochs": 1, "lr": 1e-3, "weight_decay": 0.1, "init_from": start}
    changes |= {"lr_features": 0.5, "lr_fc": 2.0, "lr_last": 10.0}
    job = job_of(data, tmp_path / "by-hand", **changes)
    job.classifier.train()
    (batch,) = job.batches.epoch(0)
    step_of(job, batch, 0)
    tiny.go(data, tmp_path / "run", **changes)
    found = dict(verydeep.load(tmp_path / "run").net.named_parameters())
    for name, p in job.classifier.net.named_parameters():
        factor = 10.0 if name.startswith("fc8") else 2.0 if name.startswith("fc") else 0.5
        expected = p - factor * 1e-3 * (p.grad + 0.1 * p)
        assert not torch.equal(expected, p), name
        assert torch.allclose(found[name] - p, expected - p, rtol=1e-2, atol=1e-7), name


@pytest.mark.parametrize("step", [0, 4, 6])
@pytest.mark.parametrize("which", ["start", "normed"])
def test_an_interrupted_fine_tuning_is_the_uninterrupted_one(data, tmp_path, monkeypatch, request, step, which):
    changes = {
        "init_from": request.getfixturevalue(which),
        "batch_norm": which == "normed",
        "freeze": "pool3",
        "lr_last": 10.0,
    }
    tiny.go(data, tmp_path / "reference", **changes)
    stopped_at(step, monkeypatch, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Interrupted):
        tiny.go(data, tmp_path / "run", **changes)
    monkeypatch.undo()
    tiny.go(data, tmp_path / "run", **changes)
    assert tiny.left(tmp_path / "run") == tiny.left(tmp_path / "reference")
    assert verydeep.load(tmp_path / "run").contract == verydeep.load(tmp_path / "reference").contract


def test_a_run_goes_on_without_the_file_it_started_from(data, tmp_path, monkeypatch, tmp_path_factory):
    start = made(tmp_path_factory)
    tiny.go(data, tmp_path / "reference", init_from=start, freeze="pool2")
    stopped_at(6, monkeypatch, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Interrupted):
        tiny.go(data, tmp_path / "run", init_from=start, freeze="pool2")
    monkeypatch.undo()
    Path(start).unlink()
    tiny.go(data, tmp_path / "run", init_from=start, freeze="pool2")
    assert tiny.left(tmp_path / "run") == tiny.left(tmp_path / "reference")


def test_an_older_run_that_wrote_no_mean_down_goes_on_with_its_own(data, tmp_path, start):
    """It had measured its photos' mean, which its statistics hold; one that writes its start's mean takes that."""
    folder = tmp_path / "run"
    tiny.go(data, folder, init_from=start, epochs=1)
    run = Run(folder)
    assert inherited(run, None) == Inherited((120.5, 110.25, 100.125), (58.0, 57.0, 57.5), "a test", "CC BY 4.0")
    kept = read_sealed(folder / "run.json")
    older = {name: kept["started_from"][name] for name in ("path", "sha256", "net", "copied")}
    write_sealed(folder / "run.json", {k: v for k, v in kept.items() if k != "seal"} | {"started_from": older})
    assert inherited(run, None) is None
    job = job_of(data, folder, init_from=start, epochs=1)
    mean = read_sealed(folder / "statistics.json")["mean"]
    assert job.classifier.contract.mean == pytest.approx(mean, abs=1e-4)
    assert job.classifier.contract.mean != pytest.approx((120.5, 110.25, 100.125))
    assert job.classifier.contract.std == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"freeze": "conv9_9"},
            "freeze: 'conv9_9' is no layer of net A; layers are conv1_1, pool1, .*, pool5, fc6, fc7$",
        ),
        ({"freeze": "POOL3"}, "freeze: 'POOL3' is no layer of net A; try pool3$"),
        ({"freeze": "conv3_3"}, "freeze: 'conv3_3' is no layer of net A; try conv3_[12]$"),
        ({"freeze": "fc8"}, "freeze: fc8 is the last layer of net A, so nothing would be left to train; try fc7"),
        ({"freeze": "conv4_1", "net": "D"}, "freeze and init_from: .* is not taken from"),
        ({"freeze": "fc6", "fc_width": 8}, "freeze and init_from: fc6 is not taken from"),
        ({"base_width": 8}, "differs in shape"),
    ],
)
def test_what_cannot_be_fine_tuned_is_said(data, tmp_path, start, changes, said):
    with pytest.raises(ConfigError, match=said):
        job_of(data, tmp_path / "run", init_from=start, **changes)


@pytest.mark.parametrize("freeze", ["conv9_9", "POOL3", "fc8"])
def test_a_wrong_layer_to_freeze_leaves_no_folder(data, tmp_path, start, freeze):
    with pytest.raises(ConfigError, match="freeze: "):
        tiny.go(data, tmp_path / "run", init_from=start, freeze=freeze)
    assert not (tmp_path / "run").exists()


def test_a_deeper_net_says_which_layers_it_does_not_take(data, tmp_path, start):
    job_of(data, tmp_path / "run", init_from=start, net="B")
    log = (tmp_path / "run" / "log.txt").read_text()
    # By shape and order conv1_1, conv2_1, conv3_1 and conv3_2 go over; B has ten convolutions, A no conv1_2 or conv2_2.
    assert (
        "fc7 -> fc7; not taken from it and random: conv1_2, conv2_2, conv4_1, conv4_2, conv5_1, conv5_2; of another "
        "shape" in log
    )
    job_of(data, tmp_path / "same", init_from=start)
    assert "not taken" not in (tmp_path / "same" / "log.txt").read_text()


@pytest.mark.parametrize(
    ("changes", "said"), [({"freeze": "pool3"}, "freeze and init_from"), ({"lr_last": 0.0}, "lr_last: 0.0")]
)
def test_a_wrong_configuration_names_its_fields(changes, said):
    with pytest.raises(ConfigError, match=said):
        tiny.config(**changes)


def test_from_gives_the_shape_of_the_net_and_fields_overrule_it(start):
    found = layered("finetune", start=start, pooling="down")
    assert (found.net, found.crop, found.scale, found.fc_width, found.base_width) == ("A", 32, (36, 40), 16, 4)
    assert (found.init_from, found.pooling, found.lr) == (start, "down", 0.001)
    with pytest.raises(ModelError, match="nowhere"):
        layered(start="nowhere")


def test_the_command_line_fine_tunes_and_goes_on(data, tmp_path, start, capsys):
    words = [
        "train",
        data,
        "--from",
        start,
        "--recipe",
        "finetune",
        "--out",
        str(tmp_path / "run"),
        "--freeze",
        "pool3",
        "--epochs",
        "1",
    ]
    assert main([*words, "--workers", "0", "--device", "cpu"]) == 0
    said = capsys.readouterr().err
    Path(start).rename(tmp_path / "gone")  # a run that goes on does not need it
    assert main([*words, "--workers", "0", "--device", "cpu"]) == 0
    (tmp_path / "gone").rename(start)
    said += capsys.readouterr().err
    assert "of another shape or other classes and random: fc8" in said
    assert "mean RGB 120.50, 110.25, 100.12 of the net it starts from" in said
    assert "frozen up to pool3" in said
    assert "is finished" in said
    config = read_config(tmp_path / "run")
    assert (config.net, config.base_width, config.scale, config.init_from, config.lr_last) == (
        "A",
        4,
        (36, 40),
        start,
        10,
    )


def test_the_recipe_names_its_command():
    text = recipe_file("finetune").read_text()
    assert "--from MODEL --recipe finetune" in text


def test_convolutions_alone_are_a_start_with_fresh_fc_layers(data, tmp_path, tmp_path_factory):
    """A file of torchvision's without its classifier; the run takes its crop and S from the configuration."""
    given = verydeep.load(made(tmp_path_factory, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)))
    path = tmp_path / "features.safetensors"
    torchvision.write({n: t for n, t in given.net.state_dict().items() if n.startswith("conv")}, path)
    found = layered(start=str(path))  # the training will warn
    assert (found.net, found.base_width, found.crop) == ("A", 4, 224)
    with pytest.warns(ContractWarning):
        job = job_of(data, tmp_path / "run", init_from=str(path), freeze="pool5")
    log = (tmp_path / "run" / "log.txt").read_text()
    assert (
        "conv5_2; of another shape or other classes and random: fc6, fc7, fc8; "
        "should the loss rise, take --recipe finetune-fe" in log
    )
    net, contract = job.classifier.net, job.classifier.contract
    assert all(torch.equal(t, given.net.state_dict()[n]) for n, t in net.state_dict().items() if n.startswith("conv"))
    assert [getattr(net, fc).weight.shape[0] for fc in ("fc6", "fc7", "fc8")] == [16, 16, 3]
    assert contract.mean == pytest.approx((123.675, 116.28, 103.53))
    with pytest.warns(ContractWarning):
        again = job_of(data, tmp_path / "again", init_from=str(path), freeze="pool5").classifier.net
    assert torch.equal(net.fc6.weight, again.fc6.weight), "fresh layers are drawn by the run's seed"
    with pytest.warns(ContractWarning), pytest.raises(ConfigError, match="fc6 is not taken from"):
        job_of(data, tmp_path / "frozen", init_from=str(path), freeze="fc6")


def test_another_head_is_left_aside_and_said(data, tmp_path, tmp_path_factory):
    """Two FC layers of somebody's own on torchvision's convolutions: a start, and no model."""
    given = verydeep.load(made(tmp_path_factory))
    state = torchvision.theirs(given.net.state_dict())
    torch.save({n: t for n, t in state.items() if not n.startswith("classifier.6")}, path := tmp_path / "two.pth")
    for strict in (verydeep.load, load_or_features):
        with pytest.raises(ModelError, match=r"has other layers than a VGG \(no fc8\)"):
            strict(f"{path}@rgb-255")
    with pytest.warns(ContractWarning) as warned:
        job = job_of(data, tmp_path / "run", init_from=f"{path}@RGB:120,110,100:58,57,56")
    assert all(str(w.message).startswith(f"only the convolutions are taken: {path} has other layers") for w in warned)
    assert torch.equal(job.classifier.net.conv5_1.weight, given.net.conv5_1.weight)
    assert (job.classifier.contract.mean, job.classifier.contract.std) == ((120.0, 110.0, 100.0), (58.0, 57.0, 56.0))


def test_a_damaged_head_is_no_other_head(data, tmp_path, tmp_path_factory):
    state = torchvision.theirs(verydeep.load(made(tmp_path_factory)).net.state_dict())
    state["classifier.3.weight"] = state["classifier.3.weight"].clone()
    state["classifier.3.weight"][0, 0] = torch.nan
    torch.save(state, path := tmp_path / "x.pth")
    with pytest.raises(ModelError, match=r"fc7\.weight holds a value that is not finite"):
        job_of(data, tmp_path / "run", init_from=f"{path}@rgb-255")


def test_a_start_of_another_toolkit_is_written_down_with_its_checksum(data, tmp_path, tmp_path_factory):
    torchvision.write(verydeep.load(made(tmp_path_factory)).net.state_dict(), path := tmp_path / "x.pth")
    for name, kind in (("run", ""), ("again", ""), ("other", "other")):
        if kind:
            torchvision.write(
                {n: t + 1 for n, t in verydeep.load(made(tmp_path_factory)).net.state_dict().items()}, path
            )
        job_of(data, tmp_path / name, init_from=f"{path}@rgb-255", fc_width=8)  # other FC layers, which are random
    one, again, other = (
        read_sealed(tmp_path / name / "run.json")["started_from"]["sha256"] for name in ("run", "again", "other")
    )
    assert len(one) == 64
    assert one == again != other


def test_the_recipe_for_new_fc_layers_is_the_one_that_the_hint_names():
    """Within it nobody is told to take it, and above its rate everybody is."""
    recipe = yaml.safe_load(recipe_file("finetune-features").read_text())
    assert recipe["lr"] * recipe.get("lr_fc", 1) == SAFE_RATE
