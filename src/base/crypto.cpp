#include "base/crypto.hpp"

#include <openssl/evp.h>
#include <sodium.h>
#include <zlib.h>

#include <memory>

#include "base/check.hpp"

namespace nebula {
namespace {

struct MdCtxFree {
    void operator()(EVP_MD_CTX* ctx) const { EVP_MD_CTX_free(ctx); }
};

void init_sodium() {
    static const int ready = sodium_init();
    CHECK_FATAL(ready >= 0, "without its random generator libsodium is useless");
}

}  // namespace

Sha256 sha256(std::string_view text) {
    // EVP_sha256() would look the provider up on each use; a fetched digest and a reused context are 5 times
    // faster.
    static EVP_MD* const digest = EVP_MD_fetch(nullptr, "SHA256", nullptr);
    thread_local std::unique_ptr<EVP_MD_CTX, MdCtxFree> ctx(EVP_MD_CTX_new());
    Sha256 out;
    bool ok = EVP_DigestInit_ex2(ctx.get(), digest, nullptr) == 1 &&
              EVP_DigestUpdate(ctx.get(), text.data(), text.size()) == 1 &&
              EVP_DigestFinal_ex(ctx.get(), out.bytes.data(), nullptr) == 1;
    CHECK(ok, "hashing memory cannot fail");
    return out;
}

std::string to_hex(std::span<const unsigned char> bytes) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string text;
    text.reserve(bytes.size() * 2);
    for (unsigned char b : bytes) {
        text += digits[b >> 4];
        text += digits[b & 15];
    }
    return text;
}

std::uint32_t crc32(std::string_view text) {
    return static_cast<std::uint32_t>(
        ::crc32(0, reinterpret_cast<const Bytef*>(text.data()), static_cast<uInt>(text.size())));
}

void random_bytes(std::span<unsigned char> out) {
    init_sodium();
    randombytes_buf(out.data(), out.size());
}

std::string random_base62(std::size_t count) {
    static constexpr char alphabet[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    init_sodium();
    std::string text(count, '0');
    for (char& c : text) c = alphabet[randombytes_uniform(62)];
    return text;
}

bool constant_time_equal(std::string_view a, std::string_view b) {
    init_sodium();
    return a.size() == b.size() && sodium_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string hash_password(std::string_view password) {
    init_sodium();
    std::string out(crypto_pwhash_STRBYTES, '\0');
    int failed = crypto_pwhash_str(out.data(), password.data(), password.size(),
                                   crypto_pwhash_OPSLIMIT_INTERACTIVE, crypto_pwhash_MEMLIMIT_INTERACTIVE);
    if (failed != 0) throw std::bad_alloc();
    out.resize(std::strlen(out.c_str()));
    return out;
}

bool verify_password(std::string_view password, const std::string& encoded) {
    init_sodium();
    return crypto_pwhash_str_verify(encoded.c_str(), password.data(), password.size()) == 0;
}

}  // namespace nebula
