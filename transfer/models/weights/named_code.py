"""Which functions and classes that a checkpoint names can do harm, and which are plain data."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

from transfer.utils.pickle_interpreter import Placeholder, UnsafePickle, class_name

# Modules and functions that run programs or code, read further pickles, open files or connections,
# or end the process. No checkpoint needs them.
DANGEROUS = {
    *("os", "posix", "nt", "subprocess", "_posixsubprocess", "commands", "pty", "sys", "shutil"),
    *("importlib", "imp", "runpy", "zipimport", "pkgutil", "ctypes", "_ctypes", "code", "codeop"),
    *("pdb", "bdb", "timeit", "cProfile", "profile", "trace", "webbrowser", "io", "_io", "cffi"),
    *("pickle", "_pickle", "cPickle", "marshal", "shelve", "dbm", "pydoc", "doctest"),
    *("socket", "_socket", "socketserver", "ssl", "urllib", "urllib2", "urllib3", "requests"),
    *("http", "httplib", "httpx", "aiohttp", "ftplib", "smtplib", "telnetlib", "xmlrpc", "imaplib"),
    *("pip", "ensurepip", "venv", "distutils", "setuptools", "idlelib", "ptyprocess", "pexpect"),
    *(
        "platform.popen",
        "fcntl",
        "mmap",
        "tempfile",
        "site",
        "sysconfig",
        "antigravity",
        "py_compile",
    ),
    *("compileall", "sqlite3", "_sqlite3", "fileinput", "asyncio", "_xxsubinterpreters"),
    *("multiprocessing.util", "multiprocessing.connection", "multiprocessing.popen_fork"),
    *("multiprocessing.popen_spawn_posix", "multiprocessing.popen_spawn_win32"),
    *("multiprocessing.forkserver", "multiprocessing.spawn", "multiprocessing.managers"),
    *("logging.config", "logging.FileHandler", "logging.handlers", "types.FunctionType"),
    *("types.CodeType", "test.support", "unittest.main", "unittest.mock", "lib2to3", "cgitb"),
    *(
        "cloudpickle.load",
        "cloudpickle.loads",
        "cloudpickle.cloudpickle.load",
        "dill.load",
        "dill.loads",
        "dill._dill.load",
    ),
    *(
        "cloudpickle.cloudpickle.loads",
        "dill._dill.loads",
        "dill.load_session",
        "dill.load_module",
        "dill.source",
        "dill.session",
    ),
    *("joblib.load", "joblib.numpy_pickle.load", "pandas.read_pickle", "pandas.eval"),
    *("numpy.load", "numpy.testing", "numpy.f2py", "numpy.distutils", "numpy.ctypeslib"),
    *("numpy.memmap", "numpy.fromfile", "numpy.lib.npyio", "numpy.lib._npyio_impl"),
    *("torch.load", "torch.save", "torch.serialization", "torch.hub", "torch.package"),
    *("torch.jit", "torch._dynamo", "torch._inductor", "torch.utils.collect_env"),
    *("torch.utils.cpp_extension", "torch.utils.bottleneck", "torch.utils.model_zoo"),
    *("torch.testing", "torch.ops", "torch._ops", "torch.classes", "torch.multiprocessing"),
    *("torch.distributed.run", "torch.distributed.launch", "torch.distributed.launcher"),
    *("torch.distributed.elastic",),
}
DANGEROUS_BUILTINS = {
    *("eval", "exec", "execfile", "compile", "open", "file", "input", "raw_input", "__import__"),
    *("breakpoint", "globals", "locals", "vars", "apply", "exit", "quit", "help", "delattr"),
    *("setattr", "memoryview"),
}
BUILTINS = ("builtins", "__builtin__")
# Objects of their classes are not worth a note; those of other modules are named in one.
PLAIN_MODULES = {*sys.stdlib_module_names, "__builtin__", "copy_reg", "numpy", "torch"}
# Modules whose classes hold data; what else of the standard library, numpy and torch is called is
# named in a note.
DATA_MODULES = {
    *("argparse", "builtins", "__builtin__", "collections", "copyreg", "copy_reg", "dataclasses"),
    *("datetime", "decimal", "enum", "fractions", "ipaddress", "numbers", "pathlib", "random"),
    *("string", "typing", "uuid", "zoneinfo", "numpy.random", "torch.nn", "torch.optim"),
    *("torch.distributions", "torch.utils.data", "torch.amp", "torch.cuda.amp"),
}
DATA_NAMES = {
    *(f"{module}.{name}" for module in BUILTINS for name in ("int", "float", "bool", "complex")),
    *(f"{module}.{name}" for module in BUILTINS for name in ("str", "bytes", "bytearray")),
    *(f"{module}.{name}" for module in BUILTINS for name in ("unicode", "long", "slice")),
    *(f"{module}.{name}" for module in BUILTINS for name in ("range", "xrange")),
    *("collections.deque", "datetime.datetime", "datetime.date", "datetime.time"),
    *("datetime.timedelta", "datetime.timezone", "types.SimpleNamespace", "argparse.Namespace"),
    *("re._compile", "logging.getLogger", "copyreg.__newobj_ex__", "itertools.count"),
    *("array._array_reconstructor", "array.array", "zoneinfo.ZoneInfo._unpickle"),
    *("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),
    *("numpy.ma.core._mareconstruct", "numpy.random._pickle.__randomstate_ctor"),
    *("numpy.random._pickle.__generator_ctor", "numpy.random._pickle.__bit_generator_ctor"),
    *("torch.device", "torch.dtype", "torch.Generator", "torch.Tensor", "torch.Size"),
    *("torch.serialization._get_layout", "torch._tensor.Tensor"),
}


@dataclass(eq=False)
class Function(Placeholder):
    """A function or class that is not known to make plain data; what calls it is remembered."""

    called: dict[str, None] = field(default_factory=dict[str, None])

    def set_state(self, state: Any) -> None:
        """Remember that the file changes it."""
        self.called[self.name] = None

    def make(self, *_: Any) -> Placeholder:
        """Remember the call, and return what stands for its result."""
        self.called[self.name] = None
        return Placeholder(self.name)


@dataclass(frozen=True)
class LeftOut:
    """What a checkpoint describes beside tensors and plain values, by name."""

    classes: list[str] = field(default_factory=list[str])
    calls: list[str] = field(default_factory=list[str])


def refuse_dangerous(module: str, name: str) -> None:
    """Raise UnsafePickle for a name that can run programs."""
    first, *_ = words = name.split(".")
    if f"{module}.{name}" in DATA_NAMES:
        return
    # A name with dots reaches what a module imports, as `random` has `_os.system`.
    reached = [".".join(words[start:]).lstrip("_") for start in range(len(words) - 1)]
    if any(_is_within(text, DANGEROUS) for text in (f"{module}.{name}", *reached)) or (
        module in BUILTINS and first in DANGEROUS_BUILTINS
    ):
        raise UnsafePickle(
            f"asks for `{class_name(f'{module} {name}')}`, which can run programs: nothing of it "
            "was run; do not load it elsewhere, and get the weights from another source"
        )


def is_data(module: str, name: str) -> bool:
    """Whether a call of a name only makes a value: a class of data, or a rebuilt tensor."""
    full, last = f"{module}.{name}", name.rpartition(".")[2]
    if full in DATA_NAMES or (_is_within(module, {"torch"}) and last.startswith("_rebuild")):
        return True
    if not last.lstrip("_")[:1].isupper():
        return False
    # Objects of classes of other packages are named in a note of their own.
    return _is_within(module, DATA_MODULES) or module.partition(".")[0] not in PLAIN_MODULES


def _is_within(text: str, modules: set[str]) -> bool:
    """Whether a dotted name is one of `modules`, or is inside of one."""
    words = text.split(".")
    return any(".".join(words[:count]) in modules for count in range(1, len(words) + 1))
