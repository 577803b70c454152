// The payment provider fails in every way it can: what was asked for happens once or not at all, and what was paid is
// credited once, however badly its news travels.

import { test, before, after, beforeEach } from 'node:test';
import assert from 'node:assert/strict';
import { paying_stage } from '../support/paying.mjs';
import { assert_platform_error, assert_status } from '../support/session.mjs';
import { eventually, nanos } from '../support/wait.mjs';

let s;
let serial = 0;
let customer;
before(async () => {
  s = await paying_stage();
});
after(() => s?.close());
beforeEach(async () => {
  s.stripe.faults.length = 0;
  s.stripe.webhooks = { hold: false, copies: 1, drop: null };
  customer = await s.customer(`fault${(serial += 1)}@example.com`);
});

const available = async () => (await s.server.balance(customer.account)).available;
const checkout = (amount) => customer.browser.post('/api/v1/payment/create-checkout-session', { amount });
const created = (path) => s.stripe.journal.filter((entry) => entry.method === 'POST' && entry.path === path);
const page_of = (answer) => [...s.stripe.sessions.values()].find((x) => x.url === answer.json().data.redirect_url);

for (const [what, fault] of [
  ['answers 500', { kind: 'status', status: 500 }],
  ['is busy', { kind: 'status', status: 429 }],
  ['cuts the connection', { kind: 'reset' }],
  ['carries it out and cuts the connection', { kind: 'lost' }],
])
  test(`a checkout is made once when Stripe ${what}`, async () => {
    const count = s.stripe.sessions.size;
    s.stripe.fail_next(fault.kind, { match: 'POST /v1/checkout/sessions', status: fault.status });
    const answer = assert_status(await checkout(10), 200);
    assert.equal(s.stripe.sessions.size, count + 1);
    const keys = created('/v1/checkout/sessions').slice(-2).map((entry) => entry.key);
    assert.equal(keys[0], keys[1], 'asked again with the same key');
    await s.stripe.pay_session(page_of(answer).id);
    await eventually('it is credited', async () => (await available()) === nanos('10'));
  });

test('Stripe that stays away is a clear error, and nothing is charged', async () => {
  s.stripe.fail_next('status', { match: 'POST /v1/checkout/sessions', status: 503, times: 3 });
  const answer = await checkout(10);
  assert.equal(answer.status, 502, answer.text);
  assert.match(answer.json().message, /payment provider/);
  assert.equal(await available(), 0n);
});

test('every event three times and backwards is credited once', async () => {
  const session = page_of(assert_status(await checkout(50), 200));
  s.stripe.webhooks.hold = true;
  await s.stripe.pay_session(session.id);
  s.stripe.webhooks = { hold: false, copies: 3, drop: null };
  await s.stripe.flush((events) => events.toReversed());
  assert.equal(await available(), nanos('57.5'));
  await s.server.verify_ledger();
});

test('when every webhook is lost, asking finds the payment', async () => {
  const session = page_of(assert_status(await checkout(25), 200));
  s.stripe.webhooks.drop = () => true;
  await s.stripe.pay_session(session.id);
  assert.equal(await available(), 0n);
  const looked = await customer.browser.post('/api/v1/payment/validate', { session_id: session.id });
  assert.equal(assert_status(looked, 200).json().data.status, 'success');
  assert.equal(await available(), nanos('27.5'));
});

test('a declined card is told in Stripe’s words and costs nothing', async () => {
  const card = await s.add_card(customer.browser, { last4: '0341', decline: 'insufficient_funds' });
  const answer = await customer.browser.post('/api/v1/payment/payment-intent', { amount: 10, payment_method_id: card.id });
  assert_platform_error(answer, 402, 'payment_required');
  assert.match(answer.json().message, /insufficient funds/);
  const { payments } = await customer.browser.data('GET', '/console/api/billing/payments');
  assert.deepEqual(payments.map((p) => [p.status, p.amount]), [['failed', '10.0000']]);
  assert.equal(await available(), 0n);
});

test('cards: the first is the default, a removed one is gone, the same card at another account is refused', async () => {
  const first = await s.add_card(customer.browser, { last4: '1111', fingerprint: `one${serial}` });
  const second = await s.add_card(customer.browser, { last4: '2222', exp_month: 3, exp_year: 2031 });
  const list = () => customer.browser.data('GET', '/api/v1/payment/payment-methods');
  assert.deepEqual((await list()).map((m) => [m.last4, m.default]), [['1111', true], ['2222', false]]);
  const chosen = await customer.browser.put('/api/v1/payment/payment-methods/default', { payment_method_id: second.id });
  assert_status(chosen, 200);
  assert.deepEqual((await list()).map((m) => [m.last4, m.expiry_date]), [['2222', '03/31'], ['1111', '12/34']]);
  assert_status(await customer.browser.post(`/api/v1/payment/delete?payment_method_id=${second.id}`), 200);
  assert.deepEqual((await list()).map((m) => [m.last4, m.default]), [['1111', true]]);
  assert.equal(s.stripe.payment_methods.get(second.id).customer, null, 'detached at Stripe too');

  const other = await s.customer(`other${serial}@example.com`);
  const setup = await other.browser.data('POST', '/api/v1/payment/setup-intent');
  const stolen = await s.stripe.confirm_setup(setup.id, { fingerprint: first.card.fingerprint });
  await eventually('it is let go', async () => stolen.customer === null);
  assert.deepEqual(await other.browser.data('GET', '/api/v1/payment/payment-methods'), []);
});

test('the platform’s words and options', async () => {
  const get = async (path) => assert_status(await customer.browser.get(`/api/v1/payment/${path}`), 200).json();
  assert.equal((await get('payment-methods')).message, 'payment methods for user is successfully retrieved.');
  const options = await get('options');
  assert.equal(options.message, 'Payment options retrieved successfully');
  assert.deepEqual(options.data.at(-1), { amount: 100, bonus: 20 });
  const setup = assert_status(await customer.browser.post('/api/v1/payment/setup-intent'), 200).json();
  assert.equal(setup.message, 'Setup intent successfully created');
  assert.equal(setup.data.object, 'setup_intent');
  const session = assert_status(await checkout('10'), 200).json();
  assert.equal(session.message, 'Checkout session successfully created');
  assert.equal((await checkout(4)).status, 400);
  assert.equal((await checkout('10.001')).status, 400);
  const back = await customer.browser.post('/api/v1/payment/create-checkout-session', { amount: 10, return_path: '//evil' });
  assert.equal(back.status, 400);
});
