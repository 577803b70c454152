#pragma once
// The parts of verify_books(). Each is fed the accounts in ascending order of id. Private to the ledger.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "billing/ledger/chain.hpp"
#include "billing/ledger/pages.hpp"
#include "billing/store.hpp"
#include "billing/verify.hpp"

namespace nebula::billing::ledger {

void add_problem(VerifyReport& report, std::string text);

/// One ledger account: as it says, and as its postings say.
struct LedgerRow {
    std::int64_t account = 0;
    std::int64_t id = 0;
    std::string kind;
    Nanos balance;
    Nanos moved;
};
using LedgerRows = std::map<std::int64_t, LedgerRow>;

/// Postings in the order of their chains, their movements, and those from before there were chains.
class ChainVerifier {
   public:
    ChainVerifier(store::Tx& tx, VerifyReport& report);
    /// Account of the next posting; max when there is none.
    std::int64_t next_account() const;
    /// Walks the account's chain, adds up its ledger accounts. Answers how many usage records its postings
    /// seal.
    std::int64_t verify(std::int64_t account, LedgerRows& rows, const std::optional<ChainEnd>& end);
    void finish();

   private:
    struct Row {
        Posting posting;
        std::string kind;
        std::string record_digests;
    };
    /// What the postings of one movement did.
    struct Group {
        PostingId movement;
        Nanos credited, owed, tax;
        Sha256 digest;
        bool is_chained = false;
    };
    void load(const Row* last, std::vector<Row>& page);
    void load_movements(const std::vector<Row>& page);
    void verify_unchained();
    void add_sides(const Posting& posting, LedgerRows& rows);
    void add_to_group(const Row& row, const LedgerRows& rows);
    void close_group();

    store::Tx& tx_;
    VerifyReport& report_;
    std::unordered_map<std::int64_t, MovementRow> movements_;  // of the page
    std::optional<MovementRow> open_movement_;
    Group group_;
    std::unordered_map<std::int64_t, Nanos> unchained_;  // by ledger account
    std::optional<Pages<Row>> pages_;
};

/// Usage records: their price, their posting's sum and seal, the hourly sums.
class UsageVerifier {
   public:
    UsageVerifier(store::Tx& tx, VerifyReport& report);
    std::int64_t next_account() const;
    /// `sealed`: records that the account's postings seal.
    void verify(std::int64_t account, bool is_known, std::int64_t sealed);
    void finish();

   private:
    struct Row {
        UsageRecord record;
        Settled settled;
    };
    using HourKey = std::tuple<std::int64_t, std::int64_t, std::string, std::string>;
    struct HourRow {
        std::int64_t account = 0;
        HourKey key;  // hour, key, model, product
        HourSums sums;
    };
    /// A posting of which records are still to come.
    struct Open {
        std::int64_t account = 0;
        Nanos amount;  // of all postings of the charge
        Nanos sum;
        bool is_chained = false;
        std::int64_t left = 0;  // records; counts only where it is chained
        std::unordered_set<Sha256> digests;
        Sha256 digest_of_one;  // records_digest, where there is one record
    };
    void load(const Row* last, std::vector<Row>& page);
    void load_postings(const std::vector<Row>& page);
    void load_hours(const HourRow* last, std::vector<HourRow>& page);
    void verify_price(const Row& row);
    /// True when the record is one that its posting seals.
    bool verify_posting(const Row& row);
    void verify_hours(std::int64_t account, std::map<HourKey, HourRow>& sums);
    void name_unused_postings(std::int64_t account);

    store::Tx& tx_;
    VerifyReport& report_;
    std::unordered_map<std::int64_t, Open> open_;  // by posting
    Pages<Row> pages_;
    Pages<HourRow> hours_;
};

}  // namespace nebula::billing::ledger
