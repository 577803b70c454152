// The scene of a journey with money: people_stage (session.mjs) with a stand-in for Stripe, and what customers and banks
// do there.

import assert from 'node:assert/strict';
import { FakeStripe } from './fake_stripe.mjs';
import { people_stage } from './session.mjs';
import { eventually } from './wait.mjs';

export async function paying_stage({ env, sections, ...options } = {}) {
  const stripe = await FakeStripe.start();
  let s;
  try {
    s = await people_stage({
      ...options,
      env: { TEST_STRIPE_KEY: stripe.secret_key, TEST_STRIPE_WEBHOOK: stripe.webhook_secret, ...env },
      sections: {
        stripe: {
          api_base: stripe.api_base,
          secret_key_env: 'TEST_STRIPE_KEY',
          webhook_secret_env: 'TEST_STRIPE_WEBHOOK',
        },
        ...sections,
      },
    });
  } catch (error) {
    await stripe.stop();
    throw error;
  }
  stripe.webhook_url = `${s.server.url}/api/v1/payment/webhook`;
  const paid_of = (browser, id) => async () =>
    (await browser.data('GET', '/console/api/billing/payments')).payments.find((p) => p.payment_intent === id)?.status === 'success';
  return {
    ...s,
    stripe,

    /** Buys `amount` credits on the checkout page; `deliver: false` keeps the webhooks back (they are in `events`). */
    async buy(browser, amount, { deliver = true, card } = {}) {
      const { redirect_url } = await browser.data('POST', '/api/v1/payment/create-checkout-session', { amount });
      const session = [...stripe.sessions.values()].find((x) => x.url === redirect_url);
      assert.ok(session, `${redirect_url} is no page of the payment provider`);
      stripe.webhooks.hold = !deliver;
      const paid = await stripe.pay_session(session.id, { card });
      stripe.webhooks.hold = false;
      if (!deliver) stripe.held.splice(0);
      else await eventually('the payment is known', paid_of(browser, paid.intent.id));
      return paid;
    },

    /** A card on file, as a browser adds it; answers the payment method. */
    async add_card(browser, card) {
      const setup = await browser.data('POST', '/api/v1/payment/setup-intent');
      const method = await stripe.confirm_setup(setup.id, card);
      await eventually('the card is on file', async () =>
        (await browser.data('GET', '/api/v1/payment/payment-methods')).some((m) => m.stripe_id === method.id),
      );
      return method;
    },

    refund: (paid, cents) => stripe.refund(paid.intent.id, cents),
    dispute: (paid) => stripe.dispute(paid.intent.id),
    win: (dispute) => stripe.close_dispute(dispute.id, 'won'),

    /** The events of a payment as somebody would send who is not the provider. */
    async deliver_forged(paid, how) {
      const event = paid.events.find((e) => e.type === 'payment_intent.succeeded');
      const changed = structuredClone(event);
      changed.data.object.amount *= 2;
      const old = Math.floor(Date.now() / 1000) - 3600;
      return stripe.deliver(
        event,
        {
          unsigned: { header: null },
          other_secret: { secret: 'whsec_other' },
          old: { timestamp: old },
          changed: { payload: JSON.stringify(changed) },
        }[how],
      );
    },

    async close() {
      await s.close();
      await stripe.stop();
    },
  };
}
