"""Which globals a pickle may name: an exact list of harmless ones decides.

The second list only makes the answer sharper. What is on it is known to run code, or to read or
write files; a name on neither list is unknown, and unknown is suspicious. Published bypasses of
scanners that knew only a deny-list: GHSA-655q-fx9r-782v (pip), GHSA-v7x6-rv5q-mhwc (timeit),
GHSA-fj43-3qmq-673f (numpy.testing), GHSA-m273-6v24-x4m4 (operator), CVE-2026-56315 (uuid, imaplib).
"""

import _compat_pickle
import re
from functools import cache
from importlib.resources import files

from modelward.scan.report import Level

__all__ = ["effective", "is_callable", "judge"]

_MODULES = frozenset(
    """
    _aix_support _bootsubprocess _ctypes _imp _io _operator _osx_support _pickle _posixsubprocess
    _pyio _pyrepl _socket _thread _winapi aiohttp antigravity asyncio asyncore atexit
    bdb builtins cProfile cgi cgitb cloudpickle cmd code codecs codeop commands compileall
    concurrent copyreg ctypes curses dill distutils doctest ensurepip faulthandler fickling
    fileinput ftplib functools gc getpass glob http httplib httpx idlelib imaplib imp importlib
    inspect io jsonpickle lib2to3 linecache logging mailbox mailcap marshal mlflow
    mmap modelscan msvcrt multiprocessing netrc nntplib nt ntpath operator optparse os pathlib pdb
    picklescan pickle pickletools pip pipes pkg_resources pkgutil platform plistlib poplib posix
    posixpath profile psutil pstats pty py_compile pyclbr pydoc readline requests
    resource rlcompleter runpy select selectors setuptools shelve shlex shutil signal site
    smtplib smtpd socket socketserver sqlite3 ssl subprocess symtable sys sysconfig tabnanny tarfile
    telnetlib tempfile test this threading timeit tkinter tokenize trace
    traceback tracemalloc tty turtle types unittest urllib urllib2 urllib3 uuid venv
    webbrowser wsgiref xmlrpc zipapp zipfile zipimport
    __builtin__ __builtins__
    """.split()
)
"""First parts of module names that lead to code, files or the network whatever follows."""
_PLACES = re.compile(
    r"joblib\..*(load|dump|func_inspect|memory|parallel|externals|test).*"
    r"|numpy\.(distutils|f2py|testing|lib\.npyio|lib\._npyio_impl|ctypeslib|compat)\b.*"
    r"|numpy\.(load|loads|save|savez|savetxt|loadtxt|genfromtxt|fromfile|fromregex|memmap|vectorize"
    r"|apply_along_axis|apply_over_axes|piecewise|frompyfunc|safe_eval|DataSource|ndarray\.\w+)"
    r"|numpy\.(_?core\.)(_ufunc_reconstruct|memmap\.memmap|_internal\..*|multiarray\.fromfile)"
    r"|numpy\..*(__builtins__|\bsys\b|\bos\b).*"
    r"|pandas\.(eval|read_\w+|io\b.*|core\.computation\b.*|util\..*|compat\..*)"
    r"|scipy\.(io|weave|_lib\._?test\w*|misc)\b.*|sklearn\.(datasets|externals|utils\._test\w*)\b.*"
    r"|torch\.(hub|jit|load|save|serialization|package|compile|ops|classes|_dynamo|_inductor|fx"
    r"|utils|distributed|multiprocessing|testing|onnx|export|from_file|_C\._from_file"
    r"|_utils_internal|_lobpcg|cuda|library|storage\._StorageBase|UntypedStorage\.)\b.*"
    r"|(.*\.)?(__builtins__|__globals__|__subclasses__|__import__|system|popen|exec|eval|spawn\w*)"
)


@cache
def _allowed() -> dict[str, frozenset[str]]:
    text = files("modelward.scan").joinpath("data/allowed_globals.txt").read_text("utf-8")
    table = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            module, _, names = line.partition(": ")
            table[module] = frozenset(names.split())
    return table


def effective(module: str, name: str, protocol: int) -> tuple[str, str]:
    """The names as the unpickler looks them up: below protocol 3, Python 2 names are mapped."""
    if protocol < 3:
        if (module, name) in _compat_pickle.NAME_MAPPING:
            return _compat_pickle.NAME_MAPPING[module, name]
        return _compat_pickle.IMPORT_MAPPING.get(module, module), name
    return module, name


def judge(module: str, name: str) -> Level | None:
    """How bad it is that a pickle names this.

    Returns:
        None: on the list of harmless ones; ``CRITICAL``: known to do harm; ``MEDIUM``: unknown.
    """
    names = _allowed().get(module, ())
    if name in names or f"{name}()" in names:
        return None
    if module.partition(".")[0] in _MODULES or _PLACES.fullmatch(f"{module}.{name}"):
        return Level.CRITICAL
    return Level.MEDIUM


def is_callable(module: str, name: str) -> bool:
    """Whether an allowed global may be called, not only referenced and made by NEWOBJ."""
    return f"{name}()" in _allowed().get(module, ())
