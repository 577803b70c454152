// The client APIs of the translation matrix: how each asks for a scenario, and what it understands of an answer.
//
// A scenario is what a user wants, in no API's words:
//   system, question            texts
//   tools                       [{ name, description, schema }]
//   history                     [{ calls: [{ id, name, input }], results: [text] }] behind the question
//   image                       { type, data } (base64) beside the question
//   schema                      of the answer
//   thinks                      true: with reasoning

import { Buffer } from 'node:buffer';

const parse = (text) => JSON.parse(text);

/** Server-sent events as `{ event, data }`; data parsed unless it is `[DONE]`. */
function events_of(text) {
  return text.split('\n\n').flatMap((frame) => {
    const lines = frame.split('\n');
    const data = lines.filter((l) => l.startsWith('data: ')).map((l) => l.slice(6));
    if (data.length === 0) return [];
    const event = lines.find((l) => l.startsWith('event: '))?.slice(7);
    return [{ event, data: data[0] === '[DONE]' ? null : parse(data.join('\n')), done: data[0] === '[DONE]' }];
  });
}

const data_url = ({ type, data }) => `data:${type};base64,${data}`;

const openai = {
  name: 'OpenAI chat',
  path: '/v1/chat/completions',
  request(s) {
    const content = s.image
      ? [
          { type: 'text', text: s.question },
          { type: 'image_url', image_url: { url: data_url(s.image) } },
        ]
      : s.question;
    const messages = [{ role: 'user', content }];
    if (s.system) messages.unshift({ role: 'system', content: s.system });
    for (const { calls, results } of s.history ?? []) {
      const tool_calls = calls.map(({ id, name, input }) => ({
        id,
        type: 'function',
        function: { name, arguments: JSON.stringify(input) },
      }));
      messages.push({ role: 'assistant', content: null, tool_calls });
      calls.forEach(({ id }, i) => messages.push({ role: 'tool', tool_call_id: id, content: results[i] }));
    }
    return {
      messages,
      max_tokens: s.cap,
      ...(s.tools && { tools: functions_of(s.tools) }),
      ...(s.schema && { response_format: { type: 'json_schema', json_schema: { name: 'out', schema: s.schema, strict: true } } }),
      ...(s.thinks && { reasoning_effort: 'low' }),
    };
  },
  stream: { stream: true, stream_options: { include_usage: true } },
  read_json(response) {
    const { choices, usage } = response.json();
    const { message, finish_reason } = choices[0];
    return {
      text: message.content ?? '',
      thoughts: message.reasoning_content ?? '',
      calls: (message.tool_calls ?? []).map((c) => ({ name: c.function.name, input: parse(c.function.arguments) })),
      ended: finish_reason === 'tool_calls' ? 'calls' : finish_reason,
      usage: [usage.prompt_tokens, usage.completion_tokens],
    };
  },
  read_stream(response) {
    const events = events_of(response.text);
    const out = { text: '', thoughts: '', calls: [], whole: response.complete && events.at(-1).done };
    const texts = [];
    for (const { data } of events) {
      if (data?.error) out.error = data.error;
      if (data?.usage) out.usage = [data.usage.prompt_tokens, data.usage.completion_tokens];
      for (const { delta, finish_reason } of data?.choices ?? []) {
        out.text += delta.content ?? '';
        out.thoughts += delta.reasoning_content ?? '';
        for (const { index, function: f } of delta.tool_calls ?? []) {
          out.calls[index] ??= { name: f.name };
          texts[index] = (texts[index] ?? '') + (f.arguments ?? '');
        }
        if (finish_reason) out.ended = finish_reason === 'tool_calls' ? 'calls' : finish_reason;
      }
    }
    if (out.whole) out.calls.forEach((call, i) => (call.input = parse(texts[i])));
    return out;
  },
  error_of: (response) => response.json().error,
};

