// A stand-in for Stripe that behaves by its documented API: objects, error shapes, idempotency keys, states of payments,
// refunds that are cumulative, disputes. It sends signed webhooks (signed by the official `stripe` package) and can
// duplicate, reorder, hold back or drop them; it declines cards and answers 500, 429 or not at all on demand.
//
// What customers and banks do, a test does by a control call: `pay_session`, `confirm_setup`, `confirm_intent`,
// `refund`, `dispute`, `close_dispute`. Run it alone with `node fake_stripe.mjs --port 0 --webhook URL`; then the
// checkout pages it names can be paid in a browser.

import http from 'node:http';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import Stripe from 'stripe';
import { handle, payment_failure } from './fake_stripe_api.mjs';

const id = (prefix) => `${prefix}_${randomBytes(12).toString('hex')}`;
const now = () => Math.floor(Date.now() / 1000);

/** Cards by Stripe's names of test cards; `decline` is the decline code of every charge. */
export const test_cards = {
  pm_card_visa: { brand: 'visa', last4: '4242' },
  pm_card_mastercard: { brand: 'mastercard', last4: '4444' },
  pm_card_chargeDeclined: { brand: 'visa', last4: '0002', decline: 'generic_decline' },
  pm_card_chargeCustomerFail: { brand: 'visa', last4: '0341', decline: 'generic_decline' },
  pm_card_visa_chargeDeclinedInsufficientFunds: { brand: 'visa', last4: '9995', decline: 'insufficient_funds' },
  pm_card_authenticationRequired: { brand: 'visa', last4: '3184', decline: 'authentication_required' },
};

/** "a[b][0][c]=1" as { a: { b: { 0: { c: '1' } } } }; "a[]=1" as { a: ['1'] }. */
export function parse_form(text) {
  const out = {};
  for (const [name, value] of new URLSearchParams(text)) {
    const path = name.split(/[[\]]+/).filter((part, i) => i === 0 || part !== '');
    if (name.endsWith('[]')) {
      (out[path[0]] ??= []).push(value);
      continue;
    }
    let at = out;
    path.forEach((part, i) => {
      if (i + 1 === path.length) at[part] = value;
      else at = at[part] ??= {};
    });
  }
  return out;
}

export class FakeStripe {
  /** `webhook_url` can be set later; until then events are only collected. */
  static async start({ port = 0, webhook_url = null, secret_key = 'sk_test_fake', webhook_secret = 'whsec_fake' } = {}) {
    const fake = new FakeStripe();
    Object.assign(fake, { webhook_url, secret_key, webhook_secret });
    fake.official = new Stripe(secret_key);
    for (const kind of ['customers', 'payment_methods', 'setup_intents', 'payment_intents', 'sessions', 'charges', 'refunds', 'disputes'])
      fake[kind] = new Map();
    fake.events = []; // every event ever made, oldest first
    fake.deliveries = []; // { event, status, text }
    fake.journal = []; // requests: { method, path, form, key, status }
    fake.faults = []; // see fail_next()
    fake.used_keys = new Map();
    /** How events go out by themselves: `hold` collects them in `held`; `copies` > 1 repeats; `drop(event)` loses. */
    fake.webhooks = { hold: false, copies: 1, drop: null };
    fake.held = [];
    fake.server = http.createServer((request, response) => fake.#serve(request, response));
    fake.server.listen(port, '127.0.0.1');
    await once(fake.server, 'listening');
    fake.api_base = `http://127.0.0.1:${fake.server.address().port}`;
    return fake;
  }

  async stop() {
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }

  /**
   * The next call whose "METHOD /path" matches (text: begins with it; RegExp; nothing: any) fails once. kind:
   * `status` (with `status`, default 500), `silence` (no answer), `reset` (connection cut), `lost` (carried out, then the
   * connection is cut before the answer).
   */
  fail_next(kind, { match = '', status = 500, times = 1 } = {}) {
    for (let i = 0; i < times; i += 1) this.faults.push({ kind, match, status });
  }

  #fault(line) {
    const at = this.faults.findIndex(({ match }) => (match instanceof RegExp ? match.test(line) : line.startsWith(match)));
    return at < 0 ? null : this.faults.splice(at, 1)[0];
  }

