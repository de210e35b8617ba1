"""Pickles, walked through and never run: what one would import or call becomes an inert `Named`.

pickletools decodes the opcodes; here they move plain values on a stack. So a file may name any class, and none is
looked up, let alone called (docs/decisions/0017-what-people-bring.md).
"""

import pickletools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO

MOST_OPCODES = 1_000_000  # of one pickle, a second or two; VGG-19 with batch norm and its optimizer has some 30,000
DICTS = {"collections OrderedDict", "collections defaultdict", "builtins dict"}
# Who names these means harm, wherever the file is read next; so it is said and refused, though nothing would happen.
RUNS = {
    "os",
    "posix",
    "nt",
    "sys",
    "subprocess",
    "shutil",
    "socket",
    "runpy",
    "importlib",
    "ctypes",
    "pty",
    "webbrowser",
}
RUNS_TOO = {f"{m} {f}" for m in ("builtins", "__builtin__") for f in ("eval", "exec", "compile", "open", "__import__")}
FIXED: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list, "EMPTY_SET": list, "EMPTY_DICT": dict,
}  # fmt: skip
# what lies above the mark becomes one value; sets become lists, as nothing that a file chose is hashed
GATHERED: dict[str, Callable[[list[Any]], Any]] = {
    "TUPLE": tuple, "LIST": list, "FROZENSET": list, "DICT": lambda upper: filled({}, upper),
}  # fmt: skip
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
NOTHING, REFUSED = {"PROTO", "FRAME"}, {"EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}
Makers = Mapping[str, Callable[..., Any]]


class Named:
    """A class, function or object that a pickle names, with what it was given. It does nothing."""

    __slots__ = ("args", "held", "items", "name")

    def __init__(self, name: str, args: tuple[Any, ...] = ()) -> None:
        self.name, self.args = name, args
        self.held, self.items = dict[Any, Any](), list[Any]()  # its __dict__ and keys; its elements


def walked(stream: BinaryIO, makers: Makers, stored: Callable[[Any], Any]) -> Any:
    """The value of the next pickle: plain values, and what `makers` make of the few names they know.

    stored: makes what a persistent id stands for. Raises ValueError, and what a damaged pickle brings about.
    """
    stack, marks, memo = list[Any](), list[int](), dict[int, Any]()
    for count, (code, given, _) in enumerate(pickletools.genops(stream)):
        name, upper = code.name, list[Any]()
        if count > MOST_OPCODES or name in REFUSED:
            raise ValueError(f"its pickle has more than {MOST_OPCODES:,} steps, or {name}; nothing of it was run")
        if pickletools.markobject in code.stack_before:
            at = marks.pop()
            upper, stack[at:] = stack[at:], []
        if name == "STOP":
            return stack.pop()
        if name == "MARK":
            marks.append(len(stack))
        elif name == "POP":
            del (marks if marks[-1:] == [len(stack)] else stack)[-1:]
        elif name in TUPLES:
            stack[-TUPLES[name] :] = [tuple(stack[-TUPLES[name] :])]
        elif "PUT" in name or name == "MEMOIZE":
            memo[len(memo) if given is None else int(given)] = stack[-1]
        elif name in ("APPEND", "SETITEM", "BUILD"):
            upper = [stack.pop() for _ in range(1 + (name == "SETITEM"))][::-1]
            CHANGED[name](stack[-1], upper)
        elif name in CHANGED:
            CHANGED[name](stack[-1], upper)
        elif name not in NOTHING | {"POP_MARK"}:
            stack.append(pushed(name, given, stack, upper, memo, makers, stored))
    raise ValueError("it ends early")


def pushed(
    name: str, given: Any, stack: list[Any], upper: list[Any], memo: dict[int, Any], makers: Makers,
    stored: Callable[[Any], Any],
) -> Any:  # fmt: skip
    """The value that an opcode leaves on the stack."""
    if name in FIXED:
        return FIXED[name]()
    if name in GATHERED:
        return GATHERED[name](upper)
    if "GET" in name:
        return memo[int(given)]
    if name == "DUP":
        return stack[-1]
    if name.endswith("PERSID"):
        return stored(stack.pop() if given is None else given)
    if name in ("GLOBAL", "STACK_GLOBAL"):
        return named(given or " ".join([str(stack.pop()), str(stack.pop())][::-1]))
    if name in ("OBJ", "INST"):
        function, *args = upper if name == "OBJ" else [named(given), *upper]
        return called(function, tuple(args), makers)
    if name in ("REDUCE", "NEWOBJ", "NEWOBJ_EX"):
        _ = name == "NEWOBJ_EX" and stack.pop()
        args = stack.pop()
        return called(stack.pop(), args if isinstance(args, tuple) else (), makers)
    return given  # a number, a text or bytes


def named(name: str) -> Named:
    if name.split(" ")[0].split(".")[0] in RUNS or name in RUNS_TOO:
        raise ValueError(f"its pickle names {name[:60]}, which no weights need; nothing of it was run")
    return Named(name)


def called(function: Any, args: tuple[Any, ...], makers: Makers) -> Any:
    """What a call would have made, without it."""
    name = function.name if isinstance(function, Named) else ""
    if name in DICTS:
        pairs = args[0] if args and isinstance(args[0], list) else []
        return filled({}, [one for pair in pairs if isinstance(pair, (list, tuple)) for one in pair[:2]])
    return makers[name](*args) if name in makers else Named(name, args)


def filled(target: Any, upper: list[Any]) -> Any:
    """Keys and values in turn. Only texts and small numbers are keys; others could take for ever to compare."""
    held = target.held if isinstance(target, Named) else target
    if not isinstance(held, dict):
        raise ValueError("it gives a key to what has none")
    for key, value in zip(upper[::2], upper[1::2], strict=True):
        held[key if isinstance(key, str) or (type(key) is int and abs(key) < 1 << 32) else object()] = value
    return target


def extended(target: Any, upper: list[Any]) -> None:
    items = target.items if isinstance(target, Named) else target
    if not isinstance(items, list):
        raise ValueError("it lengthens what has no length")
    items.extend(upper)


def built(target: Any, upper: list[Any]) -> None:
    """An object gets its __dict__, or that and its slots, or something else."""
    if isinstance(target, Named):
        for state in upper[0] if isinstance(upper[0], tuple) else upper:
            pairs: Iterable[Any] = state.items() if isinstance(state, dict) else ()
            target.held.update(pairs)
            target.items.extend([] if isinstance(state, dict) else [state])


CHANGED: dict[str, Callable[[Any, list[Any]], Any]] = {
    "APPEND": extended, "APPENDS": extended, "ADDITEMS": extended, "SETITEM": filled, "SETITEMS": filled,
    "BUILD": built,
}  # fmt: skip
