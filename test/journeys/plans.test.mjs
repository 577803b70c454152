// Plans, codes and cards: the quota pays first and credits only where the plan allows it, fees are prorated, what a bank
// takes back is taken back here, and then nothing is sold on credit.

import { describe, test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { model } from '../support/nebula.mjs';
import { paying_stage } from '../support/paying.mjs';
import { exact_member } from '../support/money.mjs';
import { price_of } from '../support/stage.mjs';
import { assert_platform_error, assert_status, Browser } from '../support/session.mjs';
import { dollars, eventually, nanos } from '../support/wait.mjs';

const subscription = '/console/api/subscription';
const call_price = price_of(7, 10);
const models = [model('demo/chat:1'), model('vision', { model_class: 'vision' })];
const plan = [
  { id: 'soft', name: 'Soft', price: '10', quota_input: 1000, quota_output: 25 },
  { id: 'hard', name: 'Hard', price: '20', quota_input: 1000, quota_output: 20, may_overrun: false },
  { id: 'large', name: 'Large', price: '50', quota_input: 1000000, quota_output: 1000000, model_classes: ['basic', 'vision'] },
  { id: 'narrow', name: 'Narrow', price: '30', quota_input: 1000, quota_output: 1000, model_classes: ['basic'] },
  { id: 'contact', name: 'Contact us', price: '100', contact_only: true },
];

let s;
before(async () => {
  s = await paying_stage({ models, sections: { plan, commerce: { low_balance: '3' } } });
});
after(() => s?.close());

let serial = 0;
async function rich(name, credit = '100') {
  const customer = await s.customer(`${name}${(serial += 1)}@example.com`);
  if (credit) await s.server.cli_json('credits', 'grant', customer.account, credit);
  const { key } = await s.server.key(customer.account);
  return { ...customer, key };
}
const balance = (customer) => s.server.settled(customer.account);
const subscribe = (customer, id) => customer.browser.post(subscription, { plan: id });
const ask = (customer, more = {}) => s.server.chat({ key: customer.key, body: { max_tokens: 10 }, ...more });

describe('plans', () => {
  test('the presets are those of the price list', async () => {
    const t = await paying_stage();
    try {
      const listed = (await new Browser(t.server.url).data('GET', '/console/api/plans')).plans;
      assert.deepEqual(
        listed.map((p) => [p.id, Number(p.price), p.quota_input, p.quota_output]),
        [
          ['free', 0, 100000, 20000],
          ['developer', 10, 2000000, 500000],
          ['pro', 50, 15000000, 3000000],
          ['enterprise', 200, 100000000, 20000000],
        ],
      );
      const packages = (await new Browser(t.server.url).data('GET', '/console/api/packages')).packages;
      assert.deepEqual(
        packages.map((p) => [Number(p.price), Number(p.bonus)]),
        [
          [5, 0],
          [10, 0],
          [25, 2.5],
          [50, 7.5],
          [100, 20],
        ],
      );
    } finally {
      await t.close();
    }
  });

  test('the quota pays first, then credits, to the token', async () => {
    const customer = await rich('quota');
    assert_status(await subscribe(customer, 'soft'), 200);
    assert.equal(await balance(customer), nanos('90'), 'the price is taken from the credits');
    for (const expected of [0n, 0n, price_of(0, 5), price_of(0, 10)]) {
      const before = await balance(customer);
      assert.equal((await ask(customer)).status, 200);
      assert.equal(before - (await balance(customer)), expected);
    }
    const { plan: taken, quota } = await customer.browser.data('GET', subscription);
    assert.deepEqual([taken.id, quota.output, quota.used_output, quota.used_input], ['soft', 25, 25, 28]);
    await s.server.verify_ledger();
  });

  test('where credits may not pay the rest, the end of the quota is a clear 402 and nothing is charged', async () => {
    const customer = await rich('hard');
    assert_status(await subscribe(customer, 'hard'), 200);
    for (let i = 0; i < 2; i += 1) assert.equal((await ask(customer)).status, 200);
    const refused = await ask(customer);
    assert.ok([402, 429].includes(refused.status), `${refused.status} ${refused.text}`);
    assert.match(refused.text, /quota|plan/i);
    assert.equal(await balance(customer), nanos('80'));
  });

  test('many calls at once never use more than the quota, and pay for exactly what it did not cover', async () => {
    const customer = await rich('rush');
    assert_status(await subscribe(customer, 'soft'), 200);
    const answers = await Promise.all(Array.from({ length: 40 }, () => ask(customer)));
    assert.ok(answers.every((a) => a.status === 200));
    const { quota } = await customer.browser.data('GET', subscription);
    const used = answers.map((a) => a.json().usage);
    const input = used.reduce((sum, u) => sum + u.prompt_tokens, 0);
    const output = used.reduce((sum, u) => sum + u.completion_tokens, 0);
    // Credits pay where the quota was held by others just then, so some of its input may be left.
    assert.equal(quota.used_output, 25);
    assert.ok(quota.used_input <= 1000, `${quota.used_input}`);
    assert.equal(nanos('90') - (await balance(customer)), price_of(input - quota.used_input, output - quota.used_output));
  });

  test('a plan without a class of models does not serve it', async () => {
    const customer = await rich('narrow');
    assert_status(await subscribe(customer, 'narrow'), 200);
    assert.equal((await ask(customer)).status, 200);
    const refused = await ask(customer, { model: 'vision' });
    assert.equal(refused.status, 403, refused.text);
    assert.match(refused.text, /plan/);
    assert_status(await subscribe(customer, 'large'), 200);
    assert.equal((await ask(customer, { model: 'vision' })).status, 200, 'an upgrade counts at once');
  });

  test('an upgrade gives back what is unused of the old plan, to the nano-dollar', async () => {
    const customer = await rich('upgrade');
    assert_status(await subscribe(customer, 'soft'), 200);
    const before = await balance(customer);
    assert_status(await subscribe(customer, 'large'), 200);
    const fee = before - (await balance(customer));
    // Seconds of a month have passed: nearly all of the ten come back, and never more than ten.
    assert.ok(fee > nanos('40') && fee < nanos('40.01'), dollars(fee));
    assert.equal((await subscribe(customer, 'large')).status, 409, 'that plan already');
    await s.server.verify_ledger();
  });

  test('a downgrade waits for the end of the period, a cancellation too', async () => {
    const customer = await rich('down');
    assert_status(await subscribe(customer, 'large'), 200);
    const before = await balance(customer);
    assert_status(await subscribe(customer, 'soft'), 200);
    assert.equal(await balance(customer), before, 'nothing is paid yet');
    const ordered = await customer.browser.data('GET', subscription);
    assert.deepEqual([ordered.plan.id, ordered.next_plan], ['large', 'soft']);
    assert_status(await customer.browser.delete(subscription), 200);
    assert.equal((await customer.browser.data('GET', subscription)).cancel_at_period_end, true);
    assert.equal((await ask(customer, { model: 'vision' })).status, 200, 'paid is paid');
  });

  test('who cannot pay a plan does not get it, and contact-only plans are the operator’s to give', async () => {
    const customer = await rich('poor', '9.999999999');
    assert_platform_error(await subscribe(customer, 'soft'), 402, 'payment_required');
    assert.equal(await balance(customer), nanos('9.999999999'));
    const wealthy = await rich('wealthy', '200');
    assert.equal((await subscribe(wealthy, 'contact')).status, 403);
    assert.equal((await subscribe(wealthy, 'nonsense')).status, 404);
    await s.server.cli_json('plans', 'subscribe', wealthy.account, 'contact', '--json');
    assert.equal(await balance(wealthy), nanos('100'));
  });
});

describe('codes', () => {
  const redeem = (customer, promo_code) => customer.browser.post('/api/v1/payment/promo-codes/redeem', { promo_code });

  test('a code gives its credits once per account and so often in all', async () => {
    const { code } = await s.server.cli_json('codes', 'create', '2.5', '--code', 'WELCOME', '--uses', '2', '--json');
    const [one, two, three] = [await rich('one', null), await rich('two', null), await rich('three', null)];
    assert_status(await redeem(one, code.toLowerCase()), 200, 'however it is written');
    assert.equal(await balance(one), nanos('2.5'));
    assert.ok((await redeem(one, code)).status >= 400, 'once per account');
    assert_status(await redeem(two, ` ${code} `), 200);
    assert.ok((await redeem(three, code)).status >= 400, 'twice in all');
    assert.deepEqual([await balance(one), await balance(two), await balance(three)], [nanos('2.5'), nanos('2.5'), 0n]);
  });

  test('many who redeem the last use at once: one gets it', async () => {
    await s.server.cli_json('codes', 'create', '1', '--code', 'RACE', '--uses', '1', '--json');
    const all = await Promise.all(Array.from({ length: 6 }, (_, i) => rich(`race${i}`, null)));
    const answers = await Promise.all(all.map((customer) => redeem(customer, 'RACE')));
    assert.equal(answers.filter((a) => a.status === 200).length, 1);
  });

  test('an expired code and one that never was are refused in the same words', async () => {
    await s.server.cli_json('codes', 'create', '1', '--code', 'OLD', '--expires-at', '2020-01-01T00:00:00Z', '--json');
    const customer = await rich('late', null);
    const words = (answer) => [answer.status, answer.json().message];
    assert.deepEqual(words(await redeem(customer, 'OLD')), words(await redeem(customer, 'NEVERWAS')));
  });

  test('codes cannot be guessed: who tries many is stopped', async () => {
    const customer = await rich('guess', null);
    const statuses = [];
    for (let i = 0; i < 30; i += 1) statuses.push((await redeem(customer, `GUESS${i}`)).status);
    assert.equal(statuses.at(-1), 429, `${statuses}`);
  });
});

describe('cards', () => {
  test('a kept card pays by itself when the balance falls below the threshold, at most once an hour', async () => {
    const customer = await rich('auto', '6');
    const card = await s.add_card(customer.browser);
    const put = await customer.browser.put('/api/v1/payment/auto-pay', {
      enabled: true,
      payment_method_id: card.id,
      threshold: 5,
      amount: 25,
    });
    assert_status(put, 200);
    await s.server.cli_json('credits', 'grant', customer.account, '-2');
    await eventually('the card was charged', async () => (await balance(customer)) === nanos('31.5'), { within_ms: 90000, every_ms: 500 });
    await s.server.cli_json('credits', 'grant', customer.account, '-30');
    await new Promise((resolve) => setTimeout(resolve, 3000));
    assert.equal(await balance(customer), nanos('1.5'), 'not again within the hour');
    await s.server.verify_ledger();
  });

  test('a payment that is refunded takes its credits back; what is spent becomes a debt that stops everything', async () => {
    const customer = await rich('refund', null);
    const paid = await s.buy(customer.browser, 10);
    assert.equal(await balance(customer), nanos('10'));
    assert.equal((await ask(customer)).status, 200);
    const spent = nanos('10') - (await balance(customer));
    assert.equal(spent, call_price);
    await s.refund(paid);
    await eventually('the credits are taken', async () => (await s.server.balance(customer.account)).available === -spent);
    assert.equal((await ask(customer)).status, 402);
    assert.equal(exact_member((await customer.browser.get('/api/v1/users/credits')).text, 'available_balance'), -spent);
    await s.server.verify_ledger();
    // New money pays the debt first.
    await s.buy(customer.browser, 5);
    assert.equal(await balance(customer), nanos('5') - spent);
    assert.equal((await ask(customer)).status, 200);
    await s.server.verify_ledger();
  });

  test('a disputed payment is taken back at once, and given back when the dispute is won', async () => {
    const customer = await rich('dispute', null);
    const paid = await s.buy(customer.browser, 25);
    assert.equal(await balance(customer), nanos('27.5'));
    const dispute = await s.dispute(paid);
    await eventually('it is taken', async () => (await s.server.balance(customer.account)).available <= nanos('2.5'));
    await s.win(dispute);
    await eventually('it is given back', async () => (await s.server.balance(customer.account)).available === nanos('27.5'));
    await s.server.verify_ledger();
  });

  test('a webhook that is not signed, signed with another secret, or old moves nothing', async () => {
    const customer = await rich('forged', null);
    const paid = await s.buy(customer.browser, 5, { deliver: false });
    for (const how of ['unsigned', 'other_secret', 'old', 'changed']) {
      const answer = await s.deliver_forged(paid, how);
      assert.equal(answer.status, 400, `${how}: ${answer.status} ${answer.text}`);
    }
    assert.equal(await balance(customer), 0n);
    for (const event of paid.events) await s.stripe.deliver(event);
    assert.equal(await balance(customer), nanos('5'));
  });
});

describe('tiers and welcome', () => {
  const limits_of = async (t, key) => {
    const { headers } = await t.server.chat({ key, body: { max_tokens: 5 } });
    return ['requests', 'tokens', 'requests-day'].map((unit) => headers[`x-ratelimit-limit-${unit}`]);
  };

  test('who has paid more may ask more: the table of the platform, in the headers', async () => {
    const t = await paying_stage({ sections: { commerce: { tier_preset: 'platform' } } });
    try {
      const customer = await t.customer('tiers@example.com');
      await t.server.cli_json('credits', 'grant', customer.account, '1');
      const { key } = await t.server.key(customer.account);
      assert.deepEqual(await limits_of(t, key), ['60', '60000', '200']);
      await t.add_card(customer.browser);
      await eventually('Engineer 2', async () => (await limits_of(t, key))[0] === '300');
      assert.deepEqual(await limits_of(t, key), ['300', '150000', '1000']);
      await t.buy(customer.browser, 10);
      await eventually('Engineer 3', async () => (await limits_of(t, key))[0] === '600');
      // The key's own limit is tighter, so it counts.
      const tight = await t.server.key(customer.account, { rpm: 7 });
      assert.equal((await limits_of(t, tight.key))[0], '7');
    } finally {
      await t.close();
    }
  });

  test('a daily limit ends at midnight UTC and says so', async () => {
    const t = await paying_stage();
    try {
      const account = await t.server.account('daily', { credit: '1' });
      const { key } = await t.server.key(account.id, { rpd: 2 });
      for (let i = 0; i < 2; i += 1) assert.equal((await t.server.chat({ key })).status, 200);
      const refused = await t.server.chat({ key });
      assert.equal(refused.status, 429, refused.text);
      assert.match(refused.text, /per day/);
      const now = new Date();
      const midnight = Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate() + 1);
      const wait = Number(refused.headers['retry-after']) * 1000;
      assert.ok(wait > 0 && wait <= Math.max(midnight - now.getTime() + 2000, 3600000), `${wait}`);
      await t.server.stop();
      await t.server.launch();
      assert.equal((await t.server.chat({ key })).status, 429, 'a restart forgives nothing');
    } finally {
      await t.close();
    }
  });

  test('a new person gets the gift and the plan of the house, once', async () => {
    const t = await paying_stage({ people: { sign_up_credits: '5', default_plan: 'free' } });
    try {
      const customer = await t.customer('welcome@example.com');
      await eventually('the gift is there', async () => (await t.server.settled(customer.account)) === nanos('5'));
      assert.equal((await customer.browser.data('GET', subscription)).plan.id, 'free');
      const again = await t.customer('welcome@example.com').catch(() => null);
      assert.equal(again, null, 'nobody signs up twice');
      assert.equal(await t.server.settled(customer.account), nanos('5'));
      // The free quota pays.
      const { key } = await t.server.key(customer.account);
      assert.equal((await t.server.chat({ key })).status, 200);
      assert.equal(await t.server.settled(customer.account), nanos('5'));
    } finally {
      await t.close();
    }
  });
});
