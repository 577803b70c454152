// The runner's command line.
import os from "node:os";

export const USAGE = `usage: node runner.mjs --model FILE (--socket PATH | --port N) [options]
  --model FILE      the GGUF file to serve
  --socket PATH     listen on this unix socket (an old one is replaced)
  --port N          listen on 127.0.0.1:N instead; 0 takes a free port, named in the ready line
  --threads N       threads for the model (default: processors - 1, at least 1)
  --parallel N      sequences decoded together (default 4)
  --context N       tokens per sequence (default: what the model was trained for, at most 8192)
  --queue N         requests that may wait for a sequence (default 64)
  --embeddings      prepare /v1/embeddings at the start instead of at the first request
  --gpu auto|off    use a GPU build of the library when one is installed (default auto)
  --ignore-stdin    do not end when standard input closes`;

export class UsageError extends Error {}

/** @returns {{model, socket, port, threads, parallel, context, queue, embeddings, gpu, ignoreStdin, help}} */
export function parseOptions(argv) {
  const o = {
    model: null,
    socket: null,
    port: null,
    threads: Math.max(1, os.availableParallelism() - 1),
    parallel: 4,
    context: null,
    queue: 64,
    embeddings: false,
    gpu: "auto",
    ignoreStdin: false,
    help: false,
  };
  const rest = argv.flatMap(a =>
    /^--[a-z-]+=/.test(a) ? [a.slice(0, a.indexOf("=")), a.slice(a.indexOf("=") + 1)] : [a],
  );
  const value = name => {
    if (rest.length === 0) throw new UsageError(`${name} needs a value`);
    return rest.shift();
  };
  const number = (name, min, max) => {
    const text = value(name),
      n = Number(text);
    if (!/^\d+$/.test(text) || n < min || n > max)
      throw new UsageError(`${name} must be a number from ${min} to ${max}, not ${text}`);
    return n;
  };
  while (rest.length > 0) {
    const name = rest.shift();
    switch (name) {
      case "--model":
        o.model = value(name);
        break;
      case "--socket":
        o.socket = value(name);
        break;
      case "--port":
        o.port = number(name, 0, 65535);
        break;
      case "--threads":
        o.threads = number(name, 1, 1024);
        break;
      case "--parallel":
        o.parallel = number(name, 1, 256);
        break;
      case "--context":
        o.context = number(name, 64, 16777216);
        break;
      case "--queue":
        o.queue = number(name, 0, 100000);
        break;
      case "--embeddings":
        o.embeddings = true;
        break;
      case "--gpu":
        o.gpu = value(name);
        if (o.gpu !== "auto" && o.gpu !== "off") throw new UsageError("--gpu must be auto or off");
        break;
      case "--ignore-stdin":
        o.ignoreStdin = true;
        break;
      case "--help":
      case "-h":
        o.help = true;
        break;
      default:
        throw new UsageError(`unknown option ${name}`);
    }
  }
  if (o.help) return o;
  if (!o.model) throw new UsageError("--model is missing");
  if ((o.socket === null) === (o.port === null)) throw new UsageError("give either --socket or --port");
  return o;
}
