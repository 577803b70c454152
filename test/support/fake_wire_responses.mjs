// OpenAI's Responses API as a wire of the fake provider (fake_wires.mjs). Further options of scripts:
//   encrypted          encrypted_content of the reasoning item
//   items              items in front of the message, as they are (uses of hosted tools …)
//   refusal            text that the message refuses with
//   summary            true: thoughts are told as a summary, as OpenAI's own models do
//   done               true: `data: [DONE]` behind the last event, as some servers send it

import { finish_of, split, usage_of, words_of } from './fake_scripts.mjs';

/** The report in the API's words. */
function told(usage) {
  if (!usage) return usage;
  const { prompt_tokens_details: input = {}, completion_tokens_details: output = {} } = usage;
  return {
    input_tokens: usage.prompt_tokens,
    input_tokens_details: { cached_tokens: input.cached_tokens ?? 0, cache_write_tokens: input.cache_write_tokens ?? 0 },
    output_tokens: usage.completion_tokens,
    output_tokens_details: { reasoning_tokens: output.reasoning_tokens ?? 0 },
    total_tokens: usage.total_tokens,
  };
}

const id_of = (x) => x.record.id.replace('chatcmpl-', 'resp_upstream_');
const reasons = { length: 'max_output_tokens', content_filter: 'content_filter' };

/** The response object; what it repeats is what was asked. */
function response_of(x, status, output, usage) {
  const { body } = x.record;
  const reason = reasons[finish_of(x.options)];
  const ended = status === 'completed' && reason ? 'incomplete' : status;
  return {
    id: id_of(x),
    object: 'response',
    created_at: 1700000000,
    status: ended,
    background: false,
    error: null,
    incomplete_details: ended === 'incomplete' ? { reason } : null,
    instructions: body?.instructions ?? null,
    max_output_tokens: body?.max_output_tokens ?? null,
    model: x.record.model,
    output,
    parallel_tool_calls: true,
    previous_response_id: body?.previous_response_id ?? null,
    reasoning: { effort: body?.reasoning?.effort ?? null, summary: null },
    store: body?.store ?? true,
    temperature: 1,
    text: body?.text ?? { format: { type: 'text' } },
    tool_choice: body?.tool_choice ?? 'auto',
    tools: body?.tools ?? [],
    top_p: 1,
    truncation: 'disabled',
    user: body?.user ?? null,
    metadata: body?.metadata ?? {},
    ...(usage === undefined ? {} : { usage }),
  };
}

/** The items of an answer in order: how each begins, its deltas, and how it ends. */
function* items_of(x, words) {
  const o = x.options;
  const tail = x.record.id.split('-').at(-1);
  if (o.reasoning || o.encrypted) {
    const [list, type] = o.summary ? ['summary', 'summary_text'] : ['content', 'reasoning_text'];
    const id = `rs_${tail}`;
    const base = { id, type: 'reasoning', summary: [] };
    const part = { type, text: o.reasoning };
    const whole = { ...base, ...(o.encrypted ? { encrypted_content: o.encrypted } : {}) };
    if (o.reasoning) whole[list] = [part];
    const at = o.summary ? { item_id: id, summary_index: 0 } : { item_id: id, content_index: 0 };
    const name = o.summary ? 'response.reasoning_summary_text' : 'response.reasoning_text';
    const added = o.summary ? 'response.reasoning_summary_part.added' : 'response.content_part.added';
    yield {
      start: base,
      steps: o.reasoning ? [[added, { ...at, part: { ...part, text: '' } }]] : [],
      deltas: split(o.reasoning ?? '').map((delta) => [`${name}.delta`, { ...at, delta }]),
      whole,
    };
  }
  for (const item of o.items ?? []) {
    const name = `response.${item.type}`;
    const steps = ['in_progress', 'completed'].map((step) => [`${name}.${step}`, { item_id: item.id }]);
    yield { start: { ...item, status: 'in_progress' }, steps, deltas: [], whole: item };
  }
  if (words.length > 0 || o.refusal || !o.calls) {
    const id = `msg_${tail}`;
    const base = { id, type: 'message', role: 'assistant', status: 'in_progress', content: [] };
    const part = o.refusal
      ? { type: 'refusal', refusal: o.refusal }
      : { type: 'output_text', text: '', annotations: [], logprobs: [] };
    const text = words.join('').trimEnd();
    const whole_part = o.refusal ? part : { ...part, text };
    const deltas = o.refusal
      ? split(o.refusal).map((delta) => ['response.refusal.delta', { item_id: id, content_index: 0, delta }])
      : words.map((delta) => ['response.output_text.delta', { item_id: id, content_index: 0, delta, logprobs: [] }]);
    yield {
      start: base,
      part,
      whole_part,
      id,
      deltas,
      whole: { ...base, status: reasons[finish_of(o)] ? 'incomplete' : 'completed', content: [whole_part] },
    };
  }
  for (const [i, { id: call_id, name, arguments: text }] of (o.calls ?? []).entries()) {
    const id = `fc_${tail}_${i}`;
    const whole = { id, type: 'function_call', status: 'completed', call_id, name, arguments: text };
    const half = Math.ceil(text.length / 2);
    const pieces = [text.slice(0, half), text.slice(half)].map((delta) => [
      'response.function_call_arguments.delta',
      { item_id: id, delta },
    ]);
    yield { start: { ...whole, status: 'in_progress', arguments: '' }, is_content: true, deltas: pieces, whole };
  }
}

