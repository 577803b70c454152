// The calls of fake_stripe.mjs: what each does to the objects and what it answers.

const error = (status, type, message, more = {}) => ({ status, body: { error: { type, message, ...more } } });
const invalid = (message, param, code) => error(400, 'invalid_request_error', message, { param, ...(code ? { code } : {}) });
const missing = (kind, id) => {
  const about = { code: 'resource_missing', param: kind === 'customer' ? 'customer' : 'id' };
  return error(404, 'invalid_request_error', `No such ${kind}: '${id}'`, about);
};
const ok = (body) => ({ status: 200, body });
const list = (url, data) => ({ object: 'list', url, has_more: false, data });
const now = () => Math.floor(Date.now() / 1000);
const whole = (text) => (/^\d+$/.test(text ?? '') ? Number(text) : null);

/** `last_payment_error` of a declined card. */
export function payment_failure(decline, method, charge) {
  const needs_customer = decline === 'authentication_required';
  return {
    type: 'card_error',
    code: needs_customer ? 'authentication_required' : 'card_declined',
    decline_code: decline,
    charge,
    message: needs_customer
      ? 'Your card was declined. This transaction requires authentication.'
      : decline === 'insufficient_funds'
        ? 'Your card has insufficient funds.'
        : 'Your card was declined.',
    payment_method: { ...method },
  };
}

const declined = (intent) =>
  error(402, 'card_error', intent.last_payment_error.message, { ...intent.last_payment_error, payment_intent: structuredClone(intent) });

const calls = {
  'POST /v1/customers': (fake, form) => {
    const customer = { id: fake.make_id('cus'), object: 'customer', created: now(), email: form.email ?? null, name: form.name ?? null };
    Object.assign(customer, { livemode: false, metadata: form.metadata ?? {} });
    fake.customers.set(customer.id, customer);
    fake.emit('customer.created', customer);
    return ok(customer);
  },
  'GET /v1/customers/:id': (fake, form, id) => (fake.customers.has(id) ? ok(fake.customers.get(id)) : missing('customer', id)),
  'GET /v1/customers/:id/payment_methods': (fake, form, id) => {
    if (!fake.customers.has(id)) return missing('customer', id);
    const found = [...fake.payment_methods.values()].filter((m) => m.customer === id && (!form.type || m.type === form.type));
    return ok(list(`/v1/customers/${id}/payment_methods`, found.reverse()));
  },
  'GET /v1/payment_methods': (fake, form) =>
    ok(list('/v1/payment_methods', [...fake.payment_methods.values()].filter((m) => m.customer === (form.customer ?? null)).reverse())),
  'GET /v1/payment_methods/:id': (fake, form, id) =>
    fake.payment_methods.has(id) ? ok(fake.payment_methods.get(id)) : missing('PaymentMethod', id),
  'POST /v1/payment_methods/:id/attach': (fake, form, id) => {
    const method = fake.method(id);
    if (!method) return missing('PaymentMethod', id);
    if (!fake.customers.has(form.customer)) return missing('customer', form.customer);
    return ok(fake.attach(method, form.customer));
  },
  'POST /v1/payment_methods/:id/detach': (fake, form, id) => {
    const method = fake.payment_methods.get(id);
    if (!method) return missing('PaymentMethod', id);
    if (!method.customer)
      return invalid('The payment method you provided is not attached to a customer so detachment is impossible.');
    return ok(fake.detach(method));
  },

  'POST /v1/setup_intents': (fake, form) => {
    if (form.customer && !fake.customers.has(form.customer)) return missing('customer', form.customer);
    return ok(make_setup(fake, form));
  },
  'GET /v1/setup_intents/:id': (fake, form, id) =>
    fake.setup_intents.has(id) ? ok(fake.setup_intents.get(id)) : missing('setupintent', id),

  'POST /v1/payment_intents': (fake, form) => {
    const amount = whole(form.amount);
    if (amount === null) return invalid('Missing required param: amount.', 'amount', 'parameter_missing');
    if (amount < 50) return invalid('Amount must be at least $0.50 usd', 'amount', 'amount_too_small');
    if (!/^[a-z]{3}$/.test(form.currency ?? '')) return invalid('Missing required param: currency.', 'currency', 'parameter_missing');
    if (form.customer && !fake.customers.has(form.customer)) return missing('customer', form.customer);
    if (form.off_session && form.confirm !== 'true') return invalid('off_session can only be used with confirm=true.', 'off_session');
    const intent = fake.make_intent({ ...form, amount, metadata: form.metadata ?? {} });
    fake.emit('payment_intent.created', intent);
    return form.confirm === 'true' ? confirm(fake, intent, form) : ok(intent);
  },
  'GET /v1/payment_intents/:id': (fake, form, id) =>
    fake.payment_intents.has(id) ? ok(fake.payment_intents.get(id)) : missing('payment_intent', id),
  'POST /v1/payment_intents/:id/confirm': (fake, form, id) =>
    fake.payment_intents.has(id) ? confirm(fake, fake.payment_intents.get(id), form) : missing('payment_intent', id),
  'POST /v1/payment_intents/:id/cancel': (fake, form, id) => {
    const intent = fake.payment_intents.get(id);
    if (!intent) return missing('payment_intent', id);
    if (intent.status === 'succeeded') return invalid('You cannot cancel this PaymentIntent because it has a status of succeeded.');
    intent.status = 'canceled';
    fake.emit('payment_intent.canceled', intent);
    return ok(intent);
  },

  'POST /v1/checkout/sessions': (fake, form) => make_session(fake, form),
  'GET /v1/checkout/sessions/:id': (fake, form, id) =>
    fake.sessions.has(id) ? ok(shown(fake.sessions.get(id))) : missing('checkout.session', id),
  'POST /v1/checkout/sessions/:id/expire': (fake, form, id) => {
    const session = fake.sessions.get(id);
    if (!session) return missing('checkout.session', id);
    if (session.status !== 'open') return invalid('Only Checkout Sessions with a status in ["open"] can be expired.');
    Object.assign(session, { status: 'expired', url: null });
    fake.emit('checkout.session.expired', session);
    return ok(shown(session));
  },

  'GET /v1/charges/:id': (fake, form, id) => (fake.charges.has(id) ? ok(fake.charges.get(id)) : missing('charge', id)),
  'POST /v1/refunds': (fake, form) => {
    const charge = fake.charges.get(form.charge) ?? fake.charge_of(form.payment_intent);
    if (!charge) return missing('charge', form.charge ?? form.payment_intent);
    if (charge.refunded) return invalid(`Charge ${charge.id} has already been refunded.`, undefined, 'charge_already_refunded');
    const refund = fake.make_refund(charge, form.amount === undefined ? null : whole(form.amount));
    if (!refund) return invalid('Refund amount is greater than unrefunded amount on charge', 'amount');
    return ok(refund);
  },
  'GET /v1/refunds/:id': (fake, form, id) => (fake.refunds.has(id) ? ok(fake.refunds.get(id)) : missing('refund', id)),
  'GET /v1/disputes/:id': (fake, form, id) => (fake.disputes.has(id) ? ok(fake.disputes.get(id)) : missing('dispute', id)),
  'GET /v1/events': (fake) => ok(list('/v1/events', fake.events.toReversed())),
};

