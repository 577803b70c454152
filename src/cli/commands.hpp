#pragma once
// Private to cli: what the subcommands share.

#include <boost/json/object.hpp>
#include <string>
#include <vector>

#include "app/app.hpp"

namespace nebula::cli {

struct Common {
    std::string config;
    bool json = false;
};

/// Settings without problems, or a message on standard error and nothing.
std::optional<app::AppSettings> settings_of(const Common& common);

/// A column of a listing: JSON member and heading.
struct Column {
    const char* member;
    const char* heading;
};

/// Calls an operation and prints its answer: as JSON, or as "member: value" lines, or as a table of `data`.
int run_operation(const Common& common, const std::string& operation, boost::json::object arguments,
                  const std::vector<Column>& columns);

struct ChatOptions {
    std::string model;
    std::string key;
    std::string url;
    std::string system;
    std::string prompt;  // empty: interactive
    std::int64_t max_tokens = 0;
};
int run_chat(const Common& common, ChatOptions options);
int run_import(const Common& common, const app::ImportOptions& options);

int print_error(const Error& error);

}  // namespace nebula::cli
