// The runner as a process: how it starts, fails and ends.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { RANDOM, RUNNER, Runner } from "./support.mjs";

// When the gateway is killed nobody is left to stop the runner; it must notice by itself.
test("it ends when its standard input closes", async () => {
  const r = await Runner.start(RANDOM);
  r.child.stdin.destroy();
  assert.deepEqual(await r.exited, [0, null]);
  assert.ok(!fs.existsSync(r.socket));
  await r.stop();
});

// A drain must not take long: running answers get a moment, then they are cut off.
test("it ends soon after SIGTERM although a request is running", async () => {
  const r = await Runner.start(RANDOM, "--context", "512");
  const req = r.open("POST", "/v1/chat/completions", {
    messages: [{ role: "user", content: "x" }],
    stream: true,
  });
  req.on("error", () => {});
  const [res] = await once(req, "response");
  res.on("error", () => {}).resume();
  const start = Date.now();
  r.child.kill("SIGTERM");
  assert.deepEqual(await r.exited, [0, null]);
  assert.ok(Date.now() - start < 5000);
  await r.stop();
});

// A damaged file is the user's most likely mistake.
test("a file that is no model is reported and ends it with 1", async () => {
  const file = path.join(os.tmpdir(), `nebula-broken-${process.pid}.gguf`);
  fs.writeFileSync(file, fs.readFileSync(RANDOM).subarray(0, 5000));
  const r = await Runner.start(file);
  assert.equal(r.first.event, "error");
  assert.deepEqual(await r.exited, [1, null]);
  await r.stop();
  fs.rmSync(file);
});

// Wrong options must be explained, not guessed.
test("a wrong command line prints the usage and ends with 2", async () => {
  const child = spawn(process.execPath, [RUNNER, "--model", RANDOM], { stdio: ["ignore", "ignore", "pipe"] });
  let log = "";
  child.stderr.on("data", d => {
    log += d;
  });
  const [code] = await once(child, "exit");
  assert.equal(code, 2);
  assert.match(log, /usage: node runner.mjs/);
});
