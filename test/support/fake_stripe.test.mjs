// The stand-in for Stripe is an instrument: where it differs from Stripe, payments are tested against a guess. The
// official client talks to it here, and the official library checks its signatures.

import { test, before, after, beforeEach } from 'node:test';
import assert from 'node:assert/strict';
import http from 'node:http';
import { once } from 'node:events';
import Stripe from 'stripe';
import { FakeStripe, parse_form } from './fake_stripe.mjs';

let fake;
let client;
let hook;
let received;
before(async () => {
  fake = await FakeStripe.start();
  const { hostname, port } = new URL(fake.api_base);
  client = new Stripe(fake.secret_key, { host: hostname, port, protocol: 'http', maxNetworkRetries: 0, timeout: 2000 });
  hook = http.createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    received.push({ header: request.headers['stripe-signature'], text: Buffer.concat(parts).toString('utf8') });
    response.end('{"received":true}');
  });
  hook.listen(0, '127.0.0.1');
  await once(hook, 'listening');
  fake.webhook_url = `http://127.0.0.1:${hook.address().port}/webhooks/stripe`;
});
beforeEach(() => {
  received = [];
  fake.webhooks = { hold: false, copies: 1, drop: null };
  fake.held.length = 0;
  fake.faults.length = 0;
});
after(async () => {
  hook.close();
  await fake.stop();
});

const types = () => received.map(({ text }) => JSON.parse(text).type);
const session_of = (customer, cents = 1150) =>
  client.checkout.sessions.create({
    mode: 'payment',
    customer: customer.id,
    client_reference_id: 'ref-1',
    success_url: 'http://localhost/done?session_id={CHECKOUT_SESSION_ID}',
    line_items: [{ quantity: 1, price_data: { currency: 'usd', unit_amount: cents, product_data: { name: 'Credits' } } }],
    payment_intent_data: { metadata: { order: '7' } },
  });

test('forms nest as Stripe writes them', () => {
  const expected = { a: '1', b: { c: '2' }, d: { 0: { e: { f: '3' } } }, g: ['x', 'y'] };
  assert.deepEqual(parse_form('a=1&b[c]=2&d[0][e][f]=3&g[]=x&g[]=y'), expected);
});

test('a checkout is paid, and the events that tell of it are signed', async () => {
  const customer = await client.customers.create({ email: 'a@example.com', metadata: { account: 'acc' } });
  const session = await session_of(customer);
  assert.equal(session.amount_total, 1150);
  assert.equal(session.payment_status, 'unpaid');
  const paid = await fake.pay_session(session.id);
  assert.equal(paid.intent.metadata.order, '7');
  assert.equal((await client.checkout.sessions.retrieve(session.id)).payment_status, 'paid');
  assert.equal((await client.paymentIntents.retrieve(paid.intent.id)).status, 'succeeded');
  for (const type of ['payment_intent.succeeded', 'checkout.session.completed']) assert.ok(types().includes(type), type);
  for (const { text, header } of received) {
    const event = client.webhooks.constructEvent(text, header, fake.webhook_secret);
    assert.equal(event.object, 'event');
    assert.equal('intent_data' in event.data.object, false);
  }
});

test('forged deliveries are not signed rightly', async () => {
  const event = fake.emit('ping', { id: 'x' });
  fake.held.length = 0;
  await fake.deliver(event, { secret: 'whsec_other' });
  await fake.deliver(event, { timestamp: 1000 });
  await fake.deliver(event, { payload: '{}' });
  await fake.deliver(event, { header: null });
  const refused = Stripe.errors.StripeSignatureVerificationError;
  for (const { text, header } of received)
    assert.throws(() => client.webhooks.constructEvent(text, header ?? '', fake.webhook_secret), refused);
  assert.equal(received.length, 4);
});

test('events can be held, turned round, doubled and dropped', async () => {
  fake.webhooks.hold = true;
  const customer = await client.customers.create({});
  const session = await session_of(customer);
  await fake.pay_session(session.id);
  assert.equal(received.length, 0);
  const order = fake.held.map((e) => e.type);
  fake.webhooks = { hold: false, copies: 2, drop: null };
  await fake.flush((events) => events.toReversed());
  assert.deepEqual(types(), order.toReversed().flatMap((t) => [t, t]));
  received.length = 0;
  fake.webhooks = { hold: false, copies: 1, drop: (e) => e.type === 'customer.created' };
  await client.customers.create({});
  assert.deepEqual(types(), []);
});

test('the same idempotency key acts once, and refuses another request', async () => {
  const count = fake.customers.size;
  const one = await client.customers.create({ email: 'k@example.com' }, { idempotencyKey: 'k1' });
  const two = await client.customers.create({ email: 'k@example.com' }, { idempotencyKey: 'k1' });
  assert.equal(one.id, two.id);
  assert.equal(fake.customers.size, count + 1);
  await assert.rejects(client.customers.create({ email: 'l@example.com' }, { idempotencyKey: 'k1' }), Stripe.errors.StripeIdempotencyError);
});

