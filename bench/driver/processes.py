"""Starts programs pinned to cores, reads what they cost from /proc, and leaves none behind."""

import ctypes
import functools
import os
import resource
import selectors
import signal
import socket
import subprocess
import time

FD_LIMIT = 65_536
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class StartError(Exception):
    """A program did not come up; the text holds what it said."""


@functools.cache
def cores():
    """The core for the proxy under test and the one for load and upstream; one for all where there is one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[min(1, len(usable) - 1)]


def free_port():
    """A port nobody uses now. Only for programs that cannot be told to choose one themselves."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def fd_limit():
    """Descriptors a started program can have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, FD_LIMIT), max(hard, FD_LIMIT)))
    except (ValueError, PermissionError):
        return hard
    return max(hard, FD_LIMIT)


def _before_exec(cpus, limit):
    def run():
        os.sched_setaffinity(0, cpus)
        # SIGTERM and not SIGKILL: nginx's master must take its worker along.
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    return run


class Program:
    """One started program and everything it forks."""

    running = []

    def __init__(self, argv, cpus, cwd=None, env=None, log=None):
        self.argv = [str(a) for a in argv]
        self.log_path = log
        self.log = open(log, "ab") if log else subprocess.DEVNULL
        self.popen = subprocess.Popen(self.argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, stderr=self.log,
                                      preexec_fn=_before_exec(set(cpus), fd_limit()))
        self.pid = self.popen.pid
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.popen.stdout, selectors.EVENT_READ)
        self._pending = b""
        Program.running.append(self)

    def lines(self, timeout):
        """Yields lines of standard output until it ends or `timeout` seconds have passed."""
        deadline = time.monotonic() + timeout
        while True:
            while b"\n" in self._pending:
                line, self._pending = self._pending.split(b"\n", 1)
                yield line.decode(errors="replace").strip()
            left = deadline - time.monotonic()
            if left <= 0 or not self._selector.select(left):
                return
            data = os.read(self.popen.stdout.fileno(), 65_536)
            if not data:
                return
            self._pending += data

    def fail(self, what):
        self.stop()
        said = ""
        if self.log_path:
            with open(self.log_path, errors="replace") as f:
                said = f.read()[-1500:]
        raise StartError(f"{os.path.basename(self.argv[0])} {what}: {said.strip() or 'no message'}")

    def family(self):
        """Process ids of the program and its descendants."""
        children = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open(f"/proc/{name}/stat") as f:
                        parent = int(f.read().rsplit(")", 1)[1].split()[1])
                except OSError:
                    continue
                children.setdefault(parent, []).append(int(name))
        found, todo = [], [self.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            todo += children.get(pid, [])
        return found

    def cpu_by_thread(self):
        """Nanoseconds each thread has run, as {(pid, tid): (name, ns)}."""
        used = {}
        for pid in self.family():
            try:
                threads = os.listdir(f"/proc/{pid}/task")
            except OSError:
                continue
            for tid in threads:
                try:
                    with open(f"/proc/{pid}/task/{tid}/schedstat") as f:
                        ns = int(f.read().split()[0])
                    with open(f"/proc/{pid}/task/{tid}/comm") as f:
                        used[(pid, tid)] = (f.read().strip(), ns)
                except OSError:
                    continue
        return used

    def rss_bytes(self):
        total = 0
        for pid in self.family():
            try:
                with open(f"/proc/{pid}/status") as f:
                    total += sum(int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS:"))
            except OSError:
                continue
        return total

    def stop(self):
        if self in Program.running:
            Program.running.remove(self)
        family = self.family()
        for sig, patience in ((signal.SIGTERM, 3), (signal.SIGKILL, 3)):
            if self.popen.poll() is None:
                self.popen.send_signal(sig)
                try:
                    self.popen.wait(patience)
                except subprocess.TimeoutExpired:
                    continue
            break
        for pid in family[1:]:
            try:
                # Only what we saw as our own descendant and what has outlived its parent.
                with open(f"/proc/{pid}/stat") as f:
                    if int(f.read().rsplit(")", 1)[1].split()[1]) == 1:
                        os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        self.popen.stdout.close()
        self._selector.close()
        if self.log is not subprocess.DEVNULL:
            self.log.close()


def stop_all():
    for program in list(reversed(Program.running)):
        program.stop()


def busy_jiffies(cpu):
    """Jiffies that a core was not idle, whoever used it."""
    with open("/proc/stat") as f:
        for line in f:
            words = line.split()
            if words[0] == f"cpu{cpu}":
                values = [int(v) for v in words[1:9]]
                return sum(values) - values[3] - values[4]
    return 0


def wait_for_port(port, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return True
        except OSError:
            time.sleep(0.02)
    return False
