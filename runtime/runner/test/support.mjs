// Starts a runner for a test and talks to it over its unix socket.
import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import readline from "node:readline";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
export const RUNNER = path.join(here, "../runner.mjs");
export const RANDOM = path.join(here, "random.gguf");
export const NANO = path.join(here, "../../../models/nebula-nano.gguf");

export class Runner {
  static async start(model, ...args) {
    const r = new Runner();
    r.folder = fs.mkdtempSync(path.join(os.tmpdir(), "nebula-runner-"));
    r.socket = path.join(r.folder, "s");
    r.agent = new http.Agent({ keepAlive: true });
    r.child = spawn(
      process.execPath,
      [RUNNER, "--model", model, "--socket", r.socket, "--threads", "1", ...args],
      { stdio: ["pipe", "pipe", "pipe"] },
    );
    r.log = "";
    r.child.stderr.on("data", d => {
      r.log += d;
    });
    r.exited = once(r.child, "exit");
    const [line] = await once(readline.createInterface({ input: r.child.stdout }), "line");
    r.first = JSON.parse(line);
    return r;
  }

  async stop() {
    this.agent.destroy();
    this.child.stdin.destroy();
    await this.exited;
    fs.rmSync(this.folder, { recursive: true, force: true });
  }

  /** A request whose answer is read by the caller. */
  open(method, url, body) {
    const req = http.request({ socketPath: this.socket, method, path: url, agent: this.agent });
    req.end(body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body));
    return req;
  }

  async call(method, url, body) {
    const req = this.open(method, url, body);
    const [res] = await once(req, "response");
    let text = "";
    res.setEncoding("utf8");
    for await (const part of res) text += part;
    return {
      status: res.statusCode,
      headers: res.headers,
      text,
      json: text.startsWith("{") ? JSON.parse(text) : null,
    };
  }

  chat(body) {
    return this.call("POST", "/v1/chat/completions", {
      messages: [{ role: "user", content: "Hello" }],
      ...body,
    });
  }

  /** The events of a streamed answer, as parsed objects and the string "[DONE]". */
  async events(url, body) {
    const { text, headers } = await this.call("POST", url, { ...body, stream: true });
    const list = text
      .split("\n\n")
      .filter(x => x !== "")
      .map(x => {
        if (!x.startsWith("data: ")) throw new Error(`not an event: ${x}`);
        return x === "data: [DONE]" ? "[DONE]" : JSON.parse(x.slice(6));
      });
    return { list, headers };
  }

  async health() {
    return (await this.call("GET", "/health")).json;
  }
}