test('a kept card pays off-session, a bad one is declined with its intent', async () => {
  const customer = await client.customers.create({});
  const setup = await client.setupIntents.create({ customer: customer.id, usage: 'off_session' });
  const card = await fake.confirm_setup(setup.id, { last4: '1881' });
  assert.ok(types().includes('payment_method.attached') && types().includes('setup_intent.succeeded'));
  const listed = await client.customers.listPaymentMethods(customer.id, { type: 'card' });
  assert.deepEqual(listed.data.map((m) => m.card.last4), ['1881']);
  const charge = { amount: 2500, currency: 'usd', customer: customer.id, off_session: true, confirm: true };
  const paid = await client.paymentIntents.create({ ...charge, payment_method: card.id });
  assert.equal(paid.status, 'succeeded');
  assert.equal(paid.amount_received, 2500);
  await assert.rejects(client.paymentIntents.create({ ...charge, payment_method: 'pm_card_chargeDeclined' }), (error) => {
    assert.ok(error instanceof Stripe.errors.StripeCardError);
    assert.equal(error.statusCode, 402);
    assert.equal(error.code, 'card_declined');
    assert.equal(error.payment_intent.status, 'requires_payment_method');
    return true;
  });
  await client.paymentMethods.detach(card.id);
  assert.equal((await client.customers.listPaymentMethods(customer.id)).data.length, 0);
  const gone = fake.events.findLast((e) => e.type === 'payment_method.detached');
  assert.equal(gone.data.object.customer, null);
  assert.equal(gone.data.previous_attributes.customer, customer.id);
});

test('refunds add up and end, disputes are opened and decided', async () => {
  const customer = await client.customers.create({});
  const { intent } = await fake.pay_session((await session_of(customer, 1000)).id);
  await client.refunds.create({ payment_intent: intent.id, amount: 300 });
  await fake.refund(intent.id);
  const refunds = fake.events.filter((e) => e.type === 'charge.refunded' && e.data.object.payment_intent === intent.id);
  assert.deepEqual(refunds.map((e) => [e.data.object.amount_refunded, e.data.object.refunded]), [[300, false], [1000, true]]);
  await assert.rejects(client.refunds.create({ payment_intent: intent.id }), { code: 'charge_already_refunded' });
  const other = await fake.pay_session((await session_of(customer, 700)).id);
  const dispute = await fake.dispute(other.intent.id);
  assert.equal((await client.disputes.retrieve(dispute.id)).status, 'needs_response');
  const { events } = await fake.close_dispute(dispute.id, 'won');
  assert.deepEqual(events.map((e) => e.type), ['charge.dispute.closed', 'charge.dispute.funds_reinstated']);
});

test('money that comes later, or does not; pages that expire', async () => {
  const customer = await client.customers.create({});
  const late = await fake.pay_session((await session_of(customer)).id, { delayed: true });
  assert.equal(late.session.status, 'complete');
  assert.equal(late.session.payment_status, 'unpaid');
  await fake.finish_session(late.session.id);
  assert.equal(late.session.payment_status, 'paid');
  const never = await fake.pay_session((await session_of(customer)).id, { delayed: true });
  await fake.finish_session(never.session.id, { succeeds: false });
  assert.ok(types().includes('checkout.session.async_payment_failed'));
  const open = await session_of(customer);
  await client.checkout.sessions.expire(open.id);
  await assert.rejects(fake.pay_session(open.id), /no open session/);
});

test('mistakes and faults look like Stripe’s', async () => {
  await assert.rejects(client.customers.retrieve('cus_none'), { statusCode: 404, code: 'resource_missing' });
  await assert.rejects(client.paymentIntents.create({ amount: 10, currency: 'usd' }), { code: 'amount_too_small', param: 'amount' });
  fake.fail_next('status', { match: 'POST /v1/customers' });
  await assert.rejects(client.customers.create({}), Stripe.errors.StripeAPIError);
  fake.fail_next('status', { status: 429 });
  await assert.rejects(client.customers.create({}), Stripe.errors.StripeRateLimitError);
  // The client tries a connection that was cut once more by itself.
  fake.fail_next('reset', { times: 2 });
  await assert.rejects(client.customers.create({}), Stripe.errors.StripeConnectionError);
  const count = fake.customers.size;
  fake.fail_next('lost', { times: 2 });
  await assert.rejects(client.customers.create({}, { idempotencyKey: 'lost-1' }), Stripe.errors.StripeConnectionError);
  assert.equal(fake.customers.size, count + 1);
  await client.customers.create({}, { idempotencyKey: 'lost-1' });
  assert.equal(fake.customers.size, count + 1, 'carried out once');
  const { hostname, port } = new URL(fake.api_base);
  const stranger = new Stripe('sk_test_wrong', { host: hostname, port, protocol: 'http', maxNetworkRetries: 0 });
  await assert.rejects(stranger.customers.create({}), Stripe.errors.StripeAuthenticationError);
});

test('the page of a session can be paid in a browser', async () => {
  const session = await session_of(await client.customers.create({}), 500);
  const page = await fetch(session.url);
  assert.match(await page.text(), /Pay 5\.00 usd/);
  const paid = await fetch(session.url, { method: 'POST', redirect: 'manual' });
  assert.equal(paid.status, 303);
  assert.equal(paid.headers.get('location'), `http://localhost/done?session_id=${session.id}`);
  assert.equal((await fetch(session.url, { method: 'POST' })).status, 409);
});
