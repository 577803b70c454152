// The OpenAI-style operations over an Engine.
import crypto from "node:crypto";
import { invalid } from "./errors.mjs";
import { chatMessages, promptList, samplingParams } from "./params.mjs";

const now = () => Math.floor(Date.now() / 1000);
const newId = prefix => prefix + crypto.randomBytes(12).toString("hex");

function usageOf(prompt, results) {
  const completion = results.reduce((sum, r) => sum + r.tokens, 0);
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: Math.max(0, ...results.map(r => r.cached)) },
  };
}

/** How the two completion endpoints differ in what they send. */
const CHAT = {
  prefix: "chatcmpl-",
  object: "chat.completion",
  chunk: "chat.completion.chunk",
  open: index => ({ index, delta: { role: "assistant", content: "" }, logprobs: null, finish_reason: null }),
  piece: (index, text) => ({ index, delta: { content: text }, logprobs: null, finish_reason: null }),
  close: (index, reason) => ({ index, delta: {}, logprobs: null, finish_reason: reason }),
  whole: (index, r) => ({
    index,
    message: { role: "assistant", content: r.text, refusal: null },
    logprobs: null,
    finish_reason: r.reason,
  }),
};
const TEXT = {
  prefix: "cmpl-",
  object: "text_completion",
  chunk: "text_completion",
  open: null,
  piece: (index, text) => ({ index, text, logprobs: null, finish_reason: null }),
  close: (index, reason) => ({ index, text: "", logprobs: null, finish_reason: reason }),
  whole: (index, r) => ({ index, text: r.text, logprobs: null, finish_reason: r.reason }),
};

export class Api {
  #engine;

  constructor(engine) {
    this.#engine = engine;
  }

  get state() {
    return { waiting: this.#engine.waiting, generated: this.#engine.generated };
  }

  models() {
    return {
      object: "list",
      data: [
        { id: this.#engine.name, object: "model", created: 0, owned_by: "local", ...this.#engine.details },
      ],
    };
  }

  async chat(q, reply) {
    const params = samplingParams(q, this.#engine.vocabulary);
    await this.#complete(q, params, [this.#engine.chatTokens(chatMessages(q))], CHAT, reply);
  }

  async completions(q, reply) {
    const params = samplingParams(q, this.#engine.vocabulary);
    if (q.suffix) throw invalid("suffix is not supported by this runner", "suffix");
    if (q.echo) throw invalid("echo is not supported by this runner", "echo");
    if (params.maxTokens === null) params.maxTokens = 16; // as OpenAI's endpoint
    const prompts = promptList(q.prompt, "prompt", this.#engine.vocabulary);
    if (prompts.length > 16) throw invalid("prompt may hold up to 16 texts", "prompt");
    await this.#complete(
      q,
      params,
      prompts.map(p => this.#engine.rawTokens(p)),
      TEXT,
      reply,
    );
  }

  /** Runs every prompt n times and answers in the form of `kind`. */
  async #complete(q, params, prompts, kind, reply) {
    for (const p of prompts) this.#engine.checkLength(p);
    const jobs = prompts.flatMap(p => Array.from({ length: params.n }, (_, i) => ({ prompt: p, i })));
    this.#engine.admit(jobs.length);
    const head = object => ({ id, object, created, model: q.model ?? this.#engine.name });
    const id = newId(kind.prefix),
      created = now();
    const chunk = (choices, usage) =>
      reply.event({
        ...head(kind.chunk),
        choices,
        ...(params.includeUsage ? { usage: usage ?? null } : {}),
      });
    const one = async ({ prompt, i }, index) => {
      const mine = { ...params, seed: params.seed === null ? null : params.seed + i };
      let opened = false;
      const open = async () => {
        if (params.stream && !opened && kind.open) await chunk([kind.open(index)]);
        opened = true;
      };
      const result = await this.#engine.generate(prompt, mine, reply.signal, async text => {
        if (!params.stream) return;
        await open();
        await chunk([kind.piece(index, text)]);
      });
      await open();
      if (params.stream) await chunk([kind.close(index, result.reason)]);
      return result;
    };
    // One failing job ends the others too: nobody could use their answers.
    const results = await Promise.all(
      jobs.map((job, index) =>
        one(job, index).catch(e => {
          reply.abort(e);
          throw e;
        }),
      ),
    );
    const usage = usageOf(
      prompts.reduce((n, p) => n + p.length, 0),
      results,
    );
    if (!params.stream) {
      reply.json(200, { ...head(kind.object), choices: results.map((r, i) => kind.whole(i, r)), usage });
      return;
    }
    if (params.includeUsage) await chunk([], usage);
    reply.done();
  }

  async embeddings(q, reply) {
    const format = q.encoding_format ?? "float";
    if (format !== "float" && format !== "base64")
      throw invalid("encoding_format must be float or base64", "encoding_format");
    const inputs = promptList(q.input, "input", this.#engine.vocabulary);
    if (inputs.length > 2048) throw invalid("input may hold up to 2048 entries", "input");
    const size = this.#engine.details.embedding_length;
    if (q.dimensions !== undefined && q.dimensions !== null && q.dimensions !== size) {
      throw invalid(`this model's embeddings have ${size} dimensions`, "dimensions");
    }
    const data = [];
    let total = 0;
    for (const [index, input] of inputs.entries()) {
      const { vector, tokens } = await this.#engine.embed(input, reply.signal);
      total += tokens;
      const embedding =
        format === "float" ? vector : Buffer.from(Float32Array.from(vector).buffer).toString("base64");
      data.push({ object: "embedding", index, embedding });
    }
    reply.json(200, {
      object: "list",
      data,
      model: q.model ?? this.#engine.name,
      usage: { prompt_tokens: total, total_tokens: total },
    });
  }

  async tokenize(q, reply) {
    // Of a conversation: what its prompt becomes, as the model's chat template writes it.
    if (q.messages !== undefined) {
      const tokens = this.#engine.chatTokens(chatMessages(q));
      return reply.json(200, { tokens: [...tokens] });
    }
    if (typeof q.content !== "string") throw invalid("content must be a text", "content");
    reply.json(200, { tokens: [...this.#engine.tokenize(q.content, q.add_special === true)] });
  }

  async detokenize(q, reply) {
    if (!Array.isArray(q.tokens)) throw invalid("tokens must be a list", "tokens");
    const [tokens] = q.tokens.length === 0 ? [[]] : promptList(q.tokens, "tokens", this.#engine.vocabulary);
    if (!Array.isArray(tokens)) throw invalid("tokens must be a list of numbers", "tokens");
    reply.json(200, { content: this.#engine.detokenize(tokens) });
  }
}
