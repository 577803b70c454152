// What needs no database: tokens, one-time passwords, bounds.
#include <gmock/gmock.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include "accounts/people/attempts.hpp"
#include "accounts/people/base64url.hpp"
#include "accounts/people/jwt.hpp"
#include "accounts/people/session_cache.hpp"
#include "accounts/people/totp.hpp"

namespace nebula::accounts {
namespace {

using std::chrono::seconds;

// Authenticator apps follow RFC 6238; its appendix B is the only referee (last six of its eight digits).
TEST(Totp, AnswersTheVectorsOfTheStandard) {
    const Secret secret("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");  // "12345678901234567890"
    const std::pair<std::int64_t, const char*> vectors[] = {
        {59, "287082"},         {1111111109, "081804"}, {1111111111, "050471"},
        {1234567890, "005924"}, {2000000000, "279037"}, {20000000000, "353130"},
    };
    for (auto [at, code] : vectors) EXPECT_EQ(totp_code(secret, totp_step(Time(seconds(at)))), code) << at;
    EXPECT_EQ(totp_code(Secret("not base32!"), 1), std::nullopt);
}

// Clocks of phones are off by some seconds, but a code must not be good for minutes.
TEST(Totp, TakesOneStepBeforeAndAfter) {
    FakeClock clock;
    Secret secret = make_totp_secret();
    std::int64_t now = totp_step(clock.now());
    for (std::int64_t difference : {-2, -1, 0, 1, 2}) {
        auto code = totp_code(secret, now + difference);
        auto matched = matching_totp_step(secret, *code, clock.now());
        bool is_near = difference >= -1 && difference <= 1;
        if (is_near)
            EXPECT_EQ(matched, now + difference);
        else
            EXPECT_FALSE(matched) << difference;
    }
    EXPECT_FALSE(matching_totp_step(secret, "", clock.now()));
    EXPECT_THAT(totp_url(secret, "a b@x.de"),
                ::testing::StartsWith("otpauth://totp/Nebula:a%20b%40x.de?secret="));
}

// People type recovery codes from paper.
TEST(RecoveryCodes, AreReadWithoutHyphensAndCase) {
    auto codes = make_recovery_codes();
    ASSERT_EQ(codes.size(), 10u);
    std::string code = codes[0], upper;
    for (char c : code)
        if (c != '-') upper += static_cast<char>(std::toupper(c));
    EXPECT_EQ(recovery_code_hash(code), recovery_code_hash(upper));
    EXPECT_NE(recovery_code_hash(code), recovery_code_hash(codes[1]));
}

// A token whose text can be changed without changing its bytes would have two names.
TEST(Base64Url, HasOneTextPerValue) {
    for (std::string text : {"", "f", "fo", "foo", "foob", "\xff\xfe\xfd"})
        EXPECT_EQ(base64url_decoded(base64url(text)), text);
    EXPECT_EQ(base64("fo"), "Zm8=");
    for (const char* bad : {"Zg==", "Zh", "Z", "Zm 8", "Zm+v"}) EXPECT_FALSE(base64url_decoded(bad)) << bad;
}

class Jwt : public ::testing::Test {
   public:
    JwtClaims claims() {
        std::int64_t now = to_micros(clock.now()) / 1'000'000;
        return {"ada@example.com", {"CUSTOMER"}, {"inference:read"}, now, now + 7200, "ses_1"};
    }
    FakeClock clock;
    const Secret key = Secret("a key of thirty-two bytes or so.");
};

// What clients of the platform see: subject, roles, scopes and two hours.
TEST_F(Jwt, IsReadBackUntilItExpires) {
    std::string token = sign_jwt(claims(), key);
    auto read = verify_jwt(token, key, clock.now());
    ASSERT_TRUE(read);
    EXPECT_EQ(read->subject, "ada@example.com");
    EXPECT_EQ(read->session, "ses_1");
    EXPECT_THAT(read->roles, ::testing::ElementsAre("CUSTOMER"));
    clock.advance(seconds(7199));
    EXPECT_TRUE(verify_jwt(token, key, clock.now()));
    clock.advance(seconds(1));
    EXPECT_FALSE(verify_jwt(token, key, clock.now()));
}

// The classic attacks: another key, no signature at all, an algorithm of the attacker's choice, changed
// claims.
TEST_F(Jwt, IsRefusedWhenForged) {
    std::string token = sign_jwt(claims(), key);
    std::size_t first = token.find('.'), last = token.rfind('.');
    std::string header = token.substr(0, first), payload = token.substr(first + 1, last - first - 1);
    std::string signature = token.substr(last + 1);
    std::string none = base64url(R"({"alg":"none","typ":"JWT"})");
    std::string later = base64url(R"({"sub":"root@example.com","exp":99999999999,"sid":"ses_1"})");
    for (const std::string& forged :
         {sign_jwt(claims(), Secret("another key")), none + "." + payload + ".",
          none + "." + payload + "." + signature, header + "." + payload + ".", header + "." + payload,
          header + "." + later + "." + signature,
          base64url(R"({"alg":"RS256"})") + "." + payload + "." + signature, token + "x", "." + token,
          token + ".", std::string(), std::string("..")})
        EXPECT_FALSE(verify_jwt(forged, key, clock.now())) << forged;
    JwtClaims future = claims();
    future.issued_at += 3600;
    EXPECT_FALSE(verify_jwt(sign_jwt(future, key), key, clock.now()));
}

struct PKeyFree {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using PKey = std::unique_ptr<EVP_PKEY, PKeyFree>;

std::string number(EVP_PKEY* key, const char* name, std::size_t width = 0) {
    BIGNUM* value = nullptr;
    EXPECT_EQ(EVP_PKEY_get_bn_param(key, name, &value), 1);
    std::size_t size = width != 0 ? width : static_cast<std::size_t>(BN_num_bytes(value));
    std::string bytes(size, '\0');
    BN_bn2binpad(value, reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(size));
    BN_free(value);
    return bytes;
}

std::string signature(EVP_PKEY* key, const std::string& text, bool is_ec) {
    EVP_MD_CTX* context = EVP_MD_CTX_new();
    std::size_t size = 0;
    auto bytes = reinterpret_cast<const unsigned char*>(text.data());
    EVP_DigestSignInit(context, nullptr, EVP_sha256(), nullptr, key);
    EVP_DigestSign(context, nullptr, &size, bytes, text.size());
    std::string made(size, '\0');
    EVP_DigestSign(context, reinterpret_cast<unsigned char*>(made.data()), &size, bytes, text.size());
    made.resize(size);
    EVP_MD_CTX_free(context);
    if (!is_ec) return made;
    auto at = reinterpret_cast<const unsigned char*>(made.data());
    ECDSA_SIG* pair = d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(made.size()));
    std::string raw(64, '\0');
    BN_bn2binpad(ECDSA_SIG_get0_r(pair), reinterpret_cast<unsigned char*>(raw.data()), 32);
    BN_bn2binpad(ECDSA_SIG_get0_s(pair), reinterpret_cast<unsigned char*>(raw.data()) + 32, 32);
    ECDSA_SIG_free(pair);
    return raw;
}

class IdTokens : public ::testing::Test {
   public:
    static std::string token(EVP_PKEY* key, const std::string& algorithm, const std::string& claims,
                             const std::string& id = "k1") {
        std::string text =
            base64url(R"({"alg":")" + algorithm + R"(","kid":")" + id + R"("})") + "." + base64url(claims);
        return text + "." + base64url(signature(key, text, algorithm == "ES256"));
    }
    static std::string claims(const std::string& change_from = {}, const std::string& to = {}) {
        std::string text =
            R"({"iss":"https://id.test","aud":"nebula","sub":"s1","exp":1767229200,"iat":1767225600,)"
            R"("nonce":"n1","email":"ada@example.com","email_verified":true,"name":"Ada"})";
        if (std::size_t at = text.find(change_from); !change_from.empty() && at != std::string::npos)
            text.replace(at, change_from.size(), to);
        return text;
    }
    Result<IdToken> verify(const std::string& text) {
        return verify_id_token(text, keys, {"https://id.test", "nebula", "n1"}, clock.now());
    }

