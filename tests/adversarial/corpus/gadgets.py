"""Pickles that call something harmful, most of them published as unseen by other scanners."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from corpus.canary import Canary
from corpus.opcodes import called, stream
from corpus.writing import Builder

Arguments = Callable[[Canary], tuple[object, ...]]


def code(canary: Canary) -> tuple[object, ...]:
    return (canary.python,)


def command(canary: Canary) -> tuple[object, ...]:
    return (canary.shell,)


def words(canary: Canary) -> tuple[object, ...]:
    return (["touch", str(canary.file)],)


def path(canary: Canary) -> tuple[object, ...]:
    return (str(canary.file), "w")


def address(canary: Canary) -> tuple[object, ...]:
    return (f"http://127.0.0.1:{canary.port}/",)


def host(canary: Canary) -> tuple[object, ...]:
    return (("127.0.0.1", canary.port),)


GADGETS: list[tuple[str, str, Arguments]] = [
    ("os", "system", command),
    ("posix", "system", command),
    ("nt", "system", command),
    ("os", "popen", command),
    ("os", "execvp", lambda c: ("touch", ["touch", str(c.file)])),
    ("subprocess", "Popen", words),
    ("subprocess", "check_output", words),
    ("builtins", "eval", code),
    ("builtins", "exec", code),
    ("__builtin__", "eval", code),
    ("builtins", "__import__", lambda c: ("antigravity",)),
    ("builtins", "open", path),
    ("io", "open", path),
    ("_io", "FileIO", path),
    ("codecs", "open", path),
    ("runpy", "_run_code", lambda c: (c.python, {})),
    ("runpy", "run_path", path),
    ("pty", "spawn", words),
    ("importlib", "import_module", lambda c: ("antigravity",)),
    ("pip", "main", lambda c: (["install", "nothing"],)),
    ("pip._internal", "main", lambda c: (["install", "nothing"],)),
    ("timeit", "timeit", lambda c: ("", c.python)),
    ("timeit", "main", lambda c: (["-s", c.python],)),
    ("numpy.testing._private.utils", "runstring", lambda c: (c.python, {})),
    ("numpy.f2py.crackfortran", "getlincoef", lambda c: (c.python, [])),
    ("numpy.core._internal", "__builtins__", code),
    ("numpy.core", "_ufunc_reconstruct", lambda c: ("os", "system")),
    ("numpy", "load", path),
    ("pandas", "eval", code),
    ("pandas", "read_pickle", address),
    ("torch", "load", path),
    ("torch.hub", "load", lambda c: ("owner/name", "model")),
    ("torch.utils.bottleneck.__main__", "run_cprofile", lambda c: (c.python, {})),
    ("torch.utils.collect_env", "run", command),
    ("torch._dynamo.guards", "GuardBuilder.get", code),
    ("torch.fx.experimental.symbolic_shapes", "ShapeEnv.evaluate_guards_expression", code),
    ("torch.jit.unsupported_tensor_ops", "execWrapper", lambda c: (c.python, {}, {})),
    ("cProfile", "run", code),
    ("cProfile", "runctx", lambda c: (c.python, {}, {})),
    ("profile", "run", code),
    ("profile", "Profile.runctx", lambda c: (c.python, {}, {})),
    ("trace", "Trace.run", code),
    ("pdb", "run", code),
    ("bdb", "Bdb.run", code),
    ("doctest", "debug_script", code),
    ("code", "InteractiveInterpreter", code),
    ("code", "InteractiveInterpreter.runcode", code),
    ("codeop", "compile_command", code),
    ("idlelib.run", "Executive.runcode", code),
    ("idlelib.pyshell", "ModifiedInterpreter.runcode", code),
    ("idlelib.calltip", "get_entity", code),
    ("idlelib.debugobj", "ObjectTreeItem", code),
    ("lib2to3.pgen2.grammar", "Grammar.loads", code),
    ("lib2to3.pgen2.pgen", "ParserGenerator.make_label", code),
    ("ensurepip", "_run_pip", lambda c: (["install", "nothing"],)),
    ("venv", "main", words),
    ("asyncio.unix_events", "_UnixSubprocessTransport._start", words),
    ("multiprocessing.util", "spawnv_passfds", lambda c: (b"/bin/touch", [], [])),
    ("operator", "methodcaller", lambda c: ("system", c.shell)),
    ("operator", "attrgetter", lambda c: ("system",)),
    ("_operator", "attrgetter", lambda c: ("system",)),
    ("functools", "partial", command),
    ("functools", "reduce", command),
    ("types", "FunctionType", code),
    ("types", "CodeType", code),
    ("marshal", "loads", code),
    ("pickle", "loads", code),
    ("_pickle", "loads", code),
    ("dill", "loads", code),
    ("cloudpickle", "loads", code),
    ("joblib", "load", path),
    ("logging", "FileHandler", path),
    ("logging.config", "listen", lambda c: (c.port,)),
    ("uuid", "_get_command_stdout", lambda c: ("touch", str(c.file))),
    ("imaplib", "IMAP4_stream", command),
    ("_pyrepl.pager", "pipe_pager", lambda c: ("", c.shell)),
    ("_osx_support", "_read_output", command),
    ("_aix_support", "_read_cmd_output", command),
    ("pkgutil", "resolve_name", lambda c: ("os:system",)),
    ("distutils.file_util", "write_file", lambda c: (str(c.file), [])),
    ("distutils.spawn", "spawn", words),
    ("setuptools.sandbox", "run_setup", path),
    ("ctypes", "CDLL", path),
    ("webbrowser", "open", address),
    ("urllib.request", "urlopen", address),
    ("http.client", "HTTPConnection", address),
    ("requests", "get", address),
    ("socket", "create_connection", host),
    ("smtplib", "SMTP", lambda c: ("127.0.0.1", c.port)),
    ("shutil", "rmtree", path),
    ("sqlite3", "connect", path),
    ("tempfile", "mktemp", path),
    ("site", "addpackage", path),
    ("sys", "modules", code),
    ("test.support.script_helper", "assert_python_ok", code),
    ("scipy.stats._distn_infrastructure", "rv_continuous", code),
    ("sklearn.datasets", "fetch_openml", code),
    ("sklearn.utils._testing", "install_mldata_mock", code),
    ("some_package.nobody_knows", "Helper", code),
]
"""Module, name, arguments. The last ones are on no deny-list: only an allow-list stops them."""


def build(module: str, name: str, arguments: Arguments, folder: Path, canary: Canary) -> Path:
    """Write one pickle."""
    file = folder / "model.pkl"
    file.write_bytes(stream(called(module, name, *arguments(canary))))
    return file


FILES: dict[str, Builder] = {
    f"call-{module}.{name}": partial(build, module, name, arguments)
    for module, name, arguments in GADGETS
}
