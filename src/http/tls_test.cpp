// TLS on both sides: the server's accept and the client's verification, with certificates made here.
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <filesystem>

#include "http/connection.hpp"
#include "http/test_support/client_fixture.hpp"

namespace nebula::http {
namespace {

using namespace testing;

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Cert = std::unique_ptr<X509, decltype(&X509_free)>;

Key make_key() { return Key(EVP_EC_gen("P-256"), &EVP_PKEY_free); }

void add_extension(X509* cert, X509* issuer, int kind, const char* value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, cert, nullptr, nullptr, 0);
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, kind, value);
    X509_add_ext(cert, extension, -1);
    X509_EXTENSION_free(extension);
}

/// `issuer` null: signs itself, as an authority. `names` as OpenSSL writes them:
/// "DNS:localhost,IP:127.0.0.1".
Cert make_cert(EVP_PKEY* key, const char* common_name, const char* names, X509* issuer, EVP_PKEY* issuer_key,
               long valid_from, long valid_to) {
    Cert cert(X509_new(), &X509_free);
    static long serial = 1;
    X509_set_version(cert.get(), 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert.get()), serial++);
    X509_gmtime_adj(X509_getm_notBefore(cert.get()), valid_from);
    X509_gmtime_adj(X509_getm_notAfter(cert.get()), valid_to);
    X509_set_pubkey(cert.get(), key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert.get()), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(common_name), -1, -1, 0);
    X509* signer = issuer != nullptr ? issuer : cert.get();
    X509_set_issuer_name(cert.get(), X509_get_subject_name(signer));
    if (issuer == nullptr) add_extension(cert.get(), signer, NID_basic_constraints, "critical,CA:TRUE");
    if (names != nullptr) add_extension(cert.get(), signer, NID_subject_alt_name, names);
    X509_sign(cert.get(), issuer_key != nullptr ? issuer_key : key, EVP_sha256());
    return cert;
}

void save(const std::string& path, X509* cert, EVP_PKEY* key) {
    std::FILE* file = std::fopen(path.c_str(), "w");
    if (cert != nullptr) PEM_write_X509(file, cert);
    if (key != nullptr) PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
    std::fclose(file);
}

/// An authority and the servers' certificates, in files of a folder that goes with the test.
struct Certificates {
    std::string folder;
    Certificates() {
        char path[] = "/tmp/nebula-tls-test-XXXXXX";
        folder = ::mkdtemp(path);
        constexpr long day = 24 * 3600;
        Key ca_key = make_key(), key = make_key(), other_key = make_key();
        Cert ca = make_cert(ca_key.get(), "Test Authority", nullptr, nullptr, nullptr, -day, day);
        Cert other = make_cert(other_key.get(), "Other Authority", nullptr, nullptr, nullptr, -day, day);
        const char* names = "DNS:localhost,IP:127.0.0.1";
        Cert good = make_cert(key.get(), "good", names, ca.get(), ca_key.get(), -day, day);
        Cert wrong = make_cert(key.get(), "localhost", "DNS:example.com", ca.get(), ca_key.get(), -day, day);
        Cert expired = make_cert(key.get(), "old", names, ca.get(), ca_key.get(), -2 * day, -day);
        save(file("ca"), ca.get(), nullptr);
        save(file("other"), other.get(), nullptr);
        save(file("key"), nullptr, key.get());
        save(file("good"), good.get(), nullptr);
        save(file("wrong"), wrong.get(), nullptr);
        save(file("expired"), expired.get(), nullptr);
    }
    ~Certificates() { std::filesystem::remove_all(folder); }
    std::string file(const std::string& name) const { return folder + "/" + name + ".pem"; }
};

const Certificates& certificates() {
    static Certificates all;
    return all;
}

class TlsTest : public ClientFixture<SystemClock> {
   public:
    /// Serves TLS connections on the I/O thread with Connection itself: answers every request with its body.
    struct EchoServer {
        IoThread& thread;
        SslContext context;
        std::atomic<int> resumed = 0;
        bool cut = false;  // close without close_notify in the middle of a body until the end
        Peer acceptor;     // accepts; the descriptor is then served by us

        EchoServer(IoThread& on, const std::string& cert)
            : thread(on), context(make(cert)), acceptor([this](PeerSocket& socket) { serve(socket); }) {}

        static SslContext make(const std::string& cert) {
            auto made = make_server_tls(certificates().file(cert), certificates().file("key"));
            EXPECT_TRUE(made) << made.error().message;
            return std::move(*made);
        }
        void serve(PeerSocket& socket) { sync_wait(run_on(thread, session(this, ::dup(socket.fd())))); }
        static Async<int> session(EchoServer* self, int fd) {
            auto connection = Connection::adopt(self->thread, fd);
            Io accepted = co_await connection->tls_accept(self->context.get());
            if (accepted != Io::ok) co_return 1;
            if (connection->tls_resumed()) ++self->resumed;
            std::string text;
            std::string buffer(10'000, '\0');
            while (true) {
                Io waited = co_await connection->readable();
                if (waited != Io::ok) co_return 2;
                ReadResult got = connection->try_read(buffer);
                if (got.status == Io::would_block) continue;
                if (got.status != Io::ok) co_return 0;
                text.append(buffer, 0, got.bytes);
                std::size_t head = text.find("\r\n\r\n");
                if (head == std::string::npos) continue;
                std::size_t at = text.find("Content-Length: ");
                std::size_t size =
                    head + 4 + (at == std::string::npos ? 0 : std::stoul(text.substr(at + 16)));
                if (text.size() < size) continue;
                std::string body = text.substr(head + 4, size - head - 4);
                std::string answer_head =
                    "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n";
                if (self->cut) answer_head = "HTTP/1.1 200 OK\r\n\r\n";
                iovec pieces[] = {{answer_head.data(), answer_head.size()}, {body.data(), body.size()}};
                Io written = co_await connection->write_all(pieces);
                if (written != Io::ok) co_return 3;
                text.erase(0, size);
                if (!self->cut) continue;
                ::shutdown(fd, SHUT_RDWR);
                connection->reset_on_close();
                co_return 0;
            }
        }
    };

