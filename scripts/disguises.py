"""Disguises: what happens to an ONNX file on its way between programs and leaves what it computes alone."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

Disguise = Callable[[Path], Path]
"""Takes a file and returns another one beside it."""

DOMAIN = "acme.layers"
"""Whose functions are."""


def plain(path: Path) -> Path:
    """Leave the file as its exporter wrote it."""
    return path


def anonymous(path: Path) -> Path:
    """Take every name away, shuffle the initializers, and swap the operands where that does not matter."""
    model = onnx.load(path)
    graph, rng = model.graph, random.Random(0)
    names = {value.name: value.name for value in (*graph.input, *graph.output)} | {"": ""}
    initializers = list(graph.initializer)
    rng.shuffle(initializers)
    for initializer in initializers:
        initializer.name = names.setdefault(initializer.name, f"t{len(names)}")
    for node in graph.node:
        node.name = node.doc_string = ""
        del node.metadata_props[:]
        node.input[:] = [names.setdefault(name, f"t{len(names)}") for name in node.input]
        node.output[:] = [names.setdefault(name, f"t{len(names)}") for name in node.output]
        if node.op_type in ("Add", "Mul"):
            node.input[:] = list(node.input)[::-1]
    del graph.value_info[:], graph.initializer[:], model.metadata_props[:]
    graph.initializer.extend(initializers)
    return _saved(model, path, "anonymous")


def shuffled(path: Path) -> Path:
    """Write the nodes in any order, even one that runs backwards."""
    model = onnx.load(path)
    nodes = list(model.graph.node)
    random.Random(1).shuffle(nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return _saved(model, path, "shuffled")


def constants(path: Path) -> Path:
    """Make every initializer a Constant node."""
    model = onnx.load(path)
    graph = model.graph
    stated = [helper.make_node("Constant", [], [each.name], value=each) for each in graph.initializer]
    nodes = [*stated, *graph.node]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    return _saved(model, path, "constants")


def external(path: Path) -> Path:
    """Put the weights into a file beside the graph."""
    target = path.with_name(f"{path.stem}-external.onnx")
    onnx.save(onnx.load(path), target, save_as_external_data=True, location=f"{target.stem}.bin", size_threshold=64)
    return target


def multiplied(path: Path) -> Path:
    """Write each Gemm as MatMul and Add, with the matrix turned round beforehand."""
    model = onnx.load(path)
    graph = model.graph
    held = {each.name: each for each in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type != "Gemm":
            nodes.append(node)
            continue
        turned = any(a.name == "transB" and a.i for a in node.attribute)
        if turned and node.input[1] in held:
            weight = held.pop(node.input[1])
            array = np.ascontiguousarray(numpy_helper.to_array(weight).T)
            weight.CopyFrom(numpy_helper.from_array(array, weight.name))
        nodes.append(helper.make_node("MatMul", [node.input[0], node.input[1]], [f"{node.output[0]}_product"]))
        nodes.append(helper.make_node("Add", [node.input[2], f"{node.output[0]}_product"], [node.output[0]]))
    del graph.node[:]
    graph.node.extend(nodes)
    return _saved(model, path, "multiplied")


def functions(path: Path, run: int = 5) -> Path:
    """Put every few nodes into a function of their own, and every few of these into another.

    What a function takes of the graph it is given by name; its windows are attributes of the call.
    """
    model = onnx.load(path)
    graph = model.graph
    for depth in range(2):
        nodes = list(graph.node)
        runs = [nodes[start : start + run] for start in range(0, len(nodes), run)]
        used = Counter(name for node in nodes for name in node.input) + Counter(value.name for value in graph.output)
        del graph.node[:]
        graph.node.extend(_called(part, used, f"run_{depth}_{number}", model) for number, part in enumerate(runs))
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return _saved(model, path, "functions")


def _called(nodes: list[onnx.NodeProto], used: Counter[str], name: str, model: onnx.ModelProto) -> onnx.NodeProto:
    """Make a function of nodes, put it into the model, and return the call of it."""
    made = [each for node in nodes for each in node.output if each]
    within = Counter(each for node in nodes for each in node.input)
    taken = [each for each in within if each and each not in made]
    given = [each for each in made if used[each] > within[each]]
    attributes = {}
    for node in nodes:
        for attribute in node.attribute:
            if attribute.name.partition("_")[0] in ("strides", "pads", "axis", "transB", "alpha", "value"):
                if attribute.type == onnx.AttributeProto.TENSOR or attribute.ref_attr_name:
                    continue
                key = f"{attribute.name}_{len(attributes)}"
                attributes[key] = helper.get_attribute_value(attribute)
                reference = onnx.AttributeProto(name=attribute.name, type=attribute.type, ref_attr_name=key)
                attribute.CopyFrom(reference)
    imports = [*model.opset_import, helper.make_opsetid(DOMAIN, 1)]
    model.functions.append(helper.make_function(DOMAIN, name, taken, given, nodes, imports, list(attributes)))
    return helper.make_node(name, taken, given, name=name, domain=DOMAIN, **attributes)


def basic(path: Path) -> Path:
    """Let onnxruntime fold and remove."""
    return _optimised(path, "basic", onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC)


def extended(path: Path) -> Path:
    """Let onnxruntime fuse operators into its own."""
    return _optimised(path, "extended", onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)


def all_of_them(path: Path) -> Path:
    """Let onnxruntime lay the weights out for this machine."""
    return _optimised(path, "all", onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)


def quantised(path: Path) -> Path:
    """Put the first weight through eight bits and back."""
    model = onnx.load(path)
    graph = model.graph
    step, zero = numpy_helper.from_array(np.float32(0.1), "step"), numpy_helper.from_array(np.int8(0), "zero")
    graph.initializer.extend([step, zero])
    first = graph.node[0]
    there = helper.make_node("QuantizeLinear", [first.input[1], "step", "zero"], ["q"], name="quantise_w")
    back = helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["w"], name="dequantise_w")
    first.input[1] = "w"
    nodes = [there, back, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return _saved(model, path, "quantised")


def _optimised(path: Path, suffix: str, level: onnxruntime.GraphOptimizationLevel) -> Path:
    target = path.with_name(f"{path.stem}-{suffix}.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return target


def _saved(model: onnx.ModelProto, path: Path, suffix: str) -> Path:
    target = path.with_name(f"{path.stem}-{suffix}.onnx")
    onnx.save(model, target)
    return target
