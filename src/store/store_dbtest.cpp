#include <gmock/gmock.h>

#include <atomic>
#include <latch>
#include <limits>
#include <thread>

#include "base/log.hpp"
#include "store/store.hpp"
#include "store/test_support/test_db.hpp"

namespace nebula::store {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr Sql sql_create{
    "test.create", "CREATE TABLE items (id BIGINT PRIMARY KEY, name TEXT UNIQUE, bytes BLOB, amount BIGINT)",
    "CREATE TABLE items (id BIGINT PRIMARY KEY, name TEXT UNIQUE, bytes BYTEA, amount BIGINT)"};
constexpr Sql sql_insert{"test.insert",
                         "INSERT INTO items (id, name, bytes, amount) VALUES ($1, $2, $3, $4)"};
constexpr Sql sql_get{"test.get", "SELECT id, name, bytes, amount FROM items WHERE id = $1"};
constexpr Sql sql_count{"test.count", "SELECT COUNT(*), COALESCE(SUM(amount), 0) FROM items"};

class Store : public EngineTest {
   public:
    template <class F>
    auto write(F work) {
        return db()
            .in_tx_blocking([&](Tx& tx) -> Result<std::invoke_result_t<F&, Tx&>> { return work(tx); })
            .value();
    }
    void SetUp() override {
        write([](Tx& tx) {
            tx.exec(sql_create);
            return 0;
        });
    }

