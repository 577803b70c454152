// The bundled model runner: serves one GGUF file as OpenAI-style HTTP. README.md describes the protocol.
import fs from "node:fs";
import { Engine } from "./lib/engine.mjs";
import { parseOptions, USAGE, UsageError } from "./lib/options.mjs";
import { RunnerServer } from "./lib/server.mjs";

const GRACE_MS = 1500;
const started = performance.now();
const say = event => process.stdout.write(JSON.stringify(event) + "\n");

function readOptions() {
  try {
    return parseOptions(process.argv.slice(2));
  } catch (e) {
    if (!(e instanceof UsageError)) throw e;
    process.stderr.write(`${e.message}\n\n${USAGE}\n`);
    process.exit(2);
  }
}

const options = readOptions();
if (options.help) {
  process.stdout.write(USAGE + "\n");
  process.exit(0);
}

const server = new RunnerServer();
let stopping = false;

async function stop(graceMs) {
  if (stopping) return;
  stopping = true;
  await server.close(graceMs);
  if (options.socket) fs.rmSync(options.socket, { force: true });
  process.exit(0);
}

process.on("SIGTERM", () => void stop(GRACE_MS));
process.on("SIGINT", () => void stop(GRACE_MS));
// The supervisor holds our standard input open; when it dies, however it dies, we end with it.
if (!options.ignoreStdin)
  process.stdin
    .on("end", () => void stop(0))
    .on("error", () => void stop(0))
    .resume();
process.stdout.on("error", () => void stop(0));

try {
  if (options.socket) fs.rmSync(options.socket, { force: true });
  const address = await server.listen(options);
  if (options.socket) fs.chmodSync(options.socket, 0o600);
  const engine = await Engine.load(options);
  server.ready(engine);
  say({
    event: "ready",
    ms: Math.round(performance.now() - started),
    model: engine.name,
    context: engine.contextSize,
    parallel: options.parallel,
    threads: options.threads,
    ...(options.socket ? { socket: address } : { port: address }),
  });
} catch (e) {
  say({ event: "error", message: String(e?.message ?? e) });
  process.exit(1);
}
