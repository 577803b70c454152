// Whoever changes the past is found: by verify in the database, by receipts without it.

#include <gmock/gmock.h>
#include <sodium.h>

#include <boost/json.hpp>

#include "billing/ledger/ledger_fixture.hpp"
#include "billing/ledger/receipt.hpp"
#include "billing/verify.hpp"

namespace nebula::billing::ledger {
namespace {

namespace json = boost::json;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class Tamper : public LedgerFixture {
   public:
    void SetUp() override {
        LedgerFixture::SetUp();
        Movement paid = movement(MovementKind::payment, 1000);
        paid.tax = Nanos{70};
        ASSERT_TRUE(move(paid));
        Movement bonus = movement(MovementKind::bonus, 25);
        bonus.expires_at = fake.now() + std::chrono::days(30);
        ASSERT_TRUE(move(bonus));
        single = charged(account, 10);
        ASSERT_TRUE(write({single}));
        in_batch = charged(account, 20);
        unpaid = charged(account, 0, 4);
        ASSERT_TRUE(write({charged(account, 7), in_batch, unpaid, charged(account, 8)}));  // bonus and paid
        apart = charged_apart(account, 60);
        ASSERT_TRUE(write({apart, charged(account, 1)}));
        ASSERT_TRUE(move(movement(MovementKind::refund, 100)));
        ASSERT_TRUE(move(movement(MovementKind::dispute, 2000)));
        Movement gift = movement(MovementKind::promotion, 5);
        gift.account = new_account("gifted");
        ASSERT_TRUE(move(gift));
        auto make_key = [&](store::Tx& tx) -> Result<bool> {
            ensure_key(tx, fake);
            return true;
        };
        ASSERT_TRUE(in_tx(make_key));
    }

    /// What verify finds after these statements, which then never happened.
    std::vector<std::string> problems_after(std::vector<std::string> statements) {
        bool is_sqlite = db().engine() == store::Engine::sqlite;
        std::vector<std::string> all =
            is_sqlite ? std::vector<std::string>{"DROP TRIGGER postings_no_update",
                                                 "DROP TRIGGER postings_no_delete"}
                      : std::vector<std::string>{"ALTER TABLE postings DISABLE TRIGGER USER"};
        all.insert(all.end(), statements.begin(), statements.end());
        std::vector<std::string> problems;
        auto work = [&](store::Tx& tx) -> Result<bool> {
            for (const std::string& statement : all) tx.script(store::Sql{"test.tamper", statement.c_str()});
            problems = verify_books_here(tx).problems;
            return fail(Code::cancelled, "roll back");
        };
        (void)in_tx(work);
        return problems;
    }

    std::string receipt(const Charged& of) {
        auto work = [&](store::Tx& tx) { return make_receipt(tx, account, of.record.id); };
        return in_tx(work).value();
    }

