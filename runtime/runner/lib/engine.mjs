// One loaded model: sequences that are decoded together, generation, embeddings, tokens.
import fs from "node:fs";
import path from "node:path";
import { getLlama, LlamaGrammarEvaluationState, LlamaLogLevel, TokenBias } from "node-llama-cpp";
import { ApiError, Cancelled, invalid } from "./errors.mjs";
import { PromptBuilder } from "./prompt.mjs";
import { Slots } from "./slots.mjs";
import { JsonEnd, StopFilter, TokenDecoder } from "./text.mjs";

const DEFAULT_CONTEXT = 8192;
// A prompt is evaluated in pieces so that a client that leaves ends it soon.
const PROMPT_STEP = 512;
// A shared beginning shorter than this is not worth keeping.
const MIN_REUSE = 32;
const MAX_GRAMMARS = 32;

export class Engine {
  #llama;
  #model;
  #context;
  #slots;
  #prompts;
  #options;
  #embedding = null;
  #grammars = new Map();
  #generated = 0;

  /** Loads the model. Throws when the file cannot be used. */
  static async load(options) {
    const engine = new Engine();
    engine.#options = options;
    if (!fs.statSync(options.model, { throwIfNoEntry: false })?.isFile())
      throw new Error(`no such file: ${options.model}`);
    engine.#llama = await getLlama({
      gpu: options.gpu === "off" ? false : "auto",
      build: "never",
      skipDownload: true,
      progressLogs: false,
      maxThreads: options.threads,
      logLevel: LlamaLogLevel.warn,
      logger: (level, message) => process.stderr.write(`${level}: ${message.trimEnd()}\n`),
    });
    const model = (engine.#model = await engine.#llama.loadModel({ modelPath: path.resolve(options.model) }));
    const wanted = options.context ?? Math.min(model.trainContextSize, DEFAULT_CONTEXT);
    engine.#context = await model.createContext({
      sequences: options.parallel,
      threads: options.threads,
      contextSize: options.context ? wanted : { min: Math.min(256, wanted), max: wanted },
    });
    const sequences = Array.from({ length: options.parallel }, () => engine.#context.getSequence());
    engine.#slots = new Slots(sequences, options.queue);
    engine.#prompts = new PromptBuilder(model);
    if (options.embeddings) await engine.#embeddingContext();
    return engine;
  }

  get name() {
    return this.#model.fileInfo.metadata?.general?.name ?? path.basename(this.#options.model, ".gguf");
  }
  get contextSize() {
    return Math.min(this.#context.contextSize, this.#model.trainContextSize || Infinity);
  }
  get waiting() {
    return this.#slots.waiting;
  }
  /** Tokens generated since the start. */
  get generated() {
    return this.#generated;
  }
  get vocabulary() {
    return this.#model.fileInfo.metadata?.tokenizer?.ggml?.tokens?.length ?? Infinity;
  }
  get details() {
    return {
      context_length: this.contextSize,
      train_context_length: this.#model.trainContextSize,
      embedding_length: this.#model.embeddingVectorSize,
      size_bytes: this.#model.size,
      gpu: this.#llama.gpu || null,
    };
  }

  admit(n) {
    this.#slots.admit(n);
  }
  chatTokens(messages) {
    return this.#prompts.chat(messages);
  }
  rawTokens(prompt) {
    return this.#prompts.raw(prompt);
  }

  tokenize(text, addSpecial) {
    const tokens = this.#model.tokenize(text, false);
    const { bos, shouldPrependBosToken } = this.#model.tokens;
    return addSpecial && shouldPrependBosToken && bos !== null ? [bos, ...tokens] : tokens;
  }

  detokenize(tokens) {
    return this.#model.detokenize(tokens, true);
  }

  /** Throws context_length_exceeded unless the prompt leaves room for at least one token. */
  checkLength(prompt) {
    if (prompt.length === 0) throw invalid("the prompt is empty", "prompt");
    if (prompt.length < this.contextSize) return;
    throw invalid(
      `This model's maximum context length is ${this.contextSize} tokens. However, your messages ` +
        `resulted in ${prompt.length} tokens. Please reduce the length of the messages.`,
      "messages",
      "context_length_exceeded",
    );
  }

  /**
   * Generates one text. `onText` is called (and awaited) with every piece that is certain.
   * @returns {{text, tokens, reason, cached}} reason: "stop" or "length"; tokens: how many were generated
   */
  async generate(prompt, params, signal, onText) {
    const grammar = params.format ? await this.#grammarState(params.format) : null;
    const reuse = params.seed === null && params.temperature > 0;
    const sequence = await this.#slots.take(signal, s =>
      reuse ? commonLength(s.contextTokens, prompt) : -s.contextTokens.length,
    );
    try {
      const cached = await this.#prepare(sequence, prompt, reuse, signal);
      return { ...(await this.#decode(sequence, prompt, params, grammar, signal, onText)), cached };
    } finally {
      this.#slots.give(sequence);
    }
  }

  /** Evaluates all but the prompt's last piece. Returns how many tokens were already there. */
  async #prepare(sequence, prompt, reuse, signal) {
    let done = reuse ? Math.min(commonLength(sequence.contextTokens, prompt), prompt.length - 1) : 0;
    if (done < MIN_REUSE) done = 0;
    if (sequence.nextTokenIndex > done) {
      if (done === 0) await sequence.clearHistory();
      else await sequence.eraseContextTokenRanges([{ start: done, end: sequence.nextTokenIndex }]);
    }
    // Models with recurrent state cannot go back: they may have lost everything.
    done = sequence.nextTokenIndex;
    const cached = done;
    while (prompt.length - done > PROMPT_STEP) {
      if (signal.aborted) throw new Cancelled();
      await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(done, done + PROMPT_STEP));
      done += PROMPT_STEP;
    }
    return cached;
  }

  async #decode(sequence, prompt, params, grammar, signal, onText) {
    const limit = Math.min(params.maxTokens ?? Infinity, this.contextSize - prompt.length);
    const decoder = new TokenDecoder((tokens, before) => this.#model.detokenize(tokens, false, before));
    const filter = new StopFilter(params.stop);
    const json = params.format ? new JsonEnd() : null;
    const out = [];
    let text = "",
      reason = "length";
    const send = async piece => {
      if (piece === "") return;
      text += piece;
      await onText(piece);
    };
    const rest = prompt.slice(sequence.nextTokenIndex);
    for await (const token of sequence.evaluate(rest, this.#sampling(params, out, grammar))) {
      if (signal.aborted) throw new Cancelled();
      if (this.#model.isEogToken(token)) {
        reason = "stop";
        break;
      }
      out.push(token);
      this.#generated++;
      let piece = decoder.push(token);
      const end = json ? json.push(piece) : -1;
      if (end >= 0) piece = piece.slice(0, end);
      await send(filter.push(piece));
      if (signal.aborted) throw new Cancelled();
      if (filter.stopped || end >= 0) {
        reason = "stop";
        break;
      }
      if (out.length >= limit) break;
    }
    if (!filter.stopped) {
      await send(filter.push(decoder.end()));
      if (filter.stopped) reason = "stop";
      await send(filter.end());
    }
    return { text, tokens: out.length, reason };
  }

  #sampling(params, out, grammar) {
    const options = {
      temperature: params.temperature,
      topP: params.topP,
      topK: Math.max(0, params.topK),
      minP: params.minP,
      seed: (params.seed ?? Math.floor(Math.random() * 2 ** 32)) >>> 0,
      yieldEogToken: true,
      contextShift: {
        strategy: () => {
          throw new Error("the context is full");
        },
      },
    };
    if (params.repeatPenalty !== 1 || params.frequencyPenalty !== 0 || params.presencePenalty !== 0) {
      options.repeatPenalty = {
        punishTokens: () => out.slice(-256),
        maxPunishTokens: 256,
        penalty: params.repeatPenalty,
        frequencyPenalty: params.frequencyPenalty,
        presencePenalty: params.presencePenalty,
      };
    }
    if (params.logitBias.length > 0) {
      options.tokenBias = TokenBias.for(this.#model);
      for (const [token, value] of params.logitBias)
        options.tokenBias.set(token, value <= -100 ? "never" : { logit: value });
    }
    if (grammar) options.grammarEvaluationState = grammar;
    return options;
  }

  async #grammarState(format) {
    const key = format.kind === "json" ? "json" : JSON.stringify(format.schema);
    if (!this.#grammars.has(key)) {
      if (this.#grammars.size >= MAX_GRAMMARS) this.#grammars.delete(this.#grammars.keys().next().value);
      try {
        const schema =
          format.kind === "json" ? { type: "object", additionalProperties: true } : format.schema;
        this.#grammars.set(key, await this.#llama.createGrammarForJsonSchema(schema));
      } catch (e) {
        throw invalid(`the schema cannot be enforced: ${e.message}`, "response_format");
      }
    }
    return new LlamaGrammarEvaluationState({ model: this.#model, grammar: this.#grammars.get(key) });
  }

  async #embeddingContext() {
    if (!this.#embedding) {
      const size = Math.min(this.#options.context ?? DEFAULT_CONTEXT, this.#model.trainContextSize);
      this.#embedding = this.#model
        .createEmbeddingContext({ contextSize: size, batchSize: size, threads: this.#options.threads })
        .then(context => ({ context, size }));
      this.#embedding.catch(() => {
        this.#embedding = null;
      });
    }
    return this.#embedding;
  }

  /** @returns {{vector: number[], tokens: number}} a vector of length 1 (L2) */
  async embed(input, signal) {
    const { context, size } = await this.#embeddingContext();
    const tokens = typeof input === "string" ? this.#model.tokenize(input, false) : input;
    if (tokens.length === 0) throw invalid("input must not be empty", "input");
    const count = context.calculateInputLength([...tokens]);
    if (count >= size) {
      throw new ApiError(
        400,
        `This model's maximum context length is ${size} tokens, however you requested ${count} tokens.`,
        { param: "input", code: "context_length_exceeded" },
      );
    }
    if (signal.aborted) throw new Cancelled();
    const { vector } = await context.getEmbeddingFor([...tokens]);
    const length = Math.hypot(...vector) || 1;
    return { vector: vector.map(x => x / length), tokens: count };
  }
}

function commonLength(a, b) {
  const n = Math.min(a.length, b.length);
  let i = 0;
  while (i < n && a[i] === b[i]) i++;
  return i;
}
