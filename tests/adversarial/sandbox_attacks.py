"""What a hostile model tries: inside the sandbox as ``base_model.py``, outside as a program.

Standard library only. Every attack returns what it achieved as JSON; inside, the text leaves as
class numbers, one byte per image, which is the only way out.
"""

import ctypes
import glob
import json
import os
import resource
import socket
import stat
import sys
import time


def attempt(action):
    """The result of an action, or the name of its error."""
    try:
        return action()
    except Exception as error:
        return {"error": type(error).__name__, "number": getattr(error, "errno", None)}


def read(path, folder=None):
    def action():
        number = os.open(path, os.O_RDONLY, dir_fd=folder)
        try:
            return os.read(number, 200).decode("latin-1")
        finally:
            os.close(number)

    return attempt(action)


def climb(path):
    """The same file through every descriptor and every process that can be seen."""
    found = []
    for number in range(3, 64):
        for up in ("", "/".join([".."] * 12)):
            found.append(read(up + path, number))
    for process in glob.glob("/proc/[0-9]*"):
        for link in ("root", "cwd"):
            found.append(read(f"{process}/{link}{path}"))
    return [text for text in found if isinstance(text, str)]


def connect(address):
    def action():
        with socket.create_connection(address, timeout=2):
            return "connected"

    return attempt(action)


def write(folder):
    def action():
        path = os.path.join(folder, "written-by-the-model")
        with open(path, "w") as file:
            file.write("x")
        os.unlink(path)
        return "written"

    return attempt(action)


def fill(path, most):
    """Bytes that can be written to a file."""
    total = 0
    try:
        with open(path, "wb", buffering=0) as file:
            while total < most:
                total += file.write(b"x" * 65536)
    except OSError:
        pass
    os.unlink(path)
    return total


def socket_of(family):
    with socket.socket(family):
        return "made"


def system_call(name, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    return "done" if getattr(libc, name)(*arguments) >= 0 else os.strerror(ctypes.get_errno())


def user_namespace():
    process = os.fork()
    if process == 0:
        os._exit(0 if system_call("unshare", 0x10000000) == "done" else 1)
    return "made" if os.waitpid(process, 0)[1] == 0 else "refused"


def environments():
    texts = [json.dumps(dict(os.environ))]
    for path in glob.glob("/proc/[0-9]*/environ"):
        text = attempt(lambda path=path: open(path, "rb").read().decode("latin-1"))
        texts += [text] if isinstance(text, str) else []
    return texts


def look(wanted):
    """Everything that only looks or leaves no trace."""
    commands = {}
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        text = attempt(lambda path=path: open(path, "rb").read().decode("latin-1"))
        commands[path.split("/")[2]] = text
    return {
        "files": {path: read(path) for path in wanted["files"]},
        "climbed": {path: climb(path) for path in wanted["files"]},
        "secret": [wanted["secret"] in text for text in environments()],
        "environment": sorted(os.environ),
        "commands": commands,
        "descriptors": descriptors(),
        "connected": connect(wanted["address"]),
        "written": {folder: write(folder) for folder in wanted["folders"]},
        "filled": fill("/tmp/filled", wanted["most"]),
        "shared": fill("/dev/shm/filled", wanted["most"] * 3),
        "killed": attempt(lambda: os.kill(wanted["process"], 0) or "reached"),
        "user": os.getuid(),
        "capabilities": attempt(capabilities),
        "namespace": attempt(user_namespace),
        "hypervisor": attempt(lambda: socket_of(40)),
        "unix": attempt(lambda: socket_of(socket.AF_UNIX)),
        "unseen": attempt(lambda: os.close(os.memfd_create("unseen")) or "made"),
        "raised": attempt(lambda: resource.setrlimit(resource.RLIMIT_DATA, (-1, -1)) or "raised"),
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "signing": [name for name in os.listdir("/") if name not in wanted["known"]],
    }


def forks(wanted):
    """Processes that can be started, up to a bound that keeps the attempt harmless outside."""
    made = []
    try:
        while len(made) < wanted["most"]:
            process = os.fork()
            if process == 0:
                time.sleep(60)
                os._exit(0)
            made.append(process)
    except OSError:
        pass
    for process in made:
        os.kill(process, 9)
        os.waitpid(process, 0)
    return len(made)


def memory(wanted):
    """MiB that one process can fill, up to a bound."""
    held = []
    try:
        while len(held) * 32 < wanted["most"]:
            held.append(bytearray(os.urandom(4096)) * (32 * 256))
    except MemoryError:
        pass
    return len(held) * 32


def crowd(wanted):
    """Many processes that each stay within the limit of one; never answers when it works."""
    for _ in range(wanted["processes"]):
        if os.fork() == 0:
            held = bytearray(os.urandom(4096)) * (wanted["each"] * 256)
            time.sleep(60)
            os._exit(len(held) & 1)
    time.sleep(60)
    return "survived"


def hang(wanted):
    while True:
        time.sleep(0.01)


def spin(wanted):
    while True:
        pass


def descriptors():
    """Kind of every open descriptor; works without /proc too."""
    kinds = {stat.S_IFIFO: "pipe", stat.S_IFCHR: "device", stat.S_IFDIR: "folder",
             stat.S_IFREG: "file", stat.S_IFSOCK: "socket"}  # fmt: skip
    found = {}
    for number in range(256):
        mode = attempt(lambda n=number: os.fstat(n).st_mode)
        if isinstance(mode, int):
            found[number] = kinds.get(stat.S_IFMT(mode), "other")
    return found


def capabilities():
    with open("/proc/self/status") as file:
        return [line.split()[1] for line in file if line.startswith(("CapEff", "CapBnd"))]


def pipes():
    """Pipes beyond the standard descriptors: the way to the predictions."""
    return [number for number, kind in descriptors().items() if number > 2 and kind == "pipe"]


def flood(wanted):
    """Garbage instead of an answer, far more than any answer holds."""
    for _ in range(wanted["times"]):
        for number in pipes():
            attempt(lambda n=number: os.write(n, b"garbage " * 8192))
    return "flooded"


def forge(wanted):
    """A forged message instead of an answer."""
    for number in pipes():
        attempt(lambda n=number: os.write(n, bytes.fromhex(wanted["message"])))
    return "forged"


def chatter(wanted):
    """Something unasked, after the answer to the first question."""
    import threading

    def later():
        time.sleep(0.2)
        for number in pipes():
            attempt(lambda n=number: os.write(n, b"MWSB"))

    threading.Thread(target=later).start()
    return "chatted"


def shout(wanted):
    for _ in range(wanted["times"]):
        attempt(lambda: os.write(2, b"\x1b[31mnoise\n" * 6000))
    return "shouted"


class BaseModel:
    """Answers with the bytes of the attack's result; the first eight images are the recognition."""

    def __init__(self, plan="plan.json"):
        with open(plan) as file:
            self.name, self.wanted = json.load(file)
        self.text, self.at = None, 0
        if self.wanted.get("at_once"):
            globals()[self.name](self.wanted)

    def predict(self, images):
        if self.text is None and len(images) == 8:
            return [0] * 8
        if self.text is None:
            self.text = json.dumps(globals()[self.name](self.wanted)).encode()
        part = self.text[self.at : self.at + len(images)]
        self.at += len(images)
        return [*part, *[0] * (len(images) - len(part))]


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](json.loads(sys.argv[2]))))