function body(x) {
  const words = words_of(x.options);
  const usage = usage_of(x.options, words);
  x.record.usage = usage ?? null;
  return response_of(x, 'completed', [...items_of(x, words)].map((item) => item.whole), told(usage));
}

function frames(x) {
  const o = x.options;
  const words = words_of(o);
  const usage = usage_of(o, words);
  const newline = o.crlf ? '\r\n' : '\n';
  const out = [];
  let sequence = 0;
  const add = (kind, type, members) => {
    const data = JSON.stringify({ type, sequence_number: sequence++, ...members });
    out.push({ kind, bytes: Buffer.from(`event: ${type}${newline}data: ${data}${newline}${newline}`) });
  };
  if (o.comments) out.push({ kind: 'comment', bytes: Buffer.from(`: PROCESSING${newline}${newline}`) });
  const begun = response_of(x, 'in_progress', [], null);
  add('role', 'response.created', { response: begun });
  add('role', 'response.in_progress', { response: begun });
  const output = [];
  for (const { start, steps = [], deltas, whole, part, whole_part, id, is_content } of items_of(x, words)) {
    const output_index = output.length;
    add(is_content ? 'content' : 'role', 'response.output_item.added', { output_index, item: start });
    if (part) add('role', 'response.content_part.added', { item_id: id, output_index, content_index: 0, part });
    for (const [type, members] of steps) add('role', type, { output_index, ...members });
    for (const [type, members] of deltas) add('content', type, { output_index, ...members });
    if (part) add('role', 'response.content_part.done', { item_id: id, output_index, content_index: 0, part: whole_part });
    add('role', 'response.output_item.done', { output_index, item: whole });
    output.push(whole);
  }
  const response = response_of(x, 'completed', output, told(usage));
  // Reason, report and end are one event here; a late report is a late end.
  add(o.usage === 'late' ? 'usage' : 'finish', `response.${response.status}`, { response });
  if (o.done) out.push({ kind: 'done', bytes: Buffer.from(`data: [DONE]${newline}${newline}`) });
  x.record.usage = usage ?? null;
  return out;
}

/** The text of the last item, be it a string or parts. */
function last_text(input) {
  if (typeof input === 'string') return input;
  const content = input?.at?.(-1)?.content;
  return Array.isArray(content) ? content.findLast((part) => part.type === 'input_text')?.text : content;
}

const event = (type, members) => `event: ${type}\ndata: ${JSON.stringify({ type, sequence_number: 99, ...members })}\n\n`;

export const responses = {
  serves: (path) => path.endsWith('/responses'),
  read: ({ body: asked }) => ({
    model: asked?.model,
    stream: asked?.stream === true,
    include_usage: true,
    text: last_text(asked?.input),
  }),
  body,
  frames,
  reports_at_finish: true,
  error: (status, code, message) =>
    status === 200
      ? { id: 'resp_failed', object: 'response', status: 'failed', error: { code, message }, output: [], model: 'm' }
      : { error: { message, type: code, param: null, code } },
  stream_type: 'text/event-stream; charset=utf-8',
  error_frame: (code, message) =>
    event('response.failed', {
      response: { id: 'resp_failed', object: 'response', status: 'failed', error: { code, message }, output: [] },
    }),
  garbage_frame: 'event: response.output_text.delta\ndata: {"type":"response.outp\n\n',
  done_frame: event('response.completed', {
    response: { id: 'resp_done', object: 'response', status: 'completed', output: [], usage: null },
  }),
};
