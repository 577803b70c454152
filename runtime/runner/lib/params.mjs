// Checks a request's members and gives them one internal form.
import { ApiError, invalid } from "./errors.mjs";
import { normaliseSchema } from "./schema.mjs";

const DEFAULT_TEMPERATURE = 0.7;

function number(q, name, min, max, fallback) {
  const v = q[name];
  if (v === undefined || v === null) return fallback;
  if (typeof v !== "number" || !Number.isFinite(v) || v < min || v > max) {
    throw invalid(`${name} must be a number from ${min} to ${max}`, name);
  }
  return v;
}

function integer(q, name, min, max, fallback) {
  const v = number(q, name, min, max, fallback);
  if (v !== fallback && !Number.isInteger(v)) throw invalid(`${name} must be a whole number`, name);
  return v;
}

function boolean(q, name) {
  const v = q[name];
  if (v !== undefined && v !== null && typeof v !== "boolean")
    throw invalid(`${name} must be true or false`, name);
  return v === true;
}

function stops(q) {
  const list = q.stop === undefined || q.stop === null ? [] : [].concat(q.stop);
  if (list.length > 4) throw invalid("stop may hold up to four texts", "stop");
  if (list.some(s => typeof s !== "string" || s === ""))
    throw invalid("stop must be a text or a list of texts, none of them empty", "stop");
  return list;
}

function format(q) {
  const f = q.response_format;
  if (f === undefined || f === null || f.type === "text") return null;
  if (f.type === "json_object") return { kind: "json" };
  if (f.type === "json_schema") {
    const schema = f.json_schema?.schema ?? f.schema;
    if (schema === undefined)
      throw invalid("response_format.json_schema.schema is missing", "response_format");
    return { kind: "schema", schema: normaliseSchema(schema) };
  }
  throw invalid("response_format.type must be text, json_object or json_schema", "response_format");
}

function bias(q, vocabulary) {
  if (q.logit_bias === undefined || q.logit_bias === null) return [];
  if (typeof q.logit_bias !== "object" || Array.isArray(q.logit_bias))
    throw invalid("logit_bias must be an object", "logit_bias");
  return Object.entries(q.logit_bias).map(([k, v]) => {
    if (!/^\d+$/.test(k) || Number(k) >= vocabulary || typeof v !== "number" || v < -100 || v > 100) {
      throw invalid("logit_bias maps token numbers to values from -100 to 100", "logit_bias");
    }
    return [Number(k), v];
  });
}

/** What both completion endpoints share. */
export function samplingParams(q, vocabulary) {
  if (q.logprobs !== undefined && q.logprobs !== null && q.logprobs !== false) {
    throw new ApiError(400, "logprobs are not supported by this runner", {
      param: "logprobs",
      code: "unsupported_parameter",
    });
  }
  const options = q.stream_options ?? {};
  if (typeof options !== "object") throw invalid("stream_options must be an object", "stream_options");
  const frequency = number(q, "frequency_penalty", -2, 2, 0),
    presence = number(q, "presence_penalty", -2, 2, 0);
  return {
    stream: boolean(q, "stream"),
    includeUsage: boolean(options, "include_usage"),
    maxTokens:
      integer(q, "max_completion_tokens", 1, 2 ** 31, null) ?? integer(q, "max_tokens", 1, 2 ** 31, null),
    temperature: number(q, "temperature", 0, 2, DEFAULT_TEMPERATURE),
    topP: number(q, "top_p", 0, 1, 1),
    topK: integer(q, "top_k", -1, 2 ** 31, 40),
    minP: number(q, "min_p", 0, 1, 0),
    seed: integer(q, "seed", -(2 ** 53), 2 ** 53, null),
    stop: stops(q),
    n: integer(q, "n", 1, 4, 1),
    repeatPenalty: number(q, "repeat_penalty", 0.01, 10, number(q, "repetition_penalty", 0.01, 10, 1)),
    frequencyPenalty: frequency,
    presencePenalty: presence,
    logitBias: bias(q, vocabulary),
    format: format(q),
  };
}

/** The messages as {role, content} with text content; parts that are no text are refused. */
export function chatMessages(q) {
  if (!Array.isArray(q.messages) || q.messages.length === 0)
    throw invalid("messages must be a list that is not empty", "messages");
  if (Array.isArray(q.tools) && q.tools.length > 0 && q.tool_choice !== "none") {
    throw new ApiError(400, "tools are not supported by this runner", {
      param: "tools",
      code: "unsupported_parameter",
    });
  }
  return q.messages.map((m, i) => {
    const at = `messages[${i}]`;
    if (m === null || typeof m !== "object" || typeof m.role !== "string")
      throw invalid(`${at} needs a role`, `${at}.role`);
    if (!["system", "developer", "user", "assistant", "tool", "function"].includes(m.role)) {
      throw invalid(`${at}.role is not known: ${m.role}`, `${at}.role`);
    }
    let content = m.content ?? "";
    if (Array.isArray(content)) {
      content = content
        .map(p => {
          if (typeof p === "string") return p;
          if (p?.type === "text" && typeof p.text === "string") return p.text;
          if (p?.type === "refusal" && typeof p.refusal === "string") return p.refusal;
          throw new ApiError(400, `this model reads text only, not ${p?.type ?? "this part"}`, {
            param: `${at}.content`,
            code: "unsupported_content",
          });
        })
        .join("");
    }
    if (typeof content !== "string")
      throw invalid(`${at}.content must be a text or a list of parts`, `${at}.content`);
    const role = m.role === "developer" ? "system" : m.role;
    return typeof m.name === "string" ? { role, content, name: m.name } : { role, content };
  });
}

/** A list of prompts, each a text or a list of token numbers. */
export function promptList(value, name, vocabulary) {
  const isTokens = x => Array.isArray(x) && x.length > 0 && x.every(t => Number.isInteger(t));
  const list = typeof value === "string" || isTokens(value) ? [value] : value;
  if (!Array.isArray(list) || list.length === 0)
    throw invalid(`${name} must be a text, a list of texts or of tokens`, name);
  for (const x of list) {
    if (typeof x === "string") continue;
    if (!isTokens(x)) throw invalid(`${name} must be a text, a list of texts or of tokens`, name);
    if (x.some(t => t < 0 || t >= vocabulary))
      throw invalid(`${name} holds a token that the model does not have`, name);
  }
  return list;
}