  async #serve(request, response) {
    const parts = [];
    for await (const part of request) parts.push(part);
    const text = Buffer.concat(parts).toString('utf8');
    const url = new URL(request.url, this.api_base);
    if (!url.pathname.startsWith('/v1/')) return this.#page(request, response, url);
    const form = parse_form(request.method === 'GET' ? url.search.slice(1) : text);
    const key = request.headers['idempotency-key'] ?? null;
    const entry = { method: request.method, path: url.pathname, form, key, version: request.headers['stripe-version'] ?? null };
    this.journal.push(entry);
    const send = (status, body, headers = {}) => {
      entry.status = status;
      response.writeHead(status, { 'content-type': 'application/json', 'request-id': id('req'), ...headers });
      response.end(JSON.stringify(body));
    };
    const fault = this.#fault(`${request.method} ${url.pathname}`);
    if (fault?.kind === 'silence') return undefined;
    if (fault?.kind === 'reset') return request.socket.resetAndDestroy();
    if (fault?.kind === 'status')
      return send(fault.status, { error: { type: fault.status === 429 ? 'rate_limit_error' : 'api_error', message: 'on demand' } });
    if (!this.#is_allowed(request.headers.authorization))
      return send(401, { error: { type: 'invalid_request_error', message: 'Invalid API Key provided' } });
    const answer = this.#once(request.method, url.pathname, key, text, form);
    if (fault?.kind === 'lost') return request.socket.resetAndDestroy();
    send(answer.status, answer.body, answer.replayed ? { 'idempotent-replayed': 'true' } : {});
    return this.#send_held_back();
  }

