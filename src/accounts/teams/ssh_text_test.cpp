#include "accounts/teams/ssh_text.hpp"

#include <gtest/gtest.h>

namespace nebula::accounts {
namespace {

// Made by ssh-keygen for these tests; the private halves are gone.
constexpr const char* ed25519 =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINk4Gfosl9NpYcbgf1AizoKmQnAsPjLXE5HC2RFUkYhw ada@lapto"
    "p";
constexpr const char* rsa_2048 =
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC9xmcvaDdW9LlhgzAc6dsVbRahE+s6gaQXlO1srNQLJHTbgpIeq/"
    "kht3wB0gYv2rzxUllxx8SXszENLUWBDGKpNDx2TYGWupQnNb8KhHUsz2zvwlSjLW4TKfEwXk5fZkfwzhDeghvsx+kq"
    "ryu7Dx/gWoWgTHLalr1N0H6KZ4Zud7qr04Z3tKGei5K/SgezzWPJSBCRigiRtPqcUruAhBZIeBe89B2fLGTraRzQBs"
    "tVJWxvE1iYeY5Izfb3awm1Uv1j8n4s+kvOH2Cj/LZSFGPSBDHZ6xR+nQbnGjCcMX9LiB1XzEIAzlg4plSM+j+ZYYx3"
    "Gdpaxxa6x1PBLBvhWY1H rsa";
constexpr const char* rsa_1024 =
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC4CJYa33YGEW8szlXM/L4SznwuFZJhjB1pefDGOb+hdlAFv3twEp"
    "bMy4By5ozqc4PYvqFTc/759LFMrK3/WGITRODz+UvfFdYkQXFDMYudSZ+RgYAVOT6fFUlB0f9fvRcSAr2JHS9Sbvwb"
    "+nseS//Ylu2opvzbS5IYfol8HJOSUw== small";
constexpr const char* ecdsa_384 =
    "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBPWhfa8DmytrU/+b3k"
    "OOJVZWJAnzxyWhiWGl/cMgcIWVgItU533cxzOy7JG7wosdWu00r5p2iklnWzEbTF32rYpfA674CTVR2+tuRHBT9JCO"
    "0GIiEkv2GE+Ri0hf7ypUAA== ec";

// The fingerprint is what people compare with `ssh-keygen -l`: it must be the same to the letter.
TEST(SshText, GivesTheFingerprintOfSshKeygen) {
    auto fingerprint = [](const char* text) { return parse_ssh_key(text, "key_data").value().fingerprint; };
    EXPECT_EQ(fingerprint(ed25519), "SHA256:dDbR0Uy03g1tK03MTBokmBOhEQbiVB2BeQ+creeAUgE");
    EXPECT_EQ(fingerprint(rsa_2048), "SHA256:EX7S0O1jAlPve+IV8TQFjA3lq9C9h5Tr9617adIomYc");
    EXPECT_EQ(fingerprint(ecdsa_384), "SHA256:rt0bPNEt5QdCMGaTNl4Q8s0/MCiBA9aYa1+Yx2KT8F0");
}

// Copied text has blanks and line ends around it; one key is one key however it was pasted.
TEST(SshText, TidiesWhatIsPasted) {
    EXPECT_EQ(parse_ssh_key(std::string("  ") + ed25519 + "\n", "key_data").value().line, ed25519);
    std::string bare(ed25519, std::string_view(ed25519).rfind(' '));
    EXPECT_EQ(parse_ssh_key(bare, "key_data").value().fingerprint,
              parse_ssh_key(ed25519, "key_data").value().fingerprint);
}

// What is accepted is written to instances: it must be a key, one line, and strong.
TEST(SshText, RefusesWhatIsNoGoodPublicKey) {
    std::string wrong_type(ed25519);
    wrong_type.replace(0, 11, "ssh-rsa");
    std::string cut(ed25519, 60);
    std::string second_line = std::string(ed25519) + "\nssh-rsa AAAA";
    for (const std::string& bad :
         {std::string(), std::string("ssh-ed25519"), std::string("ssh-ed25519 AAAA"), std::string(rsa_1024),
          wrong_type, cut, second_line, std::string("command=\"rm\" ") + ed25519, std::string(20'000, 'a'),
          std::string(ed25519) + std::string(1, '\0'), std::string(ed25519) + " \xff",
          std::string("-----BEGIN OPENSSH PRIVATE KEY-----")}) {
        auto result = parse_ssh_key(bad, "key_data");
        ASSERT_FALSE(result) << bad;
        EXPECT_EQ(result.error().code, Code::invalid_request);
        EXPECT_EQ(result.error().param, "key_data");
    }
}

}  // namespace
}  // namespace nebula::accounts
