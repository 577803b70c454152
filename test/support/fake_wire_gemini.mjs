// Google's Gemini API as a wire of the fake provider (fake_wires.mjs): generateContent, streamGenerateContent as
// server-sent events, batchEmbedContents. A stream has no last event: it ends behind a finish reason. Further options of
// scripts:
//   signature          thoughtSignature of the first call, or of the text when nothing is called
//   reason             finishReason as it is (MALFORMED_FUNCTION_CALL …)
//   without_ids        calls have no ids, as older models send them

import { finish_of, split, usage_of, words_of } from './fake_scripts.mjs';

const reasons = { stop: 'STOP', length: 'MAX_TOKENS', tool_calls: 'STOP', content_filter: 'SAFETY' };
const reason_of = (o) => o.reason ?? reasons[finish_of(o)] ?? finish_of(o);

/** The report in Gemini's words: thoughts stand beside candidatesTokenCount. */
function told(usage) {
  if (!usage) return {};
  const { completion_tokens: output, completion_tokens_details: details, prompt_tokens_details: prompt } = usage;
  const thoughts = details?.reasoning_tokens;
  return {
    usageMetadata: {
      promptTokenCount: usage.prompt_tokens,
      candidatesTokenCount: typeof output === 'number' && thoughts ? output - thoughts : output,
      ...(thoughts ? { thoughtsTokenCount: thoughts } : {}),
      ...(prompt?.cached_tokens ? { cachedContentTokenCount: prompt.cached_tokens } : {}),
      totalTokenCount: usage.total_tokens,
    },
  };
}

const part_of_call = (o, { id, name, arguments: text }) => ({
  functionCall: { ...(o.without_ids ? {} : { id }), name, args: JSON.parse(text) },
});

const event = (x, parts, finishReason, usage) => ({
  candidates: [
    { content: { parts, role: 'model' }, ...(finishReason ? { finishReason } : {}), index: 0 },
  ],
  ...told(usage),
  modelVersion: x.record.model,
  responseId: x.record.id,
});

const sign = (o, parts) => {
  if (o.signature && parts.length > 0) (parts.find((p) => p.functionCall) ?? parts.at(-1)).thoughtSignature = o.signature;
  return parts;
};

function vectors_of(x) {
  const prompt = x.options.prompt_tokens ?? 7;
  x.record.usage = { prompt_tokens: prompt, total_tokens: prompt };
  return {
    embeddings: x.record.body.requests.map(({ outputDimensionality: asked }, i) => ({
      values: Array.from({ length: asked ?? x.options.dimensions ?? 4 }, (_v, d) => i + (d + 1) / 8),
    })),
    usageMetadata: { promptTokenCount: prompt, totalTokenCount: prompt },
  };
}

function body(x) {
  if (x.record.path.endsWith(':batchEmbedContents')) return vectors_of(x);
  const o = x.options;
  const words = words_of(o);
  const usage = usage_of(o, words);
  x.record.usage = usage ?? null;
  const parts = [];
  if (o.reasoning) parts.push({ text: o.reasoning, thought: true });
  if (words.length > 0) parts.push({ text: words.join('').trimEnd() });
  for (const call of o.calls ?? []) parts.push(part_of_call(o, call));
  return event(x, sign(o, parts), reason_of(o), usage);
}

function frames(x) {
  const o = x.options;
  const words = words_of(o);
  const usage = usage_of(o, words);
  const newline = o.crlf ? '\r\n' : '\n';
  const out = [];
  const add = (kind, data) => out.push({ kind, bytes: Buffer.from(`data: ${JSON.stringify(data)}${newline}${newline}`) });
  if (o.comments) out.push({ kind: 'comment', bytes: Buffer.from(`: PROCESSING${newline}${newline}`) });
  // Counts grow with every event; only the last ones are whole.
  const growing = o.usage === 'every' ? { prompt_tokens: 7, completion_tokens: 1, total_tokens: 8 } : undefined;
  for (const text of split(o.reasoning ?? '')) add('content', event(x, [{ text, thought: true }], null, growing));
  for (const text of words) add('content', event(x, [{ text }], null, growing));
  for (const [i, call] of (o.calls ?? []).entries()) {
    const parts = [part_of_call(o, call)];
    add('content', event(x, i === 0 ? sign(o, parts) : parts, null, growing));
  }
  const end = [{ text: '' }];
  add(o.usage === 'late' ? 'usage' : 'finish', event(x, o.calls ? end : sign(o, end), reason_of(o), usage));
  x.record.usage = usage ?? null;
  return out;
}

const method = /\/(models\/[^/:]+|tunedModels\/[^/:]+):(generateContent|streamGenerateContent|batchEmbedContents)$/;

export const gemini = {
  serves: (path) => method.test(path),
  read: ({ path, body: asked }) => {
    const [, resource, what] = method.exec(path);
    const parts = asked?.contents?.at?.(-1)?.parts ?? asked?.requests?.[0]?.content?.parts;
    return {
      model: decodeURIComponent(resource.replace(/^models\//, '')),
      stream: what === 'streamGenerateContent',
      include_usage: true,
      text: parts?.findLast?.((part) => part.text)?.text,
    };
  },
  body,
  frames,
  reports_at_finish: true,
  error: (status, code, message) => ({ error: { code: status, message, status: code.toUpperCase() } }),
  stream_type: 'text/event-stream',
  error_frame: (_code, message) =>
    `data: ${JSON.stringify({ error: { code: 503, message, status: 'UNAVAILABLE' } })}\n\n`,
  garbage_frame: 'data: {"candidates":[{"conte\n\n',
  // There is none: an event that says nothing.
  done_frame: 'data: {"responseId":"r"}\n\n',
};
