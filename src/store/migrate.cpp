// Applies migrations and remembers them with a hash of their text.

#include <algorithm>
#include <map>

#include "base/clock.hpp"
#include "base/crypto.hpp"
#include "base/log.hpp"
#include "store/store.hpp"

namespace nebula::store {
namespace {

constexpr Sql sql_create{"migrations.create",
                         "CREATE TABLE IF NOT EXISTS nebula_migrations ("
                         " number BIGINT NOT NULL PRIMARY KEY,"
                         " name TEXT NOT NULL,"
                         " sha256 TEXT NOT NULL,"
                         " applied_at BIGINT NOT NULL)"};
// Two nodes may start at the same time; on SQLite the transaction itself excludes the other.
constexpr Sql sql_lock{"migrations.lock", "SELECT 1",
                       "SELECT 1 FROM (SELECT pg_advisory_xact_lock(7954781261)) AS l"};
constexpr Sql sql_applied{"migrations.applied",
                          "SELECT number, name, sha256 FROM nebula_migrations ORDER BY number"};
constexpr Sql sql_insert{
    "migrations.insert",
    "INSERT INTO nebula_migrations (number, name, sha256, applied_at) VALUES ($1, $2, $3, $4)"};

struct Applied {
    std::string name;
    std::string sha256;
};
using AppliedSteps = std::map<std::int64_t, Applied>;

AppliedSteps read_applied(Tx& tx) {
    tx.exec(sql_lock);
    tx.exec(sql_create);
    AppliedSteps applied;
    tx.query(sql_applied, {}, [&](const Row& row) {
        applied[row.i64(0)] = {std::string(row.text(1)), std::string(row.text(2))};
    });
    return applied;
}

std::string hash_of(const Migration& step) { return to_hex(sha256(step.sql).bytes); }

std::string title(const Migration& step) {
    return "migration " + std::to_string(step.number) + " (" + std::string(step.name) + ")";
}

/// The steps for this engine in order; an Error when two have the same number.
Result<std::vector<const Migration*>> steps_for(Engine engine, std::span<const Migration> all) {
    MigrationEngine other = engine == Engine::sqlite ? MigrationEngine::postgres : MigrationEngine::sqlite;
    std::vector<const Migration*> steps;
    for (const Migration& step : all)
        if (step.engine != other) steps.push_back(&step);
    std::ranges::sort(steps, {}, &Migration::number);
    auto twice = std::ranges::adjacent_find(steps, {}, &Migration::number);
    if (twice != steps.end())
        return fail(Code::internal, title(**twice) + " has a number that is used twice");
    return steps;
}

Result<bool> check_applied(const AppliedSteps& applied, const std::vector<const Migration*>& steps) {
    if (applied.empty()) return true;
    std::int64_t newest_known = steps.empty() ? 0 : steps.back()->number;
    const auto& [newest, what] = *applied.rbegin();
    if (newest > newest_known)
        return fail(Code::conflict,
                    "the database was made by a newer version of this program: it has migration " +
                        std::to_string(newest) + " (" + what.name + "), the newest known is " +
                        std::to_string(newest_known));
    for (const Migration* step : steps) {
        auto found = applied.find(step->number);
        if (found != applied.end() && found->second.sha256 != hash_of(*step))
            return fail(Code::conflict, title(*step) + " was changed after it had been applied");
    }
    return true;
}

/// False when another process was faster.
bool apply(Tx& tx, const Migration& step) {
    if (read_applied(tx).contains(step.number)) return false;
    std::string text(step.sql);
    std::string name = title(step);
    tx.script(Sql{name.c_str(), text.c_str()});
    tx.exec(sql_insert, {std::int64_t{step.number}, step.name, std::string_view(hash_of(step)),
                         to_micros(SystemClock().now())});
    return true;
}

}  // namespace

Result<int> Db::migrate(std::span<const Migration> all) {
    auto steps = steps_for(engine(), all);
    if (!steps) return fail(steps.error());
    int count = 0;
    try {
        AppliedSteps applied;
        transaction(Mode::write, [&](Tx& tx) {
            applied = read_applied(tx);
            return true;
        });
        if (auto checked = check_applied(applied, *steps); !checked) return fail(checked.error());
        for (const Migration* step : *steps) {
            if (applied.contains(step->number)) continue;
            bool done = false;
            transaction(Mode::write, [&](Tx& tx) {
                done = apply(tx, *step);
                return true;
            });
            if (!done) continue;
            ++count;
            LOG_INFO("migration applied", {"number", step->number}, {"name", step->name});
        }
    } catch (const DbError& e) {
        return fail(Code::internal, "the database could not be migrated", "", e.what());
    }
    return count;
}

}  // namespace nebula::store