    static Origin secure_origin(const EchoServer& server, const std::string& host = "localhost") {
        return {
            .tls = true, .host = host, .port = server.acceptor.port(), .ca_file = certificates().file("ca")};
    }
    Got post(const Origin& origin, std::string_view body) {
        const std::string_view pieces[] = {body.substr(0, body.size() / 2), body.substr(body.size() / 2)};
        ClientRequest request;
        request.path = "/";
        request.body_pieces = pieces;
        return run(origin, request);
    }
};

// The ordinary case, by name (SNI) and by address.
TEST_F(TlsTest, TalksToAServerWithAGoodCertificate) {
    EchoServer server(threads[0], "good");
    for (std::string host : {"localhost", "127.0.0.1"}) {
        Got got = post(secure_origin(server, host), "hello");
        EXPECT_TRUE(got.ok) << got.error.detail;
        EXPECT_EQ(got.body, "hello");
        EXPECT_EQ(post(secure_origin(server, host), "again").body, "again");
    }
    EXPECT_EQ(connects(), 2u);
    client.reset();
}

// Somebody in the middle must not be able to read prompts or keys.
TEST_F(TlsTest, RefusesCertificatesThatProveNothing) {
    struct Row {
        std::string cert, host, anchor, problem;
    };
    const Row rows[] = {
        {"wrong", "localhost", "ca", "mismatch"},
        {"wrong", "127.0.0.1", "ca", "mismatch"},
        {"expired", "localhost", "ca", "expired"},
        {"good", "localhost", "other", "unable to get local issuer"},
    };
    for (const Row& row : rows) {
        EchoServer server(threads[0], row.cert);
        Origin origin = secure_origin(server, row.host);
        origin.ca_file = certificates().file(row.anchor);
        Got got = post(origin, "secret");
        EXPECT_EQ(got.error.code, Code::upstream_failed) << row.problem;
        EXPECT_TRUE(got.error.detail.starts_with("tls: ")) << got.error.detail;
        EXPECT_NE(got.error.detail.find(row.problem), std::string::npos) << got.error.detail;
    }
    EXPECT_EQ(failures("tls"), 4u);
    Peer plain([](PeerSocket& socket) {
        socket.read_some();
        socket.write("HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    Origin origin = origin_of(plain);
    origin.tls = true;
    EXPECT_TRUE(post(origin, "x").error.detail.starts_with("tls: "));
    origin.ca_file = "/nowhere";
    EXPECT_TRUE(post(origin, "x").error.detail.starts_with("tls: "));
}

// A full handshake costs more than a request.
TEST_F(TlsTest, ResumesTheSessionOnANewConnection) {
    EchoServer server(threads[0], "good");
    settings.idle_per_origin_max = 0;
    for (int i = 0; i < 3; ++i) EXPECT_EQ(post(secure_origin(server), "x").body, "x");
    EXPECT_EQ(connects(), 3u);
    EXPECT_EQ(server.resumed.load(), 2);
}

// Records, partial writes and waits in both directions, byte for byte.
TEST_F(TlsTest, CarriesLargeBodiesBothWays) {
    EchoServer server(threads[0], "good");
    std::string sent(6 * 1024 * 1024 + 17, '\0');
    for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>(i * 2654435761u >> 11);
    Got got = post(secure_origin(server), sent);
    ASSERT_TRUE(got.ok) << got.error.detail;
    EXPECT_EQ(sha256(got.body), sha256(sent));
    client.reset();
}

// Without close_notify anybody on the way could have cut the body: no clean end.
TEST_F(TlsTest, TakesAnEndWithoutCloseNotifyForACut) {
    EchoServer server(threads[0], "good");
    server.cut = true;
    Got got = post(secure_origin(server), "partial");
    EXPECT_FALSE(got.ok);
    EXPECT_EQ(got.error.code, Code::upstream_failed);
}

// A server that accepts and then says nothing must not hold a call for ever.
TEST(TlsTime, EndsAHandshakeByTheConnectDeadline) {
    struct Fixture : ClientFixture<FakeClock> {
        void TestBody() override {}
    } fixture;
    std::binary_semaphore ready(0);
    Peer silent([&](PeerSocket& socket) {
        socket.read_some();
        ready.release();
        socket.wait_until_closed();
    });
    Origin origin = fixture.origin_of(silent);
    origin.tls = true;
    Got got = fixture.run_while_time_passes(origin, fixture.get_request(), ready);
    EXPECT_EQ(got.error.code, Code::timeout);
    EXPECT_EQ(got.error.detail, "connect");
}

// An operator who mixes files up learns it at the start.
TEST(ServerTls, NamesTheFileThatIsWrong) {
    auto missing = make_server_tls("/nowhere.pem", certificates().file("key"));
    ASSERT_FALSE(missing);
    EXPECT_NE(missing.error().message.find("/nowhere.pem"), std::string::npos);
    auto mismatched = make_server_tls(certificates().file("ca"), certificates().file("key"));
    ASSERT_FALSE(mismatched);
    EXPECT_EQ(mismatched.error().param, "tls_key");
}

}  // namespace
}  // namespace nebula::http
