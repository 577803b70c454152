#include "billing/commerce/stripe.hpp"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <boost/json/parse.hpp>

#include "base/crypto.hpp"
#include "base/log.hpp"
#include "base/text.hpp"

namespace nebula::billing::commerce {
namespace {

constexpr int attempts_max = 3;
constexpr std::size_t answer_bytes_max = 4 * 1024 * 1024;
constexpr std::string_view api_version = "2026-10-28.endive";

void append_percent_encoded(std::string& out, std::string_view text) {
    constexpr char digits[] = "0123456789ABCDEF";
    for (char c : text) {
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                     c == '_' || c == '.' || c == '~';
        if (plain) {
            out += c;
        } else {
            auto byte = static_cast<unsigned char>(c);
            out += '%';
            out += digits[byte >> 4];
            out += digits[byte & 15];
        }
    }
}

struct Attempt {
    Result<StripeAnswer> answer;
    bool again = false;  // may go better if repeated
};

class HttpStripe final : public StripeApi {
   public:
    HttpStripe(http::ParsedUrl base, Secret key, std::chrono::milliseconds timeout, http::Client& client,
               const Clock& clock, metrics::Registry& metrics)
        : base_(std::move(base)),
          key_(std::move(key)),
          timeout_(timeout),
          client_(client),
          clock_(clock),
          calls_(metrics.counter("nebula_stripe_calls_total", "Calls to Stripe, repeated ones included")),
          failures_(metrics.counter("nebula_stripe_call_failures_total",
                                    "Calls to Stripe without an answer, or with one of 429 or 5xx")) {}

    Async<Result<StripeAnswer>> call(StripeRequest request) override {
        for (int attempt = 1;; ++attempt) {
            Attempt done = co_await once(request);
            if (!done.again || attempt == attempts_max) co_return std::move(done.answer);
            Ticks pause = clock_.ticks() + std::chrono::milliseconds(250) * attempt;
            co_await sleep_until(pause);
        }
    }