    FakeClock clock;
    PKey rsa{EVP_RSA_gen(2048)};
    PKey other{EVP_RSA_gen(2048)};
    PKey ec{EVP_EC_gen("P-256")};
    std::vector<Jwk> keys =
        *parse_jwks(R"({"keys":[{"kty":"RSA","use":"sig","kid":"k1","n":")" +
                    base64url(number(rsa.get(), "n")) + R"(","e":")" + base64url(number(rsa.get(), "e")) +
                    R"("},{"kty":"EC","crv":"P-256","kid":"k2","x":")" +
                    base64url(number(ec.get(), OSSL_PKEY_PARAM_EC_PUB_X, 32)) + R"(","y":")" +
                    base64url(number(ec.get(), OSSL_PKEY_PARAM_EC_PUB_Y, 32)) +
                    R"("},{"kty":"RSA","use":"enc","kid":"k3","n":"AQAB","e":"AQAB"}]})");
};

// Both algorithms that providers use, each with its own key.
TEST_F(IdTokens, SignedByTheProviderAreTaken) {
    ASSERT_EQ(keys.size(), 2u);
    auto by_rsa = verify(token(rsa.get(), "RS256", claims()));
    ASSERT_TRUE(by_rsa) << by_rsa.error().detail;
    EXPECT_EQ(by_rsa->subject, "s1");
    EXPECT_EQ(by_rsa->email, "ada@example.com");
    EXPECT_TRUE(by_rsa->is_email_verified);
    auto by_ec = verify(token(ec.get(), "ES256", claims(), "k2"));
    EXPECT_TRUE(by_ec) << by_ec.error().detail;
    EXPECT_TRUE(verify(token(rsa.get(), "RS256", claims(R"("nebula")", R"(["nebula"])"))));
    EXPECT_FALSE(verify(token(rsa.get(), "RS256", claims("true", "false")))->is_email_verified);
}

