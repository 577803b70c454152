"""What is measured: each peer knows how to start itself in front of the fake upstream."""

import json
import os
import re
import shutil
import subprocess

from .processes import Program, StartError, cores, free_port, wait_for_port

NGINX_CONF = """
worker_processes 1;
daemon off;
pid {dir}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 22000; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 3600s;
    client_body_buffer_size 64k;
    client_max_body_size 32m;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    upstream provider {{
        server 127.0.0.1:{upstream};
        keepalive 512;
        keepalive_requests 1000000000;
        keepalive_timeout 3600s;
    }}
    server {{
        listen 127.0.0.1:{json_port} backlog=4096;
        location / {{
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
    server {{
        listen 127.0.0.1:{stream_port} backlog=4096;
        location / {{
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 3600s;
        }}
    }}
}}
"""

NEBULA_TOML = """
[http]
listen = "127.0.0.1:0"
threads = 1
connections_max = 50000
[admin]
listen = "127.0.0.1:0"
[store]
url = "sqlite:{dir}/data/nebula.db"
[billing]
durability = "{durability}"
[gateway]
governance = {governance}
[runtime]
models_dir = "{dir}/models"
[limits]
key_rpm = 100000000
key_tpm = 1000000000
account_rpm = 100000000
account_tpm = 1000000000
[[provider]]
name = "bench"
kind = "openai"
base_url = "http://127.0.0.1:{upstream}/v1"
concurrency_max = 50000
[[model]]
id = "bench"
context_length = 131072
max_output_tokens = 65536
price_input_per_m = "0.20"
price_output_per_m = "0.60"
endpoints = ["chat"]
routes = [{{ provider = "bench", model = "bench", weight = 1 }}]
"""


class Peer:
    """`program` is None where nothing stands between the load and the upstream."""

    headers = ()
    key = None
    is_slow = False     # cannot take the large loads in the time there is
    is_extra = False    # shown for explanation, only where it says something

    def __init__(self, name):
        self.name = name
        self.program = None
        self.json_port = self.stream_port = None

    def missing(self):
        """Why the peer cannot be measured here; None when it can."""
        return None

    def start(self, upstream_port, directory):
        raise NotImplementedError

    def stop(self):
        """Returns a remark for the report, or None."""
        if self.program:
            self.program.stop()
            self.program = None
        return None


class Direct(Peer):
    def start(self, upstream_port, directory):
        self.json_port = self.stream_port = upstream_port


class Nginx(Peer):
    binary = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")

    def missing(self):
        return None if self.binary else "nginx is not installed (Debian: nginx-light)"

    def start(self, upstream_port, directory):
        self.json_port, self.stream_port = free_port(), free_port()
        conf = os.path.join(directory, "nginx.conf")
        with open(conf, "w") as f:
            f.write(NGINX_CONF.format(dir=directory, upstream=upstream_port, json_port=self.json_port,
                                      stream_port=self.stream_port))
        # A master running as root gives its worker another user, who must reach the temporary files.
        os.chmod(directory, 0o755)
        self.program = Program([self.binary, "-p", directory, "-c", conf], [cores()[0]],
                               log=os.path.join(directory, "nginx.log"))
        if not wait_for_port(self.stream_port, 5):
            self.program.fail("did not listen")


class Nebula(Peer):
    def __init__(self, name, binary, durability="strict", governance=True, both_cores=False):
        super().__init__(name)
        self.binary, self.durability = binary, durability
        self.governance, self.is_extra = governance, both_cores
        self.cpus = list(cores()) if both_cores else [cores()[0]]

    def missing(self):
        return None if os.access(self.binary, os.X_OK) else f"{self.binary} is not built (or set NEBULA_BIN)"

    def start(self, upstream_port, directory):
        self.directory = directory
        os.makedirs(os.path.join(directory, "models"))
        os.makedirs(os.path.join(directory, "data"))
        self.config = os.path.join(directory, "nebula.toml")
        with open(self.config, "w") as f:
            f.write(NEBULA_TOML.format(dir=directory, upstream=upstream_port, durability=self.durability,
                                       governance="true" if self.governance else "false"))
        self.env = dict(os.environ, NEBULA_DATA_DIR=os.path.join(directory, "data"))
        if self.governance:
            account = self._command("accounts", "create", "bench", "--json")["id"]
            made = self._command("keys", "create", "--account", account, "--name", "bench", "--json")
            self.key = made["key"]
            self._command("credits", "grant", account, "1000000")
        self.program = Program([self.binary, "serve", "--config", self.config], self.cpus, cwd=directory,
                               env=self.env, log=os.path.join(directory, "nebula.log"))
        for line in self.program.lines(20):
            if match := re.match(r"listening on http://127\.0\.0\.1:(\d+)", line):
                self.json_port = self.stream_port = int(match[1])
            if line.startswith("ready") and self.json_port:
                return
        self.program.fail("did not become ready")

    def _command(self, *words):
        done = subprocess.run([self.binary, *words, "--config", self.config], capture_output=True, text=True,
                              timeout=30, env=self.env, cwd=self.directory, check=False)
        if done.returncode != 0:
            raise StartError(f"nebula {' '.join(words)}: {(done.stderr or done.stdout).strip()[-500:]}")
        return json.loads(done.stdout) if "--json" in words else None

    def stop(self):
        had_program = self.program is not None
        super().stop()
        if not had_program or not self.governance:
            return None
        try:
            self._command("ledger", "verify")
        except (StartError, subprocess.TimeoutExpired) as error:
            return f"{self.name}: ledger verify after the run: {error}"
        return f"{self.name}: the ledger balances after the run"


class Portkey(Peer):
    is_slow = True
    package = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                           "node_modules", "@portkey-ai", "gateway")

    def missing(self):
        if not shutil.which("node"):
            return "node is not installed"
        if not os.path.isdir(self.package):
            return "npm packages are not installed (npm ci --prefix bench)"
        return None

    def start(self, upstream_port, directory):
        self.json_port = self.stream_port = free_port()
        self.headers = ("x-portkey-provider: openai",
                        f"x-portkey-custom-host: http://127.0.0.1:{upstream_port}/v1")
        self.program = Program(["node", os.path.join(self.package, "build", "start-server.js"),
                                f"--port={self.json_port}", "--headless"], [cores()[0]], cwd=directory,
                               env=dict(os.environ, NODE_ENV="production"),
                               log=os.path.join(directory, "portkey.log"))
        if not wait_for_port(self.json_port, 20):
            self.program.fail("did not listen")


def all_peers(nebula_binary):
    return [
        Direct("direct"),
        Nginx("nginx"),
        Nebula("nebula, governance off", nebula_binary, governance=False),
        Nebula("nebula, relaxed", nebula_binary, durability="relaxed"),
        Nebula("nebula, strict", nebula_binary),
        Nebula("nebula, strict, both cores", nebula_binary, both_cores=True),
        Portkey("Portkey"),
    ]
