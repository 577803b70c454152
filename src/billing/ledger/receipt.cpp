#include "billing/ledger/receipt.hpp"

#include <sodium.h>

#include <array>
#include <boost/json.hpp>
#include <cstring>
#include <optional>

#include "base/check.hpp"
#include "base/text.hpp"
#include "billing/ledger/chain.hpp"
#include "billing/store.hpp"

namespace nebula::billing::ledger {
namespace {

namespace json = boost::json;
using store::Row;
using store::Sql;
using store::Tx;

constexpr const char* key_name = "receipts";
constexpr Sql sql_key{"billing.server_key", "SELECT public_key, secret_key FROM server_keys WHERE name = $1"};
constexpr Sql sql_add_key{"billing.add_server_key",
                          "INSERT INTO server_keys (name, public_key, secret_key, created_at)"
                          " VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING"};
constexpr Sql sql_record{
    "billing.receipt_record",
    "SELECT u.key_id, u.model, u.provider, u.input_tokens, u.cached_tokens, u.output_tokens,"
    " u.price_input_per_m, u.price_output_per_m, u.price_cached_input_per_m, u.is_estimated, u.is_streamed,"
    " u.outcome, u.status, u.started_at, u.latency_us, u.first_token_us, u.product, u.quota_input,"
    " u.quota_output, u.price_request, u.charge, u.written_off, u.posting_id, p.seq, p.hash, p.debit_account,"
    " p.credit_account, p.amount, p.created_at, p.record_digests, q.hash," USAGE_APART
    " FROM usage_records u LEFT JOIN postings p ON p.id = u.posting_id AND p.seq IS NOT NULL"
    " LEFT JOIN postings q ON q.account_id = p.account_id AND q.seq = p.seq - 1"
    " WHERE u.account_id = $1 AND u.id = $2"};

struct KeyPair {
    std::string public_hex;
    std::string secret_hex;
};

std::optional<std::string> from_hex(std::string_view hex, std::size_t size) {
    std::string bytes(size, '\0');
    std::size_t length = 0;
    int rc = sodium_hex2bin(reinterpret_cast<unsigned char*>(bytes.data()), size, hex.data(), hex.size(),
                            nullptr, &length, nullptr);
    if (rc != 0 || length != size || hex.size() != size * 2) return std::nullopt;
    return bytes;
}

const unsigned char* raw(std::string_view bytes) {
    return reinterpret_cast<const unsigned char*>(bytes.data());
}

std::optional<KeyPair> load_key(Tx& tx) {
    std::optional<KeyPair> pair;
    tx.one(sql_key, {std::string_view(key_name)},
           [&](const Row& row) { pair = KeyPair{std::string(row.text(0)), std::string(row.text(1))}; });
    return pair;
}

std::string sign(const KeyPair& pair, std::string_view text) {
    auto secret = from_hex(pair.secret_hex, crypto_sign_SECRETKEYBYTES);
    if (!secret) throw store::DbError("server_keys.secret_key is not a key");
    unsigned char signature[crypto_sign_BYTES];
    crypto_sign_detached(signature, nullptr, raw(text), text.size(), raw(*secret));
    sodium_memzero(secret->data(), secret->size());
    return to_hex(signature);
}

/// The record's facts by name, in the order in which record_digest() takes them. Numbers and texts.
struct Fact {
    const char* name;
    std::string text;
    bool is_number = false;
};
std::vector<Fact> facts_of(const UsageRecord& r, const Settled& s) {
    auto number = [](const char* name, std::int64_t value) {
        return Fact{name, std::to_string(value), true};
    };
    return {{"request", r.id.text()},
            {"account", r.account.text()},
            {"key", r.key ? r.key.text() : std::string()},
            {"model", r.model},
            {"provider", r.provider},
            {"product", r.product},
            number("started_at_us", to_micros(r.started_at)),
            number("latency_us", r.latency_us),
            number("first_token_us", r.first_token_us),
            number("input_tokens", r.usage.input),
            number("cached_tokens", r.usage.cached),
            number("output_tokens", r.usage.output),
            number("quota_input", s.quota_input),
            number("quota_output", s.quota_output),
            number("input_per_m", r.prices.input_per_m.value),
            number("output_per_m", r.prices.output_per_m.value),
            number("cached_input_per_m", r.prices.cached_input_per_m.value),
            number("request", r.prices.request.value),
            number("charge_nanos", s.charge.value),
            number("written_off_nanos", s.written_off.value),
            {"outcome", outcome_name(r.outcome)},
            number("status", r.status),
            number("estimated", r.is_estimated),
            number("streamed", r.is_streamed)};
}

/// Facts 14 to 17 are the prices, an object of their own.
constexpr std::size_t prices_from = 14, prices_to = 18;

/// What most records have none of: only what is not zero is shown and sealed.
using Apart = std::array<std::pair<const char*, std::int64_t>, 3>;
Apart counts_apart(const TokenUsage& usage) {
    return {{{"cache_write_tokens", usage.cache_write},
             {"reasoning_tokens", usage.reasoning},
             {"units", usage.units}}};
}
Apart prices_apart(const Prices& prices) {
    return {{{"cache_write_per_m", prices.cache_write_per_m.value},
             {"reasoning_per_m", prices.reasoning_per_m.value},
             {"per_unit", prices.unit.value}}};
}

struct Loaded {
    UsageRecord record;
    Settled settled;
    bool is_chained = false;
    Posting posting;
    Sha256 before;
    std::string digests;
};

std::optional<Loaded> load(Tx& tx, AccountId account, RequestId request) {
    std::optional<Loaded> found;
    tx.one(sql_record, {account.db(), request.db()}, [&](const Row& row) {
        Loaded& l = found.emplace();
        UsageRecord& r = l.record;
        r.id = request;
        r.account = account;
        r.key = KeyId::from_db(row.i64(0));
        r.model = row.text(1);
        r.provider = row.text(2);
        r.usage = {row.i64(3), row.i64(4), row.i64(5)};
        r.prices = {Nanos{row.i64(6)}, Nanos{row.i64(7)}, Nanos{row.i64(8)}, Nanos{row.i64(19)}};
        r.is_estimated = row.i64(9) != 0;
        r.is_streamed = row.i64(10) != 0;
        for (Outcome one :
             {Outcome::completed, Outcome::client_left, Outcome::upstream_failed, Outcome::cancelled})
            if (row.text(11) == outcome_name(one)) r.outcome = one;
        r.status = static_cast<int>(row.i64(12));
        r.started_at = from_micros(row.i64(13));
        r.latency_us = row.i64(14);
        r.first_token_us = row.i64(15);
        r.product = row.text(16);
        read_apart(row, 31, r);
        l.settled = {Nanos{row.i64(20)}, Nanos{row.i64(21)}, row.i64(17), row.i64(18)};
        if (!row.is_null(22)) l.posting.id = l.posting.movement = PostingId::from_db(row.i64(22));
        if (row.is_null(23)) return;  // nothing charged, or from before there were chains
        l.is_chained = true;
        l.posting.account = account;
        l.posting.seq = row.i64(23);
        l.posting.hash = hash_from(row.blob(24));
        l.posting.debit = row.i64(25);
        l.posting.credit = row.i64(26);
        l.posting.amount = Nanos{row.i64(27)};
        l.posting.created_at = from_micros(row.i64(28));
        l.digests = row.blob(29);
        l.before = hash_from(row.blob(30));  // all zero before the first
    });
    return found;
}

std::string receipt_text(const Loaded& l) {
    auto facts = facts_of(l.record, l.settled);
    Sha256 digest = record_digest(l.record, l.settled);
    std::string text = "{\"version\":1";
    auto add = [&text](const char* name, const std::string& value, bool is_number) {
        if (text.back() != '{') text += ',';
        text += json_string(name) + ":" + (is_number ? value : json_string(value));
    };
    auto add_all = [&add](const Apart& apart) {
        for (auto [name, value] : apart)
            if (value != 0) add(name, std::to_string(value), true);
    };
    for (std::size_t i = 0; i < facts.size(); ++i) {
        if (i == prices_from) text += ",\"prices\":{";
        add(facts[i].name, facts[i].text, facts[i].is_number);
        if (i + 1 != prices_to) continue;
        add_all(prices_apart(l.record.prices));
        text += '}';
    }
    add_all(counts_apart(l.record.usage));
    if (!l.record.unit.empty()) add("unit", l.record.unit, false);
    if (l.record.is_byok()) add("byok_ppm", std::to_string(l.record.byok_ppm), true);
    add("started_at", to_iso8601(l.record.started_at), false);
    add("record_digest", to_hex(digest.bytes), false);
    add("posting", l.posting.id ? json_string(l.posting.id.text()) : "null", true);
    if (!l.is_chained) return text + ",\"posting_seq\":null,\"posting_hash\":null,\"batch_digests\":[]}";
    add("posting_seq", std::to_string(l.posting.seq), true);
    add("posting_previous_hash", to_hex(l.before.bytes), false);
    // Ids as text: they are larger than what JavaScript's numbers hold exactly.
    add("posting_debit", std::to_string(l.posting.debit), false);
    add("posting_credit", std::to_string(l.posting.credit), false);
    add("posting_amount_nanos", std::to_string(l.posting.amount.value), true);
    add("posting_created_at_us", std::to_string(to_micros(l.posting.created_at)), true);
    add("posting_hash", to_hex(l.posting.hash.bytes), false);
    text += ",\"batch_digests\":[";
    constexpr std::size_t size = sizeof(Sha256::bytes);
    std::string_view digests = l.digests.empty() ? bytes_of(digest) : std::string_view(l.digests);
    for (std::size_t at = 0; at + size <= digests.size(); at += size)
        text += (at == 0 ? "\"" : ",\"") + to_hex(hash_from(digests.substr(at, size)).bytes) + "\"";
    return text + "]}";
}

/// Members of a receipt, or what is missing.
class Reader {
   public:
    Reader(const json::object& object, std::vector<std::string>& problems)
        : object_(object), problems_(problems) {}

