"""Whether Python code does the same at every call, whatever happens between the calls.

A step that was recorded is not run as Python again: what its code counts, prints or reads from
elsewhere would stand still without a word. So a step is recorded only where all code of the model
and the loss is known to do nothing but call torch. That is the code of torch itself, and functions
whose byte code assigns no attribute and no global name, and reaches nothing but torch, `math`, a
few builtins, constants, tensors, the modules of the model, and functions of the same kind. The
constants and tensors that it reads are watched.
"""

import builtins
import dis
from collections.abc import Callable, Iterable, Mapping
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

_BUILTINS = {
    "abs", "all", "any", "bool", "enumerate", "float", "int", "isinstance", "len", "list", "max",
    "min", "range", "reversed", "round", "sorted", "str", "sum", "super", "tuple", "zip",
}  # fmt: skip
_ASSIGNS = {"STORE_ATTR", "DELETE_ATTR"}
_READS_ATTRIBUTE = {"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"}
_CONSTANTS = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_GLOBAL_HOOKS = tuple(f"_global{name}" for name in _HOOKS)
_NEVER_CALLED = {"__init__", "__repr__", "__str__", "__getstate__", "__setstate__", "__deepcopy__"}
"""Methods that no operator of a forward calls."""


class Watch:
    """What pure code reads beside its arguments, and whether it is still what it was."""

    def __init__(self) -> None:
        self._names: list[tuple[Mapping[str, Any], str, Any]] = []
        self._cells: list[tuple[CellType, Any]] = []
        self._tensors: list[tuple[Tensor, int]] = []

    def name(self, names: Mapping[str, Any], name: str) -> None:
        """Watch what a name stands for."""
        self._names.append((names, name, names[name]))

    def cell(self, cell: CellType) -> None:
        """Watch what a closure holds."""
        self._cells.append((cell, cell.cell_contents))

    def tensor(self, tensor: Tensor) -> None:
        """Watch the numbers of a tensor."""
        self._tensors.append((tensor, tensor._version))

    def unchanged(self) -> bool:
        """Whether everything is still what it was."""
        return (
            all(names.get(name) is value for names, name, value in self._names)
            and all(cell.cell_contents is value for cell, value in self._cells)
            and all(tensor._version == version for tensor, version in self._tensors)
        )


def watch_pure(
    functions: Iterable[Callable[..., Any]], modules: Iterable[nn.Module]
) -> Watch | None:
    """What functions that call modules read from elsewhere; None where they are not all pure."""
    try:
        return _Reader(list(modules)).read(functions)
    except _ImpureError:
        return None


class _ImpureError(Exception):
    """Some code may do something else at another call."""