    Charged single, in_batch, unpaid, apart;
};
NEBULA_BOTH_ENGINES(Tamper);

// A change anywhere in the books is found, and what it is about is named.
TEST_P(Tamper, VerifyNamesWhatWasChanged) {
    EXPECT_THAT(problems_after({}), ElementsAre());
    const std::string id = std::to_string(account.db());
    const std::string usage = "UPDATE usage_records SET ", one = std::to_string(in_batch.record.id.db());
    const std::string two = std::to_string(apart.record.id.db());
    struct Case {
        std::vector<std::string> statements;
        const char* problem;
    };
    const Case cases[] = {
        {{"UPDATE postings SET amount = amount + 1 WHERE kind = 'refund'"}, "posting was changed"},
        {{"UPDATE postings SET amount = amount + 1 WHERE kind = 'refund'"}, "differs from its postings"},
        {{"UPDATE postings SET created_at = created_at + 1 WHERE kind = 'payment'"}, "posting was changed"},
        {{"UPDATE postings SET kind = 'dispute' WHERE kind = 'refund'"}, "posting was changed"},
        {{"UPDATE postings SET debit_account = credit_account, credit_account = debit_account"
          " WHERE kind = 'bonus'"},
         "posting was changed"},
        {{"UPDATE postings SET seq = -1 WHERE seq = 1", "UPDATE postings SET seq = 1 WHERE seq = 2",
          "UPDATE postings SET seq = 2 WHERE seq = -1"},
         "posting was changed"},
        {{"DELETE FROM postings WHERE seq = 3"}, "gap"},
        {{"DELETE FROM postings WHERE seq = (SELECT MAX(seq) FROM postings)"},
         "chain of postings ends elsewhere"},
        {{"UPDATE ledger_chains SET length = length + 1"}, "chain of postings ends elsewhere"},
        {{"DELETE FROM ledger_chains"}, "chain of postings has no end"},
        {{"UPDATE postings SET records_digest = hash WHERE kind = 'bonus'"}, "posting was changed"},
        {{"UPDATE postings SET record_digests = hash WHERE record_digests IS NOT NULL"},
         "list of records was changed"},
        {{usage + "output_tokens = output_tokens + 1, written_off = written_off + 1 WHERE id = " + one},
         "usage record was changed after it was charged"},
        // Of the same price: only the digest tells.
        {{usage + "units = 1, price_unit = 24 WHERE id = " + two},
         "usage record was changed after it was charged"},
        {{usage + "unit = 'second' WHERE id = " + two}, "usage record was changed after it was charged"},
        {{usage +
          "cache_write_tokens = 2, price_cache_write_per_m = 2500000, written_off = 0 WHERE id = " + two},
         "usage record was changed after it was charged"},
        {{usage + "price_reasoning_per_m = price_reasoning_per_m + 1 WHERE id = " + two},
         "differs from its price"},
        {{usage + "price_cache_write_per_m = 0 WHERE id = " + two}, "differs from its price"},
        {{usage + "units = 3 WHERE id = " + two}, "differs from its price"},
        {{usage + "units = 3, written_off = 12 WHERE id = " + two}, "hourly sum differs"},
        {{usage + "reasoning_tokens = 0 WHERE id = " + two}, "hourly sum differs"},
        {{usage + "cache_write_tokens = 0 WHERE id = " + two}, "hourly sum differs"},
        {{"UPDATE usage_hours SET units = 0"}, "hourly sum differs"},
        {{usage + "price_unit = 5 WHERE id = " + one}, "usage record was changed after it was charged"},
        {{usage + "byok_ppm = 40000 WHERE id = " + two}, "usage record was changed after it was charged"},
        {{usage + "byok_ppm = 0 WHERE id = " + one}, "usage record was changed after it was charged"},
        {{usage + "unit = 'image' WHERE id = " + one}, "usage record was changed after it was charged"},
        {{usage + "model = 'other' WHERE id = " + one}, "usage record was changed after it was charged"},
        {{usage + "latency_us = 1 WHERE id = " + one}, "usage record was changed after it was charged"},
        {{usage + "key_id = 6 WHERE id = " + one}, "hourly sum differs"},
        {{usage + "charge = charge - 1, written_off = 1 WHERE id = " + one},
         "differs from the sum of its records"},
        {{usage + "output_tokens = 99 WHERE posting_id IS NULL"}, "differs from its price"},
        {{"DELETE FROM usage_records WHERE id = " + one}, "differs from the sum of its records"},
        {{"DELETE FROM usage_records WHERE id = " + std::to_string(single.record.id.db())},
         "differs from the sum of its records"},
        {{"DELETE FROM usage_records"}, "differs from the sum of its records"},
        {{usage + "id = id + 1000000 WHERE id = " + one}, "usage record was changed after it was charged"},
        {{"UPDATE usage_hours SET requests = requests + 1"}, "hourly sum differs"},
        {{"DELETE FROM usage_hours"}, "hourly sum differs"},
        {{"UPDATE usage_hours SET model = 'other'"}, "hourly sum differs"},
        {{"UPDATE movements SET amount = amount + 1 WHERE kind = 'payment'"},
         "movement differs from its postings"},
        {{"UPDATE movements SET note = 'gift' WHERE kind = 'payment'"}, "movement was changed"},
        {{"UPDATE movements SET idempotency_key = 'again' WHERE kind = 'payment'"}, "movement was changed"},
        {{"UPDATE movements SET tax = 0 WHERE kind = 'payment'"}, "movement differs from its postings"},
        {{"DELETE FROM movements WHERE kind = 'refund'"}, "posting without its movement"},
        {{"INSERT INTO movements (id, account_id, kind, amount, credited, owed, created_at) VALUES (1, " +
          id + ", 'payment', 5, 5, 0, 0)"},
         "movement without a posting"},
        {{"UPDATE credit_lots SET remaining = remaining - 1 WHERE remaining = 5"},
         "bonus credits are in no lot"},
        {{"UPDATE ledger_accounts SET balance = balance + 1 WHERE kind = 'revenue'"}, "not zero"},
        {{"UPDATE ledger_chains SET sliced = 1"}, "more is leased"},
    };
    for (const Case& one_case : cases) {
        SCOPED_TRACE(one_case.statements.front());
        EXPECT_THAT(problems_after(one_case.statements), Contains(HasSubstr(one_case.problem)));
    }
}

// Receipts are for customers who do not trust us: they must hold without us, and for every kind of request.
TEST_P(Tamper, ReceiptsHoldOffline) {
    for (const Charged& of : {single, in_batch, unpaid, apart}) {
        std::string text = receipt(of);
        EXPECT_THAT(check_receipt(text), ElementsAre()) << text;
        EXPECT_THAT(text, HasSubstr("\"request\":\"" + of.record.id.text() + "\""));
    }
    EXPECT_THAT(receipt(in_batch), HasSubstr("\"charge_nanos\":20,"));
    auto other = new_account("other");
    auto not_mine = [&](store::Tx& tx) -> Result<bool> {
        EXPECT_EQ(make_receipt(tx, other, single.record.id).error().code, Code::not_found);
        std::string key = public_key(tx);
        ensure_key(tx, fake);
        EXPECT_EQ(public_key(tx), key) << "made once";
        EXPECT_EQ(key.size(), 64u);
        return true;
    };
    ASSERT_TRUE(in_tx(not_mine));
}

void spoil(json::value& value) {
    if (value.is_int64()) value = value.get_int64() + 1;
    if (value.is_string() && value.get_string().empty())
        value = "x";
    else if (value.is_string())
        value.get_string().back() = value.get_string().back() == '1' ? '2' : '1';
    if (value.is_array()) spoil(value.get_array().front());
    if (value.is_null()) value = 1;
}

// With the right signature of the wrong key, the arithmetic and the digests still have to agree.
std::string sign_anew(const json::value& receipt) {
    std::string text = json::serialize(receipt);
    unsigned char open[crypto_sign_PUBLICKEYBYTES], secret[crypto_sign_SECRETKEYBYTES];
    unsigned char signature[crypto_sign_BYTES];
    crypto_sign_keypair(open, secret);
    crypto_sign_detached(signature, nullptr, reinterpret_cast<const unsigned char*>(text.data()), text.size(),
                         secret);
    return "{\"receipt\":" + text + ",\"public_key\":\"" + to_hex(open) + "\",\"signature\":\"" +
           to_hex(signature) + "\"}";
}

// Receipts and books of earlier versions must hold for ever: what came later is sealed only where it is
// there.
TEST_P(Tamper, OlderRecordsKeepTheirDigests) {
    auto field = [](std::string_view value) {
        return std::to_string(value.size()) + ":" + std::string(value) + ",";
    };
    UsageRecord r;
    r.id = RequestId{1};
    r.account = AccountId{2};
    r.key = KeyId{3};
    r.model = "m";
    r.provider = "p";
    r.usage = {.input = 5, .cached = 1, .output = 6};
    r.prices = {Nanos{10}, Nanos{11}, Nanos{12}, Nanos{13}};
    r.started_at = from_micros(7);
    r.latency_us = 8;
    r.first_token_us = 9;
    std::string text;
    for (const std::string& value : std::vector<std::string>{"nebula-usage-1",
                                                             r.id.text(),
                                                             r.account.text(),
                                                             r.key.text(),
                                                             "m",
                                                             "p",
                                                             "llm",
                                                             "7",
                                                             "8",
                                                             "9",
                                                             "5",
                                                             "1",
                                                             "6",
                                                             "0",
                                                             "0",
                                                             "10",
                                                             "11",
                                                             "12",
                                                             "13",
                                                             "14",
                                                             "15",
                                                             "completed",
                                                             "200",
                                                             "0",
                                                             "0"})
        text += field(value);
    Settled settled{Nanos{14}, Nanos{15}};
    EXPECT_EQ(record_digest(r, settled), sha256(text));
    r.usage.reasoning = 4;
    r.prices.reasoning_per_m = Nanos{16};
    EXPECT_EQ(record_digest(r, settled),
              sha256(text + field("reasoning_tokens") + field("4") + field("reasoning_per_m") + field("16")));
    r.usage.cache_write = 3;
    r.usage.units = 2;
    r.unit = "image";
    EXPECT_EQ(record_digest(r, settled),
              sha256(text + field("cache_write_tokens") + field("3") + field("reasoning_tokens") +
                     field("4") + field("units") + field("2") + field("reasoning_per_m") + field("16") +
                     field("unit") + field("image")));
    UsageRecord plain = r;
    plain.usage = {.input = 5, .cached = 1, .output = 6};
    plain.prices.reasoning_per_m = {};
    plain.unit.clear();
    EXPECT_EQ(record_digest(plain, settled), sha256(text));
    plain.byok_ppm = 0;
    EXPECT_EQ(record_digest(plain, settled), sha256(text + field("byok_ppm") + field("0")));
}

TEST_P(Tamper, EveryMemberOfAReceiptIsSealed) {
    json::value whole = json::parse(receipt(apart));
    json::object& object = whole.as_object()["receipt"].as_object();
    EXPECT_THAT(check_receipt(sign_anew(object)), ElementsAre()) << "of another key, but consistent";
    std::vector<std::string> names;
    for (const auto& member : object) names.emplace_back(member.key());
    EXPECT_GT(names.size(), 35u);
    EXPECT_EQ(object["prices"].as_object().size(), 7u);
    for (const std::string& name : names) {
        SCOPED_TRACE(name);
        json::object changed = object;
        if (changed[name].is_object()) {
            for (const auto& price : changed[name].get_object()) {
                json::object prices = object;
                spoil(prices[name].get_object()[price.key()]);
                EXPECT_THAT(check_receipt(sign_anew(prices)), Not(ElementsAre())) << price.key();
            }
        } else {
            spoil(changed[name]);
            json::object outer = whole.as_object();
            outer["receipt"] = changed;
            EXPECT_THAT(check_receipt(json::serialize(outer)), Contains(HasSubstr("signature")));
            EXPECT_THAT(check_receipt(sign_anew(changed)), Not(ElementsAre()));
        }
        changed = object;
        changed.erase(name);
        EXPECT_THAT(check_receipt(sign_anew(changed)), Not(ElementsAre())) << "without it";
    }
    for (const char* name : {"public_key", "signature"}) {
        json::object outer = whole.as_object();
        spoil(outer[name]);
        EXPECT_THAT(check_receipt(json::serialize(outer)), Contains(HasSubstr("signature")));
    }
    for (const char* text :
         {"", "{}", "[]", "{\"receipt\":1}", "{\"receipt\":{},\"public_key\":\"\"}", "null"})
        EXPECT_THAT(check_receipt(text), Not(ElementsAre())) << text;
}

}  // namespace
}  // namespace nebula::billing::ledger