const functions_of = (tools) =>
  tools.map(({ name, description, schema }) => ({ type: 'function', function: { name, description, parameters: schema } }));

const responses = {
  name: 'OpenAI responses',
  path: '/v1/responses',
  request(s) {
    const content = s.image
      ? [
          { type: 'input_text', text: s.question },
          { type: 'input_image', image_url: data_url(s.image) },
        ]
      : s.question;
    const input = [{ role: 'user', content }];
    for (const { calls, results } of s.history ?? []) {
      for (const { id, name, input: value } of calls)
        input.push({ type: 'function_call', call_id: id, name, arguments: JSON.stringify(value) });
      calls.forEach(({ id }, i) => input.push({ type: 'function_call_output', call_id: id, output: results[i] }));
    }
    return {
      input,
      max_output_tokens: s.cap,
      ...(s.system && { instructions: s.system }),
      ...(s.tools && {
        tools: s.tools.map(({ name, description, schema }) => ({ type: 'function', name, description, parameters: schema })),
      }),
      ...(s.schema && { text: { format: { type: 'json_schema', name: 'out', schema: s.schema, strict: true } } }),
      ...(s.thinks && { reasoning: { effort: 'low' } }),
    };
  },
  stream: { stream: true },
  read_json: (response) => read_response(response.json()),
  read_stream(response) {
    const events = events_of(response.text).map(({ data }) => data);
    const final = events.find((e) => e.type === 'response.completed' || e.type === 'response.incomplete');
    const told = (type) => events.flatMap((e) => (e.type === type ? [e.delta] : [])).join('');
    const out = final
      ? read_response(final.response)
      : { text: told('response.output_text.delta'), thoughts: told('response.reasoning_text.delta') };
    return { ...out, whole: response.complete && Boolean(final), error: events.find((e) => e.type === 'error') };
  },
  error_of: (response) => response.json().error,
};

function read_response({ output, usage, status }) {
  const items = (type) => output.filter((item) => item.type === type);
  const calls = items('function_call').map((item) => ({ name: item.name, input: parse(item.arguments) }));
  const texts = (list) => list.flatMap((item) => (item.content ?? []).map((part) => part.text)).join('');
  return {
    text: texts(items('message')),
    thoughts: texts(items('reasoning')),
    calls,
    ended: status !== 'completed' ? status : calls.length > 0 ? 'calls' : 'stop',
    usage: [usage.input_tokens, usage.output_tokens],
  };
}

const messages = {
  name: 'Anthropic messages',
  path: '/v1/messages',
  request(s) {
    const content = s.image
      ? [
          { type: 'text', text: s.question },
          { type: 'image', source: { type: 'base64', media_type: s.image.type, data: s.image.data } },
        ]
      : s.question;
    const turns = [{ role: 'user', content }];
    for (const { calls, results } of s.history ?? []) {
      turns.push({ role: 'assistant', content: calls.map(({ id, name, input }) => ({ type: 'tool_use', id, name, input })) });
      const told = calls.map(({ id }, i) => ({ type: 'tool_result', tool_use_id: id, content: results[i] }));
      turns.push({ role: 'user', content: told });
    }
    return {
      messages: turns,
      max_tokens: s.cap,
      ...(s.system && { system: s.system }),
      ...(s.tools && {
        tools: s.tools.map(({ name, description, schema }) => ({ name, description, input_schema: schema })),
      }),
      ...(s.schema && { output_config: { format: { type: 'json_schema', schema: s.schema } } }),
      ...(s.thinks && { thinking: { type: 'enabled', budget_tokens: 2048 } }),
    };
  },
  stream: { stream: true },
  read_json: (response) => read_message(response.json()),
  read_stream(response) {
    const events = events_of(response.text).map(({ data }) => data);
    const message = { content: [], usage: {} };
    const texts = [];
    for (const e of events) {
      if (e.type === 'message_start') Object.assign(message.usage, e.message.usage);
      if (e.type === 'content_block_start') message.content[e.index] = { ...e.content_block };
      if (e.type === 'content_block_delta') {
        const block = message.content[e.index];
        if (e.delta.type === 'text_delta') block.text += e.delta.text;
        if (e.delta.type === 'thinking_delta') block.thinking += e.delta.thinking;
        if (e.delta.type === 'input_json_delta') texts[e.index] = (texts[e.index] ?? '') + e.delta.partial_json;
      }
      if (e.type === 'message_delta') {
        Object.assign(message.usage, e.usage);
        message.stop_reason = e.delta.stop_reason;
      }
    }
    const whole = response.complete && events.at(-1).type === 'message_stop';
    if (whole)
      message.content.forEach((block, i) => {
        if (block.type === 'tool_use') block.input = parse(texts[i] || '{}');
      });
    return { ...read_message(message), whole, error: events.find((e) => e.type === 'error')?.error };
  },
  error_of(response) {
    const { type, error } = response.json();
    return type === 'error' ? error : undefined;
  },
};

