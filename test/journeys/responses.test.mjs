// Responses that are remembered: OpenAI's own client goes on with a conversation by the id of its last response, fetches,
// lists and deletes. Whoever got a response has it stored, and nobody else can see it.

import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { engines, model } from '../support/nebula.mjs';
import { stage } from '../support/stage.mjs';

const id = 'demo/chat:1';
const models = [model(id)];
const tool = { type: 'function', name: 'weather', parameters: { type: 'object' }, strict: true };

for (const engine of engines) {
  describe(engine, () => {
    let s;
    let responses;
    before(async () => {
      s = await stage({ engine, models, sections: { responses: { chain_max: 4, bytes_max: 65536 } } });
      responses = s.client.responses;
    });
    after(() => s?.close());

    const create = (input, more = {}) => responses.create({ model: id, input, ...more });
    const said = (text) => s.fake.queue.push({ kind: 'ok', text });
    const asked = () => s.fake.records.at(-1).body.messages;
    const collect = async (list) => {
      const all = [];
      for await (const one of list) all.push(one);
      return all;
    };

    test('a conversation goes on from its last response, whole or streamed', async () => {
      said('Noted: 42.');
      const first = await create('remember 42', { instructions: 'Be brief.' });
      assert.equal(first.store, true);
      assert.equal(first.previous_response_id, null);
      said('It was 42.');
      const second = await create([{ role: 'user', content: 'which number?' }], { previous_response_id: first.id });
      assert.equal(second.previous_response_id, first.id);
      assert.deepEqual(asked(), [
        { role: 'user', content: 'remember 42' },
        { role: 'assistant', content: 'Noted: 42.' },
        { role: 'user', content: 'which number?' },
      ]);
      said('As I said.');
      const stream = await create('sure?', { previous_response_id: second.id, stream: true });
      const events = await collect(stream);
      const third = events.at(-1).response;
      assert.equal(events.at(-1).type, 'response.completed');
      assert.equal(third.store, true);
      assert.equal(asked().length, 5);
      assert.deepEqual(await responses.retrieve(third.id), { ...third, output_text: 'As I said.' });
      said('Yes.');
      await create('really?', { previous_response_id: third.id });
      assert.equal(asked().length, 7);
    });

    test('tool calls are told again with their results', async () => {
      const call = { id: 'call_9', name: 'weather', arguments: '{"city":"Paris"}' };
      s.fake.queue.push({ kind: 'ok', calls: [call], reasoning: 'hm' });
      const first = await create('weather?', { tools: [tool] });
      said('Rain.');
      await create([{ type: 'function_call_output', call_id: 'call_9', output: 'rain' }], {
        previous_response_id: first.id,
        tools: [tool],
      });
      const [, turn, result] = asked();
      assert.equal(turn.tool_calls[0].id, 'call_9');
      assert.deepEqual(result, { role: 'tool', tool_call_id: 'call_9', content: 'rain' });
    });

    test('a response is fetched as it was given, and deleted', async () => {
      said('Gone soon.');
      const given = await create('hello', { metadata: { a: 'b' } });
      const fetched = await responses.retrieve(given.id);
      assert.deepEqual(fetched, given);
      await responses.delete(given.id);
      await assert.rejects(responses.retrieve(given.id), OpenAI.NotFoundError);
      await assert.rejects(responses.delete(given.id), OpenAI.NotFoundError);
      await assert.rejects(create('and?', { previous_response_id: given.id }), (error) => {
        assert.ok(error instanceof OpenAI.BadRequestError);
        assert.deepEqual([error.code, error.param], ['previous_response_not_found', 'previous_response_id']);
        assert.match(error.message, /Previous response with id 'resp_\w+' not found\./);
        return true;
      });
    });

    test('what a response was made from is listed in pages, both ways', async () => {
      said('one');
      const first = await create('a');
      said('two');
      const second = await create(
        [
          { role: 'user', content: [{ type: 'input_text', text: 'b' }] },
          { role: 'user', content: 'c' },
        ],
        { previous_response_id: first.id },
      );
      const text = (item) => item.content[0].text;
      const forward = await collect(responses.inputItems.list(second.id, { order: 'asc', limit: 2 }));
      assert.deepEqual(forward.map(text), ['a', 'one', 'b', 'c']);
      assert.equal(new Set(forward.map((item) => item.id)).size, 4);
      assert.equal(forward[0].content[0].type, 'input_text');
      const backward = await collect(responses.inputItems.list(second.id));
      assert.deepEqual(backward.map(text), ['c', 'b', 'one', 'a']);
      await assert.rejects(responses.inputItems.list(second.id, { after: 'msg_none' }), OpenAI.BadRequestError);
    });

    test('nobody sees another account’s responses', async () => {
      said('secret');
      const mine = await create('mine');
      const other = await s.server.account(`other ${engine}`, { credit: '1' });
      const theirs = s.server.client(other.key).responses;
      await assert.rejects(theirs.retrieve(mine.id), OpenAI.NotFoundError);
      await assert.rejects(theirs.delete(mine.id), OpenAI.NotFoundError);
      await assert.rejects(theirs.inputItems.list(mine.id), OpenAI.NotFoundError);
      await assert.rejects(
        theirs.create({ model: id, input: 'x', previous_response_id: mine.id }),
        OpenAI.BadRequestError,
      );
      assert.equal((await responses.retrieve(mine.id)).output_text, 'secret');
    });

    test('store: false keeps nothing, and says so', async () => {
      said('forget it');
      const given = await create('x', { store: false });
      assert.equal(given.store, false);
      await assert.rejects(responses.retrieve(given.id), OpenAI.NotFoundError);
    });

    test('a response that is too large is answered, and says that it is not stored', async () => {
      for (const stream of [false, true]) {
        s.fake.queue.push({ kind: 'ok', frames: 2, huge: 40_000 });
        const answer = await create('long', { stream });
        const given = stream ? (await collect(answer)).at(-1).response : answer;
        assert.deepEqual([given.status, given.store], ['completed', false]);
        await assert.rejects(responses.retrieve(given.id), OpenAI.NotFoundError);
      }
      assert.equal(await s.server.metric('nebula_responses_not_stored_total'), 2);
    });

    test('a conversation has an end', async () => {
      let previous;
      for (let i = 0; i < 4; ++i) {
        said('on');
        previous = (await create('go', previous ? { previous_response_id: previous } : {})).id;
      }
      said('on');
      const fifth = await create('go', { previous_response_id: previous });
      await assert.rejects(create('go', { previous_response_id: fifth.id }), (error) => {
        assert.equal(error.status, 413);
        return true;
      });
    });

    test('what runs at once cannot be cancelled; conversations are refused by name', async () => {
      said('done');
      const given = await create('x');
      await assert.rejects(responses.cancel(given.id), OpenAI.BadRequestError);
      await assert.rejects(responses.cancel('resp_0000000000009'), OpenAI.NotFoundError);
      await assert.rejects(create('x', { conversation: 'conv_1' }), (error) => error.param === 'conversation');
    });

    test('input tokens are estimated before asking, with the conversation so far', async () => {
      said('a long answer that counts as input of the next request');
      const first = await create('tell me something long');
      const alone = await responses.inputTokens.count({ model: id, input: 'and?' });
      const whole = await responses.inputTokens.count({ model: id, input: 'and?', previous_response_id: first.id });
      assert.equal(alone.object, 'response.input_tokens');
      assert.ok(alone.input_tokens > 0 && whole.input_tokens > alone.input_tokens + 10);
    });

    test('responses outlive the server, and a stream that broke is none', async () => {
      said('still here');
      const given = await create('x');
      s.fake.queue.push({ kind: 'cut_mid_body', frames: 10, after: 3 });
      const events = [];
      await assert.rejects(async () => {
        for await (const event of await create('x', { stream: true })) events.push(event);
      });
      const broken = events.find((event) => event.type === 'response.created').response;
      await assert.rejects(responses.retrieve(broken.id), OpenAI.NotFoundError);
      await s.server.kill();
      await s.server.launch();
      responses = s.server.client(s.account.key).responses;
      assert.deepEqual(await responses.retrieve(given.id), given);
    });
  });
}

test('an operator who stores nothing has nothing stored', async () => {
  const s = await stage({ models, sections: { responses: { enabled: false } } });
  try {
    const given = await s.client.responses.create({ model: id, input: 'x', store: true });
    assert.equal(given.store, false);
    await assert.rejects(s.client.responses.retrieve(given.id), OpenAI.NotFoundError);
    await assert.rejects(
      s.client.responses.create({ model: id, input: 'x', previous_response_id: given.id }),
      (error) => error.status === 400 && error.param === 'previous_response_id',
    );
    assert.deepEqual(await s.server.sql('SELECT COUNT(*) FROM stored_responses'), [['0']]);
  } finally {
    await s.close();
  }
});