class _Reader:
    """Reads code by following everything that it can reach."""

    def __init__(self, modules: list[nn.Module]) -> None:
        self._modules = modules
        self._classes = {
            base: None for module in modules for base in type(module).__mro__ if not _of_torch(base)
        }
        self._watch = Watch()
        self._codes: set[tuple[CodeType, int]] = set()  # with the names that it reads
        self._attributes: set[str] = set()
        self._values: set[int] = set()

    def read(self, functions: Iterable[Callable[..., Any]]) -> Watch:
        """Follow the functions and the forward of every module."""
        if any(getattr(nn.modules.module, hooks) for hooks in _GLOBAL_HOOKS):
            raise _ImpureError
        for module in self._modules:
            self._module(module)
        for base in self._classes:
            self._called_by_syntax(base)
        for function in functions:
            self._value(function)
        self._attribute("forward")
        return self._watch

    def _module(self, module: nn.Module) -> None:
        """Refuse a module that is called in a way of its own."""
        kind, own = type(module), vars(module)
        known = nn.Module.__call__, nn.Module.__getattr__, object.__getattribute__
        if (kind.__call__, kind.__getattr__, kind.__getattribute__) != known:
            raise _ImpureError
        held = *module.parameters(recurse=False), *module.buffers(recurse=False)
        if not all(_of_torch(type(tensor)) for tensor in held):
            raise _ImpureError
        if "forward" in own or any(own.get(hooks) for hooks in _HOOKS):
            raise _ImpureError
        self._watch.name(own, "training")
        if _of_torch(kind):  # its own code is pure, but reads what it was given
            for name, value in own.items():
                if not name.startswith("_") and (callable(value) or type(value) in _CONSTANTS):
                    self._named(own, name)

    def _called_by_syntax(self, kind: type) -> None:
        """Follow the methods that operators call, without a word of theirs in the code."""
        for name, value in vars(kind).items():
            if name.startswith("__") and name not in _NEVER_CALLED and callable(value):
                self._value(value)

    def _attribute(self, name: str) -> None:
        """Follow what an attribute of this name may be, in any module."""
        if name.startswith("__") and name != "__init__":
            raise _ImpureError
        if name in self._attributes:
            return
        self._attributes.add(name)
        for names in (*(vars(base) for base in self._classes), *map(vars, self._modules)):
            if name in names:
                self._named(names, name)

    def _named(self, names: Mapping[str, Any], name: str) -> None:
        value = names[name]
        if isinstance(value, property):
            if value.fget is not None:
                self._value(value.fget)
            return
        if isinstance(value, staticmethod | classmethod):
            value = cast("Any", value).__func__
        self._watch.name(names, name)
        self._value(value)

    def _value(self, value: Any) -> None:  # noqa: ANN401 (whatever code reads)
        if id(value) in self._values or _is_harmless(value):
            return
        self._values.add(id(value))
        if type(value) is tuple:
            for member in cast("tuple[Any, ...]", value):
                self._value(member)
        elif isinstance(value, Tensor) and _of_torch(type(value)):
            self._watch.tensor(value)
        elif isinstance(value, FunctionType):
            self._function(value)
        elif not any(value is known for known in (*self._modules, *self._classes)):
            raise _ImpureError

    def _function(self, function: FunctionType) -> None:
        for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._value(default)
        for cell in function.__closure__ or ():
            try:
                self._value(cell.cell_contents)
            except ValueError as empty:
                raise _ImpureError from empty
            self._watch.cell(cell)
        self._code(function.__code__, function.__globals__)

    def _code(self, code: CodeType, names: dict[str, Any]) -> None:
        if (code, id(names)) in self._codes:
            return
        self._codes.add((code, id(names)))
        for one in dis.get_instructions(code):
            by_name = "GLOBAL" in one.opname or one.opname.endswith("_NAME")
            if one.opname == "LOAD_GLOBAL":
                self._global(one.argval, names)
            elif by_name or one.opname in _ASSIGNS:
                raise _ImpureError
            if one.opname == "STORE_DEREF" and one.argval in code.co_freevars:
                raise _ImpureError
            if one.opname in _READS_ATTRIBUTE:
                self._attribute(one.argval)
            if one.opname == "LOAD_CONST" and isinstance(one.argval, CodeType):
                self._code(one.argval, names)

    def _global(self, name: str, names: dict[str, Any]) -> None:
        if name in names:
            self._named(names, name)
        elif name not in _BUILTINS:
            value = getattr(builtins, name, None)
            if not (isinstance(value, type) and issubclass(value, Exception)):
                raise _ImpureError


def _is_harmless(value: Any) -> bool:  # noqa: ANN401
    """Whether a value is a constant, or torch's, or raised."""
    if isinstance(value, ModuleType):
        return value.__name__.split(".")[0] in ("torch", "math")
    if isinstance(value, type):
        return _of_torch(value) or issubclass(value, Exception)
    if isinstance(value, FunctionType | BuiltinFunctionType):
        return _of_torch(value) or value.__module__ == "math"
    return type(value) in _CONSTANTS  # what is derived from them may have methods of its own


def _of_torch(value: Any) -> bool:  # noqa: ANN401
    """Whether a class or a function is torch's own."""
    return value is object or str(value.__module__).split(".")[0] == "torch"
