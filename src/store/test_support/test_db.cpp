#include "store/test_support/test_db.hpp"

#include <stdlib.h>

#include <filesystem>
#include <stdexcept>

#include "store/test_support/cluster.hpp"

namespace nebula::store {

using test_support::Cluster;

struct TestDb::State {
    Engine engine;
    std::string name;  // the folder, or the database of the cluster
    std::string url;
    metrics::Registry metrics;
    std::unique_ptr<Db> db;

    explicit State(Engine of) : engine(of) {
        if (engine == Engine::postgres) {
            name = Cluster::instance().create_database();
            url = Cluster::instance().url(name);
            return;
        }
        name = (std::filesystem::temp_directory_path() / "nebula-test-XXXXXX").string();
        if (mkdtemp(name.data()) == nullptr)
            throw std::runtime_error("no temporary folder for a test database");
        url = "sqlite:" + name + "/test.db";
    }

    ~State() {
        db.reset();
        if (engine == Engine::postgres) {
            Cluster::instance().drop_database(name);
        } else {
            std::error_code ignored;
            std::filesystem::remove_all(name, ignored);
        }
    }

    std::unique_ptr<Db> open() {
        StoreSettings settings;
        settings.url = url;
        auto opened = Db::open(settings, metrics);
        if (!opened) throw std::runtime_error(opened.error().message + ": " + opened.error().detail);
        return std::move(*opened);
    }
};

TestDb::TestDb(std::unique_ptr<State> state) : state_(std::move(state)) {}
TestDb::TestDb(TestDb&&) noexcept = default;
TestDb& TestDb::operator=(TestDb&&) noexcept = default;
TestDb::~TestDb() = default;

TestDb TestDb::make(Engine engine) {
    auto state = std::make_unique<State>(engine);
    state->db = state->open();
    return TestDb(std::move(state));
}

Db& TestDb::db() { return *state_->db; }
std::string TestDb::url() const { return state_->url; }
metrics::Registry& TestDb::metrics() { return state_->metrics; }
std::unique_ptr<Db> TestDb::open_again() { return state_->open(); }

void TestDb::reopen() {
    state_->db.reset();
    state_->db = state_->open();
}

std::string engine_name(const ::testing::TestParamInfo<Engine>& info) {
    return info.param == Engine::sqlite ? "sqlite" : "postgres";
}

}  // namespace nebula::store
