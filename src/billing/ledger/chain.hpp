#pragma once
// The hash chain of an account's postings, and how money's facts become digests. Private to billing.
//
// A digest is SHA-256 over fields, each written as "<length in bytes>:<value>,": unambiguous, and easy to
// write in any language. Numbers are decimal, ids are texts like "pst_…", hashes are lower-case hex. The
// first field names the form.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/crypto.hpp"
#include "base/ids.hpp"
#include "base/nanos.hpp"
#include "billing/billing.hpp"
#include "store/store.hpp"

namespace nebula::billing::ledger {

/// Collects fields for a digest; reuse it, so that nothing is allocated.
class Fields {
   public:
    void start(std::string_view form) {
        length_ = 0;
        add(form);
    }
    void add(std::string_view value);
    void add(std::int64_t value);
    template <class Tag>
    void add(Id<Tag> id) {
        if (id)
            add_id(Tag::prefix, id.value);
        else
            add(std::string_view());
    }
    void add(const Sha256& hash) { add(std::string_view(to_hex(hash.bytes))); }
    Sha256 digest() const { return sha256({buffer_.data(), length_}); }

   private:
    void add_id(std::string_view prefix, std::uint64_t value);
    /// Where the next field begins, with room for a value of `size` and what surrounds it.
    char* room_for(std::size_t size);

    std::vector<char> buffer_;
    std::size_t length_ = 0;
};

/// A posting as it stands in the table and in the chain.
struct Posting {
    PostingId id;
    AccountId account;
    std::int64_t seq = 0;  // from 1
    std::int64_t debit = 0;
    std::int64_t credit = 0;
    Nanos amount;
    std::string_view kind;  // a literal
    PostingId movement;     // the first posting of the movement, or of the charge of the same records
    Time created_at;
    Sha256 records_digest;
    std::string_view record_digests;  // where there are several; must live until it is inserted
    Sha256 hash;
};
/// The hash of `posting`, all but its own hash being set.
Sha256 posting_hash(const Sha256& before, const Posting& posting);
/// SHA-256 of digests set one after the other (32 bytes each).
inline Sha256 digest_of_digests(std::string_view digests) { return sha256(digests); }

inline std::string_view bytes_of(const Sha256& hash) {
    return {reinterpret_cast<const char*>(hash.bytes.data()), hash.bytes.size()};
}
/// All zero unless there are 32 bytes.
Sha256 hash_from(std::string_view bytes);

/// The end of one account's chain.
struct ChainEnd {
    std::int64_t length = 0;
    Sha256 hash;
};
/// Gives the posting its place: seq and hash; moves the end.
void seal(ChainEnd& end, Posting& posting);
/// Inserts sealed postings; `values` is scratch.
void insert_postings(store::Tx& tx, std::span<const Posting> postings, std::vector<store::Param>& values);

/// What the table movements holds.
struct MovementRow {
    PostingId id;
    AccountId account;
    std::string kind;
    std::string key;
    Nanos amount, tax, credited, owed;
    std::string note, reference, product;
    std::int64_t expires_at = 0;  // 0 = never
    Time created_at;
};
/// As the movement's postings seal it (records_digest is the digest of this digest).
Sha256 movement_digest(const MovementRow& row);

/// "{1,2,3}" for PostgreSQL, "[1,2,3]" for SQLite: the list parameter of the statements below and of verify.
std::string id_list(store::Engine engine, std::span<const std::int64_t> ids);

/// Ledger account that takes what is charged for a product.
const char* revenue_of(std::string_view product);

}  // namespace nebula::billing::ledger