    std::string text(const char* name) {
        const json::value* value = object_.if_contains(name);
        if (value != nullptr && value->is_string()) return std::string(value->get_string());
        problems_.push_back(std::string("the member ") + name + " is missing or not text");
        return {};
    }
    std::int64_t number(const char* name) {
        const json::value* value = object_.if_contains(name);
        if (value != nullptr && value->is_int64()) return value->get_int64();
        problems_.push_back(std::string("the member ") + name + " is missing or not a whole number");
        return 0;
    }
    std::int64_t number_or_zero(const char* name) { return object_.contains(name) ? number(name) : 0; }
    template <class T>
    T id(const char* name, bool may_be_empty = false) {
        std::string found = text(name);
        if (may_be_empty && found.empty()) return {};
        if (auto parsed = T::parse(found)) return *parsed;
        problems_.push_back(std::string("the member ") + name + " is not an id");
        return {};
    }

   private:
    const json::object& object_;
    std::vector<std::string>& problems_;
};

void check_record(const json::object& receipt, std::vector<std::string>& problems, UsageRecord& r,
                  Settled& s) {
    Reader read(receipt, problems);
    if (read.number("version") != 1) problems.push_back("the version is not 1");
    r.id = read.id<RequestId>("request");
    r.account = read.id<AccountId>("account");
    r.key = read.id<KeyId>("key", true);
    r.model = read.text("model");
    r.provider = read.text("provider");
    r.product = read.text("product");
    r.started_at = from_micros(read.number("started_at_us"));
    if (read.text("started_at") != to_iso8601(r.started_at))
        problems.push_back("started_at and started_at_us differ");
    r.latency_us = read.number("latency_us");
    r.first_token_us = read.number("first_token_us");
    r.usage = {read.number("input_tokens"), read.number("cached_tokens"), read.number("output_tokens")};
    s.quota_input = read.number("quota_input");
    s.quota_output = read.number("quota_output");
    s.charge = Nanos{read.number("charge_nanos")};
    s.written_off = Nanos{read.number("written_off_nanos")};
    r.status = static_cast<int>(read.number("status"));
    r.is_estimated = read.number("estimated") != 0;
    r.is_streamed = read.number("streamed") != 0;
    const json::value* prices = receipt.if_contains("prices");
    if (prices != nullptr && prices->is_object()) {
        Reader price(prices->get_object(), problems);
        r.prices = {Nanos{price.number("input_per_m")}, Nanos{price.number("output_per_m")},
                    Nanos{price.number("cached_input_per_m")}, Nanos{price.number("request")}};
        r.prices.cache_write_per_m = Nanos{price.number_or_zero("cache_write_per_m")};
        r.prices.reasoning_per_m = Nanos{price.number_or_zero("reasoning_per_m")};
        r.prices.unit = Nanos{price.number_or_zero("per_unit")};
    } else {
        problems.push_back("the member prices is missing");
    }
    r.usage.cache_write = read.number_or_zero("cache_write_tokens");
    r.usage.reasoning = read.number_or_zero("reasoning_tokens");
    r.usage.units = read.number_or_zero("units");
    if (receipt.contains("byok_ppm")) r.byok_ppm = read.number("byok_ppm");
    if (receipt.contains("unit")) r.unit = read.text("unit");
    std::string outcome = read.text("outcome");
    bool is_known = false;
    for (Outcome one :
         {Outcome::completed, Outcome::client_left, Outcome::upstream_failed, Outcome::cancelled})
        if (outcome == outcome_name(one)) {
            r.outcome = one;
            is_known = true;
        }
    if (!is_known) problems.push_back("the outcome is unknown");
}

void check_posting(const json::object& receipt, std::vector<std::string>& problems, AccountId account,
                   const std::string& digest) {
    Reader read(receipt, problems);
    Posting posting;
    posting.id = posting.movement = read.id<PostingId>("posting");
    posting.account = account;
    posting.kind = "usage";
    posting.seq = read.number("posting_seq");
    posting.debit = parse_int<std::int64_t>(read.text("posting_debit")).value_or(0);
    posting.credit = parse_int<std::int64_t>(read.text("posting_credit")).value_or(0);
    posting.amount = Nanos{read.number("posting_amount_nanos")};
    posting.created_at = from_micros(read.number("posting_created_at_us"));
    std::string digests;
    bool is_in = false;
    if (const json::value* list = receipt.if_contains("batch_digests"); list != nullptr && list->is_array())
        for (const json::value& one : list->get_array()) {
            std::string_view hex = one.is_string() ? std::string_view(one.get_string()) : std::string_view();
            digests += from_hex(hex, sizeof(Sha256::bytes)).value_or("");
            is_in = is_in || hex == digest;
        }
    if (!is_in) problems.push_back("the record's digest is not among batch_digests");
    posting.records_digest = digest_of_digests(digests);
    auto before = from_hex(read.text("posting_previous_hash"), sizeof(Sha256::bytes));
    Sha256 expected = posting_hash(hash_from(before.value_or("")), posting);
    if (read.text("posting_hash") != to_hex(expected.bytes))
        problems.push_back("posting_hash is not the hash of the posting");
}

// Names and values of what is not zero: a record without any has the digest that it would have had before
// there were such members.
void add_apart(Fields& fields, const UsageRecord& r) {
    for (const Apart& apart : {counts_apart(r.usage), prices_apart(r.prices)})
        for (auto [name, value] : apart) {
            if (value == 0) continue;
            fields.add(std::string_view(name));
            fields.add(value);
        }
    if (!r.unit.empty()) {
        fields.add(std::string_view("unit"));
        fields.add(std::string_view(r.unit));
    }
    if (!r.is_byok()) return;
    fields.add(std::string_view("byok_ppm"));
    fields.add(r.byok_ppm);
}

}  // namespace

Sha256 record_digest(const UsageRecord& r, const Settled& s) {
    // The same facts as facts_of(), without allocating: this runs once per record on the committer's thread.
    thread_local Fields fields;
    fields.start("nebula-usage-1");
    fields.add(r.id);
    fields.add(r.account);
    fields.add(r.key);
    for (const std::string* text : {&r.model, &r.provider, &r.product}) fields.add(std::string_view(*text));
    for (std::int64_t number :
         {to_micros(r.started_at), r.latency_us, r.first_token_us, r.usage.input, r.usage.cached,
          r.usage.output, s.quota_input, s.quota_output, r.prices.input_per_m.value,
          r.prices.output_per_m.value, r.prices.cached_input_per_m.value, r.prices.request.value,
          s.charge.value, s.written_off.value})
        fields.add(number);
    fields.add(std::string_view(outcome_name(r.outcome)));
    for (std::int64_t number :
         {std::int64_t{r.status}, std::int64_t{r.is_estimated}, std::int64_t{r.is_streamed}})
        fields.add(number);
    if (has_apart(r)) add_apart(fields, r);
    return fields.digest();
}

void ensure_key(Tx& tx, const Clock& clock) {
    if (load_key(tx)) return;
    if (sodium_init() < 0) throw store::DbError("libsodium does not work");
    unsigned char open[crypto_sign_PUBLICKEYBYTES], secret[crypto_sign_SECRETKEYBYTES];
    crypto_sign_keypair(open, secret);
    std::string open_hex = to_hex(open), secret_hex = to_hex(secret);
    tx.exec(sql_add_key, {std::string_view(key_name), std::string_view(open_hex),
                          std::string_view(secret_hex), to_micros(clock.now())});
    sodium_memzero(secret, sizeof secret);
    sodium_memzero(secret_hex.data(), secret_hex.size());
}

std::string public_key(Tx& tx) {
    auto pair = load_key(tx);
    return pair ? pair->public_hex : std::string();
}

Result<std::string> make_receipt(Tx& tx, AccountId account, RequestId request) {
    auto found = load(tx, account, request);
    if (!found) return fail(Code::not_found, "request not found", "request");
    auto pair = load_key(tx);
    if (!pair) return fail(Code::internal, "there is no key to sign receipts with");
    std::string receipt = receipt_text(*found);
    return "{\"receipt\":" + receipt + ",\"public_key\":\"" + pair->public_hex + "\",\"signature\":\"" +
           sign(*pair, receipt) + "\"}";
}

std::vector<std::string> check_receipt(std::string_view text) {
    std::vector<std::string> problems;
    boost::system::error_code error;
    json::value whole = json::parse(json::string_view(text.data(), text.size()), error);
    // The signed bytes are those between the outer members, as they were sent.
    constexpr std::string_view start = "{\"receipt\":", middle = ",\"public_key\":\"";
    std::size_t end = text.rfind(middle);
    bool is_formed = !error && whole.is_object() && text.starts_with(start) && end != std::string_view::npos;
    const json::value* receipt = is_formed ? whole.get_object().if_contains("receipt") : nullptr;
    if (receipt == nullptr || !receipt->is_object()) return {"this is not a receipt"};
    Reader outer(whole.get_object(), problems);
    auto key = from_hex(outer.text("public_key"), crypto_sign_PUBLICKEYBYTES);
    auto signature = from_hex(outer.text("signature"), crypto_sign_BYTES);
    std::string_view signed_text = text.substr(start.size(), end - start.size());
    if (!key || !signature ||
        crypto_sign_verify_detached(raw(*signature), raw(signed_text), signed_text.size(), raw(*key)) != 0)
        problems.push_back("the signature is not that of the public key");

    const json::object& object = receipt->get_object();
    UsageRecord record;
    Settled settled;
    check_record(object, problems, record, settled);
    std::string digest = to_hex(record_digest(record, settled).bytes);
    if (Reader(object, problems).text("record_digest") != digest)
        problems.push_back("record_digest is not the digest of the record");
    if (charge_of(record.prices, uncovered(record.usage, settled.quota_input, settled.quota_output)) !=
        settled.charge + settled.written_off)
        problems.push_back("charge and written off are not the price of the tokens");
    const json::value* posting = object.if_contains("posting");
    const json::value* seq = object.if_contains("posting_seq");
    bool is_charged = posting != nullptr && posting->is_string();
    if (is_charged != (settled.charge > Nanos{}))
        problems.push_back("a posting is named where nothing was charged, or none where something was");
    if (seq == nullptr) problems.push_back("the member posting_seq is missing");
    // Null: from before postings were chained.
    if (is_charged && seq != nullptr && !seq->is_null())
        check_posting(object, problems, record.account, digest);
    return problems;
}

}  // namespace nebula::billing::ledger