function read_message({ content, usage, stop_reason }) {
  const texts = (type, name) => content.flatMap((block) => (block.type === type ? [block[name]] : [])).join('');
  return {
    text: texts('text', 'text'),
    thoughts: texts('thinking', 'thinking'),
    calls: content.flatMap((b) => (b.type === 'tool_use' ? [{ name: b.name, input: b.input }] : [])),
    ended: { end_turn: 'stop', tool_use: 'calls' }[stop_reason] ?? stop_reason,
    usage: [
      usage.input_tokens + (usage.cache_read_input_tokens ?? 0) + (usage.cache_creation_input_tokens ?? 0),
      usage.output_tokens,
    ],
  };
}

const ollama = {
  name: 'Ollama',
  path: '/api/chat',
  request(s) {
    const turns = [{ role: 'user', content: s.question, ...(s.image && { images: [s.image.data] }) }];
    if (s.system) turns.unshift({ role: 'system', content: s.system });
    for (const { calls, results } of s.history ?? []) {
      const tool_calls = calls.map(({ id, name, input }) => ({ id, function: { name, arguments: input } }));
      turns.push({ role: 'assistant', content: '', tool_calls });
      calls.forEach(({ id, name }, i) => turns.push({ role: 'tool', tool_name: name, tool_call_id: id, content: results[i] }));
    }
    return {
      messages: turns,
      stream: false,
      options: { num_predict: s.cap },
      ...(s.tools && { tools: functions_of(s.tools) }),
      ...(s.schema && { format: s.schema }),
      ...(s.thinks && { think: 'low' }),
    };
  },
  stream: { stream: true },
  read_json: (response) => read_lines([response.json()]),
  read_stream(response) {
    const lines = response.text.trim().split('\n').map(parse);
    const error = lines.find((line) => line.error);
    return {
      ...read_lines(lines.filter((line) => line.message)),
      whole: response.complete && lines.at(-1).done === true,
      error: error && { message: error.error },
    };
  },
  error_of: (response) => ({ message: response.json().error }),
};

function read_lines(lines) {
  const last = lines.at(-1);
  const told = (name) => lines.map((line) => line.message[name] ?? '').join('');
  const calls = lines.flatMap((line) => line.message.tool_calls ?? []);
  return {
    text: told('content'),
    thoughts: told('thinking'),
    calls: calls.map((c) => ({ name: c.function.name, input: c.function.arguments })),
    ended: calls.length > 0 && last?.done_reason === 'stop' ? 'calls' : last?.done_reason,
    usage: [last?.prompt_eval_count, last?.eval_count],
  };
}

export const clients = [openai, responses, messages, ollama];

/** A small picture whose bytes say what it is. */
export const picture = { type: 'image/png', data: Buffer.from('\x89PNG\r\n\x1a\n', 'latin1').toString('base64') };