  #is_allowed(header = '') {
    const [scheme, value = ''] = header.split(' ');
    if (scheme === 'Bearer') return value === this.secret_key;
    return scheme === 'Basic' && Buffer.from(value, 'base64').toString() === `${this.secret_key}:`;
  }

  // The same key with the same request: the first answer again. With another request: an error.
  #once(method, path, key, text, form) {
    const print = createHash('sha256').update(`${method} ${path} ${text}`).digest('hex');
    const known = method === 'POST' && key ? this.used_keys.get(key) : null;
    if (known && known.print !== print) {
      const message = `Keys for idempotent requests can only be used with the parameters they were first used with: ${key}`;
      return { status: 400, body: { error: { type: 'idempotency_error', message } } };
    }
    if (known) return { ...known.answer, replayed: true };
    const answer = structuredClone(handle(this, method, path, form));
    if (method === 'POST' && key) this.used_keys.set(key, { print, answer });
    return answer;
  }

  // ---- objects -----------------------------------------------------------------------------------------------------

  make_id(prefix) {
    return id(prefix);
  }

  /** A card as typed into Stripe's form; not attached to anybody. `fingerprint` names the physical card. */
  make_card({ brand = 'visa', last4 = '4242', exp_month = 12, exp_year = 2034, fingerprint = null, decline = null } = {}) {
    const method = {
      id: id('pm'),
      object: 'payment_method',
      type: 'card',
      customer: null,
      created: now(),
      livemode: false,
      metadata: {},
      billing_details: { address: null, email: null, name: null, phone: null },
      card: { brand, last4, exp_month, exp_year, fingerprint: null, funding: 'credit', country: 'US' },
    };
    method.card.fingerprint = fingerprint ?? randomBytes(8).toString('hex');
    Object.defineProperty(method, 'decline', { value: decline, writable: true, enumerable: false });
    this.payment_methods.set(method.id, method);
    return method;
  }

  /** A payment method by id; test cards are made when first named. */
  method(name) {
    if (test_cards[name]) return this.make_card({ fingerprint: `fp_${name}_${randomBytes(4).toString('hex')}`, ...test_cards[name] });
    return this.payment_methods.get(name) ?? null;
  }

  attach(method, customer) {
    method.customer = customer;
    this.emit('payment_method.attached', method);
    return method;
  }

  detach(method) {
    const before = method.customer;
    method.customer = null;
    this.emit('payment_method.detached', method, { customer: before });
    return method;
  }

  /** Charges the card of the intent; the intent and an event tell how it went. True: paid. */
  charge(intent, method) {
    intent.payment_method = method.id;
    const failed = method.decline;
    const charge = {
      id: id('ch'),
      object: 'charge',
      amount: intent.amount,
      amount_captured: failed ? 0 : intent.amount,
      amount_refunded: 0,
      captured: !failed,
      created: now(),
      currency: intent.currency,
      customer: intent.customer,
      disputed: false,
      livemode: false,
      metadata: { ...intent.metadata },
      paid: !failed,
      payment_intent: intent.id,
      payment_method: method.id,
      refunded: false,
      status: failed ? 'failed' : 'succeeded',
    };
    this.charges.set(charge.id, charge);
    intent.latest_charge = charge.id;
    if (failed) {
      intent.status = 'requires_payment_method';
      intent.last_payment_error = payment_failure(failed, method, charge.id);
      this.emit('charge.failed', charge);
      this.emit('payment_intent.payment_failed', intent);
      return false;
    }
    Object.assign(intent, { status: 'succeeded', amount_received: intent.amount, last_payment_error: null });
    this.emit('charge.succeeded', charge);
    this.emit('payment_intent.succeeded', intent);
    return true;
  }

  charge_of(intent_id) {
    return this.charges.get(this.payment_intents.get(intent_id)?.latest_charge) ?? null;
  }

  // ---- what customers, banks and operators do ----------------------------------------------------------------------

  /**
   * The customer pays on the checkout page. `card` as for make_card(). `delayed`: a way of paying whose money comes
   * later, see finish_session(). Returns { session, intent, charge, events, amount_total }; declined: session is open.
   */
  async pay_session(session_id, { card = {}, delayed = false } = {}) {
    const session = this.sessions.get(session_id);
    if (!session || session.status !== 'open') throw new Error(`no open session ${session_id}`);
    const from = this.events.length;
    if (session.mode === 'setup') {
      const setup = this.setup_intents.get(session.setup_intent);
      this.#finish_setup(setup, this.make_card(card));
      session.status = 'complete';
      this.emit('checkout.session.completed', session);
      await this.#send_held_back();
      return { session, setup, events: this.events.slice(from) };
    }
    const intent = this.make_intent({
      amount: session.amount_total,
      currency: session.currency,
      customer: session.customer,
      ...session.intent_data,
    });
    session.payment_intent = intent.id;
    const method = this.make_card(card);
    if (delayed) {
      intent.status = 'processing';
      intent.payment_method = method.id;
      session.status = 'complete';
      this.emit('checkout.session.completed', session);
    } else if (this.charge(intent, method)) {
      Object.assign(session, { status: 'complete', payment_status: 'paid' });
      this.emit('checkout.session.completed', session);
    }
    await this.#send_held_back();
    return this.#paid(session, intent, from);
  }

  /** The money of a delayed payment comes, or does not. */
  async finish_session(session_id, { succeeds = true } = {}) {
    const session = this.sessions.get(session_id);
    const intent = this.payment_intents.get(session.payment_intent);
    const from = this.events.length;
    const method = this.payment_methods.get(intent.payment_method);
    if (!succeeds) method.decline = 'generic_decline';
    const paid = this.charge(intent, method);
    if (paid) session.payment_status = 'paid';
    this.emit(paid ? 'checkout.session.async_payment_succeeded' : 'checkout.session.async_payment_failed', session);
    await this.#send_held_back();
    return this.#paid(session, intent, from);
  }

  #paid(session, intent, from) {
    return { session, intent, charge: this.charge_of(intent.id), events: this.events.slice(from), amount_total: session.amount_total };
  }

  async expire_session(session_id) {
    const session = this.sessions.get(session_id);
    session.status = 'expired';
    session.url = null;
    const event = this.emit('checkout.session.expired', session);
    await this.#send_held_back();
    return event;
  }

  /** The customer's browser confirms a SetupIntent with a card. Returns the payment method. */
  async confirm_setup(setup_id, card = {}) {
    const method = this.#finish_setup(this.setup_intents.get(setup_id), this.make_card(card));
    await this.#send_held_back();
    return method;
  }

  #finish_setup(setup, method) {
    setup.payment_method = method.id;
    setup.status = 'succeeded';
    if (setup.customer) this.attach(method, setup.customer);
    this.emit('setup_intent.succeeded', setup);
    return method;
  }

  /** The customer's browser confirms a PaymentIntent with a card. */
  async confirm_intent(intent_id, card = {}) {
    const intent = this.payment_intents.get(intent_id);
    const from = this.events.length;
    this.charge(intent, this.make_card(card));
    await this.#send_held_back();
    return { intent, charge: this.charge_of(intent_id), events: this.events.slice(from) };
  }

  /** By the dashboard: `amount` in cents, nothing: what is left. */
  async refund(intent_id, amount = null) {
    const made = this.make_refund(this.charge_of(intent_id), amount);
    await this.#send_held_back();
    return made;
  }

  /** The bank takes the money back. `inquiry`: it only asks, and no money moves. */
  async dispute(intent_id, { amount = null, inquiry = false } = {}) {
    const charge = this.charge_of(intent_id);
    const dispute = {
      id: id('dp'),
      object: 'dispute',
      amount: amount ?? charge.amount,
      charge: charge.id,
      created: now(),
      currency: charge.currency,
      evidence_details: { due_by: now() + 604800, has_evidence: false },
      is_charge_refundable: inquiry,
      livemode: false,
      metadata: {},
      payment_intent: intent_id,
      reason: 'fraudulent',
      status: inquiry ? 'warning_needs_response' : 'needs_response',
    };
    charge.disputed = true;
    this.disputes.set(dispute.id, dispute);
    this.emit('charge.dispute.created', dispute);
    if (!inquiry) this.emit('charge.dispute.funds_withdrawn', dispute);
    await this.#send_held_back();
    return dispute;
  }

  /** status: won, lost, warning_closed. */
  async close_dispute(dispute_id, status) {
    const dispute = this.disputes.get(dispute_id);
    dispute.status = status;
    const from = this.events.length;
    this.emit('charge.dispute.closed', dispute);
    if (status === 'won') this.emit('charge.dispute.funds_reinstated', dispute);
    await this.#send_held_back();
    return { dispute, events: this.events.slice(from) };
  }

  make_intent({ amount, currency, customer = null, metadata = {}, description = null }) {
    const intent_id = id('pi');
    const intent = {
      id: intent_id,
      object: 'payment_intent',
      amount,
      amount_received: 0,
      client_secret: `${intent_id}_secret_${randomBytes(8).toString('hex')}`,
      created: now(),
      currency,
      customer,
      description,
      last_payment_error: null,
      latest_charge: null,
      livemode: false,
      metadata,
      next_action: null,
      payment_method: null,
      payment_method_types: ['card'],
      status: 'requires_payment_method',
    };
    this.payment_intents.set(intent_id, intent);
    return intent;
  }

  make_refund(charge, amount) {
    const left = charge.amount - charge.amount_refunded;
    const taken = amount ?? left;
    if (taken <= 0 || taken > left) return null;
    const refund = { id: id('re'), object: 'refund', amount: taken, charge: charge.id, currency: charge.currency };
    Object.assign(refund, { payment_intent: charge.payment_intent, status: 'succeeded', created: now(), metadata: {} });
    this.refunds.set(refund.id, refund);
    charge.amount_refunded += taken;
    charge.refunded = charge.amount_refunded === charge.amount;
    this.emit('charge.refunded', charge);
    return refund;
  }

  // ---- webhooks ----------------------------------------------------------------------------------------------------

  /** Makes an event of the object as it is now; it goes out as `webhooks` says. */
  emit(type, object, previous_attributes) {
    const event = {
      id: id('evt'),
      object: 'event',
      api_version: this.official.getApiField?.('version') ?? null,
      created: now(),
      data: { object: structuredClone(object), ...(previous_attributes ? { previous_attributes } : {}) },
      livemode: false,
      pending_webhooks: 1,
      request: { id: null, idempotency_key: null },
      type,
    };
    delete event.data.object.intent_data;
    this.events.push(event);
    if (this.webhooks.drop?.(event)) return event;
    this.held.push(event);
    return event;
  }

  // After an answer, as Stripe does: whoever asked has it before, or while, the webhook arrives.
  async #send_held_back() {
    if (this.webhooks.hold || !this.webhook_url) return;
    await this.flush();
  }

  /** Sends what is held; `order` may arrange it anew. */
  async flush(order = (events) => events) {
    const events = order(this.held.splice(0));
    for (const event of events)
      for (let i = 0; i < this.webhooks.copies; i += 1) await this.deliver(event);
  }

  /** The header that Stripe would send with this text. */
  sign(payload, { secret = this.webhook_secret, timestamp = now() } = {}) {
    return this.official.webhooks.generateTestHeaderString({ payload, secret, timestamp });
  }

  /**
   * One delivery. `secret` and `timestamp` forge the signature, `header` replaces it (null: none), `payload` is sent
   * instead of what was signed. Returns { status, text }; status 0: nobody answered.
   */
  async deliver(event, { secret, timestamp, header, payload, url = this.webhook_url } = {}) {
    const text = JSON.stringify(event);
    const signature = header === undefined ? this.sign(text, { secret, timestamp }) : header;
    const headers = { 'content-type': 'application/json; charset=utf-8', 'user-agent': 'Stripe/1.0' };
    if (signature !== null) headers['stripe-signature'] = signature;
    let answer;
    try {
      const response = await fetch(url, { method: 'POST', headers, body: payload ?? text, signal: AbortSignal.timeout(30000) });
      answer = { status: response.status, text: await response.text() };
    } catch (error) {
      answer = { status: 0, text: String(error) };
    }
    this.deliveries.push({ event, ...answer });
    return answer;
  }

  // ---- pages for browsers ------------------------------------------------------------------------------------------

  async #page(request, response, url) {
    const session = this.sessions.get(/^\/pay\/(cs_\w+)$/.exec(url.pathname)?.[1]);
    const html = (status, text) => {
      response.writeHead(status, { 'content-type': 'text/html; charset=utf-8' });
      response.end(`<!doctype html><title>Checkout</title>${text}`);
    };
    if (!session) return html(404, '<p>There is no such page.</p>');
    if (request.method !== 'POST') {
      const what = session.mode === 'setup' ? 'Add card' : `Pay ${(session.amount_total / 100).toFixed(2)} ${session.currency}`;
      return html(200, `<form method="post"><button>${what}</button></form><a href="${session.cancel_url}">Back</a>`);
    }
    if (session.status !== 'open') return html(409, '<p>This page has expired.</p>');
    const { session: after } = await this.pay_session(session.id);
    if (after.status !== 'complete') return html(402, '<p>The card was declined.</p>');
    response.writeHead(303, { location: session.success_url.replace('{CHECKOUT_SESSION_ID}', session.id) });
    return response.end();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const option = (name, fallback) => {
    const at = process.argv.indexOf(`--${name}`);
    return at < 0 ? fallback : process.argv[at + 1];
  };
  const fake = await FakeStripe.start({ port: Number(option('port', '0')), webhook_url: option('webhook', null) });
  console.log(JSON.stringify({ api_base: fake.api_base, secret_key: fake.secret_key, webhook_secret: fake.webhook_secret }));
}