    std::int64_t count() {
        return write([](Tx& tx) {
            std::int64_t rows = -1;
            tx.one(sql_count, {}, [&](const Row& row) { rows = row.i64(0); });
            return rows;
        });
    }
    static void insert(Tx& tx, std::int64_t id) {
        tx.exec(sql_insert, {id, nullptr, nullptr, std::int64_t{1}});
    }
};
NEBULA_BOTH_ENGINES(Store);

// Every kind of value must come back from both engines as it went in: edges, empties and nulls above all.
TEST_P(Store, GivesEveryKindOfValueBackAsItWas) {
    constexpr std::int64_t big = std::numeric_limits<std::int64_t>::max();
    constexpr std::int64_t small = std::numeric_limits<std::int64_t>::min();
    std::string all_bytes;
    for (int k = 0; k < 256; ++k) all_bytes += static_cast<char>(k);
    write([&](Tx& tx) {
        EXPECT_EQ(tx.exec(sql_insert, {big, "Grüße 'quoted'; $1 \\", Blob{all_bytes}, small}), 1);
        EXPECT_EQ(tx.exec(sql_insert, {std::int64_t{2}, "", Blob{""}, std::int64_t{0}}), 1);
        EXPECT_EQ(tx.exec(sql_insert, {std::int64_t{3}, nullptr, nullptr, nullptr}), 1);
        return 0;
    });
    int seen = 0;
    auto read = [&](Tx& tx) -> Result<int> {
        seen += tx.one(sql_get, {big}, [&](const Row& row) {
            EXPECT_EQ(row.i64(0), big);
            EXPECT_EQ(row.text(1), "Grüße 'quoted'; $1 \\");
            EXPECT_EQ(row.blob(2), all_bytes);
            EXPECT_EQ(row.i64(3), small);
        });
        seen += tx.one(sql_get, {std::int64_t{2}}, [&](const Row& row) {
            EXPECT_FALSE(row.is_null(1) || row.is_null(2));
            EXPECT_EQ(row.text(1), "");
            EXPECT_EQ(row.blob(2), "");
        });
        seen += tx.one(sql_get, {std::int64_t{3}}, [&](const Row& row) {
            EXPECT_TRUE(row.is_null(1) && row.is_null(2) && row.is_null(3));
            EXPECT_THROW(row.i64(3), DbError);
            EXPECT_THROW(row.text(4), DbError);
        });
        EXPECT_FALSE(tx.one(sql_get, {std::int64_t{4}}, [](const Row&) { FAIL(); }));
        return 0;
    };
    ASSERT_TRUE(db().read_blocking(read));
    EXPECT_EQ(seen, 3);
}

// One text serves both engines only if a parameter used twice, or out of order, means the same value
// everywhere.
TEST_P(Store, UsesParametersByNumberNotByPosition) {
    constexpr Sql reversed{"test.reversed",
                           "SELECT CAST($2 AS BIGINT) - CAST($1 AS BIGINT), CAST($1 AS BIGINT)"};
    write([&](Tx& tx) {
        bool found = tx.one(reversed, {std::int64_t{3}, std::int64_t{10}}, [](const Row& row) {
            EXPECT_EQ(row.i64(0), 7);
            EXPECT_EQ(row.i64(1), 3);
        });
        EXPECT_TRUE(found);
        return 0;
    });
    auto too_few = [&](Tx& tx) -> Result<std::int64_t> { return tx.exec(reversed, {std::int64_t{3}}); };
    EXPECT_THROW(db().in_tx_blocking(too_few), DbError);
}

// Batches are the committer's way to write: rows, counts and many chunks must all be right.
TEST_P(Store, WritesTenThousandRowsAtOnce) {
    std::vector<Param> values;
    std::vector<std::string> names;
    names.reserve(10'000);
    for (std::int64_t id = 1; id <= 10'000; ++id) {
        names.push_back("item " + std::to_string(id));
        values.insert(values.end(), {id, std::string_view(names.back()), nullptr, id});
    }
    EXPECT_EQ(write([&](Tx& tx) { return tx.exec_many(sql_insert, 4, values); }), 10'000);
    write([&](Tx& tx) {
        EXPECT_EQ(tx.exec_many(sql_insert, 4, {}), 0);
        tx.one(sql_count, {}, [](const Row& row) {
            EXPECT_EQ(row.i64(0), 10'000);
            EXPECT_EQ(row.i64(1), 50'005'000);
        });
        return 0;
    });
}

// What a row has in common with the one before is not bound again: it must arrive all the same, and nothing
// else.
TEST_P(Store, WritesRowsThatRepeatTheRowBefore) {
    std::string text = "one", same = "one";
    Blob bytes{"a"}, other{std::string_view("\0", 1)};
    const std::vector<Param> values = {
        std::int64_t{1}, std::string_view(text),
        bytes,           std::int64_t{5},  //
        std::int64_t{2}, nullptr,
        bytes,           std::int64_t{5},  //
        std::int64_t{3}, nullptr,
        other,           nullptr,  //
        std::int64_t{4}, std::string_view(),
        nullptr,         std::int64_t{0},  //
    };
    EXPECT_EQ(write([&](Tx& tx) { return tx.exec_many(sql_insert, 4, values); }), 4);
    std::string found;
    write([&](Tx& tx) {
        for (std::int64_t id = 1; id <= 4; ++id)
            tx.one(sql_get, {id}, [&](const Row& row) {
                found += row.is_null(1) ? "null" : "'" + std::string(row.text(1)) + "'";
                found += row.is_null(2) ? " null " : " " + std::to_string(row.blob(2).front()) + " ";
                found += (row.is_null(3) ? "null" : std::to_string(row.i64(3))) + "; ";
            });
        return 0;
    });
    EXPECT_EQ(found, "'one' 97 5; null 97 5; null 0 null; '' null 0; ");
    // Equal to what the row before had, but a name that is taken: still seen.
    std::vector<Param> twice = {std::int64_t{8}, std::string_view(same), nullptr, std::int64_t{1}};
    auto again = [&](Tx& tx) -> Result<std::int64_t> { return tx.exec_many(sql_insert, 4, twice); };
    EXPECT_THROW(db().in_tx_blocking(again), UniqueViolation);
}

// A failure in the middle of a batch must name itself, undo the whole, and leave the connection usable.
TEST_P(Store, UndoesABatchWithOneBadRow) {
    std::vector<Param> values;
    for (std::int64_t id = 1; id <= 2'000; ++id)
        values.insert(values.end(), {id == 1'500 ? 7 : id, nullptr, nullptr, std::int64_t{1}});
    auto work = [&](Tx& tx) -> Result<std::int64_t> { return tx.exec_many(sql_insert, 4, values); };
    EXPECT_THROW(db().in_tx_blocking(work), UniqueViolation);
    EXPECT_EQ(count(), 0);
}

// The promise of in_tx: only a returned value commits.
TEST_P(Store, RollsBackOnAnErrorAndOnAnException) {
    auto refuse = [](Tx& tx) -> Result<int> {
        insert(tx, 1);
        return fail(Code::conflict, "no");
    };
    EXPECT_EQ(db().in_tx_blocking(refuse).error().code, Code::conflict);
    auto blow = [](Tx& tx) -> Result<int> {
        insert(tx, 2);
        throw std::logic_error("defect");
    };
    EXPECT_THROW(db().in_tx_blocking(blow), std::logic_error);
    EXPECT_EQ(count(), 0);
}

// Names already taken are an expected case: callers catch exactly this and answer with a conflict.
TEST_P(Store, TellsAUniqueViolationFromOtherErrors) {
    write([](Tx& tx) { return tx.exec(sql_insert, {std::int64_t{1}, "taken", nullptr, nullptr}); });
    auto work = [](Tx& tx) -> Result<int> {
        try {
            tx.exec(sql_insert, {std::int64_t{2}, "taken", nullptr, nullptr});
        } catch (const UniqueViolation& e) {
            EXPECT_THAT(e.what(), HasSubstr("test.insert"));
            return fail(Code::conflict, "the name is taken");
        }
        return 0;
    };
    EXPECT_EQ(db().in_tx_blocking(work).error().code, Code::conflict);
    auto wrong = [](Tx& tx) -> Result<std::int64_t> {
        return tx.exec(Sql{"test.wrong", "SELECT nothing FROM nowhere"});
    };
    try {
        (void)db().in_tx_blocking(wrong);
        FAIL();
    } catch (const UniqueViolation&) {
        FAIL();
    } catch (const DbError& e) {
        EXPECT_THAT(e.what(), HasSubstr("test.wrong"));
    }
}

// PostgreSQL loses the transaction with the failed statement; code tried on SQLite only must not believe
// otherwise.
TEST_P(Store, RefusesToCommitAfterAFailedStatement) {
    auto stubborn = [](Tx& tx) -> Result<int> {
        insert(tx, 1);
        try {
            insert(tx, 1);
        } catch (const UniqueViolation&) {
        }
        return 0;
    };
    EXPECT_THROW(db().in_tx_blocking(stubborn), DbError);
    EXPECT_EQ(count(), 0);
}

// Text with a NUL would be cut on one engine and kept on the other.
TEST_P(Store, RefusesTextWithANulCharacter) {
    auto work = [](Tx& tx) -> Result<std::int64_t> {
        return tx.exec(sql_insert, {std::int64_t{1}, std::string_view("a\0b", 3), nullptr, nullptr});
    };
    EXPECT_THROW(db().in_tx_blocking(work), DbError);
}

// What only reads must not write by mistake, whatever connection it got.
TEST_P(Store, RefusesToWriteInARead) {
    auto work = [](Tx& tx) -> Result<int> {
        insert(tx, 1);
        return 0;
    };
    EXPECT_THROW(db().read_blocking(work), DbError);
    EXPECT_EQ(count(), 0);
}

// Counters are read, changed and written by many threads: none may be lost, and nobody may see "locked".
TEST_P(Store, LosesNoUpdateOfConcurrentWriters) {
    constexpr Sql add{"test.add", "UPDATE items SET amount = amount + 1 WHERE id = 1"};
    write([](Tx& tx) {
        insert(tx, 1);
        return 0;
    });
    auto worker = [&] {
        for (int k = 0; k < 50; ++k) {
            auto work = [&](Tx& tx) -> Result<std::int64_t> { return tx.exec(add); };
            EXPECT_EQ(db().in_tx_blocking(work), 1);
        }
    };
    {
        std::vector<std::jthread> threads;
        for (int k = 0; k < 4; ++k) threads.emplace_back(worker);
    }
    write([](Tx& tx) {
        tx.one(sql_get, {std::int64_t{1}}, [](const Row& row) { EXPECT_EQ(row.i64(3), 201); });
        return 0;
    });
}

// A request that only looks must not wait for the committer, and sees what was committed before.
TEST_P(Store, ReadsWhileAWriteTransactionIsOpen) {
    auto writer = [this](Tx& tx) -> Result<int> {
        insert(tx, 1);
        std::int64_t seen = -1;
        std::jthread([this, &seen] {
            auto reader = [&](Tx& inner) -> Result<bool> {
                return inner.one(sql_count, {}, [&](const Row& row) { seen = row.i64(0); });
            };
            Async<Result<bool>> reading = db().read(reader);
            EXPECT_TRUE(sync_wait(std::move(reading)).value());
        }).join();
        EXPECT_EQ(seen, 0);
        return 0;
    };
    ASSERT_TRUE(db().in_tx_blocking(writer));
    EXPECT_EQ(count(), 1);
}

// A statement may be used again inside its own rows, for trees and the like.
TEST_P(Store, AllowsAStatementInsideItsOwnRows) {
    constexpr Sql all{"test.all", "SELECT id FROM items ORDER BY id"};
    write([&](Tx& tx) {
        for (std::int64_t id = 1; id <= 3; ++id) insert(tx, id);
        std::vector<std::int64_t> seen;
        tx.query(all, {}, [&](const Row& outer) {
            std::int64_t id = outer.i64(0);
            tx.query(all, {}, [&](const Row& inner) { seen.push_back(id * 10 + inner.i64(0)); });
        });
        EXPECT_THAT(seen, ElementsAre(11, 12, 13, 21, 22, 23, 31, 32, 33));
        return 0;
    });
}

// On SQLite one process serves: a second must be told, and may take over as soon as the first is gone. On
// PostgreSQL several may.
TEST_P(Store, IsOwnedByOneDbAtATimeOnSqliteAndByManyOnPostgres) {
    auto other = test_db().open_again();
    auto first = db().try_own();
    ASSERT_NE(first, nullptr);
    EXPECT_TRUE(first->held());
    EXPECT_TRUE(first->ping());
    bool is_shared = db().engine() == Engine::postgres;
    EXPECT_EQ(other->try_own() != nullptr, is_shared);
    EXPECT_EQ(db().try_own() != nullptr, is_shared);
    first.reset();
    EXPECT_NE(other->try_own(), nullptr);
}

// Caches are told of a change when it can be read, not before, and never of one that was undone.
TEST_P(Store, RunsActionsAfterTheCommitOnly) {
    std::vector<std::string> done;
    auto work = [&](bool keep) {
        return [&, keep](Tx& tx) -> Result<int> {
            insert(tx, keep ? 1 : 2);
            tx.after_commit([&] { done.push_back("rows " + std::to_string(count())); });
            tx.after_commit([&] { throw std::runtime_error("of the action"); });
            tx.after_commit([&] { done.push_back("last"); });
            EXPECT_TRUE(done.empty());
            if (!keep) return fail(Code::conflict, "no");
            return 0;
        };
    };
    log::set_sink_for_test([](std::string_view) {});
    EXPECT_FALSE(db().in_tx_blocking(work(false)).has_value());
    EXPECT_TRUE(db().in_tx_blocking(work(true)).has_value());
    log::set_sink_for_test(nullptr);
    EXPECT_THAT(done, ElementsAre("rows 1", "last"));
}

::nebula::detail::Detached start_write(Db& db, std::latch& release, std::atomic<int>& overloaded,
                                       std::atomic<int>& done) {
    auto work = [&release](Tx&) -> Result<int> {
        release.wait();
        return 0;
    };
    Async<Result<int>> running = db.in_tx(work);
    Result<int> result = co_await std::move(running);
    if (!result && result.error().code == Code::overloaded) ++overloaded;
    ++done;
}

// When the database is slower than the load, requests must be refused at once instead of piling up.
TEST_P(Store, RefusesTransactionsBeyondTheQueue) {
    StoreSettings settings;
    settings.url = test_db().url();
    settings.connections_max = 1;
    settings.queue_max = 5;
    auto small = Db::open(settings, test_db().metrics()).value();
    std::latch release(1);
    std::atomic<int> overloaded{0};
    std::atomic<int> done{0};
    for (int k = 0; k < 20; ++k) start_write(*small, release, overloaded, done);
    // One runs (or is about to), five wait.
    EXPECT_GE(overloaded, 14);
    EXPECT_LE(overloaded, 15);
    release.count_down();
    small.reset();
    EXPECT_EQ(done, 20);
}

// Errors of the database reach coroutines as values, with the text for our log only.
TEST_P(Store, TurnsDatabaseErrorsIntoInternalForCoroutines) {
    auto work = [](Tx& tx) -> Result<std::int64_t> { return tx.exec(Sql{"test.wrong", "SELEC"}); };
    Async<Result<std::int64_t>> running = db().in_tx(work);
    Result<std::int64_t> result = sync_wait(std::move(running));
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Code::internal);
    EXPECT_THAT(result.error().detail, HasSubstr("test.wrong"));
    EXPECT_EQ(result.error().message.find("SELEC"), std::string::npos);
}

// A statement that never ends must not hold its connection for ever.
TEST_P(Store, CancelsAStatementThatTakesTooLong) {
    constexpr Sql endless{
        "test.endless",
        "WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < 2000000000)"
        " SELECT COUNT(*) FROM n"};
    StoreSettings settings;
    settings.url = test_db().url();
    settings.statement_timeout = std::chrono::milliseconds(100);
    auto impatient = Db::open(settings, test_db().metrics()).value();
    auto work = [&](Tx& tx) -> Result<std::int64_t> { return tx.exec(endless); };
    EXPECT_THROW(impatient->read_blocking(work), DbError);
    auto after = [](Tx& tx) -> Result<bool> { return tx.one(sql_count, {}, [](const Row&) {}); };
    EXPECT_TRUE(impatient->read_blocking(after).value());
}

// Operators watch these: commits, roll-backs and failures are counted apart.
TEST_P(Store, CountsTransactionsByOutcome) {
    auto refuse = [](Tx&) -> Result<int> { return fail(Code::conflict, "no"); };
    (void)db().in_tx_blocking(refuse);
    std::string text = test_db().metrics().prometheus_text();
    EXPECT_THAT(text, HasSubstr("nebula_store_transactions_total{mode=\"write\",outcome=\"committed\"} 1\n"));
    EXPECT_THAT(text,
                HasSubstr("nebula_store_transactions_total{mode=\"write\",outcome=\"rolled_back\"} 1\n"));
    EXPECT_THAT(text, HasSubstr("nebula_store_connections_in_use 0\n"));
}

// The server restarts or the network cuts while a transaction runs: it fails as a whole, the next one works.
TEST(PostgresStore, FailsTheTransactionWhoseConnectionDiesAndRecovers) {
    constexpr Sql suicide{"test.kill", "SELECT pg_terminate_backend(pg_backend_pid())"};
    TestDb test_db = TestDb::make(Engine::postgres);
    auto create = [](Tx& tx) -> Result<std::int64_t> { return tx.exec(sql_create); };
    ASSERT_TRUE(test_db.db().in_tx_blocking(create));
    int runs = 0;
    auto work = [&](Tx& tx) -> Result<int> {
        ++runs;
        tx.exec(sql_insert, {std::int64_t{1}, nullptr, nullptr, nullptr});
        tx.query(suicide, {}, [](const Row&) {});
        tx.exec(sql_insert, {std::int64_t{2}, nullptr, nullptr, nullptr});
        return 0;
    };
    EXPECT_THROW(test_db.db().in_tx_blocking(work), DbError);
    EXPECT_EQ(runs, 1);  // never again by itself
    auto count = [](Tx& tx) -> Result<std::int64_t> {
        std::int64_t rows = -1;
        tx.one(sql_count, {}, [&](const Row& row) { rows = row.i64(0); });
        return rows;
    };
    EXPECT_EQ(test_db.db().in_tx_blocking(count).value(), 0);
}

// Connections that died while idle are replaced without the caller noticing, that of the ownership too: a
// restart of the server must not end every node. Only somebody who holds it alone takes it away.
TEST(PostgresStore, ReplacesIdleConnectionsThatDiedAndReportsALostOwnership) {
    constexpr Sql kill_others{"test.kill_others",
                              "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                              " WHERE datname = current_database() AND pid <> pg_backend_pid()"};
    TestDb test_db = TestDb::make(Engine::postgres);
    auto own = test_db.db().try_own();
    ASSERT_NE(own, nullptr);
    auto one = [](Tx& tx) -> Result<bool> {
        return tx.one(Sql{"test.one", "SELECT 1"}, {}, [](const Row&) {});
    };
    ASSERT_TRUE(test_db.db().in_tx_blocking(one).value());
    auto killer = test_db.open_again();
    auto kill = [&](Tx& tx) -> Result<std::int64_t> { return tx.exec(kill_others); };
    ASSERT_TRUE(killer->in_tx_blocking(kill));
    EXPECT_TRUE(test_db.db().in_tx_blocking(one).value());
    log::set_sink_for_test([](std::string_view) {});
    EXPECT_TRUE(own->ping());
    EXPECT_NE(killer->try_own(), nullptr);

    auto alone = [&](Tx& tx) -> Result<int> {
        tx.exec(kill_others);
        tx.query(Sql{"test.alone", "SELECT pg_advisory_xact_lock(121348097010785)"}, {}, [](const Row&) {});
        EXPECT_FALSE(own->ping());
        EXPECT_FALSE(own->held());
        EXPECT_EQ(test_db.db().try_own(), nullptr);
        return 0;
    };
    EXPECT_TRUE(killer->in_tx_blocking(alone).has_value());
    log::set_sink_for_test(nullptr);
}

// The whole Db shares one database in memory, reads included.
TEST(SqliteStore, SharesADatabaseInMemory) {
    metrics::Registry metrics;
    StoreSettings settings;
    settings.url = "sqlite::memory:";
    auto db = Db::open(settings, metrics).value();
    auto create = [](Tx& tx) -> Result<std::int64_t> { return tx.exec(sql_create); };
    ASSERT_TRUE(db->in_tx_blocking(create));
    auto insert = [](Tx& tx) -> Result<std::int64_t> {
        return tx.exec(sql_insert, {std::int64_t{1}, nullptr, nullptr, nullptr});
    };
    EXPECT_THROW(db->read_blocking(insert), DbError);
    EXPECT_EQ(db->in_tx_blocking(insert), 1);
    auto count = [](Tx& tx) -> Result<std::int64_t> {
        std::int64_t rows = -1;
        tx.one(sql_count, {}, [&](const Row& row) { rows = row.i64(0); });
        return rows;
    };
    Async<Result<std::int64_t>> reading = db->read(count);
    EXPECT_EQ(sync_wait(std::move(reading)).value(), 1);
    auto own = db->try_own();
    EXPECT_NE(own, nullptr);
    EXPECT_EQ(db->try_own(), nullptr);
}

}  // namespace
}  // namespace nebula::store
