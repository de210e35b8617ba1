"""The configuration of a Keras model, of version 2 or 3: what it does to pixels, and which layers no VGG has."""

from typing import Any

import numpy as np

from verydeep.weights.before import done
from verydeep.weights.shapes import Unlike

MODELS = {"Functional", "Model", "Sequential"}
# What a VGG is made of, beside what is done to pixels before it
LAYERS = MODELS | {
    "InputLayer", "Conv2D", "MaxPooling2D", "Flatten", "Dense", "Dropout", "SpatialDropout2D", "Activation", "ReLU",
    "Softmax",
}  # fmt: skip
RANDOM = ("Random", "Gaussian", "Dropout", "InputLayer", "Resizing")  # how layers begin that let a photo be in a test
OPERANDS = ("x", "x1", "y", "x2", "value", "bias", "key", "slice_spec")


def layers_of(model: dict[str, Any]) -> list[dict[str, Any]]:
    config = model.get("config", {})
    return list(config if isinstance(config, list) else config.get("layers", ()))  # a list in the oldest files


def leaves(layer: dict[str, Any]) -> list[dict[str, Any]]:
    """The layers of a model and of the models in it."""
    return [one for inner in layers_of(layer) for one in leaves(inner)] or [layer]


def begins(layer: dict[str, Any]) -> bool:
    """Whether the first convolution is in a layer."""
    return any(one.get("class_name") == "Conv2D" for one in leaves(layer))


def strangers(model: dict[str, Any]) -> list[str]:
    """Layers and activations that no VGG has, from the first convolution on. Raises Unlike for channels first."""
    found, units, began = list[str](), 0, False
    for layer in leaves(model):
        kind, config = layer.get("class_name", ""), layer.get("config", {})
        began = began or kind == "Conv2D"
        if config.get("data_format", "channels_last") != "channels_last":
            raise Unlike("its channels come first")
        found += [f"layer {kind}"] * (began and kind not in LAYERS)
        if kind in ("Conv2D", "Dense", "Activation"):
            units, activation = config.get("units", units), config.get("activation") or "linear"
            if activation not in ("relu", "linear", "softmax") and (activation, units) != ("sigmoid", 1):
                found.append(f"activation {activation}"[:60])
            if config.get("padding") == "valid" and config.get("kernel_size") != [1, 1]:
                found.append(f"layer {kind} without padding")
    return found


def through(model: dict[str, Any], value: Any, kept: dict[int, Any]) -> Any:
    """A value after the layers of a model, or before its first convolution. kept: a mean and variance in the file."""
    known = dict[str, Any]()
    for layer in layers_of(model):
        kind, config, nodes = layer["class_name"], layer["config"], layer.get("inbound_nodes")
        args, more = arguments(nodes[0], known) if nodes else ([value], {})
        if kind == "Conv2D":
            return args[0]
        if kind in MODELS:
            value = through(layer, args[0], kept)
            if begins(layer):
                return value
        elif kind.startswith(RANDOM):
            value = args[0]
        elif kind == "Rescaling":
            value = args[0] * plain(config["scale"], {}) + plain(config.get("offset", 0), {})
        elif kind == "Normalization" and not config.get("invert"):
            given = (plain(config.get(key), {}) for key in ("mean", "variance"))
            mean, variance = (np.reshape(kept[i] if one is None else one, -1) for i, one in enumerate(given, 1))
            value = (args[0] - mean) / np.maximum(np.sqrt(variance), 1e-7)
        else:
            operation = config["function"].split(".")[-1] if kind.endswith("OpLambda") else kind
            args += [more[key] for key in OPERANDS if key in more]
            value = done(operation, args, more.get("axis", config.get("axis")))
        known[layer.get("name") or config["name"]] = value
    return value


def arguments(node: Any, known: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Of Keras 3: {"args": [...], "kwargs": {...}}; of Keras 2: [name, 0, 0, {...}], or a list of such."""
    if isinstance(node, dict):
        return [plain(one, known) for one in node["args"]], {k: plain(v, known) for k, v in node["kwargs"].items()}
    name, _, constant, *more = node if isinstance(node[0], str) else node[0]
    first = plain(constant, {}) if name == "_CONSTANT_VALUE" else known[name]
    return [first], {k: plain(v, known) for k, v in (more or [{}])[0].items() if v is not None}


def plain(given: Any, known: dict[str, Any]) -> Any:
    """An argument: a number, a value that is known, an array, a slice, or several."""
    if isinstance(given, dict):
        kind, config = given.get("class_name"), given.get("config", given)
        if kind == "__keras_tensor__":
            return known[config["keras_history"][0]]
        if kind in ("__tensor__", "__numpy__"):
            return np.asarray(config["value"], dtype=np.float64)
        return ... if kind == "__ellipsis__" else slice(*(config[key] for key in ("start", "stop", "step")))
    if isinstance(given, list) and len(given) > 2 and isinstance(given[0], str) and given[0] in known:
        return known[given[0]]
    if isinstance(given, (list, tuple)):
        inner = [plain(one, known) for one in given]
        return tuple(inner) if any(isinstance(one, (slice, type(...))) for one in inner) else inner
    return given
