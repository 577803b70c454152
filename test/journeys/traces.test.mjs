// Spans reach an OpenTelemetry collector in OTLP's JSON, as the specification writes it; the trace of a client goes on to
// the provider; and a collector that fails, refuses or hangs costs spans, never answers.

import { test, before, after, beforeEach } from 'node:test';
import assert from 'node:assert/strict';
import http from 'node:http';
import { model, Nebula } from '../support/nebula.mjs';
import { stage } from '../support/stage.mjs';
import { eventually } from '../support/wait.mjs';

const id = 'demo/chat:1';
const twice = 'demo/twice:1';
const models = [
  model(id),
  model(twice, { routes: ['one', 'two'].map((upstream) => ({ provider: 'fake', model: upstream, weight: 1 })) }),
];

/** A collector over HTTP: keeps what it was sent, answers what it is told to. */
class Collector {
  static async start() {
    const collector = new Collector();
    collector.requests = [];
    collector.status = 200;
    collector.hangs = false;
    collector.server = http.createServer(async (request, response) => {
      let body = '';
      for await (const piece of request) body += piece;
      collector.requests.push({ path: request.url, method: request.method, headers: request.headers, body });
      if (collector.hangs) return;
      response.writeHead(collector.status, { 'content-type': 'application/json' });
      response.end('{"partialSuccess":{}}');
    });
    await new Promise((resolve) => collector.server.listen(0, '127.0.0.1', resolve));
    collector.url = `http://127.0.0.1:${collector.server.address().port}`;
    return collector;
  }
  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }
  /** All spans that were taken, each checked against the form of the specification. */
  get spans() {
    return this.requests.flatMap(({ body }) => spans_of(JSON.parse(body)));
  }
}

function only(object, required, optional = []) {
  for (const name of required) assert.ok(name in object, `${name} is missing in ${JSON.stringify(object)}`);
  for (const name of Object.keys(object)) assert.ok([...required, ...optional].includes(name), `unknown member ${name}`);
}

function attributes_of(list) {
  const read = ({ stringValue, intValue, boolValue, arrayValue }) => {
    if (intValue !== undefined) {
      assert.match(intValue, /^-?\d+$/); // 64-bit numbers are texts
      return Number(intValue);
    }
    return stringValue ?? boolValue ?? arrayValue.values.map(read);
  };
  const all = {};
  for (const attribute of list) {
    only(attribute, ['key', 'value']);
    only(attribute.value, [], ['stringValue', 'intValue', 'boolValue', 'arrayValue']);
    assert.equal(Object.keys(attribute.value).length, 1);
    assert.ok(!(attribute.key in all), `${attribute.key} stands twice`);
    all[attribute.key] = read(attribute.value);
  }
  return all;
}

function spans_of(body) {
  only(body, ['resourceSpans']);
  return body.resourceSpans.flatMap((resource) => {
    only(resource, ['resource', 'scopeSpans']);
    const about = attributes_of(resource.resource.attributes);
    assert.equal(about['service.name'], 'gateway');
    return resource.scopeSpans.flatMap((scope) => {
      only(scope, ['scope', 'spans']);
      assert.equal(scope.scope.name, 'nebula');
      return scope.spans.map((span) => {
        only(
          span,
          ['traceId', 'spanId', 'name', 'kind', 'startTimeUnixNano', 'endTimeUnixNano', 'attributes', 'status', 'flags'],
          ['parentSpanId', 'events'],
        );
        assert.match(span.traceId, /^[0-9a-f]{32}$/);
        assert.match(span.spanId, /^[0-9a-f]{16}$/);
        if (span.parentSpanId) assert.match(span.parentSpanId, /^[0-9a-f]{16}$/);
        for (const at of [span.startTimeUnixNano, span.endTimeUnixNano]) {
          assert.match(at, /^\d{19}$/);
          assert.ok(Math.abs(Number(BigInt(at) / 1000000n) - Date.now()) < 60_000);
        }
        assert.ok(BigInt(span.endTimeUnixNano) >= BigInt(span.startTimeUnixNano));
        return { ...span, told: attributes_of(span.attributes) };
      });
    });
  });
}