function make_setup(fake, form) {
  const id = fake.make_id('seti');
  const setup = { id, object: 'setup_intent', client_secret: `${id}_secret`, created: now(), customer: form.customer ?? null };
  Object.assign(setup, { livemode: false, metadata: form.metadata ?? {}, payment_method: null, payment_method_types: ['card'] });
  Object.assign(setup, { status: 'requires_payment_method', usage: form.usage ?? 'off_session' });
  fake.setup_intents.set(id, setup);
  fake.emit('setup_intent.created', setup);
  return setup;
}

function confirm(fake, intent, form) {
  if (intent.status === 'succeeded')
    return invalid('You cannot confirm this PaymentIntent: it has already succeeded.', undefined, 'payment_intent_unexpected_state');
  const name = form.payment_method ?? intent.payment_method;
  const method = name ? fake.method(name) : null;
  if (!name) return invalid('You cannot confirm this PaymentIntent because it is missing a payment method.');
  if (!method) return missing('PaymentMethod', name);
  if (method.customer && method.customer !== intent.customer)
    return invalid('The provided PaymentMethod cannot be used: it belongs to another Customer.', 'payment_method');
  return fake.charge(intent, method) ? ok(intent) : declined(intent);
}

// What Stripe shows of a session: not what it will give the payment intent.
function shown(session) {
  const { intent_data, ...rest } = session;
  return rest;
}

function make_session(fake, form) {
  if (form.customer && !fake.customers.has(form.customer)) return missing('customer', form.customer);
  if (!['payment', 'setup'].includes(form.mode)) return invalid('Invalid mode', 'mode');
  if (!form.success_url) return invalid('Missing required param: success_url.', 'success_url', 'parameter_missing');
  const lines = Object.values(form.line_items ?? {});
  let total = 0;
  let currency = form.currency ?? null;
  for (const line of lines) {
    const unit = whole(line.price_data?.unit_amount);
    const quantity = whole(line.quantity ?? '1');
    if (unit === null || !line.price_data?.product_data?.name) return invalid('Invalid price_data', 'line_items');
    if (currency && currency !== line.price_data.currency) return invalid('All prices must have the same currency.', 'line_items');
    currency = line.price_data.currency;
    total += unit * quantity;
  }
  if (form.mode === 'payment' && lines.length === 0)
    return invalid('Missing required param: line_items.', 'line_items', 'parameter_missing');
  if (form.mode === 'payment' && total < 50)
    return invalid('The total amount due must add up to at least $0.50 usd', 'line_items');
  const id = fake.make_id('cs_test');
  const session = {
    id,
    object: 'checkout.session',
    amount_subtotal: form.mode === 'payment' ? total : null,
    amount_total: form.mode === 'payment' ? total : null,
    cancel_url: form.cancel_url ?? null,
    client_reference_id: form.client_reference_id ?? null,
    created: now(),
    currency,
    customer: form.customer ?? null,
    expires_at: now() + 86400,
    livemode: false,
    metadata: form.metadata ?? {},
    mode: form.mode,
    payment_intent: null,
    payment_method_types: ['card'],
    payment_status: form.mode === 'setup' ? 'no_payment_required' : 'unpaid',
    setup_intent: null,
    status: 'open',
    success_url: form.success_url,
    url: `${fake.api_base}/pay/${id}`,
    intent_data: { metadata: form.payment_intent_data?.metadata ?? {}, description: form.payment_intent_data?.description ?? null },
  };
  if (form.mode === 'setup') session.setup_intent = make_setup(fake, form).id;
  fake.sessions.set(id, session);
  return ok(shown(session));
}

const routes = Object.entries(calls).map(([line, act]) => {
  const [method, pattern] = line.split(' ');
  return { method, act, matches: new RegExp(`^${pattern.replace(':id', '([^/]+)')}$`) };
});

export function handle(fake, method, path, form) {
  for (const route of routes) {
    const found = route.method === method && route.matches.exec(path);
    if (found) return route.act(fake, form, found[1] && decodeURIComponent(found[1]));
  }
  return error(404, 'invalid_request_error', `Unrecognized request URL (${method}: ${path}).`);
}