// Every way a token can be somebody else's, old, or made up.
TEST_F(IdTokens, ThatAreWrongInAnythingAreRefused) {
    const std::pair<const char*, const char*> changes[] = {
        {"https://id.test", "https://evil.test"},
        {R"("nebula")", R"("other")"},
        {R"("nebula")", R"(["nebula","other"])"},
        {R"("nonce":"n1")", R"("nonce":"n2")"},
        {R"("nonce":"n1",)", ""},
        {"1767229200", "1767225000"},
        {R"("iat":1767225600)", R"("iat":1767229000)"},
        {R"("sub":"s1",)", ""},
        {R"("sub")", R"("azp":"other","sub")"},
    };
    for (auto [from, to] : changes) EXPECT_FALSE(verify(token(rsa.get(), "RS256", claims(from, to)))) << from;
    EXPECT_FALSE(verify(token(other.get(), "RS256", claims())));
    EXPECT_FALSE(verify(token(rsa.get(), "RS256", claims(), "k2")));  // the EC key's name
    std::string good = token(rsa.get(), "RS256", claims());
    EXPECT_FALSE(verify(good.substr(0, good.rfind('.') + 1)));
    EXPECT_FALSE(verify(base64url(R"({"alg":"none"})") + "." + base64url(claims()) + "."));
    // The public key as the secret of an HMAC.
    std::string header = base64url(R"({"alg":"HS256","kid":"k1"})");
    EXPECT_FALSE(verify(header + good.substr(good.find('.'))));
}

// Guessing has to become slow, and a person who mistypes must not be punished for long.
TEST(Lockout, DoublesFromOneSecondToFifteenMinutes) {
    EXPECT_EQ(lockout_after(4, 5).count(), 0);
    EXPECT_EQ(lockout_after(5, 5).count(), 1);
    EXPECT_EQ(lockout_after(6, 5).count(), 2);
    EXPECT_EQ(lockout_after(10, 5).count(), 32);
    EXPECT_EQ(lockout_after(15, 5).count(), 900);
    EXPECT_EQ(lockout_after(1'000'000, 5).count(), 900);
}

// One customer of an IPv6 network has many addresses.
TEST(IpAttempts, AreCountedPerMinuteAndNetwork) {
    FakeClock clock;
    IpAttempts attempts(clock, 2);
    EXPECT_EQ(attempts.take("10.0.0.1").count(), 0);
    EXPECT_EQ(attempts.take("10.0.0.1").count(), 0);
    EXPECT_EQ(attempts.take("10.0.0.1").count(), 60'000);
    EXPECT_EQ(attempts.take("10.0.0.2").count(), 0);
    clock.advance(seconds(60));
    EXPECT_EQ(attempts.take("10.0.0.1").count(), 0);
    EXPECT_EQ(attempts.take("2001:db8::1").count(), 0);
    EXPECT_EQ(attempts.take("2001:db8::2").count(), 0);
    EXPECT_GT(attempts.take("2001:db8::ffff").count(), 0);
    EXPECT_EQ(attempts.take("2001:db8:0:1::1").count(), 0);
    IpAttempts unbounded(clock, 0);
    for (int i = 0; i < 100; ++i) EXPECT_EQ(unbounded.take("10.0.0.1").count(), 0);
}

// A session that ended while it was being read must not come back from memory.
TEST(SessionCache, ForgetsAtOnceAndTakesNothingThatWasReadBefore) {
    FakeClock clock;
    SessionCache cache(clock);
    Caller caller;
    caller.user = UserId{7};
    caller.session = "ses_1";
    cache.put("c1", caller, Time::max(), cache.epoch());
    EXPECT_TRUE(cache.find("c1"));
    clock.advance(seconds(10));
    EXPECT_FALSE(cache.find("c1"));
    cache.put("c1", caller, Time::max(), cache.epoch());
    std::uint64_t before = cache.epoch();
    cache.drop_user(UserId{7});
    EXPECT_FALSE(cache.find("c1"));
    cache.put("c1", caller, Time::max(), before);
    EXPECT_FALSE(cache.find("c1"));
    cache.put("c1", caller, Time::max(), cache.epoch());
    cache.drop_session("ses_2");
    EXPECT_TRUE(cache.find("c1"));
    cache.drop_session("ses_1");
    EXPECT_FALSE(cache.find("c1"));
    cache.put("c1", caller, clock.now() + seconds(1), cache.epoch());
    clock.advance(seconds(1));
    EXPECT_FALSE(cache.find("c1"));
}

}  // namespace
}  // namespace nebula::accounts
