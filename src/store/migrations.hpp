#pragma once
#include <span>
#include <string_view>

namespace nebula::store {

enum class MigrationEngine { any, sqlite, postgres };

/// One forward-only step, embedded from src/<module>/migrations/NNNN_name[.sqlite|.postgres].sql. Numbers are
/// global across modules. Never edited once released: the table of applied steps keeps a SHA-256 of the text.
struct Migration {
    int number;
    std::string_view name;
    MigrationEngine engine;
    std::string_view sql;  // several statements, separated by ';'
};

}  // namespace nebula::store
