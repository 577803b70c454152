// HTTP: routes, bodies, server-sent events, clients that leave.
import http from "node:http";
import { once } from "node:events";
import { Api } from "./api.mjs";
import { ApiError, Cancelled, asApiError, invalid } from "./errors.mjs";

const MAX_BODY = 32 * 1024 * 1024;

/**
 * One answer: JSON at once, or events followed by [DONE].
 * `signal` fires when the client is gone or `abort` was called.
 */
class Reply {
  #res;
  #controller = new AbortController();
  failure = null;

  constructor(res) {
    this.#res = res;
    res.once("close", () => this.#controller.abort());
  }

  get signal() {
    return this.#controller.signal;
  }
  get started() {
    return this.#res.headersSent;
  }

  /** Ends the request's work because of an error; the first one counts. */
  abort(e) {
    this.failure ??= e;
    this.#controller.abort();
  }

  json(status, value, headers = {}) {
    const text = JSON.stringify(value);
    this.#res.writeHead(status, {
      "content-type": "application/json",
      "content-length": Buffer.byteLength(text),
      ...headers,
    });
    this.#res.end(text);
  }

  async event(value) {
    if (this.signal.aborted) throw new Cancelled();
    if (!this.#res.headersSent) {
      this.#res.writeHead(200, {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
      });
    }
    if (!this.#res.write(`data: ${JSON.stringify(value)}\n\n`)) {
      await once(this.#res, "drain", { signal: this.signal }).catch(() => {
        throw new Cancelled();
      });
    }
  }

  done() {
    this.#res.end("data: [DONE]\n\n");
  }

  /** An error: as a status before the first byte, in band after it, and then never a clean end. */
  fail(e) {
    if (!this.#res.headersSent) {
      this.json(e.status, e.body, e.headers);
    } else if (!this.#res.writableEnded) {
      this.#res.write(`data: ${JSON.stringify(e.body)}\n\n`, () => this.#res.destroy());
    }
  }
}

async function readJson(req) {
  if (Number(req.headers["content-length"] ?? 0) > MAX_BODY)
    throw new ApiError(413, "the request body is too large");
  const parts = [];
  let size = 0;
  for await (const part of req) {
    size += part.length;
    if (size > MAX_BODY) throw new ApiError(413, "the request body is too large");
    parts.push(part);
  }
  let value;
  try {
    value = JSON.parse(Buffer.concat(parts).toString("utf8"));
  } catch (e) {
    throw invalid(`the body is not valid JSON: ${e.message}`);
  }
  if (value === null || typeof value !== "object" || Array.isArray(value))
    throw invalid("the body must be a JSON object");
  return value;
}

const POST = {
  "/v1/chat/completions": "chat",
  "/v1/completions": "completions",
  "/v1/embeddings": "embeddings",
  "/tokenize": "tokenize",
  "/detokenize": "detokenize",
};
const GET = new Set(["/health", "/v1/models"]);

/** Serves at once; everything but /health answers 503 until `ready` was called with an engine. */
export class RunnerServer {
  #api = null;
  #running = new Set();
  #server = http.createServer((req, res) => void this.#serve(req, res));

  ready(engine) {
    this.#api = new Api(engine);
  }

  get active() {
    return this.#running.size;
  }

  async listen({ socket, port }) {
    this.#server.keepAliveTimeout = 120_000;
    this.#server.requestTimeout = 0;
    this.#server.listen(socket !== null ? { path: socket } : { port, host: "127.0.0.1" });
    await once(this.#server, "listening");
    return socket ?? this.#server.address().port;
  }

  /** Takes no new requests; resolves when the running ones have ended or were cancelled after `ms`. */
  async close(ms) {
    this.#server.close();
    this.#server.closeIdleConnections();
    const end = Date.now() + ms;
    while (this.#running.size > 0 && Date.now() < end) await new Promise(r => setTimeout(r, 20));
    for (const reply of this.#running) reply.abort(new ApiError(503, "the runner is stopping"));
  }

  async #serve(req, res) {
    const reply = new Reply(res);
    const path = req.url.split("?", 1)[0];
    try {
      if (req.method === "GET" && path === "/health") {
        const loading = this.#api === null;
        return reply.json(loading ? 503 : 200, {
          status: loading ? "loading" : "ok",
          running: this.#running.size,
          ...this.#api?.state,
        });
      }
      const action = POST[path];
      if (!action && !GET.has(path))
        throw new ApiError(404, `there is no ${path} here`, { code: "not_found" });
      const method = action ? "POST" : "GET";
      if (req.method !== method)
        throw new ApiError(405, `${path} wants ${method}`, { headers: { allow: method } });
      if (this.#api === null)
        throw new ApiError(503, "the model is loading", { code: "loading", headers: { "retry-after": "1" } });
      if (!action) return reply.json(200, this.#api.models());
      const body = await readJson(req);
      if (reply.signal.aborted) throw new Cancelled();
      this.#running.add(reply);
      await this.#api[action](body, reply);
    } catch (e) {
      const cause = reply.failure ?? e;
      if (cause instanceof Cancelled || res.destroyed) return res.destroy();
      const error = asApiError(cause);
      if (error.status >= 500 && error !== cause) process.stderr.write(`error: ${cause?.stack ?? cause}\n`);
      reply.fail(error);
    } finally {
      this.#running.delete(reply);
    }
  }
}
