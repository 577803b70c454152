#include "billing/ledger/chain.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>

namespace nebula::billing::ledger {
namespace {

using store::Param;

constexpr store::Sql sql_insert{
    "billing.insert_posting",
    "INSERT INTO postings (id, account_id, seq, debit_account, credit_account, amount, kind, movement_id,"
    " records_digest, record_digests, hash, created_at)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"};
constexpr std::size_t posting_columns = 12;

}  // namespace

char* Fields::room_for(std::size_t size) {
    constexpr std::size_t around = 24;  // the length's digits, ':' and ','
    if (buffer_.size() < length_ + size + around) buffer_.resize(2 * (length_ + size + around));
    return buffer_.data() + length_;
}

void Fields::add(std::string_view value) {
    char* to = room_for(value.size());
    if (value.size() < 10)
        *to++ = static_cast<char>('0' + value.size());
    else
        to = std::to_chars(to, to + 24, value.size()).ptr;
    *to++ = ':';
    if (!value.empty()) std::memcpy(to, value.data(), value.size());
    to += value.size();
    *to++ = ',';
    length_ = static_cast<std::size_t>(to - buffer_.data());
}

void Fields::add(std::int64_t value) {
    char* to = room_for(24);
    // Written where it belongs when its length has one digit, as mostly.
    char* digits = to + 2;
    auto size = static_cast<std::size_t>(std::to_chars(digits, digits + 24, value).ptr - digits);
    if (size < 10) {
        *to++ = static_cast<char>('0' + size);
    } else {
        std::memmove(digits + 1, digits, size);
        *to++ = static_cast<char>('0' + size / 10);
        *to++ = static_cast<char>('0' + size % 10);
    }
    *to++ = ':';
    to += size;
    *to++ = ',';
    length_ = static_cast<std::size_t>(to - buffer_.data());
}

// What Id::text() makes, without its allocation.
void Fields::add_id(std::string_view prefix, std::uint64_t value) {
    std::string digits = base32_id(value);
    char text[32];
    std::size_t length = prefix.copy(text, sizeof text - digits.size() - 1);
    text[length++] = '_';
    length += digits.copy(text + length, digits.size());
    add(std::string_view(text, length));
}

Sha256 posting_hash(const Sha256& before, const Posting& posting) {
    thread_local Fields fields;
    fields.start("nebula-posting-1");
    fields.add(before);
    fields.add(posting.account);
    fields.add(posting.seq);
    fields.add(posting.id);
    fields.add(posting.debit);
    fields.add(posting.credit);
    fields.add(posting.amount.value);
    fields.add(posting.kind);
    fields.add(posting.movement);
    fields.add(to_micros(posting.created_at));
    fields.add(posting.records_digest);
    return fields.digest();
}

Sha256 hash_from(std::string_view bytes) {
    Sha256 hash;
    if (bytes.size() == hash.bytes.size()) std::memcpy(hash.bytes.data(), bytes.data(), bytes.size());
    return hash;
}

void seal(ChainEnd& end, Posting& posting) {
    posting.seq = ++end.length;
    posting.hash = end.hash = posting_hash(end.hash, posting);
}

void insert_postings(store::Tx& tx, std::span<const Posting> postings, std::vector<Param>& values) {
    if (postings.empty()) return;
    values.clear();
    values.reserve(postings.size() * posting_columns);
    for (const Posting& p : postings) {
        Param digests = p.record_digests.empty() ? Param(nullptr) : Param(store::Blob{p.record_digests});
        values.insert(values.end(), {p.id.db(), p.account.db(), p.seq, p.debit, p.credit, p.amount.value,
                                     p.kind, p.movement.db(), store::Blob{bytes_of(p.records_digest)},
                                     digests, store::Blob{bytes_of(p.hash)}, to_micros(p.created_at)});
    }
    tx.exec_many(sql_insert, posting_columns, values);
}

Sha256 movement_digest(const MovementRow& row) {
    Fields fields;
    fields.start("nebula-movement-1");
    fields.add(row.id);
    fields.add(row.account);
    for (const std::string* text : {&row.kind, &row.key}) fields.add(std::string_view(*text));
    for (Nanos nanos : {row.amount, row.tax, row.credited, row.owed}) fields.add(nanos.value);
    for (const std::string* text : {&row.note, &row.reference, &row.product})
        fields.add(std::string_view(*text));
    fields.add(row.expires_at);
    fields.add(to_micros(row.created_at));
    return fields.digest();
}

std::string id_list(store::Engine engine, std::span<const std::int64_t> ids) {
    bool is_sqlite = engine == store::Engine::sqlite;
    std::string list(is_sqlite ? "[" : "{");
    for (std::int64_t id : ids) {
        if (list.size() > 1) list += ',';
        list += std::to_string(id);
    }
    return list += is_sqlite ? ']' : '}';
}

const char* revenue_of(std::string_view product) {
    if (product == "gpu" || product == "serverless" || product == "instance") return "revenue_compute";
    if (product == "cloud_storage" || product == "storage") return "revenue_storage";
    return "revenue";
}

}  // namespace nebula::billing::ledger
