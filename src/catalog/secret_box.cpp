#include "catalog/secret_box.hpp"

#include <fcntl.h>
#include <sodium.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/crypto.hpp"

namespace nebula::catalog {
namespace {

constexpr std::size_t key_size = crypto_aead_xchacha20poly1305_ietf_KEYBYTES;
constexpr std::size_t nonce_size = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES;
constexpr std::size_t tag_size = crypto_aead_xchacha20poly1305_ietf_ABYTES;

unsigned char* raw(std::string& bytes) { return reinterpret_cast<unsigned char*>(bytes.data()); }
const unsigned char* raw(std::string_view bytes) {
    return reinterpret_cast<const unsigned char*>(bytes.data());
}

std::string hex_of(const std::string& bytes) {
    std::string hex(bytes.size() * 2 + 1, '\0');
    sodium_bin2hex(hex.data(), hex.size(), raw(std::string_view(bytes)), bytes.size());
    hex.pop_back();
    return hex;
}

std::optional<std::string> from_hex(std::string_view hex) {
    std::string bytes(hex.size() / 2, '\0');
    std::size_t length = 0;
    if (hex.size() % 2 != 0 ||
        sodium_hex2bin(raw(bytes), bytes.size(), hex.data(), hex.size(), nullptr, &length, nullptr) != 0 ||
        length != bytes.size())
        return std::nullopt;
    return bytes;
}

// At most one of several processes makes the file; all read what then stands there.
bool make(const std::string& path) {
    std::string fresh(key_size, '\0');
    randombytes_buf(fresh.data(), fresh.size());
    std::string text = hex_of(fresh) + "\n";
    std::string suffix(8, '\0');
    randombytes_buf(suffix.data(), suffix.size());
    std::string own = path + "." + hex_of(suffix);
    int file = ::open(own.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) return false;
    bool ok =
        ::write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && ::fsync(file) == 0;
    ::close(file);
    ok = ok && (::link(own.c_str(), path.c_str()) == 0 || errno == EEXIST);
    ::unlink(own.c_str());
    return ok;
}

}  // namespace

std::optional<Secret> read_secret_file(const std::string& path) {
    constexpr std::size_t bytes_max = 16 * 1024;
    constexpr std::string_view space = " \t\r\n";
    int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) return std::nullopt;
    std::string text(bytes_max, '\0');
    ssize_t size = ::read(file, text.data(), text.size());
    ::close(file);
    if (size < 0) return std::nullopt;  // a directory, say
    text.resize(static_cast<std::size_t>(size));
    text.erase(text.find_last_not_of(space) + 1);
    text.erase(0, std::min(text.find_first_not_of(space), text.size()));
    return Secret(std::move(text));
}

Result<SecretBox> SecretBox::from_file(const std::string& path, bool may_create) {
    if (sodium_init() < 0) return fail(Code::internal, "libsodium does not work");
    if (may_create && ::access(path.c_str(), F_OK) != 0 && !make(path))
        return fail(Code::internal, "the key file " + path + " cannot be written");
    auto text = read_secret_file(path);
    if (!text) return fail(Code::internal, "the key file " + path + " cannot be read");
    auto key = from_hex(text->reveal());
    if (!key || key->size() != key_size)
        return fail(Code::internal, "the key file " + path + " does not hold 32 bytes in hex");
    return SecretBox(Secret(std::move(*key)));
}

std::string SecretBox::seal(const Secret& secret, std::string_view context) const {
    const std::string& text = secret.reveal();
    std::string sealed(nonce_size + text.size() + tag_size, '\0');
    randombytes_buf(sealed.data(), nonce_size);
    crypto_aead_xchacha20poly1305_ietf_encrypt(raw(sealed) + nonce_size, nullptr, raw(std::string_view(text)),
                                               text.size(), raw(context), context.size(), nullptr,
                                               raw(sealed), raw(std::string_view(key_.reveal())));
    return hex_of(sealed);
}

std::optional<Secret> SecretBox::open(std::string_view sealed_hex, std::string_view context) const {
    auto sealed = from_hex(sealed_hex);
    if (!sealed || sealed->size() < nonce_size + tag_size) return std::nullopt;
    std::string text(sealed->size() - nonce_size - tag_size, '\0');
    if (crypto_aead_xchacha20poly1305_ietf_decrypt(raw(text), nullptr, nullptr, raw(*sealed) + nonce_size,
                                                   sealed->size() - nonce_size, raw(context), context.size(),
                                                   raw(*sealed), raw(std::string_view(key_.reveal()))) != 0)
        return std::nullopt;
    return Secret(std::move(text));
}

}  // namespace nebula::catalog
