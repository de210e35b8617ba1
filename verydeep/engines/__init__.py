"""What computes: torch, OpenVINO or ONNX Runtime behind one door, raw pixels in, maps out."""

from verydeep.engines.choice import Runtime, chosen, missing_for
from verydeep.engines.graph import Graph, Node, layers, onnx_graph, whole_model
from verydeep.engines.scorers import Engine, Scorer, openvino_core, run_file, scorer_for

__all__ = [
    "Engine",
    "Graph",
    "Node",
    "Runtime",
    "Scorer",
    "chosen",
    "layers",
    "missing_for",
    "onnx_graph",
    "openvino_core",
    "run_file",
    "scorer_for",
    "whole_model",
]  # fmt: skip
