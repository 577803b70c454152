#pragma once
// What a month cost an account, and its closing. Private to bills.

#include <string>
#include <vector>

#include "billing/bills/invoice.hpp"
#include "billing/bills/periods.hpp"

namespace nebula::billing::bills {

struct MonthBill {
    AccountId account;
    std::string month;  // "2026-10"
    UserId user;
    Nanos usage;        // charges of metered requests
    Nanos late;         // of the month before, recorded after that was closed
    Nanos charges;      // other products
    Nanos fees;         // plans
    Nanos corrections;  // given back (positive) or charged (negative)
    Nanos total;        // usage + late + charges + fees - corrections
    Nanos written_off;
    Nanos paid_in;             // credits bought less refunds
    std::int64_t invoice = 0;  // 0: not closed yet
    Time created_at;
    bool operator==(const MonthBill&) const = default;
};

/// As the tables stand now.
MonthBill sum_month(store::Tx& tx, AccountId account, const std::string& month);
/// Closed ones from `first_month` on, newest first.
std::vector<MonthBill> list_bills(store::Tx& tx, AccountId account, const std::string& first_month,
                                  std::int64_t limit, std::int64_t offset);
/// Bill and statement in the given transaction. False: closed before.
bool close_account(store::Tx& tx, const Clock& clock, AccountId account, UserId user,
                   const std::string& customer, const std::string& month);

}  // namespace nebula::billing::bills