let collector;
let s;
before(async () => {
  collector = await Collector.start();
  s = await stage({
    models,
    env: { COLLECTOR_HEADERS: 'x-tenant=we%20are,authorization=Bearer secret' },
    sections: {
      telemetry: {
        otlp_endpoint: collector.url,
        otlp_headers_env: 'COLLECTOR_HEADERS',
        flush_ms: 20,
        timeout_ms: 300,
        queue_max: 50,
        resource_attributes: ['service.name=gateway', 'deployment.environment=test'],
      },
    },
  });
});
after(async () => {
  await s?.close();
  collector?.stop();
});
beforeEach(() => {
  collector.requests.length = 0;
  collector.status = 200;
  collector.hangs = false;
});

const ask = (content, { headers, stream, model: of = id } = {}) =>
  s.server.chat({ key: s.account.key, content, stream, model: of, headers });
/** The spans of a request, once all have come. */
const spans_of_request = (answer, count) =>
  eventually('the spans have come', () => {
    const root = collector.spans.find((span) => span.told['nebula.request.id'] === answer.headers['x-request-id']);
    const all = root && collector.spans.filter((span) => span.traceId === root.traceId);
    return all?.length === count && { root, attempts: all.filter((span) => span !== root && span.spanId !== root.spanId) };
  });

test('a streamed request is a server span with the attempt as its child', async () => {
  const answer = await ask('fake:ok frames=3', { stream: true });
  assert.equal(answer.status, 200);
  const { root, attempts } = await spans_of_request(answer, 2);
  assert.deepEqual([root.kind, root.parentSpanId, root.status], [2, undefined, {}]);
  assert.equal(root.name, 'POST /v1/chat/completions');
  assert.equal(root.told['http.response.status_code'], 200);
  assert.equal(root.told['gen_ai.request.model'], id);
  assert.equal(root.told['gen_ai.usage.input_tokens'], 7);
  assert.equal(root.told['gen_ai.usage.output_tokens'], 3);
  assert.deepEqual(root.told['gen_ai.response.finish_reasons'], ['stop']);
  assert.equal(root.told['nebula.account.id'], s.account.id);
  assert.equal(root.told['nebula.streamed'], true);
  const [attempt] = attempts;
  assert.deepEqual([attempt.kind, attempt.parentSpanId], [3, root.spanId]);
  assert.equal(attempt.told['gen_ai.provider.name'], 'fake');
  assert.equal(attempt.events[0].name, 'first_token');
  assert.ok(BigInt(attempt.events[0].timeUnixNano) <= BigInt(attempt.endTimeUnixNano));
  // The provider can go on with the trace.
  assert.equal(s.fake.records.at(-1).headers.traceparent, `00-${root.traceId}-${attempt.spanId}-01`);
  const { path, method, headers, body } = collector.requests[0];
  assert.deepEqual([method, path], ['POST', '/v1/traces']);
  assert.deepEqual([headers['x-tenant'], headers.authorization], ['we are', 'Bearer secret']);
  assert.ok(!body.includes('fake:ok') && !body.includes(s.account.key), 'no prompts and no keys');
});

