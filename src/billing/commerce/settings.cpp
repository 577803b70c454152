#include "billing/commerce.hpp"

namespace nebula::billing {

void PlanSettings::describe(settings::Visitor& v) {
    v.field({.name = "id", .help = "Name in requests and in the books; keep it.", .required = true}, id);
    v.field({.name = "name", .help = "Shown to customers; empty: the id."}, name);
    v.field({.name = "price", .help = "Credits per period of a month."}, price);
    v.field({.name = "quota_input", .help = "Prompt tokens per period that the plan pays for."}, quota_input);
    v.field({.name = "quota_output", .help = "Answer tokens per period that the plan pays for."},
            quota_output);
    v.field({.name = "model_classes", .help = "Classes of models it may use (model_class); empty: all."},
            model_classes);
    v.field({.name = "features", .help = "Lines of the price list."}, features);
    v.field({.name = "may_overrun", .help = "Credits pay for what goes beyond the quota; false: refused."},
            may_overrun);
    v.field({.name = "contact_only", .help = "Only the operator subscribes accounts to it."}, contact_only);
    v.field({.name = "bonus", .help = "Bonus credits given with each period."}, bonus);
}

void PackageSettings::describe(settings::Visitor& v) {
    v.field({.name = "price", .help = "Credits bought; what is paid before tax."}, price);
    v.field({.name = "bonus", .help = "Bonus credits on top."}, bonus);
}

void TierSettings::describe(settings::Visitor& v) {
    v.field({.name = "name", .help = "Shown to customers.", .required = true}, name);
    v.field(
        {.name = "reached_by",
         .help = "sign_up: everybody; card: a card on file; deposit: payments in all; spend: credits used in "
                 "all; month_deposit: payments of the best of the last three calendar months.",
         .one_of = {"sign_up", "card", "deposit", "spend", "month_deposit"}},
        reached_by);
    v.field({.name = "threshold", .help = "Credits from which deposit, spend or month_deposit count."},
            threshold);
    v.field({.name = "rpm", .help = "Requests per minute; 0: no limit."}, rpm);
    v.field({.name = "tpm", .help = "Tokens per minute; 0: no limit."}, tpm);
    v.field({.name = "ipm", .help = "Images per minute; 0: no limit."}, ipm);
    v.field({.name = "rpd", .help = "Requests per UTC day; 0: no limit."}, rpd);
    v.field({.name = "model_rpm", .help = "Requests per minute and model; 0: no limit."}, model_rpm);
    v.field({.name = "model_tpm", .help = "Tokens per minute and model; 0: no limit."}, model_tpm);
}

void CommerceSettings::describe(settings::Visitor& v) {
    v.field({.name = "plan_preset",
             .help = "standard: free, developer, pro and enterprise; none. Any [[plan]] replaces it.",
             .one_of = {"standard", "none"}},
            plan_preset);
    v.field(
        {.name = "package_preset",
         .help = "credits: 5, 10, 25, 50 and 100 credits; platform: 10 to 200; none: any amount, no bonus. "
                 "Any [[package]] replaces it.",
         .one_of = {"credits", "platform", "none"}},
        package_preset);
    v.field({.name = "tier_preset",
             .help = "platform: Engineer 1 to Expert 2; novita: T1 to T5; none. Any [[tier]] replaces it.",
             .one_of = {"none", "platform", "novita"}},
            tier_preset);
    v.field(
        {.name = "quota_period",
         .help =
             "When a plan's quota starts anew: month (calendar, UTC) or anniversary (day of subscribing).",
         .one_of = {"month", "anniversary"}},
        quota_period);
    v.field({.name = "bonus_days", .help = "Days until bonus credits expire; 0: never.", .max = 36'500},
            bonus_days);
    v.field(
        {.name = "low_balance", .help = "Mail when the balance falls below so many credits; empty: never."},
        low_balance);
    v.field({.name = "minimum_payment", .help = "Least credits bought at once."}, minimum_payment);
    v.field({.name = "maximum_payment", .help = "Most credits bought at once."}, maximum_payment);
}

void StripeSettings::describe(settings::Visitor& v) {
    v.field({.name = "api_base", .help = "Where Stripe's API is."}, api_base);
    v.field({.name = "secret_key_env",
             .help = "Environment variable that holds the secret key; empty: no card payments."},
            secret_key_env);
    v.field({.name = "webhook_secret_env",
             .help = "Environment variable that holds the signing secret of the webhook endpoint "
                     "<public url>/webhooks/stripe."},
            webhook_secret_env);
    v.field({.name = "ca_file", .help = "PEM file of a further trusted authority."}, ca_file);
    v.field({.name = "currency", .help = "Currency with cents that one credit is one unit of."}, currency);
    v.field({.name = "timeout_ms", .help = "For one call.", .min = 100, .max = 600'000}, timeout);
    v.field({.name = "webhook_tolerance_ms",
             .help = "How far a webhook's time may be from ours.",
             .min = 1'000,
             .max = 3'600'000},
            webhook_tolerance);
}

void TaxSettings::describe(settings::Visitor& v) {
    v.field({.name = "country",
             .help = "Two letters (\"CA\"), a region of it (\"CA-QC\"), or \"*\" for everywhere else.",
             .required = true},
            country);
    v.field({.name = "name", .help = "On invoices."}, name);
    v.field(
        {.name = "percent", .help = "Added to payments; at most 6 digits after the point.", .required = true},
        percent);
}

}  // namespace nebula::billing
