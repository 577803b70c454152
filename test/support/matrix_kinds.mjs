// The kinds of providers of the translation matrix: how each is configured, and what its server understands of a
// request. `asked` returns what a scenario of matrix_clients.mjs says, as far as the API can say it:
//   { system, question, tools: [names], results: [texts], image: base64, schema, thinks, cap }

import assert from 'node:assert/strict';

const root_of = (fake) => fake.base_url.replace(/\/v1$/, '');
const text_of = (content) =>
  typeof content === 'string' ? content : (content ?? []).flatMap((part) => (part.type === 'text' ? [part.text] : [])).join('');

const openai = {
  name: 'openai',
  base_url: (fake) => fake.base_url,
  asked({ body }) {
    const of = (role) => body.messages.filter((m) => m.role === role);
    const user = of('user')[0].content;
    const image = Array.isArray(user) && user.find((part) => part.type === 'image_url');
    return {
      system: of('system').map((m) => text_of(m.content)).join(''),
      question: text_of(user),
      tools: (body.tools ?? []).map((t) => t.function.name),
      results: of('tool').map((m) => [m.tool_call_id, text_of(m.content)]),
      image: image ? image.image_url.url.split(',')[1] : undefined,
      schema: body.response_format?.json_schema?.schema,
      thinks: body.reasoning_effort !== undefined,
      cap: body.max_tokens ?? body.max_completion_tokens,
    };
  },
};

const anthropic = {
  name: 'anthropic',
  base_url: root_of,
  asked({ body }) {
    const blocks = body.messages.flatMap((m) => (Array.isArray(m.content) ? m.content : []));
    return {
      system: text_of(body.system),
      question: text_of(body.messages[0].content),
      tools: (body.tools ?? []).map((t) => t.name),
      results: blocks.flatMap((b) => (b.type === 'tool_result' ? [[b.tool_use_id, text_of(b.content)]] : [])),
      image: blocks.find((b) => b.type === 'image')?.source.data,
      schema: body.output_config?.format?.schema,
      thinks: body.thinking?.type === 'enabled',
      cap: body.max_tokens,
    };
  },
};

const ollama = {
  name: 'ollama',
  base_url: root_of,
  asked({ body }) {
    const of = (role) => body.messages.filter((m) => m.role === role);
    const user = of('user')[0];
    return {
      system: of('system').map((m) => m.content).join(''),
      question: user.content,
      tools: (body.tools ?? []).map((t) => t.function.name),
      results: of('tool').map((m) => [m.tool_call_id, m.content]),
      image: user.images?.[0],
      schema: body.format,
      thinks: Boolean(body.think),
      cap: body.options?.num_predict,
    };
  },
};

const gemini = {
  name: 'gemini',
  base_url: root_of,
  asked({ body }) {
    const texts = (parts) => (parts ?? []).map((part) => part.text ?? '').join('');
    const parts = body.contents.flatMap((turn) => turn.parts);
    const config = body.generationConfig ?? {};
    return {
      system: texts(body.systemInstruction?.parts),
      question: texts(body.contents[0].parts),
      tools: (body.tools ?? []).flatMap((t) => t.functionDeclarations.map((f) => f.name)),
      results: parts.flatMap(({ functionResponse: f }) => (f ? [[f.id, Object.values(f.response).join('')]] : [])),
      image: parts.find((part) => part.inlineData)?.inlineData.data,
      schema: config.responseJsonSchema,
      thinks: config.thinkingConfig?.includeThoughts === true,
      cap: config.maxOutputTokens,
    };
  },
};

/** Clients of the Responses API pass; all others are served by chat completions beside it. */
const responses = {
  name: 'responses',
  settings: { kind: 'openai', responses: true },
  base_url: (fake) => fake.base_url,
  asked(record) {
    const { body, path } = record;
    if (!path.endsWith('/responses')) return openai.asked(record);
    const of = (type) => body.input.filter((item) => (item.type ?? 'message') === type);
    const { content } = of('message')[0];
    const parts = typeof content === 'string' ? [{ type: 'input_text', text: content }] : content;
    assert.equal(body.store, false, 'nothing is kept at the provider');
    return {
      system: body.instructions ?? '',
      question: parts.flatMap((part) => part.text ?? []).join(''),
      tools: (body.tools ?? []).map((t) => t.name),
      results: of('function_call_output').map((item) => [item.call_id, item.output]),
      image: parts.find((part) => part.type === 'input_image')?.image_url.split(',')[1],
      schema: body.text?.format?.schema,
      thinks: body.reasoning !== undefined,
      cap: body.max_output_tokens,
    };
  },
};

/** A kind is tested as soon as it stands here. `settings`: of the provider, beside its kind of that name. */
export const kinds = [openai, responses, anthropic, ollama, gemini];