test('a client’s trace goes on; one that it does not sample is not recorded', async () => {
  const trace = '4bf92f3577b34da6a3ce929d0e0e4736';
  const answer = await ask('fake:ok', { headers: { traceparent: `00-${trace}-00f067aa0ba902b7-01` } });
  const { root } = await spans_of_request(answer, 2);
  assert.deepEqual([root.traceId, root.parentSpanId], [trace, '00f067aa0ba902b7']);
  // The state of the client's trace goes with it, as it came; of a trace that is not passed on, nothing.
  const told = () => s.fake.records.at(-1).headers.tracestate;
  assert.equal(told(), undefined);
  const parent = `00-${trace}-00f067aa0ba902b7-01`;
  await ask('fake:ok', { headers: { traceparent: parent, tracestate: 'rojo=00f067aa0ba902b7,congo=t61rcWkgMzE' } });
  assert.equal(told(), 'rojo=00f067aa0ba902b7,congo=t61rcWkgMzE');
  await ask('fake:ok', { headers: { traceparent: parent, tracestate: `a=${'x'.repeat(511)}` } });
  assert.equal(told(), undefined, 'longer than anybody must take');
  await ask('fake:ok', { headers: { tracestate: 'rojo=1' } });
  assert.equal(told(), undefined, 'without a trace of the client it means nothing');
  const quiet = await ask('fake:ok', { headers: { traceparent: `00-${trace}-00f067aa0ba902b7-00` } });
  assert.equal(s.fake.records.at(-1).headers.traceparent, undefined);
  // Nonsense begins a new trace.
  const odd = await ask('fake:ok', { headers: { traceparent: `00-${'0'.repeat(32)}-00f067aa0ba902b7-01` } });
  const { root: fresh } = await spans_of_request(odd, 2);
  assert.notEqual(fresh.traceId, '0'.repeat(32));
  assert.ok(!collector.spans.some((span) => span.told['nebula.request.id'] === quiet.headers['x-request-id']));
});

test('attempts that failed and requests that failed say so', async () => {
  s.fake.queue.push({ kind: 'status', status: 503 }, { kind: 'ok', frames: 1 });
  const over = await spans_of_request(await ask('hello', { model: twice }), 3);
  const [first, second] = over.attempts.toSorted((a, b) => a.told['nebula.attempt'] - b.told['nebula.attempt']);
  assert.deepEqual([first.status.code, first.told['http.response.status_code']], [2, 503]);
  assert.equal(first.told['error.type'], 'upstream_failed');
  assert.deepEqual(second.status, {});
  const failed = await spans_of_request(await ask('fake:status status=500'), 2);
  assert.deepEqual([failed.root.status.code, failed.root.told['error.type']], [2, 'upstream_failed']);
  // What a client asks wrongly is no error of ours.
  const wrong = await spans_of_request(await ask('x', { model: 'none' }), 1);
  assert.deepEqual([wrong.root.status, wrong.root.told['error.type']], [{}, 'not_found']);
});

test('a collector that is busy gets its spans later, one that refuses them not', async () => {
  collector.status = 503;
  const answer = await ask('fake:ok');
  await eventually('the collector was asked', () => collector.requests.length > 0);
  collector.requests.length = 0;
  collector.status = 200;
  await spans_of_request(answer, 2);
  const before_it = await s.server.metric('nebula_telemetry_spans_total', { result: 'refused' });
  collector.status = 400;
  await ask('fake:ok');
  await eventually('they are given up', async () => {
    return (await s.server.metric('nebula_telemetry_spans_total', { result: 'refused' })) === before_it + 2;
  });
});

test('a collector that hangs costs spans above the limit and no answers', async () => {
  collector.hangs = true;
  const dropped = () => s.server.metric('nebula_telemetry_spans_total', { result: 'dropped' });
  const before_it = await dropped();
  for (let i = 0; i < 60; ++i) assert.equal((await ask('fake:ok frames=1')).status, 200);
  assert.ok((await dropped()) > before_it);
  assert.ok((await s.server.metric('nebula_telemetry_queue')) <= 50);
});

test('settings that cannot be are refused by name', async () => {
  const code = async (telemetry) => {
    const other = await Nebula.start({ upstream: s.fake, models, sections: { telemetry }, start: false });
    try {
      await other.launch({ within_ms: 10000 });
      return 'started';
    } catch (error) {
      return `${error.message} ${other.output ?? ''}`;
    } finally {
      await other.remove();
    }
  };
  assert.match(await code({ sample_ratio: '2' }), /telemetry\.sample_ratio/);
  assert.match(await code({ otlp_endpoint: 'collector' }), /telemetry\.otlp_endpoint/);
});
