// The whole life of a customer with real clients: signing up, paying, a team with a limited key, spending to the end, and
// every document about it. All of them must tell the same, to the billionth of a dollar.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import OpenAI from 'openai';
import { engines, model } from '../support/nebula.mjs';
import { check_receipt, exact_member, exact_members, from_units, pdf_text, sum } from '../support/money.mjs';
import { paying_stage } from '../support/paying.mjs';
import { price_of } from '../support/stage.mjs';
import { assert_status, Browser, new_team } from '../support/session.mjs';
import { dollars, nanos } from '../support/wait.mjs';

// Prices that leave odd nano-dollars in every sum.
const odd = model('demo/chat:1', { price_input_per_m: '0.137', price_output_per_m: '0.4291' });
const prices = { input: '0.137', output: '0.4291' };

for (const engine of engines) {
  test(`a customer buys, shares, spends to the last and gets bills that agree, ${engine}`, async () => {
    const s = await paying_stage({
      engine,
      models: [odd],
      sections: { tax: [{ country: '*', name: 'Sales tax', percent: '14.975' }], invoice: { seller_name: 'Test Cloud Ltd' } },
    });
    try {
      const owner = await s.customer('customer@example.com');
      const team = await new_team(owner.browser, 'Buyers');
      const buyer = team.as(owner.browser);

      // The package of 100 has a bonus of 20 and is taxed.
      const paid = await s.buy(buyer, 100);
      assert.equal(paid.amount_total, 11498, '100 USD and 14.975 %, in cents');
      assert.equal(await s.server.settled(team.id), nanos('120'));
      // The same events again, and in another order, change nothing.
      for (const event of paid.events.toReversed()) await s.stripe.deliver(event);
      for (const event of paid.events) await s.stripe.deliver(event);
      assert.equal(await s.server.settled(team.id), nanos('120'));

      // A team key for exactly five calls.
      const call = price_of(7, 10, prices);
      const k = 5n;
      const { key, id: key_id } = await buyer.data('POST', '/api/v1/keys', {
        name: 'budgeted',
        limit: Number(dollars(call * k)),
        permissions: ['inference:read', 'inference:write', 'billing:read'],
      });
      const client = s.server.client(key);
      const requests = [];
      await assert.rejects(
        async () => {
          for (let i = 0; i < 50; i += 1) {
            const { data, response } = await client.chat.completions
              .create({ model: 'demo/chat:1', messages: [{ role: 'user', content: 'fake:ok frames=10' }], max_tokens: 10 })
              .withResponse();
            assert.equal(data.usage.completion_tokens, 10);
            requests.push(response.headers.get('x-request-id'));
          }
        },
        (error) => error instanceof OpenAI.APIError && error.status === 402 && /budget/i.test(error.message),
      );
      assert.equal(BigInt(requests.length), k);
      const spent = call * k;
      const left = nanos('120') - spent;
      assert.equal(await s.server.settled(team.id), left);
      await s.server.verify_ledger();

      const get = async (at, browser = buyer) => assert_status(await browser.get(at), 200, at);
      const by_key = new Browser(s.server.url).with_bearer(key);

      // The platform's shapes.
      const credits = await get('/api/v1/users/credits');
      assert.equal(exact_member(credits.text, 'available_balance'), left);
      assert.match(credits.json().data.available_balance, /^\d+\.\d{5,}$/);
      const history = await get('/api/v1/users/credits/history?limit=10&offset=0');
      assert.equal(exact_member(history.text, 'credit_balance'), left);
      assert.equal(sum(exact_members(history.text, 'total')), spent);
      const statistics = await get('/api/v1/serverless/llm-statistics?time_frame=1d');
      assert.match(statistics.text, new RegExp(`"total_requests":${requests.length}\\b`));

      // Novita's, in units of 0.0001 USD.
      const balance = (await get('/openapi/v1/billing/balance/detail', by_key)).json();
      assert.equal(from_units(balance.availableBalance), left);
      const { bills } = (await get('/openapi/v1/billing/bill/list?cycleType=Hour&productCategory=llm', by_key)).json();
      assert.equal(sum(bills.map((b) => from_units(b.amount))), spent);
      assert.equal(sum(bills.map((b) => BigInt(b.billNum0))), 7n * k);
      assert.equal(sum(bills.map((b) => BigInt(b.billNum1))), 10n * k);
      assert.ok(bills.every((b) => Object.values(b).every((value) => typeof value === 'string')));
      const now = Math.floor(Date.now() / 1000);
      const key_bills = (
        await get(`/openapi/v1/billing/apikey/bill/list?cycleType=Day&startTime=${now - 86400}&endTime=${now + 60}`, by_key)
      ).json().bills;
      assert.equal(sum(key_bills.map((b) => from_units(b.amount))), spent);
      assert.ok(key_bills.every((b) => b.apikeyName === 'budgeted' && b.ownerID === key_id), JSON.stringify(key_bills));
      const months = (await get('/openapi/v1/billing/monthly/bill', by_key)).json().data;
      assert.equal(sum(months.map((m) => from_units(m.totalAmount))), spent);
      const moves = (await get('/openapi/v1/bill/transaction?pageNo=1&pageSize=50&transactionType=recharge', by_key)).json();
      assert.equal(sum(moves.data.map((m) => from_units(m.amount))), nanos('120'));

      // OpenRouter's.
      const router = await get('/api/v1/credits');
      assert.equal(exact_member(router.text, 'total_credits') - exact_member(router.text, 'total_usage'), left);
      const own = await get('/api/v1/key', by_key);
      assert.equal(exact_member(own.text, 'usage'), spent);
      assert.equal(exact_member(own.text, 'limit_remaining'), 0n);

      // The console's, and the CSV of it.
      const usage = await get('/console/api/billing/usage');
      assert.equal(exact_members(usage.text, 'charge').at(-1), spent, 'the total stands last');
      const csv = (await get('/console/api/billing/usage/export.csv')).text.trim().split('\r\n');
      const column = csv[0].split(',').indexOf('charge_usd');
      assert.equal(sum(csv.slice(1).map((line) => nanos(line.split(',')[column]))), spent);

      // The invoice of the payment.
      const { invoices } = (await get('/api/v1/users/invoices?limit=10&offset=0')).json().data;
      assert.equal(invoices.length, 1);
      assert.equal(invoices[0].price, 114.98);
      const file = await get(`/api/v1/users/invoice-download/${invoices[0].id}`);
      assert.equal(file.headers['content-type'], 'application/pdf');
      const text = pdf_text(file.body);
      for (const part of ['Test Cloud Ltd', invoices[0].invoice_id.slice(1), '100.00 USD', '14.98 USD', '114.98 USD', 'Sales tax'])
        assert.ok(text.includes(part), `"${part}" is not in the invoice:\n${text}`);
      const stranger = await s.customer('stranger@example.com');
      assert.equal((await stranger.browser.get(`/api/v1/users/invoice-download/${invoices[0].id}`)).status, 404);

      // A signed receipt for each request, checked without the program, and with it.
      const published = (await get('/.well-known/nebula-receipt-key', new Browser(s.server.url))).json().public_key;
      let receipted = 0n;
      for (const request of requests) {
        const { text: receipt_text } = await get(`/v1/receipts/${request}`, by_key);
        const receipt = check_receipt(receipt_text, published);
        assert.deepEqual(
          [receipt.request, receipt.account, receipt.key, receipt.model, receipt.input_tokens, receipt.output_tokens],
          [request, team.id, key_id, 'demo/chat:1', 7, 10],
        );
        receipted += BigInt(receipt.charge_nanos);
        const kept = path.join(s.server.dir, 'receipt.json');
        fs.writeFileSync(kept, receipt_text);
        assert.equal((await s.server.cli('receipts', 'check', kept)).code, 0);
        fs.writeFileSync(kept, receipt_text.replace('"output_tokens":10', '"output_tokens":11'));
        assert.notEqual((await s.server.cli('receipts', 'check', kept)).code, 0);
      }
      assert.equal(receipted, spent);
      assert.equal((await stranger.browser.get(`/v1/receipts/${requests[0]}`)).status, 404);

      // And the books themselves.
      const records = await s.server.usage_records();
      assert.equal(sum(records.map((r) => r.charge)), spent);
      await s.server.verify_ledger();
    } finally {
      await s.close();
    }
  });
}

// Half of the way is the way back: what an operator changes afterwards is found.
test('a bill that somebody edits in the database is found by the ledger and contradicts the receipt', async () => {
  const s = await paying_stage({ models: [odd] });
  try {
    const answer = await s.server.chat({ key: s.account.key });
    const request = answer.headers['x-request-id'];
    const { stdout: receipt } = await s.server.cli('receipts', 'show', s.account.id, request, '--json');
    await s.server.stop();
    await s.server.verify_ledger();
    const changed = await s.server.sql('update usage_records set output_tokens = output_tokens - 1').then(
      () => true,
      () => false, // the database refuses by itself: that is as good
    );
    const { code } = await s.server.cli('ledger', 'verify');
    assert.equal(code, changed ? 1 : 0);
    assert.equal(check_receipt(receipt.trim()).output_tokens, 10);
  } finally {
    await s.close();
  }
});
