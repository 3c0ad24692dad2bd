"""A pickle read as data: what its instructions say, with nothing looked up, built or called.

Unpickling runs what the file asks for. Here the instructions are only parsed (`pickletools`), and what they would
import or call is written down as `Global` and `Call`, so that a file full of foreign classes is still readable and
a hostile one is a harmless description of itself. The work grows with the length of the pickle and no faster.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol


class Stream(Protocol):
    """What pickletools reads from: a file, a BytesIO or a memory map."""

    def read(self, n: int = ..., /) -> bytes: ...
    def readline(self) -> bytes: ...


class Global(NamedTuple):
    """A class or function the pickle names."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, eq=False, repr=False)
class Call:
    """What the pickle would make by calling something; its later changes are left out."""

    function: Any
    arguments: Any

    def __repr__(self) -> str:
        # Never of the arguments: a hundred bytes can nest the same ones so that their text fills any memory.
        return self.function_name()

    def function_name(self) -> str:
        """The name of what would be called, where it has one."""
        return str(self.function) if isinstance(self.function, Global) else "an unnamed class"


class Persistent(NamedTuple):
    """A reference to something outside of the pickle, such as a tensor's storage."""

    id: Any


class BadPickleError(ValueError):
    """The bytes are no pickle, or one that uses what weight files never use."""


MARK = object()
MAX_BITS = 1024  # of a whole number; Python refuses to print much longer ones
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
NUMBERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
TEXTS = {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
BYTES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
KEYS = (str, bytes, int, float, bool, type(None))  # others are left out: hashing them is work of unknown size
DICTS = {Global("collections", "OrderedDict"), Global("builtins", "dict"), Global("__builtin__", "dict")}


class PickleReader:
    """Reads one pickle; `globals` are all the names it mentions, `persistent` all it refers to outside, in order."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.globals: dict[Global, None] = {}
        self.persistent: list[Persistent] = []

    def read(self, stream: Stream) -> Any:
        """The value a pickle describes: dicts, lists, tuples, numbers and texts as such, the rest as Call or Global.

        The stream is left behind the pickle's last byte. BadPickleError where it is none.
        """
        try:
            for opcode, argument, _ in pickletools.genops(stream):  # type: ignore[arg-type]
                if opcode.name == "STOP":
                    return self.stack.pop()
                self._step(opcode.name, argument)
        except BadPickleError:
            raise
        except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
            raise BadPickleError(f"its pickle is broken ({type(error).__name__})") from None
        raise BadPickleError("its pickle has no end")

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in NUMBERS or name in TEXTS or name in BYTES:
            if isinstance(argument, int) and argument.bit_length() > MAX_BITS:
                raise BadPickleError("its pickle holds a number of absurd length")
            stack.append(argument)
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("MARK", "DUP", "POP", "POP_MARK", "PROTO", "FRAME"):
            self._move(name)
        elif name in ("APPEND", "APPENDS", "ADDITEMS", "SETITEM", "SETITEMS"):
            self._fill(name)
        elif not self._container(name):
            self._object(name, argument)

    def _move(self, name: str) -> None:
        if name == "MARK":
            self.stack.append(MARK)
        elif name == "DUP":
            self.stack.append(self.stack[-1])
        elif name == "POP":
            self.stack.pop()
        elif name == "POP_MARK":
            self._since_mark()

    def _container(self, name: str) -> bool:
        """Push a new list, tuple, set or dict; False if the instruction makes none."""
        stack = self.stack
        if name in ("EMPTY_LIST", "EMPTY_SET"):  # a set's order and equality are of no use here
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_TUPLE":
            stack.append(())
        elif name in ("LIST", "FROZENSET"):
            stack.append(self._since_mark())
        elif name == "TUPLE":
            stack.append(tuple(self._since_mark()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            items = [stack.pop() for _ in range(int(name[-1]))]
            stack.append(tuple(reversed(items)))
        elif name == "DICT":
            stack.append(_put({}, self._since_mark()))
        else:
            return False
        return True

    def _fill(self, name: str) -> None:
        """Add to the list or dict below; what is added to a Call is dropped."""
        if name in ("APPENDS", "ADDITEMS", "SETITEMS"):
            items = self._since_mark()
        else:
            count = 1 if name == "APPEND" else 2
            items = [self.stack.pop() for _ in range(count)][::-1]
        target = self.stack[-1]
        if name in ("SETITEM", "SETITEMS"):
            if isinstance(target, dict):
                _put(target, items)
        elif isinstance(target, list):
            target.extend(items)

    def _object(self, name: str, argument: Any) -> None:
        """Write down what the pickle would import or call."""
        stack = self.stack
        if name == "GLOBAL":
            stack.append(self._named(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            last, module = stack.pop(), stack.pop()
            stack.append(self._named(module, last))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, function = stack.pop(), stack.pop()
            stack.append(_called(function, arguments))
        elif name == "NEWOBJ_EX":
            _, arguments, function = stack.pop(), stack.pop(), stack.pop()
            stack.append(_called(function, arguments))
        elif name == "OBJ":
            function, *rest = self._since_mark()
            stack.append(_called(function, tuple(rest)))
        elif name == "INST":
            stack.append(_called(self._named(*argument.split(" ", 1)), tuple(self._since_mark())))
        elif name == "BUILD":
            stack.pop()
        elif name == "BINPERSID":
            self.persistent.append(Persistent(stack.pop()))
            stack.append(self.persistent[-1])
        else:  # the extension registry, out-of-band buffers
            raise BadPickleError(f"its pickle uses {name}, which weight files do not")

    def _named(self, module: str, name: str) -> Global:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise BadPickleError("its pickle is broken (a name is no text)")
        found = Global(module, name)
        self.globals[found] = None
        return found

    def _since_mark(self) -> list[Any]:
        """Pop all that was pushed since the last mark, and the mark."""
        items = []
        while (item := self.stack.pop()) is not MARK:
            items.append(item)
        return items[::-1]


def _called(function: Any, arguments: Any) -> Any:
    """A dict for the kinds of dict weight files hold, else the Call."""
    if isinstance(function, Global) and function in DICTS:
        pairs = arguments[0] if isinstance(arguments, tuple) and arguments else []
        if isinstance(pairs, list) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
            return _put({}, [part for pair in pairs for part in pair])
        return {}
    return Call(function, arguments)


def _put(target: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
    """Keys and values in turn, into a dict."""
    if len(items) % 2:
        raise BadPickleError("its pickle is broken (a key without a value)")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if isinstance(key, KEYS):
            target[key] = value
    return target
