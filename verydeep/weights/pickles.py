"""Pickles, walked through and never run: what one would import or call becomes an inert `Named`.

pickletools tells what each opcode takes from the stack. Nothing is copied that a file may name again, so that the
work grows with the steps only (docs/decisions/0017-what-people-bring.md).
"""

import pickletools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

from verydeep.weights.shapes import Unlike

SAVE = "save the weights alone: torch.save(net.state_dict(), 'x.pth')"
MOST_STEPS = 400_000  # of one file; VGG-19 with batch norm and its optimizer has some 30,000, a loss takes one
MOST_NAMES, LONGEST_NAME = 2_000, 400  # of classes and functions
DICTS = {"collections OrderedDict", "collections defaultdict", "builtins dict"}
# Who names these means harm, wherever the file is read next; so it is said and refused, though nothing would happen.
RUNS = {
    "os", "posix", "nt", "sys", "subprocess", "shutil", "socket", "runpy", "importlib", "ctypes", "pty", "webbrowser",
}  # fmt: skip
RUNS_TOO = {f"{m} {f}" for m in ("builtins", "__builtin__") for f in ("eval", "exec", "compile", "open", "__import__")}


class Named:
    """A class, function or object that a pickle names, with what it was given. It does nothing."""

    __slots__ = ("held", "items", "name")

    def __init__(self, name: str, args: Any = ()) -> None:
        self.name, self.items, self.held = name, [args] if args else [], dict[Any, Any]()
        # items: its arguments, elements and state; held: its keys, or its __dict__


def walked(
    stream: BinaryIO, makers: Mapping[str, Callable[..., Any]], stored: Callable[[Any], Any], steps: Iterator[int]
) -> Any:
    """The value of the next pickle: plain values, and what `makers` make of the few names they know.

    stored: makes what a persistent id stands for. steps: those that are left. Raises ValueError, and what a damaged
    pickle brings about.
    """
    stack, marks, memo, known = list[Any](), list[int](), dict[int, Any](), dict[str, Named]()

    def named(name: str) -> Named:
        if len(name) > LONGEST_NAME or len(known) > MOST_NAMES:
            raise ValueError("it names too much")
        if name.split(" ")[0].split(".")[0] in RUNS or name in RUNS_TOO:
            raise ValueError(f"its pickle names {name[:60]}, which no weights need; nothing of it was run")
        return known.setdefault(name, Named(name))

    def call(_: None, function: Any, args: Any, *__: Any) -> Any:
        return called(function, args, makers)

    does: dict[str, Callable[..., Any]] = PLAIN | {
        "PUT": lambda at: memo.update({at: stack[-1]}), "GET": lambda at: memo[at],
        "MEMOIZE": lambda _, value: memo.setdefault(len(memo), value), "BINPERSID": lambda _, value: stored(value),
        "GLOBAL": named, "STACK_GLOBAL": lambda _, module, name: named(f"{module[:500]} {name[:500]}"),
        "REDUCE": call, "NEWOBJ": call, "NEWOBJ_EX": call, "OBJ": lambda _, function, *args: call(_, function, args),
        "INST": lambda name, *args: call(None, named(name), args),
    }  # fmt: skip
    does |= {f"{size}{name}": does[name] for size in ("BIN", "LONG_BIN") for name in ("PUT", "GET")}
    for (code, given, _), _ in zip(pickletools.genops(stream), steps, strict=False):
        if code.name == "MARK":
            marks.append(len(stack))
            continue
        before, mark = code.stack_before, pickletools.markobject
        at = marks.pop() - before.index(mark) if mark in before else len(stack) - len(before)
        taken, stack[at:] = stack[at:], []
        if code.name == "STOP":
            return taken[0]
        stack += [(does.get(code.name) or same)(given, *taken)] * len(code.stack_after)
    raise Unlike(f"its pickle has more than {MOST_STEPS:,} steps; {SAVE}")


def called(function: Any, args: Any, makers: Mapping[str, Callable[..., Any]]) -> Any:
    """What a call would have made, without it."""
    name = function.name if isinstance(function, Named) else ""
    if name in makers:
        return makers[name](*args[:8])
    if name not in DICTS:
        return Named(name, args)
    pairs = args[0] if args and isinstance(args[0], list) else []
    found = filled(None, {}, *(one for key, value in pairs for one in (key, value)))
    pairs.clear()
    return found


def same(given: Any, *_: Any) -> Any:
    """A number, a text, bytes; or nothing, of opcodes that leave nothing."""
    return given


def filled(_: None, target: Any, *upper: Any) -> Any:
    """Keys and values in turn. Only texts and small numbers are keys; others could take for ever to compare."""
    held = target.held if isinstance(target, Named) else target
    for key, value in zip(upper[::2], upper[1::2], strict=True):
        held[key if isinstance(key, str) or (type(key) is int and abs(key) < 1 << 32) else object()] = value
    return target


def extended(_: None, target: Any, *upper: Any) -> Any:
    (target.items if isinstance(target, Named) else target).extend(upper)
    return target


def built(_: None, target: Any, state: Any) -> Any:
    """An object gets its __dict__, or that and its slots, or something else."""
    if isinstance(target, Named):
        target.items.append(state)
        for one in state[:2] if isinstance(state, tuple) else [state]:
            target.held = target.held or (one if isinstance(one, dict) else {})
    return target


# What an opcode makes of its argument and of what it takes from the stack; sets become lists, as nothing that a file
# chose is hashed
PLAIN: dict[str, Callable[..., Any]] = {
    "NONE": lambda _: None, "NEWTRUE": lambda _: True, "NEWFALSE": lambda _: False, "EMPTY_LIST": lambda _: [],
    "EMPTY_SET": lambda _: [], "EMPTY_DICT": lambda _: {}, "LIST": lambda _, *upper: list(upper),
    "FROZENSET": lambda _, *upper: list(upper), "DICT": lambda _, *upper: filled(_, {}, *upper),
    "APPEND": extended, "APPENDS": extended, "ADDITEMS": extended, "SETITEM": filled, "SETITEMS": filled,
    "BUILD": built, "DUP": lambda _, value: value,
    **dict.fromkeys(("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"), lambda _, *upper: upper),
}  # fmt: skip
