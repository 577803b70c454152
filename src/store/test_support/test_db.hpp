#pragma once
// For *_dbtest.cpp of every module: a fresh, empty database on either engine.
//
//   class LedgerDb : public store::EngineTest {};
//   NEBULA_BOTH_ENGINES(LedgerDb);
//   TEST_P(LedgerDb, RefusesANegativeBalance) { store::Db& db = this->db(); … }
//
// PostgreSQL is a private server per test process: a cluster in a temporary folder, reached by its Unix
// socket only, started when first needed and taken down with the process, however that ends.

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "store/store.hpp"

namespace nebula::store {

/// A database of its own, dropped on destruction. Move-only.
class TestDb {
   public:
    /// Throws std::runtime_error when the engine cannot be started.
    static TestDb make(Engine engine);
    TestDb(TestDb&&) noexcept;
    TestDb& operator=(TestDb&&) noexcept;
    ~TestDb();

    Db& db();
    /// For a second Db, or a process of its own, on the same database.
    std::string url() const;
    metrics::Registry& metrics();
    /// Another Db on the same database; throws when it cannot be opened.
    std::unique_ptr<Db> open_again();
    /// Closes the Db and opens it anew, as a restart does.
    void reopen();

   private:
    struct State;
    explicit TestDb(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

/// A test that runs once per engine, each time with a fresh database.
class EngineTest : public ::testing::TestWithParam<Engine> {
   public:
    EngineTest() : test_db_(TestDb::make(GetParam())) {}
    Db& db() { return test_db_.db(); }
    TestDb& test_db() { return test_db_; }

   private:
    TestDb test_db_;
};

std::string engine_name(const ::testing::TestParamInfo<Engine>& info);

}  // namespace nebula::store

#define NEBULA_BOTH_ENGINES(Suite)                                                             \
    INSTANTIATE_TEST_SUITE_P(                                                                  \
        Engines, Suite,                                                                        \
        ::testing::Values(::nebula::store::Engine::sqlite, ::nebula::store::Engine::postgres), \
        ::nebula::store::engine_name)