   private:
    // `request` lives in call(), which awaits this.
    Async<Attempt> once(const StripeRequest& request) {
        calls_.add();
        std::string body = encode_form(request.form);
        std::string_view pieces[] = {body};
        http::ClientRequest sent;
        sent.method = request.method;
        sent.path = base_.path + request.path;
        sent.headers = "authorization: Bearer " + key_.reveal() +
                       "\r\nstripe-version: " + std::string(api_version) + "\r\naccept: application/json\r\n";
        if (request.method == http::Method::post) {
            sent.headers += "content-type: application/x-www-form-urlencoded\r\n";
            sent.headers += "idempotency-key: " + request.idempotency_key + "\r\n";
            sent.body_pieces = pieces;
        } else if (!body.empty()) {
            sent.path += "?" + body;
        }
        sent.timeouts = {std::min(timeout_, std::chrono::milliseconds(5'000)), timeout_, timeout_, timeout_};
        auto response = co_await client_.send(base_.origin, std::move(sent), nullptr);
        if (!response) co_return failed(std::move(response.error()));
        auto text = co_await (*response)->read_all(answer_bytes_max);
        if (!text) co_return failed(std::move(text.error()));
        co_return understand((*response)->status(), *text);
    }

    Attempt failed(Error error) {
        failures_.add();
        LOG_WARN("Stripe did not answer", {"detail", error.detail});
        error.message = "the payment provider does not answer; try again";
        return {fail(std::move(error)), true};
    }

    Attempt understand(int status, const std::string& text) {
        boost::system::error_code bad;
        json::value value = json::parse(text, bad);
        // 409: a request with this key is still in progress.
        bool again = status == 409 || status == 429 || status >= 500;
        if (again) failures_.add();
        if (!again && (bad || !value.is_object()))
            return {fail(Code::upstream_failed, "the payment provider answered nonsense", {},
                         "not a JSON object"),
                    true};
        if (status == 429 || status == 409)
            return {fail(Code::overloaded, "the payment provider is busy; try again"), true};
        if (status >= 500)
            return {fail(Code::upstream_failed, "the payment provider failed; try again", {},
                         "status " + std::to_string(status)),
                    true};
        return {StripeAnswer{status, std::move(value.get_object())}, false};
    }

    http::ParsedUrl base_;
    Secret key_;
    std::chrono::milliseconds timeout_;
    http::Client& client_;
    const Clock& clock_;
    metrics::Counter& calls_;
    metrics::Counter& failures_;
};

std::string hmac_sha256(const Secret& key, std::string_view text) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    HMAC(EVP_sha256(), key.reveal().data(), static_cast<int>(key.reveal().size()),
         reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest, &length);
    return to_hex({digest, length});
}

}  // namespace

std::string_view text_of(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_string() ? std::string_view(value->get_string())
                                                  : std::string_view();
}

std::int64_t number_of(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_int64() ? value->get_int64() : 0;
}

const json::object* object_of(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value == nullptr ? nullptr : value->if_object();
}

std::string_view id_of(const json::object& object, std::string_view name) {
    const json::object* whole = object_of(object, name);
    return whole != nullptr ? text_of(*whole, "id") : text_of(object, name);
}

std::string_view StripeAnswer::error_text(std::string_view member) const {
    const json::object* about = object_of(body, "error");
    return about == nullptr ? std::string_view() : text_of(*about, member);
}

Error StripeAnswer::error() const {
    std::string detail = "stripe " + std::to_string(status) + " " + std::string(error_text("type")) + " " +
                         std::string(error_text("code"));
    if (status == 402 || error_text("type") == "card_error") {
        std::string message(error_text("message"));
        return {Code::payment_required, message.empty() ? "the card was declined" : std::move(message),
                "card", std::move(detail)};
    }
    if (status == 404)
        return {Code::not_found, "the payment provider does not know this", std::string(error_text("param")),
                std::move(detail)};
    LOG_ERROR("Stripe refused a call", {"detail", detail}, {"message", error_text("message")});
    return {Code::upstream_failed, "the payment provider refused the request", {}, std::move(detail)};
}

std::string encode_form(const StripeForm& form) {
    std::string out;
    for (const auto& [name, value] : form) {
        if (!out.empty()) out += '&';
        append_percent_encoded(out, name);
        out += '=';
        append_percent_encoded(out, value);
    }
    return out;
}

Result<std::unique_ptr<StripeApi>> make_stripe_api(const StripeSettings& settings, Secret key,
                                                   http::Client& client, const Clock& clock,
                                                   metrics::Registry& metrics) {
    auto base = http::parse_url(settings.api_base);
    if (!base) return fail(Code::invalid_request, "stripe.api_base: " + base.error().message);
    base->origin.ca_file = settings.ca_file;
    return std::make_unique<HttpStripe>(std::move(*base), std::move(key), settings.timeout, client, clock,
                                        metrics);
}

Result<void> check_signature(std::string_view header, std::string_view body, const Secret& secret, Time now,
                             std::chrono::milliseconds tolerance) {
    std::optional<std::int64_t> sent_at;
    std::vector<std::string_view> signatures;
    for (std::string_view part : split(header, ',')) {
        part = trim(part);
        if (part.starts_with("t=")) sent_at = parse_int<std::int64_t>(part.substr(2));
        if (part.starts_with("v1=")) signatures.push_back(part.substr(3));
    }
    constexpr std::int64_t year_9999 = 253'402'300'799;
    if (!sent_at || *sent_at < 0 || *sent_at > year_9999 || signatures.empty() || secret.empty())
        return fail(Code::invalid_request, "the webhook's signature is missing or malformed",
                    "stripe-signature");
    std::string expected = hmac_sha256(secret, std::to_string(*sent_at) + "." + std::string(body));
    bool matches = false;
    for (std::string_view signature : signatures) matches |= constant_time_equal(signature, expected);
    if (!matches)
        return fail(Code::invalid_request, "the webhook's signature is not valid", "stripe-signature");
    Time sent{std::chrono::seconds(*sent_at)};
    // Seconds against microseconds: what was sent within this second is not from the past.
    auto distance = std::chrono::abs(std::chrono::floor<std::chrono::seconds>(now) - sent);
    if (distance > tolerance)
        return fail(Code::invalid_request, "the webhook's signature is too old", "stripe-signature");
    return {};
}

}  // namespace nebula::billing::commerce
